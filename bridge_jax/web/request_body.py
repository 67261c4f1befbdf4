"""Limits of what a client may send: size and time of a request's body, and a quota for uploads."""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]

MIB = 2**20
PIECE_TIMEOUT = 10.0  # seconds until the next piece of a body must arrive
MAX_FILES = 1000  # uploaded files at a time
_MAX_DRAINED_BYTES, _DRAIN_TIMEOUT = 64 * MIB, 5.0


class RequestRefusedError(Exception):
    """A request that is answered by a status and one line.

    Attributes:
      status: HTTP status.
      message: Why it is refused, in one line.
      headers: Further headers of the response.
    """

    def __init__(self, status: int, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.headers = status, message, headers or {}


class BoundedBody:
    """Receives a request's body as long as it is small and arrives in time.

    After a violation the application is told that the client has gone, and `refusal` says why.

    Attributes:
      limit: Largest number of bytes.
      refusal: The violation; None so far.
      has_client: Whether the client has not hung up within the body.
    """

    def __init__(self, receive: Receive, limit: int, timeout: float) -> None:
        """Starts the clock.

        Args:
          receive: ASGI's function.
          limit: Largest number of bytes.
          timeout: Seconds until the whole body must have arrived.
        """
        self.refusal: RequestRefusedError | None = None
        self.has_client = True
        self._receive, self.limit = receive, limit
        self._end, self._size, self._is_complete = time.monotonic() + timeout, 0, False

    async def __call__(self) -> Message:
        """Returns the next message, as ASGI's `receive` does."""
        if self._is_complete:
            return await self._receive()
        if self.refusal is None:
            wait = min(PIECE_TIMEOUT, self._end - time.monotonic())
            try:
                message = await asyncio.wait_for(self._receive(), max(wait, 0))
            except TimeoutError:
                self.refusal = RequestRefusedError(408, "the body of the request took too long")
            else:
                self._size += len(message.get("body", b""))
                self._is_complete = not message.get("more_body", False)
                self.has_client = message["type"] != "http.disconnect"
                if self._size <= self.limit:
                    return message
                self.refusal = too_large(self.limit)
        return {"type": "http.disconnect"}

    async def buffered(self) -> "BoundedBody":
        """Reads the whole body, and returns it for an application that then need not wait.

        Raises:
          RequestRefusedError: It is too large, too late, or the client has gone.
        """
        pieces = []
        while not self._is_complete:
            message = await self()
            if self.refusal is not None:
                raise self.refusal
            if message["type"] == "http.disconnect":
                raise RequestRefusedError(400, "the request has no complete body")
            pieces.append(message.get("body", b""))
        pending = [b"".join(pieces)]

        async def receive() -> Message:
            if pending:
                return {"type": "http.request", "body": pending.pop(), "more_body": False}
            return await self._receive()

        return BoundedBody(receive, self.limit, math.inf)

    async def drain(self) -> None:
        """Drops the rest for a short time: a client that still sends does not read the answer."""
        end = time.monotonic() + _DRAIN_TIMEOUT
        with suppress(TimeoutError):
            while not self._is_complete and self._size < _MAX_DRAINED_BYTES:
                wait = max(end - time.monotonic(), 0)
                message = await asyncio.wait_for(self._receive(), wait)
                self._size += len(message.get("body", b""))
                self._is_complete = not message.get("more_body", False)


def too_large(limit: int) -> RequestRefusedError:
    """Builds the refusal of a body with more bytes than a limit."""
    return RequestRefusedError(413, f"the request is larger than {limit / MIB:,.6g} MiB")


class UploadQuota:
    """Room for uploaded files in a folder.

    Attributes:
      max_bytes: Largest size of one upload.
      max_total_bytes: Largest size of all files in the folder and of the uploads under way.
    """

    def __init__(self, folder: Path, max_bytes: int, max_total_bytes: int) -> None:
        """Stores the limits; the folder need not exist yet."""
        self.max_bytes, self.max_total_bytes = max_bytes, max_total_bytes
        self._folder, self._num_running, self._reserved = folder, 0, 0

    @contextmanager
    def reserve(self, size: int) -> Iterator[None]:
        """Reserves room for an upload while it is received.

        Raises:
          RequestRefusedError: The upload is too large, or the folder is full.
        """
        if size > self.max_bytes:
            raise too_large(self.max_bytes)
        sizes = [s for _, s in self._files()]
        if sum(sizes) + self._reserved + size > self.max_total_bytes or len(sizes) >= MAX_FILES:
            raise RequestRefusedError(
                413,
                f"the server holds {sum(sizes) / MIB:,.1f} MiB of uploads in {len(sizes):,} files, "
                f"as many as it may; try again in an hour, when the oldest are removed",
            )
        self._reserved += size
        self._num_running += 1
        try:
            yield
        finally:
            self._reserved -= size
            self._num_running -= 1
            if not self._num_running:
                self._remove_partial()

    def _files(self) -> list[tuple[Path, int]]:
        files = []
        for path in self._folder.rglob("*"):
            with suppress(OSError):  # removed meanwhile
                if path.is_file():
                    files.append((path, path.stat().st_size))
        return files

    def _remove_partial(self) -> None:
        """Removes what clients left that hung up; complete files lie in folders of their own."""
        with suppress(OSError):
            for path in self._folder.iterdir():
                if path.is_file():
                    path.unlink(missing_ok=True)
