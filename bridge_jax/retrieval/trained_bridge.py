"""A bridge with its parameters: projects embeddings, and encodes what they are made from."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32
from ml_collections import ConfigDict

from bridge_jax.data.dataset import vector_faults
from bridge_jax.data.embedding_tables import Transform
from bridge_jax.data.encoder_spec import (
    EncoderSpec,
    check_same_encoder,
)
from bridge_jax.data.graph import TripleType
from bridge_jax.data.triple_types import find_triple_type
from bridge_jax.encoders.query_encoder import Query, QueryEncoder
from bridge_jax.errors import InputError, unknown
from bridge_jax.experiment.experiment import Experiment
from bridge_jax.models.bridge import Bridge, Params, triple_type_ids
from bridge_jax.models.scorer import embed_raw
from bridge_jax.retrieval.exact_index import check_finite
from bridge_jax.retrieval.summary import bridge_as_html, bridge_as_text

# Rows computed at a time. Fewer rows are padded to the first size that holds them, so each size
# compiles once.
BLOCKS = (16, 128, 1024)


@dataclass(frozen=True, repr=False)
class TrainedBridge:
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

    @property
    def node_types(self) -> tuple[str, ...]:
        """Node types with embeddings."""
        return tuple(name for name, dim in self.model.node_types if dim)

    @property
    def relations(self) -> tuple[str, ...]:
        """Relations."""
        return tuple(self.model.relations)

    def __repr__(self) -> str:
        graph = self.experiment and self.experiment.graph
        num_nodes = int(graph.offsets[-1]) if graph else 0
        counts = (len(self.node_types), len(self.relations), self.config.model.width, num_nodes)
        return bridge_as_text(self.source, self.step, *counts)

    def _repr_html_(self) -> str:
        """Returns a card for notebooks."""
        dims = {name: self.dim(name) for name in self.node_types}
        return bridge_as_html(repr(self), dims, self.encoder_specs, self.triple_types)

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
        return find_triple_type(self.triple_types, source, relation, target)

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
    def query_encoder(self) -> QueryEncoder:
        """Encoders of the dataset's node types; each is loaded on first use and kept."""
        return QueryEncoder(self.encoder_specs)

    def encode(
        self,
        queries: Query | Sequence[Query],
        node_type: str,
        checkpoint: str = "",
        device: str = "auto",
    ) -> Float32[np.ndarray, "n dim"]:
        """Encodes sequences, SMILES or texts as the nodes of a type were encoded.

        Args:
          queries: What the type is encoded from: sequences, SMILES or texts. A text may be a pair
            (name, definition).
          node_type: Node type.
          checkpoint: Folder or hub name of the encoder's weights; default: the one that the dataset
            names.
          device: `auto`, `cpu` or `cuda`.

        Returns:
          Embeddings as the encoder gives them, for `retrieve`, `explain` and `project`.

        Raises:
          InputError: The type or its encoder is unknown, a package is missing (the message names
            the extra to install), or a query cannot be encoded.

        Example:
          >>> bridge.encode(["MEEPQSDPSVEPPLSQETFSDLWKLL"], "gene/protein").shape
          (1, 256)
        """
        dim = self.dim(node_type)
        x = self.query_encoder.encode(as_list(queries), node_type, checkpoint, device)
        if x.shape[1] != dim:
            raise InputError(
                f"{node_type}: its encoder gives {x.shape[1]} values, but the bridge reads {dim}; "
                "the recorded encoder is not the one that made the dataset"
            )
        return x

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


def as_list(values: Query | Sequence[Query]) -> list[Query]:
    """Returns one string as a list of one; an array, too, becomes a list."""
    return [values] if isinstance(values, str) else list(values)
