"""Checks that stand before every request: host, origin, login, route, size and time of the body."""

import asyncio
import base64
import json
from pathlib import Path

import pytest

from bridge_jax.errors import InputError
from bridge_jax.web import request_body, security
from bridge_jax.web.request_body import UploadQuota
from bridge_jax.web.security import Guard, access_rules

UPLOAD = "/gradio_api/upload"


class Echo:
    """Application that answers with the path and the number of bytes it received."""

    def __init__(self) -> None:
        self.scopes: list[dict] = []

    async def __call__(self, scope, receive, send) -> None:
        self.scopes.append(scope)
        size, more = 0, scope["method"] == "POST"
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise RuntimeError("the client has gone")
            size, more = size + len(message["body"]), message["more_body"]
        headers = [(b"access-control-allow-origin", b"*"), (b"x-kept", b"1")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": f"{scope['path']} {size}".encode()})


class Answer(dict):
    """Headers of a response, with its status and text."""

    status: int
    text: str


def ask(
    guard: Guard, path="/", method="GET", body=(b"",), pause=0.0, host="localhost:7860", **more
):
    """Sends one request; header names have `_` for `-`. The body arrives in pieces with a pause."""
    headers = {"host": host, **{k.replace("_", "-"): v for k, v in more.items()}}
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": b"upload_id=1",
        "headers": [(k.encode(), v.encode()) for k, v in headers.items()],
    }
    pieces, answer, sent = list(body), Answer(), bytearray()

    async def receive():
        if not pieces:
            await asyncio.sleep(60)
        await asyncio.sleep(pause)
        return {"type": "http.request", "body": pieces.pop(0), "more_body": bool(pieces)}

    async def send(message):
        if message["type"] == "http.response.start":
            answer.status = message["status"]
            answer.update((k.decode(), v.decode()) for k, v in message["headers"])
        sent.extend(message.get("body", b""))

    asyncio.run(guard(scope, receive, send))
    answer.text = sent.decode()
    if answer.status >= 400:
        assert answer.text.count("\n") == 1
        answer.text = json.loads(answer.text)["error"]
        assert "\n" not in answer.text
    return answer


@pytest.fixture
def make(tmp_path):
    """Makes a guard with the options of the command."""

    def make(app=None, host="127.0.0.1", quota=(100, 250), **rules) -> Guard:
        limits = UploadQuota(tmp_path, *quota)
        return Guard(app or Echo(), access_rules(host, **rules), limits, Path("/tmp/files"))

    return make


def test_only_names_of_the_server_are_answered(make):
    guard = make(allowed_hosts=["Bridge.example.org"])
    for host in ("localhost", "127.0.0.1:7860", "[::1]:7860", "bridge.example.org:80"):
        assert ask(guard, host=host).status == 200, host
    for host in (
        "evil.org",
        "",
        "127.0.0.1.evil.org",
        "127.0.0.2",
        "localhost.",
        "a@evil.org",
        "[",
    ):
        answer = ask(guard, host=host)
        assert answer.status == 421, host
        assert "--allow-host" in answer.text
    assert ask(guard, x_forwarded_host="evil.org, localhost").status == 421
    assert ask(guard, x_forwarded_host="bridge.example.org").status == 200


def test_a_server_for_all_addresses_answers_addresses_but_not_foreign_names(make):
    guard = make(host="0.0.0.0")
    assert ask(guard, host="192.168.1.5:7860").status == 200
    assert ask(guard, host="[fe80::1]:7860").status == 200
    assert ask(guard, host="rebound.evil.org:7860").status == 421


@pytest.mark.parametrize(("method", "path"), [("GET", "/config"), ("POST", UPLOAD)])
def test_pages_of_other_sites_are_refused_and_get_no_permission(make, method, path):
    guard = make(allowed_hosts=["bridge.example.org"])
    foreign = ("http://evil.org", "null", "http://localhost:3000", "file://", "http://[", "x")
    for origin in foreign:
        answer = ask(guard, path, method, origin=origin)
        assert answer.status == 403, origin
        assert "other sites are refused" in answer.text
    for origin in ("http://localhost:7860", "https://bridge.example.org"):
        answer = ask(guard, path, method, origin=origin)
        assert answer.status == 200, origin
        assert "access-control-allow-origin" not in answer
        assert answer["x-kept"] == "1"
        assert answer["x-frame-options"] == "SAMEORIGIN"
    assert ask(guard, path, method, sec_fetch_site="cross-site").status == 403
    assert ask(guard, path, method, sec_fetch_site="same-origin").status == 200
    assert ask(guard, sec_fetch_site="cross-site", sec_fetch_mode="navigate").status == 200
    assert ask(guard, path, "OPTIONS", origin="http://localhost:7860").status == 405


def test_only_routes_of_the_page_are_answered(make):
    guard = make()
    for path in (
        "/monitoring", "/gradio_api/vibe-code", "/gradio_api/proxy=http://a", "/gradio_api/runs",
        "/gradio_api/file=/etc/passwd", "/gradio_api/file=http://a", "/gradio_api/upload",
        "/gradio_api/file=/tmp/files/../x", "/gradio_api/upload_progress",
    ):  # fmt: skip
        assert ask(guard, path).status == 404, path
    assert ask(guard, "/gradio_api/run/retrieve", "POST").status == 404
    assert ask(guard, "/gradio_api/file=/tmp/files/a/b.npy").status == 200
    assert ask(guard, "/", "DELETE").status == 405


def test_the_path_behind_a_proxy_is_removed(make):
    app = Echo()
    guard = make(app, root_path="/bridge/")
    for path in ("/bridge", "/bridge/", "/"):
        assert ask(guard, path).text == "/ 0"
    assert ask(guard, "/bridge/config", x_gradio_server="http://evil.org").text == "/config 0"
    assert not [k for k, _ in app.scopes[-1]["headers"] if k == b"x-gradio-server"]
    assert ask(guard, "/bridges/config").status == 404


def test_everything_is_behind_the_password(make, tmp_path, monkeypatch):
    monkeypatch.setattr(security, "_FAILED_LOGIN_DELAY", 0)
    file = tmp_path / "password"
    file.write_text("päss:word\n")
    guard = make(auth=f"ada:{file}", quota=(1000, 5000))

    def login(text: str, scheme: str = "Basic") -> str:
        return f"{scheme} {base64.b64encode(text.encode()).decode()}"

    requests = (("GET", "/"), ("POST", UPLOAD), ("POST", "/gradio_api/call/retrieve"))
    for method, path in (*requests, ("GET", "/nowhere")):
        answer = ask(guard, path, method)
        assert answer.status == 401
        assert answer["www-authenticate"].startswith("Basic ")
    for method, path in requests:
        assert ask(guard, path, method, authorization=login("ada:päss:word")).status == 200
        for wrong in ("ada:", "ada:päss", "eve:päss:word", "ada", ""):
            assert ask(guard, path, method, authorization=login(wrong)).status == 401, wrong
        assert ask(guard, path, method, authorization=login("ada:päss:word", "X")).status == 401
        assert ask(guard, path, method, authorization="Basic \xff!").status == 401


def test_passwords_and_names_that_cannot_be_used_are_refused(tmp_path):
    (tmp_path / "empty").write_text("\n")
    for auth, message in (
        ("ada", "write USER:FILE"),
        (f"ada:{tmp_path}/none", "No such file"),
        (f"ada:{tmp_path}/empty", "holds no password"),
    ):
        with pytest.raises(InputError, match=message):
            access_rules("127.0.0.1", auth=auth)
    for name in ("*", "http://a.org", "a b", ""):
        with pytest.raises(InputError, match="is not a host name"):
            access_rules("127.0.0.1", [name])
    with pytest.raises(InputError, match="must be a path that starts with /"):
        access_rules("127.0.0.1", root_path="bridge")


@pytest.mark.parametrize("announced", [True, False])
def test_large_uploads_and_requests_are_refused(make, announced):
    guard = make()
    for path, limit in ((UPLOAD, 100), ("/gradio_api/call/x", security.MAX_BODY_BYTES)):
        for size, status in ((limit, 200), (limit + 1, 413)):
            body = [bytes(size // 2), bytes(size - size // 2)]
            length = {"content_length": str(size)} if announced else {}
            answer = ask(guard, path, "POST", body, **length)
            assert answer.status == status, (path, size)
    assert "MiB" in answer.text


def test_gradio_does_not_count_the_progress_of_an_upload(make):
    app = Echo()
    for method, path in (("POST", UPLOAD), ("GET", "/")):
        assert ask(make(app), path, method).status == 200
    assert [scope["query_string"] for scope in app.scopes] == [b"", b"upload_id=1"]


def test_uploads_share_a_quota(make, tmp_path, monkeypatch):
    guard = make()
    (tmp_path / "a").mkdir()
    (tmp_path / "a/x.npy").write_bytes(bytes(200))
    assert ask(guard, UPLOAD, "POST", content_length="50").status == 200
    answer = ask(guard, UPLOAD, "POST", content_length="51")
    assert answer.status == 413
    assert "in 1 files" in answer.text
    monkeypatch.setattr(request_body, "MAX_FILES", 1)
    assert ask(guard, UPLOAD, "POST", content_length="1").status == 413
    (tmp_path / "a/x.npy").unlink()
    assert ask(guard, UPLOAD, "POST", content_length="100").status == 200


def test_uploads_under_way_count_and_leave_nothing_when_they_break(tmp_path):
    quota = UploadQuota(tmp_path, 100, 150)
    with quota.reserve(100):
        (tmp_path / "partial").write_bytes(b"x")
        with (
            pytest.raises(request_body.RequestRefusedError, match="as many as it may"),
            quota.reserve(60),
        ):
            pass
        assert (tmp_path / "partial").exists()
    assert not (tmp_path / "partial").exists()
    with quota.reserve(100):
        pass


@pytest.mark.parametrize("path", [UPLOAD, "/gradio_api/call/retrieve"])
def test_a_body_must_arrive_in_time(make, path, monkeypatch):
    monkeypatch.setattr(request_body, "PIECE_TIMEOUT", 0.1)
    monkeypatch.setattr(request_body, "_DRAIN_TIMEOUT", 0.1)
    answer = ask(make(), path, "POST", [b"half", b"rest"], pause=0.3)
    assert answer.status == 408
    # Pieces that trickle in meet the limit of the whole body.
    monkeypatch.setattr(security, "UPLOAD_TIMEOUT", 0.2)
    monkeypatch.setattr(security, "BODY_TIMEOUT", 0.2)
    assert ask(make(), path, "POST", [b"x"] * 20, pause=0.05).status == 408
    assert ask(make(), path, "POST", [b"x"] * 2, pause=0.05).status == 200


def failing(error: Exception | None, status: int = 0, body: bytes = b""):
    """Application that fails, before or after it has sent an error."""

    async def app(scope, receive, send):
        if status:
            await send({"type": "http.response.start", "status": status, "headers": []})
            await send({"type": "http.response.body", "body": body})
        if error is not None:
            raise error

    return app


@pytest.mark.parametrize(
    ("error", "status", "body", "method", "expected"),
    [
        (KeyError("x\ny"), 0, b"", "POST", (400, "the request cannot be processed")),
        (KeyError("x"), 500, b"Internal Server Error", "POST", (400, "cannot be processed")),
        (KeyError("x"), 500, b"", "GET", (500, "the request cannot be processed")),
        (None, 404, b'{"detail":"Not Found"}', "GET", (404, "Not Found")),
        (None, 400, b"two\nlines", "GET", (400, "two lines")),
        (None, 422, b'{"detail":[{"loc":["body","k"],"msg":"no"}]}', "GET", (422, "body.k: no")),
    ],
)
def test_errors_are_one_line_of_json_without_a_traceback(
    make, caplog, error, status, body, method, expected
):
    path = "/gradio_api/call/retrieve"
    answer = ask(make(failing(error, status, body)), path, method)
    assert answer.status == expected[0]
    assert expected[1] in answer.text
    assert "Traceback" not in answer.text + caplog.text
    assert len(caplog.text.splitlines()) == (error is not None)
