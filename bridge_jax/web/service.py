"""Request handlers of the web app, independent of the HTTP server."""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bridge_jax.data.embedding_files import DEFAULT, ReadOptions, open_embedding_file
from bridge_jax.data.encoder_spec import JOIN
from bridge_jax.data.graph import TripleType
from bridge_jax.encoders.query_encoder import label_of
from bridge_jax.errors import InputError, unknown
from bridge_jax.models.fusion import Fusion
from bridge_jax.predictor import Predictor
from bridge_jax.retrieval.explanations import Explanation
from bridge_jax.retrieval.node_search import Match, NodeSearch
from bridge_jax.retrieval.results import Neighbour
from bridge_jax.web import render
from bridge_jax.web.map import fit_principal_plane, map_as_svg
from bridge_jax.web.model_card import quality_of, read_quality
from bridge_jax.web.question import Question, check_text, read_question

MAX_MATCHES = 25  # nodes offered for a search text


class Query(NamedTuple):
    """What is asked about: a node of the dataset or a new embedding.

    Attributes:
      title: Its name.
      detail: Its id, or what it is.
      row: Row of the node in the table of its type; 0 for a new embedding.
      x: New embedding, `[1, dim]`; None for a node.
    """

    title: str
    detail: str
    row: int = 0
    x: np.ndarray | None = None


class QueryService:
    """Searches nodes and retrieves neighbours for the web app.

    Attributes:
      bridge: Bridge that was opened with its dataset.
      smiles: SMILES by node id.
      title: Name of the dataset and step of the checkpoint.
      sources: Node types of heads; those with most triple types first.
      explains: Whether answers can be explained.
      qualities: Quality of the model by the text of the triple type.
      lock: Held while the device works.
      encoding_lock: Held while an encoder works.
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
        self._search = NodeSearch([bridge.retriever.node_index(source) for source in self.sources])
        answer = bridge.retriever.default_answer
        self.explains = answer == Fusion.name
        self.qualities = read_quality(Path(bridge.source), bridge.step, answer)
        # Two simultaneous first queries would project the same tails twice.
        self.lock, self.encoding_lock = threading.Lock(), threading.Lock()
        self._encode = lru_cache(64)(self._encode_text)
        self._plane = cache(
            lambda node_type: fit_principal_plane(bridge.retriever.project_tails(node_type))
        )

    def warm_up(self) -> None:
        """Answers a query of each triple type, so that all that the page needs is in memory.

        From then on the run may be replaced while the server goes on.
        """
        for triple_type in self.bridge.triple_types:
            node_id = self.bridge.retriever.node_index(triple_type.head).ids[0]
            question = Question(triple_type, id=node_id)
            self.retrieve_page(question)
            if self.explains:
                self.explain(question, self.bridge.retriever.node_index(triple_type.tail).ids[0])

    def triple_types(self, source: str) -> list[TripleType]:
        """Returns the triple types whose head has a node type."""
        return [t for t in self.bridge.triple_types if t.head == source]

    def search_nodes(self, text: Any, limit: int = MAX_MATCHES) -> list[Match]:
        """Returns the nodes of all types that a text may mean, best first.

        Args:
          text: Part of an id, a name or a synonym.
          limit: Maximum number of matches.

        Raises:
          InputError: The text is too long.
        """
        return self._search.search(check_text("search text", text), limit)

    def exact_match(self, text: str, matches: Sequence[Match]) -> Match | None:
        """Returns the only node that a text names exactly; None if it names none or several."""
        best = [m for m in matches if m.is_exact and m.tier == matches[0].tier]
        same_case = [m for m in best if m.text == text.strip()]
        for candidates in (best, same_case):
            if len(candidates) == 1:
                return candidates[0]
        return None

    def modality(self, source: str) -> str:
        """Returns what a node type is encoded from, or an empty text if nothing new can be."""
        return self.input_hint(source)[0]

    def input_hint(self, source: str) -> tuple[str, str]:
        """Returns what new input of a node type may be, and a sentence about it.

        The modality is empty if nothing new can be encoded; the sentence then says why.
        """
        spec = self.bridge.encoder_specs.get(source)
        if spec is None:
            return "", (
                f"The dataset does not record how its embeddings of {source} were made; give an "
                "embedding by the same encoder in the tab File."
            )
        try:
            modality = self.bridge.query_encoder.modality(source)
        except InputError as e:
            return "", str(e)
        parts = f", read as “{spec.text}”" if modality == "text" and JOIN in spec.text else ""
        return modality, f"Encoded by {spec.encoder}, like the nodes of the dataset{parts}."

    def upload_path(self, upload: Any) -> str:
        """Returns the path of an uploaded file as the browser describes it.

        Raises:
          InputError: There is no such file in the folder of uploads.
        """
        path = upload.get("path") if isinstance(upload, dict) else upload
        if isinstance(path, str) and "\0" not in path and len(path) < 4096:
            file = Path(path).resolve()
            if file.is_relative_to(self._upload_folder.resolve()) and file.is_file():
                return str(file)
        raise InputError("the uploaded file is no longer on the server; upload it again")

    def read_upload(self, source: str, upload: str) -> np.ndarray:
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
        if source not in self.sources:
            raise unknown("node type", source, self.sources, "this page")
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

    def read_question(self, values: Mapping[str, Any]) -> Question:
        """Checks the values that a browser sent; see `question.read_question`."""
        return read_question(values, self.bridge)

    def retrieve_page(self, question: Question) -> str:
        """Retrieves and renders the answers to a question.

        Returns:
          HTML: the question as a title, the answers as a table with a link to the same as CSV, and
          a map.

        Raises:
          InputError: There is no query, or it is not valid.
        """
        if question.mode == "list":
            return self._retrieve_list(question)
        triple_type, retriever = question.triple_type, self.bridge.retriever
        query = self._query(question)
        with self.lock:
            results = self._retrieve(question, query)
            if query.x is None:
                vectors = retriever.bridge_heads(triple_type, [query.row])
            else:
                vectors = self.bridge.project(query.x, *triple_type)
            plane = self._plane(triple_type.tail)
            keys = retriever.project_tails(triple_type.tail)
        tails = retriever.node_index(triple_type.tail)
        rows = [tails.row_of_id(result.id) for result in results]
        mark_known = question.known != "show" and query.x is None
        svg = map_as_svg(plane, vectors[0], query.title, results, keys[rows], mark_known)
        title = render.title_as_html(
            query.title, query.detail, triple_type, quality_of(self.qualities, triple_type)
        )
        table = render.results_as_html(results, self.smiles, mark_known, self.explains)
        return f"{title}{table}{svg}"

    def _query(self, question: Question) -> Query:
        """Returns what a question is about."""
        source = question.triple_type.head
        if question.mode == "file":
            if not question.upload:
                raise InputError(f"choose a file with one embedding of {source}")
            upload = self.upload_path(question.upload)
            x, title = self.read_upload(source, upload), Path(upload).name
        elif question.mode == "input":
            if not question.text:
                raise InputError(f"enter a {self.modality(source) or 'text'} of {source}")
            x, title = self._encode(question.text, source), label_of(question.text)
        else:
            if not question.id:
                raise InputError(f"choose a {source} first")
            heads = self.bridge.retriever.node_index(source)
            row = heads.row_of_id(question.id)
            return Query(heads.names[row], heads.ids[row], row)
        with self.lock:
            (same,) = self.bridge.retriever.find_same_nodes(source, x)
        if same is None:
            return Query(title, f"new {source}", x=x)
        heads = self.bridge.retriever.node_index(source)
        return Query(title, f"the embedding of {heads.names[same]} ({heads.ids[same]})", same)

    def _encode_text(self, text: str, source: str) -> np.ndarray:
        with self.encoding_lock:
            return self.bridge.encode([text], source)

    def _retrieve(self, question: Question, query: Query) -> list[Neighbour]:
        retriever, triple_type = self.bridge.retriever, question.triple_type
        if query.x is None:
            return retriever.search_by_node(triple_type, [query.row], question.k, question.known)
        return retriever.search_by_embedding(triple_type, query.x, question.k, labels=[query.title])

    def _retrieve_list(self, question: Question) -> str:
        """Retrieves and renders the answers to each of several nodes."""
        heads = self.bridge.retriever.node_index(question.triple_type.head)
        if not question.ids:
            raise InputError(f"enter ids or names of {question.triple_type.head}, one per line")
        rows: dict[int, str] = {}
        faults = []
        for text in question.ids:
            try:
                rows.setdefault(heads.row_of_id_or_name(text), text)
            except InputError as e:
                faults.append(str(e))
        if not rows:
            raise InputError(f"none of the {len(question.ids):,} lines is known: {faults[0]}")
        with self.lock:
            results = self.bridge.retriever.search_by_node(
                question.triple_type, list(rows), question.k, question.known
            )
        noun = f"{len(rows):,} {question.triple_type.head}"
        title = render.title_as_html(
            noun, "", question.triple_type, quality_of(self.qualities, question.triple_type)
        )
        names = {heads.ids[row]: heads.names[row] for row in rows}
        return title + render.list_as_html(results, names, faults, question.known != "show")

    def explain(self, question: Question, answer: Any) -> Explanation:
        """Says why a node is an answer to a question.

        Args:
          question: The question, about one node or input.
          answer: Id of the answer.

        Raises:
          InputError: The answer is unknown, or this run's answers cannot be explained.
        """
        if not self.explains:
            raise InputError("answers of the bridge alone have no other reasons")
        node_id, triple_type = check_text("answer", answer), question.triple_type
        query = self._query(question)
        with self.lock:
            if query.x is None:
                ids = self.bridge.retriever.node_index(triple_type.head).ids
                return self.bridge.explain(*triple_type, answers=[node_id], id=ids[query.row])[0]
            return self.bridge.explain(*triple_type, answers=[node_id], embedding=query.x)[0]
