"""The HTTP server of the web app: its address, its time limits, and how it ends."""

import logging
import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bridge_jax.errors import InputError
from bridge_jax.web.security import App

HEADER_TIMEOUT = 10.0  # seconds until the header of a request must have arrived
KEEP_ALIVE_TIMEOUT = 5  # seconds that a connection may stay idle
SHUTDOWN_TIMEOUT = 2  # seconds that running queries are waited for


def bind(host: str, port: int) -> socket.socket:
    """Binds a socket, before anything is loaded; it does not listen yet.

    Args:
      host: Name or IP address of this machine.
      port: Port, 1 to 65535.

    Raises:
      InputError: The port is taken or not allowed, or the host is not this machine.
    """
    if not 0 < port < 65536:
        raise InputError(f"--port {port}: is not a port; choose one from 1 to 65535")
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as e:
        raise InputError(
            f"--host {host}: is no address of this machine ({e}); 127.0.0.1 is one"
        ) from e
    family, _, _, _, address = found[0]
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        if os.name == "posix":
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError as e:
        bound.close()
        raise InputError(f"cannot listen on {host}:{port} ({e}); choose another --port") from e
    return bound


@contextmanager
def end_by_signals() -> Iterator[None]:
    """Lets Ctrl-C, SIGTERM and SIGHUP end the command with exit code 0, after all clean-up.

    A second signal does not interrupt the clean-up. SIGHUP stays ignored if it was, as by `nohup`.
    """

    def end(*_: object) -> None:
        for number in handlers:
            signal.signal(number, signal.SIG_IGN)
        raise SystemExit(0)

    def pass_on(*_: object) -> None:  # the HTTP server ends by SIGTERM, but not by SIGHUP
        os.kill(os.getpid(), signal.SIGTERM)

    handlers: dict[int, Callable[..., None]] = {signal.SIGINT: end, signal.SIGTERM: end}
    hangup = getattr(signal, "SIGHUP", None)
    if hangup is not None and signal.getsignal(hangup) is not signal.SIG_IGN:
        handlers[hangup] = pass_on
    previous = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def configure_gradio(folder: Path) -> Path:
    """Sets Gradio's environment; must be called before Gradio is imported.

    Args:
      folder: Folder for all files that Gradio writes.

    Returns:
      Folder of the uploads.
    """
    uploads = folder / "gradio"
    os.environ |= {
        "GRADIO_TEMP_DIR": str(uploads),
        "GRADIO_EXAMPLES_CACHE": str(folder / "examples"),
        "GRADIO_ANALYTICS_ENABLED": "False",
        # Otherwise Gradio keeps 10,000 events, and makes a table of them after each.
        "GRADIO_ANALYTICS_MAX_EVENTS": "1",
        "GRADIO_ANALYTICS_CACHE_FREQUENCY": str(2**31),
    }
    return uploads


def make_server(app: App, max_connections: int, on_start: Callable[[], None] = lambda: None) -> Any:
    """Makes the HTTP server; `run(sockets=[bound])` answers requests until a signal ends it.

    Args:
      app: ASGI application.
      max_connections: Largest number of open connections; further requests get status 503.
      on_start: Called when requests are answered.
    """
    import uvicorn

    class Server(uvicorn.Server):  # type: ignore[misc]
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if self.started:
                on_start()
                # From here on it would report what clients do wrong.
                logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)

    config = uvicorn.Config(
        app,
        http=_protocol(2 * max_connections),
        ws="none",
        lifespan="on",
        log_level="error",
        access_log=False,
        server_header=False,
        limit_concurrency=max_connections,
        timeout_keep_alive=KEEP_ALIVE_TIMEOUT,
        timeout_graceful_shutdown=SHUTDOWN_TIMEOUT,
    )
    return Server(config)


def _protocol(max_connections: int) -> Any:
    """Makes uvicorn's protocol with a time limit for headers, which uvicorn lacks."""
    import asyncio

    import h11
    from uvicorn.protocols.http.h11_impl import H11Protocol

    class TimedProtocol(H11Protocol):  # type: ignore[misc]
        _header_timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            if len(self.connections) > max_connections:
                transport.abort()
            self._watch_header()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self._watch_header()

        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            self._stop_timer()

        def _watch_header(self) -> None:
            if self.conn.their_state is not h11.IDLE:
                self._stop_timer()
            elif self._header_timer is None:
                self._header_timer = self.loop.call_later(HEADER_TIMEOUT, self._close_if_waiting)

        def _stop_timer(self) -> None:
            if self._header_timer is not None:
                self._header_timer.cancel()
                self._header_timer = None

        def _close_if_waiting(self) -> None:
            self._header_timer = None
            if self.conn.their_state is h11.IDLE:
                self.transport.close()

    return TimedProtocol


def url_of(bound: socket.socket, root_path: str = "") -> str:
    """Returns the URL of a bound socket."""
    host, port = bound.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}{root_path}/"
