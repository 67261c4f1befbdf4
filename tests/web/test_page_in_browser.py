"""The page in a browser: what is asked, when, and what the address says."""

import re
import shutil
from collections.abc import Iterator

import numpy as np
import pytest

from tests.helpers.web import FUNCTION, PROTEIN

ROWS = "table.results tbody tr[data-id]"


@pytest.fixture(scope="module")
def browser() -> Iterator:
    playwright = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no chromium")
    with playwright.sync_playwright() as p:
        started = p.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def page(browser, server) -> Iterator:
    """The opened page; it asks no other server, and its script raises nothing."""
    context = browser.new_context(viewport={"width": 1280, "height": 1000})
    opened = context.new_page()
    opened.set_default_timeout(20_000)
    requests: list[str] = []
    errors: list[str] = []
    opened.on("request", lambda r: requests.append(r.url) if r.url.startswith("http") else None)
    opened.on("pageerror", lambda e: errors.append(str(e)))
    opened.goto(f"{server.url}/")
    yield opened
    context.close()
    assert all(url.startswith(server.url) for url in requests)
    assert errors == []
    assert "Traceback" not in server.log.read_text()


@pytest.fixture(scope="module")
def names(service):
    """Ids and names of the proteins."""
    return service.bridge.retriever.node_index(PROTEIN)


def title(page) -> str:
    return page.locator(".answer-title").inner_text()


def wait_for_title(page, text: str) -> None:
    page.locator(f".answer-title:has-text('{text}')").wait_for()


def choose(page, name: str) -> None:
    """Types a name in full."""
    page.fill("#search", name.lower())
    page.press("#search", "Enter")
    wait_for_title(page, name)


def test_the_page_opens_on_an_answer(page):
    assert page.locator(ROWS).count() == 10
    assert page.locator("h1").count() == 1
    assert page.locator(".examples a").count() > 1
    assert page.locator("#search").input_value() in title(page)


def test_only_a_node_that_is_named_exactly_or_chosen_is_asked_about(page, names):
    part = names.names[3][:2].lower()
    page.fill("#search", part)
    assert page.locator(ROWS).count() == 0  # the old answer is gone at once
    page.press("#search", "Enter")
    page.locator("#options li").first.wait_for()
    assert page.locator(ROWS).count() == 0
    assert "choose one" in page.locator("#status").inner_text()
    page.press("#search", "ArrowDown")
    chosen = page.locator("#options [aria-selected=true]")
    name, node_type = chosen.locator("b").inner_text(), chosen.locator(".chip").inner_text()
    page.press("#search", "Enter")
    wait_for_title(page, name)
    assert page.locator("#status .chip").inner_text() == node_type
    choose(page, names.names[9])
    assert names.ids[9] in title(page)
    page.fill("#search", "zzzzzzzz")
    page.press("#search", "Enter")
    page.get_by_text("No node fits “zzzzzzzz”.").wait_for()
    assert page.locator(ROWS).count() == 0


def test_every_control_asks_at_once_and_back_returns(page, names):
    choose(page, names.names[5])
    first, address = title(page), page.url
    page.select_option("#k", "5")
    page.wait_for_function(f"document.querySelectorAll('{ROWS}').length === 5")
    page.select_option("#known", "hide")
    page.wait_for_function("!document.querySelector('.badge.known')")
    assert "k=5" in page.url
    assert "known=hide" in page.url
    page.reload()
    assert title(page) == first
    assert page.locator(ROWS).count() == 5
    page.select_option("#relation", label=f"interacts with → {FUNCTION}")
    wait_for_title(page, FUNCTION)
    for _ in range(2 + (page.url != address)):
        page.go_back()
    page.wait_for_function(f"document.querySelectorAll('{ROWS}').length === 10")
    assert page.url == address
    assert title(page) == first


# Delays the next request of a path, and cannot be aborted.
SLOW_FETCH = """(slow) => {
  const fetched = window.fetch;
  let delay = 800;
  window.fetch = async (path, init) => {
    const wait = path.startsWith(slow) ? delay : 0;
    if (wait) delay = 0;
    const response = await fetched(path, { ...init, signal: undefined });
    await new Promise((done) => setTimeout(done, wait));
    return response;
  };
}"""


def test_a_late_answer_never_stands_beside_another_question(page, names):
    choose(page, names.names[5])
    page.evaluate(SLOW_FETCH, "answer")
    page.select_option("#k", "5")
    assert page.locator(ROWS).count() == 0
    page.select_option("#k", "25")
    page.wait_for_function(f"document.querySelectorAll('{ROWS}').length > 10")
    count = page.locator(ROWS).count()
    page.wait_for_timeout(1200)
    assert page.locator(ROWS).count() == count


def test_a_late_search_never_chooses_for_another_text(page, names):
    page.evaluate(SLOW_FETCH, "api/search")
    page.fill("#search", names.names[5])
    page.press("#search", "Enter")
    page.press("#search", "z")
    page.get_by_text("No node fits").or_(page.locator("#options li")).first.wait_for()
    page.wait_for_timeout(1200)
    assert page.locator(ROWS).count() == 0
    assert page.locator("#search").input_value() == f"{names.names[5]}z"


def test_a_row_opens_its_reasons(page):
    button = page.locator("button.why").first
    button.click()
    page.locator("tr.reasons li").first.wait_for()
    assert re.search(r"\d+ % from", page.locator("tr.reasons").inner_text())
    assert button.get_attribute("aria-expanded") == "true"
    button.click()
    assert page.locator("tr.reasons").count() == 0


def test_files_and_lists(page, names, table, tmp_path):
    np.save(tmp_path / "bad.npy", np.ones((1, 7), np.float32))
    np.save(tmp_path / "good.npy", -np.asarray(table.stored[0]))
    page.select_option("#type", PROTEIN, force=True)
    page.click("#tab-file")
    assert page.locator(ROWS).count() == 0
    page.set_input_files("#file", str(tmp_path / "bad.npy"))
    page.get_by_text("must have shape [n, 256]").wait_for()
    page.set_input_files("#file", str(tmp_path / "good.npy"))
    wait_for_title(page, "good.npy")
    page.select_option("#k", "5")
    page.wait_for_function(f"document.querySelectorAll('{ROWS}').length === 5")
    page.click("#tab-list")
    page.fill("#ids", f"{names.ids[0]}\n{names.names[1]}\nnobody")
    page.click("#submit")
    wait_for_title(page, "2 gene/protein")
    assert page.locator("tr.first").count() == 2
    assert "nobody" in page.locator(".note").inner_text()
    page.reload()
    wait_for_title(page, "2 gene/protein")


@pytest.mark.parametrize("width", [360, 768, 2560])
def test_no_column_is_lost_at_any_width(page, width):
    page.set_viewport_size({"width": width, "height": 900})
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    cell = page.locator(f"{ROWS} td").nth(-1)
    cell.scroll_into_view_if_needed()
    box = cell.bounding_box()
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= width
