"""The web page, in Gradio: what stands where, and which question each control asks of the desk."""

from typing import Any

from bridge_jax.errors import InputError
from bridge_jax.retrieval.results import KNOWN
from bridge_jax.web import render as view
from bridge_jax.web.service import MOST, QueryService

# Answers computed at a time. The device has one queue; the rest of an answer is Python.
WORKERS = 4


def gradio() -> Any:
    """The gradio package.

    Raises:
      InputError: it is not installed.
    """
    try:
        import gradio
        import plotly  # noqa: F401
    except ImportError as e:
        raise InputError("the page needs Gradio: pip install 'bridge_jax[serve]'") from e
    return gradio


def build(desk: QueryService) -> Any:
    """The page, as Gradio blocks that have not been launched."""
    gr = gradio()

    def choices(source: str) -> list[tuple[str, int]]:
        kinds = enumerate(desk.triple_types(source))
        return [(f"{kind.relation} → {kind.tail}", i) for i, kind in kinds]

    def on_source(source: str) -> tuple[Any, Any, Any]:
        return gr.Textbox(value=""), on_search(source, ""), gr.Dropdown(choices(source), value=0)

    def on_search(source: str, text: str) -> Any:
        found = desk.matches(source, text)
        info = "" if found else f"No {source} fits {text!r}."
        return gr.Dropdown(found, value=found[0][1] if found else None, info=info)

    def on_ask(
        source: str, kind: int, node: str | None, upload: str | None, k: int, known: str
    ) -> tuple[str, Any, Any]:
        try:
            html, figure, file = desk.answer(
                desk.triple_types(source)[kind], node, upload, k, known
            )
        except InputError as e:
            return view.refusal(str(e)), None, gr.DownloadButton(value=None, interactive=False)
        return html, figure, gr.DownloadButton(value=file, interactive=True)

    def on_upload(source: str, upload: str) -> str | None:
        try:
            desk.read(source, upload)
        except InputError as e:
            gr.Warning(str(e), title="Not an embedding")
            return None
        return upload

    def api(
        source: str, relation: str, target: str, query: str, k: int = 10, known: str = "mark"
    ) -> list[dict[str, Any]]:
        try:
            return desk.records(source, relation, target, query, k, known)
        except InputError as e:
            raise gr.Error(str(e), print_exception=False) from e

    api.__doc__ = desk.records.__doc__

    first = desk.sources[0]
    with gr.Blocks(
        title=f"bridge_jax · {desk.title}",
        analytics_enabled=False,
        delete_cache=(600, 3600),
        fill_width=True,
    ) as page:
        gr.Markdown(f"## bridge_jax <small>{desk.title}</small>")
        with gr.Row(equal_height=False):
            with gr.Column(scale=4, min_width=300):
                source = gr.Dropdown(desk.sources, value=first, label="From", elem_id="source")
                search = gr.Textbox(
                    label="Search", placeholder="a name or an id", elem_id="search", max_lines=1
                )
                matches = desk.matches(first, "")
                node = gr.Dropdown(
                    matches, value=matches[0][1], label="Node", elem_id="node", info=""
                )
                kind = gr.Dropdown(
                    choices(first), value=0, label="Relation → target", elem_id="kind"
                )
                with gr.Accordion("Or a new embedding", open=False):
                    upload = gr.File(
                        label=".npy of one vector",
                        file_types=[".npy"],
                        elem_id="upload",
                        height=110,
                    )
                with gr.Row():
                    k = gr.Slider(1, MOST, value=10, step=1, label="Answers", elem_id="k")
                known = gr.Radio(list(KNOWN), value="mark", label="Known facts", elem_id="known")
                ask = gr.Button("Retrieve", variant="primary", elem_id="ask")
                download = gr.DownloadButton(
                    "Download CSV", interactive=False, elem_id="download", size="sm"
                )
            with gr.Column(scale=9, min_width=480):
                answers = gr.HTML(elem_id="answers")
                plot = gr.Plot(label="Projected space, first two principal components")
        hidden = {"api_visibility": "private", "show_progress": "hidden"}
        source.change(on_source, source, [search, node, kind], **hidden)
        search.change(on_search, [source, search], node, trigger_mode="always_last", **hidden)
        upload.upload(on_upload, [source, upload], upload, **hidden)
        asked = [source, kind, node, upload, k, known]
        together = {"concurrency_id": "answers", "concurrency_limit": WORKERS}
        submitted = search.submit(on_search, [source, search], node, **hidden)
        for event in (ask.click, submitted.then, page.load):
            event(on_ask, asked, [answers, plot, download], api_visibility="private", **together)
        gr.api(api, api_name="retrieve", **together)
    return page


def theme() -> Any:
    """Plain colours and the fonts of the system."""
    gr = gradio()
    fonts = ["system-ui", "sans-serif"]  # as text: a Font object would be fetched from the network
    return gr.themes.Base(primary_hue="orange", font=fonts, font_mono=["ui-monospace", "monospace"])
