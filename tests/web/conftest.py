"""The small run behind a page: in this process, and in a server as a user starts it."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import bridge_jax
from tests.helpers.ports import free_port
from tests.helpers.web import FUNCTION, PROTEIN


class Server(NamedTuple):
    """A started command.

    Attributes:
      url: Address of the page.
      log: File of what it prints.
      process: Its process.
      temp: Folder of its temporary files.
    """

    url: str
    log: Path
    process: subprocess.Popen
    temp: Path


def start(workdir: Path, temp: Path, *options: str) -> Server:
    """Starts the command in a process of its own, and waits until it answers."""
    port, log = free_port(), temp / f"log-{time.monotonic_ns()}"
    command = [sys.executable, "-m", "bridge_jax.serve", "--workdir", str(workdir), *options]
    with open(log, "w") as handle:
        process = subprocess.Popen(
            [*command, "--port", str(port)],
            stdout=handle,
            stderr=subprocess.STDOUT,
            env={**os.environ, "TMPDIR": str(temp)},
        )
    url = f"http://127.0.0.1:{port}"
    for _ in range(600):
        if process.poll() is not None or f":{port}" in log.read_text():
            break
        time.sleep(0.1)
    assert f":{port}" in log.read_text(), log.read_text()
    return Server(url, log, process, temp)


@pytest.fixture(scope="session")
def start_server(trained, tmp_path_factory) -> Iterator[Callable[..., Server]]:
    """Function that starts servers of the small run; they end with the tests."""
    pytest.importorskip("gradio")
    servers: list[Server] = []

    def start_one(*options: str, temp: Path | None = None) -> Server:
        servers.append(start(trained, temp or tmp_path_factory.mktemp("serve"), *options))
        return servers[-1]

    yield start_one
    for server in servers:
        server.process.terminate()
    for server in servers:
        server.process.wait(30)


@pytest.fixture(scope="session")
def server(start_server) -> Server:
    """A server with the default options, for all tests that do not end it."""
    return start_server()


@pytest.fixture(scope="session")
def service(trained, tmp_path_factory):
    """Request handlers of the web app."""
    from bridge_jax.web.service import QueryService

    return QueryService(bridge_jax.load(trained), {}, tmp_path_factory.mktemp("uploads"))


@pytest.fixture(scope="session")
def triple_type(service):
    return service.bridge.triple_type(PROTEIN, "interacts with", FUNCTION)


@pytest.fixture(scope="session")
def table(service):
    """Embedding table of the proteins."""
    return service.bridge.experiment.tables[PROTEIN]
