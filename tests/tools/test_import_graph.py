"""Import of a small real graph from end to end, and all refusals of bad input."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from bridge_jax import cli
from bridge_jax.data.dataset import read_nodes
from bridge_jax.data.graph import load_graph
from bridge_jax.data.manifest import read_manifest
from bridge_jax.errors import InputError
from tests.helpers.tiny_run import DEMO, EXCERPT
from tools import import_graph
from tools.formats import FORMATS
from tools.import_graph import main

pytestmark = pytest.mark.usefixtures("no_fsync")

EDGES = FORMATS["primekg"](EXCERPT)
STEMS = {
    "gene/protein": "protein",
    "biological_process": "biological",
    "cellular_component": "cellular_component",
    "molecular_function": "molecular",
    "disease": "disease",
}


def write_embeddings(folder: Path, stems: dict[str, str] = STEMS) -> Path:
    """Writes random vectors under the file names that BioBridge uses."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    for node_type, stem in stems.items():
        ids = [n.id for n in EDGES.nodes if n.type == node_type]
        x = rng.normal(size=(len(ids), 6)).astype(np.float16)
        np.savez(folder / f"{stem}.npz", ids=np.array(ids), x=x)
    return folder


@pytest.fixture
def argv(tmp_path: Path) -> list[str]:
    """Arguments that import the excerpt into `tmp_path / "out"`."""
    embeddings = write_embeddings(tmp_path / "embeddings")
    return ["--format", "primekg", "--input", str(EXCERPT), "--embeddings", str(embeddings),
            "--output", str(tmp_path / "out")]  # fmt: skip


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def exit_code(argv: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    """Runs the command as `python -m` does and returns its exit code."""
    monkeypatch.setattr(sys, "argv", ["import_graph", *argv])
    with pytest.raises(SystemExit) as stop:
        cli.run(main)
    return int(stop.value.code or 0)


def test_the_real_excerpt_is_imported_unchanged(
    argv: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(argv) == 0
    output = capsys.readouterr().out
    assert "split inductive, seed 0: clean" in output
    manifest = read_manifest(tmp_path / "out")
    assert manifest.counts == {
        "rows": 958, "facts": 479, "mirrored": 479, "duplicates": 0, "rejects": 0
    }  # fmt: skip
    assert [t.name for t in manifest.node_types] == sorted(STEMS)
    assert manifest.relations == ("associated with", "interacts with", "parent-child", "ppi")
    assert manifest.name == "out"
    graph = load_graph(tmp_path / "out", manifest)
    assert sum(len(f) for f in graph.facts.values()) == 479
    ids, x = read_nodes(tmp_path / "out", manifest.table("gene/protein"))
    with np.load(tmp_path / "embeddings/protein.npz") as arrays:
        assert ids == arrays["ids"].tolist()
        np.testing.assert_array_equal(x, arrays["x"])
    names = (tmp_path / "out/nodes/gene_protein.tsv").read_text().splitlines()
    assert names[:2] == ["id\tname", "O14746\tTERT"]

    first = int(graph.offsets[graph.type_id("gene/protein")])
    facts = {
        frozenset((ids[h - first], ids[t - first]))
        for f in graph.facts.values()
        for h, r, t in zip(f.head.tolist(), f.relation.tolist(), f.tail.tolist(), strict=True)
        if manifest.relations[r] == "ppi"
    }
    ppi = EDGES.relations.index("ppi")
    stored = {
        frozenset((EDGES.nodes[h].id, EDGES.nodes[t].id))
        for h, r, t in zip(EDGES.head, EDGES.relation, EDGES.tail, strict=True)
        if r == ppi
    }
    assert facts == stored


@pytest.mark.parametrize(
    ("split", "clean"),
    [
        (["transductive"], True),
        (["inductive"], True),
        (["biobridge"], False),
        (["relation", "--hold-out", "disease,associated with,gene/protein"], True),
        (["modality", "--hold-out", "disease"], True),
    ],
)
def test_every_split_is_written_and_reported(
    argv: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    split: list[str],
    clean: bool,
) -> None:
    assert main([*argv, "--split", *split]) == 0
    output = capsys.readouterr().out
    assert ("LEAKY" in output) is not clean
    manifest = read_manifest(tmp_path / "out")
    assert manifest.split["clean"] is clean
    assert manifest.split.get("hold_out", []) == split[2:]
    assert manifest.split["leaks"]["test"]["rows"] > 0
    graph = load_graph(tmp_path / "out", manifest)
    assert graph.directed is (split[0] == "biobridge")
    assert all(len(f) for f in graph.facts.values())


def test_the_same_import_gives_the_same_bytes(argv: list[str], tmp_path: Path) -> None:
    main([*argv, "--name", "same"])
    main([*argv, "--name", "same", "--output", str(tmp_path / "again")])
    assert files(tmp_path / "out") == files(tmp_path / "again")


def test_overwriting_removes_what_the_old_dataset_listed(argv: list[str], tmp_path: Path) -> None:
    main(argv)
    (tmp_path / "out/mine.txt").write_text("kept")
    assert (tmp_path / "out/heldout").is_dir()
    main([*argv, "--overwrite", "--split", "transductive"])
    remaining = set(files(tmp_path / "out"))
    assert not any(f.startswith("heldout/") for f in remaining)
    assert "mine.txt" in remaining
    assert read_manifest(tmp_path / "out").files() <= remaining


def test_a_dataset_can_be_split_anew_from_its_own_embeddings(
    argv: list[str], tmp_path: Path
) -> None:
    main(argv)
    old = read_manifest(tmp_path / "out")
    at = argv.index("--embeddings")
    main([*argv[:at], *argv[at + 2 :], "--overwrite", "--seed", "1"])
    new = read_manifest(tmp_path / "out")
    assert [t.shards for t in new.node_types] == [t.shards for t in old.node_types]
    assert new.heldout != old.heldout


def test_group_columns_hold_out_clusters_together(argv: list[str], tmp_path: Path) -> None:
    features = tmp_path / "features"
    features.mkdir()
    proteins = [n for n in EDGES.nodes if n.type == "gene/protein"]
    rows = [f"{n.id},{n.node_index},MKV,c{i // 3}" for i, n in enumerate(proteins)]
    header = "node_id,node_index,sequence,cluster"
    (features / "protein.csv").write_text("\n".join([header, *rows]) + "\n")
    (features / "disease.csv").write_text("node_index,mondo_name\n")
    grouped = [*argv, "--features", str(features), "--group-column"]
    with pytest.raises(InputError, match=r"group column 'clusters' .*mean 'cluster'"):
        main([*grouped, "clusters"])
    main([*grouped, "cluster", "--test-fraction", "0.2", "--validation-fraction", "0.1"])
    manifest = read_manifest(tmp_path / "out")
    assert manifest.split["group_column"] == "cluster"
    graph = load_graph(tmp_path / "out", manifest)
    ids = read_nodes(tmp_path / "out", manifest.table("gene/protein"))[0]
    group = {r.split(",")[0]: r.split(",")[3] for r in rows}
    test = {group[ids[i]] for i in np.flatnonzero(graph.heldout_mask("gene/protein", ["test"]))}
    train = {group[ids[i]] for i in graph.train_nodes("gene/protein")}
    assert len(test) in (2, 3)  # clusters of 3, one of 1, and at most 7 test nodes
    assert not test & train


def test_rows_of_a_node_without_an_embedding_are_rejects(argv: list[str], tmp_path: Path) -> None:
    path = tmp_path / "embeddings/protein.npz"
    with np.load(path) as arrays:
        ids, x = arrays["ids"], arrays["x"]
    np.savez(path, ids=ids[2:], x=x[2:])
    (tmp_path / "embeddings/cellular_component.npz").unlink()
    (tmp_path / "embeddings/molecular.npz").unlink()
    main(argv)
    counts = read_manifest(tmp_path / "out").counts
    ends = list(zip(EDGES.head.tolist(), EDGES.tail.tolist(), strict=True))
    without_vector = {i for i, n in enumerate(EDGES.nodes) if n.id in ids[:2].tolist()}
    without_type = {
        i for i, n in enumerate(EDGES.nodes)
        if n.type in ("cellular_component", "molecular_function")
    }  # fmt: skip
    missing = without_vector | without_type
    assert counts["rejects"] == sum(bool({h, t} & missing) for h, t in ends)
    assert counts["rows"] == counts["facts"] + counts["mirrored"] + counts["rejects"]
    lines = [r.split("\t") for r in (tmp_path / "out/rejects.tsv").read_text().splitlines()[1:]]
    assert sum(int(r[2]) for r in lines) == counts["rejects"]
    assert sorted(r[4] for r in lines) == [
        "every cellular_component",
        "every molecular_function",
        *sorted(f"gene/protein::{i}" for i in ids[:2]),
    ]
    first = next(
        i for i, (h, t) in enumerate(ends)
        if EDGES.nodes[t].type == "cellular_component" and h not in without_vector
    )  # fmt: skip
    assert {r[4]: int(r[1]) for r in lines}["every cellular_component"] == first + 2


def test_ids_may_be_typed(argv: list[str], tmp_path: Path) -> None:
    main(argv)
    plain = files(tmp_path / "out")
    path = tmp_path / "embeddings/protein.npz"
    with np.load(path) as arrays:
        ids, x = arrays["ids"], arrays["x"]
    np.savez(path, ids=np.array([f"gene/protein::{i}".encode() for i in ids]), x=x)
    main([*argv, "--overwrite"])
    assert files(tmp_path / "out") == plain


Arrays = dict[str, np.ndarray]


def proteins(change: Callable[[Arrays], object]) -> Callable[[Path], None]:
    """Returns a function that changes the arrays `ids` and `x` of the protein embeddings."""

    def apply(root: Path) -> None:
        path = root / "embeddings/protein.npz"
        with np.load(path) as stored:
            arrays = {name: stored[name].copy() for name in stored}
        change(arrays)
        np.savez(path, **arrays)

    return apply


def copy_embeddings(source: str, target: str) -> Callable[[Path], object]:
    return lambda root: shutil.copy(root / "embeddings" / source, root / "embeddings" / target)


def keep_only(root: Path, source: str, target: str) -> None:
    """Renames one file of embeddings and deletes the others."""
    (root / "embeddings").rename(root / "all")
    (root / "embeddings").mkdir()
    shutil.copy(root / "all" / source, root / "embeddings" / target)


def set_nan(arrays: Arrays) -> None:
    arrays["x"][3, 1] = np.nan


def set_zero(arrays: Arrays) -> None:
    arrays["x"][3] = 0


def repeat_id(arrays: Arrays) -> None:
    arrays["ids"][3] = arrays["ids"][4]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--input", "none.csv"], r"none\.csv: no such file"),
        (["--embeddings", "none"], "none: no such folder of embeddings"),
        (["--features", "none"], "none: no such folder of feature tables"),
        (["--sources", "none.json"], r"none\.json: No such file"),
        (["--sources", "sources.json"], "must be a JSON list"),
        (["--sources", "broken.json"], "cannot be read"),
        (["--hold-out", "disease"], "takes no hold_out"),
        (["--split", "relation"], "name with hold_out"),
        (["--split", "relation", "--hold-out", "drug,target,disease"], "node type 'drug' is not"),
        (["--split", "modality", "--hold-out", "protein"], r"mean 'gene/protein'\?"),
        (["--test-fraction", "1.5"], r"test 1\.5 and validation 0\.05"),
        (["--group-column", "cluster"], "group column 'cluster' is not in --features"),
        (proteins(set_nan), r"protein\.npz: row 3, id '.*': a NaN or infinite value"),
        (proteins(set_zero), r"protein\.npz: row 3, id '.*': an all-zero vector"),
        (proteins(repeat_id), r"protein\.npz: id '.*' occurs twice, in rows 3 and 4"),
        (proteins(lambda a: a.update(x=a["x"][:-1])), "34 ids but embeddings of shape"),
        (proteins(lambda a: a.update(x=a["x"][:, 0])), r"embeddings x of shape \(34,\)"),
        (
            proteins(lambda a: a.update(x=a["x"].astype(int))),
            "x does not hold floats",
        ),
        (
            proteins(lambda a: a.update(ids=np.char.add("Z", a["ids"]))),
            r"protein\.npz: none of the 34 ids is a gene/protein of the graph, e\.g\. 'Z",
        ),
        (
            proteins(lambda a: a.update(ids=np.arange(len(a["ids"])) / 2)),
            "ids must be text or whole numbers",
        ),
        (lambda p: (p / "embeddings/protein.npz").write_bytes(b"PK\3\4 cut"), "cannot be read"),
        (
            lambda p: keep_only(p, "disease.npz", "anatomy.npz"),
            "embeddings 'anatomy' fit no node type of the graph; it has: biological_process, ",
        ),
        (copy_embeddings("protein.npz", "gene_protein.npz"), "has embeddings already"),
    ],
)
def test_bad_input_exits_2_with_one_line_and_overwrites_nothing(
    argv: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    change: list[str] | Callable[[Path], object],
    message: str,
) -> None:
    assert main(argv) == 0
    before = files(tmp_path / "out")
    (tmp_path / "sources.json").write_text("{}")
    (tmp_path / "broken.json").write_text("[")
    if callable(change):
        change(tmp_path)
        change = []
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()
    assert exit_code([*argv, "--overwrite", *change], monkeypatch) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("error: ")
    assert printed.err.count("\n") == 1
    assert "Traceback" not in printed.err
    assert re.search(message, printed.err), printed.err
    assert files(tmp_path / "out") == before


def test_a_dataset_is_replaced_only_with_overwrite(argv: list[str], tmp_path: Path) -> None:
    main(argv)
    before = files(tmp_path / "out")
    with pytest.raises(InputError, match="pass --overwrite"):
        main([*argv, "--seed", "1"])
    assert files(tmp_path / "out") == before


def test_the_command_line_exits_2_without_a_traceback(argv: list[str], tmp_path: Path) -> None:
    root = Path(import_graph.__file__).parents[1]
    command = [sys.executable, "-m", "tools.import_graph", *argv, "--input", "none.csv"]
    run = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout) == (2, "")
    assert run.stderr == "error: none.csv: no such file\n"
    assert not (tmp_path / "out").exists()


def test_strict_refuses_a_notice(argv: list[str], tmp_path: Path) -> None:
    source = tmp_path / "kg.csv"
    lines = EXCERPT.read_text().splitlines()
    source.write_text("\n".join([lines[0] + ",score", *(row + ",1" for row in lines[1:])]))
    with pytest.raises(InputError, match=r"--strict: 1 × unknown column \(first: kg.csv row 1\)"):
        main([*argv, "--input", str(source), "--strict"])
    assert main([*argv, "--input", str(source)]) == 0
    counts = json.loads((tmp_path / "out/manifest.json").read_text())["counts"]
    assert counts["notices: unknown column"] == 1
    assert counts["rejects"] == 0
    assert main([*argv, "--overwrite", "--strict"]) == 0


def test_a_loop_at_a_node_without_an_embedding_is_one_reject(
    argv: list[str], tmp_path: Path
) -> None:
    source = tmp_path / "kg.csv"
    loop = "protein_protein,ppi,99999,P0,gene/protein,X,UniProt,99999,P0,gene/protein,X,UniProt"
    source.write_text(EXCERPT.read_text() + loop + "\n")
    main([*argv, "--input", str(source)])
    counts = json.loads((tmp_path / "out/manifest.json").read_text())["counts"]
    assert (counts["rows"], counts["rejects"], counts["rejects: self-loop"]) == (959, 1, 1)


def test_no_usable_fact_gives_the_reasons(argv: list[str], tmp_path: Path) -> None:
    stems = {"cellular_component": STEMS["cellular_component"]}
    embeddings = write_embeddings(tmp_path / "few", stems)
    source = tmp_path / "kg.csv"
    lines = EXCERPT.read_text().splitlines()
    source.write_text("\n".join([lines[0], *(row for row in lines[1:] if "gene/protein" in row)]))
    with pytest.raises(InputError, match=r"in 938 rows: 613 of 938 rows: no embeddings of"):
        main([*argv, "--input", str(source), "--embeddings", str(embeddings)])
    assert not (tmp_path / "out").exists()


def test_a_subset_keeps_the_metadata_of_its_embeddings(tiny: Path) -> None:
    for table in read_manifest(tiny).node_types:
        original = read_manifest(DEMO).table(table.name)
        assert 0 < table.count < original.count
        assert table.encoder not in ("", "unknown")
        for field in ("encoder", "pooling", "source", "licence"):
            assert getattr(table, field) == getattr(original, field)
