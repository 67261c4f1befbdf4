"""A trained bridge, ready to use: new embeddings carried over, neighbours found.

    bridge = bridge_jax.load("runs/demo")
    z = bridge.project(x, source="gene/protein")
    rows = bridge.retrieve(source="gene/protein", target="molecular_function", ids=["P04637"])

Config, parameters, triple types and transforms are the model; they fit into a folder of their own
and suffice to `project`. The `setup` is the dataset; `retrieve` needs it, for its candidates.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32
from ml_collections import ConfigDict

from bridge_jax.data.dataset import vector_faults
from bridge_jax.data.embedding_tables import Transform
from bridge_jax.data.graph import TripleType
from bridge_jax.distributed.mesh import to_local
from bridge_jax.errors import InputError, unknown
from bridge_jax.experiment.experiment import Experiment
from bridge_jax.experiment.workdir import TrainedRun, check_dataset, load_run
from bridge_jax.models.bridge import (
    Bridge,
    Params,
    bridge,
    init_params,
    make_model,
    normalise,
    project,
    triple_type_ids,
)
from bridge_jax.models.logits import init_logits
from bridge_jax.models.pretrained import is_exported, read_exported
from bridge_jax.retrieval.neighbours import Neighbours
from bridge_jax.retrieval.results import Neighbour

# Rows computed at a time. Fewer rows are padded to the first size that holds them, so that each
# size compiles once.
BLOCKS = (16, 128, 1024)


@dataclass(frozen=True)
class Predictor:
    """A bridge with its parameters.

    Attributes:
      config: of the run.
      model: the bridge, with the node types (name, dim) and relations that it knows.
      params: `{"model": …}` and what `logits` learns, on one device.
      triple_types: of the graph it was trained on; learned priors stand in this order.
      transforms: by node type; what raw embeddings go through before the model.
      step: of the checkpoint.
      setup: the dataset; None when the bridge was opened without one.
    """

    config: ConfigDict
    model: Bridge
    params: Params
    triple_types: tuple[TripleType, ...]
    transforms: Mapping[str, Transform]
    step: int
    experiment: Experiment | None = None

    def triple_type(
        self, source: str, relation: str | None = None, target: str | None = None
    ) -> TripleType:
        """The triple type that some names mean; what is left out must follow from the rest.

        Args:
          source: the head's node type.
          relation: its name.
          target: the tail's node type.

        Raises:
          InputError: an unknown name, no such triple type, or several.
        """
        self.dim(source)
        if relation is not None and relation not in self.model.relations:
            raise unknown("relation", relation, self.model.relations, "this graph")
        if target is not None:
            self.dim(target)
        from_source = [k for k in self.triple_types if k.head == source]
        fitting = [
            k for k in from_source if relation in (None, k.relation) and target in (None, k.tail)
        ]
        if len(fitting) == 1:
            return fitting[0]
        asked = " → ".join((source, relation or "any relation", target or "any type"))
        if not fitting:
            has = "; ".join(map(str, from_source)) or "nothing"
            raise InputError(f"this graph has no facts {asked}; from {source} it has: {has}")
        several = "; ".join(map(str, fitting))
        raise InputError(f"{asked} is ambiguous; give relation and target of one of: {several}")

    def dim(self, node_type: str) -> int:
        """Dimension of a node type's frozen embeddings.

        Raises:
          InputError: an unknown type, or one without embeddings.
        """
        dims = {name: dim for name, dim in self.model.node_types if dim}
        if node_type not in dims:
            raise unknown("node type", node_type, dims, "this graph")
        return dims[node_type]

    @cached_property
    def neighbours(self) -> Neighbours:
        """The dataset's nodes, ready to be searched.

        Raises:
          InputError: the bridge was opened without a dataset.
        """
        if self.experiment is None:
            raise InputError(
                "this bridge was opened without a dataset, so there is nothing to retrieve from; "
                "open it with bridge_jax.load(path, dataset=FOLDER)"
            )
        return Neighbours(self.experiment, self.params, self.project)

    def retrieve(
        self,
        source: str,
        relation: str | None = None,
        target: str | None = None,
        *,
        ids: Sequence[str] = (),
        names: Sequence[str] = (),
        embedding: Float[np.ndarray, "*n dim"] | None = None,
        k: int = 10,
        known: str = "mark",
    ) -> list[Neighbour]:
        """Find the nodes of the target type that a relation leads to.

        The scores are those of evaluation's row `bridge`, the prior included; the head itself is
        no answer. Every candidate is scored.

        Args:
          source: node type of the queries.
          relation: may be left out when it follows from the rest.
          target: node type of the answers; may be left out when it follows from the rest.
          ids: queries that are nodes of the dataset.
          names: the same by name, whatever the case.
          embedding: new queries, `[dim]` or `[n, dim]`.
          k: answers for each query.
          known: `mark` the known facts of every split, `hide` them, or `show` them unmarked.

        Returns:
          k rows for each query, best first; `pandas.DataFrame` takes them as they are.

        Raises:
          InputError: unknown names or ids, wrong embeddings, no query or two kinds of it, or a
            bridge without its dataset.
        """
        triple_type = self.triple_type(source, relation, target)
        if sum((len(ids) > 0, len(names) > 0, embedding is not None)) != 1:
            raise InputError(
                "give the queries as ids, as names or as an embedding: one of the three"
            )
        if embedding is not None:
            return self.neighbours.of_embeddings(triple_type, np.atleast_2d(embedding), k)
        nodes = self.neighbours.names(source)
        heads = [*map(nodes.with_id, ids), *map(nodes.with_name, names)]
        return self.neighbours.of_nodes(triple_type, heads, k, known)

    def projector(
        self, source: str, relation: str | None = None, target: str | None = None
    ) -> Callable[[Array | np.ndarray], Float32[Array, "n width"]]:
        """The compiled map of `project`, for callers that stream blocks of one size themselves.

        Args:
          source: node type of the embeddings.
          relation: of the triple type; see `project`.
          target: of the triple type; see `project`.

        Returns:
          A function of raw embeddings `[n, dim]` to unit vectors; it returns before the device is
          done, checks nothing, and compiles once for each n.

        Raises:
          InputError: unknown names.
        """
        self.dim(source)
        triple_types = None
        if relation is not None or target is not None:
            triple_type = self.triple_type(source, relation, target)
            triple_types = jnp.asarray(triple_type_ids(self.model, [triple_type]))
        transform = jax.tree.map(jnp.asarray, self.transforms[source])
        fixed = (self.model, source, self.config.tables.dtype)
        return partial(_embed, *fixed, self.params["model"], transform, triple_types)

    def project(
        self,
        x: Float[np.ndarray, "n dim"],
        source: str,
        relation: str | None = None,
        target: str | None = None,
        block: int | None = None,
    ) -> Float32[np.ndarray, "n width"]:
        """Carry raw embeddings into the shared space.

        Args:
          x: embeddings of the encoder that the source type was trained with.
          source: their node type.
          relation: of the triple type to bridge to. Without relation and target: the plain
            projection, as a tail (a candidate) has it; with them, the query of a head.
          target: of the triple type; may be left out when it follows from the rest, as may the
            relation.
          block: rows computed at a time; by default it follows from their number.

        Returns:
          Unit vectors. The cosine of a query and a candidate is their inner product.

        Raises:
          InputError: unknown names, another dimension, or a row that is no embedding.
        """
        dim = self.dim(source)
        embed = self.projector(source, relation, target)
        if x.ndim != 2 or x.shape[1] != dim:
            raise InputError(
                f"embeddings of {source} must have shape [n, {dim}], as those of training; "
                f"got {list(x.shape)}"
            )
        for row, what in vector_faults(np.asarray(x)):
            raise InputError(f"row {row} of the embeddings is {what}; drop it or encode it again")
        size = block or next((b for b in BLOCKS if b >= len(x)), BLOCKS[-1])
        out = np.empty((len(x), self.config.model.width), np.float32)
        waiting: tuple[slice, Array] | None = None
        for start in range(0, len(x), size):
            rows = np.asarray(x[start : start + size], np.float32)
            part = slice(start, start + len(rows))
            result = embed(np.pad(rows, ((0, size - len(rows)), (0, 0)), "edge"))
            if waiting:  # the device works on this block while the host takes in the one before
                out[waiting[0]] = waiting[1][: waiting[0].stop - waiting[0].start]
            waiting = part, result
        if waiting:
            out[waiting[0]] = waiting[1][: waiting[0].stop - waiting[0].start]
        return out


def load(path: str | Path, dataset: str | None = None, step: int | None = None) -> Predictor:
    """Open a trained run, or what `tools.export_model` made of one.

    Args:
      path: the run's workdir, or the exported folder.
      dataset: another place of the run's dataset; by default the config's. An exported bridge
        projects without one; whatever needs the graph's nodes needs it.
      step: a checkpoint's step; by default the best by validation.

    Raises:
      InputError: not a run, no checkpoint yet, or not its dataset.
    """
    if is_exported(Path(path)):
        return from_export(Path(path), dataset, step)
    return from_run(load_run(path, dataset, step))


def from_export(folder: Path, dataset: str | None = None, step: int | None = None) -> Predictor:
    """An exported bridge as something to use; see `load`.

    Raises:
      InputError: the folder is damaged, holds another step, or belongs to another dataset.
    """
    found = read_exported(folder)
    if step not in (None, found.step):
        raise InputError(f"{folder}: holds step {found.step} alone, not {step}")
    experiment = None
    if dataset:
        found.config.dataset = dataset
        experiment = Experiment.from_config(found.config)
        check_dataset(folder, found.manifest, experiment.manifest, dataset)
    dims = [(t["name"], t["dim"]) for t in found.node_types]
    model = make_model(found.config.model, dims, found.relations)
    wanted: dict[str, object] = dict(init_logits(found.config.loss, found.triple_types))
    wanted["model"] = jax.eval_shape(partial(init_params, model), jax.random.key(0))
    given = {
        k: v for k, v in found.params.items() if k != "node_embedding"
    }  # as large as the graph
    if jax.tree.map(jnp.shape, wanted) != jax.tree.map(jnp.shape, given):
        raise InputError(f"{folder}: its weights do not fit its config; export it again")
    return Predictor(
        found.config,
        model,
        jax.tree.map(jnp.asarray, found.params),
        found.triple_types,
        {name: Transform(*parts) for name, parts in found.transforms.items()},
        found.step,
        experiment,
    )


def from_run(run: TrainedRun) -> Predictor:
    """A run as something to use."""
    experiment = run.experiment
    return Predictor(
        experiment.config,
        experiment.model,
        to_local(run.params),
        experiment.graph.triple_types,
        {name: Transform.of(table) for name, table in experiment.tables.items()},
        run.step,
        experiment,
    )


@partial(jax.jit, static_argnums=(0, 1, 2))
def _embed(
    model: Bridge,
    node_type: str,
    dtype: str,
    params: Params,
    transform: Transform,
    triple_types: Array | None,
    x: Array,
) -> Float32[Array, "n width"]:
    mean, matrix = transform
    x = x.astype(jnp.float32) - mean
    x = x * matrix if matrix.ndim == 1 else jnp.matmul(x, matrix, precision="highest")
    z = project(model, params, node_type, x.astype(dtype))
    if triple_types is not None:
        z = bridge(model, params, z, jnp.zeros(len(z), jnp.int32), triple_types)
    return normalise(z).astype(jnp.float32)
