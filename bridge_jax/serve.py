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

from bridge_jax import cli
from bridge_jax.errors import InputError
from bridge_jax.prompting.molecules import read_smiles

UPLOAD = "64mb"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; see the module's docstring."""
    args = _parser().parse_args(argv)
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    check_free(args.host, args.port)
    from bridge_jax import predictor as trained
    from bridge_jax.web import render as view
    from bridge_jax.web.app import build, gradio, theme
    from bridge_jax.web.service import QueryService

    gradio()
    smiles = read_smiles(Path(args.smiles)) if args.smiles else {}
    bridge = trained.load(args.workdir, args.dataset, args.step)
    with TemporaryDirectory(prefix="bridge_jax-") as files:
        page = build(QueryService(bridge, smiles, Path(files)))
        _, url, _ = page.launch(
            server_name=args.host,
            server_port=args.port,
            prevent_thread_lock=True,
            quiet=True,
            share=False,
            ssr_mode=False,
            max_file_size=UPLOAD,
            footer_links=["api"],
            theme=theme(),
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


def _parser() -> argparse.ArgumentParser:
    parser = cli.parser("bridge_jax.serve", __doc__)
    read = parser.add_argument_group("what is read")
    how = parser.add_argument_group("where it listens")
    cli.add_run_arguments(read)
    how.add_argument("--port", type=int, default=7860, help="of the page; default: 7860")
    how.add_argument(
        "--host",
        default="127.0.0.1",
        help="an address of this machine; default: 127.0.0.1, which it alone can reach",
    )
    read.add_argument(
        "--smiles",
        metavar="FILE",
        help="CSV of ids and smiles, to be drawn; default: no structures",
    )
    return parser


if __name__ == "__main__":
    cli.run(main)
