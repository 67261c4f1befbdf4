"""Opening of text files as people have them, whatever their compression, encoding and line ends.

A file of another format under the name of a text file is recognised by its first bytes.
"""

import codecs
import gzip
import io
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from bridge_jax.errors import InputError

GIT_LFS_POINTER = b"version https://git-lfs"  # the first bytes of a pointer file
READ_ERRORS = (EOFError, OSError, zlib.error, UnicodeDecodeError)  # of a damaged file

MAX_LINE_BYTES = 64 << 20

_PROBE_BYTES = 1 << 16
_TEXT_REMEDY = "give a plain or gzipped text file"
_NOT_TEXT = (
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file", f"{_TEXT_REMEDY}, or export its table as CSV"),
    (b"PAR1", "a Parquet file", "name it .parquet where Parquet is read, or save it as CSV"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Excel workbook", "save its sheet as CSV UTF-8"),
    (b"\x1f\x8b", "gzipped twice", "unpack it once with gunzip"),
    (b"BZh", "compressed with bzip2", "unpack it with bunzip2"),
    (b"\xfd7zXZ\x00", "compressed with xz", "unpack it with unxz"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd", "unpack it with unzstd"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", "unpack it"),
    (b"Rar!\x1a\x07", "a RAR archive", "unpack it"),
    (b"\x93NUMPY", "a NumPy array", _TEXT_REMEDY),
    (b"SQLite format 3\x00", "an SQLite database", "export the table as CSV"),
    (b"ARROW1", "an Arrow file", "save it as CSV"),
    (b"FEA1", "a Feather file", "save it as CSV"),
    (b"RDX", "an R data file", "save the table with write.csv(x, row.names = FALSE)"),
    (b"%PDF", "a PDF", _TEXT_REMEDY),
)
_WEB_PAGE = (b"<!doctype html", b"<html")


def open_decompressed(path: Path) -> io.BufferedIOBase:
    """Opens a plain or gzipped file for reading decompressed bytes.

    Gzip is recognised by the first bytes of the file, not by its name.

    Raises:
      InputError: The file is missing, empty, a Git LFS pointer or of a format that is not text.
    """
    opener = gzip.open if first_bytes(path)[:2] == b"\x1f\x8b" else open
    handle: io.BufferedIOBase = opener(path, "rb")
    try:
        _refuse_other_formats(path, handle.read(512), opener is gzip.open)
        handle.seek(0)
    except READ_ERRORS as e:
        handle.close()
        raise InputError(f"{path}: cannot be read: {e}") from e
    except InputError:
        handle.close()
        raise
    return handle


def first_bytes(path: Path) -> bytes:
    """Returns up to 64 bytes from the start of a file.

    Raises:
      InputError: The file is missing, empty or a Git LFS pointer.
    """
    if not path.is_file():
        folder = "is a folder, not a file" if path.is_dir() else "no such file"
        raise InputError(f"{path}: {folder}")
    with open(path, "rb") as handle:
        first = handle.read(64)
    if first.startswith(GIT_LFS_POINTER):
        raise InputError(f"{path}: this is a Git LFS pointer: run `git lfs pull`")
    if not first:
        raise InputError(f"{path}: the file is empty")
    return first


def open_text(path: Path) -> io.BufferedIOBase:
    """Opens a plain or gzipped text file for reading UTF-8 bytes.

    A byte order mark is skipped. UTF-16 and UTF-32 are recognised by it, or by their NUL bytes, and
    converted; bytes that are not valid UTF-8 are left to the caller. In a file whose lines end with
    carriage returns alone, these become line feeds.

    Raises:
      InputError: The file is missing, empty, a Git LFS pointer or of a format that is not text.
    """
    handle = open_decompressed(path)
    try:
        encoding, mark = _detect_encoding(handle.read(_PROBE_BYTES))
        handle.seek(mark)
        if encoding != "utf-8":
            transcoded = _Transcoded(path, handle, encoding)
            buffered = _buffered(transcoded)
            handle, start = buffered, buffered.peek(_PROBE_BYTES)
        else:
            start = handle.read(_PROBE_BYTES)
            handle.seek(mark)
    except READ_ERRORS as e:
        raise InputError(f"{path}: cannot be read: {e}") from e
    if b"\r" in start and b"\n" not in start:
        return _buffered(_WithLineFeeds(handle))
    return handle


def read_line(handle: io.BufferedIOBase, path: Path) -> bytes:
    """Reads a line with its line feed; the last one may have none.

    Args:
      handle: Text, as `open_text` opens it.
      path: Path of the file, for the error message.

    Raises:
      InputError: The line is longer than `MAX_LINE_BYTES`, as in a file that is no text.
    """
    line = handle.readline(MAX_LINE_BYTES)
    if len(line) >= MAX_LINE_BYTES and not line.endswith(b"\n"):
        raise InputError(
            f"{path}: a line is longer than {MAX_LINE_BYTES >> 20} MiB; {_TEXT_REMEDY} of "
            "shorter lines"
        )
    return line


def numbered_lines(path: Path) -> Iterator[tuple[int, str, str]]:
    """Reads a plain or gzipped text file line by line.

    Yields:
      Number of the line, from 1; its text with the line break; and the name of its encoding if it
      is not UTF-8.

    Raises:
      InputError: The file cannot be read to the end.
    """
    try:
        with open_text(path) as handle:
            number = 0
            while line := read_line(handle, path):
                number += 1
                yield number, *decode_line(line)
    except READ_ERRORS as e:
        raise InputError(f"{path}: cannot be read to the end: {e}") from e


def decode_line(line: bytes) -> tuple[str, str]:
    """Decodes a line of a text file.

    Args:
      line: Bytes, as `open_text` gives them.

    Returns:
      The text, and the name of the encoding if it is not UTF-8: `Windows-1252` or `Latin-1`.
    """
    try:
        return line.decode(), ""
    except UnicodeDecodeError:
        pass
    if any(0x80 <= byte < 0xA0 for byte in line):  # control characters in Latin-1
        try:
            return line.decode("cp1252"), "Windows-1252"
        except UnicodeDecodeError:
            pass
    return line.decode("latin-1"), "Latin-1"


def _refuse_other_formats(path: Path, first: bytes, gzipped: bool) -> None:
    if first.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        names = _members(path, gzipped)
        if any(name.startswith("xl/") for name in names):
            raise InputError(f"{path}: this is an Excel workbook: save its sheet as CSV UTF-8")
        raise InputError(f"{path}: this is a zip archive{_list(names)}: unpack it with unzip")
    if first[257:262] == b"ustar":
        names = _members(path, gzipped)
        raise InputError(
            f"{path}: this is a tar archive{_list(names)}: unpack it with tar -xf and give a file"
        )
    for magic, what, remedy in _NOT_TEXT:
        if first.startswith(magic):
            raise InputError(f"{path}: this is {what}: {remedy}")
    if first[:1] == b"\x80" and first[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        raise InputError(f"{path}: this is a pickle, which is never read: save it as CSV")
    if first.lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith(_WEB_PAGE):
        raise InputError(
            f"{path}: this is a web page, not a table: the download failed; download it again"
        )


def _members(path: Path, gzipped: bool) -> list[str]:
    """Returns the names of up to a hundred members of an archive; none if it is damaged."""
    try:
        with gzip.open(path) if gzipped else open(path, "rb") as handle:
            if gzipped or not zipfile.is_zipfile(path):
                with tarfile.open(fileobj=handle, mode="r|") as tar:
                    return [m.name for _, m in zip(range(100), tar, strict=False) if m.isfile()]
            return zipfile.ZipFile(path).namelist()[:100]
    except (tarfile.TarError, zipfile.BadZipFile, *READ_ERRORS):
        return []


def _list(names: list[str]) -> str:
    shown = ", ".join(name if name.isprintable() else ascii(name) for name in names[:5])
    return f" of {shown}{', …' if len(names) > 5 else ''}" if names else ""


def _detect_encoding(start: bytes) -> tuple[str, int]:
    """Returns the encoding of a text and the length of its byte order mark."""
    for mark, encoding in (
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark is its beginning
        (codecs.BOM_UTF32_BE, "utf-32-be"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
    ):
        if start.startswith(mark):
            return encoding, len(mark)
    sample = start[: min(len(start), 4096) & ~1]
    pairs = len(sample) // 2
    even, odd = sample[0::2].count(0), sample[1::2].count(0)
    if pairs and odd >= 0.4 * pairs and even <= 0.1 * pairs:
        return "utf-16-le", 0
    if pairs and even >= 0.4 * pairs and odd <= 0.1 * pairs:
        return "utf-16-be", 0
    return "utf-8", 0


class _Converted(io.RawIOBase):
    """Stream of the blocks of another one, converted."""

    def __init__(self, handle: io.BufferedIOBase) -> None:
        self._handle = handle
        self._ready = b""

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        self._handle.close()
        super().close()

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        at_end = False
        while not self._ready and not at_end:
            block = self._handle.read(_PROBE_BYTES)
            at_end = not block
            self._ready = self._convert(block)
        size = min(len(buffer), len(self._ready))
        buffer[:size], self._ready = self._ready[:size], self._ready[size:]
        return size

    def _convert(self, block: bytes) -> bytes:
        """Converts a block; an empty one is the end."""
        raise NotImplementedError


class _Transcoded(_Converted):
    """Stream of UTF-8 bytes of a text in another encoding."""

    def __init__(self, path: Path, handle: io.BufferedIOBase, encoding: str) -> None:
        super().__init__(handle)
        self._path, self._encoding = path, encoding
        self._decoder = codecs.getincrementaldecoder(encoding)()

    def _convert(self, block: bytes) -> bytes:
        try:
            return self._decoder.decode(block, final=not block).encode()
        except UnicodeDecodeError as e:
            reason = "it ends within a character" if not block else e.reason
            raise InputError(
                f"{self._path}: cannot be read as {self._encoding.upper()} ({reason}): the file "
                "seems cut: download it again, or save it as UTF-8"
            ) from e


class _WithLineFeeds(_Converted):
    """Stream with line feeds in place of carriage returns."""

    def _convert(self, block: bytes) -> bytes:
        return block.replace(b"\r", b"\n")


def _buffered(raw: _Converted) -> io.BufferedReader:
    return io.BufferedReader(raw, _PROBE_BYTES)
