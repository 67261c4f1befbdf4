"""Projection on a full disk, beside other processes and over an older one: nothing is lost."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

from bridge_jax import project
from bridge_jax.data import export_swap, tfrecord
from bridge_jax.data.embedding_files import open_embedding_file, read_sidecar
from bridge_jax.data.files import DiskFullError
from bridge_jax.data.tfrecord import stream_shard
from bridge_jax.errors import InputError
from bridge_jax.projection import outputs
from bridge_jax.projection.sources import open_source
from bridge_jax.projection.worker import Projection, ProjectionOptions
from tests.helpers.failing_disk import fail_once
from tests.helpers.held_lock import held
from tests.helpers.projection import SOURCE, TARGET, command, committed, contents

SMALL_FILES, SMALL_ROWS = 3, 1100  # three blocks each


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Three npy files of three blocks each."""
    folder, rng = tmp_path_factory.mktemp("small"), np.random.default_rng(0)
    for k in range(SMALL_FILES):
        np.save(folder / f"protein-{k}.npy", rng.normal(size=(SMALL_ROWS, 256)).astype(np.float16))
        ids = (f"P{k}-{i}\n" for i in range(SMALL_ROWS))
        (folder / f"protein-{k}.ids.txt").write_text("".join(ids))
    return folder


@pytest.fixture(scope="module")
def expected(trained, small, tmp_path_factory):
    """An uninterrupted projection in each format."""
    outs = {}
    for file_format in outputs.FORMATS:
        out = tmp_path_factory.mktemp(file_format)
        assert project.main(command(trained, small, out, "--format", file_format)) == 0
        outs[file_format] = out
    return outs


def shards(output, suffix):
    return {p.name: p.read_bytes() for p in output.glob(f"nodes/*{suffix}")}


@pytest.mark.parametrize("file_format", ["npy", "tfrecord", "parquet"])
@pytest.mark.parametrize("fails_at", [2, 4, 6])
def test_a_full_disk_leaves_no_hole(
    trained, small, expected, tmp_path, monkeypatch, file_format, fails_at, capsys
):
    out, fresh = tmp_path / "out", expected[file_format]
    with monkeypatch.context() as patch:
        if file_format == "parquet":
            pq = pytest.importorskip("pyarrow.parquet")
            write, calls = pq.ParquetWriter.write_batch, [0]

            def write_batch(self, batch):
                calls[0] += 1
                if calls[0] == fails_at:
                    raise OSError(28, "No space left on device")
                write(self, batch)

            patch.setattr(pq.ParquetWriter, "write_batch", write_batch)
        else:
            module = outputs if file_format == "npy" else tfrecord
            fail_once(patch, module, fails_at + (file_format == "npy"))
        with pytest.raises(DiskFullError, match="No space left on device; nothing was left") as e:
            project.main(command(trained, small, out, "--format", file_format))
    assert "/out/nodes/gene_protein-0000" in e.value.filename
    suffix = f".{file_format}"
    assert shards(out, suffix).items() <= shards(fresh, suffix).items()
    assert len(shards(out, suffix)) == len(committed(out)) < SMALL_FILES
    assert not list(out.rglob("*.tmp"))
    done = committed(out)
    assert project.main(command(trained, small, out, "--format", file_format)) == 0
    assert f"3,300 vectors of 16 float32 in 3 shards ({3 - len(done)}" in capsys.readouterr().out
    assert done.items() <= committed(out).items()
    assert contents(out) == contents(fresh)


def test_an_entry_that_does_not_account_for_all_rows_is_not_believed(
    trained, small, expected, tmp_path, capsys
):
    out = tmp_path / "out"
    changes = [
        lambda e: e.pop("rows"),  # of a version that did not count
        lambda e: e.update(rows=SMALL_ROWS - 512),
        lambda e: e["shard"].update(records=SMALL_ROWS - 512),
        lambda e: e["ids"].update(sha256=e["shard"]["sha256"]),
        lambda e: e["shard"].update(file="../../mine.npy"),
        lambda e: e["shard"].update(file="nodes/gene_protein-00000-of-00003.npy"),
        lambda e: e.update(rejects=["x"]),
        lambda e: e.update(rejects=3),
        lambda e: e.pop("shard"),
        lambda e: e.update(shard=[1]),
    ]
    for change in changes:
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(expected["npy"], out)
        path = out / ".export/gene_protein-00001-of-00003.json"
        entry = json.loads(path.read_text())
        change(entry)
        path.write_text(json.dumps(entry))
        assert project.main(command(trained, small, out, "--format", "npy")) == 0
        assert "(1 written now)" in capsys.readouterr().out
        assert contents(out) == contents(expected["npy"])
    for text in ("", "[]", "\x00", "3"):
        path.write_text(text)
        (out / ".export/gene_protein-00000-of-00003.json").unlink()
        assert project.main(command(trained, small, out, "--format", "npy")) == 0
        assert contents(out) == contents(expected["npy"])


def test_overwrite_keeps_the_old_projection_until_the_new_one_is_complete(
    trained, small, expected, tmp_path, monkeypatch
):
    out, old = tmp_path / "out", contents(expected["tfrecord"])
    shutil.copytree(expected["tfrecord"], out)
    arguments = command(trained, small, out, "--overwrite", "--format", "npy")
    with monkeypatch.context() as patch:
        fail_once(patch, outputs, 10)
        with pytest.raises(DiskFullError):
            project.main(arguments)
    assert old.items() <= contents(out).items()
    assert {k for k in contents(out) if k not in old} == {
        k for k in contents(out) if k.startswith(".export/gene_protein.new-")
    }
    assert open_source(out, SOURCE, 16).num_rows == 3300
    # Another worker, or the same command without --overwrite, continues it.
    assert project.main([a for a in arguments if a != "--overwrite"]) == 0
    assert contents(out) == contents(expected["npy"])


@pytest.mark.parametrize("old_format", ["tfrecord", "npy"])
def test_an_interrupted_swap_is_finished_by_the_same_command(
    trained, small, expected, tmp_path, monkeypatch, old_format
):
    out = tmp_path / "out"
    arguments = command(trained, small, out, "--format", "npy", "--target", TARGET)
    fresh = tmp_path / "fresh"
    assert project.main(command(trained, small, fresh, "--format", "npy", "--target", TARGET)) == 0
    staged, replace = tmp_path / "staged", os.replace
    shutil.copytree(expected[old_format], staged)

    def stop_at(number):
        calls = [0]

        def stopping(*paths):
            calls[0] += "swap" in str(paths[0]) and ".tmp" not in str(paths[0])
            if calls[0] == number:
                raise KeyboardInterrupt
            replace(*paths)

        return stopping

    monkeypatch.setattr(export_swap.os, "replace", stop_at(1))
    with pytest.raises(KeyboardInterrupt):
        project.main(
            command(trained, small, staged, "--format", "npy", "--target", TARGET, "--overwrite")
        )
    for number in range(1, 12):
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(staged, out)
        monkeypatch.setattr(export_swap.os, "replace", stop_at(number))
        try:
            project.main(arguments)
        except KeyboardInterrupt:
            monkeypatch.setattr(export_swap.os, "replace", replace)
            assert project.main(arguments) == 0
        assert contents(out) == contents(fresh)


@pytest.mark.parametrize("with_journal", [True, False])
def test_overwrite_deletes_only_what_is_listed(
    trained, small, expected, tmp_path, capsys, with_journal
):
    out = tmp_path / "out"
    shutil.copytree(expected["npy"], out)
    outside = tmp_path / "mine.npy"
    sidecar = out / "nodes/gene_protein.json"
    value = json.loads(sidecar.read_text())
    value["shards"] += [value["shards"][0] | {"file": f} for f in ("../mine.npy", str(outside))]
    sidecar.write_text(json.dumps(value))
    outside.write_text("mine")
    if not with_journal:
        shutil.rmtree(out / ".export")
        value["shards"] = value["shards"][:3]
    foreign = [
        out / "nodes/gene_protein-00007-of-00009.npy",
        out / "nodes/gene_protein_notes.npy",
        out / "nodes/gene_protein-notes.txt",
    ]
    for path in foreign:
        path.write_text("mine")
    arguments = command(trained, small, out, "--overwrite", "--format", "parquet")
    with pytest.raises(InputError, match=r"is listed by no export in this folder.*move it away"):
        project.main(arguments)
    foreign[0].rename(tmp_path / "moved")
    if not with_journal:  # the files of ids are listed only by the journal
        for path in out.glob("nodes/*.ids.txt"):
            path.unlink()
    assert project.main(arguments) == 0
    assert [p.read_text() for p in (outside, *foreign[1:])] == ["mine"] * 3
    assert not list(out.glob("nodes/gene_protein-0*.npy"))
    table, _ = read_sidecar(sidecar)
    assert table.count == 3300


def test_links_out_of_the_output_folder_are_refused(trained, small, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    for folder in ("nodes", ".export"):
        out = tmp_path / f"out{folder}"
        out.mkdir()
        (out / folder).symlink_to(outside)
        with pytest.raises(InputError, match=f"{folder}: is a link out of its folder"):
            project.main(command(trained, small, out, "--overwrite"))
    assert not list(outside.iterdir())


def test_another_projection_at_the_same_time_is_refused(trained, small, tmp_path):
    out = tmp_path / "out"
    said = r"out: another process writes here \(pid \d+ on "
    with held(out, "other options", "gene_protein"), pytest.raises(InputError, match=said):
        project.main(command(trained, small, out))
    with held(out, "an export of another type", "drug"):
        assert project.main(command(trained, small, out)) == 0


def test_a_worker_is_started_once(trained, small, tmp_path):
    out = tmp_path / "out"
    with held(out, "", "gene_protein worker 0"):
        with pytest.raises(InputError, match="another process writes here"):
            project.main(command(trained, small, out, "--shard", "0/2"))
        assert project.main(command(trained, small, out, "--shard", "1/2")) == 0
    assert project.main(command(trained, small, out, "--shard", "0/2")) == 0
    assert not (out / ".lock").exists()


def test_a_file_that_is_cut_after_it_was_opened_is_refused(trained, small, expected, tmp_path):
    for file_format, name in (("npy", "protein-0.npy"), ("tfrecord", "nodes/gene_protein-00000*")):
        source = tmp_path / file_format
        shutil.copytree(small if file_format == "npy" else expected["tfrecord"], source)
        (path,) = source.glob(name)
        out = tmp_path / f"out_{file_format}"
        if file_format == "npy":
            options = ProjectionOptions(str(trained), str(source), SOURCE, str(out))
            with Projection(options) as projection:
                os.truncate(path, 1000)
                with pytest.raises(
                    InputError, match=r"protein-0.npy: cannot be read: the file ends"
                ):
                    projection.run([0])
            x = np.load(small / "protein-0.npy")
            np.save(path, np.asfortranarray(x))
            file = open_embedding_file(path)
            blocks = [b.x for b in file.blocks(3, 900, 64, 256)]
            assert np.array_equal(np.concatenate(blocks), x[3:900])
            os.truncate(path, 1000)
            with pytest.raises(InputError, match=r"protein-0.npy: cannot be read: the file ends"):
                next(file.blocks(3, 900, 64, 256))
            assert not list(out.rglob("*protein*.tfrecord*"))
        else:
            table, _ = read_sidecar(source / "nodes/gene_protein.json")
            blocks = stream_shard(source, table.shards[0], table.layout, 512)
            next(blocks)
            os.truncate(path, 1000)
            with pytest.raises(InputError, match="was cut while it was read"):
                list(blocks)


@pytest.fixture
def tiny_disk(tmp_path):
    """A filesystem of 300 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("tmpfs cannot be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.slow
@pytest.mark.parametrize("file_format", ["npy", "tfrecord", "parquet"])
def test_a_disk_that_is_full_for_a_while(
    trained, small, expected, tiny_disk, tmp_path, file_format
):
    out = tiny_disk / "out"
    arguments = [sys.executable, "-m", "bridge_jax.project"]
    arguments += command(trained, small, out, "--format", file_format)
    for size in ("150k", "160k", "220k"):
        subprocess.run(["mount", "-o", f"remount,size={size}", str(tiny_disk)], check=True)
        process = subprocess.run(arguments, capture_output=True, text=True)
        assert process.returncode == 2, process.stderr
        last = process.stderr.strip().splitlines()[-1]
        assert "No space left on device" in last
        assert "Traceback" not in process.stderr
        suffix = f".{file_format}"
        assert shards(out, suffix).items() <= shards(expected[file_format], suffix).items()
    subprocess.run(["mount", "-o", "remount,size=10m", str(tiny_disk)], check=True)
    assert subprocess.run(arguments, capture_output=True).returncode == 0
    assert contents(out) == contents(expected[file_format])
