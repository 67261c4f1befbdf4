"""Reader of the data folder of the BioBridge reference repository (RyanWangZf/BioBridge).

Files that are read from a clone or from its `data/` folder:

| file | content |
|---|---|
| `BindData/data_config.json` | `node_type` and `relation_type`: the code of each name |
| `BindData/triplet_full.csv` | `x_index, y_index, display_relation, relation, x_type, y_type` |
| `BindData/train_test_split/triplet_train.csv`, `triplet_test.csv` | the same columns; both are \
read if there is no `triplet_full.csv` |
| `Processed/*.csv` | ids and names by `node_index`; optional |

Triples refer to nodes by PrimeKG's `node_index`, and to node types and relations by code. The id of
a node is its id in `Processed`, or else its index. `read` ignores the released split
(`--split biobridge` applies the same rule); `tools.import_biobridge` keeps it, together with the
codes of node types and relations. `triplet_train_negative.csv` (sampled negatives),
`node_train.csv` and `node_test.csv` are not read.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from bridge_jax.data.findings import Findings
from bridge_jax.errors import InputError

from .delimited import Column, DelimitedFile, zip_columns
from .edges import Edges, EdgesBuilder, SourceNode, Unusable
from .features import read_features
from .files import GIT_LFS_POINTER

FULL = "triplet_full.csv"
SPLIT = ("train_test_split/triplet_train.csv", "train_test_split/triplet_test.csv")
_COLUMNS = ("x_index", "x_type", "display_relation", "y_index", "y_type")


@dataclass(frozen=True)
class Clone:
    """A clone of the repository.

    Attributes:
      folder: Its folder `BindData`.
      node_types: Node type names by code; codes are decimal strings.
      relations: Relation names by code.
    """

    folder: Path
    node_types: dict[str, str]
    relations: dict[str, str]


def read(path: Path) -> Edges:
    """Reads a clone of the repository, or its folder `data` or `data/BindData`.

    Args:
      path: The folder.

    Returns:
      The edges; a row with a code that is not in the configuration is a reject.

    Raises:
      InputError: The configuration or the triples are missing or cannot be read.
    """
    folder = find_bind_data(path)
    files = [FULL] if (folder / FULL).is_file() else [n for n in SPLIT if (folder / n).is_file()]
    if not files:
        raise InputError(
            f"{folder}: neither {FULL} nor {SPLIT[0]}; build them with the repository's "
            "dataset/build_full_triplets.py"
        )
    builder = EdgesBuilder()
    return read_triples(open_clone(path), files, read_node_names(folder, builder), builder)


def find_bind_data(path: Path) -> Path:
    """Returns the folder `BindData` of a clone.

    Raises:
      InputError: There is none.
    """
    for folder in (path / "data/BindData", path / "BindData", path):
        if (folder / "data_config.json").is_file():
            return folder
    raise InputError(f"{path}: no BindData/data_config.json here; name a clone of BioBridge")


def open_clone(path: Path) -> Clone:
    """Finds the data of a clone and reads the names of node types and relations.

    Raises:
      InputError: The configuration is missing or cannot be read.
    """
    folder = find_bind_data(path)
    file = folder / "data_config.json"
    try:
        config = json.loads(file.read_bytes())
        node_types, relations = (
            {str(int(code)): str(name) for name, code in config[key].items()}
            for key in ("node_type", "relation_type")
        )
    except (ValueError, KeyError, TypeError, AttributeError) as e:
        reason = f"{e} is missing" if isinstance(e, KeyError) else str(e)
        raise InputError(f"{file}: cannot be read: {reason}") from e
    return Clone(folder, node_types, relations)


def read_node_names(folder: Path, builder: EdgesBuilder) -> dict[str, tuple[str, str]]:
    """Reads ids and names of nodes from the feature tables of a clone.

    Args:
      folder: The clone's `BindData`; the tables are in `Processed` beside it.
      builder: Receives notices.

    Returns:
      Id and name by node index.
    """
    names: dict[str, tuple[str, str]] = {}
    for path in sorted((folder.parent / "Processed").glob("*.csv")):
        if path.read_bytes()[:40].startswith(GIT_LFS_POINTER):
            builder.add_notice(path.name, 1, "a Git LFS pointer, not read", "")
            continue
        findings = Findings()
        for feature in read_features(path, findings=findings):
            index, name, row = feature.node_index, (feature.id, feature.name), feature.row
            if not index:
                builder.add_notice(path.name, row, "no node_index", feature.id)
                continue
            first = names.setdefault(index, name)
            if first != name:
                text = f"{index}: {name} after {first}"
                builder.add_notice(path.name, row, "a node listed twice", text)
        for f in findings:
            builder.add_notice(f.file, f.row, f.reason, f.text)
    return names


def read_triples(
    clone: Clone, files: list[str], names: dict[str, tuple[str, str]], builder: EdgesBuilder
) -> Edges:
    """Reads files of triples.

    Args:
      clone: The clone.
      files: File names relative to its `BindData`, in the order of `Edges.files`.
      names: Id and name by node index, from `read_node_names`.
      builder: Receives the rows.

    Raises:
      InputError: A file is missing or truncated, or lacks a column.
    """
    for name in files:
        file = DelimitedFile(clone.folder / name, _COLUMNS, ("relation",))
        for chunk in builder.read_chunks(file):
            head, tail = (
                _nodes(chunk.columns[f"{e}_index"], chunk.columns[f"{e}_type"], clone, names, e)
                for e in "xy"
            )
            codes = chunk.columns["display_relation"]
            relations = [_relation(code, clone) for code in codes.values]
            builder.add_edges(chunk.rows, head, Column(relations, codes.codes), tail)
    return builder.build()


def _relation(code: str, clone: Clone) -> str:
    missing = Unusable(f"display_relation {code!r} is not in data_config.json")
    return clone.relations.get(code, missing)


def _nodes(
    index: Column[str],
    node_type: Column[str],
    clone: Clone,
    names: dict[str, tuple[str, str]],
    end: str,
) -> Column[SourceNode | Unusable]:
    """Joins the two columns of one end of the triples to a column of nodes."""

    def node(index: str, code: str) -> SourceNode | Unusable:
        if not index:
            return Unusable(f"no {end}_index")
        if code not in clone.node_types:
            return Unusable(f"{end}_type {code!r} is not in data_config.json")
        id_, name = names.get(index, (index, ""))
        return SourceNode(clone.node_types[code], id_ or index, index, name)

    rows, codes = zip_columns([index, node_type])
    return Column([node(*row) for row in rows], codes)
