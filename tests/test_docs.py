"""The documentation: what it prints can be run, and every option, field, file and link is there.

A fenced block may have a mark above it, a comment that no reader sees:

    <!-- run -->                 run by `pytest --docs`, in the order of the page, in a fresh folder
    <!-- run, needs faiss -->    the same, where that module is installed
    <!-- save mine/config.py --> written to that file
    <!-- not run: why -->

Training is cut down to a few steps of a small model by what stands in `SHELL`; nothing else is
changed.
"""

import ast
import importlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from bridge_jax import config as configs

ROOT = Path(__file__).resolve().parents[1]
DOCS = sorted((ROOT / "docs").rglob("*.md"))
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "data/demo/README.md", *DOCS]
NOTEBOOKS = sorted((ROOT / "docs/notebooks").glob("*.ipynb"))
BLOCK = re.compile(r"(?:^<!-- (.+?) -->\n)?^```(\w+)\n(.*?)^```$", re.M | re.S)
COMMAND = re.compile(r"python -m ((?:bridge_jax|tools)\.\w+)([^\n`|;&]*)")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
FILE = re.compile(r"\b(?:benchmarks|bridge_jax|configs|docs|tests|tools)/[\w/]+\.(?:py|md|json)\b")

SHELL = """
set -euo pipefail
python() {
    if [ "${2-}" = bridge_jax.train ]; then
        command python "$@" --config.train.steps=4 --config.train.validate_every=4 \
            --config.batch.size=256 --config.model.width=32 --config.model.layers=1 \
            --config.evaluate.validation_queries=20 --config.evaluate.knn=false \
            --config.evaluate.baselines='("popularity",)'
    else
        command python "$@"
    fi
}
pip() { :; }  # what a page installs is installed
"""


class Block(NamedTuple):
    """A fenced block, the mark above it ("" without one), and its line."""

    mark: str
    language: str
    text: str
    line: int


def blocks(page: Path) -> list[Block]:
    text = page.read_text()
    return [
        Block(m[1] or "", m[2], m[3], text.count("\n", 0, m.start()) + 1)
        for m in BLOCK.finditer(text)
    ]


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def prose(page: Path) -> str:
    """A page without its blocks, fenced or indented."""
    return re.sub(r"^ {4}.*$", "", BLOCK.sub("", page.read_text()), flags=re.M)


def sources(path: Path) -> str:
    """A page, or what a notebook's cells hold."""
    if path.suffix != ".ipynb":
        return path.read_text()
    return "\n".join("".join(cell["source"]) for cell in json.loads(path.read_text())["cells"])


every_page = pytest.mark.parametrize("page", PAGES, ids=name)
every_text = pytest.mark.parametrize("page", [*PAGES, *NOTEBOOKS], ids=name)


@every_page
def test_every_block_of_shell_is_run_or_says_why_not(page):
    for block in blocks(page):
        known = re.fullmatch(r"run(, needs [\w ]+)?|not run: .+|save [\w./-]+", block.mark)
        assert known or (not block.mark and block.language != "bash"), (
            f"{name(page)}:{block.line}: mark the block with <!-- run --> or <!-- not run: why -->"
        )


@every_text
def test_every_option_is_known_to_its_command(page):
    for command, rest in COMMAND.findall(sources(page).replace("\\\n", " ")):
        known = importlib.import_module(command)._parser()._option_string_actions
        for option in re.findall(r"(?<!\S)--[\w.-]+", rest):
            assert option in known or option.startswith("--config."), (
                f"{name(page)}: python -m {command} has no {option}; it has: {', '.join(known)}"
            )


@every_text
def test_every_field_of_the_config_exists(page):
    fields = dict(configs.flatten(configs.default()))
    for field in re.findall(r"--config\.([a-z_.]+)=", sources(page)):
        assert field in fields, f"{name(page)}: the config has no field {field}"


@every_text
def test_every_file_that_is_named_exists(page):
    for file in FILE.findall(sources(page)):
        assert (ROOT / file).is_file(), f"{name(page)}: there is no {file}"


@every_text
def test_every_relative_link_leads_somewhere(page):
    text = prose(page) if page.suffix == ".md" else sources(page)
    for target in LINK.findall(text):
        if re.match(r"\w+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{name(page)}: {target} leads nowhere"
        if anchor:
            assert anchor in set(anchors(file)), f"{name(page)}: {path or 'it'} has no #{anchor}"


def anchors(page: Path) -> Iterator[str]:
    """The anchors of a page's headings, as GitHub and mkdocs make them."""
    for heading in re.findall(r"^#+ (.+)$", prose(page), re.M):
        yield re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def test_every_command_has_a_page_that_explains_it():
    pages = hook()
    assert set(pages.EXPLAINED) <= set(pages.commands())
    for target in pages.EXPLAINED.values():
        path, _, anchor = target.partition("#")
        file = (ROOT / "docs/reference" / path).resolve()
        assert file.is_file()
        assert not anchor or anchor in set(anchors(file))
    for command in pages.commands():
        assert f"## {command}\n" in pages.commands_page()


def hook():
    """The module that makes pages for the site."""
    spec = importlib.util.spec_from_file_location("pages", ROOT / "docs/pages.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("path", NOTEBOOKS, ids=name)
def test_a_notebook_is_small_and_names_no_place(path):
    text = path.read_text()
    assert len(text) < 100_000, f"{name(path)}: {len(text):,} bytes; clear its outputs"
    assert not re.search(r"/(?:home|root|tmp|work|Users)/", text)
    for cell in json.loads(text)["cells"]:
        code = "".join(cell["source"])
        if cell["cell_type"] == "code" and not code.startswith("%%"):
            ast.parse(code)
    made = hook().notebook(path)
    assert made.startswith("# ")
    assert "```python\n" in made


@pytest.fixture
def asked(request: pytest.FixtureRequest) -> None:
    """Skip what takes long, unless it is asked for."""
    if not request.config.getoption("--docs"):
        pytest.skip("takes a minute or two; --docs runs it")


def environment() -> dict[str, str]:
    """One device, this interpreter, this tree, and the programs that the session compiled."""
    kept = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return kept | {"PATH": path, "PYTHONPATH": str(ROOT)}


def fresh(folder: Path) -> Path:
    """A folder in which the data and the configs stand as in the root."""
    for part in ("data", "configs", "requirements.txt"):
        (folder / part).symlink_to(ROOT / part)
    return folder


def execute(text: str, language: str, folder: Path) -> subprocess.CompletedProcess[str]:
    start = {"bash": ["bash", "-c", SHELL + text], "python": [sys.executable, "-c", text]}[language]
    return subprocess.run(
        start, cwd=folder, env=environment(), capture_output=True, text=True, timeout=600
    )


@pytest.fixture(scope="session")
def demo_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run as the README's first command makes it, for the pages that start from one."""
    folder = fresh(tmp_path_factory.mktemp("demo"))
    command = "python -m bridge_jax.train --config configs/demo.py --workdir runs/demo"
    done = execute(f"{command} --no-evaluate", "bash", folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "runs/demo"


RUNNABLE = [p for p in PAGES if any(b.mark.startswith("run") for b in blocks(p))]


@pytest.mark.parametrize("page", RUNNABLE, ids=name)
def test_a_page_runs_as_it_stands(page, tmp_path, asked, request):
    marked = [b for b in blocks(page) if re.match(r"run|save ", b.mark)]
    if "runs/demo" in "".join(b.text for b in marked):
        shutil.copytree(request.getfixturevalue("demo_run"), tmp_path / "runs/demo")
    fresh(tmp_path)
    for block in marked:
        needed = block.mark.partition(", needs ")[2].split()
        if not all(importlib.util.find_spec(module) for module in needed):
            continue
        if block.mark.startswith("save "):
            (tmp_path / block.mark.removeprefix("save ")).write_text(block.text)
            continue
        done = execute(block.text, block.language, tmp_path)
        assert done.returncode == 0, f"{name(page)}:{block.line}\n{done.stdout}\n{done.stderr}"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=name)
def test_a_notebook_runs(path, tmp_path, asked):
    for module in ("nbclient", "ipykernel", "pandas"):
        pytest.importorskip(module)
    # In a process of its own: Jupyter's warnings are not ours.
    code = (
        "import nbclient, nbformat, sys\n"
        "nbclient.NotebookClient(nbformat.read(sys.argv[1], 4), timeout=600).execute()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)],
        cwd=fresh(tmp_path), env=environment(), capture_output=True, text=True, timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
