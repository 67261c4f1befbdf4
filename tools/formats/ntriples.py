r"""Reader of N-Triples: `<subject> <predicate> <object> .`, a triple per line, plain or gzipped.

A node's type and id come from its IRI by the first rule that fits:

| IRI | type | id |
|---|---|---|
| `http://purl.obolibrary.org/obo/GO_0008150` | `GO` | `GO:0008150` |
| `https://identifiers.org/ncbigene:9606`, `http://bio2rdf.org/drugbank:DB00001` | the prefix \
| the rest |
| `https://identifiers.org/uniprot/P04637`, `http://example.org/gene#TP53` | the last segment but \
one | the last segment |

`--iri-pattern` gives another rule: a regular expression with the groups `type` and `id`. The
relation is the last segment of the predicate. `rdfs:label` gives the name of a node; a literal or a
blank node makes any other triple a reject.
"""

import re
from collections.abc import Iterator
from io import BufferedIOBase
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np

from bridge_jax.data.delimited_text import read_block
from bridge_jax.data.text_files import READ_ERRORS, open_text
from bridge_jax.errors import InputError

from .delimited import Column, Finding
from .edges import Edges, EdgesBuilder, SourceNode, Unusable

_LABEL = "http://www.w3.org/2000/01/rdf-schema#label"
_BLOCK_BYTES = 8 << 20
_BLOCK_LINES = 1 << 17
_TRIPLE = (
    r"^[ \t]*(?P<subject><[^>]*>|_:[^ \t]+)[ \t]*(?P<predicate><[^>]*>)[ \t]*"
    r'(?P<object><[^>]*>|_:[^ \t]+|"(?:[^"\\]|\\.)*"(?:@[A-Za-z0-9-]+|\^\^<[^>]*>)?)[ \t]*\.'
    r"[ \t]*(?:#.*)?\r?$"
)
_RULES = tuple(
    re.compile(rule)
    for rule in (
        r"/obo/(?P<type>[A-Za-z]+)_(?P<id>[^/#]+)$",
        r"[/#](?P<type>[A-Za-z][\w.-]*):(?P<id>[^/#]+)$",
        r"[/:](?P<type>[^/#:]+)[/#](?P<id>[^/#]+)$",
    )
)


def compile_iri_pattern(pattern: str) -> re.Pattern[str]:
    """Compiles the value of `--iri-pattern`.

    Raises:
      InputError: It is no regular expression with the groups `type` and `id`.
    """
    try:
        compiled = re.compile(pattern)
    except re.error as e:
        raise InputError(f"--iri-pattern {pattern!r}: not a regular expression: {e}") from e
    if not {"type", "id"} <= set(compiled.groupindex):
        raise InputError(
            f"--iri-pattern {pattern!r}: no groups type and id; write e.g. "
            r"'/(?P<type>\w+)/(?P<id>\w+)$'"
        )
    return compiled


def read(path: Path, iri_pattern: re.Pattern[str] | None = None) -> Edges:
    """Reads a file of N-Triples.

    Args:
      path: The file.
      iri_pattern: Expression with the groups `type` and `id` that an IRI is searched for; default:
        the rules of the module docstring.

    Returns:
      The edges; a triple with a literal, a blank node or an IRI that fits no rule is a reject.

    Raises:
      InputError: The file is missing or truncated.
    """
    builder = EdgesBuilder()
    builder.edges.files.append(path.name)
    rules = (iri_pattern,) if iri_pattern else _RULES
    names: dict[SourceNode, str] = {}
    for first_row, lines in _line_blocks(path):
        _add_block(builder, path.name, first_row, lines, rules, names)
    edges = builder.build()
    edges.nodes = [node._replace(name=names.get(node, "")) for node in edges.nodes]
    return edges


def _line_blocks(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yields the first line number and the lines of each block of a file."""
    try:
        with open_text(path) as handle:
            row = 1
            while lines := _read_lines(handle, path):
                for first in range(0, len(lines), _BLOCK_LINES):
                    yield row + first, lines[first : first + _BLOCK_LINES]
                row += len(lines)
    except READ_ERRORS as e:
        raise InputError(f"{path}: cannot be read to the end: {e}") from e


def _read_lines(handle: BufferedIOBase, path: Path) -> list[str]:
    block, _ = read_block(handle, _BLOCK_BYTES, path)
    text = block.decode("utf-8", errors="replace").removesuffix("\n")
    return text.split("\n") if block else []


def _add_block(
    builder: EdgesBuilder,
    file: str,
    first_row: int,
    lines: list[str],
    rules: tuple[re.Pattern[str], ...],
    names: dict[SourceNode, str],
) -> None:
    import pyarrow as pa
    import pyarrow.compute as pc

    rows = np.arange(first_row, first_row + len(lines))
    terms = pc.extract_regex(pa.array(lines), _TRIPLE)
    is_triple = pc.is_valid(terms).to_numpy(zero_copy_only=False)
    for i in np.flatnonzero(~is_triple).tolist():
        if (text := lines[i].strip()) and not text.startswith("#"):
            builder.edges.rejects.append(Finding(file, int(rows[i]), "no N-Triple", text))
    terms, rows = terms.filter(pa.array(is_triple)), rows[is_triple]
    subject, predicate, object_ = (_encode(pc.struct_field(terms, [i])) for i in range(3))
    is_label = np.array([p == f"<{_LABEL}>" for p in predicate.values], bool)[predicate.codes]
    heads = [_node(v, rules) for v in subject.values]
    for i in np.flatnonzero(is_label).tolist():
        node = heads[subject.codes[i]]
        literal = object_.values[object_.codes[i]]
        if isinstance(node, SourceNode) and literal.startswith('"'):
            names.setdefault(node, _unescape(literal[1 : literal.rindex('"')]))
    keep = ~is_label
    builder.add_edges(
        rows[keep],
        Column(heads, subject.codes[keep]),
        Column([_relation(v) for v in predicate.values], predicate.codes[keep]),
        Column([_node(v, rules) for v in object_.values], object_.codes[keep]),
    )


def _encode(array: Any) -> Column[str]:
    """Dictionary-encodes an Arrow array of strings."""
    encoded = array.dictionary_encode()
    codes = encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    return Column(encoded.dictionary.to_pylist(), codes)


def _node(term: str, rules: tuple[re.Pattern[str], ...]) -> SourceNode | Unusable:
    if not term.startswith("<"):
        return Unusable("a blank node" if term.startswith("_:") else "a literal, not a node")
    iri = unquote(_unescape(term[1:-1]))
    for rule in rules:
        if (found := rule.search(iri)) and found["type"] and found["id"]:
            node_type, id_ = found["type"], found["id"]
            return SourceNode(node_type, f"{node_type}:{id_}" if rule is _RULES[0] else id_, "", "")
    return Unusable("an IRI without a type; give a rule with --iri-pattern")


def _relation(term: str) -> str:
    iri = unquote(_unescape(term[1:-1]))
    return re.split(r"[/#]", iri.rstrip("/#"))[-1]


def _unescape(text: str) -> str:
    r"""Replaces the escapes of N-Triples: `\t`, `\"`, `\u00e9`, …"""
    if "\\" not in text:
        return text
    short = {"t": "\t", "n": "\n", "r": "\r", "b": "\b", "f": "\f"}

    def character(match: re.Match[str]) -> str:
        code = match[1]
        if code[0] in "uU" and len(code) > 1:
            value = int(code[1:], 16)
            return chr(value) if value < 0x110000 and not 0xD800 <= value < 0xE000 else "\ufffd"
        return short.get(code, code)

    return re.sub(r"\\(u[0-9A-Fa-f]{4}|U[0-9A-Fa-f]{8}|.)", character, text)
