"""Python API of a trained bridge: projects new embeddings and retrieves neighbours.

    bridge = bridge_jax.load("runs/demo")
    z = bridge.project(x, source="gene/protein")
    rows = bridge.retrieve(source="gene/protein", target="molecular_function", ids=["P04637"])

Config, parameters, triple types and transforms are the model. They fit into a folder of their own
(`tools.export_model`) and suffice to `project`. To `retrieve`, the dataset is needed, because its
nodes are the candidates.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Float32

from bridge_jax.data.embedding_tables import Transform
from bridge_jax.data.encoder_spec import (
    SPEC_KEY,
    EncoderSpec,
    spec_from_json,
)
from bridge_jax.distributed.mesh import to_local
from bridge_jax.encoders.query_encoder import MODALITIES, Query, labels_of
from bridge_jax.errors import InputError
from bridge_jax.evaluation.fusion_fit import settings_of_folder
from bridge_jax.experiment.experiment import Experiment
from bridge_jax.experiment.workdir import TrainedRun, check_dataset, load_run
from bridge_jax.models.bridge import init_params, make_model
from bridge_jax.models.logits import init_logits
from bridge_jax.models.node_embedding import NODE_EMBEDDING
from bridge_jax.models.pretrained import DATASET, is_pretrained, load_pretrained
from bridge_jax.retrieval.evidence import name_reasons
from bridge_jax.retrieval.explanations import Explanation
from bridge_jax.retrieval.path_query import PathAnswer, answer_path, parse_path
from bridge_jax.retrieval.results import Neighbours
from bridge_jax.retrieval.retriever import Retriever
from bridge_jax.retrieval.trained_bridge import TrainedBridge, as_list


@dataclass(frozen=True, repr=False)
class Predictor(TrainedBridge):
    """A bridge that answers queries; its parts and its projections are those of `TrainedBridge`."""

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
        ids: str | Sequence[str] = (),
        names: str | Sequence[str] = (),
        embedding: Float[np.ndarray, "*n dim"] | None = None,
        sequences: str | Sequence[str] = (),
        smiles: str | Sequence[str] = (),
        texts: Query | Sequence[Query] = (),
        k: int = 10,
        known: str = "mark",
        answer: str = "",
        encoder_spec: EncoderSpec | None = None,
        labels: Sequence[str] = (),
    ) -> Neighbours:
        """Finds the best tails of a relation for each query.

        The answers are those that an evaluation ranks: of the row `fusion`, or of the row `bridge`.
        Every candidate is scored; the head itself is left out. What belongs to a node of the
        dataset, such as its sequence, is recognised and gets that node's answers.

        Args:
          source: Node type of the queries.
          relation: Name of the relation; default: the only one that fits.
          target: Node type of the answers; default: the only one that fits.
          ids: Ids of nodes of the dataset.
          names: Names of nodes of the dataset, in any case.
          embedding: New embeddings, `[dim]` or `[n, dim]`.
          sequences: Sequences, which `encode` turns into embeddings.
          smiles: SMILES, likewise.
          texts: Texts, likewise; a pair (name, definition) within a list gives both parts.
          k: Number of answers per query.
          known: What to do with known facts of all splits: `mark`, `hide` or `show` unmarked.
          answer: What answers: `fusion`, the bridge mixed with its nearest neighbours; `bridge`
            alone; or `knn`, the neighbours alone. Default: the last row of the run's evaluation.
          encoder_spec: How `embedding` was made, to check it; default: not checked.
          labels: Names of the embeddings in the results; default: their number, or the text.

        Returns:
          k rows for each query, best first; `to_pandas()` makes a table of them.

        Raises:
          InputError: A name or id is unknown, an embedding does not fit, there is no query or more
            than one sort of query, or the bridge has no dataset.

        Example:
          >>> bridge.retrieve("gene/protein", target="disease", names="BRCA1", k=3)
        """
        triple_type = self.triple_type(source, relation, target)
        inputs = dict(zip(MODALITIES, map(as_list, (sequences, smiles, texts)), strict=True))
        ids, names = ([v] if isinstance(v, str) else list(v) for v in (ids, names))
        if sum(map(bool, (ids, names, embedding is not None, *inputs.values()))) != 1:
            raise InputError(
                "give the queries as ids, names, an embedding, sequences, smiles or texts: one of "
                "these"
            )
        for modality, queries in inputs.items():
            if queries:
                embedding = self._encode_modality(queries, source, modality)
                labels = labels or labels_of(queries)
        if embedding is not None:
            if encoder_spec:
                self.check_encoder(source, encoder_spec, remedy="leave out encoder_spec")
            x = np.atleast_2d(embedding)
            search = self.retriever.search_by_embedding
            return Neighbours(search(triple_type, x, k, known, answer, labels))
        nodes = self.retriever.node_index(source)
        heads = [*map(nodes.row_of_id, ids), *map(nodes.row_of_name, names)]
        return Neighbours(self.retriever.search_by_node(triple_type, heads, k, known, answer))

    def _encode_modality(
        self, queries: Sequence[Query], node_type: str, modality: str
    ) -> Float32[np.ndarray, "n dim"]:
        self.query_encoder.check_modality(node_type, modality)
        return self.encode(queries, node_type)

    def follow_path(
        self,
        path: str,
        *,
        ids: str | Sequence[str] = (),
        names: str | Sequence[str] = (),
        embedding: Float[np.ndarray, "*n dim"] | None = None,
        k: int = 10,
        answer: str = "",
    ) -> list[PathAnswer]:
        """Answers a path question, over relations that were never trained end to end.

        Args:
          path: Node types joined by relations, e.g.
            `drug -[target]-> gene/protein -[associated with]-> disease`; a relation may be empty if
            only one leads from the one type to the other.
          ids: Ids of nodes of the first type.
          names: Names or synonyms of such nodes.
          embedding: New embeddings of the first type, `[dim]` or `[n, dim]`.
          k: Number of answers per query.
          answer: What answers each step, as for `retrieve`.

        Returns:
          k rows for each query, best first, with the nodes that the path leads over.

        Raises:
          InputError: The text is not a path, or as for `retrieve`.
        """
        steps = parse_path(path, self.triple_type)
        source = steps[0].head
        ids, names = ([v] if isinstance(v, str) else list(v) for v in (ids, names))
        if sum((len(ids) > 0, len(names) > 0, embedding is not None)) != 1:
            raise InputError("give the start as ids, as names or as an embedding: one of the three")
        nodes = self.retriever.node_index(source)
        heads: list[int | None] = [*map(nodes.row_of_id, ids), *map(nodes.row_of_name, names)]
        answers: list[PathAnswer] = []
        if embedding is not None:
            x = np.atleast_2d(embedding)
            self.project(x, source)  # refuses what the model cannot read
            heads = [*self.retriever.find_same_nodes(source, x)]
        for row, head in enumerate(heads):
            asked = {"head": head} if head is not None else {"x": x[row : row + 1]}
            found = answer_path(self.retriever, steps, k=k, answer=answer, **asked)
            label = f"embedding {row}" + (f" ({nodes.ids[head]})" if head is not None else "")
            answers += [a._replace(query=label) if embedding is not None else a for a in found]
        return answers

    def explain(
        self,
        source: str,
        relation: str | None = None,
        target: str | None = None,
        *,
        answers: str | Sequence[str],
        id: str | None = None,
        name: str | None = None,
        embedding: Float[np.ndarray, "*n dim"] | None = None,
        sequence: str | None = None,
        smiles: str | None = None,
        text: Query | None = None,
    ) -> list[Explanation]:
        """Says why nodes are answers to one query of the fusion.

        Args:
          source: Node type of the query.
          relation: Name of the relation; default: the only one that fits.
          target: Node type of the answers; default: the only one that fits.
          answers: Ids of the answers.
          id: Id of the query; give one of this and the following.
          name: Name of the query.
          embedding: New embedding, `[dim]` or `[1, dim]`.
          sequence: Sequence, which `encode` turns into an embedding.
          smiles: SMILES, likewise.
          text: Text or pair (name, definition), likewise.

        Returns:
          For each answer the shares of its probability that come from the bridge and its
          neighbours, the similar nodes behind the votes, and paths of at most two known facts.

        Raises:
          InputError: As for `retrieve`.

        Example:
          >>> bridge.explain("gene/protein", target="disease", name="CFTR", answers="DI-01466")
        """
        triple_type = self.triple_type(source, relation, target)
        inputs = dict(zip(MODALITIES, (sequence, smiles, text), strict=True))
        if sum(v is not None for v in (id, name, embedding, *inputs.values())) != 1:
            raise InputError(
                "give the query as id, name, embedding, sequence, smiles or text: one of these"
            )
        retriever = self.retriever
        nodes, tails = retriever.node_index(source), retriever.node_index(triple_type.tail)
        rows = [tails.row_of_id(str(answer)) for answer in as_list(answers)]
        head, x, query = None, None, "this embedding"
        for modality, item in inputs.items():
            if item is not None:
                embedding = self._encode_modality([item], source, modality)
                (query,) = labels_of([item])
        if embedding is not None:
            x = np.atleast_2d(embedding)
            self.project(x, source)  # refuses what the model cannot read
            (head,) = retriever.find_same_nodes(source, x[:1])
        else:
            head = nodes.row_of_id(id) if id is not None else nodes.row_of_name(name or "")
        if head is not None:
            x, query = None, nodes.names[head]
        reasons = retriever.explain(triple_type, rows, head=head, x=x)
        indexes = {t: retriever.node_index(t) for t in self.node_types}
        return [
            name_reasons(triple_type, query, row, reason, indexes)
            for row, reason in zip(rows, reasons, strict=True)
        ]


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
    if not dataset and (folder / DATASET / "manifest.json").is_file():
        dataset = str(folder / DATASET)
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
