"""Routes of the page and of its JSON API.

FastAPI comes with the extra `serve`, so this module is imported only where a server is built.
"""

from typing import Annotated, Any

from fastapi import Body, FastAPI, Query, Request
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse
from pydantic import BaseModel, ConfigDict, Field

import bridge_jax
from bridge_jax.errors import InputError
from bridge_jax.retrieval.node_search import Match
from bridge_jax.web import page, records, render
from bridge_jax.web.examples import Example
from bridge_jax.web.question import DEFAULT_K, MAX_IDS, MAX_RESULTS, MAX_TEXT_CHARS
from bridge_jax.web.service import MAX_MATCHES, QueryService

MAX_INPUTS = 64  # sequences, SMILES or texts of one request


class Node(BaseModel):
    """A node that fits a search text."""

    type: str
    id: str
    name: str
    text: str = Field(description="id, name or synonym that fits")
    is_exact: bool = Field(description="whether it fits but for case and punctuation")


class Found(BaseModel):
    """Nodes that fit a search text, best first."""

    matches: list[Node]
    exact: Node | None = Field(description="the only node that the text names exactly")


class Queries(BaseModel):
    """Queries of one type. Give one of `ids`, `names`, `sequences`, `smiles` and `texts`."""

    model_config = ConfigDict(extra="forbid")
    type: str = Field(description="node type of the queries", examples=["gene/protein"])
    relation: str = Field("", description="name of the relation; may be empty if it follows")
    target: str = Field("", description="node type of the answers; may be empty if it follows")
    ids: list[str] = Field([], max_length=MAX_IDS, description="ids of nodes")
    names: list[str] = Field([], max_length=MAX_IDS, description="names or synonyms of nodes")
    sequences: list[str] = Field([], max_length=MAX_INPUTS)
    smiles: list[str] = Field([], max_length=MAX_INPUTS)
    texts: list[str] = Field([], max_length=MAX_INPUTS)


class Retrieval(Queries):
    """Queries, and what their answers are to be."""

    k: int = Field(DEFAULT_K, ge=1, le=MAX_RESULTS, description="answers per query")
    known: str = Field("mark", description="what to do with known facts: mark, hide or show")
    answer: str = Field("", description="fusion, bridge or knn; empty for the run's default")


class Reasoning(Queries):
    """One query, and the answers to explain."""

    answers: list[str] = Field(min_length=1, max_length=MAX_RESULTS, description="ids of answers")


class Inputs(BaseModel):
    """Sequences, SMILES or texts of one type."""

    model_config = ConfigDict(extra="forbid")
    type: str = Field(description="node type whose encoder is used")
    inputs: list[str] = Field(min_length=1, max_length=MAX_INPUTS)


def make_api(service: QueryService, examples: list[Example], root_path: str = "") -> FastAPI:
    """Makes the application that answers the page and the JSON API.

    Args:
      service: Service that answers.
      examples: Examples of the page.
      root_path: Path of the page behind a proxy; empty for none.
    """
    app = FastAPI(
        title="bridge_jax", version=bridge_jax.__version__, docs_url=None, redoc_url=None,
        openapi_url="/api/openapi.json",
    )  # fmt: skip

    @app.exception_handler(InputError)
    async def refuse(request: Request, error: InputError) -> JSONResponse:
        return JSONResponse({"error": str(error)}, 400)

    _add_page(app, service, examples, root_path)
    _add_json(app, service)
    return app


def _add_page(app: FastAPI, service: QueryService, examples: list[Example], root_path: str) -> None:
    """Adds the page, its two files, and the parts that its script asks for."""

    @app.api_route("/", methods=["GET", "HEAD"], include_in_schema=False)
    def open_page(request: Request) -> HTMLResponse:
        return HTMLResponse(page.page_as_html(service, examples, request.query_params, root_path))

    @app.get("/page.css", include_in_schema=False)
    def css() -> PlainTextResponse:
        return PlainTextResponse(page.static_file("page.css"), media_type="text/css")

    @app.get("/page.js", include_in_schema=False)
    def script() -> PlainTextResponse:
        return PlainTextResponse(page.static_file("page.js"), media_type="text/javascript")

    @app.get("/api", include_in_schema=False)
    def describe() -> HTMLResponse:
        return HTMLResponse(page.api_as_html(app.openapi(), examples[0].question, root_path))

    @app.post("/answer", include_in_schema=False)
    def answer(values: Annotated[dict[str, Any], Body()]) -> HTMLResponse:
        return HTMLResponse(service.retrieve_page(service.read_question(values)))

    @app.post("/why", include_in_schema=False)
    def why(values: Annotated[dict[str, Any], Body()]) -> HTMLResponse:
        question = service.read_question(values)
        explanation = service.explain(question, values.get("answer"))
        return HTMLResponse(render.reasons_as_html(explanation, question.triple_type.head))


def _add_json(app: FastAPI, service: QueryService) -> None:
    """Adds the endpoints of the JSON API; their docstrings describe them to users."""

    @app.get("/api/health")
    def health() -> dict[str, Any]:
        """Says what this server answers: dataset, step, and triple types as [head, relation, tail].

        A response means that it is ready.
        """
        bridge = service.bridge
        return {
            "status": "ready",
            "title": service.title,
            "step": bridge.step,
            "version": bridge_jax.__version__,
            "triple_types": [list(t) for t in bridge.triple_types],
        }

    @app.get("/api/search")
    def search(
        text: Annotated[str, Query(max_length=MAX_TEXT_CHARS)],
        limit: Annotated[int, Query(ge=1, le=MAX_RESULTS)] = MAX_MATCHES,
    ) -> Found:
        """Finds nodes of all types by id, name or synonym, best first.

        `exact` is the only node that the text names but for case and punctuation, as `p53` names
        TP53; it is null if there is none, or if there are several.
        """
        matches = service.search_nodes(text, limit)
        exact = service.exact_match(text, matches)
        return Found(matches=[*map(_node, matches)], exact=exact and _node(exact))

    @app.post("/api/retrieve")
    def retrieve(body: Retrieval) -> list[dict[str, Any]]:
        """Ranks the answers to one or several queries.

        Each record has query, rank, id, name, probability (among all candidates), percentile,
        confidence (how often answers of this probability were facts of the validation split; null
        for known facts), known (the split that has this fact; empty for none) and score.
        """
        return records.retrieve_json(service, **body.model_dump())

    @app.post("/api/explain")
    def explain(body: Reasoning) -> list[dict[str, Any]]:
        """Says why nodes are answers to one query.

        Each record has the answer's id and name; the shares of its probability that come from the
        bridge and from similar nodes; these nodes; and paths of known facts to it.
        """
        return records.explain_json(service, **body.model_dump())

    @app.post("/api/encode")
    def encode(body: Inputs) -> list[list[float]]:
        """Encodes sequences, SMILES or texts like the nodes of a type; one vector for each.

        The encoder is the one that the dataset records for the type. Its packages must be
        installed on the server; otherwise the error names the extra that brings them.
        """
        return records.encode(service, body.inputs, body.type)


def _node(match: Match) -> Node:
    return Node(
        type=match.node_type, id=match.id, name=match.name, text=match.text, is_exact=match.is_exact
    )
