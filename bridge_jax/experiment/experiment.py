"""A config with the dataset and the model that it names: what training and evaluation share."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from ml_collections import ConfigDict

from bridge_jax.data.embedding_tables import EmbeddingTable, load_tables
from bridge_jax.data.graph import (
    Graph,
    Known,
    Pairs,
    TripleType,
    known_positives,
    load_graph,
    subsample_facts,
)
from bridge_jax.data.manifest import SPLITS, Manifest, read_manifest
from bridge_jax.distributed.mesh import device_count, make_mesh, replicated, to_local
from bridge_jax.distributed.placement import resolve_placement
from bridge_jax.errors import InputError
from bridge_jax.experiment.checkpoint import abstract
from bridge_jax.models.bridge import Bridge, Params, init_params, make_model
from bridge_jax.models.logits import init_logits, popularities
from bridge_jax.models.node_embedding import init_node_embeddings
from bridge_jax.models.scorer import BridgeScorer


@dataclass(frozen=True)
class Experiment:
    """A config, its dataset, and its model without parameters.

    Configuration is `config`. The dataset is `manifest`, `graph` and `tables`. Everything else
    follows from these: `model`, `placement` and `mesh` at once, the cached properties when they are
    first used. An experiment has no state; parameters are passed in.

    Attributes:
      config: The run's config.
      manifest: Manifest of the dataset.
      graph: Facts by split.
      tables: Frozen embeddings by node type.
      model: The bridge, without parameters.
      placement: Resolved placement of the tables during training.
      mesh: Device mesh.
    """

    config: ConfigDict
    manifest: Manifest
    graph: Graph
    tables: dict[str, EmbeddingTable]
    model: Bridge
    placement: str
    mesh: Mesh

    @classmethod
    def from_config(cls, config: ConfigDict) -> "Experiment":
        """Opens the dataset that a config names and builds its model.

        Raises:
          InputError: The dataset is missing or damaged, or the config does not fit it.
        """
        if not config.dataset:
            raise InputError("the config names no dataset; pass --config.dataset=FOLDER")
        manifest = read_manifest(config.dataset)
        graph = subsample_facts(load_graph(config.dataset, manifest), config.fraction, config.seed)
        tables = load_tables(config.dataset, manifest, graph, config.tables.transform)
        dims = [(t.name, t.dim) for t in manifest.node_types]
        model = make_model(config.model, dims, manifest.relations)
        num_bytes = sum(t.stored.size for t in tables.values())
        num_bytes *= jnp.dtype(config.tables.dtype).itemsize
        devices = device_count(config.devices)
        placement = resolve_placement(
            config.tables.placement, num_bytes, config.loss.negatives, devices
        )
        table_devices = (config.tables.devices or devices) if placement == "sharded" else 1
        mesh = make_mesh(config.batch.shards, devices, table_devices)
        return cls(config, manifest, graph, tables, model, placement, mesh)

    @cached_property
    def log_shares(self) -> dict[str, jax.Array]:
        """Log-popularity of each tail among the training facts, by triple type (as text)."""
        return popularities(self.graph, known_positives(self.graph, ["train"]))

    @cached_property
    def known(self) -> dict[TripleType, Known]:
        """Known positives of all splits, for the filtered ranks of the test."""
        return known_positives(self.graph, self.graph.facts)

    @cached_property
    def known_before_test(self) -> dict[TripleType, Known]:
        """Known positives without those of the test, for choices made on the validation split."""
        return known_positives(self.graph, [s for s in self.graph.facts if s != "test"])

    @cached_property
    def queries(self) -> dict[str, dict[TripleType, Pairs]]:
        """Queries of the validation and the test split, as `Graph.queries` makes them."""
        return {split: self.graph.queries(split) for split in SPLITS[1:]}

    def init_params(self, key: jax.Array) -> dict[str, Any]:
        """Initialises all parameters: `{"model": …}`, those of the logits, node embeddings."""
        counts = {name: len(table.ids) for name, table in self.tables.items()}
        return {
            "model": init_params(self.model, key),
            **init_logits(self.config.loss, self.graph.triple_types),
            **init_node_embeddings(self.config.model, counts),
        }

    def abstract_params(self) -> Any:
        """Returns shapes, dtypes and shardings of `init_params`."""
        shapes = jax.eval_shape(self.init_params, jax.random.key(0))
        sharding = replicated(self.mesh)
        return jax.tree.map(lambda a: abstract(a.shape, a.dtype, sharding), shapes)

    def scorer(self, params: Params) -> BridgeScorer:
        """Builds the scorer of the bridge with some parameters, on this process's first device."""
        return BridgeScorer(
            self.model,
            to_local(params),
            self.tables,
            self.log_shares,
            self.graph.triple_types,
            self.config.loss,
            self.config.tables.dtype,
        )
