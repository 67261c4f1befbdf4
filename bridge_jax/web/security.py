"""Who may ask the web server what: host, origin, password and routes, checked before any answer.

A page of another site that a user has open can send requests to this server, and with a DNS name
that it points here it can also read the answers (DNS rebinding). Therefore the header `Host` must
be a name of this server, and a request that another site's page makes is refused. No header allows
another site to read an answer (CORS).
"""

import asyncio
import base64
import binascii
import hashlib
import hmac
import ipaddress
import logging
import math
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bridge_jax.errors import InputError
from bridge_jax.web.request_body import (
    MIB,
    BoundedBody,
    Message,
    Receive,
    RequestRefusedError,
    UploadQuota,
    too_large,
)
from bridge_jax.web.responses import ResponseFilter, respond

Send = Callable[[Message], Awaitable[None]]
Scope = Mapping[str, Any]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")
# Bytes and seconds of a request's body; the size of an upload is an option.
MAX_BODY_BYTES, BODY_TIMEOUT, UPLOAD_TIMEOUT = MIB, 15.0, 120.0
_FAILED_LOGIN_DELAY = 1.0  # seconds
_MAX_LOGGED_CHARS = 300
_UPLOAD = "/gradio_api/upload"
# Gradio has many more routes (proxies, code editing, recordings), none of which the page needs.
_GET_ROUTES = {
    "/",
    "/page.css",
    "/page.js",
    "/api",
    "/api/health",
    "/api/openapi.json",
    "/api/search",
    "/config",
    "/theme.css",
    "/manifest.json",
    "/robots.txt",
    "/favicon.ico",
    "/gradio_api/info",
    "/gradio_api/openapi.json",
    "/gradio_api/app_id",
    "/gradio_api/startup-events",
    "/gradio_api/theme.css",
    "/gradio_api/queue/data",
    "/gradio_api/queue/status",
}
_GET_PREFIXES = ("/assets/", "/static/", "/svelte/", "/gradio_api/call/", "/gradio_api/heartbeat/")
_POST_ROUTES = {
    "/answer",
    "/why",
    "/api/encode",
    "/api/explain",
    "/api/retrieve",
    _UPLOAD,
    "/gradio_api/queue/join",
    "/gradio_api/cancel",
    "/gradio_api/reset",
}
_POST_PREFIXES = ("/gradio_api/call/",)
# Gradio would build the page's links from these.
_DROPPED_HEADERS = (b"x-gradio-server",)
_DROPPED_OF_POST = (*_DROPPED_HEADERS, b"accept-encoding")  # errors are read before they are sent

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class AccessRules:
    """Names of the server, and who may use it.

    Attributes:
      hosts: Names that a request may ask for, in lower case, without port.
      public_hosts: Those of them that a proxy in front of the server has.
      allows_addresses: Whether a request may ask for any IP address; a rebound DNS name is none.
      root_path: Path of the page behind a proxy, e.g. `/bridge`; empty for none.
      user: Name for the login; empty for none.
      password_digest: SHA-256 of the password.
    """

    hosts: frozenset[str]
    public_hosts: frozenset[str] = frozenset()
    allows_addresses: bool = False
    root_path: str = ""
    user: str = ""
    password_digest: bytes = b""

    def check_host(self, host: str) -> None:
        """Raises a refusal if a `Host` header names another server."""
        name = host_name(host)
        if name in self.hosts or (self.allows_addresses and is_address(name)):
            return
        raise RequestRefusedError(
            421,
            f"the host {host[:100]!a} is not this server; if it is, start it with --allow-host "
            f"{name[:100] or 'NAME'}",
        )

    def check_origin(self, headers: Mapping[str, str]) -> None:
        """Raises a refusal if a request comes from a page of another site."""
        origin = headers.get("origin")
        if origin is None:
            if headers.get("sec-fetch-site", "none") in ("same-origin", "none"):
                return
            if headers.get("sec-fetch-mode") == "navigate":  # a link from another site
                return
            origin = headers["sec-fetch-site"]
        else:
            source = _netloc(origin)
            if source and source == headers.get("host", "").lower():
                return
            if host_name(source) in self.public_hosts:
                return
        raise RequestRefusedError(
            403,
            f"requests from other sites are refused (origin {origin[:100]!a}); if it is a proxy of "
            "this server, start the server with --allow-host NAME",
        )

    def check_login(self, authorization: str) -> bool:
        """Returns whether the header `Authorization` is right; the time tells nothing."""
        if not self.user:
            return True
        scheme, _, encoded = authorization.partition(" ")
        try:
            decoded = base64.b64decode(encoded.strip(), validate=True)
        except (binascii.Error, ValueError):
            decoded = b""
        user, _, password = decoded.partition(b":")
        is_user = hmac.compare_digest(_sha256(user), _sha256(self.user.encode()))
        is_password = hmac.compare_digest(_sha256(password), self.password_digest)
        return (scheme.lower() == "basic") & is_user & is_password


def access_rules(
    host: str, allowed_hosts: Sequence[str] = (), auth: str = "", root_path: str = ""
) -> AccessRules:
    """Makes the rules of a server.

    Args:
      host: Address that it listens on. For `0.0.0.0` and `::`, requests may name any IP address
        and this machine's name.
      allowed_hosts: Further names, e.g. that of a proxy.
      auth: `USER:FILE`, where the file holds the password; empty for no login.
      root_path: Path of the page behind a proxy; empty for none.

    Raises:
      InputError: A value is not valid, or the password cannot be read.
    """
    public = []
    for name in allowed_hosts:
        if not host_name(name) or any(c in name for c in "/*@ "):
            raise InputError(
                f"--allow-host {name}: is not a host name; write one like bridge.example.org"
            )
        public.append(host_name(name))
    if root_path and not (root_path.startswith("/") and root_path.strip("/").isprintable()):
        raise InputError(f"--root-path {root_path}: must be a path that starts with /")
    names = [*LOCAL_NAMES, host.lower(), *public]
    if is_wildcard(host):
        names.append(socket.gethostname().lower())
    user, digest = read_password(auth) if auth else ("", b"")
    return AccessRules(
        frozenset(names),
        frozenset(public),
        is_wildcard(host),
        root_path.rstrip("/"),
        user,
        digest,
    )


def read_password(auth: str) -> tuple[str, bytes]:
    """Reads the password for the login `USER:FILE`; returns the user and its SHA-256.

    Raises:
      InputError: The value is not of this form, the file cannot be read, or it is empty.
    """
    user, colon, file = auth.partition(":")
    if not user or not colon or not file:
        raise InputError(f"--auth {auth}: write USER:FILE, where FILE holds the password")
    try:
        lines = Path(file).read_bytes().splitlines()
    except OSError as e:
        raise InputError(f"--auth: the password cannot be read: {file}: {e.strerror}") from e
    if not lines or not lines[0]:
        raise InputError(f"--auth: {file}: holds no password; write it in the first line")
    return user, _sha256(lines[0])


def host_name(host: str) -> str:
    """Returns the name in `NAME`, `NAME:PORT` or `[ADDRESS]:PORT`, in lower case."""
    if is_address(host):
        return host.lower()
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def is_address(name: str) -> bool:
    """Returns whether a name is an IP address."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def is_local(host: str) -> bool:
    """Returns whether only this machine can reach an address to listen on."""
    if is_address(host):
        return ipaddress.ip_address(host).is_loopback
    return host.lower() == "localhost"


def is_wildcard(host: str) -> bool:
    """Returns whether an address to listen on stands for all addresses of the machine."""
    return not host or (is_address(host) and ipaddress.ip_address(host).is_unspecified)


def _netloc(origin: str) -> str:
    try:
        parts = urlsplit(origin)
    except ValueError:
        return ""
    return parts.netloc.lower() if parts.scheme in ("http", "https") else ""


def _sha256(value: bytes) -> bytes:
    return hashlib.sha256(value).digest()


class Guard:
    """ASGI application that checks every request before another one answers it.

    Refusals and errors are one line of JSON, `{"error": …}`, and never a traceback.
    """

    def __init__(self, app: App, rules: AccessRules, quota: UploadQuota, files: Path) -> None:
        """Wraps an application.

        Args:
          app: The application that answers.
          rules: Names and login of the server.
          quota: Room for uploads.
          files: Folder of files that clients may fetch, if they know the name.
        """
        self._app, self._rules, self._quota = app, rules, quota
        self._file_prefix = f"/gradio_api/file={files}/"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        limit, timeout = MAX_BODY_BYTES, BODY_TIMEOUT
        if scope["path"].endswith(_UPLOAD):
            limit, timeout = self._quota.max_bytes, UPLOAD_TIMEOUT
        body = BoundedBody(receive, limit, timeout if scope["method"] == "POST" else math.inf)
        try:
            scope = await self._check(scope)
            await self._answer(scope, body, send)
        except RequestRefusedError as e:
            if scope["method"] == "POST" and b"expect" not in dict(scope["headers"]):
                await body.drain()
            await respond(send, e.status, e.message, e.headers)

    async def _check(self, scope: Scope) -> Scope:
        """Returns the request without what Gradio must not see.

        Raises:
          RequestRefusedError: It may not be answered.
        """
        headers = {k.decode("latin-1"): v.decode("latin-1") for k, v in scope["headers"]}
        self._rules.check_host(headers.get("host", ""))
        if "x-forwarded-host" in headers:
            self._rules.check_host(headers["x-forwarded-host"].partition(",")[0].strip())
        self._rules.check_origin(headers)
        if not self._rules.check_login(headers.get("authorization", "")):
            if "authorization" in headers:
                await asyncio.sleep(_FAILED_LOGIN_DELAY)
            login = {"www-authenticate": 'Basic realm="bridge_jax", charset="UTF-8"'}
            raise RequestRefusedError(401, "user and password are needed", login)
        path, root = scope["path"], self._rules.root_path
        if root and (path == root or path.startswith(f"{root}/")):
            path = path[len(root) :] or "/"
        self._check_route(scope["method"], path)
        dropped = _DROPPED_HEADERS if scope["method"] == "GET" else _DROPPED_OF_POST
        raw = [(k, v) for k, v in scope["headers"] if k not in dropped]
        checked = {**scope, "path": path, "raw_path": path.encode(), "headers": raw}
        # Gradio would collect the progress of an upload with an id until somebody asks for it.
        return {**checked, "query_string": b""} if path == _UPLOAD else checked

    def _check_route(self, method: str, path: str) -> None:
        if method in ("GET", "HEAD"):
            prefixes = (*_GET_PREFIXES, self._file_prefix)
            is_known = path in _GET_ROUTES or path.startswith(prefixes)
        elif method == "POST":
            is_known = path in _POST_ROUTES or path.startswith(_POST_PREFIXES)
        else:
            raise RequestRefusedError(405, f"the method {method[:20]!a} is not offered")
        if not is_known or ".." in path.split("/"):
            raise RequestRefusedError(404, f"{method} {path[:200]!a}: there is no such page")

    async def _answer(self, scope: Scope, body: BoundedBody, send: Send) -> None:
        if scope["method"] != "POST":
            await self._run(scope, body, send)
            return
        text = dict(scope["headers"]).get(b"content-length", b"")
        size = int(text) if text.isdigit() else body.limit
        if size > body.limit:
            raise too_large(body.limit)
        if scope["path"] == _UPLOAD:
            with self._quota.reserve(size):
                await self._run(scope, body, send)
        else:
            # Nothing else works on a request until it is complete.
            await self._run(scope, await body.buffered(), send)

    async def _run(self, scope: Scope, body: BoundedBody, send: Send) -> None:
        """Lets the application answer; filters its response, and turns errors into one line."""
        response = ResponseFilter(send)
        try:
            await self._app(scope, body, response)
        except asyncio.CancelledError:  # the server ends
            return
        except Exception as e:
            if body.refusal is None and body.has_client:
                # What Gradio's routes raise is caused by a request that its page never sends.
                error = f"{type(e).__name__}: {str(e)[:_MAX_LOGGED_CHARS]}"
                _log.warning("%s %a: %a", scope["method"], scope["path"], error)
                _log.debug("its traceback:", exc_info=True)
                if response.has_started:
                    return
                response.status = 400 if scope["method"] == "POST" else 500
                response.message = "the request cannot be processed; check its parameters"
        if body.refusal is not None and not response.has_started:
            raise body.refusal
        await response.finish()
