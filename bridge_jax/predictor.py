"""Python API of a trained bridge: projects new embeddings and retrieves neighbours.

    bridge = bridge_jax.load("runs/demo")
    z = bridge.project(x, source="gene/protein")
    rows = bridge.retrieve(source="gene/protein", target="molecular_function", ids=["P04637"])

Config, parameters, triple types and transforms are the model. They fit into a folder of their own
(`tools.export_model`) and suffice to `project`. To `retrieve`, the dataset is needed, because its
nodes are the candidates.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32
from ml_collections import ConfigDict

from bridge_jax.data.dataset import vector_faults
from bridge_jax.data.embedding_tables import Transform
from bridge_jax.data.encoder_spec import (
    SPEC_KEY,
    EncoderSpec,
    check_same_encoder,
    spec_from_json,
)
from bridge_jax.data.graph import TripleType
from bridge_jax.distributed.mesh import to_local
from bridge_jax.errors import InputError, unknown
from bridge_jax.evaluation.fusion_fit import settings_of_folder
from bridge_jax.experiment.experiment import Experiment
from bridge_jax.experiment.workdir import TrainedRun, check_dataset, load_run
from bridge_jax.models.bridge import Bridge, Params, init_params, make_model, triple_type_ids
from bridge_jax.models.logits import init_logits
from bridge_jax.models.node_embedding import NODE_EMBEDDING
from bridge_jax.models.pretrained import is_pretrained, load_pretrained
from bridge_jax.models.scorer import embed_raw
from bridge_jax.retrieval.evidence import name_reasons
from bridge_jax.retrieval.exact_index import check_finite
from bridge_jax.retrieval.explanations import Explanation
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
      source: Folder that the bridge was opened from.
      encoder_specs: How raw embeddings are made, by node type; without those that are not recorded.
    """

    config: ConfigDict
    model: Bridge
    params: Params
    triple_types: tuple[TripleType, ...]
    transforms: Mapping[str, Transform]
    step: int
    experiment: Experiment | None = None
    source: str = "this bridge"
    encoder_specs: Mapping[str, EncoderSpec] = field(default_factory=dict)

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

    def check_encoder(
        self,
        node_type: str,
        given: EncoderSpec | None,
        noun: str = "embeddings",
        allow_other: bool = False,
        remedy: str = "pass --allow-other-encoder",
    ) -> None:
        """Checks that raw embeddings were made as those that the bridge was trained on.

        Args:
          node_type: Their node type.
          given: How they were made; None if that is not known, which gives a notice.
          noun: What they are, for messages.
          allow_other: Whether another encoder is accepted, with a notice.
          remedy: How the caller accepts another encoder.

        Raises:
          InputError: They were made in another way.
        """
        trained = self.encoder_specs.get(node_type)
        check_same_encoder(f"{noun}: {node_type}", trained, given, allow_other, remedy)

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
        source = f"{self.source}, step {self.step}"
        read_fusion = partial(settings_of_folder, Path(self.source), self.experiment, self.step)
        return Retriever(self.experiment, self.params, self.project, source, read_fusion)

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
        answer: str = "",
        encoder_spec: EncoderSpec | None = None,
    ) -> list[Neighbour]:
        """Finds the best tails of a relation for each query.

        The answers are those that an evaluation ranks: of the row `fusion`, or of the row `bridge`.
        Every candidate is scored; the head itself is left out.

        Args:
          source: Node type of the queries.
          relation: Name of the relation; default: the only one that fits.
          target: Node type of the answers; default: the only one that fits.
          ids: Ids of nodes of the dataset.
          names: Names of nodes of the dataset, in any case.
          embedding: New embeddings, `[dim]` or `[n, dim]`.
          k: Number of answers per query.
          known: What to do with known facts of all splits: `mark`, `hide` or `show` unmarked.
          answer: What answers: `fusion`, the bridge mixed with its nearest neighbours; `bridge`
            alone; or `knn`, the neighbours alone. Default: the last row of the run's evaluation.
          encoder_spec: How `embedding` was made, to check it; default: not checked.

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
            if encoder_spec:
                self.check_encoder(source, encoder_spec, remedy="leave out encoder_spec")
            x = np.atleast_2d(embedding)
            return self.retriever.search_by_embedding(triple_type, x, k, known, answer)
        nodes = self.retriever.node_index(source)
        heads = [*map(nodes.row_of_id, ids), *map(nodes.row_of_name, names)]
        return self.retriever.search_by_node(triple_type, heads, k, known, answer)

    def explain(
        self,
        source: str,
        relation: str | None = None,
        target: str | None = None,
        *,
        answers: Sequence[str],
        id: str | None = None,
        name: str | None = None,
        embedding: Float[np.ndarray, "*n dim"] | None = None,
    ) -> list[Explanation]:
        """Says why nodes are answers to one query of the fusion.

        Args:
          source: Node type of the query.
          relation: Name of the relation; default: the only one that fits.
          target: Node type of the answers; default: the only one that fits.
          answers: Ids of the answers.
          id: Id of the query; give this, `name` or `embedding`.
          name: Name of the query.
          embedding: New embedding, `[dim]` or `[1, dim]`.

        Returns:
          For each answer the shares of its probability that come from the bridge and its
          neighbours, the similar nodes behind the votes, and paths of at most two known facts.

        Raises:
          InputError: As for `retrieve`.

        Example:
          >>> bridge.explain("gene/protein", target="disease", name="CFTR", answers=["DI-01466"])
        """
        triple_type = self.triple_type(source, relation, target)
        if sum(query is not None for query in (id, name, embedding)) != 1:
            raise InputError("give the query as id, as name or as an embedding: one of the three")
        retriever = self.retriever
        nodes, tails = retriever.node_index(source), retriever.node_index(triple_type.tail)
        rows = [tails.row_of_id(answer) for answer in answers]
        head, x, query = None, None, "this embedding"
        if embedding is not None:
            x = np.atleast_2d(embedding)
            self.project(x, source)  # refuses what the model cannot read
            (head,) = retriever.find_same_nodes(source, x[:1])
        else:
            head = nodes.row_of_id(id) if id is not None else nodes.row_of_name(name or "")
        if head is not None:
            x, query = None, nodes.names[head]
        reasons = retriever.explain(triple_type, rows, head=head, x=x)
        indexes = {t: retriever.node_index(t) for t, dim in self.model.node_types if dim}
        return [
            name_reasons(triple_type, query, row, reason, indexes)
            for row, reason in zip(rows, reasons, strict=True)
        ]

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
        encoder_spec: EncoderSpec | None = None,
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
          encoder_spec: How the embeddings were made, to check it; default: not checked.

        Returns:
          Unit vectors. The inner product of a query and a candidate is their cosine.

        Raises:
          InputError: A name is unknown, the dimension is another one, a row is not finite or all
            zero, or its projection is not finite.
        """
        dim = self.dim(source)
        if encoder_spec:
            self.check_encoder(source, encoder_spec, remedy="leave out encoder_spec")
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
        try:
            check_finite("row", out)
        except InputError as e:
            raise InputError(f"{self.source}, step {self.step}: the projection of {e}") from e
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
        str(folder),
        _specs((t["name"], spec_from_json(t.get(SPEC_KEY))) for t in exported.node_types),
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
        str(run.workdir),
        _specs((t.name, t.encoder_spec) for t in experiment.manifest.node_types),
    )


def _specs(pairs: Iterable[tuple[str, EncoderSpec | None]]) -> dict[str, EncoderSpec]:
    """Returns the known specifications by node type."""
    return {name: spec for name, spec in pairs if spec}
