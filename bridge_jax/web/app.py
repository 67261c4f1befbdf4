"""Layout of the web app in Gradio, and the event handlers of its controls.

The handlers take what the browser sends as it is, without Gradio's preprocessing: a client can send
anything, and a value is checked once, by the service. Thus no handler depends on what Gradio
remembers of a session, and it may forget all but the last sessions.
"""

import logging
from collections.abc import Callable
from html import escape
from typing import Any, NamedTuple

from bridge_jax.data.embedding_files import SUFFIXES
from bridge_jax.errors import InputError
from bridge_jax.retrieval.results import KNOWN_MODES
from bridge_jax.web import render
from bridge_jax.web.service import MAX_RESULTS, QueryService

# Queries that run at the same time. The device runs one at a time; the rest of a query is Python.
MAX_CONCURRENT_QUERIES = 4
MAX_WAITING_QUERIES = 256
# Sessions, and answers that nobody fetched, of which Gradio keeps some 100 kB each.
MAX_SESSIONS, MAX_UNFETCHED = 64, 512
UPLOAD_LIFETIME = 3600  # seconds

_log = logging.getLogger(__name__)


class Controls(NamedTuple):
    """Gradio components of the page that events read or write."""

    source: Any
    search: Any
    node: Any
    triple_type: Any
    upload: Any
    k: Any
    known: Any
    retrieve: Any
    results: Any
    plot: Any


class EventHandlers:
    """Functions that Gradio calls when a control changes; they return updates of components."""

    def __init__(self, gr: Any, service: QueryService) -> None:
        """Stores the gradio package and the service."""
        self._gr, self._service = gr, service

    def triple_type_choices(self, source: str) -> list[tuple[str, int]]:
        """Returns (label, position) of the triple types that start at a node type."""
        triple_types = enumerate(self._service.triple_types(source))
        return [(f"{t.relation} → {t.tail}", position) for position, t in triple_types]

    def on_source(self, source: Any) -> tuple[Any, Any, Any]:
        """Resets search, nodes and triple types after another source type is chosen."""
        gr = self._gr
        self._service.check_source(source)
        triple_types = gr.Dropdown(self.triple_type_choices(source), value=0)
        return gr.Textbox(value=""), self.on_search(source, ""), triple_types

    def on_search(self, source: Any, text: Any) -> Any:
        """Offers the nodes that match the search text, and selects the best one."""
        matches = self._service.search_nodes(source, text)
        info = "" if matches else f"No {source} matches {text!r}."
        return self._gr.Dropdown(matches, value=matches[0][1] if matches else None, info=info)

    def on_retrieve(
        self, source: Any, triple_type: Any, node_id: Any, upload: Any, k: Any, known: Any
    ) -> tuple[str, Any]:
        """Shows the results of the query, or an error message in their place."""
        try:
            query = self._service.page_query(source, triple_type, node_id, upload, k, known)
            return self._service.retrieve_page(*query)
        except InputError as e:
            return render.error_as_html(str(e)), None

    def on_upload(self, source: Any, upload: Any) -> str | None:
        """Rejects an uploaded file that is not an embedding of the source type."""
        try:
            path = self._service.upload_path(upload)
            self._service.read_upload(source, path)
        except InputError as e:
            self._gr.Warning(escape(str(e)), title="Not an embedding")
            return None
        return path


def import_gradio() -> Any:
    """Imports the gradio package.

    Raises:
      InputError: Gradio or Plotly is not installed.
    """
    try:
        import gradio
        import plotly  # noqa: F401
    except ImportError as e:
        raise InputError("the web page needs Gradio: pip install 'bridge_jax[serve]'") from e
    return gradio


def make_blocks(gr: Any) -> Any:
    """Makes the class of the page: `gradio.Blocks` with bounded memory and errors of one line."""

    class Page(gr.Blocks):  # type: ignore[misc]
        async def process_api(self, *args: Any, **kwargs: Any) -> Any:
            """Runs one event of a client."""
            self._forget_sessions()
            try:
                return await super().process_api(*args, **kwargs)
            except gr.Error as e:
                e.print_exception = False
                raise
            except InputError as e:
                raise gr.Error(str(e), print_exception=False) from e
            except Exception as e:
                # The page never sends such an event, and a traceback would help nobody.
                _log.warning("an event cannot be processed: %a", f"{type(e).__name__}: {e}"[:300])
                _log.debug("its traceback:", exc_info=True)
                message = "the request cannot be processed; check its parameters"
                raise gr.Error(message, print_exception=False) from None

        def _forget_sessions(self) -> None:
            """Drops the events of sessions that are over, which Gradio keeps."""
            queue = self._queue
            queue.pending_messages_per_session.max_size = MAX_UNFETCHED
            sessions, unfetched = (
                queue.pending_event_ids_session,
                queue.pending_messages_per_session,
            )
            for session in [s for s, ids in sessions.items() if not ids or s not in unfetched]:
                sessions.pop(session, None)

    return Page


def build_app(service: QueryService) -> Any:
    """Builds the web app.

    Args:
      service: Service that answers the requests.

    Returns:
      Gradio blocks that are not launched yet.
    """
    gr = import_gradio()
    handlers = EventHandlers(gr, service)
    with make_blocks(gr)(
        title=f"bridge_jax · {service.title}",
        analytics_enabled=False,
        delete_cache=(60, UPLOAD_LIFETIME),
        fill_width=True,
    ) as app:
        controls = _lay_out(gr, service, handlers)
        _connect_events(app, controls, handlers)
        gr.api(_make_endpoint(service), api_name="retrieve", **_QUERY_QUEUE)
    app.queue(max_size=MAX_WAITING_QUERIES)
    app.state_session_capacity = MAX_SESSIONS
    return app


def mount(app: Any, root_path: str, max_upload_bytes: int) -> Any:
    """Mounts the page into an ASGI application of its own.

    Args:
      app: Page from `build_app`.
      root_path: Path behind a proxy; empty for none.
      max_upload_bytes: Largest size of an upload, which the page checks before it sends one.
    """
    import_gradio()
    from fastapi import FastAPI
    from gradio import mount_gradio_app

    return mount_gradio_app(
        FastAPI(docs_url=None, redoc_url=None, openapi_url=None),
        app,
        "/",
        footer_links=["api"],
        run_history=False,
        root_path=root_path or None,
        show_error=False,
        max_file_size=max_upload_bytes,
        ssr_mode=False,
        theme=make_theme(),
        css=render.CSS,
    )


_QUERY_QUEUE = {"concurrency_id": "queries", "concurrency_limit": MAX_CONCURRENT_QUERIES}


def _lay_out(gr: Any, service: QueryService, handlers: EventHandlers) -> Controls:
    """Creates all components inside the current `gr.Blocks`."""
    first_source = service.sources[0]
    matches = service.search_nodes(first_source, "")
    gr.Markdown(f"## bridge_jax <small>{service.title}</small>")
    with gr.Row(equal_height=False):
        with gr.Column(scale=4, min_width=300):
            source = gr.Dropdown(
                service.sources, value=first_source, label="From", elem_id="source"
            )
            search = gr.Textbox(
                label="Search", placeholder="a name or an id", elem_id="search", max_lines=1
            )
            node = gr.Dropdown(matches, value=matches[0][1], label="Node", elem_id="node", info="")
            triple_type = gr.Dropdown(
                handlers.triple_type_choices(first_source),
                value=0,
                label="Relation → target",
                elem_id="triple-type",
            )
            with gr.Accordion("Or a new embedding", open=False):
                upload = gr.File(
                    label="file of one vector",
                    file_types=sorted(SUFFIXES),
                    elem_id="upload",
                    height=110,
                )
            with gr.Row():
                k = gr.Slider(1, MAX_RESULTS, value=10, step=1, label="Results", elem_id="k")
            known = gr.Radio(list(KNOWN_MODES), value="mark", label="Known facts", elem_id="known")
            retrieve = gr.Button("Retrieve", variant="primary", elem_id="retrieve")
        with gr.Column(scale=9, min_width=480):
            results = gr.HTML(elem_id="results")
            plot = gr.Plot(label="Projected space, first two principal components")
    return Controls(source, search, node, triple_type, upload, k, known, retrieve, results, plot)


def _connect_events(app: Any, controls: Controls, handlers: EventHandlers) -> None:
    c, common = controls, {"api_visibility": "private", "preprocess": False}
    hidden = {**common, "show_progress": "hidden"}
    query = [c.source, c.triple_type, c.node, c.upload, c.k, c.known]
    c.source.change(handlers.on_source, c.source, [c.search, c.node, c.triple_type], **hidden)
    c.search.change(
        handlers.on_search, [c.source, c.search], c.node, trigger_mode="always_last", **hidden
    )
    c.upload.upload(handlers.on_upload, [c.source, c.upload], c.upload, **hidden)
    submitted = c.search.submit(handlers.on_search, [c.source, c.search], c.node, **hidden)
    for event in (c.retrieve.click, submitted.then, app.load):
        event(handlers.on_retrieve, query, [c.results, c.plot], **common, **_QUERY_QUEUE)


def _make_endpoint(service: QueryService) -> Callable[..., list[dict[str, Any]]]:
    """Makes the function behind the JSON API; Gradio shows its signature and docstring to users."""

    def retrieve(
        source: str, relation: str, target: str, query: str, k: int = 10, known: str = "mark"
    ) -> list[dict[str, Any]]:
        return service.retrieve_records(source, relation, target, query, k, known)

    retrieve.__doc__ = service.retrieve_records.__doc__
    return retrieve


def make_theme() -> Any:
    """Returns a Gradio theme with plain colours and system fonts."""
    gr = import_gradio()
    # Font names as text: Gradio downloads Font objects.
    fonts = ["system-ui", "sans-serif"]
    return gr.themes.Base(primary_hue="orange", font=fonts, font_mono=["ui-monospace", "monospace"])
