"""Python API of a trained bridge: projects new embeddings and retrieves neighbours.

    bridge = bridge_jax.load("runs/demo")
    z = bridge.project(x, source="gene/protein")
    rows = bridge.retrieve(source="gene/protein", target="molecular_function", ids=["P04637"])

Config, parameters, triple types and transforms are the model. They fit into a folder of their own
(`tools.export_model`) and suffice to `project`. To `retrieve`, the dataset is needed, because its
nodes are the candidates.
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
from bridge_jax.models.bridge import Bridge, Params, init_params, make_model, triple_type_ids
from bridge_jax.models.logits import init_logits
from bridge_jax.models.node_embedding import NODE_EMBEDDING
from bridge_jax.models.pretrained import is_pretrained, load_pretrained
from bridge_jax.models.scorer import embed_raw
from bridge_jax.retrieval.results import Neighbour
from bridge_jax.retrieval.retriever import Retriever

# Rows computed at a time. Fewer rows are padded to the first size that holds them, so each size
# compiles once.
BLOCKS = (16, 128, 1024)


@dataclass(frozen=True)
class Predictor:
    """A bridge with its parameters.

    Attributes:
      config: Config of the run.
      model: The bridge, with the node types (name, dim) and relations that it knows.
      params: `{"model": …}`, learned parts of the logits, and learned node embeddings, on one
        device.
      triple_types: Triple types of the training graph; learned priors have this order.
      transforms: Affine transform of raw embeddings, by node type.
      step: Step of the checkpoint.
      experiment: The dataset; None if the bridge was opened without one.
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
        """Finds the triple type with some names; omitted names must follow from the others.

        Args:
          source: Node type of the head.
          relation: Name of the relation; default: the only one that fits.
          target: Node type of the tail; default: the only one that fits.

        Raises:
          InputError: A name is unknown, or none or several triple types fit.
        """
        self.dim(source)
        if relation is not None and relation not in self.model.relations:
            raise unknown("relation", relation, self.model.relations, "this graph")
        if target is not None:
            self.dim(target)
        from_source = [t for t in self.triple_types if t.head == source]
        matches = [
            t for t in from_source if relation in (None, t.relation) and target in (None, t.tail)
        ]
        if len(matches) == 1:
            return matches[0]
        query = " → ".join((source, relation or "any relation", target or "any type"))
        if not matches:
            existing = "; ".join(map(str, from_source)) or "nothing"
            raise InputError(f"this graph has no facts {query}; from {source} it has: {existing}")
        choices = "; ".join(map(str, matches))
        raise InputError(f"{query} is ambiguous; give relation and target of one of: {choices}")

    def dim(self, node_type: str) -> int:
        """Returns the dimension of a node type's frozen embeddings.

        Raises:
          InputError: The type is unknown, or it has no embeddings.
        """
        dims = {name: dim for name, dim in self.model.node_types if dim}
        if node_type not in dims:
            raise unknown("node type", node_type, dims, "this graph")
        return dims[node_type]

    @cached_property
    def retriever(self) -> Retriever:
        """Search over the nodes of the dataset.

        Raises:
          InputError: The bridge was opened without a dataset.
        """
        if self.experiment is None:
            raise InputError(
                "this bridge was opened without a dataset, so there is nothing to retrieve from; "
                "open it with bridge_jax.load(path, dataset=FOLDER)"
            )
        return Retriever(self.experiment, self.params, self.project)

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
        """Finds the best tails of a relation for each query.

        Scores are those of the row `bridge` in an evaluation, with the prior. Every candidate is
        scored; the head itself is left out.

        Args:
          source: Node type of the queries.
          relation: Name of the relation; default: the only one that fits.
          target: Node type of the answers; default: the only one that fits.
          ids: Ids of nodes of the dataset.
          names: Names of nodes of the dataset, in any case.
          embedding: New embeddings, `[dim]` or `[n, dim]`.
          k: Number of answers per query.
          known: What to do with known facts of all splits: `mark`, `hide` or `show` unmarked.

        Returns:
          k rows for each query, best first; `pandas.DataFrame(rows)` makes a table of them.

        Raises:
          InputError: A name or id is unknown, an embedding does not fit, there is no query or more
            than one sort of query, or the bridge has no dataset.

        Example:
          >>> bridge.retrieve("gene/protein", target="disease", names=["BRCA1"], k=3)
        """
        triple_type = self.triple_type(source, relation, target)
        if sum((len(ids) > 0, len(names) > 0, embedding is not None)) != 1:
            raise InputError(
                "give the queries as ids, as names or as an embedding: one of the three"
            )
        if embedding is not None:
            return self.retriever.search_by_embedding(triple_type, np.atleast_2d(embedding), k)
        nodes = self.retriever.node_index(source)
        heads = [*map(nodes.row_of_id, ids), *map(nodes.row_of_name, names)]
        return self.retriever.search_by_node(triple_type, heads, k, known)

    def projector(
        self, source: str, relation: str | None = None, target: str | None = None
    ) -> Callable[[Array | np.ndarray], Float32[Array, "n width"]]:
        """Returns the compiled function behind `project`, for callers that stream equal blocks.

        Args:
          source: Node type of the embeddings.
          relation: Relation to bridge along; see `project`.
          target: Node type to bridge to; see `project`.

        Returns:
          Function from raw embeddings `[n, dim]` to unit vectors. It returns before the device has
          finished, checks nothing, and compiles once per n.

        Raises:
          InputError: A name is unknown.
        """
        self.dim(source)
        ids = None
        if relation is not None or target is not None:
            triple_type = self.triple_type(source, relation, target)
            ids = jnp.asarray(triple_type_ids(self.model, [triple_type]))
        transform = jax.tree.map(jnp.asarray, self.transforms[source])
        static = (self.model, source, self.config.tables.dtype)
        return partial(embed_raw, *static, {"model": self.params["model"]}, transform, ids)

    def project(
        self,
        x: Float[np.ndarray, "n dim"],
        source: str,
        relation: str | None = None,
        target: str | None = None,
        block: int | None = None,
    ) -> Float32[np.ndarray, "n width"]:
        """Maps raw embeddings into the shared space.

        Without relation and target, embeddings are projected as tails (candidates). With either,
        they are bridged as heads (queries).

        Args:
          x: Embeddings by the encoder that the source type was trained with.
          source: Their node type.
          relation: Relation to bridge along; default: the only one that leads to `target`.
          target: Node type to bridge to; default: the only one that `relation` leads to.
          block: Rows computed at a time; default: chosen by their number.

        Returns:
          Unit vectors. The inner product of a query and a candidate is their cosine.

        Raises:
          InputError: A name is unknown, the dimension is another one, or a row is not finite or
            all zero.
        """
        dim = self.dim(source)
        embed = self.projector(source, relation, target)
        if x.ndim != 2 or x.shape[1] != dim:
            raise InputError(
                f"embeddings of {source} must have shape [n, {dim}], as in training; "
                f"got {list(x.shape)}"
            )
        for row, fault in vector_faults(np.asarray(x)):
            raise InputError(f"row {row} of the embeddings is {fault}; drop it or encode it again")
        size = block or next((b for b in BLOCKS if b >= len(x)), BLOCKS[-1])
        out = np.empty((len(x), self.config.model.width), np.float32)
        pending: tuple[slice, Array] | None = None

        def fetch(rows: slice, result: Array) -> None:
            out[rows] = result[: rows.stop - rows.start]

        for start in range(0, len(x), size):
            rows = np.asarray(x[start : start + size], np.float32)
            result = embed(np.pad(rows, ((0, size - len(rows)), (0, 0)), "edge"))
            if pending:  # the device works on this block while the host fetches the one before
                fetch(*pending)
            pending = slice(start, start + len(rows)), result
        if pending:
            fetch(*pending)
        return out


def load(path: str | Path, dataset: str | None = None, step: int | None = None) -> Predictor:
    """Opens a trained run, or a folder that `tools.export_model` made of one.

    Args:
      path: Folder of the run or of the exported bridge.
      dataset: Folder of the run's dataset; default: the config's. An exported bridge projects
        without a dataset, but needs one to retrieve.
      step: Step of a checkpoint; default: the best by validation.

    Raises:
      InputError: This is not a run, it has no such checkpoint, or the dataset is another one.
    """
    if is_pretrained(Path(path)):
        return from_export(Path(path), dataset, step)
    return from_run(load_run(path, dataset, step))


def from_export(folder: Path, dataset: str | None = None, step: int | None = None) -> Predictor:
    """Opens an exported bridge; see `load`.

    Raises:
      InputError: The folder is damaged, holds another step, or belongs to another dataset.
    """
    exported = load_pretrained(folder)
    if step not in (None, exported.step):
        raise InputError(f"{folder}: holds only step {exported.step}, not {step}")
    experiment = None
    if dataset:
        exported.config.dataset = dataset
        experiment = Experiment.from_config(exported.config)
        check_dataset(folder, exported.manifest, experiment.manifest, dataset)
    dims = [(t["name"], t["dim"]) for t in exported.node_types]
    model = make_model(exported.config.model, dims, exported.relations)
    expected: dict[str, object] = dict(init_logits(exported.config.loss, exported.triple_types))
    expected["model"] = jax.eval_shape(partial(init_params, model), jax.random.key(0))
    # Node embeddings are as many as the graph has nodes, which is not known here.
    stored = {k: v for k, v in exported.params.items() if k != NODE_EMBEDDING}
    if jax.tree.map(jnp.shape, expected) != jax.tree.map(jnp.shape, stored):
        raise InputError(f"{folder}: its weights do not fit its config; export it again")
    return Predictor(
        exported.config,
        model,
        jax.tree.map(jnp.asarray, exported.params),
        exported.triple_types,
        {name: Transform(*arrays) for name, arrays in exported.transforms.items()},
        exported.step,
        experiment,
    )


def from_run(run: TrainedRun) -> Predictor:
    """Makes a predictor of a loaded run."""
    experiment = run.experiment
    return Predictor(
        experiment.config,
        experiment.model,
        to_local(run.params),
        experiment.graph.triple_types,
        {name: Transform.from_table(table) for name, table in experiment.tables.items()},
        run.step,
        experiment,
    )
