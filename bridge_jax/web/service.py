"""Request handlers of the web app, independent of Gradio."""

import threading
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from bridge_jax.data.graph import TripleType
from bridge_jax.errors import InputError
from bridge_jax.predictor import Predictor
from bridge_jax.retrieval.results import Neighbour, read_embedding, write
from bridge_jax.web import render

MAX_MATCHES = 25  # nodes offered for a search text
MAX_RESULTS = 100


class QueryService:
    """Searches nodes and retrieves neighbours for the web app.

    Attributes:
      bridge: Bridge that was opened with its dataset.
      smiles: SMILES by node id.
      title: Name of the dataset and step of the checkpoint.
      sources: Node types of heads; those with most triple types first.
    """

    def __init__(self, bridge: Predictor, smiles: Mapping[str, str], csv_folder: Path) -> None:
        """Stores the bridge.

        Args:
          bridge: Bridge that was opened with its dataset.
          smiles: SMILES by node id, for drawings; may be empty.
          csv_folder: Folder for the CSV files that users download.

        Raises:
          InputError: The bridge was opened without a dataset.
        """
        if bridge.experiment is None:
            raise InputError("the web page needs the run's dataset; give it with --dataset")
        self.bridge, self.smiles = bridge, smiles
        self.title = f"{bridge.experiment.manifest.name} · step {bridge.step:,}"
        heads = [triple_type.head for triple_type in bridge.triple_types]
        self.sources = sorted(set(heads), key=lambda head: (-heads.count(head), head))
        self._csv_folder, self._csv_number = csv_folder, count()
        # Two simultaneous first queries would project the same tails twice.
        self._lock = threading.Lock()
        self._plane = cache(
            lambda node_type: render.fit_principal_plane(bridge.retriever.project_tails(node_type))
        )

    def triple_types(self, source: str) -> list[TripleType]:
        """Returns the triple types whose head has a node type."""
        return [t for t in self.bridge.triple_types if t.head == source]

    def search_nodes(self, source: str, text: str) -> list[tuple[str, str]]:
        """Returns (label, id) of the nodes that match a search text, best first.

        Args:
          source: Node type to search.
          text: Part of an id or name; an empty text matches the first nodes.
        """
        index = self.bridge.retriever.node_index(source)
        rows = index.search(text, MAX_MATCHES)
        return [(f"{index.names[row]} · {index.ids[row]}", index.ids[row]) for row in rows]

    def read_upload(self, source: str, upload: str) -> np.ndarray:
        """Reads one new embedding from a .npy file; returns it as `[1, dim]`.

        Args:
          source: Node type of the embedding.
          upload: Path of the file. Error messages show its name only.

        Raises:
          InputError: The file is not an embedding of this node type, or contains several.
        """
        name = Path(upload).name
        try:
            x = read_embedding(Path(upload))
            self.bridge.project(x, source)
        except InputError as e:
            raise InputError(str(e).replace(upload, name)) from e
        if len(x) > 1:
            raise InputError(f"{name} holds {len(x)} embeddings; give one")
        return x

    def retrieve_page(
        self, triple_type: TripleType, node_id: str | None, upload: str | None, k: int, known: str
    ) -> tuple[str, Any, str]:
        """Retrieves and renders the results of one query.

        Args:
          triple_type: Triple type to retrieve along.
          node_id: Id of the query node; ignored if there is an upload.
          upload: Path of a .npy file with one new embedding.
          k: Number of results, at most `MAX_RESULTS`.
          known: What to do with known facts, as in `Predictor.retrieve`.

        Returns:
          HTML table, map as a Plotly figure, and path of a CSV file.

        Raises:
          InputError: There is no query, or it is not valid.
        """
        if not upload and not node_id:
            raise InputError(f"choose a {triple_type.head} first, or upload an embedding")
        retriever = self.bridge.retriever
        k = min(max(int(k), 1), MAX_RESULTS)
        with self._lock:
            if upload:
                x = self.read_upload(triple_type.head, upload)
                query, detail = Path(upload).name, f"new {triple_type.head}"
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
        return html, figure, self._write_csv(results)

    def retrieve_records(
        self,
        source: str,
        relation: str,
        target: str,
        query: str,
        k: int = 10,
        known: str = "mark",
    ) -> list[dict[str, Any]]:
        """Retrieves the ranked neighbours of a node.

        Args:
          source: Node type of the query.
          relation: Name of the relation, as in the graph; may be empty if target implies it.
          target: Node type of the results; may be empty if relation implies it.
          query: Id or name of the node; case is ignored in names.
          k: Number of results.
          known: What to do with known facts: mark, hide or show (unmarked).

        Returns:
          One record per result: query, rank, id, name, score, known.
        """
        triple_type = self.bridge.triple_type(source, relation or None, target or None)
        index = self.bridge.retriever.node_index(source)
        node_id = index.ids[index.row_of_id_or_name(query)]
        with self._lock:
            results = self.bridge.retrieve(*triple_type, ids=[node_id], k=k, known=known)
        return [result._asdict() for result in results]

    def _write_csv(self, results: Sequence[Neighbour]) -> str:
        path = self._csv_folder / f"{next(self._csv_number)}/neighbours.csv"
        write(results, path)
        return str(path)
