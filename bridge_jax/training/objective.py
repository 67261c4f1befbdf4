"""The training objective: from a batch of ids to one loss, with the config's choice of negatives.

Arrays name their axes in a suffix. Global arrays: S shards, C columns, D width. Inside `shard_map`:
N local rows, M keys.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import shard_map
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float, Int, UInt32
from ml_collections import ConfigDict

from bridge_jax.data.batches import Batch, Group
from bridge_jax.data.graph import TripleType
from bridge_jax.distributed.mesh import AXES
from bridge_jax.distributed.placement import lookup
from bridge_jax.errors import InputError, unknown
from bridge_jax.models.bridge import Bridge, Params, bridge, normalise, triple_type_ids
from bridge_jax.models.embed import project_nodes
from bridge_jax.models.logits import prior_of, scale_of
from bridge_jax.training.contrastive_loss import (
    MASKED,
    Contrast,
    Reduction,
    Sigmoid,
    Softmax,
    reduce_all_gather,
    reduce_ring,
    sampled_nce,
)
from bridge_jax.training.device_data import DeviceData, KnownBits, known_among, known_pairs

NEGATIVES = ("sampled", "in_batch", "all")
MASKS = ("known", "none")
IMPLEMENTATIONS = ("all_gather", "ring")
SYMMETRIC = ("in_batch", "softmax")
REDUCTIONS: dict[str, Reduction] = {"softmax": Softmax, "sigmoid": Sigmoid}


class QueryRows(NamedTuple):
    """Rows of a batch whose tails have one node type; `[S, C, …]`, or `[N, …]` on a device.

    Attributes:
      query_ND: Bridged heads of unit length.
      own_ND: Projected true tails of unit length.
      head_N: Local ids of the heads.
      tail_N: Local ids of the true tails.
      position_N: Position of the row among all rows of these columns.
    """

    query_ND: Float[Array, "*n d"]
    own_ND: Float[Array, "*n d"]
    head_N: Int[Array, "*n"]
    tail_N: Int[Array, "*n"]
    position_N: Int[Array, "*n"]


class CandidateKeys(NamedTuple):
    """Tails that every row is compared with; `[S, C, …]`, or `[M, …]` on a device.

    Attributes:
      key_MD: Projected candidates of unit length.
      node_M: Local ids; -1 marks padding.
      position_M: Row of the batch whose tail the candidate is; -1 for all nodes of a type.
    """

    key_MD: Float[Array, "*m d"]
    node_M: Int[Array, "*m"]
    position_M: Int[Array, "*m"]


class LogitParams(NamedTuple):
    """Learned parts of the logits; None for what is not learned. See `bridge_jax.models.logits`."""

    log_scale: Float[Array, ""] | None
    bias: Float[Array, ""] | None
    prior: Float[Array, " t"] | None

    @classmethod
    def select(cls, params: Params) -> "LogitParams":
        """Selects them from the parameters of a run."""
        return cls(*(params.get(name) for name in cls._fields))


class FixedData(NamedTuple):
    """Data of each group that is not differentiated.

    Attributes:
      known: Bit matrix of known positives of each group's triple type.
      log_shares: Log-popularity of each tail, for each group's triple type.
    """

    known: tuple[UInt32[Array, "heads words"], ...]
    log_shares: tuple[Float[Array, " tails"], ...]


class TailColumns(NamedTuple):
    """The adjacent columns of a batch whose tails have one node type.

    Attributes:
      tail_type: Node type of the tails.
      groups: Groups of these columns; their starts count from the first of these columns.
      columns: Range of columns in the batch.
      first_group: Position of the first group among all groups of the batch.
    """

    tail_type: str
    groups: tuple[Group, ...]
    columns: slice
    first_group: int


@dataclass(frozen=True)
class Objective:
    """Loss of one batch.

    Attributes:
      model: The bridge.
      groups: Groups of every shard of a batch; those of one tail type are adjacent.
      triple_types: Triple types of the graph; learned prior weights have this order.
      config: The config's `loss` part.
      mesh: Device mesh over which the shards of a batch are spread.
      grad_cache: Whether to embed one shard of each device at a time, and once more in the backward
        pass. Activations then take the memory of one shard, negatives are still those of the whole
        batch, and gradients are the same (Gao et al., "Scaling deep contrastive learning batch size
        under memory limited setup", 2021).
      node_embedding_dropout: Fraction of learned node embeddings that are dropped.
    """

    model: Bridge
    groups: Sequence[Group]
    triple_types: Sequence[TripleType]
    config: ConfigDict
    mesh: Mesh
    grad_cache: bool = False
    node_embedding_dropout: float = 0.0

    def __post_init__(self) -> None:
        allowed = {
            "negatives": NEGATIVES,
            "mask": MASKS,
            "implementation": IMPLEMENTATIONS,
            "type": tuple(REDUCTIONS),
        }
        for name, values in allowed.items():
            if self.config[name] not in values:
                raise unknown(f"loss.{name}", self.config[name], values, "this version")
        if self.config.symmetric and (self.config.negatives, self.config.type) != SYMMETRIC:
            raise InputError(
                "loss.symmetric needs the heads of a batch as candidates and a softmax over them: "
                "set loss.negatives = in_batch and loss.type = softmax"
            )
        if self.config.type == "sigmoid" and self.config.negatives == "sampled":
            raise InputError("loss.type = sigmoid takes loss.negatives = in_batch or all")

    def __call__(
        self, params: Params, batch: Batch, data: DeviceData, key: jax.Array
    ) -> Float[Array, ""]:
        """Computes the mean loss over the rows of a batch.

        Args:
          params: `{"model": …}`, learned parts of the logits, and learned node embeddings.
          batch: Local ids, `[shards, columns]`.
          data: Data that every step reads.
          key: Key of this step's dropout masks and sampled negatives.

        Returns:
          The loss, a float32 scalar.
        """
        dropout_key, negatives_key = jax.random.split(key)
        query_SCD = self._queries(params, batch, data, dropout_key)
        losses_of = self._sampled if self.config.negatives == "sampled" else self._contrastive
        total = jnp.zeros((), query_SCD.dtype)
        for i, part in enumerate(self.tail_columns):
            part_key = jax.random.fold_in(negatives_key, i)
            rows = self._rows(params, query_SCD, batch, data, part, part_key)
            total += losses_of(params, rows, data, part, part_key).sum()
        return total / batch.heads.size

    @cached_property
    def tail_columns(self) -> tuple[TailColumns, ...]:
        """The columns of each tail type, in the order of the batch."""
        parts: list[TailColumns] = []
        for tail_type in dict.fromkeys(g.triple_type.tail for g in self.groups):
            groups = [g for g in self.groups if g.triple_type.tail == tail_type]
            start, stop = groups[0].start, groups[-1].start + groups[-1].size
            shifted = tuple(g._replace(start=g.start - start) for g in groups)
            first = self.groups.index(groups[0])
            parts.append(TailColumns(tail_type, shifted, slice(start, stop), first))
        return tuple(parts)

    def bridged(
        self, params: Params, batch: Batch, data: DeviceData, dropout_key: jax.Array | None
    ) -> Float[Array, "shards columns d"]:
        """Projects and bridges the heads of a batch, one dense projection per group.

        Args:
          params: Parameters of the run.
          batch: Local ids, with the vectors if the tables stay on the host.
          data: Data that every step reads.
          dropout_key: Key of the dropout masks; None for no dropout.

        Returns:
          Bridged heads, not normalised.
        """
        z = []
        for i, g in enumerate(self.groups):
            head_type, heads = g.triple_type.head, batch.heads[:, g.columns]
            if batch.head_vectors:
                x = batch.head_vectors[i]
            else:
                x = lookup(data.tables[head_type], heads, self.mesh)
            group_key = None if dropout_key is None else jax.random.fold_in(dropout_key, i)
            z.append(self._project(params, head_type, x, heads, group_key))
        z_SCD = jnp.concatenate(z, axis=1)
        shards, columns, width = z_SCD.shape
        ids = triple_type_ids(self.model, [g.triple_type for g in self.groups])
        of_column = np.repeat(
            np.arange(len(self.groups), dtype=np.int32), [g.size for g in self.groups]
        )
        of_row = jnp.asarray(np.tile(of_column, shards))
        z_ND = z_SCD.reshape(shards * columns, width)
        out = bridge(self.model, params["model"], z_ND, of_row, jnp.asarray(ids), dropout_key)
        return out.reshape(shards, columns, width)

    def _queries(
        self, params: Params, batch: Batch, data: DeviceData, dropout_key: jax.Array
    ) -> Float[Array, "shards columns d"]:
        """Bridged heads of unit length: all at once, or one shard of each device at a time."""

        def embed(batch: Batch, key: jax.Array) -> Array:
            return normalise(self.bridged(params, batch, data, key))

        if not self.grad_cache:
            return embed(batch, dropout_key)
        devices = self.mesh.size
        turns = batch.heads.shape[0] // devices
        by_turn = jax.tree.map(
            lambda a: a.reshape(devices, turns, *a.shape[1:]).swapaxes(0, 1), batch
        )
        keys = jax.random.split(dropout_key, turns)
        out = jax.lax.map(lambda turn: jax.checkpoint(embed)(*turn), (by_turn, keys))
        return out.swapaxes(0, 1).reshape(*batch.heads.shape, -1)

    def _project(
        self, params: Params, node_type: str, x: Array, nodes: Array, key: jax.Array | None
    ) -> Array:
        dropout = self.node_embedding_dropout
        return project_nodes(self.model, params, node_type, x, nodes, key, dropout)

    def _keys(
        self, params: Params, data: DeviceData, node_type: str, nodes: Array, key: jax.Array
    ) -> Array:
        """Nodes of one type as keys of unit length."""
        x = lookup(data.tables[node_type], nodes, self.mesh)
        return normalise(self._project(params, node_type, x, nodes, key))

    def _rows(
        self, params: Params, query_SCD: Array, batch: Batch, data: DeviceData,
        part: TailColumns, key: jax.Array,
    ) -> QueryRows:  # fmt: skip
        """The rows of some columns, with their own tails as keys."""
        heads, tails = batch.heads[:, part.columns], batch.tails[:, part.columns]
        tail_key = jax.random.fold_in(key, 1)
        if batch.tail_vectors:
            stop = part.first_group + len(part.groups)
            x = jnp.concatenate(batch.tail_vectors[part.first_group : stop], axis=1)
            own_SCD = normalise(self._project(params, part.tail_type, x, tails, tail_key))
        else:
            own_SCD = self._keys(params, data, part.tail_type, tails, tail_key)
        position_SC = jnp.arange(heads.size, dtype=jnp.int32).reshape(heads.shape)
        return QueryRows(query_SCD[:, part.columns], own_SCD, heads, tails, position_SC)

    def _contrastive(
        self, params: Params, rows: QueryRows, data: DeviceData, part: TailColumns, key: jax.Array
    ) -> Float[Array, " n"]:
        """Losses against the tails of the batch, or all training nodes, on all devices."""
        keys = CandidateKeys(rows.own_ND, rows.tail_N, rows.position_N)
        if self.config.negatives == "all":
            nodes = data.candidates[part.tail_type]
            key_SCD = self._keys(params, data, part.tail_type, jnp.maximum(nodes, 0), key)
            keys = CandidateKeys(key_SCD, nodes, jnp.full_like(nodes, -1))
        names = [str(g.triple_type) for g in part.groups]
        fixed = FixedData(
            tuple(data.known[name].bits for name in names),
            tuple(data.log_shares[name] for name in names),
        )
        on_device = shard_map(
            partial(self._local, groups=part.groups),
            mesh=self.mesh,
            in_specs=(P(AXES), P(AXES), P(), P()),
            out_specs=P(AXES),
        )
        return on_device(rows, keys, LogitParams.select(params), fixed)

    def _local(
        self, rows: QueryRows, keys: CandidateKeys, learned: LogitParams, fixed: FixedData,
        *, groups: Sequence[Group],
    ) -> Float[Array, " n"]:  # fmt: skip
        """Losses of one device's rows, group after group, against the keys of all devices."""
        scale = scale_of(learned._asdict(), self.config)
        # As keys, the own tails stand shard after shard.
        own_as_key = _flatten(scale * (rows.query_ND * rows.own_ND).sum(-1))
        rows = QueryRows(*(_by_group(array, groups) for array in rows))
        keys = jax.tree.map(_flatten, keys)
        shards = len(rows.query_ND) // sum(g.size for g in groups)
        cosine = (rows.query_ND * rows.own_ND).sum(-1, keepdims=True)
        own_N1 = scale * cosine + (0.0 if learned.bias is None else learned.bias)
        own = self._add_prior(own_N1, rows.tail_N[:, None], learned, fixed, groups, shards)[:, 0]
        reduction = REDUCTIONS[self.config.type]
        logits = partial(self._logits, groups=groups, shards=shards)
        contrast = Contrast(logits, reduction, AXES, self.config.symmetric)
        if self.config.implementation == "ring":
            chunk = min(self.config.chunk, len(keys.node_M))
            of_rows, of_keys = reduce_ring(contrast, rows, _pad(keys, chunk), learned, fixed, chunk)
        else:
            of_rows, of_keys = reduce_all_gather(contrast, rows, keys, learned, fixed)
        losses = reduction.row_loss(own, of_rows)
        if of_keys is None:
            return losses
        # Keys stand shard after shard and rows group after group; the sum over both is the same.
        return (losses + reduction.row_loss(own_as_key, of_keys[: len(own_as_key)])) / 2

    def _logits(
        self, rows: QueryRows, keys: CandidateKeys, learned: LogitParams, fixed: FixedData,
        groups: Sequence[Group], shards: int,
    ) -> Float[Array, "n m"]:  # fmt: skip
        """Logits of local rows with some keys; masked pairs are MASKED."""
        logits = scale_of(learned._asdict(), self.config) * (rows.query_ND @ keys.key_MD.T)
        logits += 0.0 if learned.bias is None else learned.bias
        nodes = jnp.maximum(keys.node_M, 0)
        if self.config.negatives == "all":
            node_NM = jnp.broadcast_to(nodes, logits.shape)
            logits = self._add_prior(logits, node_NM, learned, fixed, groups, shards)
        if self.config.mask == "known":
            heads_of_groups = _split(rows.head_N, groups, shards)
            masked = jnp.concatenate(
                [
                    known_among(KnownBits(bits), heads, nodes)
                    for bits, heads in zip(fixed.known, heads_of_groups, strict=True)
                ]
            )
        elif self.config.negatives == "all":
            masked = rows.tail_N[:, None] == nodes
        else:
            masked = rows.position_N[:, None] == keys.position_M
        return jnp.where(masked | (keys.node_M < 0), MASKED, logits)

    def _add_prior(
        self, logits_NM: Array, node_NM: Array, learned: LogitParams, fixed: FixedData,
        groups: Sequence[Group], shards: int,
    ) -> Float[Array, "n m"]:  # fmt: skip
        """Adds each group's popularity prior; only if the negatives are all nodes.

        Tails of a batch are drawn by their popularity, so in-batch logits learn without the prior
        what they are scored with it (the log-Q correction of sampled softmax).
        """
        if self.config.negatives != "all":
            return logits_NM
        out = []
        for g, log_share, logits, nodes in zip(
            groups, fixed.log_shares, _split(logits_NM, groups, shards),
            _split(node_NM, groups, shards), strict=True,
        ):  # fmt: skip
            index = self.triple_types.index(g.triple_type)
            prior = prior_of(learned._asdict(), self.config, index, log_share)
            out.append(logits if prior is None else logits + prior[nodes])
        return jnp.concatenate(out)

    def _sampled(
        self, params: Params, rows: QueryRows, data: DeviceData, part: TailColumns, key: jax.Array
    ) -> Float[Array, "shards columns"]:
        """Losses against a few negatives per row, drawn from the training nodes of the type."""
        nodes = data.train_nodes[part.tail_type]
        shape = (*rows.head_N.shape, self.config.num_sampled)
        drawn = nodes[jax.random.randint(key, shape, 0, len(nodes))]
        negatives = self._keys(params, data, part.tail_type, drawn, jax.random.fold_in(key, 2))
        masked = None
        if self.config.mask == "known":
            of_groups = [
                known_pairs(
                    data.known[str(g.triple_type)], rows.head_N[:, g.columns], drawn[:, g.columns]
                )
                for g in part.groups
            ]
            masked = jnp.concatenate(of_groups, axis=1)
        scale = scale_of(params, self.config)
        return sampled_nce(rows.query_ND, rows.own_ND, negatives, masked, scale)


def _flatten(x: Array) -> Array:
    """`[S, C, …]` to `[S * C, …]`, shard after shard."""
    return x.reshape(-1, *x.shape[2:])


def _by_group(x: Array, groups: Sequence[Group]) -> Array:
    """`[S, C, …]` to `[S * C, …]`, group after group."""
    return jnp.concatenate([_flatten(x[:, g.columns]) for g in groups])


def _split(x: Array, groups: Sequence[Group], shards: int) -> list[Array]:
    """Local rows, which stand group after group, cut into groups."""
    ends = np.cumsum([g.size * shards for g in groups])
    return jnp.split(x, ends[:-1])


def _pad(keys: CandidateKeys, chunk: int) -> CandidateKeys:
    """Pads keys to a multiple of `chunk`; a node of -1 is no key."""
    count = -len(keys.node_M) % chunk

    def pad(array: Array, value: int = 0) -> Any:
        widths = [(0, count)] + [(0, 0)] * (array.ndim - 1)
        return jnp.pad(array, widths, constant_values=value)

    return CandidateKeys(pad(keys.key_MD), pad(keys.node_M, -1), pad(keys.position_M))
