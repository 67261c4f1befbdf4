"""Links from the ids of nodes to the databases that they come from."""

import re
from collections.abc import Sequence
from urllib.parse import quote

# Pattern of a whole id, and the address of its entry. The first pattern that fits counts.
LINKS: tuple[tuple[str, str], ...] = (
    (r"GO:\d{7}", "https://www.ebi.ac.uk/QuickGO/term/{id}"),
    (r"HP:\d{7}", "https://hpo.jax.org/browse/term/{id}"),
    (r"MONDO:\d{7}", "https://monarchinitiative.org/{id}"),
    (r"O?MIM:(?P<number>\d{6})", "https://omim.org/entry/{number}"),
    (r"DI-\d{5}", "https://www.uniprot.org/diseases/{id}"),
    (r"DB\d{5}", "https://go.drugbank.com/drugs/{id}"),
    (r"CHEMBL\d+", "https://www.ebi.ac.uk/chembl/explore/compound/{id}"),
    (r"UBERON:\d{7}", "https://monarchinitiative.org/{id}"),
    (r"R-HSA-\d+", "https://reactome.org/content/detail/{id}"),
    (r"ENSG\d{11}", "https://www.ensembl.org/id/{id}"),
    (
        r"(?:[OPQ]\d[A-Z0-9]{3}\d|[A-NR-Z]\d(?:[A-Z][A-Z0-9]{2}\d){1,2})(?:-\d+)?",
        "https://www.uniprot.org/uniprotkb/{id}",
    ),
)


def link_of(node_id: str, links: Sequence[tuple[str, str]] = LINKS) -> str:
    """Returns the address of a node's entry in its database; empty if no pattern fits.

    Args:
      node_id: Id of the node.
      links: Pairs of a pattern and an address, in which `{id}` and the names of the pattern's
        groups are replaced.
    """
    for pattern, address in links:
        if match := re.fullmatch(pattern, node_id):
            values = {"id": node_id, **match.groupdict()}
            return address.format(**{k: quote(v, safe=":") for k, v in values.items()})
    return ""
