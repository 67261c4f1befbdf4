"""Encoder specifications on their way from an export to a dataset, a subset and a projection."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import bridge_jax
from bridge_jax import project, retrieve
from bridge_jax.data.dataset import read_nodes
from bridge_jax.data.embedding_files import read_sidecar
from bridge_jax.data.encoder_spec import EncoderSpec, notice_once
from bridge_jax.data.manifest import read_manifest
from bridge_jax.encoders import ENCODERS
from bridge_jax.encoders.base import Family
from bridge_jax.errors import InputError
from tests.helpers.commands import refused
from tests.helpers.encoders import LetterCounter
from tests.helpers.excerpt import import_excerpt
from tests.helpers.projection import SOURCE, TARGET, command
from tests.helpers.tiny_run import DEMO
from tools import export_embeddings, import_graph

pytestmark = pytest.mark.usefixtures("no_fsync")

OTHERS = [f"Escherichia {i}" for i in range(30)]
ROWS = "\n".join(
    [
        "node_id,node_name,description",
        "9606,human,",
        *(f"{i},{n},A sort." for i, n in enumerate(OTHERS)),
    ]
)
IDS = ["9606", *map(str, range(len(OTHERS)))]
EDGES = "".join(
    f"organism::{a}\teats\torganism::{IDS[(i + k) % len(IDS)]}\n"
    for i, a in enumerate(IDS)
    for k in (1, 2, 3)
)


@pytest.fixture(autouse=True)
def letters(monkeypatch):
    family = Family("letters", LetterCounter, "text", "letters", 1000, 64, takes_checkpoint=False)
    monkeypatch.setitem(ENCODERS, "letters", family)
    notice_once.cache_clear()


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "organism.csv"
    path.write_text(ROWS)
    return path


def export(table: Path, output: Path, *options: object) -> EncoderSpec:
    """Exports the embeddings of a table, and returns the specification in the sidecar."""
    arguments = ["--type", "organism", "--input", table, "--output", output, *options]
    export_embeddings.main([str(a) for a in arguments])
    spec = read_sidecar(output / "nodes/organism.json")[0].encoder_spec
    assert spec is not None
    return spec


def import_organisms(embeddings: Path, output: Path, *options: str) -> Path:
    edges = output.parent / "edges.tsv"
    edges.write_text(EDGES)
    arguments = ["--format", "tsv", "--input", edges, "--embeddings", embeddings]
    arguments += ["--output", output, "--split", "transductive", *options]
    import_graph.main([str(a) for a in arguments])
    return output


def test_an_export_is_specified_and_repeated_like_its_dataset(table, tmp_path):
    first = tmp_path / "first"
    spec = export(table, first, "--encoder", "letters", "--max-length", 9, "--normalise",
                  "--long", "windows", "--dtype", "float16")  # fmt: skip
    assert spec == EncoderSpec(
        "letters", "0123456789abcdef", "mean", 9, "letters", "windows", "name. definition", "l2",
        "float16",
    )  # fmt: skip
    x = read_nodes(first, read_sidecar(first / "nodes/organism.json")[0])[1]
    assert np.linalg.norm(x.astype(float), axis=1) == pytest.approx(1, abs=1e-3)
    dataset = import_organisms(first, tmp_path / "dataset")
    assert read_manifest(dataset).table("organism").encoder_spec == spec
    again = tmp_path / "again"
    assert export(table, again, "--like", dataset) == spec
    for path in first.glob("nodes/*.tfrecord"):
        assert (again / "nodes" / path.name).read_bytes() == path.read_bytes()
    with pytest.raises(InputError, match=r"other text.*name --encoder"):
        export(table, tmp_path / "other", "--like", dataset, "--text-columns", "node_name")


def test_without_normalisation_the_vectors_are_the_encoder_s(table, tmp_path):
    assert export(table, tmp_path / "x", "--encoder", "letters").normalisation == "none"
    ids, x = read_nodes(tmp_path / "x", read_sidecar(tmp_path / "x/nodes/organism.json")[0])
    assert x[ids.index("9606")].tolist() == [5, 2, 0.5]


def test_other_weights_are_no_export_like_the_dataset(table, tmp_path, monkeypatch):
    export(table, tmp_path / "x", "--encoder", "letters")
    dataset = import_organisms(tmp_path / "x", tmp_path / "dataset")
    monkeypatch.setenv("LETTERS_DIGEST", "fedcba9876543210")
    with pytest.raises(InputError, match=r"trained on letters@0123.* given letters@fedc"):
        export(table, tmp_path / "y", "--like", dataset)
    (tmp_path / "z").mkdir()
    excerpt = import_excerpt(tmp_path / "z")
    with pytest.raises(InputError, match="does not record the encoder of disease"):
        export_embeddings.main(["--type", "disease", "--input", str(table), "--like", str(excerpt),
                                "--output", str(tmp_path / "w")])  # fmt: skip


def test_a_dataset_keeps_its_encoder_unless_another_is_allowed(table, tmp_path, capsys):
    export(table, tmp_path / "x", "--encoder", "letters")
    export(table, tmp_path / "y", "--encoder", "letters", "--max-length", 4)
    dataset = import_organisms(tmp_path / "x", tmp_path / "dataset")
    import_organisms(tmp_path / "x", dataset, "--overwrite")
    before = (dataset / "manifest.json").read_bytes()
    with pytest.raises(InputError, match=r"dataset: organism: trained on .*other max_length"):
        import_organisms(tmp_path / "y", dataset, "--overwrite")
    assert (dataset / "manifest.json").read_bytes() == before
    import_organisms(tmp_path / "y", dataset, "--overwrite", "--allow-other-encoder")
    spec = read_manifest(dataset).table("organism").encoder_spec
    assert spec is not None
    assert spec.max_length == 4
    assert "notice: " in capsys.readouterr().err


def test_a_file_of_embeddings_may_have_a_specification_beside_it(table, tmp_path):
    folder = tmp_path / "x"
    folder.mkdir()
    np.savez(folder / "organism.npz", ids=IDS, x=np.eye(len(IDS), dtype=np.float32))
    (folder / "organism.json").write_text('{"encoder_spec": {"encoder": "letters"}}')
    dataset = import_organisms(folder, tmp_path / "dataset")
    stored = read_manifest(dataset).table("organism")
    assert stored.encoder_spec == EncoderSpec("letters")
    assert stored.encoder == "letters"
    assert not [k for k in read_manifest(dataset).counts if "not read" in k]


def test_a_subset_and_a_pretrained_bridge_keep_the_specification(tiny, trained, tmp_path):
    demo = read_manifest(DEMO)
    for table in read_manifest(tiny).node_types:
        assert table.encoder_spec == demo.table(table.name).encoder_spec
    pytest.importorskip("safetensors")
    from tools import export_model

    export_model.main(["--workdir", str(trained), "--output", str(tmp_path / "bridge")])
    bridge = bridge_jax.load(tmp_path / "bridge")
    assert bridge.encoder_specs == bridge_jax.load(trained).encoder_specs
    assert bridge.encoder_specs[SOURCE] == demo.table(SOURCE).encoder_spec


@pytest.fixture
def vectors(tiny, tmp_path) -> Path:
    """Some proteins as a file without a specification."""
    ids, x = read_nodes(tiny, read_manifest(tiny).table(SOURCE))
    (tmp_path / "in").mkdir()
    np.savez(tmp_path / "in/protein.npz", ids=np.array(ids[:5]), x=x[:5])
    return tmp_path / "in/protein.npz"


def specify(vectors: Path, tiny: Path, **changes: object) -> None:
    """Writes the dataset's specification, with some changes, beside a file."""
    spec = read_manifest(tiny).table(SOURCE).encoder_spec
    assert spec is not None
    value = {"encoder_spec": replace(spec, **changes).to_json()}
    vectors.with_suffix(".json").write_text(json.dumps(value))


def test_vectors_of_another_encoder_are_not_projected(
    tiny, trained, vectors, tmp_path, capsys, monkeypatch
):
    run = command(trained, vectors, tmp_path / "out")
    specify(vectors, tiny, max_length=300)
    message = refused(project.main, run, capsys, monkeypatch)
    assert "trained on unirep:256@405f8346d38d, mean, first 448 residues" in message
    assert "given unirep:256@405f8346d38d, mean, first 300 residues" in message
    assert "--allow-other-encoder" in message
    assert project.main([*run, "--allow-other-encoder"]) == 0
    assert "(other max_length)" in capsys.readouterr().err
    specify(vectors, tiny, dtype="float32")
    assert project.main([*run, "--overwrite"]) == 0
    assert "notice" not in capsys.readouterr().err
    made = read_sidecar(tmp_path / "out/nodes/gene_protein.json")[0].encoder_spec
    assert made is not None
    assert made.projection.startswith(f"projection of {SOURCE} by bridge_jax@")
    assert made.max_length == 448


def test_vectors_of_an_unknown_encoder_are_projected_with_a_notice(
    trained, vectors, tmp_path, capsys
):
    for name in ("a", "b"):
        assert project.main(command(trained, vectors, tmp_path / name)) == 0
    assert capsys.readouterr().err.count("the encoder of these embeddings is not recorded") == 1


def test_queries_of_another_encoder_are_refused(
    tiny, trained, vectors, tmp_path, capsys, monkeypatch
):
    query = ["--workdir", str(trained), "--source", SOURCE, "--target", TARGET]
    query += ["--embedding", str(vectors), "--k", "1"]
    specify(vectors, tiny, normalisation="l2")
    assert "(other normalisation)" in refused(retrieve.main, query, capsys, monkeypatch)
    assert retrieve.main([*query, "--allow-other-encoder"]) == 0
    specify(vectors, tiny)
    capsys.readouterr()
    assert retrieve.main(query) == 0
    assert "notice" not in capsys.readouterr().err
    bridge = bridge_jax.load(trained)
    spec = bridge.encoder_specs[SOURCE]
    x = np.load(vectors)["x"]
    assert len(bridge.retrieve(SOURCE, target=TARGET, embedding=x, k=1, encoder_spec=spec)) == 5
    for ask in (bridge.project, lambda x, **k: bridge.retrieve(target=TARGET, embedding=x, **k)):
        with pytest.raises(InputError, match="leave out encoder_spec"):
            ask(x, source=SOURCE, encoder_spec=replace(spec, pooling="last"))
