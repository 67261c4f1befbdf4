"""The training objective: a batch of ids to one loss, by the config's choice of negatives."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float
from ml_collections import ConfigDict

from bridge_jax import loss
from bridge_jax.batches import Batch, Group
from bridge_jax.errors import unknown
from bridge_jax.graph import Graph, Known, TripleType, known_positives
from bridge_jax.loss import KnownBits
from bridge_jax.model import Bridge, Params, bridge, kind_ids, project

NEGATIVES = ("paired", "in_batch", "all")
MASKS = ("known", "none")


class DeviceData(NamedTuple):
    """What every step reads and none changes.

    Attributes:
      tables: `[count, dim]` by node type.
      known: training positives by triple type (its string).
      train_nodes: local ids by node type; held-out nodes are never negatives.
      prior: log-popularity of each tail, `[count]` float32 by triple type.
    """

    tables: Mapping[str, jax.Array]
    known: Mapping[str, KnownBits]
    train_nodes: Mapping[str, jax.Array]
    prior: Mapping[str, jax.Array]


def known_bits(known: Known, tails: int) -> KnownBits:
    """Known positives as a bit matrix `[heads, ceil(tails / 32)]` uint32."""
    heads = len(known.indptr) - 1
    rows = np.repeat(np.arange(heads), np.diff(known.indptr))
    bits = np.zeros((heads, -(-tails // 32)), np.uint32)
    np.bitwise_or.at(
        bits, (rows, known.tails // 32), np.uint32(1) << (known.tails % 32).astype(np.uint32)
    )
    return KnownBits(jnp.asarray(bits))


def log_popularity(known: Known, tails: int) -> np.ndarray:
    """Log of each tail's share of a triple type's training pairs, add-one smoothed, `[tails]`."""
    counts = np.bincount(known.tails, minlength=tails) + 1.0
    return np.log(counts / counts.sum()).astype(np.float32)


def device_data(graph: Graph, tables: Mapping[str, jax.Array]) -> DeviceData:
    """Build what the objective reads, from training facts alone."""
    sizes = dict(zip(graph.node_types, graph.counts, strict=True))
    known = known_positives(graph, ["train"])
    return DeviceData(
        tables,
        {str(k): known_bits(v, sizes[k.tail]) for k, v in known.items()},
        {t: jnp.asarray(graph.train_nodes(t)) for t in graph.node_types},
        {str(k): jnp.asarray(log_popularity(v, sizes[k.tail])) for k, v in known.items()},
    )


@dataclass(frozen=True)
class Objective:
    """The loss of one batch.

    Attributes:
      model: the bridge.
      groups: the groups of every batch, those of one tail type adjacent.
      config: the config's `loss` part.
    """

    model: Bridge
    groups: Sequence[Group]
    config: ConfigDict

    def __post_init__(self) -> None:
        for name, allowed in (("negatives", NEGATIVES), ("mask", MASKS)):
            if self.config[name] not in allowed:
                raise unknown(f"loss.{name}", self.config[name], allowed, "this version")

    @cached_property
    def kinds(self) -> tuple[TripleType, ...]:
        """The triple type of each group."""
        return tuple(g.kind for g in self.groups)

    @cached_property
    def kind_of_row(self) -> np.ndarray:
        """For each row of a batch its group, int32."""
        return np.repeat(np.arange(len(self.groups), dtype=np.int32), [g.size for g in self.groups])

    def __call__(
        self, params: Params, batch: Batch, data: DeviceData, key: jax.Array
    ) -> Float[Array, ""]:
        """Mean loss over the rows of a batch.

        Args:
          params: `{"model": …}`, with `"log_scale"` when the temperature is learned.
          batch: local ids, `[rows]`.
          data: what every step reads.
          key: of this step's dropout and sampled negatives.

        Returns:
          The loss, float32.
        """
        dropout_key, negatives_key = jax.random.split(key)
        query = loss.normalise(self.bridged(params, batch, data, dropout_key))
        scale = scale_of(params, self.config)
        losses = []
        for tail_type in dict.fromkeys(k.tail for k in self.kinds):
            groups = [g for g in self.groups if g.kind.tail == tail_type]
            rows = slice(groups[0].start, groups[-1].start + groups[-1].size)
            forms = {"in_batch": self._in_batch, "all": self._all, "paired": self._paired}
            form = forms[self.config.negatives]
            losses.append(form(params, query[rows], batch, data, groups, scale, negatives_key))
        return jnp.concatenate(losses).mean()

    def bridged(
        self, params: Params, batch: Batch, data: DeviceData, dropout_key: jax.Array | None
    ) -> Float[Array, "rows d"]:
        """Project and bridge the heads of a batch; one dense projection a group."""
        z = [
            project(
                self.model,
                params["model"],
                g.kind.head,
                data.tables[g.kind.head][batch.heads[g.rows]],
            )
            for g in self.groups
        ]
        kinds = jnp.asarray(kind_ids(self.model, self.kinds))
        of_row = jnp.asarray(self.kind_of_row)
        return bridge(self.model, params["model"], jnp.concatenate(z), of_row, kinds, dropout_key)

    def _keys(self, params: Params, data: DeviceData, node_type: str, nodes: Array | None) -> Array:
        x = data.tables[node_type]
        z = project(self.model, params["model"], node_type, x if nodes is None else x[nodes])
        return loss.normalise(z)

    def _in_batch(
        self, params: Params, query: Array, batch: Batch, data: DeviceData,
        groups: Sequence[Group], scale: Any, _: jax.Array,
    ) -> Float[Array, " n"]:  # fmt: skip
        """Every tail of the batch that has the right type, whatever its relation."""
        rows = slice(groups[0].start, groups[0].start + len(query))
        tails = batch.tails[rows]
        key = self._keys(params, data, groups[0].kind.tail, tails)
        masked = self._masked(
            [loss.known_among(data.known[str(g.kind)], batch.heads[g.rows], tails) for g in groups]
        )
        return loss.info_nce(query, key, jnp.arange(len(query)), masked, scale)

    def _all(
        self, params: Params, query: Array, batch: Batch, data: DeviceData,
        groups: Sequence[Group], scale: Any, _: jax.Array,
    ) -> Float[Array, " n"]:  # fmt: skip
        """Every training node of the tail type."""
        tail_type = groups[0].kind.tail
        key = self._keys(params, data, tail_type, None)
        count = len(key)
        heldout = jnp.ones(count, bool).at[data.train_nodes[tail_type]].set(False)
        losses = []
        for g in groups:
            known = loss.known_among_all(data.known[str(g.kind)], batch.heads[g.rows], count)
            masked = (
                self._masked([known | heldout])
                if self.config.mask == "known"
                else jnp.broadcast_to(heldout, known.shape)
            )
            rows = slice(g.start - groups[0].start, g.start - groups[0].start + g.size)
            bias = self.config.prior * data.prior[str(g.kind)] if self.config.prior else None
            losses.append(loss.info_nce(query[rows], key, batch.tails[g.rows], masked, scale, bias))
        return jnp.concatenate(losses)

    def _paired(
        self, params: Params, query: Array, batch: Batch, data: DeviceData,
        groups: Sequence[Group], scale: Any, negatives_key: jax.Array,
    ) -> Float[Array, " n"]:  # fmt: skip
        """A few explicit negatives a row, drawn from the training nodes of the tail type."""
        rows = slice(groups[0].start, groups[0].start + len(query))
        tail_type, nodes = groups[0].kind.tail, data.train_nodes[groups[0].kind.tail]
        folded = jax.random.fold_in(negatives_key, groups[0].start)
        drawn = nodes[jax.random.randint(folded, (len(query), self.config.paired), 0, len(nodes))]
        own = self._keys(params, data, tail_type, batch.tails[rows])
        flat = self._keys(params, data, tail_type, drawn.reshape(-1))
        masked = self._masked(
            [
                loss.known_pairs(
                    data.known[str(g.kind)],
                    batch.heads[g.rows],
                    drawn[g.start - rows.start : g.start - rows.start + g.size],
                )
                for g in groups
            ]
        )
        return loss.paired_nce(query, own, flat.reshape(*drawn.shape, -1), masked, scale)

    def _masked(self, parts: Sequence[Array]) -> Bool[Array, "n m"] | None:
        return jnp.concatenate(parts) if self.config.mask == "known" else None


def scale_of(params: Params, config: ConfigDict) -> Float[Array, ""] | float:
    """1 / temperature: fixed, or learned and kept between 1 and 200."""
    if not config.learn_temperature:
        return 1 / float(config.temperature)
    return jnp.exp(jnp.clip(params["log_scale"], 0.0, np.log(200.0)))
