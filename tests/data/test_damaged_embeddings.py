"""Damage to embedding files that their libraries do not find themselves."""

import zipfile
from pathlib import Path

import numpy as np
import pytest

from bridge_jax.data.embedding_files import ReadOptions, open_embedding_file
from bridge_jax.errors import InputError

IDS = [f"P{i:05}" for i in range(20)]
X = np.random.default_rng(0).normal(size=(20, 6)).astype(np.float32)


def read(path: Path) -> np.ndarray:
    file = open_embedding_file(path)
    return np.concatenate([b.x for b in file.blocks(0, file.num_rows, 8, file.dim)])


def replace(path: Path, old: bytes, new: bytes) -> None:
    raw = path.read_bytes()
    assert raw.count(old) >= 1
    path.write_bytes(raw.replace(old, new, 1))


def test_a_list_of_arrays_that_is_cut_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, **dict(zip(IDS, X, strict=True)))
    raw = bytearray(path.read_bytes())
    end = raw.rindex(b"PK\5\6")
    with zipfile.ZipFile(path) as archive:
        size = 46 + len(archive.infolist()[0].filename)
    for at, width in ((end + 8, 2), (end + 10, 2), (end + 12, 4)):
        count = 7 if width == 2 else 7 * size
        raw[at : at + width] = count.to_bytes(width, "little")
    start = int.from_bytes(raw[end + 16 : end + 20], "little")
    path.write_bytes(bytes(raw[: start + 7 * size] + raw[end:]))
    with zipfile.ZipFile(path) as archive:
        assert len(archive.namelist()) == 7  # the library does not see it
    with pytest.raises(InputError, match="its list of arrays is cut off"):
        read(path)


def test_an_archive_with_other_bytes_after_the_members_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w") as archive:
        for name, x in (("ids", np.array(IDS)), ("x", X)):
            with archive.open(f"{name}.npy", "w") as member:
                np.save(member, x)
    np.testing.assert_array_equal(read(path), X)


def test_the_checksums_of_pytorch_are_compared(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    path = tmp_path / "a.pt"
    torch.save({"ids": IDS, "x": torch.tensor(X)}, path)
    replace(path, X[3].tobytes(), X[4].tobytes())
    torch.load(path, weights_only=True)  # the library does not see it
    with pytest.raises(InputError, match=r"a/data/0 has another checksum"):
        read(path)


def test_a_pytorch_file_without_checksums_is_read(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    before = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    try:
        torch.save({"ids": IDS, "x": torch.tensor(X)}, tmp_path / "a.pt")
    finally:
        torch.serialization.set_crc32_options(before)
    np.testing.assert_array_equal(read(tmp_path / "a.pt"), X)


def test_the_checksums_of_parquet_are_compared(tmp_path: Path) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "a.parquet"
    table = pa.table({"id": IDS, "embedding": list(X)})
    pq.write_table(table, path, write_page_checksum=True, use_dictionary=False, compression="none")
    replace(path, X[3].tobytes(), X[4].tobytes())
    with pytest.raises(InputError, match=r"(?i)crc|checksum"):
        read(path)


def test_an_open_quote_swallows_no_rows(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    rows = [f"{name},{','.join(map(str, x))}\n" for name, x in zip(IDS, X, strict=True)]
    rows[3] = '"' + rows[3]
    rows[9] = rows[9].replace(",", '",', 1)
    path.write_text("".join(["id,a,b,c,d,e,f\n", *rows]))
    with pytest.raises(InputError, match="line 5: a quote that is not closed in its line"):
        read(path)


class TestHdf5:
    @pytest.fixture(autouse=True)
    def _h5py(self) -> None:
        self.h5py = pytest.importorskip("h5py")

    def write(self, path: Path) -> None:
        with self.h5py.File(path, "w", libver="latest") as file:
            for name, x in zip(IDS, X, strict=True):
                file[name] = x

    def test_two_datasets_with_the_same_data_are_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "a.h5"
        self.write(path)
        with self.h5py.File(path, "a") as file:
            del file[IDS[4]]
            file[IDS[4]] = file[IDS[3]]  # a hard link
        with pytest.raises(InputError, match="'P00003' and 'P00004' are the same data"):
            read(path)

    def test_data_that_were_never_written_are_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "a.h5"
        with self.h5py.File(path, "w") as file:
            file["ids"] = [name.encode() for name in IDS]
            x = file.create_dataset("x", (20, 6), "f4", chunks=(10, 6))
            x[:10] = X[:10]
        with pytest.raises(InputError, match="a part of 'x' was never written"):
            read(path)

    def test_a_crash_of_the_library_is_an_error_of_one_line(self, tmp_path: Path) -> None:
        from bridge_jax.data.embedding_formats import hdf5_process

        path = tmp_path / "a.h5"
        self.write(path)
        np.testing.assert_array_equal(read(path), X)
        worker = hdf5_process._worker()
        worker._process.kill()
        worker._process.wait()
        np.testing.assert_array_equal(read(path), X)  # another process is started
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(hdf5_process, "_COMMAND", "import os; input(); os.abort()")
            hdf5_process._stop()
            with pytest.raises(
                InputError, match=r"a\.h5: cannot be read: the HDF5 library crashed"
            ):
                read(path)
        np.testing.assert_array_equal(read(path), X)

    def test_a_library_that_does_not_end_is_stopped(self, tmp_path: Path) -> None:
        from bridge_jax.data.embedding_formats import hdf5_process

        path = tmp_path / "a.h5"
        self.write(path)
        endless = (
            "import sys; sys.path[:0] = sys.argv[1:]; "
            "from bridge_jax.data.embedding_formats import hdf5_worker as worker; "
            "worker.STEP_SECONDS = 0; worker._allow_step.__defaults__ = (0,); "
            "worker._objects = lambda file: iter(int, 1); worker.main()"
        )
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(hdf5_process, "_COMMAND", endless)
            hdf5_process._stop()
            with pytest.raises(InputError, match="the HDF5 library crashed on it or did not end"):
                read(path)

    def test_a_writer_is_noticed(self, tmp_path: Path) -> None:
        path = tmp_path / "a.h5"
        self.write(path)
        with self.h5py.File(path, "a"), pytest.raises(InputError, match="lock"):
            read(path)
        assert open_embedding_file(path, ReadOptions()).num_rows == 20
        self.write(path)  # the reader holds no lock


def test_a_relative_path_is_that_of_the_present_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    h5py = pytest.importorskip("h5py")
    for folder, sign in (("a", 1), ("b", -1)):
        (tmp_path / folder).mkdir()
        with h5py.File(tmp_path / folder / "p.h5", "w") as file:
            for name, x in zip(IDS, X, strict=True):
                file.create_dataset(name, data=sign * x, chunks=x.shape)  # read by the process
        monkeypatch.chdir(tmp_path / folder)
        np.testing.assert_array_equal(read(Path("p.h5")), sign * X)
