"""The web page: its answers, and the page itself in a real browser."""

import csv
import json
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest

import bridge_jax
from bridge_jax import serve
from bridge_jax.errors import InputError
from bridge_jax.retrieval.results import Neighbour
from bridge_jax.web import render as view
from bridge_jax.web.render import drawing
from bridge_jax.web.service import QueryService
from tests.helpers.commands import refused

PROTEIN, FUNCTION = "gene/protein", "molecular_function"


@pytest.fixture(scope="module")
def desk(trained, tmp_path_factory) -> QueryService:
    pytest.importorskip("plotly")
    return QueryService(bridge_jax.load(trained), {}, tmp_path_factory.mktemp("files"))


@pytest.fixture(scope="module")
def kind(desk):
    return desk.bridge.triple_type(PROTEIN, "interacts with", FUNCTION)


def test_an_answer_is_a_table_a_map_and_a_file(desk, kind):
    node = desk.bridge.experiment.tables[PROTEIN].ids[0]
    rows = desk.bridge.retrieve(*kind, ids=[node], k=60)
    html, figure, file = desk.answer(kind, node, None, 60, "mark")
    assert [html.index(r.id) for r in rows] == sorted(html.index(r.id) for r in rows)
    assert html.count("known · ") == sum(bool(r.known) for r in rows) > 0
    traces = {trace.name: trace for trace in figure.data}
    assert list(traces) == ["other nodes", "known fact", "not in the graph", "query"]
    drawn = traces["known fact"].hovertext + traces["not in the graph"].hovertext
    assert sorted(drawn) == sorted(r.name for r in rows)
    with open(file, newline="") as handle:
        assert [row["id"] for row in csv.DictReader(handle)] == [r.id for r in rows]


def test_the_map_shows_where_the_vectors_are(desk, kind):
    keys = desk.bridge.retriever.project_tails(FUNCTION)
    flat = view.plane(keys)
    centred = keys - keys.mean(axis=0)
    spread = np.linalg.svd(centred, compute_uv=False)[:2]
    np.testing.assert_allclose(np.linalg.norm(centred @ flat.axes, axis=0), spread, rtol=1e-4)
    _, figure, _ = desk.answer(kind, desk.bridge.experiment.tables[PROTEIN].ids[0], None, 3, "mark")
    x = [a for trace in figure.data[1:-1] for a in trace.x]
    rows = desk.bridge.retrieve(*kind, ids=[desk.bridge.experiment.tables[PROTEIN].ids[0]], k=3)
    ids = desk.bridge.retriever.node_index(FUNCTION)
    expected = [((keys[ids.row_of_id(r.id)] - flat.mean) @ flat.axes)[0] for r in rows]
    np.testing.assert_allclose(sorted(x), sorted(expected), rtol=1e-5)


def test_an_upload_is_answered_in_place_of_the_node(desk, kind, tmp_path):
    path = str(tmp_path / "new.npy")
    np.save(path, np.asarray(desk.bridge.experiment.tables[PROTEIN].stored[5], np.float32))
    html, _, file = desk.answer(kind, "ignored", path, 4, "mark")
    assert "new.npy" in html
    assert "known" not in html
    own = desk.bridge.retrieve(*kind, ids=[desk.bridge.experiment.tables[PROTEIN].ids[5]], k=4)
    assert [line.split(",")[2] for line in Path(file).read_text().splitlines()[1:]] == [
        r.id for r in own
    ]


def test_wrong_questions_are_refused_without_paths(desk, kind, tmp_path):
    with pytest.raises(InputError, match="choose a gene/protein first, or upload"):
        desk.answer(kind, None, None, 5, "mark")
    for name, x, message in (
        ("wrong.npy", np.ones(7, np.float32), r"shape \[n, 256\]"),
        ("two.npy", np.ones((2, 256), np.float32), r"^two.npy holds 2 embeddings; give one"),
        ("int.npy", np.ones(256, np.int64), r"^int.npy: holds int64"),
    ):
        np.save(tmp_path / name, x)
        with pytest.raises(InputError, match=message):
            desk.answer(kind, None, str(tmp_path / name), 5, "mark")
    (tmp_path / "empty.npy").touch()
    with pytest.raises(InputError, match=r"^empty.npy: is not a .npy file"):
        desk.answer(kind, None, str(tmp_path / "empty.npy"), 5, "mark")


def test_the_api_answers_by_id_and_by_name(desk, kind):
    node = desk.bridge.experiment.tables[PROTEIN].ids[0]
    name = desk.bridge.retriever.node_index(PROTEIN).names[0]
    records = desk.records(*kind, node, 3)
    assert records == [r._asdict() for r in desk.bridge.retrieve(*kind, ids=[node], k=3)]
    assert desk.records(*kind, name.lower(), 3, "mark") == records
    assert desk.records(PROTEIN, "", FUNCTION, node, 3) == records


def test_names_cannot_write_html():
    rows = [Neighbour("q", 1, "i<b>", "<script>alert(1)</script>", 0.5, "")]
    html = view.as_html("<i>x</i>", "&", rows, {}, marked=True) + view.refusal("<u>no</u>")
    assert not any(tag in html for tag in ("<script", "<b>i", "<i>", "<u>"))
    assert "&lt;script&gt;" in html


def test_molecules_are_drawn_where_there_is_a_structure():
    pytest.importorskip("rdkit")
    rows = [Neighbour("q", i + 1, f"D{i}", f"drug {i}", -float(i), "") for i in range(3)]
    smiles = {"D0": "CC(=O)Oc1ccccc1C(=O)O", "D1": "no molecule"}
    html = view.as_html("x", "", rows, smiles, marked=False)
    assert html.count("<svg") == 1
    assert "structure" in html
    assert "structure" not in view.as_html("x", "", rows, {}, marked=False)
    assert drawing("CCO") != drawing("CCN")


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


@pytest.fixture(scope="module")
def page(trained, tmp_path_factory):
    """The command in a process of its own, as a user starts it."""
    pytest.importorskip("gradio")
    pytest.importorskip("plotly")
    port, log = free_port(), tmp_path_factory.mktemp("serve") / "log"
    command = [sys.executable, "-m", "bridge_jax.serve", "--workdir", str(trained)]
    with open(log, "w") as handle:
        process = subprocess.Popen(
            [*command, "--port", str(port)], stdout=handle, stderr=subprocess.STDOUT
        )
    url = f"http://127.0.0.1:{port}"
    for _ in range(600):
        if process.poll() is not None or url in log.read_text():
            break
        time.sleep(0.2)
    assert url in log.read_text(), log.read_text()
    yield url, log
    process.terminate()
    process.wait(30)


def post(url: str, data: list) -> str:
    call = f"{url}/gradio_api/call/retrieve"
    kind = {"content-type": "application/json"}
    request = urllib.request.Request(call, json.dumps({"data": data}).encode(), kind)
    with urllib.request.urlopen(request, timeout=60) as reply:
        event = json.load(reply)["event_id"]
    with urllib.request.urlopen(f"{call}/{event}", timeout=60) as reply:
        return reply.read().decode()


def test_the_json_api(page, desk, kind):
    url, _ = page
    node = desk.bridge.experiment.tables[PROTEIN].ids[0]
    answer = post(url, [*kind, node, 3, "mark"])
    assert answer.startswith("event: complete")
    rows = json.loads(answer.split("data: ")[1])[0]
    own = [r._asdict() for r in desk.bridge.retrieve(*kind, ids=[node], k=3)]
    assert [r["id"] for r in rows] == [r["id"] for r in own]
    wrong = post(url, [*kind, "nobody", 3, "mark"])
    assert wrong.startswith("event: error")
    assert "no gene/protein is named 'nobody'" in wrong


def test_the_page_in_a_browser(page, desk, tmp_path):
    playwright = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no chromium")
    url, log = page
    nodes = desk.bridge.retriever.node_index(PROTEIN)
    np.save(tmp_path / "bad.npy", np.ones((1, 7), np.float32))
    np.save(tmp_path / "good.npy", np.asarray(desk.bridge.experiment.tables[PROTEIN].stored[0]))
    with playwright.sync_playwright() as p:
        browser = p.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": 1280, "height": 1000})
        asked: list[str] = []
        tab.on("request", lambda r: asked.append(r.url) if r.url.startswith("http") else None)
        tab.goto(url)
        tab.wait_for_selector("#answers table tbody tr")
        assert tab.locator("#answers tbody tr").count() == 10
        tab.wait_for_selector(".js-plotly-plot .scatterlayer")

        tab.click("#source input")
        tab.get_by_role("option", name=PROTEIN).click()
        first = f"{nodes.names[0]} · {nodes.ids[0]}"
        tab.wait_for_function(f"document.querySelector('#node input').value == '{first}'")
        tab.fill("#search input, #search textarea", nodes.names[9].lower())
        found = f"{nodes.names[9]} · {nodes.ids[9]}"
        tab.wait_for_function(f"document.querySelector('#node input').value == '{found}'")
        tab.click("#ask")
        tab.wait_for_selector(f"#answers .asked:has-text('{nodes.ids[9]}')")

        tab.get_by_text("Or a new embedding").click()
        tab.set_input_files("#upload input[type=file]", str(tmp_path / "bad.npy"))
        tab.wait_for_selector("text=must have shape [n, 256]")
        assert tab.locator("#answers tbody tr").count() == 10  # the answer before it stays
        tab.set_input_files("#upload input[type=file]", str(tmp_path / "good.npy"))
        tab.wait_for_selector("#upload :text('good')")
        tab.click("#ask")
        tab.wait_for_selector("#answers .asked:has-text('good.npy')")
        tab.get_by_label("Remove this file").or_(tab.get_by_label("Clear")).first.click()

        tab.fill("#search input, #search textarea", "zzzzzzzz")
        tab.wait_for_selector("text=No gene/protein fits 'zzzzzzzz'.")
        tab.click("#ask")
        tab.wait_for_selector("text=choose a gene/protein first, or upload an embedding")
        picture = tab.screenshot()
        browser.close()
    assert picture.startswith(b"\x89PNG")
    assert all(u.startswith(url) for u in asked), "the page must need no other server"
    assert "Traceback" not in log.read_text()


def test_bad_input_is_one_line(trained, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(
        "bridge_jax.web.app.gradio", lambda: None
    )  # bad input is found before it is needed
    (tmp_path / "config.json").write_text((trained / "config.json").read_text())
    line = refused(serve.main, ["--workdir", str(tmp_path)], capsys, monkeypatch)
    assert "no checkpoint yet" in line
    arguments = ["--workdir", "-", "--smiles", str(tmp_path / "none.csv")]
    assert "none.csv: no such file" in refused(serve.main, arguments, capsys, monkeypatch)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        line = refused(serve.main, ["--workdir", "-", "--port", port], capsys, monkeypatch)
    assert f"cannot listen on 127.0.0.1:{port} (" in line
    assert "choose another --port" in line
    line = refused(serve.main, ["--workdir", "-", "--port", "99999"], capsys, monkeypatch)
    assert "--port 99999 is no port" in line


def test_a_missing_extra_is_named(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)
    line = refused(serve.main, ["--workdir", "-"], capsys, monkeypatch)
    assert line == "error: the page needs Gradio: pip install 'bridge_jax[serve]'"
