"""Responses of the web server: errors as one line of JSON, and headers for the browser."""

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from bridge_jax.web.request_body import Message

Send = Callable[[Message], Awaitable[None]]

_MAX_ERROR_BYTES = 65_536  # of an error's body that is read
_MAX_MESSAGE_CHARS = 500
_SAFE_HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"SAMEORIGIN"),
    (b"content-security-policy", b"frame-ancestors 'self'"),
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
]


async def respond(
    send: Send, status: int, message: str, headers: Mapping[str, str] | None = None
) -> None:
    """Sends an error as one line of JSON, and lets the connection be closed."""
    body = (json.dumps({"error": message, "detail": message}) + "\n").encode()
    raw = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
        (b"connection", b"close"),
        *((k.encode(), v.encode()) for k, v in (headers or {}).items()),
        *_SAFE_HEADERS,
    ]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": body})


class ResponseFilter:
    """ASGI's `send` of an application whose errors are rewritten to one line of JSON.

    Attributes:
      status: Status of an error that is not sent yet; 0 for none.
      message: Its message; empty to take it from the application's body.
      has_started: Whether a response was started.
    """

    def __init__(self, send: Send) -> None:
        """Stores the server's function."""
        self.status, self.message, self.has_started = 0, "", False
        self._send, self._body = send, bytearray()

    async def __call__(self, message: Message) -> None:
        """Sends a message, or keeps it if it belongs to an error."""
        if message["type"] == "http.response.start":
            if message["status"] >= 400:
                self.status = message["status"]
                return
            self.has_started = True
            message = {**message, "headers": _safe_headers(message.get("headers", []))}
        elif self.status:
            self._body += message.get("body", b"")[: _MAX_ERROR_BYTES - len(self._body)]
            return
        await self._send(message)

    async def finish(self) -> None:
        """Sends the error that was kept, if any."""
        if self.status:
            await respond(self._send, self.status, self.message or _message(bytes(self._body)))


def _safe_headers(headers: Sequence[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Removes permissions for other sites, and adds what keeps the page to itself."""
    own = {name for name, _ in _SAFE_HEADERS}
    kept = [
        (name, value)
        for name, value in headers
        if not name.lower().startswith(b"access-control-") and name.lower() not in own
    ]
    return [*kept, *_SAFE_HEADERS]


def _message(body: bytes) -> str:
    """Takes one line out of the body of an error of Gradio or FastAPI."""
    text = body.decode(errors="replace")
    try:
        value: Any = json.loads(text)
    except ValueError:
        value = text
    if isinstance(value, dict):
        value = value.get("detail", value.get("error"))
    if isinstance(value, list):  # of FastAPI: fields that are missing or wrong
        value = "; ".join(
            f"{'.'.join(map(str, v.get('loc', ())))}: {v.get('msg')}"
            for v in value
            if isinstance(v, dict)
        )
    line = " ".join(str(value or "the request cannot be processed").split())
    return line[:_MAX_MESSAGE_CHARS]
