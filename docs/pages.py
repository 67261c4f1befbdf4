"""Pages of the site that are made from the code: commands, the changelog, the notebooks.

A hook of mkdocs. None of these pages is kept in the repository, so none can grow old.
"""

import importlib
import json
import os
from argparse import ArgumentParser
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
# Where the site explains a command that `--help` only lists.
EXPLAINED = {
    "bridge_jax.train": "../scale.md",
    "bridge_jax.evaluate": "../evaluation.md",
    "bridge_jax.sweep": "../evaluation.md#studies",
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


def on_files(files: Any, config: Any) -> Any:
    """Add the made pages to the site."""
    from mkdocs.structure.files import File

    made = {"reference/commands.md": commands_page(), "changelog.md": changelog()}
    for path in sorted((ROOT / "docs/notebooks").glob("*.ipynb")):
        made[f"notebooks/{path.name}.md"] = notebook(path)
    for name, text in made.items():
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Turn links to a notebook, as GitHub shows it, into links to its page."""
    return markdown.replace(".ipynb)", ".ipynb.md)")


def commands() -> list[str]:
    """Every module that is a command, by name: those with a parser."""
    files = [*(ROOT / "bridge_jax").glob("*.py"), *(ROOT / "tools").glob("*.py")]
    found = [f"{f.parent.name}.{f.stem}" for f in files if "\ndef _parser(" in f.read_text()]
    return sorted(found)


def parser(command: str) -> ArgumentParser:
    """The parser of a command."""
    made: ArgumentParser = importlib.import_module(command)._parser()
    return made


def commands_page() -> str:
    """Every command's `--help`."""
    os.environ.update(COLUMNS="96", NO_COLOR="1")
    parts = ["# Commands", "What `--help` says, taken from the code when this page was made."]
    for command in commands():
        parts.append(f"## {command}")
        if command in EXPLAINED:
            parts.append(f"[How to use it]({EXPLAINED[command]})")
        parts.append(f"```text\n{parser(command).format_help()}```")
    return "\n\n".join(parts)


def changelog() -> str:
    """The repository's changelog."""
    return (ROOT / "CHANGELOG.md").read_text()


def notebook(path: Path) -> str:
    """A notebook as Markdown, with the outputs that it was committed with."""
    cells = json.loads(path.read_text())["cells"]
    return "\n\n".join(part for cell in cells for part in _parts(cell))


def _parts(cell: dict[str, Any]) -> Iterator[str]:
    text = "".join(cell["source"])
    if cell["cell_type"] == "markdown":
        yield text
        return
    yield f"```python\n{text}\n```"
    for output in cell.get("outputs", []):
        data = output.get("data", {})
        if "image/png" in data:
            yield f"![Output](data:image/png;base64,{''.join(data['image/png']).strip()})"
        elif "text/html" in data:
            yield "".join(data["text/html"])
        else:
            shown = "".join(data.get("text/plain", output.get("text", [])))
            yield f"```text\n{shown.rstrip()}\n```"
