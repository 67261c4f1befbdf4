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
called by its id in `Processed`, else by its index. The released split is not kept: `--split
biobridge` applies the same rule. `triplet_train_negative.csv` (sampled negatives),
`node_train.csv`, `node_test.csv` and the pickles are not read.
"""

import json
from pathlib import Path

from bridge_jax.errors import InputError
from tools.features_in import read_features
from tools.formats.delimited import Table
from tools.formats.edges import Builder, Column, Edges, Node, Unusable, combine

_COLUMNS = ("x_index", "x_type", "display_relation", "y_index", "y_type")
_SPLIT = ("train_test_split/triplet_train.csv", "train_test_split/triplet_test.csv")


def read(path: Path) -> Edges:
    """Read a clone of the repository, or its `data` or `data/BindData` folder.

    Args:
      path: the folder.

    Returns:
      The edges; a row with a code that the configuration does not have is a reject.

    Raises:
      InputError: the configuration or the triples are missing or cannot be read.
    """
    folder = next(
        (f for f in (path / "data/BindData", path / "BindData", path)
         if (f / "data_config.json").is_file()), None
    )  # fmt: skip
    if folder is None:
        raise InputError(f"{path}: no BindData/data_config.json here; name a clone of BioBridge")
    full = folder / "triplet_full.csv"
    files = [full] if full.is_file() else [p for n in _SPLIT if (p := folder / n).is_file()]
    if not files:
        raise InputError(
            f"{folder}: neither {full.name} nor {_SPLIT[0]}; build them with the repository's "
            "dataset/build_full_triplets.py"
        )
    types, relations = _codes(folder / "data_config.json")
    build = Builder()
    named = _named(folder.parent / "Processed", build)
    for file in files:
        build.open(file.name)
        for block in Table(file, _COLUMNS, ("relation",)).blocks():
            build.note(block)
            ends = []
            for e in "xy":
                rows, codes = combine([block.columns[f"{e}_index"], block.columns[f"{e}_type"]])
                ends.append(
                    Column([_node(index, code, types, named, e) for index, code in rows], codes)
                )
            relation = block.columns["display_relation"]
            names = [
                relations.get(
                    str(v), Unusable(f"display_relation {v!r} is not in data_config.json")
                )
                for v in relation.values
            ]
            build.add(block.rows, ends[0], Column(names, relation.codes), ends[1])
    return build.finish()


def _codes(path: Path) -> tuple[dict[str, str], dict[str, str]]:
    try:
        config = json.loads(path.read_bytes())
        types, relations = (
            {str(int(code)): str(name) for name, code in config[key].items()}
            for key in ("node_type", "relation_type")
        )
    except (ValueError, KeyError, TypeError, AttributeError) as e:
        reason = f"{e} is missing" if isinstance(e, KeyError) else str(e)
        raise InputError(f"{path}: cannot be read: {reason}") from e
    return types, relations


def _named(folder: Path, build: Builder) -> dict[str, tuple[str, str]]:
    """Id and name by node index, from the feature tables that are there."""
    named: dict[str, tuple[str, str]] = {}
    for path in sorted(folder.glob("*.csv")) if folder.is_dir() else []:
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


def _node(
    index: str, code: str, types: dict[str, str], named: dict[str, tuple[str, str]], end: str
) -> Node | Unusable:
    if not index:
        return Unusable(f"no {end}_index")
    if code not in types:
        return Unusable(f"{end}_type {code!r} is not in data_config.json")
    id_, name = named.get(index, (index, ""))
    return Node(types[code], id_ or index, index, name)
