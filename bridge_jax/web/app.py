"""Layout of the web app in Gradio, and the event handlers of its controls."""

from collections.abc import Callable
from typing import Any, NamedTuple

from bridge_jax.errors import InputError
from bridge_jax.retrieval.results import KNOWN_MODES
from bridge_jax.web import render
from bridge_jax.web.service import MAX_RESULTS, QueryService

# Queries that run at the same time. The device runs one at a time; the rest of a query is Python.
MAX_CONCURRENT_QUERIES = 4


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
    download: Any
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

    def on_source(self, source: str) -> tuple[Any, Any, Any]:
        """Resets search, nodes and triple types after another source type is chosen."""
        gr = self._gr
        triple_types = gr.Dropdown(self.triple_type_choices(source), value=0)
        return gr.Textbox(value=""), self.on_search(source, ""), triple_types

    def on_search(self, source: str, text: str) -> Any:
        """Offers the nodes that match the search text, and selects the best one."""
        matches = self._service.search_nodes(source, text)
        info = "" if matches else f"No {source} matches {text!r}."
        return self._gr.Dropdown(matches, value=matches[0][1] if matches else None, info=info)

    def on_retrieve(
        self,
        source: str,
        triple_type: int,
        node_id: str | None,
        upload: str | None,
        k: int,
        known: str,
    ) -> tuple[str, Any, Any]:
        """Shows the results of the query, or an error message in their place."""
        button = self._gr.DownloadButton
        try:
            html, figure, csv_path = self._service.retrieve_page(
                self._service.triple_types(source)[triple_type], node_id, upload, k, known
            )
        except InputError as e:
            return render.error_as_html(str(e)), None, button(value=None, interactive=False)
        return html, figure, button(value=csv_path, interactive=True)

    def on_upload(self, source: str, upload: str) -> str | None:
        """Rejects an uploaded file that is not an embedding of the source type."""
        try:
            self._service.read_upload(source, upload)
        except InputError as e:
            self._gr.Warning(str(e), title="Not an embedding")
            return None
        return upload


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


def build_app(service: QueryService) -> Any:
    """Builds the web app.

    Args:
      service: Service that answers the requests.

    Returns:
      Gradio blocks that are not launched yet.
    """
    gr = import_gradio()
    handlers = EventHandlers(gr, service)
    with gr.Blocks(
        title=f"bridge_jax · {service.title}",
        analytics_enabled=False,
        delete_cache=(600, 3600),
        fill_width=True,
    ) as app:
        controls = _lay_out(gr, service, handlers)
        _connect_events(app, controls, handlers)
        gr.api(_make_endpoint(gr, service), api_name="retrieve", **_QUERY_QUEUE)
    return app


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
                    label=".npy of one vector",
                    file_types=[".npy"],
                    elem_id="upload",
                    height=110,
                )
            with gr.Row():
                k = gr.Slider(1, MAX_RESULTS, value=10, step=1, label="Results", elem_id="k")
            known = gr.Radio(list(KNOWN_MODES), value="mark", label="Known facts", elem_id="known")
            retrieve = gr.Button("Retrieve", variant="primary", elem_id="retrieve")
            download = gr.DownloadButton(
                "Download CSV", interactive=False, elem_id="download", size="sm"
            )
        with gr.Column(scale=9, min_width=480):
            results = gr.HTML(elem_id="results")
            plot = gr.Plot(label="Projected space, first two principal components")
    return Controls(
        source, search, node, triple_type, upload, k, known, retrieve, download, results, plot
    )


def _connect_events(app: Any, controls: Controls, handlers: EventHandlers) -> None:
    c, hidden = controls, {"api_visibility": "private", "show_progress": "hidden"}
    query = [c.source, c.triple_type, c.node, c.upload, c.k, c.known]
    c.source.change(handlers.on_source, c.source, [c.search, c.node, c.triple_type], **hidden)
    c.search.change(
        handlers.on_search, [c.source, c.search], c.node, trigger_mode="always_last", **hidden
    )
    c.upload.upload(handlers.on_upload, [c.source, c.upload], c.upload, **hidden)
    submitted = c.search.submit(handlers.on_search, [c.source, c.search], c.node, **hidden)
    for event in (c.retrieve.click, submitted.then, app.load):
        event(
            handlers.on_retrieve,
            query,
            [c.results, c.plot, c.download],
            api_visibility="private",
            **_QUERY_QUEUE,
        )


def _make_endpoint(gr: Any, service: QueryService) -> Callable[..., list[dict[str, Any]]]:
    """Makes the function behind the JSON API; Gradio shows its signature and docstring to users."""

    def retrieve(
        source: str, relation: str, target: str, query: str, k: int = 10, known: str = "mark"
    ) -> list[dict[str, Any]]:
        try:
            return service.retrieve_records(source, relation, target, query, k, known)
        except InputError as e:
            raise gr.Error(str(e), print_exception=False) from e

    retrieve.__doc__ = service.retrieve_records.__doc__
    return retrieve


def make_theme() -> Any:
    """Returns a Gradio theme with plain colours and system fonts."""
    gr = import_gradio()
    # Font names as text: Gradio downloads Font objects.
    fonts = ["system-ui", "sans-serif"]
    return gr.themes.Base(primary_hue="orange", font=fonts, font_mono=["ui-monospace", "monospace"])
