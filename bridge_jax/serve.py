"""Serves a web page and a JSON API to query a trained bridge.

    python -m bridge_jax.serve --workdir runs/demo

The page finds nodes of all types by name, synonym or id, and ranks the answers to a relation, with
probability, confidence, known facts and the reasons for each. A new sequence, SMILES or text, a
file with an embedding, or a list of ids can be asked about, and results can be downloaded as CSV.
The address repeats the question. The same answers are available as JSON; /api describes how. With
--smiles, the table that a molecule encoder read, the page draws structures.

The server listens on this machine only, unless --host says otherwise, and answers only requests for
its own name (--allow-host adds one) that no other site's page sends. --auth asks for a password.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from bridge_jax import cli
from bridge_jax.errors import InputError
from bridge_jax.prompting.molecules import read_smiles
from bridge_jax.web.request_body import MIB, UploadQuota
from bridge_jax.web.security import AccessRules, Guard, access_rules, is_local
from bridge_jax.web.server import bind, configure_gradio, end_by_signals, make_server, url_of
from bridge_jax.web.temp_folder import private_temp_folder


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; see the module's docstring."""
    args = _parser().parse_args(argv)
    reading = cli.embedding_options(args)
    rules = access_rules(args.host, args.allow_host, args.auth, args.root_path)
    _check_limits(args)
    with end_by_signals(), bind(args.host, args.port) as bound, private_temp_folder() as folder:
        uploads = configure_gradio(folder)
        from bridge_jax import predictor
        from bridge_jax.web.app import build_app, import_gradio, mount
        from bridge_jax.web.service import QueryService

        import_gradio()
        smiles = read_smiles(Path(args.smiles)) if args.smiles else {}
        bridge = predictor.load(args.workdir, args.dataset, args.step)
        service = QueryService(bridge, smiles, uploads, reading)
        service.warm_up()
        max_upload, max_total = int(args.upload_limit * MIB), int(args.upload_quota * MIB)
        app = mount(build_app(service), rules.root_path, max_upload, service)
        guard = Guard(app, rules, UploadQuota(uploads, max_upload, max_total), uploads)
        _warn(args.host, rules)
        url = url_of(bound, rules.root_path)
        server = make_server(
            guard,
            args.max_connections,
            on_start=lambda: print(f"{url}  (Ctrl-C ends it)", flush=True),
        )
        server.run(sockets=[bound])
    return 0


def _check_limits(args: argparse.Namespace) -> None:
    if args.max_connections < 1:
        raise InputError(f"--max-connections {args.max_connections}: must be at least 1")
    if not 0 < args.upload_limit <= args.upload_quota < 2**40:
        raise InputError(
            f"--upload-limit {args.upload_limit:g} and --upload-quota {args.upload_quota:g}: must "
            "be positive, and the limit of one file at most the quota of all"
        )


def _warn(host: str, rules: AccessRules) -> None:
    if not rules.user and not is_local(host):
        print(
            f"warning: --host {host} without --auth: everybody who can reach this machine can query"
            " the bridge and upload files; --auth USER:FILE asks for a password",
            file=sys.stderr,
        )


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
    server.add_argument(
        "--root-path",
        default="",
        metavar="PATH",
        help="path of the page behind a proxy, e.g. /bridge; default: none",
    )
    server.add_argument(
        "--max-connections",
        type=int,
        default=256,
        metavar="N",
        help="open connections; further requests get status 503; default: 256",
    )
    access = parser.add_argument_group("access")
    access.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="further name of the server, e.g. that of a proxy; may be repeated; "
        "default: localhost and the address of --host",
    )
    access.add_argument(
        "--auth",
        default="",
        metavar="USER:FILE",
        help="ask for this user and the password in the first line of the file; default: no login",
    )
    uploads = parser.add_argument_group("uploads")
    uploads.add_argument(
        "--upload-limit",
        type=float,
        default=16,
        metavar="MIB",
        help="largest size of one file; default: 16 MiB",
    )
    uploads.add_argument(
        "--upload-quota",
        type=float,
        default=256,
        metavar="MIB",
        help="largest size of all files, each of which is kept for an hour; default: 256 MiB",
    )
    cli.add_embedding_arguments(uploads)
    return parser


if __name__ == "__main__":
    cli.run(main)
