"""The data folder of the BioBridge reference repository (RyanWangZf/BioBridge).

Read, of a clone or its `data/` folder:

| file | content |
|---|---|
| `BindData/data_config.json` | `node_type` and `relation_type`: the code of each name |
| `BindData/triplet_full.csv` | `x_index, y_index, display_relation, relation, x_type, y_type` |
| `BindData/train_test_split/triplet_train.csv`, `triplet_test.csv` | the same columns; joined, \
where `triplet_full.csv` is not there |
| `Processed/*.csv` | ids and names by `node_index`; optional |

Triples name their nodes by PrimeKG's `node_index` and their types and relations by code. A node is
called by its id in `Processed`, else by its index. `read` does not keep the released split
(`--split biobridge` applies the same rule); `tools.import_biobridge` keeps it, and the codes of
types and relations. `triplet_train_negative.csv` (sampled negatives), `node_train.csv` and
`node_test.csv` are not read.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from bridge_jax.errors import InputError

from .delimited import Table
from .edges import Builder, Column, Edges, Node, Unusable, combine
from .features import read_features

FULL = "triplet_full.csv"
SPLIT = ("train_test_split/triplet_train.csv", "train_test_split/triplet_test.csv")
_COLUMNS = ("x_index", "x_type", "display_relation", "y_index", "y_type")


@dataclass(frozen=True)
class Clone:
    """A clone of the repository, opened.

    Attributes:
      folder: its `BindData`.
      types: name by code, as text.
      relations: likewise.
    """

    folder: Path
    types: dict[str, str]
    relations: dict[str, str]


def read(path: Path) -> Edges:
    """Read a clone of the repository, or its `data` or `data/BindData` folder.

    Args:
      path: the folder.

    Returns:
      The edges; a row with a code that the configuration does not have is a reject.

    Raises:
      InputError: the configuration or the triples are missing or cannot be read.
    """
    folder = bind_data(path)
    files = [FULL] if (folder / FULL).is_file() else [n for n in SPLIT if (folder / n).is_file()]
    if not files:
        raise InputError(
            f"{folder}: neither {FULL} nor {SPLIT[0]}; build them with the repository's "
            "dataset/build_full_triplets.py"
        )
    build = Builder()
    return read_triples(open_clone(path), files, named_nodes(folder, build), build)


def bind_data(path: Path) -> Path:
    """The `BindData` folder of a clone.

    Raises:
      InputError: there is none.
    """
    for folder in (path / "data/BindData", path / "BindData", path):
        if (folder / "data_config.json").is_file():
            return folder
    raise InputError(f"{path}: no BindData/data_config.json here; name a clone of BioBridge")


def open_clone(path: Path) -> Clone:
    """Find a clone's data and read its vocabularies.

    Raises:
      InputError: the configuration is missing or cannot be read.
    """
    folder = bind_data(path)
    file = folder / "data_config.json"
    try:
        config = json.loads(file.read_bytes())
        types, relations = (
            {str(int(code)): str(name) for name, code in config[key].items()}
            for key in ("node_type", "relation_type")
        )
    except (ValueError, KeyError, TypeError, AttributeError) as e:
        reason = f"{e} is missing" if isinstance(e, KeyError) else str(e)
        raise InputError(f"{file}: cannot be read: {reason}") from e
    return Clone(folder, types, relations)


def named_nodes(folder: Path, build: Builder) -> dict[str, tuple[str, str]]:
    """Id and name by node index, from the feature tables that are there.

    Args:
      folder: a clone's `BindData`; the tables are in `Processed` beside it.
      build: is told what is odd.
    """
    named: dict[str, tuple[str, str]] = {}
    for path in sorted((folder.parent / "Processed").glob("*.csv")):
        if path.read_bytes()[:40].startswith(b"version https://git-lfs"):
            build.notice(path.name, 1, "a Git LFS pointer, not read", "")
            continue
        for row, feature in enumerate(read_features(path), 2):
            if not feature.index:
                build.notice(path.name, row, "no node_index", feature.id)
                continue
            found = named.setdefault(feature.index, (feature.id, feature.name))
            if found != (feature.id, feature.name):
                text = f"{feature.index}: {(feature.id, feature.name)} after {found}"
                build.notice(path.name, row, "a node listed twice", text)
    return named


def read_triples(
    clone: Clone, files: list[str], named: dict[str, tuple[str, str]], build: Builder
) -> Edges:
    """Read some files of triples.

    Args:
      clone: the clone.
      files: relative to its `BindData`; `Edges.file` indexes them.
      named: from `named_nodes`.
      build: receives the rows.

    Raises:
      InputError: a file is missing, cut, or lacks a column.
    """
    for name in files:
        file = clone.folder / name
        build.open(file.name)
        for block in Table(file, _COLUMNS, ("relation",)).blocks():
            build.note(block)
            ends = []
            for e in "xy":
                rows, codes = combine([block.columns[f"{e}_index"], block.columns[f"{e}_type"]])
                nodes = [_node(index, code, clone.types, named, e) for index, code in rows]
                ends.append(Column(nodes, codes))
            relation = block.columns["display_relation"]
            names = [_relation(str(v), clone.relations) for v in relation.values]
            build.add(block.rows, ends[0], Column(names, relation.codes), ends[1])
    return build.finish()


def _relation(code: str, relations: dict[str, str]) -> str:
    return relations.get(code, Unusable(f"display_relation {code!r} is not in data_config.json"))


def _node(
    index: str, code: str, types: dict[str, str], named: dict[str, tuple[str, str]], end: str
) -> Node | Unusable:
    if not index:
        return Unusable(f"no {end}_index")
    if code not in types:
        return Unusable(f"{end}_type {code!r} is not in data_config.json")
    id_, name = named.get(index, (index, ""))
    return Node(types[code], id_ or index, index, name)
