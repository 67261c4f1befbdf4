"""The questions of the web page and their answers; Gradio stays in `layout`."""

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
from bridge_jax.web import render as view

MATCHES = 25  # nodes offered for what is typed
MOST = 100  # answers shown


class QueryService:
    """Answers the page's questions.

    Attributes:
      bridge: with its dataset.
      smiles: structures by node id.
      title: dataset and step.
      sources: node types that something may be asked about; that with most relations first.
    """

    def __init__(self, bridge: Predictor, smiles: Mapping[str, str], files: Path) -> None:
        """Take a bridge with its dataset, structures by node id, and a folder for CSV files."""
        self.bridge, self.smiles = bridge, smiles
        self._files, self._number = files, count()
        self._busy = threading.Lock()  # two first questions would project the same tails twice
        if bridge.experiment is None:
            raise InputError("the page needs the run's dataset; name it with --dataset")
        self.experiment = bridge.experiment
        self.title = f"{self.experiment.manifest.name} · step {bridge.step:,}"
        heads = [triple_type.head for triple_type in bridge.triple_types]
        self.sources = sorted(set(heads), key=lambda head: (-heads.count(head), head))
        self.plane = cache(lambda node_type: view.plane(bridge.neighbours.keys(node_type)))

    def triple_types(self, source: str) -> list[TripleType]:
        """What may be asked about a node type."""
        return [
            triple_type for triple_type in self.bridge.triple_types if triple_type.head == source
        ]

    def matches(self, source: str, text: str) -> list[tuple[str, str]]:
        """(label, id) of the nodes that fit a text, best first."""
        nodes = self.bridge.neighbours.names(source)
        rows = nodes.search(text, MATCHES)
        return [(f"{nodes.names[row]} · {nodes.ids[row]}", nodes.ids[row]) for row in rows]

    def read(self, source: str, upload: str) -> np.ndarray:
        """One new embedding from a .npy file, `[1, dim]`.

        Raises:
          InputError: it is none, or not of this node type.
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

    def answer(
        self, triple_type: TripleType, node: str | None, upload: str | None, k: int, known: str
    ) -> tuple[str, Any, str]:
        """Answer one question.

        Args:
          triple_type: what is asked.
          node: id of the head; not read when there is an upload.
          upload: a .npy file of one embedding.
          k: how many answers.
          known: as in `Trained.retrieve`.

        Returns:
          The answers as HTML, the map, and the path of a CSV file.

        Raises:
          InputError: nothing was asked, or it cannot be answered.
        """
        found = self.bridge.neighbours
        k = min(max(int(k), 1), MOST)
        if not upload and not node:
            raise InputError(f"choose a {triple_type.head} first, or upload an embedding")
        with self._busy:
            if upload:
                x = self.read(triple_type.head, upload)
                asked, detail = Path(upload).name, f"new {triple_type.head}"
                query, rows = (
                    self.bridge.project(x, *triple_type),
                    found.of_embeddings(triple_type, x, k),
                )
            else:
                heads = [found.names(triple_type.head).with_id(node or "")]
                asked, detail = found.names(triple_type.head).names[heads[0]], node or ""
                query, rows = (
                    found.queries(triple_type, heads),
                    found.of_nodes(triple_type, heads, k, known),
                )
            flat = self.plane(triple_type.tail)
        marked = known != "show" and not upload
        detail = f"{detail} · {triple_type.relation} → {triple_type.tail}"
        tails = found.names(triple_type.tail)
        at = [tails.with_id(r.id) for r in rows]
        figure = view.as_map(
            flat, found.keys(triple_type.tail), tails.names, query[0], asked, rows, at, marked
        )
        html = view.as_html(asked, detail, rows, self.smiles, marked)
        return html, figure, self._csv(rows)

    def records(
        self,
        source: str,
        relation: str,
        target: str,
        query: str,
        k: int = 10,
        known: str = "mark",
    ) -> list[dict[str, Any]]:
        """Ranked neighbours of a node.

        Args:
          source: its node type.
          relation: as the graph names it.
          target: node type of the answers.
          query: id of the node, or its name whatever the case.
          k: how many answers.
          known: mark, hide or show known facts.

        Returns:
          One record for each answer: query, rank, id, name, score, known.
        """
        triple_type = self.bridge.triple_type(source, relation or None, target or None)
        nodes = self.bridge.neighbours.names(source)
        node = nodes.ids[nodes.with_id_or_name(query)]
        with self._busy:
            rows = self.bridge.retrieve(*triple_type, ids=[node], k=k, known=known)
        return [row._asdict() for row in rows]

    def _csv(self, rows: Sequence[Neighbour]) -> str:
        path = self._files / f"{next(self._number)}/neighbours.csv"
        write(rows, path)
        return str(path)
