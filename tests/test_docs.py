"""Documentation: its commands run, and every option, config field, file, link and module exists.

A fenced block may have a mark above it, a comment that is not displayed:

    <!-- run -->                 run by `pytest --docs`, in the order of the page, in a new folder
    <!-- run, needs faiss -->    the same, if that module is installed
    <!-- save mine/config.py --> written to that file
    <!-- not run: reason -->

The overrides in `SHELL` reduce training to a few steps of a small model; nothing else is changed.
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
from bridge_jax.__main__ import COMMANDS

ROOT = Path(__file__).resolve().parents[1]
DOCS = sorted((ROOT / "docs").rglob("*.md"))
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "data/demo/README.md", *DOCS]
NOTEBOOKS = sorted((ROOT / "docs/notebooks").glob("*.ipynb"))
BLOCK = re.compile(r"(?:^<!-- (.+?) -->\n)?^```(\w+)\n(.*?)^```$", re.M | re.S)
COMMAND = re.compile(r"python -m ((?:bridge_jax|tools)\.[a-z_]+)([^\n`|;&]*)")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
FILE = re.compile(r"\b(?:benchmarks|bridge_jax|configs|docs|tests|tools)/[\w/]+\.(?:py|md|json)\b")

# Chapters of the package with a page of their own in the reference.
CHAPTERS = (
    "data", "encoders", "distributed", "models", "experiment", "training", "evaluation",
    "retrieval", "projection", "prompting",
)  # fmt: skip

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
pip() { :; }  # the packages are installed already
"""


class Block(NamedTuple):
    """A fenced block, the mark above it ("" if there is none), and its line number."""

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
    """Returns a page without its code blocks, fenced or indented."""
    return re.sub(r"^ {4}.*$", "", BLOCK.sub("", page.read_text()), flags=re.M)


def sources(path: Path) -> str:
    """Returns the text of a page, or of the cells of a notebook."""
    if path.suffix != ".ipynb":
        return path.read_text()
    return "\n".join("".join(cell["source"]) for cell in json.loads(path.read_text())["cells"])


pages = pytest.mark.parametrize("page", PAGES, ids=name)
pages_and_notebooks = pytest.mark.parametrize("page", [*PAGES, *NOTEBOOKS], ids=name)


@pages
def test_shell_blocks_are_run_or_say_why_not(page):
    for block in blocks(page):
        valid = re.fullmatch(r"run(, needs [\w ]+)?|not run: .+|save [\w./-]+", block.mark)
        assert valid or (not block.mark and block.language != "bash"), (
            f"{name(page)}:{block.line}: mark the block with <!-- run --> or <!-- not run: why -->"
        )


@pages_and_notebooks
def test_options_exist(page):
    for command, arguments in COMMAND.findall(sources(page).replace("\\\n", " ")):
        options = importlib.import_module(command)._parser()._option_string_actions
        for option in re.findall(r"(?<!\S)--[\w.-]+", arguments):
            assert option in options or option.startswith("--config."), (
                f"{name(page)}: python -m {command} has no {option}; it has: {', '.join(options)}"
            )


@pages_and_notebooks
def test_config_fields_exist(page):
    fields = dict(configs.flatten(configs.default()))
    groups = "|".join(sorted({field.partition(".")[0] for field in fields if "." in field}))
    text = sources(page)
    named = re.findall(r"--config\.([a-z_.]+)=", text)
    named += re.findall(rf"`((?:{groups})\.[a-z_]+)[`=]", text)
    for field in set(named) - {"model.npz", "model.safetensors"}:
        assert field in fields, f"{name(page)}: the config has no field {field}"


@pages_and_notebooks
def test_imported_names_exist(page):
    if page.suffix == ".md":
        code = [block.text for block in blocks(page) if block.language == "python"]
    else:
        cells = json.loads(page.read_text())["cells"]
        code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    for node in (n for text in code if text[:2] != "%%" for n in ast.walk(ast.parse(text))):
        if isinstance(node, ast.ImportFrom) and node.module.startswith(("bridge_jax", "tools")):
            module = importlib.import_module(node.module)
            for alias in node.names:
                is_module = hasattr(module, "__path__") and importlib.util.find_spec(
                    f"{node.module}.{alias.name}"
                )
                assert hasattr(module, alias.name) or is_module, (
                    f"{name(page)}: {node.module} has no {alias.name}"
                )


@pages_and_notebooks
def test_files_exist(page):
    for file in FILE.findall(sources(page)):
        assert (ROOT / file).is_file(), f"{name(page)}: there is no {file}"


@pages_and_notebooks
def test_relative_links_lead_somewhere(page):
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
    """Yields the anchors of a page's headings, as GitHub and mkdocs generate them."""
    for heading in re.findall(r"^#+ (.+)$", prose(page), re.M):
        yield re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def test_commands_have_help_and_a_how_to():
    generated = hook()
    assert set(generated.HOW_TO) <= set(generated.commands())
    for target in generated.HOW_TO.values():
        path, _, anchor = target.partition("#")
        file = (ROOT / "docs/reference" / path).resolve()
        assert file.is_file()
        assert not anchor or anchor in set(anchors(file))
    for command in generated.commands():
        assert f"## {command}\n" in generated.commands_page()


def test_the_command_list_is_complete():
    modules = {m if m.startswith("tools.") else f"bridge_jax.{m}" for m in COMMANDS.values()}
    assert modules == set(hook().commands())


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_the_reference_lists_every_module_of_a_chapter(chapter):
    page = ROOT / f"docs/reference/{chapter}.md"
    listed = re.findall(rf"^::: (bridge_jax\.{chapter}\b[\w.]*)$", page.read_text(), re.M)
    files = (ROOT / "bridge_jax" / chapter).rglob("*.py")
    modules = {".".join(f.relative_to(ROOT).with_suffix("").parts) for f in files}
    packages = {m.removesuffix(".__init__") for m in modules if m.endswith(".__init__")}
    required = {m for m in modules if not m.endswith(".__init__")}
    assert len(listed) == len(set(listed))
    assert required <= set(listed) <= required | packages, (
        f"{name(page)}: missing: {sorted(required - set(listed))}; "
        f"outdated: {sorted(set(listed) - required - packages)}"
    )


def hook():
    """Returns the module that generates pages of the site."""
    spec = importlib.util.spec_from_file_location("pages", ROOT / "docs/pages.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("path", NOTEBOOKS, ids=name)
def test_a_notebook_is_small_and_has_no_absolute_path(path):
    text = path.read_text()
    assert len(text) < 100_000, f"{name(path)}: {len(text):,} bytes; clear its outputs"
    assert not re.search(r"/(?:home|root|tmp|work|Users)/", text)
    for cell in json.loads(text)["cells"]:
        code = "".join(cell["source"])
        if cell["cell_type"] == "code" and not code.startswith("%%"):
            ast.parse(code)
    markdown = hook().notebook(path)
    assert markdown.startswith("# ")
    assert "```python\n" in markdown


@pytest.fixture
def docs_option(request: pytest.FixtureRequest) -> None:
    """Skips a test that takes long, unless `--docs` is given."""
    if not request.config.getoption("--docs"):
        pytest.skip("takes a minute or two; --docs runs it")


def environment() -> dict[str, str]:
    """Environment with one device, this interpreter, this checkout and its compilation cache."""
    inherited = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return inherited | {"PATH": path, "PYTHONPATH": str(ROOT)}


def link_inputs(folder: Path) -> Path:
    """Links the data and the configs of the repository into a folder; returns the folder."""
    for entry in ("data", "configs", "requirements.txt"):
        (folder / entry).symlink_to(ROOT / entry)
    return folder


def execute(text: str, language: str, folder: Path) -> subprocess.CompletedProcess[str]:
    commands = {"bash": ["bash", "-c", SHELL + text], "python": [sys.executable, "-c", text]}
    return subprocess.run(
        commands[language],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=600,
    )


@pytest.fixture(scope="session")
def demo_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the README's first command, for the pages that start from one."""
    folder = link_inputs(tmp_path_factory.mktemp("demo"))
    command = "python -m bridge_jax.train --config configs/demo.py --workdir runs/demo"
    done = execute(f"{command} --no-evaluate", "bash", folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "runs/demo"


RUNNABLE = [p for p in PAGES if any(b.mark.startswith("run") for b in blocks(p))]


@pytest.mark.parametrize("page", RUNNABLE, ids=name)
def test_a_page_runs_as_shown(page, tmp_path, docs_option, request):
    marked = [b for b in blocks(page) if re.match(r"run|save ", b.mark)]
    if "runs/demo" in "".join(b.text for b in marked):
        shutil.copytree(request.getfixturevalue("demo_run"), tmp_path / "runs/demo")
    link_inputs(tmp_path)
    for block in marked:
        required = block.mark.partition(", needs ")[2].split()
        if not all(importlib.util.find_spec(module) for module in required):
            continue
        if block.mark.startswith("save "):
            (tmp_path / block.mark.removeprefix("save ")).write_text(block.text)
            continue
        done = execute(block.text, block.language, tmp_path)
        assert done.returncode == 0, f"{name(page)}:{block.line}\n{done.stdout}\n{done.stderr}"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=name)
def test_a_notebook_runs(path, tmp_path, docs_option):
    for module in ("nbclient", "ipykernel", "pandas"):
        pytest.importorskip(module)
    # In a separate process: warnings of Jupyter are not errors of this package.
    code = (
        "import nbclient, nbformat, sys\n"
        "nbclient.NotebookClient(nbformat.read(sys.argv[1], 4), timeout=600).execute()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)],
        cwd=link_inputs(tmp_path), env=environment(), capture_output=True, text=True, timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
