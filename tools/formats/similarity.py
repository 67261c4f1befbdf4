"""Reader of similarity tables: pairs of a query and a target with a score.

| table | columns |
|---|---|
| BLAST, DIAMOND (`-outfmt 6`), MMseqs2, Foldseek | the usual 12 without a header; the bit score |
| with a header, or Parquet | a query, a target and a score, by one of the names below |
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bridge_jax.data.delimited_text import find_layout
from bridge_jax.data.text_files import READ_ERRORS, decode_line, first_bytes, open_text
from bridge_jax.errors import InputError

from .delimited import DelimitedFile
from .table_chunk import Column, Finding

QUERY_COLUMNS = ("query", "qseqid", "query_id")
TARGET_COLUMNS = ("target", "sseqid", "tseqid", "subject", "target_id")
SCORE_COLUMNS = ("score", "bits", "bitscore", "bit_score", "similarity")
_BLAST_COLUMNS = (
    "query", "target", "pident", "length", "mismatch", "gapopen", "qstart", "qend", "tstart",
    "tend", "evalue", "bits",
)  # fmt: skip
_MAX_COMMENTS = 1000
_PARQUET_ROWS = 1 << 18


class SimilarityRows(NamedTuple):
    """Some rows of a similarity table.

    Attributes:
      rows: `[n]` row numbers.
      query: Ids of the queries.
      target: Ids of the targets.
      score: `[n]` float32 scores; all are finite.
      rejects: Rows that cannot be used.
      notices: Oddities that cost no row.
      num_comments: Number of comment lines, which are no rows.
    """

    rows: np.ndarray
    query: Column[str]
    target: Column[str]
    score: np.ndarray
    rejects: Sequence[Finding] = ()
    notices: Sequence[Finding] = ()
    num_comments: int = 0


@dataclass(frozen=True)
class SimilarityFile:
    """A similarity table and its columns.

    Attributes:
      path: The file.
      query: Name of the column of the queries.
      target: Name of the column of the targets.
      score: Name of the column of the scores.
      text: How the text is read; None for Parquet.
    """

    path: Path
    query: str
    target: str
    score: str
    text: DelimitedFile | None = None

    def read(self) -> Iterator[SimilarityRows]:
        """Reads the file.

        Yields:
          Its rows in order; usable rows and rejects are all rows of the file.

        Raises:
          InputError: The file cannot be read to the end.
        """
        return _read_parquet(self) if self.text is None else _read_text(self, self.text)


def open_similarity(path: Path, delimiter: str = "") -> SimilarityFile:
    """Finds the format and the columns of a similarity table.

    Args:
      path: Text, plain or gzipped, or Parquet.
      delimiter: Field separator; default: found.

    Raises:
      InputError: The file is missing or empty, or lacks a column.
    """
    if first_bytes(path).startswith(b"PAR1"):
        names = _open_parquet(path).schema_arrow.names
        return SimilarityFile(path, *_choose_columns(path, names))
    if _is_blast(path):
        columns = "query", "target", "bits"
        text = DelimitedFile(path, columns, _BLAST_COLUMNS, "\t", "", _BLAST_COLUMNS)
        return SimilarityFile(path, *columns, text)
    known = (*QUERY_COLUMNS, *TARGET_COLUMNS, *SCORE_COLUMNS)
    names = find_layout(path, delimiter, known_columns=known).names
    columns = _choose_columns(path, names)
    return SimilarityFile(path, *columns, DelimitedFile(path, columns, names, delimiter))


def _choose_columns(path: Path, names: Sequence[str]) -> tuple[str, str, str]:
    found = []
    for role, candidates in (
        ("query", QUERY_COLUMNS), ("target", TARGET_COLUMNS), ("score", SCORE_COLUMNS)
    ):  # fmt: skip
        matching = [n for n in names if n.casefold() in candidates]
        if len(matching) != 1:
            what = f"no column {role}" if not matching else f"{len(matching)} columns {role}"
            shown = ", ".join(map(repr, names[:12])) + ", …" * (len(names) > 12)
            raise InputError(
                f"{path}: {what} among {shown}; a similarity table has the columns query, target "
                "and score, or the 12 columns of BLAST without a header (-outfmt 6)"
            )
        found += matching
    return found[0], found[1], found[2]


def _is_blast(path: Path) -> bool:
    """Whether the first line that is no comment has the 12 columns of BLAST and no header."""
    try:
        with open_text(path) as handle:
            for _ in range(_MAX_COMMENTS):
                line = handle.readline(1 << 20)
                if not line.startswith(b"#"):
                    break
    except READ_ERRORS as e:
        raise InputError(f"{path}: cannot be read: {e}") from e
    fields = decode_line(line)[0].rstrip("\r\n").split("\t")
    return len(fields) == len(_BLAST_COLUMNS) and all(map(_is_number, fields[2:]))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _read_text(file: SimilarityFile, text: DelimitedFile) -> Iterator[SimilarityRows]:
    for chunk in text.chunks():
        rejects = [f for f in chunk.rejects if not f.text.startswith("#")]
        query, target, score = (chunk.columns[n] for n in (file.query, file.target, file.score))
        yield _usable(
            file.path.name, chunk.rows, query, target, _numbers(score), rejects, chunk.notices,
            len(chunk.rejects) - len(rejects),
        )  # fmt: skip


def _numbers(column: Column[str]) -> np.ndarray:
    """Returns the numbers of a column of text; NaN for what is none."""
    try:
        values = np.array(column.values, object).astype(np.float64)
    except ValueError:
        values = np.array([float(v) if _is_number(v) else np.nan for v in column.values])
    return values[column.codes]


def _usable(
    file: str,
    rows: np.ndarray,
    query: Column[str],
    target: Column[str],
    score: np.ndarray,
    rejects: list[Finding],
    notices: Sequence[Finding] = (),
    num_comments: int = 0,
) -> SimilarityRows:
    """Takes out the rows without an id or without a finite score."""
    with np.errstate(over="ignore"):
        score = score.astype(np.float32)
    empty = [
        np.array([not v for v in c.values], bool)[c.codes]
        if len(c.codes) else np.zeros(0, bool) for c in (query, target)
    ]  # fmt: skip
    reasons = (
        (empty[0], "no query"),
        (empty[1], "no target"),
        (~np.isfinite(score), "the score is not a finite number"),
    )
    bad = np.zeros(len(rows), bool)
    for is_bad, reason in reasons:
        for i in np.flatnonzero(is_bad & ~bad).tolist():
            text = f"{query.values[query.codes[i]]}, {target.values[target.codes[i]]}"
            rejects.append(Finding(file, int(rows[i]), reason, text))
        bad |= is_bad
    kept = ~bad
    return SimilarityRows(
        rows[kept],
        replace(query, codes=query.codes[kept]),
        replace(target, codes=target.codes[kept]),
        score[kept],
        rejects,
        notices,
        num_comments,
    )


def _open_parquet(path: Path) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path, page_checksum_verification=True)
        _ = file.schema_arrow.names  # may not be UTF-8
    except (pa.ArrowException, OSError, ValueError, OverflowError, MemoryError) as e:
        raise InputError(f"{path}: cannot be read: {' '.join(str(e).split())}") from e
    return file


def _read_parquet(file: SimilarityFile) -> Iterator[SimilarityRows]:
    import pyarrow as pa

    names = (file.query, file.target, file.score)
    row = 1
    try:
        for batch in _open_parquet(file.path).iter_batches(_PARQUET_ROWS, columns=list(names)):
            columns = [batch.column(batch.schema.get_field_index(n)) for n in names]
            query, target = (_ids(columns[i], names[i], file.path) for i in (0, 1))
            score = columns[2].cast(pa.float64()).to_numpy(zero_copy_only=False)
            rows = np.arange(row, row + len(score))
            yield _usable(file.path.name, rows, query, target, score, [])
            row += len(score)
    except (pa.ArrowException, OSError, OverflowError, MemoryError) as e:
        raise InputError(f"{file.path}: cannot be read: {' '.join(str(e).split())}") from e


def _ids(column: Any, name: str, path: Path) -> Column[str]:
    """Returns a column of ids as text; null is an empty text."""
    import pyarrow as pa

    dtype = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if pa.types.is_nested(dtype) or pa.types.is_binary(dtype):
        raise InputError(f"{path}: column {name!r} has {dtype}; expected text or numbers")
    encoded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    values = ["" if v is None else str(v).strip() for v in encoded.dictionary.to_pylist()]
    codes = encoded.indices.fill_null(len(values)).to_numpy(zero_copy_only=False)
    return Column([*values, ""], codes.astype(np.int64))
