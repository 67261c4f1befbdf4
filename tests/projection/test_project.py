"""Projection: the same bytes after kills and for any number of workers; all rejects listed."""

import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import bridge_jax
from bridge_jax import project
from bridge_jax.data.dataset import read_nodes
from bridge_jax.data.embedding_files import read_sidecar
from bridge_jax.data.manifest import read_manifest
from bridge_jax.errors import InputError
from bridge_jax.projection.sources import open_source
from bridge_jax.projection.worker import Projection, ProjectionOptions
from tests.helpers.commands import refused
from tests.helpers.projection import (
    DIM,
    NUM_FILES,
    ROWS_PER_FILE,
    SOURCE,
    TARGET,
    command,
    committed,
    contents,
)
from tools.ingest.embeddings import read_folder


@pytest.mark.parametrize("relation", [None, "interacts with"])
def test_a_dataset_is_projected_as_by_the_python_call(trained, tiny, tmp_path, capsys, relation):
    bridge = bridge_jax.load(trained)
    ids, stored = read_nodes(tiny, read_manifest(tiny).table(SOURCE))
    target = TARGET if relation else None
    options = ("--target", target) if target else ()
    assert project.main(command(trained, tiny, tmp_path, *options)) == 0
    table, _ = read_sidecar(tmp_path / "nodes/gene_protein.json")
    projected_ids, z = read_nodes(tmp_path, table)
    assert projected_ids == ids
    expected = bridge.project(np.asarray(stored), SOURCE, relation, target)
    np.testing.assert_allclose(z, expected, atol=2e-6)
    assert np.linalg.norm(z, axis=1) == pytest.approx(np.ones(len(z)), abs=1e-5)
    description = f"{SOURCE} → {relation} → {TARGET}" if relation else f"projection of {SOURCE}"
    assert f"{description}, unit vectors: 250 vectors" in capsys.readouterr().out
    assert read_folder(tmp_path)[SOURCE].ids == ids
    assert open_source(tmp_path, SOURCE, table.dim).num_rows == len(ids)


@pytest.mark.parametrize("file_format", ["npy", "parquet", "tfrecord"])
def test_formats_and_dtypes_hold_the_same_vectors(trained, tiny, tmp_path, file_format):
    if file_format == "parquet":
        pytest.importorskip("pyarrow")
    float16, float32 = tmp_path / "float16", tmp_path / "float32"
    project.main(command(trained, tiny, float16, "--format", file_format, "--dtype", "float16"))
    project.main(command(trained, tiny, float32))
    blocks = [next(open_source(f, SOURCE, 16).blocks(0, 1000)) for f in (float16, float32)]
    assert blocks[0].ids == blocks[1].ids
    assert blocks[0].x.dtype == np.float16
    assert np.array_equal(blocks[0].x, blocks[1].x.astype(np.float16))


def test_only_tfrecord_stores_bfloat16(trained, tiny, tmp_path):
    project.main(command(trained, tiny, tmp_path / "b", "--dtype", "bfloat16"))
    assert read_sidecar(tmp_path / "b/nodes/gene_protein.json")[0].dtype == "bfloat16"
    with pytest.raises(InputError, match="--format npy cannot store bfloat16"):
        project.main(
            command(trained, tiny, tmp_path / "n", "--dtype", "bfloat16", "--format", "npy")
        )
    assert not (tmp_path / "n").exists()


def test_any_number_of_workers_and_devices_writes_the_same_bytes(
    trained, library, uninterrupted, tmp_path, capsys
):
    output = tmp_path / "three workers"
    for shard in ("2/3", "0/3", "1/3"):
        capsys.readouterr()
        project.main(command(trained, library, output, "--target", TARGET, "--shard", shard))
    assert "8 shards (3 written now)" in capsys.readouterr().out
    assert contents(output) == contents(uninterrupted)
    output = tmp_path / "one device"
    environment = os.environ | {"XLA_FLAGS": "", "JAX_PLATFORMS": "cpu"}
    arguments = command(trained, library, output, "--target", TARGET)
    process = subprocess.run(
        [sys.executable, "-m", "bridge_jax.project", *arguments],
        env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    assert "vector 12,000/12,000" in process.stderr
    assert contents(output) == contents(uninterrupted)


def test_all_blocks_have_one_shape_and_share_one_program(trained, library, tmp_path):
    options = ProjectionOptions(str(trained), str(library), SOURCE, str(tmp_path), target=TARGET)
    projection = Projection(options)
    compute, shapes = projection.compute, set()
    projection.__dict__["compute"] = lambda x: shapes.add(x.shape) or compute(x)
    projection.run(range(NUM_FILES))
    assert ROWS_PER_FILE % projection.block_rows
    assert shapes == {(projection.block_rows, DIM)}


def test_a_restart_writes_only_missing_and_damaged_shards(
    trained, library, uninterrupted, tmp_path, capsys
):
    output = tmp_path / "out"
    shutil.copytree(uninterrupted, output)
    shards = sorted(output.glob("nodes/*.tfrecord"))
    shards[1].unlink()
    raw = bytearray(shards[4].read_bytes())
    raw[100] ^= 1
    shards[4].write_bytes(raw)
    before = {p: p.stat().st_mtime_ns for p in shards if p.exists()}
    project.main(command(trained, library, output, "--target", TARGET))
    assert "8 shards (2 written now)" in capsys.readouterr().out
    assert contents(output) == contents(uninterrupted)
    assert [p for p, time_ns in before.items() if p.stat().st_mtime_ns != time_ns] == [shards[4]]


def test_two_kills_change_no_bytes(trained, uninterrupted, library, tmp_path):
    """`python -m benchmarks.attack` kills ten times; no committed shard is written again."""
    output, done = tmp_path / "out", {}
    arguments = command(trained, library, output, "--target", TARGET)
    for _ in range(2):
        process = subprocess.Popen(
            [sys.executable, "-m", "bridge_jax.project", *arguments],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        while len(committed(output)) == len(done) and process.poll() is None:
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        now = committed(output)
        assert len(done) < len(now) < NUM_FILES
        assert all(now[path] == time_ns for path, time_ns in done.items())
        done = now
    assert project.main(arguments) == 0
    now = committed(output)
    assert all(now[path] == time_ns for path, time_ns in done.items())
    assert contents(output) == contents(uninterrupted)


def test_rejects_are_listed_and_the_other_vectors_are_projected(trained, tmp_path, capsys):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(7, DIM)).astype(np.float32)
    x[1, 0], x[2], x[5] = np.inf, 0, 1e38  # the last is finite, but its projection is not
    np.savez(tmp_path / "protein.npz", ids=np.array(["a", "b", "c", "", "a", "e", "f"]), x=x)
    output = tmp_path / "out"
    project.main(command(trained, tmp_path / "protein.npz", output))
    printed = capsys.readouterr().out
    assert "2 vectors of 16 float32 in 1 shard (1 written now)" in printed
    assert "1 rejected: an all-zero vector" in printed
    lines = (output / "nodes/gene_protein.rejects.tsv").read_text().splitlines()
    assert {line.split("\t")[0] for line in lines[1:]} == {"protein.npz"}
    assert [line.split("\t")[1:] for line in lines] == [
        ["record", "id", "reason"],
        ["1", "b", "a NaN or infinite value"],
        ["2", "c", "an all-zero vector"],
        ["3", "", "an empty id, or one with a control character"],
        ["4", "a", "an id that an earlier record has too"],
        ["5", "e", "its projection is a NaN or infinite value"],
    ]
    (block,) = open_source(output, SOURCE, 16).blocks(0, 9)
    assert block.ids == ["a", "f"]
    expected = bridge_jax.load(trained).project(x[[0, 6]], SOURCE)
    np.testing.assert_allclose(block.x, expected, atol=2e-6)
    np.savez(tmp_path / "protein.npz", ids=np.array(["b"]), x=x[1:2])
    with pytest.raises(InputError, match="all 1 vectors were rejected; the first, 'b'"):
        project.main(command(trained, tmp_path / "protein.npz", tmp_path / "none"))


def test_another_projection_is_not_overwritten(trained, library, uninterrupted, tmp_path):
    output = tmp_path / "out"
    shutil.copytree(uninterrupted, output)
    with pytest.raises(InputError, match=r"holds an export of gene_protein with output .* has 'p"):
        project.main(command(trained, library, output))
    assert contents(output) == contents(uninterrupted)
    project.main(command(trained, library, output, "--overwrite", "--format", "npy"))
    assert not list(output.glob("nodes/*.tfrecord"))
    assert len(list(output.glob("nodes/*.npy"))) == NUM_FILES


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"--source": "gene/protien"}, "node type 'gene/protien' is not in .*did you mean"),
        ({"--relation": "target"}, "relation 'target' is not in this graph"),
        ({"--target": "gene/protein"}, "no facts gene/protein → any relation → gene/protein"),
        ({"--input": "nowhere"}, "nowhere: no such file or folder"),
        ({"--workdir": "nowhere"}, "nowhere: not a run"),
        ({"--shard": "4/4"}, "--shard 4/4: write it as i/n"),
        ({"--workers": "3"}, "--workers is for --launcher ray"),
        ({"--launcher": "ray", "--shard": "0/2"}, "--shard is for workers that are started"),
    ],
)
def test_bad_arguments_are_named(trained, library, tmp_path, change, message):
    arguments = command(trained, library, tmp_path / "out")
    options = dict(zip(arguments[::2], arguments[1::2], strict=True)) | change
    with pytest.raises(InputError, match=message):
        project.main([word for option in options.items() for word in option])
    assert not (tmp_path / "out").exists()


def test_bad_files_are_named(trained, tmp_path):
    np.save(tmp_path / "a.npy", np.ones((2, 7), np.float32))
    (tmp_path / "a.ids.txt").write_text("x\ny\n")
    with pytest.raises(InputError, match=r"a.npy: vectors of dimension 7; gene/protein .* has 256"):
        project.main(command(trained, tmp_path / "a.npy", tmp_path / "out"))
    (tmp_path / "a.npy").write_bytes(b"")
    with pytest.raises(InputError, match=r"a.npy: cannot be read"):
        project.main(command(trained, tmp_path / "a.npy", tmp_path / "out"))


def test_a_run_without_a_checkpoint_is_refused(trained, library, tmp_path):
    shutil.copy(trained / "config.json", tmp_path)
    with pytest.raises(InputError, match="no checkpoint yet"):
        project.main(command(tmp_path, library, tmp_path / "out"))


def test_an_output_that_cannot_be_written_is_refused(
    trained, library, tmp_path, capsys, monkeypatch
):
    file = tmp_path / "file"
    file.write_text("mine")
    assert str(file) in refused(project.main, command(trained, library, file), capsys, monkeypatch)
    assert file.read_text() == "mine"


def test_slurm_tasks_select_their_shards():
    slurm = {"SLURM_NTASKS": "4", "SLURM_PROCID": "3"}
    assert project.resolve_worker(None, slurm) == (3, 4)
    assert project.resolve_worker("1/2", slurm) == (1, 2)
    assert project.resolve_worker(None, {}) == (0, 1)
