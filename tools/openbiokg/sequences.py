"""Protein sequences of UniProt, from the BLAST databases that Debian ships for metastudent.

A BLAST 4 database of proteins is three files: `.pin`, an index with the offsets of each record;
`.phr`, the headers as ASN.1, whose title here reads `ACCESSION|GO:…`; and `.psq`, the residues as
numbers from 1 to 27, one NUL after each sequence.
"""

import struct
from collections.abc import Collection, Iterator
from pathlib import Path

import numpy as np

from bridge_jax.errors import InputError

from .fetch import Package, read_members

PACKAGE = Package(
    part="protein sequences",
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
_TITLE = b"\x30\x80\x30\x80\xa0\x80\x1a"  # what stands before a header's first title


def read(path: Path, wanted: Collection[str]) -> dict[str, str]:
    """Read the sequences of some proteins.

    Args:
      path: the package.
      wanted: UniProt accessions.

    Returns:
      Accession to sequence, for those that are there.

    Raises:
      InputError: the package or a database in it is damaged.
    """
    found: dict[str, str] = {}
    files: dict[str, dict[str, bytes]] = {}
    stems = [f"{_FOLDER}/{part}/goasp.fasta" for part in ("BPO", "CCO", "MFO")]
    for name, content in read_members(path, [s + e for s in stems for e in _SUFFIXES]):
        stem, _, suffix = name.rpartition(".")
        files.setdefault(stem, {})[suffix] = content
        if len(files[stem]) == len(_SUFFIXES):
            for accession, sequence in _records(files.pop(stem), f"{path}: {stem}", wanted):
                found.setdefault(accession, sequence)
    return found


def _records(
    files: dict[str, bytes], where: str, wanted: Collection[str]
) -> Iterator[tuple[str, str]]:
    try:
        headers, sequences = _offsets(files["pin"])
        residues = np.frombuffer(files["psq"], np.uint8)
        for i in range(len(headers) - 1):
            accession = _title(files["phr"], headers[i]).partition(b"|")[0].decode("ascii")
            if accession in wanted:
                codes = residues[sequences[i] : sequences[i + 1] - 1]
                yield accession, _RESIDUES[codes].tobytes().decode("ascii")
    except (struct.error, ValueError, IndexError) as e:
        raise InputError(f"{where}: not a BLAST 4 database of proteins, or damaged: {e}") from e


def _offsets(index: bytes) -> tuple[list[int], list[int]]:
    """The offsets of headers and sequences; numbers are big-endian, but for one not read here."""
    version, protein = struct.unpack_from(">ii", index, 0)
    if (version, protein) != (4, 1):
        raise ValueError(f"version {version}, type {protein}")
    at = 8
    for _ in ("title", "date"):
        at += 4 + struct.unpack_from(">i", index, at)[0]
    (count,) = struct.unpack_from(">i", index, at)
    at += 4 + 8 + 4  # then the total length and the longest
    both = np.frombuffer(index, ">i4", 2 * (count + 1), at)
    return both[: count + 1].tolist(), both[count + 1 :].tolist()


def _title(headers: bytes, at: int) -> bytes:
    start = at + len(_TITLE)
    if headers[at:start] != _TITLE:
        raise ValueError(f"no title at byte {at} of the headers")
    length, start = headers[start], start + 1
    if length & 0x80:  # the long form: how many bytes hold the length
        end = start + (length & 0x7F)
        length, start = int.from_bytes(headers[start:end], "big"), end
    return headers[start : start + length]
