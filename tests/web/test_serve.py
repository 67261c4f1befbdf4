"""The web app: its request handlers and rendering, its JSON API, and the page in a browser."""

import base64
import csv
import json
import re
import shutil
import socket
import sys

import numpy as np
import pytest

from bridge_jax import serve
from bridge_jax.errors import InputError
from bridge_jax.retrieval import results as results_module
from bridge_jax.retrieval.results import Neighbour
from bridge_jax.web import render
from tests.helpers.commands import refused
from tests.helpers.ports import free_port
from tests.helpers.web import FUNCTION, PROTEIN, call_api


def downloaded(html: str) -> list[dict[str, str]]:
    """Rows of the CSV file that a page offers."""
    encoded = re.search(r'download="neighbours.csv" href="data:text/csv[^,]*,([^"]*)"', html)[1]
    return list(csv.DictReader(base64.b64decode(encoded).decode().splitlines()))


def test_a_query_gives_a_table_a_map_and_a_csv_file(service, triple_type, table):
    node_id = table.ids[0]
    results = service.bridge.retrieve(*triple_type, ids=[node_id], k=60)
    html, figure = service.retrieve_page(triple_type, node_id, None, 60, "mark")
    positions = [html.index(r.id) for r in results]
    assert positions == sorted(positions)
    assert html.count("known · ") == sum(bool(r.known) for r in results) > 0
    traces = {trace.name: trace for trace in figure.data}
    assert list(traces) == ["other nodes", "known fact", "not in the graph", "query"]
    names = traces["known fact"].hovertext + traces["not in the graph"].hovertext
    assert sorted(names) == sorted(r.name for r in results)
    assert [row["id"] for row in downloaded(html)] == [r.id for r in results]


def test_the_map_shows_the_first_two_principal_components(service, triple_type, table):
    keys = service.bridge.retriever.project_tails(FUNCTION)
    plane = render.fit_principal_plane(keys)
    centred = keys - keys.mean(axis=0)
    singular_values = np.linalg.svd(centred, compute_uv=False)[:2]
    norms = np.linalg.norm(centred @ plane.axes, axis=0)
    np.testing.assert_allclose(norms, singular_values, rtol=1e-4)
    _, figure = service.retrieve_page(triple_type, table.ids[0], None, 3, "mark")
    x = [value for trace in figure.data[1:-1] for value in trace.x]
    results = service.bridge.retrieve(*triple_type, ids=[table.ids[0]], k=3)
    rows = [service.bridge.retriever.node_index(FUNCTION).row_of_id(r.id) for r in results]
    expected = plane.project(keys[rows])[:, 0]
    np.testing.assert_allclose(sorted(x), sorted(expected), rtol=1e-5)


def test_an_upload_is_the_query_in_place_of_the_node(service, triple_type, table, tmp_path):
    path = str(tmp_path / "new.npy")
    np.save(path, np.asarray(table.stored[5], np.float32))
    html, _ = service.retrieve_page(triple_type, "ignored", path, 4, "mark")
    assert "new.npy" in html
    assert "known" not in html
    expected = service.bridge.retrieve(*triple_type, embedding=table.stored[5], k=4)
    assert [row["id"] for row in downloaded(html)] == [r.id for r in expected]


def test_errors_about_uploads_show_no_paths(service, triple_type, tmp_path):
    with pytest.raises(InputError, match="choose a gene/protein first, or upload"):
        service.retrieve_page(triple_type, None, None, 5, "mark")
    for name, x, message in (
        ("wrong.npy", np.ones(7, np.float32), r"shape \[n, 256\]"),
        ("two.npy", np.ones((2, 256), np.float32), r"^two.npy holds 2 embeddings; give one"),
        ("int.npy", np.ones(256, np.int64), r"^int.npy: holds int64"),
    ):
        np.save(tmp_path / name, x)
        with pytest.raises(InputError, match=message):
            service.retrieve_page(triple_type, None, str(tmp_path / name), 5, "mark")
    (tmp_path / "empty.npy").touch()
    with pytest.raises(InputError, match=r"^empty.npy: .*is empty"):
        service.retrieve_page(triple_type, None, str(tmp_path / "empty.npy"), 5, "mark")


def test_records_of_a_node_by_id_and_by_name(service, triple_type, table):
    node_id = table.ids[0]
    name = service.bridge.retriever.node_index(PROTEIN).names[0]
    records = service.retrieve_records(*triple_type, node_id, 3)
    expected = service.bridge.retrieve(*triple_type, ids=[node_id], k=3)
    assert records == [r._asdict() for r in expected]
    assert service.retrieve_records(*triple_type, name.lower(), 3, "mark") == records
    assert service.retrieve_records(PROTEIN, "", FUNCTION, node_id, 3) == records


def neighbour(rank: int, node_id: str, name: str) -> Neighbour:
    """A result whose numbers are its rank."""
    values = dict.fromkeys(Neighbour._fields, float(rank))
    return Neighbour(**{**values, "rank": rank, "id": node_id, "name": name, "known": ""})


def test_text_of_the_dataset_is_escaped():
    results = [neighbour(1, "i<b>", "<script>alert(1)</script>")]
    html = render.results_as_html("<i>x</i>", "&", results, {}, mark_known=True)
    html += render.error_as_html("<u>no</u>")
    assert not any(tag in html for tag in ("<script", "<b>i", "<i>", "<u>"))
    assert "&lt;script&gt;" in html


def test_results_with_smiles_are_drawn():
    pytest.importorskip("rdkit")
    results = [neighbour(i + 1, f"D{i}", f"drug {i}") for i in range(3)]
    smiles = {"D0": "CC(=O)Oc1ccccc1C(=O)O", "D1": "no molecule"}
    html = render.results_as_html("x", "", results, smiles, mark_known=False)
    assert html.count("<svg") == 1
    assert "structure" in html
    assert "structure" not in render.results_as_html("x", "", results, {}, mark_known=False)
    assert render.molecule_svg("CCO") != render.molecule_svg("CCN")


def test_names_in_a_downloaded_file_are_not_run_by_a_spreadsheet(tmp_path):
    name = '=HYPERLINK("http://evil.org","x")'
    results = [neighbour(1, "-1.5e3", name), neighbour(2, "@id", "a=b")]
    html = render.results_as_html("q", "", results, {}, mark_known=True)
    results_module.write(results, tmp_path / "x.csv")
    rows = downloaded(html)
    assert rows == list(csv.DictReader((tmp_path / "x.csv").read_text().splitlines()))
    assert [row["name"] for row in rows] == [f"'{name}", "a=b"]
    assert [row["id"] for row in rows] == ["-1.5e3", "'@id"]
    assert [float(row["score"]) for row in rows] == [1, 2]


def test_the_json_api(server, service, triple_type, table):
    url = server.url
    response = call_api(url, [*triple_type, table.ids[0], 3, "mark"])
    assert response.startswith("event: complete")
    records = json.loads(response.split("data: ")[1])[0]
    expected = service.bridge.retrieve(*triple_type, ids=[table.ids[0]], k=3)
    assert [r["id"] for r in records] == [r.id for r in expected]
    response = call_api(url, [*triple_type, "nobody", 3, "mark"])
    assert response.startswith("event: error")
    assert "no gene/protein is named 'nobody'" in response


def test_the_page_in_a_browser(server, service, table, tmp_path):
    playwright = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no chromium")
    url, log = server.url, server.log
    index = service.bridge.retriever.node_index(PROTEIN)
    labels = [f"{name} · {node_id}" for name, node_id in zip(index.names, index.ids, strict=True)]
    np.save(tmp_path / "bad.npy", np.ones((1, 7), np.float32))
    np.save(tmp_path / "good.npy", np.asarray(table.stored[0]))
    with playwright.sync_playwright() as p:
        browser = p.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 1000})
        requests: list[str] = []
        page.on("request", lambda r: requests.append(r.url) if r.url.startswith("http") else None)
        page.goto(url)
        page.wait_for_selector("#results table tbody tr")
        assert page.locator("#results tbody tr").count() == 10
        page.wait_for_selector(".js-plotly-plot .scatterlayer")

        page.click("#source input")
        page.get_by_role("option", name=PROTEIN).click()
        selected = "document.querySelector('#node input').value"
        page.wait_for_function(f"{selected} == '{labels[0]}'")
        page.fill("#search input, #search textarea", index.names[9].lower())
        page.wait_for_function(f"{selected} == '{labels[9]}'")
        page.click("#retrieve")
        page.wait_for_selector(f"#results .results-title:has-text('{index.ids[9]}')")

        page.get_by_text("Or a new embedding").click()
        page.set_input_files("#upload input[type=file]", str(tmp_path / "bad.npy"))
        page.wait_for_selector("text=must have shape [n, 256]")
        assert page.locator("#results tbody tr").count() == 10  # the previous results stay
        page.set_input_files("#upload input[type=file]", str(tmp_path / "good.npy"))
        page.wait_for_selector("#upload :text('good')")
        page.click("#retrieve")
        page.wait_for_selector("#results .results-title:has-text('good.npy')")
        page.get_by_label("Remove this file").or_(page.get_by_label("Clear")).first.click()

        page.fill("#search input, #search textarea", "zzzzzzzz")
        page.wait_for_selector("text=No gene/protein matches 'zzzzzzzz'.")
        page.click("#retrieve")
        page.wait_for_selector("text=choose a gene/protein first, or upload an embedding")
        screenshot = page.screenshot()
        browser.close()
    assert screenshot.startswith(b"\x89PNG")
    assert all(u.startswith(url) for u in requests), "the page must need no other server"
    assert "Traceback" not in log.read_text()


def test_bad_arguments_are_one_line(trained, tmp_path, capsys, monkeypatch):
    # All these errors are found before Gradio is needed.
    monkeypatch.setattr("bridge_jax.web.app.import_gradio", lambda: None)

    def error(*arguments: str) -> str:
        return refused(serve.main, arguments, capsys, monkeypatch)

    shutil.copy(trained / "config.json", tmp_path)
    port = str(free_port())
    assert "no checkpoint yet" in error("--workdir", str(tmp_path), "--port", port)
    smiles = str(tmp_path / "none.csv")
    line = error("--workdir", "-", "--port", port, "--smiles", smiles)
    assert "none.csv: no such file" in line
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        line = error("--workdir", "-", "--port", port)
    assert f"cannot listen on 127.0.0.1:{port} (" in line
    assert "choose another --port" in line
    assert "--port 99999: is not a port" in error("--workdir", "-", "--port", "99999")


def test_a_missing_extra_is_named(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)
    arguments = ["--workdir", "-", "--port", str(free_port())]
    line = refused(serve.main, arguments, capsys, monkeypatch)
    assert line == "error: the web page needs Gradio: pip install 'bridge_jax[serve]'"
