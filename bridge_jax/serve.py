"""A web page on which to ask a trained bridge.

    python -m bridge_jax.serve --workdir runs/demo

Choose a node and a relation and see the ranked neighbours, known facts marked, on a map of the
projected space; upload a new embedding (.npy); download the answers as CSV. The same answers come
as JSON from the API that the page's footer describes. Listens on this machine alone unless --host
says otherwise. With --smiles, the table that a molecule encoder read, structures are drawn.
"""

import argparse
import os
import socket
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bridge_jax import cli, trained, view
from bridge_jax.desk import MOST, Desk
from bridge_jax.errors import InputError
from bridge_jax.molecules import read_smiles
from bridge_jax.neighbours import KNOWN

UPLOAD = "64mb"
# Answers computed at a time. The device has one queue; the rest of an answer is Python.
WORKERS = 4


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; see the module's docstring."""
    args = _parser().parse_args(argv)
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    gradio()
    check_free(args.host, args.port)
    smiles = read_smiles(Path(args.smiles)) if args.smiles else {}
    bridge = trained.load(args.workdir, args.dataset, args.step)
    with TemporaryDirectory(prefix="bridge_jax-") as files:
        page = build(Desk(bridge, smiles, Path(files)))
        _, url, _ = page.launch(
            server_name=args.host,
            server_port=args.port,
            prevent_thread_lock=True,
            quiet=True,
            share=False,
            ssr_mode=False,
            max_file_size=UPLOAD,
            footer_links=["api"],
            theme=_theme(),
            css=view.CSS,
        )
        print(f"{url}  (Ctrl-C ends it)", flush=True)
        page.block_thread()
    return 0


def check_free(host: str, port: int) -> None:
    """Refuse an address that cannot be listened on, before anything is loaded.

    Raises:
      InputError: the port is taken or not allowed, or the host is not this machine.
    """
    if not 0 < port < 65536:
        raise InputError(f"--port {port} is no port; choose one from 1 to 65535")
    try:
        socket.create_server((host, port)).close()
    except OSError as e:
        raise InputError(f"cannot listen on {host}:{port} ({e}); choose another --port") from e


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


def build(desk: Desk) -> Any:
    """The page, as Gradio blocks that have not been launched."""
    gr = gradio()

    def choices(source: str) -> list[tuple[str, int]]:
        kinds = enumerate(desk.kinds(source))
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
            html, figure, file = desk.answer(desk.kinds(source)[kind], node, upload, k, known)
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


def _theme() -> Any:
    gr = gradio()
    fonts = ["system-ui", "sans-serif"]  # as text: a Font object would be fetched from the network
    return gr.themes.Base(primary_hue="orange", font=fonts, font_mono=["ui-monospace", "monospace"])


def _parser() -> argparse.ArgumentParser:
    parser = cli.parser("bridge_jax.serve", __doc__)
    parser.add_argument("--workdir", required=True, help="a trained run, e.g. runs/demo")
    parser.add_argument("--port", type=int, default=7860, help="default: 7860")
    parser.add_argument(
        "--host", default="127.0.0.1", help="default: 127.0.0.1, this machine alone"
    )
    parser.add_argument("--smiles", metavar="FILE", help="CSV of ids and smiles, to be drawn")
    parser.add_argument("--step", type=int, help="a checkpoint; default: the best by validation")
    parser.add_argument("--dataset", help="another place of the run's dataset")
    return parser


if __name__ == "__main__":
    cli.run(main)
