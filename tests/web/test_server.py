"""The HTTP server's address and time limits, and the temporary folder that never stays behind."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from bridge_jax.errors import InputError
from bridge_jax.web import server as web_server
from bridge_jax.web.temp_folder import private_temp_folder
from tests.helpers.ports import free_port


async def hello(scope, receive, send) -> None:
    """Application that answers `hello`, after a while if the path is `/slow`."""
    if scope["type"] == "lifespan":
        for kind in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{kind}.complete"})
        return
    headers = [(b"content-length", b"5")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"hello"})


@pytest.fixture
def port(monkeypatch):
    """Port of a server with short time limits and four connections."""
    pytest.importorskip("uvicorn")
    monkeypatch.setattr(web_server, "HEADER_TIMEOUT", 0.3)
    bound, started = web_server.bind("127.0.0.1", free_port()), threading.Event()
    server = web_server.make_server(hello, 4, started.set)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]})
    thread.start()
    assert started.wait(10)
    yield bound.getsockname()[1]
    server.should_exit = True
    thread.join(10)
    assert not thread.is_alive()


def connect(port: int, data: bytes) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", port), timeout=5)
    client.sendall(data)
    return client


def test_a_header_must_arrive_in_time(port):
    request = b"GET / HTTP/1.1\r\nhost: localhost\r\n"
    clients = [connect(port, data) for data in (b"", b"GET", request)]
    start = time.monotonic()
    assert [client.recv(100) for client in clients] == [b""] * 3
    assert time.monotonic() - start < 2
    for client in clients:
        client.close()
    with connect(port, request + b"\r\n") as client:
        assert b"hello" in client.recv(1000)
        client.sendall(request)  # the header of the next request on the same connection
        assert client.recv(100) == b""


@pytest.mark.parametrize(("num_clients", "expected"), [(2, b"hello"), (6, b"503"), (20, b"")])
def test_connections_are_limited(port, num_clients, expected):
    request = b"GET / HTTP/1.1\r\nhost: localhost\r\n"
    clients = [connect(port, request) for _ in range(num_clients)]
    time.sleep(0.1)
    with socket.create_connection(("127.0.0.1", port), timeout=5) as client:
        try:
            client.sendall(request + b"\r\n")
            answer = client.recv(1000)
        except ConnectionError:
            answer = b""
    assert expected in answer if expected else not answer
    time.sleep(0.6)  # the half-sent ones are closed
    with connect(port, request + b"\r\n") as client:
        assert b"hello" in client.recv(1000)
    for client in clients:
        client.close()


def test_addresses_that_cannot_be_used_are_named():
    with pytest.raises(InputError, match=r"--host nowhere.invalid: is no address"):
        web_server.bind("nowhere.invalid", free_port())
    with pytest.raises(InputError, match="choose another --port"):
        web_server.bind("192.0.2.1", free_port())
    with web_server.bind("::1", free_port()) as bound:
        assert web_server.url_of(bound, "/x").startswith("http://[::1]:")


HOLD = """
import sys, tempfile, time
from pathlib import Path
from bridge_jax.web.server import end_by_signals
from bridge_jax.web.temp_folder import private_temp_folder
with end_by_signals(), private_temp_folder() as folder:
    (folder / "sub").mkdir()
    (folder / "sub/x").write_text("secret")
    tempfile.mkstemp()
    print(folder, flush=True)
    if sys.argv[1] == "error":
        raise RuntimeError
    time.sleep(60)
"""


def hold(temp: Path, how: str = "wait") -> tuple[subprocess.Popen, Path]:
    """Starts a process that holds a temporary folder; returns it and the folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, how],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "TMPDIR": str(temp), "PYTHONPATH": os.getcwd()},
        text=True,
    )
    with process.stdout:
        return process, Path(process.stdout.readline().strip())


def test_only_the_user_can_read_the_folder(tmp_path):
    process, folder = hold(tmp_path)
    assert folder.parent == tmp_path
    assert folder.stat().st_mode & 0o777 == 0o700
    files = [p for p in folder.rglob("*") if p.is_file()]
    assert len(files) == 3  # one is a temporary file of another part of the program
    assert {p.stat().st_mode & 0o777 for p in files} == {0o600}
    process.terminate()
    process.wait(10)


@pytest.mark.parametrize("how", ["SIGTERM", "SIGINT", "SIGHUP", "error"])
def test_the_folder_is_removed_at_every_end(tmp_path, how):
    process, folder = hold(tmp_path, how)
    if how != "error":
        assert folder.exists()
        process.send_signal(getattr(signal, how))
    assert process.wait(10) == (how == "error")
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_server_left_is_removed_by_the_next_one(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    killed, left = hold(tmp_path)
    alive, kept = hold(tmp_path)
    killed.kill()
    killed.wait(10)
    (tmp_path / "bridge_jax-serve-new").mkdir()  # of a server that starts at this moment
    (tmp_path / "bridge_jax-serve-link").symlink_to(tmp_path)
    assert (left / "sub/x").exists()
    with private_temp_folder() as own:
        assert own.exists()
        names = {p.name for p in tmp_path.iterdir()}
    assert names == {kept.name, own.name, "bridge_jax-serve-new", "bridge_jax-serve-link"}
    assert (kept / "sub/x").read_text() == "secret"
    alive.terminate()
    assert alive.wait(10) == 0


def test_two_servers_have_two_folders(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with private_temp_folder() as first, private_temp_folder() as second:
        assert first != second
        assert first.exists()
    assert list(tmp_path.iterdir()) == []
