"""The web app: its answers and how they are rendered, its JSON API, and the command's errors."""

import base64
import csv
import json
import re
import shutil
import socket
import sys
import urllib.error
import urllib.parse
import urllib.request

import numpy as np
import pytest

from bridge_jax import serve
from bridge_jax.data.graph import TripleType
from bridge_jax.errors import InputError
from bridge_jax.retrieval import results as results_module
from bridge_jax.retrieval.explanations import Explanation, NamedNode
from bridge_jax.retrieval.results import Neighbour
from bridge_jax.web import page, render
from bridge_jax.web.examples import choose_examples
from bridge_jax.web.links import link_of
from bridge_jax.web.map import fit_principal_plane
from bridge_jax.web.model_card import read_quality
from bridge_jax.web.question import Question
from bridge_jax.web.records import retrieve_records
from tests.helpers.commands import refused
from tests.helpers.ports import free_port
from tests.helpers.web import FUNCTION, PROTEIN, call_api


def downloaded(html: str) -> list[dict[str, str]]:
    """Rows of the CSV file that a page offers."""
    encoded = re.search(r'download="neighbours.csv" href="data:text/csv[^,]*,([^"]*)"', html)[1]
    return list(csv.DictReader(base64.b64decode(encoded).decode().splitlines()))


def answered_ids(html: str) -> list[str]:
    """Ids of the answers that a page shows."""
    return re.findall(r'<tr[^>]* data-id="([^"]*)"', html)


def test_a_question_gives_a_title_a_table_a_map_and_a_csv_file(service, triple_type, table):
    node_id = table.ids[0]
    results = service.bridge.retrieve(*triple_type, ids=[node_id], k=60)
    html = service.retrieve_page(Question(triple_type, id=node_id, k=60))
    title = re.search("<h2.*?</h2>", html)[0]
    name = service.bridge.retriever.node_index(PROTEIN).names[0]
    assert all(text in title for text in (name, node_id, triple_type.relation, FUNCTION))
    assert answered_ids(html) == [r.id for r in results]
    assert html.count("known · ") == sum(bool(r.known) for r in results) > 0
    assert html.count("<circle") == 60
    assert [row["id"] for row in downloaded(html)] == [r.id for r in results]


def test_the_map_shows_the_first_two_principal_components(service):
    keys = service.bridge.retriever.project_tails(FUNCTION)
    plane = fit_principal_plane(keys)
    centred = keys - keys.mean(axis=0)
    singular_values = np.linalg.svd(centred, compute_uv=False)[:2]
    norms = np.linalg.norm(centred @ plane.axes, axis=0)
    np.testing.assert_allclose(norms, singular_values, rtol=1e-4)
    np.testing.assert_allclose(plane.project(plane.mean[None]), 0, atol=1e-6)


def upload(service, name: str, x: np.ndarray) -> dict[str, str]:
    """Puts a file where uploads lie; returns what a browser says about it."""
    path = service._upload_folder / name
    np.save(path, x)
    return {"path": str(path)}


def test_an_upload_is_the_query(service, triple_type, table):
    x = np.asarray(table.stored[5], np.float32)
    new = upload(service, "new.npy", -x)
    html = service.retrieve_page(Question(triple_type, "file", id="ignored", upload=new, k=4))
    assert "new.npy" in html
    assert "known ·" not in html
    expected = service.bridge.retrieve(*triple_type, embedding=-x, k=4)
    assert answered_ids(html) == [r.id for r in expected]
    same = upload(service, "same.npy", x)
    html = service.retrieve_page(Question(triple_type, "file", upload=same, k=4))
    assert f"({table.ids[5]})" in html
    assert "known ·" in html


def test_errors_about_uploads_show_no_paths(service, triple_type):
    for name, x, message in (
        ("wrong.npy", np.ones(7, np.float32), r"shape \[n, 256\]"),
        ("two.npy", np.ones((2, 256), np.float32), r"^two.npy holds 2 embeddings; give one"),
        ("int.npy", np.ones(256, np.int64), r"^int.npy: holds int64"),
    ):
        file = upload(service, name, x)
        with pytest.raises(InputError, match=message):
            service.retrieve_page(Question(triple_type, "file", upload=file))
    with pytest.raises(InputError, match="choose a file with one embedding of gene/protein"):
        service.retrieve_page(Question(triple_type, "file"))


def test_a_list_gives_one_table_and_names_what_is_left_out(service, triple_type, table):
    names = service.bridge.retriever.node_index(PROTEIN).names
    ids = (table.ids[3], names[1].lower(), "nobody<b>", table.ids[3])
    html = service.retrieve_page(Question(triple_type, "list", ids=ids, k=2))
    assert [row["query"] for row in downloaded(html)] == [table.ids[i] for i in (3, 3, 1, 1)]
    assert "nobody&lt;b&gt;" in html
    with pytest.raises(InputError, match="none of the 1 lines is known"):
        service.retrieve_page(Question(triple_type, "list", ids=("nobody",)))


def test_a_node_is_chosen_only_by_a_text_that_names_it_alone(service):
    for index in (service.bridge.retriever.node_index(source) for source in service.sources):
        name = index.names[0]
        matches = service.search_nodes(f" {name.upper()} ")
        exact = service.exact_match(name.upper(), matches)
        assert exact is not None
        assert exact.name.casefold() == name.casefold()
        part = name[:-1]
        matches = service.search_nodes(part)
        exact = service.exact_match(part, matches)
        assert matches
        assert exact is None or part.casefold() in (exact.text.casefold(), exact.id.casefold())


def test_an_address_asks_its_question_again(service, triple_type, table):
    examples = choose_examples(service)
    questions = (
        Question(triple_type, id=table.ids[2], k=25, known="hide"),
        Question(triple_type, "input", text="MEEPQ & <x>"),
        Question(triple_type, "list", ids=(table.ids[0], "a b")),
    )
    for question in questions:
        values = dict(urllib.parse.parse_qsl(question.address()))
        assert page.question_of_address(values, service, examples) == question
    name = service.bridge.retriever.node_index(PROTEIN).names[4]
    assert page.question_of_address({"q": name.lower()}, service, examples).id == table.ids[4]
    assert page.question_of_address({}, service, examples) == examples[0].question
    html = page.page_as_html(service, examples, {"q": name[:2]})
    assert 'role="alert"' in html
    assert not answered_ids(html)


def test_examples_have_answers_that_were_not_trained_on(service):
    first, *others = choose_examples(service)
    assert first.question.triple_type.head == service.sources[0]
    html = service.retrieve_page(first.question)
    assert "known · test" in html
    assert len({e.question.triple_type.head for e in others}) == len(others) > 0


def test_the_quality_of_a_run_is_read_from_its_folder(tmp_path):
    assert read_quality(tmp_path, 5, "fusion") == {}
    rows = [
        {"task": "a → b → c", "model": model, "mrr": mrr, "queries": 9}
        for model, mrr in (("bridge", 0.1), ("fusion", 0.2))
    ]
    (tmp_path / "eval/test").mkdir(parents=True)
    results = {"about": {"checkpoint": 5}, "rows": rows}
    (tmp_path / "eval/test/results.json").write_text(json.dumps(results))
    record = {"step": 5, "validation/retrieval/mrr: a → b → c": 0.3}
    (tmp_path / "metrics.jsonl").write_text(json.dumps(record) + '\n{"step": 5, "lo')
    text = read_quality(tmp_path, 5, "fusion")["a → b → c"].as_text()
    assert "test MRR 0.20 over 9 facts" in text
    assert "0.30" in text
    assert read_quality(tmp_path, 6, "fusion") == {}


def test_ids_are_linked_to_their_databases():
    for node_id, part in {
        "P31749": "uniprotkb/P31749", "A0A024R1R8": "uniprotkb/A0A024R1R8",
        "GO:0004674": "QuickGO/term/GO:0004674", "MONDO:0007254": "MONDO:0007254",
        "OMIM:104300": "omim.org/entry/104300", "DI-00156": "diseases/DI-00156",
        "DB00945": "drugs/DB00945", "CHEMBL25": "compound/CHEMBL25", "HP:0001250": "HP:0001250",
    }.items():  # fmt: skip
        assert link_of(node_id).endswith(part), node_id
    for node_id in ("", "42", "AKT1", 'P31749"', "javascript:x"):
        assert link_of(node_id) == ""


def neighbour(rank: int, node_id: str, name: str) -> Neighbour:
    """A result whose numbers are its rank."""
    values = dict.fromkeys(Neighbour._fields, float(rank))
    return Neighbour(
        **{**values, "rank": rank, "id": node_id, "name": name, "known": "", "query": "q"}
    )


EVIL = '"><script>alert(1)</script>'


def test_text_of_the_dataset_is_escaped(service):
    results = [neighbour(1, EVIL, EVIL)._replace(query=EVIL)]
    node = NamedNode(EVIL, EVIL, 0.5, 0.5)
    reasons = Explanation(EVIL, EVIL, {"source": 1.0}, {"source": [node]}, [[EVIL, EVIL]])
    html = [
        render.title_as_html(EVIL, EVIL, TripleType(EVIL, EVIL, EVIL), EVIL),
        render.results_as_html(results, {}, mark_known=True, with_reasons=True),
        render.list_as_html(results, {EVIL: EVIL}, [EVIL], mark_known=True),
        render.reasons_as_html(reasons, EVIL),
        render.error_as_html(EVIL),
    ]
    for part in html:
        assert "<script" not in part
        assert "&lt;script&gt;" in part
    whole = page.page_as_html(service, choose_examples(service), {"type": EVIL, "q": EVIL})
    assert "<script>alert" not in whole


def test_results_with_smiles_are_drawn():
    pytest.importorskip("rdkit")
    results = [neighbour(i + 1, f"D{i}", f"drug {i}") for i in range(3)]
    smiles = {"D0": "CC(=O)Oc1ccccc1C(=O)O", "D1": "no molecule"}
    html = render.results_as_html(results, smiles, mark_known=False, with_reasons=False)
    assert html.count("<svg") == 1
    assert "Structure" in html
    without = render.results_as_html(results, {}, mark_known=False, with_reasons=False)
    assert "Structure" not in without
    assert render.molecule_svg("CCO") != render.molecule_svg("CCN")


def test_names_in_a_downloaded_file_are_not_run_by_a_spreadsheet(tmp_path):
    name = '=HYPERLINK("http://evil.org","x")'
    results = [neighbour(1, "-1.5e3", name), neighbour(2, "@id", "a=b")]
    html = render.results_as_html(results, {}, mark_known=True, with_reasons=False)
    results_module.write(results, tmp_path / "x.csv")
    rows = downloaded(html)
    assert rows == list(csv.DictReader((tmp_path / "x.csv").read_text().splitlines()))
    assert [row["name"] for row in rows] == [f"'{name}", "a=b"]
    assert [row["id"] for row in rows] == ["-1.5e3", "'@id"]
    assert [float(row["score"]) for row in rows] == [1, 2]


def call_json(url: str, path: str, **body) -> tuple[int, object]:
    """Calls an endpoint, by POST if there is a body; returns its status and its JSON."""
    data = json.dumps(body).encode() if body else None
    request = urllib.request.Request(f"{url}{path}", data, {"content-type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as e:
        text = e.read().decode()
        assert text.count("\n") == 1
        return e.code, json.loads(text)["error"]


def test_the_json_api(server, service, triple_type, table):
    url, names = server.url, service.bridge.retriever.node_index(PROTEIN).names
    asked = {"type": PROTEIN, "relation": triple_type.relation, "target": FUNCTION}
    expected = service.bridge.retrieve(*triple_type, ids=table.ids[:2], k=3)
    records = [r._asdict() for r in expected]
    status, answer = call_json(url, "/api/retrieve", **asked, ids=list(table.ids[:2]), k=3)
    assert (status, [r["id"] for r in answer]) == (200, [r["id"] for r in records])
    assert answer[0].keys() == records[0].keys()
    status, reasons = call_json(
        url, "/api/explain", **asked, names=[names[0]], answers=[records[0]["id"]]
    )
    assert sum(reasons[0]["shares"].values()) == pytest.approx(1)
    found = call_json(url, f"/api/search?text={names[0].lower()}&limit=3")[1]
    assert found["matches"][0]["name"] == names[0]
    assert call_json(url, "/api/health")[1]["status"] == "ready"
    described = call_json(url, "/api/openapi.json")[1]["paths"]
    assert {p.removeprefix("/api/") for p in described} == {
        "health", "search", "retrieve", "explain", "encode"
    }  # fmt: skip
    assert all(o.get("description") for path in described.values() for o in path.values())


def test_errors_of_the_json_api_are_one_line(server, table):
    asked = {"type": PROTEIN, "target": FUNCTION}
    for path, body, status, message in (
        ("/api/retrieve", {**asked, "ids": ["nobody"]}, 400, "no gene/protein has the id 'nobody'"),
        ("/api/retrieve", {**asked}, 400, "give the queries in one of ids"),
        ("/api/retrieve", {**asked, "ids": ["x"], "k": 0}, 422, "body.k"),
        ("/api/retrieve", {**asked, "id": "x"}, 422, "body.id"),
        ("/api/retrieve", {**asked, "texts": ["x"]}, 400, "not from a text"),
        ("/api/retrieve", {"type": "none", "ids": ["x"]}, 400, "node type 'none'"),
        ("/api/explain", {**asked, "ids": ["a", "b"], "answers": ["x"]}, 400, "give one query"),
        ("/api/encode", {"type": PROTEIN, "inputs": []}, 422, "body.inputs"),
        ("/api/encode", {"type": PROTEIN, "inputs": ["x" * 10_001]}, 400, "10,001 characters"),
        ("/api/search?text=", {}, 200, ""),
        ("/api/search", {}, 422, "query.text"),
        ("/api/nothing", {}, 404, "there is no such page"),
        ("/answer", {"type": PROTEIN}, 400, "target"),
        ("/why", {**asked, "id": table.ids[0], "answer": "none"}, 400, "has the id 'none'"),
    ):
        got, answer = call_json(server.url, path, **body)
        assert got == status, (path, body, answer)
        assert message in str(answer), (path, body)
    assert "Traceback" not in server.log.read_text()


def test_records_for_the_gradio_client(server, service, triple_type, table):
    node_id = table.ids[0]
    expected = service.bridge.retrieve(*triple_type, ids=[node_id], k=3)
    records = retrieve_records(service, PROTEIN, "", FUNCTION, node_id, 3)
    assert records == [r._asdict() for r in expected]
    response = call_api(server.url, [*triple_type, node_id, 3, "mark"])
    assert response.startswith("event: complete")
    assert [r["id"] for r in json.loads(response.split("data: ")[1])[0]] == [r.id for r in expected]
    response = call_api(server.url, [*triple_type, "nobody", 3, "mark"])
    assert response.startswith("event: error")
    assert "no gene/protein is named 'nobody'" in response


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
