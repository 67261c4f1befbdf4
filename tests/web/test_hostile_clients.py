"""What clients send that no browser does: no answer, one line, nothing kept, no traceback."""

import asyncio
import base64
import json
import signal
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest

from bridge_jax.errors import InputError
from bridge_jax.web import app as web_app
from tests.helpers.web import FUNCTION, PROTEIN, call_api, multipart, post


def vector(**changes: float) -> np.ndarray:
    """Embedding of a protein, with some values replaced."""
    x = np.ones(256, np.float32)
    for position, value in changes.items():
        x[int(position[1:])] = value
    return x


def write_hostile_files(folder: Path) -> dict[str, str]:
    """Writes files that are no embedding; returns what is said about each."""
    np.save(folder / "nan.npy", vector(_3=np.nan))
    np.save(folder / "inf.npy", vector(_9=-np.inf))
    np.save(folder / "zero.npy", np.zeros(256, np.float32))
    np.save(folder / "overflow.npy", np.full(256, 1e300))
    np.save(folder / "pickle.npy", np.array([print], object), allow_pickle=True)
    np.save(folder / "wide.npy", np.ones((1, 4000), np.float32))
    np.savez_compressed(folder / "bomb.npz", x=np.zeros((100_000, 256), np.float32))
    (folder / "page.npy").write_text("<script>alert(1)</script>")
    (folder / "table.csv").write_text("id,a,b\nx,1\n")
    (folder / "cut.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(40))
    (folder / "code.pt").write_bytes(b"\x80\x04\x95cos\nsystem\n(S'true'\ntR.")
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999, 256), }"
    (folder / "huge.npy").write_bytes(b"\x93NUMPY\x01\x00" + b"\x80\x00" + header.ljust(128))
    names = {path.name: "." for path in folder.iterdir()}
    return names | {"nan.npy": "NaN", "inf.npy": "infinit", "overflow.npy": "as float32"}


def test_no_answer_comes_from_a_hostile_upload(service, tmp_path):
    for name, message in write_hostile_files(tmp_path).items():
        with pytest.raises(InputError, match=message) as error:
            service.read_upload(PROTEIN, str(tmp_path / name))
        assert str(tmp_path) not in str(error.value)
        assert str(error.value).isprintable(), name
    np.save(tmp_path / "good.npy", vector())
    assert service.read_upload(PROTEIN, str(tmp_path / "good.npy")).shape == (1, 256)


def test_only_uploaded_files_are_read_for_a_client(service, tmp_path):
    np.save(tmp_path / "outside.npy", vector())
    folder = service._upload_folder
    np.save(folder / "inside.npy", vector())
    (folder / "link.npy").symlink_to(tmp_path / "outside.npy")
    assert service.upload_path({"path": str(folder / "inside.npy")})
    for path in (
        tmp_path / "outside.npy", folder / "link.npy", folder / "../x", folder, "http://a/x", "\0",
    ):  # fmt: skip
        with pytest.raises(InputError, match="no longer on the server; upload it again"):
            service.upload_path({"path": str(path)})


@pytest.mark.parametrize(
    "values",
    [
        {"type": []}, {"type": "nothing"}, {"type": None}, {"target": "nothing"}, {"target": 3},
        {"relation": {}}, {"id": 7}, {"id": "x" * 9999}, {"id": ""}, {"mode": "no"},
        {"mode": "file", "upload": {"path": 3}}, {"mode": "file"}, {"mode": "input", "text": []},
        {"mode": "input", "text": "x" * 10_001}, {"mode": "list", "ids": [3]},
        {"mode": "list", "ids": "x\n" * 1001}, {"mode": "list", "ids": {}}, {"mode": "list"},
        {"k": 0}, {"k": 1e9}, {"k": float("nan")}, {"k": -1}, {"k": "1e3"}, {"k": True},
        {"known": ["mark"]},
    ],
)  # fmt: skip
def test_values_that_no_browser_sends_are_refused(service, table, values):
    good = {"type": PROTEIN, "target": FUNCTION, "id": table.ids[0]}
    assert service.retrieve_page(service.read_question(good))
    with pytest.raises(InputError) as error:
        service.retrieve_page(service.read_question({**good, **values}))
    assert len(str(error.value)) < 500


def test_bad_requests_get_one_line_and_leave_no_traceback(server):
    url = server.url
    for path, body, status in (
        ("call/retrieve", b"{", 422),
        ("call/retrieve", b"[" * 100_000, 400),
        ("call/retrieve", b'{"data": 5}', 422),
        ("call/nothing", b'{"data": []}', 400),
        ("queue/join", b'{"data": [], "fn_index": 77, "session_hash": "s"}', 400),
        ("queue/join", b'{"data": [], "fn_index": 1}', 400),
        ("upload", b"x", 400),
        ("run/retrieve", b'{"data": []}', 404),
        ("call/retrieve", bytes(2**20 + 1), 413),
    ):
        assert post(url, path, body)[0] == status, (path, body[:30])
    for data in (
        [],
        [1] * 6,
        [None] * 6,
        [{}] * 6,
        ["x" * 9999] * 6,
        [PROTEIN, "", "", "", 1, "mark"],
    ):
        response = call_api(url, data)
        assert response.startswith("event: error"), data
        assert response.count("\n") < 5
    assert "Traceback" not in server.log.read_text()
    assert call_api(url, [PROTEIN, "", FUNCTION, "nobody", 3, "mark"]).startswith("event: error")


def test_uploads_over_http(server):
    body, kind = multipart("x.npy", b"content")
    evil = {"origin": "http://evil.org", "content-type": kind}
    assert post(server.url, "upload", body, **evil)[0] == 403
    folder = next(server.temp.glob("bridge_jax-serve-*"))
    assert not list(folder.rglob("x.npy"))
    status, paths = post(server.url, "upload", body, **{"content-type": kind})
    assert status == 200
    file = Path(json.loads(paths)[0])
    assert file.is_relative_to(folder)
    assert [p.stat().st_mode & 0o777 for p in (folder, file)] == [0o700, 0o600]
    large, _ = multipart("y.npy", bytes(17 * 2**20))
    status, message = post(server.url, "upload", large, **{"content-type": kind})
    assert (status, message) == (413, "the request is larger than 16 MiB")
    assert not list(folder.rglob("y.npy"))
    broken = body[:-20]  # no end of the form
    assert post(server.url, "upload", broken, **{"content-type": kind})[0] in (200, 400)
    for _ in range(50):  # what is left of it is removed after the answer
        partial = [p for p in (folder / "gradio").iterdir() if p.is_file()]
        if not partial:
            break
        time.sleep(0.1)
    assert not partial


def test_other_hosts_and_sites_are_refused(server):
    for headers, status in (
        ({"host": "rebound.evil.org"}, 421),
        ({"origin": "http://evil.org"}, 403),
        ({"origin": server.url}, 200),
    ):
        request = urllib.request.Request(f"{server.url}/config", headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                answer = response
        except urllib.error.HTTPError as e:
            answer = e
            e.close()
        assert answer.status == status
        assert not [name for name in answer.headers if name.lower().startswith("access-control")]


def remembered_sessions(service, query: list, num_sessions: int) -> tuple[int, int]:
    """Sends queries of different sessions; returns the sessions and events that Gradio keeps."""
    from starlette.testclient import TestClient

    async def build():
        page = web_app.build_app(service)
        return page, web_app.mount(page, "", 1000)

    with asyncio.Runner() as runner:  # without a loop Gradio makes one, and leaves it open
        page, app = runner.run(build())
    with TestClient(app) as client:
        for _ in range(num_sessions):
            event = client.post("/gradio_api/call/retrieve", json={"data": query}).json()[
                "event_id"
            ]
            response = client.get(f"/gradio_api/call/retrieve/{event}")
            assert response.text.startswith("event: complete")
        queue = page._queue
        return len(page.state_holder.session_data), len(queue.pending_event_ids_session)


def test_gradio_remembers_no_more_than_the_last_sessions(service, triple_type, table, monkeypatch):
    pytest.importorskip("gradio")
    monkeypatch.setattr(web_app, "MAX_SESSIONS", 4)
    sessions, events = remembered_sessions(service, [*triple_type, table.ids[0], 3, "mark"], 12)
    assert sessions <= 4
    assert events <= 2


@pytest.mark.slow
def test_a_killed_server_is_cleaned_up_and_a_server_with_a_password(start_server, tmp_path):
    body, kind = multipart("x.npy", b"content")
    killed = start_server("--host", "0.0.0.0", temp=tmp_path)
    assert "warning: --host 0.0.0.0 without --auth" in killed.log.read_text()
    assert post(killed.url, "upload", body, **{"content-type": kind})[0] == 200
    killed.process.kill()
    killed.process.wait(30)
    assert len(list(tmp_path.rglob("x.npy"))) == 1
    password = tmp_path / "password"
    password.write_text("secret\n")
    options = ("--host", "0.0.0.0", "--auth", f"ada:{password}", "--root-path", "/bridge")
    server = start_server(*options, temp=tmp_path)
    assert not list(tmp_path.rglob("x.npy"))
    assert "warning" not in server.log.read_text()
    login = {"authorization": "Basic " + base64.b64encode(b"ada:secret").decode()}
    for path, data, headers in (
        ("upload", body, {"content-type": kind}),
        ("call/retrieve", b'{"data": []}', {}),
    ):
        assert post(server.url, path, data, **headers)[0] == 401
        assert post(server.url, path, data, **headers, **login)[0] == 200
        assert post(f"{server.url}/bridge", path, data, **headers, **login)[0] == 200
    request = urllib.request.Request(f"{server.url}/config", headers=login)
    with urllib.request.urlopen(request, timeout=60) as response:
        assert json.load(response)["root"].endswith("/bridge")
    server.process.send_signal(signal.SIGHUP)
    assert server.process.wait(30) == 0
    assert not list(tmp_path.glob("bridge_jax-serve-*"))
    assert "Traceback" not in server.log.read_text()
