"""Embedding files as other tools write them: the vector of an id is the one beside it."""

import zipfile
from pathlib import Path

import numpy as np
import pytest

from bridge_jax.data.embedding_files import open_embedding_file
from bridge_jax.errors import InputError
from bridge_jax.retrieval.results import read_embedding
from tests.helpers.embedding_checks import IDS, X, check, read, refusal, save_ids


class TestNumpy:
    @pytest.mark.parametrize("order", ["C", "F"])
    def test_any_memory_order(self, tmp_path, order):
        x = np.array(X, order=order)
        np.save(tmp_path / "a.npy", x)
        save_ids(tmp_path / "a.npy")
        check(tmp_path / "a.npy")
        for save in (np.savez, np.savez_compressed):
            save(tmp_path / "a.npz", ids=np.array(IDS), x=x)
            check(tmp_path / "a.npz")

    @pytest.mark.parametrize(
        "names",
        [("embeddings", "names"), ("X", "index"), ("emb", "accessions"), ("arr_0", "arr_1")],
    )
    def test_other_names_that_leave_no_doubt(self, tmp_path, names):
        x, ids = names
        np.savez(tmp_path / "a.npz", **{x: X, ids: np.array(IDS)})
        check(tmp_path / "a.npz")

    def test_one_vector_per_id(self, tmp_path):
        np.savez(tmp_path / "a.npz", **dict(zip(IDS, X, strict=True)))
        check(tmp_path / "a.npz")

    def test_doubt_is_refused_and_the_option_resolves_it(self, tmp_path):
        path = tmp_path / "a.npz"
        np.savez(path, mean=X, cls=X + 1, names=np.array(IDS), genes=np.array(IDS[::-1]))
        assert "mean, cls may all be the embeddings; pass --embedding-key mean" in refusal(path)
        check(path, X + 1, key="cls")
        check(path, X, IDS[::-1], key="mean", id_key="genes")
        np.savez(path, mean=X, genes=np.array(IDS), symbols=np.array(IDS))
        assert "genes, symbols may all be the ids; pass --id-key genes" in refusal(path)
        np.savez(path, mean=X)
        assert "no array 'ids' beside 'mean'" in refusal(path)

    @pytest.mark.parametrize("dtype", ["f4", "f8", "i8", "U", "S"])
    def test_whole_ids_are_whole_numbers(self, tmp_path, dtype):
        ids = np.array([9000.0, 9001.0]).astype(dtype)
        np.savez(tmp_path / "a.npz", ids=ids, x=X[:2])
        assert list(read(tmp_path / "a.npz")) == ["9000", "9001"]

    def test_ids_that_are_no_whole_numbers_are_refused(self, tmp_path):
        path = tmp_path / "a.npz"
        np.savez(path, ids=np.array([1.5, 2]), x=X[:2])
        assert "no array 'ids'" in refusal(path) or "not 1.5" in refusal(path)
        np.savez(path, ids=np.array([16777217, 1], "f4"), x=X[:2])
        assert "is not exact from 16,777,216 on; save the ids as text" in refusal(path)
        np.savez(path, ids=np.array(["a", "b"], object), x=X[:2])
        message = "ids is an object array (pandas writes such); save np.array(ids, str)"
        assert message in refusal(path)

    def test_ids_are_compared_in_nfc_without_blanks_around(self, tmp_path):
        np.savez(tmp_path / "a.npz", ids=np.array([" e\u0301 ", "b"]), x=X[:2])
        assert list(read(tmp_path / "a.npz")) == ["\u00e9", "b"]

    def test_a_header_that_claims_more_than_the_file_holds(self, tmp_path):
        header = "{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000, 5), }"
        raw = b"\x93NUMPY\1\0" + len(header).to_bytes(2, "little") + header.encode() + bytes(40)
        (tmp_path / "a.npy").write_bytes(raw)
        save_ids(tmp_path / "a.npy")
        assert "claims 20,000,000,000,000 bytes of data but the file ends" in refusal(
            tmp_path / "a.npy"
        )
        with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
            archive.writestr("x.npy", raw)
            archive.writestr("ids.npy", raw)
        assert "claims 20,000,000,000,000 bytes" in refusal(tmp_path / "a.npz")

    def test_a_bomb_is_refused_unless_it_is_asked_for(self, tmp_path):
        path = tmp_path / "a.npz"
        np.savez_compressed(path, ids=np.arange(100), x=np.ones((100, 10_000)))
        message = refusal(path, max_unpacked=0.001)
        assert "more than 200 times; if that is right, pass --max-unpacked 1" in message
        assert len(read(path, max_unpacked=1.0)) == 100

    def test_an_archive_with_one_name_twice_is_refused(self, tmp_path):
        path = tmp_path / "a.npz"
        np.savez(path, ids=np.array(IDS), x=X)
        with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(path, "a") as archive:
            archive.writestr("x.npy", b"")
        assert "two arrays are called 'x'" in refusal(path)


class TestOverflow:
    def test_float64_beyond_float32_is_a_fault_with_its_row(self, tmp_path):
        x = np.ones((3, 2))
        x[1, 1] = -1e300
        np.save(tmp_path / "a.npy", x)
        save_ids(tmp_path / "a.npy", "abc")
        (block,) = open_embedding_file(tmp_path / "a.npy").blocks(0, 3, 9, 2)
        assert block.faults == {1: "the value -1e+300, which is infinite as float32"}
        with pytest.raises(InputError, match=r"a.npy: row 1: the value -1e\+300"):
            read_embedding(tmp_path / "a.npy")


class TestHdf5:
    h5py = None

    @pytest.fixture(autouse=True)
    def _h5py(self):
        self.h5py = pytest.importorskip("h5py")

    def test_uniprot_one_dataset_per_protein(self, tmp_path):
        with self.h5py.File(tmp_path / "per-protein.h5", "w") as file:
            for name, x in zip(IDS, X.astype("f2"), strict=True):
                file.create_dataset(name, data=x)
        check(tmp_path / "per-protein.h5", X.astype("f2").astype("f4"))

    def test_bio_embeddings_original_id_and_residues(self, tmp_path):
        path = tmp_path / "embeddings.h5"
        rng = np.random.default_rng(0)
        residues = [rng.normal(size=(3 + i, 5)).astype("f4") for i in range(len(IDS))]
        with self.h5py.File(path, "w") as file:
            for i, (name, x) in enumerate(zip(IDS, residues, strict=True)):
                file.create_dataset(str(i), data=x, compression="gzip").attrs["original_id"] = name
        message = "'P04637' has shape (3, 5), one row per residue; pass --pool mean to average"
        assert message in refusal(path)
        means = np.stack([x.astype("f8").mean(axis=0).astype("f4") for x in residues])
        check(path, means, pool="mean")

    @pytest.mark.parametrize("names", [("x", "ids"), ("embeddings", "accessions"), ("m", "s")])
    def test_a_matrix_with_ids(self, tmp_path, names):
        with self.h5py.File(tmp_path / "a.hdf5", "w") as file:
            file.create_dataset(names[0], data=X, chunks=True)
            file.create_dataset(names[1], data=IDS)
        check(tmp_path / "a.hdf5")

    def test_a_group_per_id(self, tmp_path):
        with self.h5py.File(tmp_path / "a.h5", "w") as file:
            for name, x in zip(IDS, X, strict=True):
                file[f"{name}/embedding"] = x
        check(tmp_path / "a.h5")

    def test_what_cannot_be_right_is_refused(self, tmp_path):
        path = tmp_path / "a.h5"
        with self.h5py.File(path, "w") as file:
            file["a"] = self.h5py.ExternalLink("other.h5", "/x")
        assert "'a' is a link" in refusal(path)
        with self.h5py.File(path, "w") as file:
            file.create_dataset("a", (10**9, 10**3), "f4", chunks=(1000, 1000))
            file.create_dataset("b", (10**9, 10**3), "f4", chunks=(1000, 1000))
        assert "pass --max-unpacked" in refusal(path)
        with self.h5py.File(path, "w") as file:
            file["x"] = X
        assert "no array 'ids'" in refusal(path)

    def test_pandas_tables_are_named(self, tmp_path):
        pd = pytest.importorskip("pandas")
        pytest.importorskip("tables")
        pd.DataFrame(X, index=IDS).to_hdf(tmp_path / "a.h5", key="df")
        assert "is a table of pandas; save it with df.to_parquet" in refusal(tmp_path / "a.h5")

    @pytest.mark.parametrize("kind", ["dense", "csr", "csc"])
    def test_anndata(self, tmp_path, kind):
        anndata = pytest.importorskip("anndata")
        sparse = pytest.importorskip("scipy.sparse")
        pd = pytest.importorskip("pandas")
        make = {"dense": np.array, "csr": sparse.csr_matrix, "csc": sparse.csc_matrix}[kind]
        obs = pd.DataFrame({"symbol": pd.Categorical(IDS[::-1])}, index=IDS)
        data = anndata.AnnData(make(X), obs=obs, obsm={"X_pca": X[:, :2]})
        data.write_h5ad(tmp_path / "a.h5ad")
        check(tmp_path / "a.h5ad")
        check(tmp_path / "a.h5ad", X[:, :2], key="X_pca")
        check(tmp_path / "a.h5ad", X[:, :2], key="obsm/X_pca")
        check(tmp_path / "a.h5ad", X, IDS[::-1], id_key="symbol")
        assert "array 'X_umap' is not in" in refusal(tmp_path / "a.h5ad", key="X_umap")


class TestTensors:
    torch = None

    @pytest.fixture(autouse=True)
    def _torch(self):
        self.torch = pytest.importorskip("torch")

    def write_esm(self, folder, x, layers=(33,), key="mean_representations"):
        """As `scripts/extract.py` of fair-esm writes it: one file per label."""
        for name, row in zip(IDS, x, strict=True):
            result = {"label": name, key: {k: self.torch.tensor(row) + (k - 33) for k in layers}}
            (folder / f"{name}.pt").parent.mkdir(parents=True, exist_ok=True)
            self.torch.save(result, folder / f"{name}.pt")

    def test_esm_folder_and_file(self, tmp_path):
        self.write_esm(tmp_path / "protein", X)
        check(tmp_path / "protein")
        check(tmp_path / "protein" / "P04637.pt", X[:1], ["P04637"])

    def test_several_layers_need_the_option(self, tmp_path):
        self.write_esm(tmp_path / "protein", X, (32, 33))
        with pytest.raises(InputError, match="has the layers 32, 33; pass --layer 33"):
            read(tmp_path / "protein")
        check(tmp_path / "protein", X, layer=33)
        with pytest.raises(InputError, match="has no layer 12, it has: 32, 33"):
            read(tmp_path / "protein", layer=12)

    def test_esm_residues_are_pooled_when_asked(self, tmp_path):
        self.write_esm(tmp_path / "p", np.stack([X, X * 3], 1), key="representations")
        with pytest.raises(InputError, match="pass --pool mean"):
            read(tmp_path / "p")
        np.testing.assert_allclose(read(tmp_path / "p", pool="mean")["9606"], X[3] * 2, rtol=1e-6)

    @pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64"])
    def test_tensors_with_ids(self, tmp_path, dtype):
        tensor = self.torch.tensor(X).to(getattr(self.torch, dtype))
        x = tensor.to(self.torch.float32).numpy()
        self.torch.save(tensor, tmp_path / "a.pt")
        save_ids(tmp_path / "a.pt")
        check(tmp_path / "a.pt", x)
        self.torch.save({"embeddings": tensor, "ids": IDS}, tmp_path / "b.pt")
        check(tmp_path / "b.pt", x)
        self.torch.save(dict(zip(IDS, tensor, strict=True)), tmp_path / "c.pt")
        check(tmp_path / "c.pt", x)
        old = {"_use_new_zipfile_serialization": False}
        self.torch.save(dict(zip(IDS, tensor, strict=True)), tmp_path / "d.pt", **old)
        check(tmp_path / "d.pt", x)

    @pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
    def test_safetensors(self, tmp_path, dtype):
        save_file = pytest.importorskip("safetensors.torch").save_file
        tensor = self.torch.tensor(X).to(getattr(self.torch, dtype))
        x = tensor.to(self.torch.float32).numpy()
        save_file({"embeddings": tensor}, tmp_path / "a.safetensors")
        save_ids(tmp_path / "a.safetensors")
        check(tmp_path / "a.safetensors", x)
        by_id = {i: t.clone() for i, t in zip(IDS, tensor, strict=True)}
        save_file(by_id, tmp_path / "b.safetensors")
        check(tmp_path / "b.safetensors", x)

    def test_objects_are_not_loaded(self, tmp_path):
        self.torch.save({"a": Path("x")}, tmp_path / "a.pt")
        assert "holds Python objects besides tensors" in refusal(tmp_path / "a.pt")

    def test_a_tensor_that_repeats_one_value_is_a_bomb(self, tmp_path):
        wide = self.torch.ones(1).expand(10**9, 10**3)
        self.torch.save({"x": wide, "ids": IDS}, tmp_path / "a.pt")
        assert "pass --max-unpacked" in refusal(tmp_path / "a.pt")


class TestParquet:
    @pytest.fixture(autouse=True)
    def _parquet(self):
        self.pa = pytest.importorskip("pyarrow")
        self.pq = pytest.importorskip("pyarrow.parquet")

    @pytest.mark.parametrize("value", ["float16", "float32", "float64"])
    @pytest.mark.parametrize("make", ["list_", "large_list", "fixed"])
    def test_lists(self, tmp_path, value, make):
        pa, x = self.pa, X.astype(value)
        value_type = getattr(pa, value)()
        column_type = pa.list_(value_type, 5) if make == "fixed" else getattr(pa, make)(value_type)
        column = pa.array(list(x), column_type)
        self.pq.write_table(
            pa.table({"accession": IDS, "vector": column}), tmp_path / "a.parquet", row_group_size=4
        )
        check(tmp_path / "a.parquet", x.astype("f4"))

    @pytest.mark.parametrize("name", [None, "protein"])
    def test_a_pandas_index_is_the_id(self, tmp_path, name):
        pd = pytest.importorskip("pandas")
        index = pd.Index(IDS, name=name)
        pd.DataFrame({"embedding": list(X)}, index=index).to_parquet(tmp_path / "a.parquet")
        check(tmp_path / "a.parquet")
        frame = pd.DataFrame(X, index=index, columns=[str(i) for i in range(5)])
        frame.to_parquet(tmp_path / "b.parquet")
        check(tmp_path / "b.parquet")
        whole = frame.set_index(pd.Index(np.arange(6.0) + 9000))
        whole.to_parquet(tmp_path / "c.parquet")
        check(tmp_path / "c.parquet", X, [str(9000 + i) for i in range(6)])

    def test_polars(self, tmp_path):
        pl = pytest.importorskip("polars")
        frame = pl.DataFrame({"gene": IDS, "e": X}, schema_overrides={"gene": pl.Categorical})
        frame.write_parquet(tmp_path / "a.parquet")
        check(tmp_path / "a.parquet")
        pl.DataFrame({"gene": IDS, **{f"d{i}": X[:, i] for i in range(5)}}).write_parquet(
            tmp_path / "b.parquet"
        )
        check(tmp_path / "b.parquet")

    def test_numbers_beside_the_dimensions_are_refused(self, tmp_path):
        columns = {"id": IDS, "length": range(6), **{f"d{i}": X[:, i] for i in range(5)}}
        self.pq.write_table(self.pa.table(columns), tmp_path / "a.parquet")
        assert "'length' beside the 5 numbered columns 'd0'" in refusal(tmp_path / "a.parquet")

    def test_doubt_is_refused(self, tmp_path):
        path = tmp_path / "a.parquet"
        lists = self.pa.array(list(X))
        table = {"gene": IDS, "organism": IDS, "cls": lists, "mean": lists}
        self.pq.write_table(self.pa.table(table), path)
        assert "gene, organism may all be the ids; pass --id-key gene" in refusal(path)
        assert "cls, mean may all be the embeddings; pass --emb" in refusal(path, id_key="gene")
        check(path, id_key="gene", key="mean")
