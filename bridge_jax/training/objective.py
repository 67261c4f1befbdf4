"""The training objective: a batch of ids to one loss, by the config's choice of negatives."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import shard_map
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float
from ml_collections import ConfigDict

from bridge_jax.data.batches import Batch, Group
from bridge_jax.data.graph import TripleType
from bridge_jax.distributed.mesh import AXES
from bridge_jax.distributed.placement import lookup
from bridge_jax.errors import InputError, unknown
from bridge_jax.models.bridge import Bridge, Params, bridge, normalise, project, triple_type_ids
from bridge_jax.models.logits import prior_of, scale_of
from bridge_jax.models.node_embedding import add_node_embedding
from bridge_jax.training import contrastive_loss as loss
from bridge_jax.training.contrastive_loss import Tree
from bridge_jax.training.device_data import DeviceData, KnownBits, known_among, known_pairs

NEGATIVES = ("sampled", "in_batch", "all")
MASKS = ("known", "none")
IMPLEMENTATIONS = ("all_gather", "ring")
SYMMETRIC = ("in_batch", "softmax")
REDUCTIONS = {"softmax": loss.SOFTMAX, "sigmoid": loss.SIGMOID}


@dataclass(frozen=True)
class Objective:
    """The loss of one batch.

    Attributes:
      model: the bridge.
      groups: the groups of every shard of a batch, those of one tail type adjacent.
      triple_types: of the graph; learned prior weights stand in this order.
      config: the config's `loss` part.
      mesh: over whose axes the shards of a batch are spread.
      grad_cache: embed one shard of each device at a time and, in the backward pass, once more. Memory
        for activations is that of a shard, the negatives are those of the whole batch, and the
        gradients are the same (Gao et al., "Scaling deep contrastive learning batch size under
        memory limited setup", 2021).
      node_embedding_dropout: how often a node's residual is left out, where the parameters hold any.
    """

    model: Bridge
    groups: Sequence[Group]
    triple_types: Sequence[TripleType]
    config: ConfigDict
    mesh: Mesh
    grad_cache: bool = False
    node_embedding_dropout: float = 0.0

    def __post_init__(self) -> None:
        fields = {
            "negatives": NEGATIVES,
            "mask": MASKS,
            "implementation": IMPLEMENTATIONS,
            "type": tuple(REDUCTIONS),
        }
        for name, allowed in fields.items():
            if self.config[name] not in allowed:
                raise unknown(f"loss.{name}", self.config[name], allowed, "this version")
        if self.config.symmetric and (self.config.negatives, self.config.type) != SYMMETRIC:
            raise InputError(
                "loss.symmetric needs the heads of a batch as candidates and a softmax over them: "
                "loss.negatives = in_batch and loss.type = softmax"
            )
        if self.config.type == "sigmoid" and self.config.negatives == "sampled":
            raise InputError("loss.type = sigmoid takes loss.negatives = in_batch or all")

    def __call__(
        self, params: Params, batch: Batch, data: DeviceData, key: jax.Array
    ) -> Float[Array, ""]:
        """Mean loss over the rows of a batch.

        Args:
          params: `{"model": …}` and what `logits` learns.
          batch: local ids, `[shards, columns]`.
          data: what every step reads.
          key: of this step's dropout and sampled negatives.

        Returns:
          The loss, float32.
        """
        dropout_key, negatives_key = jax.random.split(key)
        query = self._queries(params, batch, data, dropout_key)
        contrast = self._sampled if self.config.negatives == "sampled" else self._contrast
        total = jnp.zeros((), query.dtype)
        for number, (tail_type, groups) in enumerate(self.by_tail_type.items()):
            columns = slice(groups[0].start, groups[-1].start + groups[-1].size)
            mine = Batch(batch.heads[:, columns], batch.tails[:, columns])
            place = [Group(g.triple_type, g.start - columns.start, g.size) for g in groups]
            own_key = jax.random.fold_in(negatives_key, number)
            own = self._own(params, batch, data, tail_type, groups, own_key)
            total += contrast(
                params, query[:, columns], own, mine, data, tail_type, place, own_key
            ).sum()
        return total / batch.heads.size

    @cached_property
    def by_tail_type(self) -> dict[str, list[Group]]:
        """The groups of each tail type."""
        names = dict.fromkeys(g.triple_type.tail for g in self.groups)
        return {name: [g for g in self.groups if g.triple_type.tail == name] for name in names}

    def bridged(
        self, params: Params, batch: Batch, data: DeviceData, dropout_key: jax.Array | None
    ) -> Float[Array, "shards columns d"]:
        """Project and bridge the heads of a batch; one dense projection a group."""
        z = []
        for number, g in enumerate(self.groups):
            if batch.head_vectors:
                x = batch.head_vectors[number]
            else:
                x = lookup(data.tables[g.triple_type.head], batch.heads[:, g.columns], self.mesh)
            place = None if dropout_key is None else jax.random.fold_in(dropout_key, number)
            z.append(self._embed(params, g.triple_type.head, x, batch.heads[:, g.columns], place))
        joined = jnp.concatenate(z, axis=1)
        shards, columns, width = joined.shape
        triple_types = triple_type_ids(self.model, [g.triple_type for g in self.groups])
        of_column = np.repeat(
            np.arange(len(self.groups), dtype=np.int32), [g.size for g in self.groups]
        )
        of_row = jnp.asarray(np.tile(of_column, shards))
        flat = joined.reshape(shards * columns, width)
        out = bridge(
            self.model, params["model"], flat, of_row, jnp.asarray(triple_types), dropout_key
        )
        return out.reshape(shards, columns, width)

    def _queries(
        self, params: Params, batch: Batch, data: DeviceData, dropout_key: jax.Array
    ) -> Float[Array, "shards columns d"]:
        """Bridged heads of unit length, all at once or one shard of each device at a time."""

        def embed(part: Batch, key: jax.Array) -> Array:
            return normalise(self.bridged(params, part, data, key))

        if not self.grad_cache:
            return embed(batch, dropout_key)
        devices = self.mesh.size
        turns = batch.heads.shape[0] // devices
        split = jax.tree.map(
            lambda a: a.reshape(devices, turns, *a.shape[1:]).swapaxes(0, 1), batch
        )
        keys = jax.random.split(dropout_key, turns)
        parts = jax.lax.map(lambda turn: jax.checkpoint(embed)(*turn), (split, keys))
        return parts.swapaxes(0, 1).reshape(*batch.heads.shape, -1)

    def _embed(
        self, params: Params, node_type: str, x: Array, nodes: Array, key: jax.Array | None
    ) -> Array:
        """Project the frozen embeddings of some nodes, and add what is learned of each."""
        flat = project(self.model, params["model"], node_type, x.reshape(-1, x.shape[-1]))
        z = flat.reshape(*x.shape[:-1], -1)
        return add_node_embedding(params, node_type, z, nodes, key, self.node_embedding_dropout)

    def _keys(
        self, params: Params, data: DeviceData, node_type: str, nodes: Array, key: jax.Array
    ) -> Array:
        x = lookup(data.tables[node_type], nodes, self.mesh)
        return normalise(self._embed(params, node_type, x, nodes, key))

    def _own(
        self, params: Params, batch: Batch, data: DeviceData,
        tail_type: str, groups: Sequence[Group], key: jax.Array,
    ) -> Float[Array, "shards columns d"]:  # fmt: skip
        """Projected tails of adjacent groups, unit length."""
        columns = slice(groups[0].start, groups[-1].start + groups[-1].size)
        tails, key = batch.tails[:, columns], jax.random.fold_in(key, 1)
        if not batch.tail_vectors:
            return self._keys(params, data, tail_type, tails, key)
        first = self.groups.index(groups[0])
        x = jnp.concatenate(batch.tail_vectors[first : first + len(groups)], axis=1)
        return normalise(self._embed(params, tail_type, x, tails, key))

    def _contrast(
        self, params: Params, query: Array, own: Array, batch: Batch, data: DeviceData,
        tail_type: str, groups: Sequence[Group], key: jax.Array,
    ) -> Float[Array, " n"]:  # fmt: skip
        """Against the tails of the batch, or all training nodes, of one type on all devices."""
        shards, columns = batch.heads.shape
        position = jnp.arange(shards * columns, dtype=jnp.int32).reshape(shards, columns)
        rows = {
            "query": query,
            "own": own,
            "head": batch.heads,
            "tail": batch.tails,
            "position": position,
        }
        keys = {"key": own, "node": batch.tails, "position": position}
        if self.config.negatives == "all":
            nodes = data.candidates[tail_type]
            every = self._keys(params, data, tail_type, jnp.maximum(nodes, 0), key)
            keys = {"key": every, "node": nodes, "position": jnp.full_like(nodes, -1)}
        triple_types = [str(g.triple_type) for g in groups]
        fixed = {
            "known": [data.known[k].bits for k in triple_types],
            "share": [data.prior[k] for k in triple_types],
        }
        learned = {k: v for k, v in params.items() if k != "model"}
        local = shard_map(
            partial(self._local, groups=groups),
            mesh=self.mesh,
            in_specs=(P(AXES), P(AXES), P(), P()),
            out_specs=P(AXES),
        )
        return local(rows, keys, learned, fixed)

    def _local(
        self, rows: Tree, keys: Tree, learned: Tree, fixed: Tree, *, groups: Sequence[Group]
    ) -> Float[Array, " n"]:
        """What one device does: its rows, group after group, against the keys of all devices."""
        of_key = _flat(scale_of(learned, self.config) * (rows["query"] * rows["own"]).sum(-1))
        rows = {
            name: jnp.concatenate([_flat(value[:, g.columns]) for g in groups])
            for name, value in rows.items()
        }
        keys = {name: _flat(value) for name, value in keys.items()}
        shards = len(rows["query"]) // sum(g.size for g in groups)
        logits = partial(self._logits, groups=groups, shards=shards)
        cosine = (rows["query"] * rows["own"]).sum(-1, keepdims=True)
        bias = learned.get("bias", 0.0)
        own = scale_of(learned, self.config) * cosine + bias
        own = self._add_prior(own, rows["tail"][:, None], learned, fixed, groups, shards)[:, 0]
        reduction = REDUCTIONS[self.config.type]
        contrast = loss.Contrast(logits, reduction, AXES, self.config.symmetric)
        if self.config.implementation == "ring":
            chunk = min(self.config.chunk, len(keys["node"]))
            found = loss.ring(contrast, rows, _padded(keys, chunk), learned, fixed, chunk)
        else:
            found = loss.gathered(contrast, rows, keys, learned, fixed)
        losses = reduction.of_row(own, found[0])
        if found[1] is None:
            return losses
        # The keys stand shard after shard, the rows group after group; the sum is the same.
        return (losses + reduction.of_row(of_key, found[1][: len(of_key)])) / 2

    def _logits(
        self, rows: Tree, keys: Tree, learned: Tree, fixed: Tree,
        groups: Sequence[Group], shards: int,
    ) -> Float[Array, "n m"]:  # fmt: skip
        """Logits of local rows against some keys, with the masked ones at the bottom."""
        logits = scale_of(learned, self.config) * (rows["query"] @ keys["key"].T)
        logits += learned.get("bias", 0.0)
        nodes = jnp.maximum(keys["node"], 0)
        if self.config.negatives == "all":
            every = jnp.broadcast_to(nodes, logits.shape)
            logits = self._add_prior(logits, every, learned, fixed, groups, shards)
        if self.config.mask == "known":
            parts = zip(fixed["known"], _split(rows["head"], groups, shards), strict=True)
            masked = jnp.concatenate(
                [known_among(KnownBits(bits), heads, nodes) for bits, heads in parts]
            )
        elif self.config.negatives == "all":
            masked = rows["tail"][:, None] == nodes
        else:
            masked = rows["position"][:, None] == keys["position"]
        return jnp.where(masked | (keys["node"] < 0), loss.MASKED, logits)

    def _add_prior(
        self, logits: Array, nodes: Array, learned: Tree, fixed: Tree,
        groups: Sequence[Group], shards: int,
    ) -> Float[Array, "n m"]:  # fmt: skip
        """Logits `[n, m]` of nodes `[n, m]`, with each group's own prior; only against all nodes.

        Tails of a batch are drawn by their popularity, so that in-batch logits learn without it
        what they are scored with it (the log-Q correction of sampled softmax).
        """
        if self.config.negatives != "all":
            return logits
        out = []
        for g, share, part, of in zip(
            groups, fixed["share"], _split(logits, groups, shards), _split(nodes, groups, shards),
            strict=True,
        ):  # fmt: skip
            prior = prior_of(learned, self.config, self.triple_types.index(g.triple_type), share)
            out.append(part if prior is None else part + prior[of])
        return jnp.concatenate(out)

    def _sampled(
        self, params: Params, query: Array, own: Array, batch: Batch, data: DeviceData,
        tail_type: str, groups: Sequence[Group], key: jax.Array,
    ) -> Float[Array, "shards columns"]:  # fmt: skip
        """A few explicit negatives a row, drawn from the training nodes of the tail type."""
        nodes = data.train_nodes[tail_type]
        shape = (*batch.heads.shape, self.config.num_sampled)
        drawn = nodes[jax.random.randint(key, shape, 0, len(nodes))]
        false = self._keys(params, data, tail_type, drawn, jax.random.fold_in(key, 2))
        masked = None
        if self.config.mask == "known":
            parts = [
                known_pairs(
                    data.known[str(g.triple_type)], batch.heads[:, g.columns], drawn[:, g.columns]
                )
                for g in groups
            ]
            masked = jnp.concatenate(parts, axis=1)
        return loss.sampled_nce(query, own, false, masked, scale_of(params, self.config))


def _flat(x: Array) -> Array:
    return x.reshape(-1, *x.shape[2:])


def _split(x: Array, groups: Sequence[Group], shards: int) -> list[Array]:
    """Local rows, group after group, cut at the groups."""
    ends = np.cumsum([g.size * shards for g in groups])
    return jnp.split(x, ends[:-1])


def _padded(keys: Tree, chunk: int) -> Tree:
    """Keys up to a multiple of `chunk`; a node of -1 is no key."""
    count = -len(keys["node"]) % chunk
    padded = {k: jnp.pad(v, [(0, count)] + [(0, 0)] * (v.ndim - 1)) for k, v in keys.items()}
    return padded | {"node": jnp.pad(keys["node"], (0, count), constant_values=-1)}
