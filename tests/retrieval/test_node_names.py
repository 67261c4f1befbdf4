"""Lookup of nodes by id and name, and the suggestions of its error messages."""

import pytest

from bridge_jax.errors import InputError
from bridge_jax.retrieval.node_names import NodeIndex

DRUGS = NodeIndex(
    "drug",
    ["D1", "D2", "D3", "D4", "D5"],
    ["Aspirin", "Metformin", "aspirin", "Acetyl-aspirin plus", "D5"],
)


def test_case_and_spaces_of_a_name_are_ignored():
    assert DRUGS.row_of_name("METFORMIN") == 1
    assert DRUGS.row_of_name("  acetyl-Aspirin  PLUS ") == 3
    assert DRUGS.row_of_name("aspirin") == 2  # only one of two has exactly this spelling
    assert DRUGS.row_of_id("D2") == 1


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "ASPIRIN",
            r"2 nodes of type drug are named 'ASPIRIN': 'Aspirin' \(D1\), 'aspirin' \(D3\)",
        ),
        ("metformine", r"no drug is named 'metformine'; did you mean 'Metformin' \(D2\)\?$"),
        ("acetyl", r"no drug is named 'acetyl'; did you mean 'Acetyl-aspirin plus' \(D4\)\?$"),
        ("zzzzzz", r"no drug is named 'zzzzzz'$"),
        ("", r"no drug is named ''"),
    ],
)
def test_an_unknown_or_ambiguous_name_raises_with_suggestions(name, message):
    with pytest.raises(InputError, match=message):
        DRUGS.row_of_name(name)


@pytest.mark.parametrize(
    ("node", "message"),
    [
        ("D22", r"no drug has the id 'D22'; did you mean 'D2'\?"),
        ("metformin", r"it is the name of 'Metformin' \(D2\); ask for it by name"),
        ("xyzzy", r"ids look like 'D1'"),
    ],
)
def test_an_unknown_id_raises_with_a_suggestion(node, message):
    with pytest.raises(InputError, match=message):
        DRUGS.row_of_id(node)


def test_search_puts_exact_matches_before_prefixes_before_substrings():
    assert DRUGS.search("aspirin", 10) == [0, 2, 3]
    assert DRUGS.search("d", 2) == [0, 1]
    assert DRUGS.search("metfromin", 3) == [1]
    assert DRUGS.search("", 2) == [0, 1]
