"""Imports of small inputs that once went wrong: `tests/fixtures/cases`."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from bridge_jax.data.dataset import read_nodes
from bridge_jax.data.graph import load_graph
from bridge_jax.data.manifest import read_manifest
from bridge_jax.errors import InputError
from tools.import_graph import main

pytestmark = pytest.mark.usefixtures("no_fsync")

CASES = Path(__file__).parents[1] / "fixtures/cases"


def run(case: str, output: Path, *options: str, file: str = "g.tsv", form: str = "tsv") -> Path:
    """Imports a case into a folder and returns the folder."""
    folder = CASES / case
    main(["--format", form, "--input", str(folder / file), "--embeddings", str(folder / "emb"),
          "--output", str(output), *options])  # fmt: skip
    return output


def untyped(folder: Path, encoding: str, change) -> Path:
    """Writes the untyped triples after a change of each line's fields."""
    lines = (CASES / "untyped-triples/g.tsv").read_text().splitlines()
    text = "".join("\t".join(change(i, *line.split("\t"))) + "\n" for i, line in enumerate(lines))
    path = folder / "g.tsv"
    path.write_bytes(text.encode(encoding))
    return path


@pytest.mark.parametrize(
    ("encoding", "change"),
    [
        ("utf-8", lambda i, h, r, t: (h, r, t)),
        ("utf-16", lambda i, h, r, t: (h, r, t)),
        ("utf-8", lambda i, h, r, t: (h, t, r)),
        ("utf-8", lambda i, h, r, t: (str(i - 1) if i else "", h, r, t)),
        ("utf-8", lambda i, h, r, t: (h, r, t, "")),
    ],
)
def test_untyped_triples_say_why(tmp_path: Path, encoding: str, change) -> None:
    path = untyped(tmp_path, encoding, change)
    with pytest.raises(InputError) as error:
        run("untyped-triples", tmp_path / "out", file=str(path))
    assert "60 of 60 rows: head without a type (first: g.tsv row 2)" in str(error.value)
    assert "write ids as type::id" in str(error.value)


def test_untyped_kgx_says_why_and_can_be_read_with_a_table_of_nodes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(InputError, match=r"60 of 60 rows: head without a type .* --format kgx"):
        run("untyped-triples", tmp_path / "out", file="kgx_edges.tsv")
    shutil.copy(CASES / "untyped-triples/kgx_edges.tsv", tmp_path)
    with pytest.raises(InputError, match=r"expected kgx_nodes\.tsv"):
        run("untyped-triples", tmp_path / "out", file=str(tmp_path / "kgx_edges.tsv"), form="kgx")
    rows = [f"P{i:05d}\tbiolink:Protein|biolink:NamedThing\tn{i}" for i in range(20)]
    rows += [f"D{i}\tbiolink:Disease\td{i}" for i in range(20)]
    (tmp_path / "kgx_nodes.tsv").write_text("\n".join(["id\tcategory\tname", *rows]) + "\n")
    output = run("untyped-triples", tmp_path / "out", file=str(tmp_path), form="kgx")
    manifest = read_manifest(output)
    assert manifest.counts["facts"] == manifest.counts["rows"] == 60
    assert [t.name for t in manifest.node_types] == ["Disease", "Protein"]
    assert manifest.relations == ("associated_with",)
    assert "protein.npz: 20 of 20 ids are Protein nodes" in capsys.readouterr().out


def test_node_indices_are_not_taken_for_ids(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def run_case(*options: str) -> dict[str, float]:
        output = run("node-index-ids", tmp_path / "out", "--overwrite", *options,
                     file="kg.csv", form="primekg")  # fmt: skip
        ids, x = read_nodes(output, read_manifest(output).table("gene/protein"))
        return dict(zip(ids, x[:, 0].tolist(), strict=True))

    message = r"protein\.npz: 11 of 20 ids are gene/protein nodes .* e\.g\. '0'; .* e\.g\. '8'"
    with pytest.raises(InputError, match=message + ".*--node-index-ids protein"):
        run_case()
    x = run_case("--node-index-ids", "protein")
    assert (x["8"], x["27"]) == (100, 119)
    assert len(x) == 18  # two of the twenty indices have no row
    assert read_manifest(tmp_path / "out").counts["vectors without a node: protein.npz"] == 2
    run_case("--allow-unmatched")
    assert "11 of 20 ids are gene/protein nodes" in capsys.readouterr().out
    counts = read_manifest(tmp_path / "out").counts
    assert counts["nodes only in embeddings: protein.npz"] == 9
    with pytest.raises(InputError, match=r"--node-index-ids gene: no such file .* protein"):
        run_case("--node-index-ids", "gene")


def test_a_missing_group_is_no_group_and_a_large_group_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    features = tmp_path / "feat"
    shutil.copytree(CASES / "na-group/feat", features)
    options = ("--features", str(features), "--group-column", "cluster", "--overwrite")
    output = run("na-group", tmp_path / "out", *options)
    graph = load_graph(output, read_manifest(output))
    assert graph.heldout_mask("protein", ["validation"]).sum() == 1
    assert graph.heldout_mask("protein", ["test"]).sum() == 2
    assert "notice" not in capsys.readouterr().out
    text = (features / "protein.csv").read_text()
    (features / "protein.csv").write_text(text.replace(",NA", ",c9"))
    run("na-group", output, *options)
    printed = capsys.readouterr().out
    assert "18 of 20 protein are one cluster 'c9'" in printed
    assert "the most that can be held out: test 2, validation 1" in printed
    assert read_manifest(output).counts["notices: a group too large to be held out"] == 1


def test_dataverse_tables_are_read_and_other_files_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    features = tmp_path / "feat"
    shutil.copytree(CASES / "tab-features/feat", features)
    (features / "pathway.csv").write_text("id,name\nR1,x\n")
    (features / "protein.docx").write_bytes(b"PK")
    output = run("tab-features", tmp_path / "out", "--features", str(features))
    names = (output / "nodes/protein.tsv").read_text().splitlines()
    assert names[1] == "P00000\tname of P00000"
    printed = capsys.readouterr().out
    assert "protein.tab: 20 of 20 ids are protein nodes of the graph" in printed
    assert "notice: pathway.csv fits no node type: not read" in printed
    assert "notice: protein.docx is not read" in printed
    with pytest.raises(InputError, match="1 × is not read"):
        run("tab-features", output, "--features", str(features), "--overwrite", "--strict")


def test_a_directed_relation_keeps_both_directions(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = run("directed-pair", tmp_path / "out", "--split", "transductive")
    assert read_manifest(output).counts["facts"] == 62
    assert "inhibits: 1 of 2 facts are stored in both directions" in capsys.readouterr().out
    options = ("--overwrite", "--split", "transductive", "--directed", "inhibits")
    run("directed-pair", output, *options)
    assert "both directions" not in capsys.readouterr().out
    manifest = read_manifest(output)
    assert (manifest.counts["facts"], manifest.counts["mirrored"]) == (63, 0)
    graph = load_graph(output, manifest)
    inhibits = graph.triple_type("protein", "inhibits", "protein")
    pairs = graph.pairs()[inhibits]
    assert sorted(zip(pairs.heads.tolist(), pairs.tails.tolist(), strict=True)) == [
        (0, 1), (1, 0), (2, 3)
    ]  # fmt: skip
    with pytest.raises(InputError, match="relation 'inhibit' is not in this graph"):
        run("directed-pair", output, "--overwrite", "--directed", "inhibit")
    with pytest.raises(InputError, match="joins no two nodes of one type"):
        run("directed-pair", output, "--overwrite", "--directed", "associated with")


def test_an_embedding_file_of_another_graph_is_a_notice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = run("extra-embedding-file", tmp_path / "out")
    assert "notice: pathway.npz fits no node type" in capsys.readouterr().out
    assert [t.name for t in read_manifest(output).node_types] == ["disease", "protein"]
    shutil.copytree(CASES / "extra-embedding-file/emb", tmp_path / "emb")
    for name in ("protein", "disease"):
        (tmp_path / f"emb/{name}.npz").unlink()
    with pytest.raises(InputError, match="'pathway' fit no node type of the graph"):
        run("extra-embedding-file", output, "--overwrite", "--embeddings", str(tmp_path / "emb"))


def test_nodes_tab_is_read(tmp_path: Path) -> None:
    embeddings = tmp_path / "emb"
    embeddings.mkdir()
    np.savez(embeddings / "disease.npz", ids=["8019"], x=np.ones((1, 4), np.float32))
    with pytest.raises(InputError, match=r"none of the 20 ids .* e\.g\. '8019'"):
        run("nodes-tab", tmp_path / "out", file=".", form="primekg")
    options = ("--embeddings", str(embeddings))
    with pytest.raises(InputError, match="1 of 1 rows: no embeddings of type gene/protein"):
        run("nodes-tab", tmp_path / "out", *options, file=".", form="primekg")
    np.savez(embeddings / "protein.npz", ids=[9796.0], x=np.ones((1, 4), np.float32))
    with pytest.raises(InputError, match=r"leaves no (train|test) fact of 1"):  # of the one fact
        run("nodes-tab", tmp_path / "out", *options, file="edges.csv", form="primekg")


def test_a_cut_file_is_said_to_be_cut(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match=r"kg\.csv row 72: the file seems cut: download it again"):
        run("cut-csv", tmp_path / "out", file="kg.csv", form="primekg")
    run("cut-csv", tmp_path / "out", "--allow-unmatched", file="kg.csv", form="primekg")
    assert "notice: kg.csv row 72: the file seems cut" in capsys.readouterr().out


def test_names_with_line_breaks_cost_no_fact(tmp_path: Path) -> None:
    output = run("multiline-name", tmp_path / "out", file="kg.csv", form="primekg")
    assert read_manifest(output).counts["facts"] == 70


def test_features_with_a_byte_order_mark_are_read(tmp_path: Path) -> None:
    features = CASES / "bom-features-import/feat"
    output = run("bom-features-import", tmp_path / "out", "--features", str(features))
    assert (output / "nodes/protein.tsv").read_text().splitlines()[1] == "P00000\tn0"
    text = (features / "protein.csv").read_text("utf-8-sig").replace(",", ";")
    (tmp_path / "feat").mkdir()
    (tmp_path / "feat/protein.csv").write_text(text.replace("id;", "accession;"))
    options = ("--overwrite", "--features", str(tmp_path / "feat"))
    with pytest.raises(InputError, match="accession, name, cluster; name it with --id-column"):
        run("bom-features-import", output, *options)
    run("bom-features-import", output, *options, "--id-column", "accession", "--delimiter", ";")
    assert (output / "nodes/protein.tsv").read_text().splitlines()[1] == "P00000\tn0"


def test_a_relation_without_a_training_fact_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (CASES / "directed-pair/g.tsv").read_text()
    graph = tmp_path / "g.tsv"
    options = ("--embeddings", str(CASES / "directed-pair/emb"))
    output = run("directed-pair", tmp_path / "out", *options)
    ids = read_nodes(output, read_manifest(output).table("protein"))[0]
    stored = load_graph(output, read_manifest(output))
    unseen = ids[int(np.flatnonzero(stored.heldout_mask("protein", ["test"]))[0])]
    graph.write_text(text + f"protein::{unseen}\tcauses\tdisease::D1\n")
    capsys.readouterr()
    run("directed-pair", output, *options, "--overwrite", file=str(graph))
    printed = capsys.readouterr().out
    assert "notice: a relation without a training fact: disease → causes → protein: train 0, " in (
        printed
    )
    assert "associated with → " not in printed.split("notice", 1)[1]
    held_out = ("--split", "relation", "--hold-out", "protein,causes,disease")
    run("directed-pair", output, *options, "--overwrite", *held_out, file=str(graph))
    assert "without a training fact" not in capsys.readouterr().out


def test_features_of_other_nodes_are_refused_unless_allowed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    features = tmp_path / "feat"
    features.mkdir()
    rows = [f"P{i:05d},n{i}" for i in range(4)] + [f"X{i},x" for i in range(5)] + ["P00004,a,b"]
    (features / "protein.csv").write_text("\n".join(["id,name", *rows]) + "\n")
    options = ("--features", str(features), "--overwrite")
    with pytest.raises(InputError, match=r"protein\.csv: 4 of 9 ids .*--allow-unmatched"):
        run("tab-features", tmp_path / "out", *options)
    run("tab-features", tmp_path / "out", *options, "--allow-unmatched")
    assert "protein.csv: 4 of 9 ids are protein nodes" in (printed := capsys.readouterr().out)
    assert "1 further rows cannot be used, see rejects.tsv" in printed
    assert "3 fields where there should be 2" in (tmp_path / "out/rejects.tsv").read_text()
