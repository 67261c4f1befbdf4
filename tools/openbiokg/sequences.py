"""Protein sequences of UniProt, from the BLAST databases of Debian's package metastudent-data.

A BLAST 4 protein database is three files: `.pin`, an index with the offsets of each record; `.phr`,
the headers as ASN.1, each with the title `ACCESSION|GO:…`; and `.psq`, the residues as numbers from
1 to 27, with one NUL after each sequence.
"""

import struct
from collections.abc import Collection, Iterator
from pathlib import Path

import numpy as np

from bridge_jax.errors import InputError

from .fetch import Package, read_from_deb

PACKAGE = Package(
    content="protein sequences",
    source="UniProt",
    licence="CC-BY-4.0",
    redistributable=True,
    name="metastudent-data",
    version="2.0.1-8",
    registry="Debian",
    file="metastudent-data_2.0.1-8_all.deb",
    sha256="020ed0c560a5ba96f39c434399b3ecf0fa790a4776c4aac24458f837969ae54b",
    package_licence="GPL-2+",
)
_FOLDER = "usr/share/metastudent-data/dataset_201401"
_SUFFIXES = (".phr", ".pin", ".psq")
_RESIDUES = np.frombuffer(b"-ABCDEFGHIKLMNPQRSTVWXYZU*OJ", np.uint8)
_TITLE_TAG = b"\x30\x80\x30\x80\xa0\x80\x1a"  # ASN.1 tags before the first title of a header


def read(path: Path, accessions: Collection[str]) -> dict[str, str]:
    """Reads the sequences of some proteins.

    Args:
      path: File of `PACKAGE`.
      accessions: UniProt accessions to read.

    Returns:
      Sequence by accession; proteins that the package lacks are left out.

    Raises:
      InputError: The package or a database in it is damaged.
    """
    sequences: dict[str, str] = {}
    files: dict[str, dict[str, bytes]] = {}
    stems = [f"{_FOLDER}/{database}/goasp.fasta" for database in ("BPO", "CCO", "MFO")]
    names = [stem + suffix for stem in stems for suffix in _SUFFIXES]
    for name, content in read_from_deb(path, names):
        stem, _, suffix = name.rpartition(".")
        files.setdefault(stem, {})[suffix] = content
        if len(files[stem]) == len(_SUFFIXES):
            database = f"{path}: {stem}"
            for accession, sequence in _records(files.pop(stem), database, accessions):
                sequences.setdefault(accession, sequence)
    return sequences


def _records(
    files: dict[str, bytes], database: str, accessions: Collection[str]
) -> Iterator[tuple[str, str]]:
    """Yields accession and sequence of the wanted records of one database."""
    try:
        header_starts, sequence_starts = _offsets(files["pin"])
        residues = np.frombuffer(files["psq"], np.uint8)
        for i in range(len(header_starts) - 1):
            accession = _title(files["phr"], header_starts[i]).partition(b"|")[0].decode("ascii")
            if accession in accessions:
                codes = residues[sequence_starts[i] : sequence_starts[i + 1] - 1]
                yield accession, _RESIDUES[codes].tobytes().decode("ascii")
    except (struct.error, ValueError, IndexError) as e:
        raise InputError(f"{database}: not a BLAST 4 database of proteins, or damaged: {e}") from e


def _offsets(index: bytes) -> tuple[list[int], list[int]]:
    """Returns where headers and sequences start, one entry more than there are records.

    All numbers are big-endian, except the total length, which is skipped.
    """
    version, protein = struct.unpack_from(">ii", index, 0)
    if (version, protein) != (4, 1):
        raise ValueError(f"version {version}, type {protein}")
    position = 8
    for _ in ("title", "date"):
        position += 4 + struct.unpack_from(">i", index, position)[0]
    (count,) = struct.unpack_from(">i", index, position)
    position += 4 + 8 + 4  # the count, the total length and the longest length
    offsets = np.frombuffer(index, ">i4", 2 * (count + 1), position)
    return offsets[: count + 1].tolist(), offsets[count + 1 :].tolist()


def _title(headers: bytes, position: int) -> bytes:
    start = position + len(_TITLE_TAG)
    if headers[position:start] != _TITLE_TAG:
        raise ValueError(f"no title at byte {position} of the headers")
    length, start = headers[start], start + 1
    if length & 0x80:  # ASN.1's long form: the low bits count the bytes of the length
        end = start + (length & 0x7F)
        length, start = int.from_bytes(headers[start:end], "big"), end
    return headers[start : start + length]
