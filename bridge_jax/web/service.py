"""Request handlers of the web app, independent of Gradio."""

import threading
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bridge_jax.data.embedding_files import DEFAULT, ReadOptions, open_embedding_file
from bridge_jax.data.graph import TripleType
from bridge_jax.errors import InputError, unknown
from bridge_jax.predictor import Predictor
from bridge_jax.retrieval.results import KNOWN_MODES
from bridge_jax.web import render

MAX_MATCHES = 25  # nodes offered for a search text
MAX_RESULTS = 100
MAX_TEXT_CHARS = 300  # of a search text, a name or an id


class PageQuery(NamedTuple):
    """A query of the page whose values were checked.

    Attributes:
      triple_type: Triple type to retrieve along.
      node_id: Id of the query node; ignored if there is an upload.
      upload: Path of a file with one new embedding.
      k: Number of results.
      known: What to do with known facts, as in `Predictor.retrieve`.
    """

    triple_type: TripleType
    node_id: str | None
    upload: str | None
    k: int
    known: str


class QueryService:
    """Searches nodes and retrieves neighbours for the web app.

    Attributes:
      bridge: Bridge that was opened with its dataset.
      smiles: SMILES by node id.
      title: Name of the dataset and step of the checkpoint.
      sources: Node types of heads; those with most triple types first.
    """

    def __init__(
        self,
        bridge: Predictor,
        smiles: Mapping[str, str],
        upload_folder: Path,
        reading: ReadOptions = DEFAULT,
    ) -> None:
        """Stores the bridge, and reads the names of all nodes.

        Args:
          bridge: Bridge that was opened with its dataset.
          smiles: SMILES by node id, for drawings; may be empty.
          upload_folder: Folder of the files that users upload; no others are read for them.
          reading: How uploads are read if their content does not decide.

        Raises:
          InputError: The bridge was opened without a dataset.
        """
        if bridge.experiment is None:
            raise InputError("the web page needs the run's dataset; give it with --dataset")
        self.bridge, self.smiles = bridge, smiles
        self.title = f"{bridge.experiment.manifest.name} · step {bridge.step:,}"
        heads = [triple_type.head for triple_type in bridge.triple_types]
        self.sources = sorted(set(heads), key=lambda head: (-heads.count(head), head))
        self._upload_folder = upload_folder
        self._reading = replace(reading, needs_ids=False)
        # Now: the dataset may be replaced while the server runs.
        for node_type in {t for triple in bridge.triple_types for t in (triple.head, triple.tail)}:
            bridge.retriever.node_index(node_type)
        # Two simultaneous first queries would project the same tails twice.
        self._lock = threading.Lock()
        self._plane = cache(
            lambda node_type: render.fit_principal_plane(bridge.retriever.project_tails(node_type))
        )

    def warm_up(self) -> None:
        """Answers the query that the page shows at first, so that all it needs is in memory.

        From then on the run may be replaced while the server goes on.
        """
        source = self.sources[0]
        node_id = self.bridge.retriever.node_index(source).ids[0]
        self.retrieve_page(self.triple_types(source)[0], node_id, None, 10, KNOWN_MODES[0])

    def triple_types(self, source: str) -> list[TripleType]:
        """Returns the triple types whose head has a node type."""
        return [t for t in self.bridge.triple_types if t.head == source]

    def check_source(self, source: Any) -> None:
        """Raises an `InputError` if a value is not the node type of a head."""
        if source not in self.sources:
            raise unknown("node type", _text("node type", source), self.sources, "this page")

    def search_nodes(self, source: Any, text: Any) -> list[tuple[str, str]]:
        """Returns (label, id) of the nodes that match a search text, best first.

        Args:
          source: Node type to search.
          text: Part of an id or name; an empty text matches the first nodes.

        Raises:
          InputError: The node type is unknown, or the text is too long.
        """
        self.check_source(source)
        index = self.bridge.retriever.node_index(source)
        if not _text("search text", text).strip():
            first = zip(index.ids[:MAX_MATCHES], index.names, strict=False)
            return [(f"{name} · {node}", node) for node, name in first]
        return [(f"{m.name} · {m.id}", m.id) for m in index.search(text, MAX_MATCHES)]

    def upload_path(self, upload: Any) -> str:
        """Returns the path of an uploaded file as Gradio describes it.

        Raises:
          InputError: There is no such file in the folder of uploads.
        """
        path = upload.get("path") if isinstance(upload, dict) else upload
        if isinstance(path, str) and "\0" not in path and len(path) < 4096:
            file = Path(path).resolve()
            if file.is_relative_to(self._upload_folder.resolve()) and file.is_file():
                return str(file)
        raise InputError("the uploaded file is no longer on the server; upload it again")

    def read_upload(self, source: Any, upload: str) -> np.ndarray:
        """Reads one new embedding from a file of any format that is imported.

        Nothing but the number and the dimension of the embeddings is read before these are checked.

        Args:
          source: Node type of the embedding.
          upload: Path of the file. Error messages show its name only.

        Returns:
          The embedding, `[1, dim]`; finite and not all zero.

        Raises:
          InputError: The file is not an embedding of this node type, or contains several.
        """
        self.check_source(source)
        name = Path(upload).name
        try:
            file = open_embedding_file(Path(upload), self._reading)
            dim = file.dim or file.first_dim()
            if file.num_rows != 1:
                raise InputError(f"{name} holds {file.num_rows:,} embeddings; give one")
            if dim != self.bridge.dim(source):
                raise InputError(
                    f"{name}: embeddings of {source} must have shape [n, {self.bridge.dim(source)}]"
                    f", as in training; got {[file.num_rows, dim]}"
                )
            block = next(file.blocks(0, 1, 1, dim))
            if block.faults:
                raise InputError(f"{name}: holds {block.faults[0]}; encode it again")
            self.bridge.project(block.x, source)
        except InputError as e:
            raise InputError(str(e).replace(upload, name)) from e
        return block.x

    def page_query(
        self, source: Any, triple_type: Any, node_id: Any, upload: Any, k: Any, known: Any
    ) -> PageQuery:
        """Checks the values that a browser sent; any of them may be anything.

        Args:
          source: Node type of the query.
          triple_type: Position in `triple_types(source)`.
          node_id: Id of the query node, or None.
          upload: An uploaded file as Gradio describes it, or None.
          k: Number of results.
          known: One of `KNOWN_MODES`.

        Raises:
          InputError: A value is not valid.
        """
        self.check_source(source)
        triple_types = self.triple_types(source)
        if type(triple_type) is not int or not 0 <= triple_type < len(triple_types):
            raise InputError("choose a relation")
        return PageQuery(
            triple_types[triple_type],
            _text("node", node_id) if node_id else None,
            self.upload_path(upload) if upload else None,
            _number(k),
            _known_mode(known),
        )

    def retrieve_page(
        self, triple_type: TripleType, node_id: str | None, upload: str | None, k: int, known: str
    ) -> tuple[str, Any]:
        """Retrieves and renders the results of one query.

        Args:
          triple_type: Triple type to retrieve along.
          node_id: Id of the query node; ignored if there is an upload.
          upload: Path of a file with one new embedding.
          k: Number of results.
          known: What to do with known facts, as in `Predictor.retrieve`.

        Returns:
          HTML table with a link to the results as CSV, and map as a Plotly figure.

        Raises:
          InputError: There is no query, or it is not valid.
        """
        if not upload and not node_id:
            raise InputError(f"choose a {triple_type.head} first, or upload an embedding")
        retriever = self.bridge.retriever
        x = self.read_upload(triple_type.head, upload) if upload else None
        with self._lock:
            if x is not None:
                query, detail = Path(upload or "").name, f"new {triple_type.head}"
                vectors = self.bridge.project(x, *triple_type)
                results = retriever.search_by_embedding(triple_type, x, k)
            else:
                heads = retriever.node_index(triple_type.head)
                row, detail = heads.row_of_id(node_id or ""), node_id or ""
                query, vectors = heads.names[row], retriever.bridge_heads(triple_type, [row])
                results = retriever.search_by_node(triple_type, [row], k, known)
            plane = self._plane(triple_type.tail)
        mark_known = known != "show" and not upload
        tails = retriever.node_index(triple_type.tail)
        figure = render.plot_map(
            plane,
            retriever.project_tails(triple_type.tail),
            tails.names,
            vectors[0],
            query,
            results,
            [tails.row_of_id(result.id) for result in results],
            mark_known,
        )
        detail = f"{detail} · {triple_type.relation} → {triple_type.tail}"
        html = render.results_as_html(query, detail, results, self.smiles, mark_known)
        return html, figure

    def retrieve_records(
        self,
        source: Any,
        relation: Any,
        target: Any,
        query: Any,
        k: Any = 10,
        known: Any = "mark",
    ) -> list[dict[str, Any]]:
        """Retrieves the ranked neighbours of a node.

        Args:
          source: Node type of the query.
          relation: Name of the relation, as in the graph; may be empty if target implies it.
          target: Node type of the results; may be empty if relation implies it.
          query: Id or name of the node; case is ignored in names.
          k: Number of results, 1 to 100.
          known: What to do with known facts: mark, hide or show (unmarked).

        Returns:
          One record per result: query, rank, id, name, score, known.

        Raises:
          InputError: A value is not valid.
        """
        source, query = _text("source", source), _text("query", query)
        relation = _text("relation", relation) if relation else None
        target = _text("target", target) if target else None
        k, known = _number(k), _known_mode(known)
        triple_type = self.bridge.triple_type(source, relation, target)
        index = self.bridge.retriever.node_index(source)
        node_id = index.ids[index.row_of_id_or_name(query)]
        with self._lock:
            results = self.bridge.retrieve(*triple_type, ids=[node_id], k=k, known=known)
        return [result._asdict() for result in results]


def _text(noun: str, value: Any) -> str:
    if not isinstance(value, str):
        raise InputError(f"{noun}: must be a text")
    if len(value) > MAX_TEXT_CHARS:
        raise InputError(
            f"{noun}: has {len(value):,} characters; a name or an id has at most {MAX_TEXT_CHARS}"
        )
    return value


def _number(k: Any) -> int:
    if isinstance(k, bool) or not isinstance(k, int | float) or not 1 <= k <= MAX_RESULTS:
        raise InputError(f"k: must be a number of results from 1 to {MAX_RESULTS}")
    return int(k)


def _known_mode(known: Any) -> str:
    if known not in KNOWN_MODES:
        raise InputError(f"known: must be one of {', '.join(KNOWN_MODES)}")
    return str(known)
