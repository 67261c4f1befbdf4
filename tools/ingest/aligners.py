"""Programs that align protein sequences, and the table of similar pairs that they make."""

import csv
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from bridge_jax.data.files import atomic_file
from bridge_jax.data.findings import Findings, num_rows
from bridge_jax.data.similarity import best_pairs
from bridge_jax.encoders.base import EncodingError, parse_protein
from bridge_jax.errors import InputError

from ..formats.delimited import DelimitedFile
from ..formats.entities import Entities
from ..formats.table_chunk import Finding

_COLUMNS = ("query", "target", "bits")


@dataclass(frozen=True)
class AlignOptions:
    """Options of an alignment.

    Attributes:
      threads: Number of threads.
      max_targets: Maximum number of targets of a query, itself included.
      evalue: Largest e-value of a pair.
    """

    threads: int = 1
    max_targets: int = 200
    evalue: float = 1e-3


@dataclass
class Sequences:
    """Protein sequences to align, and what cannot be aligned.

    Attributes:
      file: Name of the file.
      ids: Distinct ids.
      owner: For each sequence the index of its id; an id may have several.
      sequences: The distinct sequences of each id.
      num_rows: Number of rows of the file.
      failed: Rows without a usable sequence.
    """

    file: str
    ids: list[str] = field(default_factory=list)
    owner: list[int] = field(default_factory=list)
    sequences: list[str] = field(default_factory=list)
    num_rows: int = 0
    failed: list[Finding] = field(default_factory=Findings)

    def __str__(self) -> str:
        text = f"{self.file}: {len(self.sequences)} sequences of {len(self.ids)} ids"
        text += f" in {self.num_rows} rows"
        if self.failed:
            first = self.failed[0]
            text += f"; {num_rows(self.failed)} rows cannot be used, first row {first.row}: "
            text += f"{first.reason}"
        return text


def read_sequences(entities: Entities) -> Sequences:
    """Reads the sequences to align.

    Args:
      entities: File of proteins.

    Raises:
      InputError: The file cannot be read to the end, or has no usable sequence.
    """
    result = Sequences(entities.path.name)
    findings = Findings()
    index_of: dict[str, int] = {}
    seen: set[tuple[int, str]] = set()
    for row in entities.read(findings):
        result.num_rows += 1
        try:
            if not row.id or row.reason or not row.text:
                raise EncodingError("no id" if not row.id else row.reason or "no sequence")
            sequence = parse_protein(row.text)
            if not sequence:
                raise EncodingError("no sequence")
        except EncodingError as e:
            result.failed.append(Finding(result.file, row.row, f"{row.id!r}: {e}", row.id))
            continue
        owner = index_of.setdefault(row.id, len(index_of))
        if (owner, sequence) not in seen:
            seen.add((owner, sequence))
            result.owner.append(owner)
            result.sequences.append(sequence)
    rejects = [f for f in findings if f.num_rows]
    result.num_rows += num_rows(rejects)
    result.failed = sorted([*result.failed, *rejects], key=lambda f: f.row)
    result.ids = list(index_of)
    if not result.ids:
        raise InputError(f"{entities.path}: no sequence to align; {result}")
    return result


def _diamond(program: str, fasta: Path, hits: Path, options: AlignOptions) -> list[list[str]]:
    threads = ["--threads", str(options.threads), "--quiet"]
    database = str(fasta.with_suffix(".dmnd"))
    return [
        [program, "makedb", "--in", str(fasta), "--db", database, *threads],
        [program, "blastp", "--query", str(fasta), "--db", database, "--out", str(hits),
         "--sensitive", "-k", str(options.max_targets), "-e", str(options.evalue),
         "--outfmt", "6", "qseqid", "sseqid", "bitscore", "--tmpdir", str(fasta.parent), *threads],
    ]  # fmt: skip


def _mmseqs(program: str, fasta: Path, hits: Path, options: AlignOptions) -> list[list[str]]:
    folder = str(fasta.parent / "mmseqs")
    return [
        [program, "easy-search", str(fasta), str(fasta), str(hits), folder,
         "--max-seqs", str(options.max_targets), "-e", str(options.evalue),
         "--format-output", "query,target,bits", "--threads", str(options.threads), "-v", "1"],
    ]  # fmt: skip


# Name of the program to its Debian package and commands.
ALIGNERS: dict[str, tuple[str, Callable[[str, Path, Path, AlignOptions], list[list[str]]]]] = {
    "diamond": ("diamond-aligner", _diamond),
    "mmseqs": ("mmseqs2", _mmseqs),
}


def find_aligner(name: str = "") -> tuple[str, str]:
    """Finds an installed aligner.

    Args:
      name: One of `ALIGNERS`; default: the first one that is installed.

    Returns:
      Name and path of the program.

    Raises:
      InputError: It is not installed.
    """
    for candidate in [name] if name else ALIGNERS:
        if program := shutil.which(candidate):
            return candidate, program
    if name:
        raise InputError(
            f"{name} is not on the PATH; install it, e.g. Debian's package {ALIGNERS[name][0]}"
        )
    raise InputError(
        "neither diamond nor mmseqs is on the PATH; install one of them, e.g. Debian's package "
        + " or ".join(package for package, _ in ALIGNERS.values())
    )


def align(
    aligner: str, program: str, sequences: Sequences, output: Path, options: AlignOptions
) -> str:
    """Aligns all sequences with each other and writes the similar pairs.

    Args:
      aligner: One of `ALIGNERS`.
      program: Path of the program.
      sequences: The sequences.
      output: Table to write, with the columns query, target and score.
      options: Options of the alignment.

    Returns:
      A report to print.

    Raises:
      InputError: The program fails.
    """
    with tempfile.TemporaryDirectory(prefix="align-") as folder:
        fasta, hits = Path(folder) / "sequences.fasta", Path(folder) / "hits.tsv"
        lines = (f">{i}\n{s}\n" for i, s in enumerate(sequences.sequences))
        fasta.write_text("".join(lines), encoding="ascii")
        for command in ALIGNERS[aligner][1](program, fasta, hits, options):
            _run(aligner, command)
        query, target, score, num_hits = _read_hits(aligner, hits, sequences)
    ids = sequences.ids
    with (
        atomic_file(output) as temporary,
        open(temporary, "w", encoding="utf-8", newline="") as handle,
    ):
        writer = csv.writer(handle, delimiter="\t", lineterminator="\n")
        writer.writerow(("query", "target", "score"))
        writer.writerows(
            (ids[q], ids[t], f"{s:.7g}")
            for q, t, s in zip(query.tolist(), target.tolist(), score.tolist(), strict=True)
        )
    with_target = len(np.unique(query))
    return (
        f"{aligner}: {num_hits} hits; {output}: {len(query)} pairs, "
        f"{with_target} of {len(ids)} ids have a similar one"
    )


def _run(aligner: str, command: Sequence[str]) -> None:
    done = subprocess.run(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, errors="replace"
    )
    if done.returncode:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        why = lines[-1] if lines else "no message"
        raise InputError(f"{aligner} failed with exit code {done.returncode}: {why}")


def _read_hits(
    aligner: str, hits: Path, sequences: Sequences
) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Returns the best score of each pair of different ids, and the number of hits."""
    owner = np.array(sequences.owner, np.int64)
    columns: list[list[np.ndarray]] = [[np.zeros(0, t)] for t in (np.int64, np.int64, np.float64)]
    if hits.is_file() and hits.stat().st_size:
        for chunk in DelimitedFile(hits, _COLUMNS, (), "\t", "", _COLUMNS).chunks():
            if chunk.rejects:
                first = chunk.rejects[0]
                raise InputError(f"{aligner}: row {first.row} of its hits: {first.reason}")
            for name, dtype, parts in zip(_COLUMNS, ("i8", "i8", "f8"), columns, strict=True):
                column = chunk.columns[name]
                parts.append(np.array(column.values, object).astype(dtype)[column.codes])
    query, target, score = map(np.concatenate, columns)
    num_hits = len(query)
    query, target = owner[query], owner[target]
    other = query != target
    pairs = best_pairs(query[other], target[other], score[other], len(sequences.ids))
    return *pairs, num_hits
