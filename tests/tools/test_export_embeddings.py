"""The command `export_embeddings`: its output, its errors, and its behaviour when killed."""

import json
import multiprocessing
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from bridge_jax.data import tfrecord
from bridge_jax.data.files import DiskFullError
from bridge_jax.data.manifest import read_manifest
from bridge_jax.encoders import ENCODERS
from bridge_jax.encoders.base import Family
from bridge_jax.errors import InputError
from tests.helpers import checkpoints
from tests.helpers.encoders import LetterCounter
from tests.helpers.failing_disk import fail_once
from tests.helpers.held_lock import held
from tools import export_embeddings, import_graph
from tools.ingest.embeddings import read_folder

DISEASES = [
    ("20999", "HSD10 mitochondrial disease", "An X-linked multisystemic disorder."),
    ("21000", "Isovaleric acidemia", "An inborn error of leucine metabolism."),
    ("21001", "Cystic fibrosis", ""),
    ("21000", "Isovaleric acidemia, acute", "A grave form in the newborn."),
    ("21002", "", ""),
    ("21003", "Marfan syndrome", "A disorder of fibrillin in connective tissue."),
]


@pytest.fixture(autouse=True)
def letters(monkeypatch):
    """Registers the toy encoder; a list of all its loaded instances."""
    instances = []

    def load(settings):
        instances.append(LetterCounter(settings))
        return instances[-1]

    family = Family("letters", load, "text", "letters", 1000, 64, takes_checkpoint=False)
    monkeypatch.setitem(ENCODERS, "letters", family)
    return instances


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "disease.csv"
    lines = [f'{i},MIM:1,"{name}","{text}"' for i, name, text in DISEASES]
    path.write_text("\n".join(["node_index,mondo_id,mondo_name,definition", *lines]) + "\n")
    return path


def export(source, output, *options, encoder="letters"):
    arguments = ["--encoder", encoder, "--type", "disease", "--input", source, "--output", output]
    return export_embeddings.main([str(a) for a in (*arguments, *options)])


def files(folder):
    """The bytes of each file of an export, by path."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def sidecar(folder):
    return json.loads((folder / "nodes" / "disease.json").read_text())


def test_rows_of_one_id_are_averaged_and_failures_are_listed(source, tmp_path, capsys):
    assert export(source, tmp_path / "out") == 0
    table = read_folder(tmp_path / "out")["disease"]
    assert table.ids == ["20999", "21000", "21001", "21003"]
    assert table.id_column == "node_index"
    texts = [f"{n}. {d}" if d else n for _, n, d in DISEASES]
    assert table.x[0, 0] == len(texts[0])
    assert table.x[1, 0] == (len(texts[1]) + len(texts[3])) / 2
    assert table.x[2, 0] == len("Cystic fibrosis")
    written = sidecar(tmp_path / "out")
    assert written["failed"] == [{"id": "21002", "reason": "empty text"}]
    assert written["encoder"] == "letters@0123456789ab"
    assert written["pooling"] == "mean, first 1000 letters"
    assert written["count"] == 4
    assert "1 ids failed: empty text (21002)" in capsys.readouterr().out


def test_a_row_that_fails_beside_others_of_its_id_is_reported(source, tmp_path, capsys):
    source.write_text(source.read_text() + "20999,MIM:1,,\n,MIM:2,Fever,\n")
    export(source, tmp_path / "out")
    assert "1 rows left out of their id's mean: empty text (20999)" in capsys.readouterr().out
    assert {"id": "", "reason": "row 9: no node_index"} in sidecar(tmp_path / "out")["failed"]
    assert "20999" in read_folder(tmp_path / "out")["disease"].ids


def test_columns_can_be_named(source, tmp_path):
    export(source, tmp_path / "out", "--id-column", "mondo_name", "--text-columns", "definition")
    table = read_folder(tmp_path / "out")["disease"]
    assert table.id_column == "node_id"
    assert table.ids == [n for _, n, d in DISEASES if d]
    assert table.x[:, 0].tolist() == [len(d) for _, _, d in DISEASES if d]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_storage_types_round_once_and_refuse_what_they_cannot_hold(source, tmp_path, dtype):
    export(source, tmp_path / "full")
    export(source, tmp_path / "half", "--dtype", dtype)
    full, half = (read_folder(tmp_path / f)["disease"] for f in ("full", "half"))
    kept = [full.ids.index(i) for i in half.ids]
    np.testing.assert_array_equal(half.x, full.x[kept].astype(half.x.dtype))
    assert str(half.x.dtype) == dtype
    beyond = {"id": "21003", "reason": "beyond the range of float16"}
    assert (beyond in sidecar(tmp_path / "half")["failed"]) == (dtype == "float16")


def test_workers_share_an_export_and_the_last_completes_it(source, tmp_path, capsys):
    export(source, tmp_path / "alone", "--shard-records", 1)
    for i in (2, 0):
        export(source, tmp_path / "shared", "--shard-records", 1, "--shard", f"{i}/3")
        assert not (tmp_path / "shared" / "nodes" / "disease.json").exists()
    assert "2 of 5 shards are left" in capsys.readouterr().out
    export(source, tmp_path / "shared", "--shard-records", 1, "--shard", "1/3")
    assert files(tmp_path / "shared") == files(tmp_path / "alone")
    assert len(sidecar(tmp_path / "alone")["shards"]) == 4  # no shard for the id that failed
    assert "nodes/disease-00003-of-00005.tfrecord" not in files(tmp_path / "alone")


def test_a_finished_export_loads_no_model(source, tmp_path, letters, monkeypatch):
    export(source, tmp_path / "out")
    before = files(tmp_path / "out")
    monkeypatch.chdir(tmp_path)
    export(source, tmp_path / "out")
    assert len(letters) == 1
    assert files(tmp_path / "out") == before


def test_only_missing_and_damaged_shards_are_encoded_again(source, tmp_path, letters):
    out = tmp_path / "out"
    export(source, out, "--shard-records", 1)
    before = files(out)
    shards = sorted((out / "nodes").glob("*.tfrecord"))
    shards[0].unlink()
    shards[2].write_bytes(shards[2].read_bytes()[:-1] + b"\0")
    (out / "nodes" / ".disease-00000-of-00005.tfrecord.77.tmp").write_bytes(b"half")
    export(source, out, "--shard-records", 1)
    assert letters[1].num_encoded == 2
    assert files(out) == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--max-length", "9"], "--max-length 1000 where this command has 9"),
        (["--batch-tokens", "9"], "--batch-tokens 64 where"),
        (["--text-columns", "definition"], "--text-columns .*'mondo_name', 'definition'"),
        ("input", "input sha256 '.*' where"),
    ],
)
def test_another_export_is_refused_and_left_alone(source, tmp_path, change, message):
    export(source, tmp_path / "out")
    before = files(tmp_path / "out")
    if change == "input":
        source.write_text(source.read_text().replace("Marfan", "Merfan"))
        change = []
    with pytest.raises(InputError, match=rf"holds an export of disease with {message}"):
        export(source, tmp_path / "out", *change)
    assert files(tmp_path / "out") == before
    export(source, tmp_path / "out", *change, "--overwrite", "--shard-records", 2)
    export(source, tmp_path / "fresh", *change, "--shard-records", 2)
    assert files(tmp_path / "out") == files(tmp_path / "fresh")


def test_an_export_that_never_began_is_no_obstacle(source, tmp_path):
    with pytest.raises(InputError, match="'7' is not in UniRep"):
        export(source, tmp_path / "out", "--text-columns", "definition", encoder="unirep:7")
    export(source, tmp_path / "out")
    assert sidecar(tmp_path / "out")["count"] == 4


def test_an_entry_of_another_worker_s_options_does_not_count(source, tmp_path, letters):
    out = tmp_path / "out"
    export(source, out, "--shard-records", 1)
    before = files(out)
    entry = out / ".export" / "disease-00001-of-00005.json"
    entry.write_text(entry.read_text().replace('"export": "', '"export": "another'))
    export(source, out, "--shard-records", 1)
    assert letters[1].num_encoded == 2  # the two rows of this shard's id
    assert files(out) == before


def test_shards_of_other_weights_are_refused(source, tmp_path, monkeypatch):
    export(source, tmp_path / "out", "--shard-records", 2)
    next((tmp_path / "out" / "nodes").glob("*00001*.tfrecord")).unlink()
    monkeypatch.setenv("LETTERS_DIGEST", "fedcba9876543210")
    with pytest.raises(InputError, match=r"made by letters@0123456789ab.* the weights changed"):
        export(source, tmp_path / "out", "--shard-records", 2)
    export(source, tmp_path / "out", "--shard-records", 2, "--overwrite")
    export(source, tmp_path / "fresh", "--shard-records", 2)
    assert files(tmp_path / "out") == files(tmp_path / "fresh")


def test_foreign_shards_and_datasets_are_refused(source, tmp_path):
    (tmp_path / "nodes").mkdir()
    (tmp_path / "nodes" / "disease.json").write_text("{}")
    with pytest.raises(InputError, match="holds an export of disease of unknown origin"):
        export(source, tmp_path)
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(InputError, match="is a dataset directory"):
        export(source, tmp_path, "--overwrite")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--encoder", "minilmm"], r"encoder 'minilmm' .*did you mean 'minilm'"),
        (["--encoder", "minilm:folder"], "has only one checkpoint; write --encoder minilm"),
        (["--encoder", "chemnet", "--long", "windows"], r"--long 'windows' is not in chemnet"),
        (["--encoder", "chemnet"], "no smiles among node_index, mondo_id"),
        (["--pooling", "cls"], r"--pooling 'cls' is not in letters"),
        (["--max-length", "0"], "--max-length 0: must be at least 1"),
        (["--batch-tokens", "-1"], "--batch-tokens -1: must be at least 1"),
        (["--shard-records", "0"], "--shard-records 0: must be at least 1"),
        (["--shard", "3/3"], r"--shard 3/3: write it as i/n"),
        (["--id-column", "mondo"], r"column 'mondo' .*did you mean 'mondo_id'"),
        (["--input", "nowhere.csv"], r"nowhere.csv: no such file"),
    ],
)
def test_unusable_arguments_are_named_and_nothing_is_written(source, tmp_path, arguments, message):
    with pytest.raises(InputError, match=message):
        export(source, tmp_path / "out", *arguments)
    assert not (tmp_path / "out").exists()


def test_an_export_in_which_every_id_fails_has_no_sidecar(tmp_path):
    empty = tmp_path / "disease.csv"
    empty.write_text("node_index,mondo_name,definition\n1,,\n2,,\n")
    with pytest.raises(InputError, match="all 2 ids failed; the first, '1': empty text"):
        export(empty, tmp_path / "out")
    assert not (tmp_path / "out" / "nodes").exists()


def test_help_is_quick_because_no_framework_is_imported():
    code = (
        "import sys, contextlib\n"
        "from tools import export_embeddings\n"
        "with contextlib.suppress(SystemExit): export_embeddings.main(['--help'])\n"
        "slow = {'torch', 'transformers', 'jax', 'rdkit', 'pyarrow'} & set(sys.modules)\n"
        "sys.exit(f'imported {slow}' if slow else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    for name in ENCODERS.keys() - {"letters"}:
        assert f"\n  {name}" in done.stdout


ROOT = Path(__file__).parents[2]


@pytest.fixture
def bert(tmp_path):
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    return checkpoints.save_bert(tmp_path / "bert")


def test_a_real_model_s_vectors_become_a_dataset(source, bert, tmp_path):
    phenotypes = tmp_path / "phenotype.csv"
    phenotypes.write_text(
        "node_id,node_index,node_name,node_type,description\n"
        "HP:1,7,Common disease,effect/phenotype,of the heart\n"
        "HP:2,8,Rare disease,effect/phenotype,of the liver\n"
    )
    folder = tmp_path / "embeddings"
    export(source, folder, "--dtype", "float16", encoder=f"hf:{bert}")
    export(phenotypes, folder, "--type", "effect/phenotype", encoder=f"hf:{bert}")
    header = "display_relation," + ",".join(
        f"{end}_{c}" for end in "xy" for c in ("index", "id", "type", "name")
    )
    edges = [
        f"phenotype present,{d},DI-{d},disease,d{d},{7 + h},HP:{1 + h},effect/phenotype,h{h}"
        for d in ("20999", "21000", "21001", "21003")
        for h in (0, 1)
    ]
    (tmp_path / "kg.csv").write_text("\n".join([header, *edges]) + "\n")
    dataset = tmp_path / "dataset"
    arguments = ["--format", "primekg", "--input", tmp_path / "kg.csv", "--embeddings", folder]
    arguments += ["--output", dataset, "--split", "transductive"]
    import_graph.main([str(a) for a in arguments])
    manifest = read_manifest(dataset)
    table = manifest.table("disease")
    assert (table.dim, table.dtype, table.count) == (32, "float16", 4)
    assert table.encoder.startswith("hf:bert@")
    assert table.pooling == "mean, first 40 tokens"
    assert table.failed == ({"id": "21002", "reason": "empty text"},)
    assert manifest.counts["facts"] == 8
    exported = read_folder(folder)["disease"]
    imported = read_folder(dataset)["disease"]
    assert imported.ids == [f"DI-{i}" for i in exported.ids]
    np.testing.assert_array_equal(imported.x, exported.x)


@pytest.mark.slow
def test_killed_at_random_moments_it_continues_to_the_same_bytes(bert, tmp_path, monkeypatch):
    rng = random.Random(0)
    lengths = [rng.randint(1, 30) for _ in range(300)]
    rows = [" ".join(rng.choices(checkpoints.WORDS[:10], k=n)) for n in lengths]
    source = tmp_path / "disease.csv"
    source.write_text("id,name\n" + "".join(f"D{i},{r}\n" for i, r in enumerate(rows)))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    server = multiprocessing.get_context("forkserver")  # imports once for all the processes
    server.set_forkserver_preload(
        ["transformers.models.bert.modeling_bert", "tools.export_embeddings"]
    )

    def start(out):
        arguments = ["--encoder", f"hf:{bert}", "--type", "disease", "--text-columns", "name"]
        arguments += ["--input", str(source), "--output", str(out)]
        arguments += ["--shard-records", "15", "--batch-tokens", "100"]
        process = server.Process(target=export_embeddings.main, args=(arguments,))
        process.start()
        return process

    out = tmp_path / "killed"
    for _ in range(3):
        before = finished(out)
        process = start(out)
        target = len(before) + rng.randint(1, 4)
        while len(finished(out)) < target and process.is_alive():
            time.sleep(0.001)
        time.sleep(rng.random() * 0.01)
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        assert len(before) < len(finished(out)) < 20
    before = finished(out)
    for folder in (out, tmp_path / "unbroken"):
        process = start(folder)
        process.join()
        assert process.exitcode == 0
    assert files(out) == files(tmp_path / "unbroken")
    after = finished(out)
    assert {p: after[p] for p in before} == before  # finished shards were not encoded again


def finished(out):
    """When each journal entry of a finished shard was written, by path."""
    return {p: p.stat().st_mtime_ns for p in (out / ".export").glob("disease-*.json")}


def test_an_entry_that_does_not_account_for_all_ids_is_not_believed(source, tmp_path):
    out, fresh = tmp_path / "out", tmp_path / "fresh"
    export(source, fresh, "--shard-records", 2)
    for change in (
        lambda e: e.update(ids_sha256="0" * 64),
        lambda e: e["shard"].update(records=2),
        lambda e: e["shard"].update(file="../mine"),
        lambda e: e.update(failed=[{"id": "x"}]),
        lambda e: e.update(failed=3),
        lambda e: e.pop("failed"),
        lambda e: e.pop("shard"),
    ):
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(fresh, out)
        path = next(out.glob(".export/disease-00001-*.json"))
        entry = json.loads(path.read_text())
        change(entry)
        path.write_text(json.dumps(entry))
        export(source, out, "--shard-records", 2)
        assert files(out) == files(fresh)


def test_overwrite_keeps_the_old_export_until_the_new_one_is_complete(
    source, tmp_path, monkeypatch
):
    out, fresh = tmp_path / "out", tmp_path / "fresh"
    export(source, out, "--shard-records", 2)
    export(source, fresh, "--shard-records", 1)
    old = files(out)
    with monkeypatch.context() as patch:
        fail_once(patch, tfrecord, 3)
        with pytest.raises(DiskFullError, match="No space left on device"):
            export(source, out, "--shard-records", 1, "--overwrite")
    assert old.items() <= files(out).items()
    assert all(name.startswith(".export/disease.new-") for name in files(out).keys() - old.keys())
    export(source, out, "--shard-records", 1)
    assert files(out) == files(fresh)


def test_another_export_of_the_type_at_the_same_time_is_refused(source, tmp_path):
    said, lock = "another process writes here", held(tmp_path / "out", "other options", "disease")
    with lock, pytest.raises(InputError, match=said):
        export(source, tmp_path / "out")
    with held(tmp_path / "out", "other options", "drug"):
        export(source, tmp_path / "out")
