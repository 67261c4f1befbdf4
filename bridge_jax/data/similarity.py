"""Similar nodes of one node type, as a sparse matrix on disk and in memory.

A pair is a query, a target and a score, e.g. two proteins and the bit score of their alignment. The
matrix need not be symmetric: an aligner may find B from A and not A from B. A node is never its own
neighbour. A dataset without a table of similar nodes is complete.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bridge_jax.data.manifest import Manifest, SimilarityTable, shard_file
from bridge_jax.data.tfrecord import TRIPLES_PER_RECORD, Layout, read_shard, write_shard
from bridge_jax.errors import InputError

if TYPE_CHECKING:
    from scipy.sparse import csr_array  # type: ignore[import-untyped]

_SHARD_RECORDS = 4096


class SimilarityPairs(NamedTuple):
    """Pairs of similar nodes of one type, in the order of query and target.

    Attributes:
      query: `[pairs]` int32 local id of the query.
      target: `[pairs]` int32 local id of the target; never that of the query.
      score: `[pairs]` float32; a larger score is more similar.
      score_name: What the score is, e.g. `bits`.
      source: File that the pairs come from.
    """

    query: np.ndarray
    target: np.ndarray
    score: np.ndarray
    score_name: str = ""
    source: str = ""

    def select(self, rows: np.ndarray) -> "SimilarityPairs":
        """Returns the pairs between some nodes.

        Args:
          rows: Local ids of the nodes in ascending order; node `rows[i]` becomes node i.
        """
        size = 1 + max(int(c.max(initial=-1)) for c in (self.query, self.target, rows))
        new_id = np.full(size, -1, np.int32)
        new_id[rows] = np.arange(len(rows))
        query, target = new_id[self.query], new_id[self.target]
        kept = (query >= 0) & (target >= 0)
        return self._replace(query=query[kept], target=target[kept], score=self.score[kept])


def similarity_layout() -> Layout:
    """Returns the layout of a similarity shard.

    A record holds `TRIPLES_PER_RECORD` pairs in the int32 columns `query` and `target` (local node
    ids) and the float32 column `score`. The last record is padded with -1, the scores with 0.
    """
    size = 4 * TRIPLES_PER_RECORD
    return Layout((("query", size), ("score", size), ("target", size)))


def best_pairs(
    query: np.ndarray, target: np.ndarray, score: np.ndarray, num_nodes: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Keeps the best score of each pair, in the order of query and target.

    Args:
      query: `[pairs]` local id of the query.
      target: `[pairs]` local id of the target.
      score: `[pairs]` score.
      num_nodes: Number of nodes.

    Returns:
      Query, target (int32) and score (float32) of each distinct pair.
    """
    key = query.astype(np.int64) * num_nodes + target
    order = np.lexsort((-score, key))
    key = key[order]
    first = np.flatnonzero(np.diff(key, prepend=-1))
    distinct = key[first]
    query, target = (c.astype(np.int32) for c in np.divmod(distinct, max(num_nodes, 1)))
    return query, target, score[order][first].astype(np.float32)


def write_similarity(root: Path, node_type: str, pairs: SimilarityPairs) -> SimilarityTable:
    """Writes the similar nodes of one node type as shards.

    Args:
      root: Dataset directory.
      node_type: Node type.
      pairs: The pairs.

    Returns:
      The manifest's entry.
    """
    count = len(pairs.query)
    num_records = max(1, -(-count // TRIPLES_PER_RECORD))
    columns = {}
    for name, dtype, padding in (("query", "<i4", -1), ("score", "<f4", 0), ("target", "<i4", -1)):
        padded = np.full(num_records * TRIPLES_PER_RECORD, padding, dtype)
        padded[:count] = getattr(pairs, name)
        columns[name] = padded.reshape(num_records, TRIPLES_PER_RECORD)
    starts = range(0, num_records, _SHARD_RECORDS)
    shards = []
    for k, start in enumerate(starts):
        file = shard_file("similarity", node_type, k, len(starts))
        block = {name: column[start : start + _SHARD_RECORDS] for name, column in columns.items()}
        shards.append(write_shard(root, file, similarity_layout(), block))
    return SimilarityTable(count, tuple(shards), pairs.score_name, pairs.source)


def decode_pairs(features: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the columns of a shard, with the padding.

    Args:
      features: By feature name, the bytes `[records, bytes]` of a shard.
    """
    dtypes = {"query": "<i4", "target": "<i4", "score": "<f4"}
    return {k: np.ascontiguousarray(features[k]).view(v).ravel() for k, v in dtypes.items()}


def pair_faults(
    query: np.ndarray, target: np.ndarray, score: np.ndarray, count: int, num_nodes: int
) -> list[tuple[int, str]]:
    """Finds the rows of a table that are not what `write_similarity` writes.

    Args:
      query: Local ids of the queries, with the padding.
      target: Local ids of the targets.
      score: Scores.
      count: Number of pairs; the other rows are padding.
      num_nodes: Number of nodes of the type.

    Returns:
      Row and description of each fault, in order.
    """
    rows = np.arange(len(query))
    is_pair = rows < count
    outside = [(c < 0) | (c >= num_nodes) for c in (query, target)]
    key = query.astype(np.int64) * num_nodes + target
    checks = (
        (is_pair & (outside[0] | outside[1]), f"a node is not from 0 to {num_nodes - 1}"),
        (is_pair & ~np.isfinite(score), "the score is not finite"),
        (is_pair & (query == target), "a node is its own neighbour"),
        (is_pair & (np.diff(key, prepend=-1) <= 0), "the pair is out of order or repeated"),
        (~is_pair & ((query != -1) | (target != -1) | (score != 0)), "a value in the padding"),
    )
    faults = sorted((i, what) for bad, what in checks for i in np.flatnonzero(bad).tolist())
    if len(query) < count:
        faults.append((len(query), f"the table ends where the manifest counts {count} pairs"))
    return faults


def read_similarity(root: str | Path, manifest: Manifest, node_type: str) -> SimilarityPairs | None:
    """Reads the similar nodes of one node type.

    Args:
      root: Dataset directory.
      manifest: Its manifest.
      node_type: Node type.

    Returns:
      The pairs, or None if the dataset has none of this type.

    Raises:
      InputError: The dataset has no such node type, or a shard is damaged.
    """
    num_nodes = manifest.table(node_type).count
    table = manifest.similarity.get(node_type)
    if table is None:
        return None
    layout = similarity_layout()
    shards = [decode_pairs(read_shard(Path(root), s, layout)) for s in table.shards]
    columns = {k: np.concatenate([s[k] for s in shards]) for k in ("query", "target", "score")}
    faults = pair_faults(**columns, count=table.count, num_nodes=num_nodes)
    if faults:
        row, what = faults[0]
        raise InputError(
            f"{root}: similarity of {node_type}, row {row}: {what}; import the table again"
        )
    pairs = {k: column[: table.count] for k, column in columns.items()}
    return SimilarityPairs(**pairs, score_name=table.score, source=table.source)


def load_similarity(root: str | Path, manifest: Manifest, node_type: str) -> "csr_array | None":
    """Loads the similar nodes of one node type as a sparse matrix.

    Args:
      root: Dataset directory.
      manifest: Its manifest.
      node_type: Node type.

    Returns:
      Float32 `[nodes, nodes]`: row q has the scores of the neighbours of the node with local id q,
      in the order of their ids. None if the dataset has no similar nodes of this type.

    Raises:
      InputError: The dataset has no such node type, or a shard is damaged.
    """
    pairs = read_similarity(root, manifest, node_type)
    if pairs is None:
        return None
    from scipy.sparse import csr_array

    num_nodes = manifest.table(node_type).count
    starts = np.searchsorted(pairs.query, np.arange(num_nodes + 1)).astype(np.int32)
    return csr_array((pairs.score, pairs.target, starts), shape=(num_nodes, num_nodes))
