"""The HTML of the page: its controls, and the answer to the question in its address."""

import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from html import escape
from importlib.resources import files
from typing import Any

from bridge_jax.data.embedding_files import SUFFIXES
from bridge_jax.errors import InputError
from bridge_jax.retrieval.results import KNOWN_MODES
from bridge_jax.web import render
from bridge_jax.web.examples import Example
from bridge_jax.web.model_card import data_sources, introduction
from bridge_jax.web.question import DEFAULT_K, MAX_IDS, Question
from bridge_jax.web.service import MAX_MATCHES, QueryService

_TABS = {"node": "Node", "input": "New input", "file": "File", "list": "List"}
_MODALITIES = {"sequence": "Sequence", "smiles": "SMILES", "text": "Text"}
_NUMBERS = (5, 10, 25, 50, 100)
_KNOWN_LABELS = {"mark": "marked", "hide": "hidden", "show": "shown unmarked"}
_ARTICLES = {"sequence": "Amino-acid sequence", "smiles": "SMILES", "text": "Text"}


@cache
def static_file(name: str) -> str:
    """Returns the text of a file of the page."""
    return (files("bridge_jax.web") / "static" / name).read_text(encoding="utf-8")


def question_of_address(
    values: Mapping[str, Any], service: QueryService, examples: Sequence[Example]
) -> Question:
    """Returns the question in an address; the first example if it holds none.

    Args:
      values: Parameters of the address: those of `Question.address`, or `q` for the exact name, a
        synonym or the id of a node.
      service: Service that answers.
      examples: Examples of the page.

    Raises:
      InputError: The question is not valid, or `q` names no node or several.
    """
    if text := values.get("q"):
        matches = service.search_nodes(text)
        match = service.exact_match(text, matches)
        if match is None:
            raise InputError(f"{text!r} names no node exactly; search for it and choose one")
        triple_types = service.triple_types(match.node_type)
        asked = [
            t
            for t in triple_types
            if values.get("relation", t.relation) == t.relation
            and values.get("target", t.tail) == t.tail
        ]
        return Question((asked or triple_types)[0], id=match.id)
    return service.read_question(values) if values.get("type") else examples[0].question


def page_as_html(
    service: QueryService,
    examples: Sequence[Example],
    values: Mapping[str, Any],
    root_path: str = "",
) -> str:
    """Renders the whole page.

    Args:
      service: Service that answers.
      examples: Questions to choose from.
      values: Parameters of the address.
      root_path: Path of the page behind a proxy; empty for none.
    """
    question = Question(examples[0].question.triple_type)
    try:
        question = question_of_address(values, service, examples)
        answer = service.retrieve_page(question)
    except InputError as e:
        answer = render.error_as_html(str(e))
    chips = "".join(
        f'<li><a href="?{escape(e.question.address())}">{escape(e.label)}</a></li>'
        for e in examples
    )
    sources = data_sources(service.bridge)
    data = f"Data: {escape(sources)}. " if sources else ""
    return _shell(
        service.title,
        root_path,
        f"<header><h1>bridge_jax <small>{escape(service.title)}</small></h1>"
        f"{introduction(service.bridge, set(map(service.modality, service.sources)))}"
        f'<ul class="examples" aria-label="Examples">{chips}</ul>'
        '<noscript><p class="error">The controls need JavaScript; the examples, addresses and the '
        "API do not.</p></noscript></header>"
        f'<main>{_form(service)}<section id="answer" aria-label="Answer">'
        f'{answer}</section></main><p id="announce" class="hidden" role="status"></p><footer>'
        f'{data}The same answers as JSON: <a href="api">API</a></footer>'
        f'<script id="data" type="application/json">{_data(service, question, values)}</script>'
        '<script src="page.js"></script>',
    )


def _shell(title: str, root_path: str, body: str) -> str:
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        f'<base href="{escape(root_path)}/">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>bridge_jax · {escape(title)}</title>"
        f'<link rel="stylesheet" href="page.css"></head><body>{body}</body></html>'
    )


def _data(service: QueryService, question: Question, values: Mapping[str, Any]) -> str:
    """Returns what the script needs, as JSON that no `</script>` of a name can end."""
    triple_type = question.triple_type
    index = service.bridge.retriever.node_index(triple_type.head)
    node_id = name = ""
    with suppress(InputError):  # the answer says so
        row = index.row_of_id(question.id)
        node_id, name = index.ids[row], index.names[row]
    data = {
        "types": [_type_info(service, source) for source in service.sources],
        "defaults": {"k": str(DEFAULT_K), "known": KNOWN_MODES[0], "matches": MAX_MATCHES},
        "search": "" if node_id else values.get("q", question.id),
        "question": {
            "mode": question.mode,
            "type": triple_type.head,
            "relation": triple_type.relation,
            "target": triple_type.tail,
            "id": node_id,
            "name": name,
            "text": question.text,
            "ids": "\n".join(question.ids),
            "upload": None,
            "k": str(question.k),
            "known": question.known,
        },
    }
    return json.dumps(data).replace("<", "\\u003c")


def _type_info(service: QueryService, source: str) -> dict[str, Any]:
    modality, hint = service.input_hint(source)
    return {
        "type": source,
        "relations": [(t.relation, t.tail) for t in service.triple_types(source)],
        "modality": modality,
        "label": f"{_ARTICLES.get(modality, 'New input')} of a {source}",
        "hint": hint,
    }


def _form(service: QueryService) -> str:
    offered = {service.modality(source) for source in service.sources}
    modalities = [label for modality, label in _MODALITIES.items() if modality in offered]
    labels = {**_TABS, "input": " / ".join(modalities) or _TABS["input"]}
    tabs = "".join(
        f'<button type="button" role="tab" id="tab-{mode}" aria-controls="panel-{mode}" '
        f'aria-selected="false">{label}</button>'
        for mode, label in labels.items()
    )
    return (
        f'<form id="ask"><div role="tablist" aria-label="What to ask about">{tabs}</div>'
        '<div role="tabpanel" id="panel-node" aria-labelledby="tab-node" class="field">'
        '<label for="search">Name, synonym or id, of any type</label>'
        '<input id="search" role="combobox" aria-autocomplete="list" aria-expanded="false" '
        'aria-controls="options" aria-describedby="status" autocomplete="off" spellcheck="false">'
        '<ul id="options" role="listbox" aria-label="Nodes that fit" hidden></ul>'
        '<p id="status" class="hint" role="status"></p></div>'
        '<div class="field" id="type-field" hidden>'
        f"{_select('type', 'Type', service.sources)}</div>"
        '<div role="tabpanel" id="panel-input" aria-labelledby="tab-input" class="field" hidden>'
        '<label for="text" id="input-label">New input</label>'
        '<textarea id="text" spellcheck="false" aria-describedby="input-hint"></textarea>'
        '<p class="hint" id="input-hint"></p></div>'
        '<div role="tabpanel" id="panel-file" aria-labelledby="tab-file" class="field" hidden>'
        '<label for="file">File with one embedding</label>'
        f'<input type="file" id="file" accept="{",".join(sorted(SUFFIXES))}">'
        '<p class="hint">By the encoder that the type was trained with; an hour later the file is '
        "removed, and it is not part of the address.</p></div>"
        '<div role="tabpanel" id="panel-list" aria-labelledby="tab-list" class="field" hidden>'
        f'<label for="ids">Ids or names, one per line, at most {MAX_IDS:,}</label>'
        '<textarea id="ids" spellcheck="false"></textarea></div>'
        f'<div class="field">{_select("relation", "Relation → target", ())}</div>'
        f'<div class="row"><div class="field">{_select("k", "Answers", map(str, _NUMBERS))}</div>'
        '<div class="field">'
        f"{_select('known', 'Known facts', KNOWN_MODES, _KNOWN_LABELS)}</div></div>"
        '<button class="primary" id="submit" type="submit" hidden>Answer</button></form>'
    )


def _select(name: str, label: str, values: Any, labels: Mapping[str, str] | None = None) -> str:
    options = "".join(
        f'<option value="{escape(value)}">{escape((labels or {}).get(value, value))}</option>'
        for value in values
    )
    return f'<label for="{name}">{label}</label><select id="{name}">{options}</select>'


def api_as_html(schema: Mapping[str, Any], example: Question, root_path: str = "") -> str:
    """Renders the description of the JSON API.

    Args:
      schema: OpenAPI description.
      example: Question of the example call.
      root_path: Path of the page behind a proxy; empty for none.
    """
    body = {
        "type": example.triple_type.head,
        "relation": example.triple_type.relation,
        "target": example.triple_type.tail,
        "ids": [example.id],
        "k": 3,
    }
    call = (
        f"curl -s http://127.0.0.1:7860{root_path}/api/retrieve "
        f"-H 'content-type: application/json' \\\n    -d '{json.dumps(body)}'"
    )
    sections = "".join(
        f"<h2>{method.upper()} {escape(path)}</h2>"
        f"<p>{escape(operation['description']).replace(chr(10) * 2, '</p><p>')}</p>"
        for path, operations in schema["paths"].items()
        for method, operation in operations.items()
    )
    return _shell(
        "API",
        root_path,
        '<main class="api"><h1>JSON API</h1><p>An error is one line, <code>{"error": …}</code>, '
        'with a status of 400 or above. All types: <a href="api/openapi.json">OpenAPI</a>. '
        f'<a href="./">Back to the page</a></p><pre tabindex="0">{escape(call)}</pre>'
        f"{sections}</main>",
    )


def _paragraphs(text: str) -> str:
    """Renders a docstring; what is in backquotes is code."""
    return re.sub("`(.*?)`", r"<code>\1</code>", escape(text)).replace("\n\n", "</p><p>")
