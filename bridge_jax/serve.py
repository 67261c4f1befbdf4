"""Serves a web page and a JSON API to query a trained bridge.

    python -m bridge_jax.serve --workdir runs/demo

Choose a node and a relation: the page shows the ranked results, with known facts marked, and a map
of the projected space. New embeddings (.npy) can be uploaded, and results can be downloaded as CSV.
The same results are available as JSON; the page's footer describes the API. The server listens on
this machine only, unless --host says otherwise. With --smiles, the table that a molecule encoder
read, the page draws structures.
"""

import argparse
import os
import socket
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from bridge_jax import cli
from bridge_jax.errors import InputError
from bridge_jax.prompting.molecules import read_smiles

MAX_UPLOAD_SIZE = "64mb"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; see the module's docstring."""
    args = _parser().parse_args(argv)
    check_address(args.host, args.port)
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    from bridge_jax import predictor
    from bridge_jax.web.app import build_app, import_gradio, make_theme
    from bridge_jax.web.render import CSS
    from bridge_jax.web.service import QueryService

    import_gradio()
    smiles = read_smiles(Path(args.smiles)) if args.smiles else {}
    bridge = predictor.load(args.workdir, args.dataset, args.step)
    with TemporaryDirectory(prefix="bridge_jax-") as csv_folder:
        app = build_app(QueryService(bridge, smiles, Path(csv_folder)))
        _, url, _ = app.launch(
            server_name=args.host,
            server_port=args.port,
            prevent_thread_lock=True,
            quiet=True,
            share=False,
            ssr_mode=False,
            max_file_size=MAX_UPLOAD_SIZE,
            footer_links=["api"],
            theme=make_theme(),
            css=CSS,
        )
        print(f"{url}  (Ctrl-C ends it)", flush=True)
        app.block_thread()
    return 0


def check_address(host: str, port: int) -> None:
    """Checks, before anything is loaded, that the server can listen on an address.

    Args:
      host: Name or IP address of this machine.
      port: Port, 1 to 65535.

    Raises:
      InputError: The port is taken or not allowed, or the host is not this machine.
    """
    if not 0 < port < 65536:
        raise InputError(f"--port {port}: is not a port; choose one from 1 to 65535")
    try:
        socket.create_server((host, port)).close()
    except OSError as e:
        raise InputError(f"cannot listen on {host}:{port} ({e}); choose another --port") from e


def _parser() -> argparse.ArgumentParser:
    parser = cli.parser("bridge_jax.serve", __doc__)
    inputs = parser.add_argument_group("inputs")
    cli.add_run_arguments(inputs)
    inputs.add_argument(
        "--smiles",
        metavar="FILE",
        help="CSV with columns of ids and smiles, for drawings; default: no structures",
    )
    server = parser.add_argument_group("server")
    server.add_argument("--port", type=int, default=7860, help="port of the page; default: 7860")
    server.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to listen on; default: 127.0.0.1, which only this machine can reach",
    )
    return parser


if __name__ == "__main__":
    cli.run(main)
