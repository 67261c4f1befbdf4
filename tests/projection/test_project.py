"""Projection: the same bytes however the work is cut, killed or shared, and every reject named."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import bridge_jax
from bridge_jax import cli, project
from bridge_jax.data.dataset import read_manifest, read_nodes
from bridge_jax.data.embedding_files import read_sidecar
from bridge_jax.errors import InputError
from bridge_jax.projection.sources import open_source
from bridge_jax.projection.worker import Options, Projection
from tools.ingest.embeddings import read_folder

SOURCE, TARGET = "gene/protein", "molecular_function"
FILES, ROWS, DIM = 8, 1500, 256


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """Eight npy files of vectors, about twelve blocks."""
    folder = tmp_path_factory.mktemp("library")
    choice = np.random.default_rng(0)
    for k in range(FILES):
        stem = f"gene_protein-{k:05d}-of-{FILES:05d}"
        np.save(folder / f"{stem}.npy", choice.normal(size=(ROWS, DIM)).astype(np.float16))
        names = "".join(f"P{k * ROWS + i}\n" for i in range(ROWS))
        (folder / f"{stem}.ids.txt").write_text(names)
    return folder


def command(run, source, output, *more):
    return [
        *("--workdir", str(run), "--input", str(source), "--source", SOURCE),
        *("--output", str(output), *map(str, more)),
    ]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def whole(trained, library, tmp_path_factory):
    """An unbroken job of one worker."""
    output = tmp_path_factory.mktemp("whole")
    assert project.main(command(trained, library, output, "--target", TARGET)) == 0
    return output


def test_a_dataset_comes_out_as_the_python_call_gives_it(trained, tiny, tmp_path, capsys):
    bridge = bridge_jax.load(trained)
    ids, stored = read_nodes(tiny, read_manifest(tiny).table(SOURCE))
    for more, relation in (((), None), (("--target", TARGET), "interacts with")):
        output = tmp_path / str(relation)
        assert project.main(command(trained, tiny, output, *more)) == 0
        table, _ = read_sidecar(output / "nodes/gene_protein.json")
        found, z = read_nodes(output, table)
        assert found == ids
        expected = bridge.project(
            np.asarray(stored), SOURCE, relation, TARGET if relation else None
        )
        np.testing.assert_allclose(z, expected, atol=2e-6)
        assert np.linalg.norm(z, axis=1) == pytest.approx(np.ones(len(z)), abs=1e-5)
    said = capsys.readouterr().out
    assert "gene/protein → interacts with → molecular_function, unit vectors: 250 vectors" in said
    assert read_folder(output)[SOURCE].ids == ids
    assert open_source(output, SOURCE, table.dim).rows == len(ids)


@pytest.mark.parametrize("form", ["npy", "parquet", "tfrecord"])
def test_formats_and_dtypes_hold_the_same_vectors(trained, tiny, tmp_path, form):
    if form == "parquet":
        pytest.importorskip("pyarrow")
    half = tmp_path / "half"
    project.main(command(trained, tiny, half, "--format", form, "--dtype", "float16"))
    project.main(command(trained, tiny, tmp_path / "full"))
    blocks = [
        next(open_source(folder, SOURCE, 16).blocks(0, 1000))
        for folder in (half, tmp_path / "full")
    ]
    assert blocks[0].ids == blocks[1].ids
    assert blocks[0].x.dtype == np.float16
    assert np.array_equal(blocks[0].x, blocks[1].x.astype(np.float16))


def test_bfloat16_is_for_shards_alone(trained, tiny, tmp_path):
    project.main(command(trained, tiny, tmp_path / "b", "--dtype", "bfloat16"))
    assert read_sidecar(tmp_path / "b/nodes/gene_protein.json")[0].dtype == "bfloat16"
    with pytest.raises(InputError, match="--format npy has no bfloat16"):
        project.main(
            command(trained, tiny, tmp_path / "n", "--dtype", "bfloat16", "--format", "npy")
        )
    assert not (tmp_path / "n").exists()


def test_workers_and_devices_write_the_bytes_of_one(trained, library, whole, tmp_path, capsys):
    for shard in ("2/3", "0/3", "1/3"):
        capsys.readouterr()
        project.main(command(trained, library, tmp_path, "--target", TARGET, "--shard", shard))
    assert "8 shards (3 written now)" in capsys.readouterr().out
    assert contents(tmp_path) == contents(whole)
    output = tmp_path / "one"
    environment = os.environ | {"XLA_FLAGS": "", "JAX_PLATFORMS": "cpu"}
    arguments = command(trained, library, output, "--target", TARGET)
    done = subprocess.run(
        [sys.executable, "-m", "bridge_jax.project", *arguments],
        env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "vector 12,000/12,000" in done.stderr
    assert contents(output) == contents(whole)


def test_every_block_has_one_shape_and_so_one_program(trained, library, tmp_path):
    job = Projection(Options(str(trained), str(library), SOURCE, str(tmp_path), target=TARGET))
    compute, shapes = job.compute, set()
    job.__dict__["compute"] = lambda x: shapes.add(x.shape) or compute(x)
    job.run(range(FILES))
    assert ROWS % job.rows
    assert shapes == {(job.rows, DIM)}


def test_a_restart_makes_only_what_is_missing(trained, library, whole, tmp_path, capsys):
    output = tmp_path / "out"
    shutil.copytree(whole, output)
    shards = sorted(output.glob("nodes/*.tfrecord"))
    shards[1].unlink()
    raw = bytearray(shards[4].read_bytes())
    raw[100] ^= 1
    shards[4].write_bytes(raw)
    before = {p: p.stat().st_mtime_ns for p in shards if p.exists()}
    project.main(command(trained, library, output, "--target", TARGET))
    assert "8 shards (2 written now)" in capsys.readouterr().out
    assert contents(output) == contents(whole)
    assert [p for p, at in before.items() if p.stat().st_mtime_ns != at] == [shards[4]]


def test_killed_twice_it_ends_in_the_same_bytes(trained, whole, library, tmp_path):
    """`benchmarks/project_kills.py` does it ten times; no committed shard is made again."""
    output, made = tmp_path / "out", {}
    arguments = command(trained, library, output, "--target", TARGET)
    for _ in range(2):
        process = subprocess.Popen(
            [sys.executable, "-m", "bridge_jax.project", *arguments],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        while len(committed(output)) == len(made) and process.poll() is None:
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        now = committed(output)
        assert len(made) < len(now) < FILES
        assert all(now[p] == at for p, at in made.items())
        made = now
    assert project.main(arguments) == 0
    after = committed(output)
    assert all(after[p] == at for p, at in made.items())
    assert contents(output) == contents(whole)


def committed(output: Path) -> dict[Path, int]:
    return {p: p.stat().st_mtime_ns for p in output.glob(".export/*-of-*.json")}


def test_rejects_are_listed_and_the_rest_goes_on(trained, tmp_path, capsys):
    choice = np.random.default_rng(0)
    x = choice.normal(size=(7, DIM)).astype(np.float32)
    x[1, 0], x[2], x[5] = np.inf, 0, 1e38  # the last is finite, but its projection is not
    np.savez(tmp_path / "protein.npz", ids=np.array(["a", "b", "c", "", "a", "e", "f"]), x=x)
    output = tmp_path / "out"
    project.main(command(trained, tmp_path / "protein.npz", output))
    said = capsys.readouterr().out
    assert "2 vectors of 16 float32 in 1 shard (1 written now)" in said
    assert "1 rejected: an all-zero vector" in said
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
    with pytest.raises(InputError, match="every one of 1 vectors was rejected; the first, 'b'"):
        project.main(command(trained, tmp_path / "protein.npz", tmp_path / "none"))


def test_an_output_of_something_else_is_kept(trained, library, whole, tmp_path):
    output = tmp_path / "out"
    shutil.copytree(whole, output)
    with pytest.raises(InputError, match=r"holds an export of gene_protein with output .* has 'p"):
        project.main(command(trained, library, output))
    assert contents(output) == contents(whole)
    project.main(command(trained, library, output, "--overwrite", "--format", "npy"))
    assert not list(output.glob("nodes/*.tfrecord"))
    assert len(list(output.glob("nodes/*.npy"))) == FILES


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
def test_bad_words_are_named(trained, library, tmp_path, change, message):
    arguments = command(trained, library, tmp_path / "out")
    words = dict(zip(arguments[::2], arguments[1::2], strict=True)) | change
    with pytest.raises(InputError, match=message):
        project.main([word for pair in words.items() for word in pair])
    assert not (tmp_path / "out").exists()


def test_bad_files_are_named(trained, tmp_path):
    np.save(tmp_path / "a.npy", np.ones((2, 7), np.float32))
    (tmp_path / "a.ids.txt").write_text("x\ny\n")
    with pytest.raises(InputError, match=r"a.npy: vectors of dimension 7; gene/protein .* has 256"):
        project.main(command(trained, tmp_path / "a.npy", tmp_path / "out"))
    (tmp_path / "a.npy").write_bytes(b"")
    with pytest.raises(InputError, match=r"a.npy: cannot be read"):
        project.main(command(trained, tmp_path / "a.npy", tmp_path / "out"))


def test_a_run_without_a_checkpoint_and_a_place_that_cannot_be_written(
    trained, library, tmp_path, monkeypatch, capsys
):
    young = tmp_path / "young"
    young.mkdir()
    shutil.copy(trained / "config.json", young)
    with pytest.raises(InputError, match="no checkpoint yet"):
        project.main(command(young, library, tmp_path / "out"))
    (tmp_path / "file").write_text("mine")
    monkeypatch.setattr(sys, "argv", ["x", *command(trained, library, tmp_path / "file")])
    with pytest.raises(SystemExit) as stopped:
        cli.run(project.main)
    assert stopped.value.code == 2
    assert str(tmp_path / "file") in capsys.readouterr().err
    assert (tmp_path / "file").read_text() == "mine"


def test_slurm_tasks_take_their_shards():
    slurm = {"SLURM_NTASKS": "4", "SLURM_PROCID": "3"}
    assert project.share(None, slurm) == (3, 4)
    assert project.share("1/2", slurm) == (1, 2)
    assert project.share(None, {}) == (0, 1)
