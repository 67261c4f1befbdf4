"""Format of a file by its first bytes, and what to do about one that cannot be read."""

import zipfile
from pathlib import Path
from typing import NamedTuple

from bridge_jax.data.embedding_formats.base import one_line
from bridge_jax.data.embedding_formats.ids import encoding_of
from bridge_jax.errors import InputError

_HEAD = 4096
_USER_BLOCKS = (0, 512, 1024, 2048)  # where an HDF5 file may begin


class Format(NamedTuple):
    """A file format.

    Attributes:
      name: Key of the format.
      noun: What a file of it is, for messages.
      suffixes: Suffixes of files that are read; empty if the format is not read.
      remedy: What to do with a file that cannot be read.
      may_hold_embeddings: Whether such a file in a folder of embeddings must not be passed over.
    """

    name: str
    noun: str
    suffixes: tuple[str, ...] = ()
    remedy: str = ""
    may_hold_embeddings: bool = True


_TABLE = "save it as CSV or Parquet"
NPZ = Format("npz", "a NumPy archive (npz)", (".npz",))
NPY = Format("npy", "a NumPy array (npy)", (".npy",))
PARQUET = Format("parquet", "a Parquet file", (".parquet", ".pq"))
HDF5 = Format("hdf5", "an HDF5 file", (".h5", ".hdf5", ".hdf", ".h5ad"))
TORCH = Format("torch", "a PyTorch file", (".pt", ".pth"))
SAFETENSORS = Format("safetensors", "a safetensors file", (".safetensors",))
TEXT = Format("text", "text", (".csv", ".tsv", ".txt", ".tab", ".emb", ".vec"))
GZIP = Format("gzip", "gzip-compressed", (), "unpack it with gunzip")
EMPTY = Format("empty", "empty", (), "download or export it again")
PICKLE = Format(
    "pickle", "a Python pickle, which can run code and is not opened", (),
    "load it where you trust it and save np.savez(file, ids=np.array(ids, str), x=x)",
)  # fmt: skip
ARCHIVE = Format("archive", "a zip archive", (), "unpack it with unzip")
XLSX = Format("xlsx", "an Excel workbook", (), _TABLE)
OFFICE = Format("office", "an office document", (), "remove it", False)
UNKNOWN = Format("unknown", "of no known format", (), "save it as npz, or move it elsewhere")
JSON = Format("json", "JSON", (), "save it as npz", False)
HTML = Format("html", "a web page, not the data", (), "download it again", False)
LFS = Format("lfs", "a pointer of Git LFS, not the data", (), "get it with git lfs pull")
FASTA = Format(
    "fasta", "a FASTA file of sequences", (), "encode it with python -m tools.export_embeddings",
    False,
)  # fmt: skip
READABLE = (NPZ, NPY, PARQUET, HDF5, TORCH, SAFETENSORS, TEXT)
SUFFIXES = tuple(s for f in READABLE for s in f.suffixes)

_MAGIC: tuple[tuple[bytes, Format], ...] = (
    (b"\x93NUMPY", NPY),
    (b"PAR1", PARQUET),
    (b"PARE", Format("encrypted", "an encrypted Parquet file", (), "decrypt it")),
    (b"\x1f\x8b", GZIP),
    (b"BZh", Format("bzip2", "bzip2-compressed", (), "unpack it with bunzip2")),
    (b"\xfd7zXZ\0", Format("xz", "xz-compressed", (), "unpack it with unxz")),
    (b"\x28\xb5\x2f\xfd", Format("zstd", "zstd-compressed", (), "unpack it with unzstd")),
    (b"7z\xbc\xaf\x27\x1c", Format("7z", "a 7-Zip archive", (), "unpack it with 7z x")),
    (b"Rar!\x1a\x07", Format("rar", "a RAR archive", (), "unpack it with unrar x")),
    (b"ARROW1", Format("feather", "an Arrow (Feather) file", (), _TABLE)),
    (b"ORC", Format("orc", "an ORC file", (), _TABLE)),
    (b"Obj\x01", Format("avro", "an Avro file", (), _TABLE)),
    (b"SQLite format 3\0", Format("sqlite", "an SQLite database", (), _TABLE)),
    (b"\xd0\xcf\x11\xe0", Format("xls", "an old Excel workbook", (), _TABLE)),
    (b"MATLAB 5.0", Format("matlab", "a MATLAB file", (), "save it with -v7.3 or as CSV")),
    (b"RDX", Format("rdata", "an R data file", (), "save it with arrow::write_parquet")),
    (b"%PDF", Format("pdf", "a PDF document", (), "remove it", False)),
    (b"\x89PNG", Format("png", "an image", (), "remove it", False)),
    (b"\xff\xd8\xff", Format("jpeg", "an image", (), "remove it", False)),
    (b"GIF8", Format("gif", "an image", (), "remove it", False)),
    (b"version https://git-lfs", LFS),
    # PyTorch before 1.6 wrote pickles that begin with this number.
    (b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.", TORCH),
)  # fmt: skip
_OLD_PICKLES = (b"(dp0", b"(lp0", b"cnumpy", b"ccopy_reg", b"cpandas", b"(dp1", b"(lp1")


def detect(path: Path) -> Format:
    """Returns the format of a file, by its content.

    Raises:
      InputError: The file is a zip archive that cannot be listed.
    """
    with open(path, "rb") as handle:
        head = handle.read(_HEAD)
    if not head:
        return EMPTY
    for magic, found in _MAGIC:
        if head.startswith(magic):
            return found
    if any(head[at : at + 8] == b"\x89HDF\r\n\x1a\n" for at in _USER_BLOCKS):
        return HDF5
    if head[257:262] == b"ustar":
        return Format("tar", "a tar archive", (), "unpack it with tar -xf")
    if head.startswith((b"PK\3\4", b"PK\5\6")):
        return _zip_format(path)
    if len(head) > 8 and head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 100_000_000:
        return SAFETENSORS
    if (head[0] == 0x80 and len(head) > 1 and head[1] in range(2, 6)) or head.startswith(
        _OLD_PICKLES
    ):
        return PICKLE
    return format_of_text(head)


def _zip_format(path: Path) -> Format:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as e:
        raise InputError(
            f"{path}: cannot be read: a zip archive that is damaged or cut off "
            f"({one_line(str(e))}); {EMPTY.remedy}"
        ) from e
    if any(n.endswith("data.pkl") for n in names):
        return TORCH
    if any(n.endswith(".npy") for n in names) or not names:
        return NPZ
    if "[Content_Types].xml" in names:
        return XLSX if any(n.startswith("xl/") for n in names) else OFFICE
    members = one_line(", ".join(names[:3]), 80)
    return ARCHIVE._replace(noun=f"a zip archive of {len(names)} files ({members})")


def format_of_text(head: bytes) -> Format:
    """Returns the format of bytes without a known signature."""
    text = head.decode(encoding_of(head) or "latin-1", errors="replace").lstrip("\ufeff \t\r\n")
    if any(ord(c) < 32 and c not in "\t\n\r\f\v" for c in text):
        return UNKNOWN
    if text[:1] in ("{", "["):
        return JSON
    if text[:1] == ">":
        return FASTA
    if text[:9].lower() == "<!doctype" or text[:5].lower() in ("<html", "<?xml"):
        return HTML
    return TEXT


def refuse(path: Path, found: Format) -> InputError:
    """Builds the error for a file that is not read under its name."""
    if not found.suffixes:
        return InputError(f"{path}: is {found.noun}; {found.remedy}")
    stem = path.name.removesuffix(path.suffix) or path.name
    return InputError(
        f"{path}: cannot be read under this name, as it is {found.noun}; rename it to "
        f"{stem}{found.suffixes[0]}"
    )
