"""Pages of the site that are generated from the repository: commands, changelog, notebooks.

A hook of mkdocs. The generated pages are not kept in the repository, so they cannot be outdated.
"""

import importlib
import json
import os
import sys
from argparse import ArgumentParser
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
# The section that explains each command in prose.
HOW_TO = {
    "bridge_jax.train": "../scale.md",
    "bridge_jax.evaluate": "../evaluation.md",
    "bridge_jax.sweep": "../evaluation.md#sweeps",
    "bridge_jax.retrieve": "../use.md#retrieve",
    "bridge_jax.project": "../use.md#project-a-library",
    "bridge_jax.prompt": "../use.md#prompts",
    "bridge_jax.serve": "../use.md#serve",
    "tools.export_embeddings": "../data.md#primekg-with-your-own-encoders",
    "tools.import_graph": "../data.md",
    "tools.import_biobridge": "../data.md#a-clone-of-biobridge",
    "tools.export_biobridge": "../data.md#a-clone-of-biobridge",
    "tools.build_openbiokg": "../data.md#openbiokg",
    "tools.audit": "../data.md#checks",
    "tools.verify_shards": "../data.md#checks",
    "tools.train_pykeen": "../evaluation.md#knowledge-graph-embeddings",
    "tools.export_model": "../use.md#share-a-run",
}
INTRO = (
    "The output of each command's `--help`. `bridge-jax COMMAND` is the same as "
    "`python -m bridge_jax.COMMAND` or `python -m tools.COMMAND`, for example "
    "`bridge-jax import-graph`; `bridge-jax` alone lists all commands."
)


def on_files(files: Any, config: Any) -> Any:
    """Adds the generated pages to the site."""
    from mkdocs.structure.files import File

    pages = {"reference/commands.md": commands_page(), "changelog.md": changelog()}
    for path in sorted((ROOT / "docs/notebooks").glob("*.ipynb")):
        pages[f"notebooks/{path.name}.md"] = notebook(path)
    for name, text in pages.items():
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Replaces links to a notebook, which work on GitHub, by links to its page."""
    return markdown.replace(".ipynb)", ".ipynb.md)")


def commands() -> list[str]:
    """Returns the names of all modules that are commands, that is, that have a parser."""
    files = [*(ROOT / "bridge_jax").glob("*.py"), *(ROOT / "tools").glob("*.py")]
    return sorted(f"{f.parent.name}.{f.stem}" for f in files if "\ndef _parser(" in f.read_text())


def parser(command: str) -> ArgumentParser:
    """Returns the argument parser of a command."""
    if str(ROOT) not in sys.path:  # `tools` is in the checkout only, not installed at the top level
        sys.path.insert(0, str(ROOT))
    command_parser: ArgumentParser = importlib.import_module(command)._parser()
    return command_parser


def commands_page() -> str:
    """Returns the page with the `--help` of every command."""
    os.environ.update(COLUMNS="96", NO_COLOR="1")
    sections = ["# Commands", INTRO]
    for command in commands():
        sections.append(f"## {command}")
        if command in HOW_TO:
            sections.append(f"[How to use it]({HOW_TO[command]})")
        sections.append(f"```text\n{parser(command).format_help()}```")
    return "\n\n".join(sections)


def changelog() -> str:
    """Returns the changelog of the repository."""
    return (ROOT / "CHANGELOG.md").read_text()


def notebook(path: Path) -> str:
    """Returns a notebook as Markdown, with its committed outputs."""
    cells = json.loads(path.read_text())["cells"]
    return "\n\n".join(block for cell in cells for block in _blocks(cell))


def _blocks(cell: dict[str, Any]) -> Iterator[str]:
    """Yields the source of a cell and its outputs as blocks of Markdown."""
    source = "".join(cell["source"])
    if cell["cell_type"] == "markdown":
        yield source
        return
    yield f"```python\n{source}\n```"
    for output in cell.get("outputs", []):
        data = output.get("data", {})
        if "image/png" in data:
            yield f"![Output](data:image/png;base64,{''.join(data['image/png']).strip()})"
        elif "text/html" in data:
            yield "".join(data["text/html"])
        else:
            text = "".join(data.get("text/plain", output.get("text", [])))
            yield f"```text\n{text.rstrip()}\n```"
