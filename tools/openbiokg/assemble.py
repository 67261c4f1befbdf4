"""Join the sources to one graph: nodes with their texts, and undirected facts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from .annotation import Annotation
from .diseases import Diseases
from .drugs import Drugs
from .obo import Ontology
from .ontology import NAMESPACES
from .phenotypes import Phenotypes

PROTEIN, DRUG, DISEASE, PHENOTYPE = "gene/protein", "drug", "disease", "effect/phenotype"
_PROTEIN_BINDING = "GO:0005515"  # says that there is a partner, not which
_SHORT = dict(zip(NAMESPACES, ("bioprocess", "molfunc", "cellcomp"), strict=True))


class Node(NamedTuple):
    """A node; `features` are what its type's feature table holds beside id, index and name."""

    type: str
    id: str
    name: str
    source: str
    features: tuple[str, ...]


class Fact(NamedTuple):
    """An undirected fact in PrimeKG's terms; ends are (type, id)."""

    relation: str
    display: str
    head: tuple[str, str]
    tail: tuple[str, str]


@dataclass(frozen=True)
class Sources:
    """What was read; None for a source that is left out.

    Attributes:
      sequences: by UniProt accession.
      annotation: of human proteins.
      ontology: the Gene Ontology.
      diseases: of UniProt.
      interactions: pairs of gene symbols.
      drugs: of DrugBank, with ChEMBL's targets.
      phenotypes: of HPO.
    """

    sequences: Mapping[str, str]
    annotation: Annotation
    ontology: Ontology
    diseases: Diseases
    interactions: Sequence[tuple[str, str]]
    drugs: Drugs | None
    phenotypes: Phenotypes | None


def assemble(sources: Sources) -> tuple[list[Node], list[Fact]]:
    """Join the sources.

    Proteins are the annotated human ones that have a sequence. A gene symbol stands for the first
    of them that has it; further ones are called by their accession. Of ontologies, the terms that
    a fact uses are nodes. An OMIM number that several diseases share stands for the last of them.

    Args:
      sources: what was read.

    Returns:
      Nodes, type after type, sorted by id; and facts, kind after kind, sorted, each once.
    """
    sequences, phenotypes = sources.sequences, sources.phenotypes
    of_symbol: dict[str, str] = {}
    for accession, symbol in sources.annotation.symbols.items():
        if accession in sequences:
            of_symbol.setdefault(symbol, accession)
    does = _annotation(sources)
    used = {term for _, term in does}
    of_omim = {d.omim.replace("MIM:", "OMIM:"): d.id for d in sources.diseases.diseases}
    causes = {(p, d) for p, d in sources.diseases.proteins if p in sequences}
    shows: set[tuple[str, str]] = set()
    if phenotypes:
        causes |= {
            (of_symbol[symbol], of_omim[omim])
            for symbol, omim in phenotypes.genes
            if symbol in of_symbol and omim in of_omim
        }
        shows = {
            (of_omim[omim], term)
            for omim, name in phenotypes.diseases
            if omim in of_omim and (term := phenotypes.ontology.resolve(name))
        }

    names = {accession: symbol for symbol, accession in of_symbol.items()}
    nodes = [Node(PROTEIN, a, names.get(a, a), "UniProt", (s,)) for a, s in sequences.items()]
    if sources.drugs:
        nodes += [Node(DRUG, d.id, d.name, "DrugBank", (d.smiles,)) for d in sources.drugs.drugs]
    nodes += [
        Node(DISEASE, d.id, d.name, "UniProt-Disease", (d.omim, d.definition))
        for d in sources.diseases.diseases
    ]
    nodes += _terms(sources.ontology, used, "GO")
    if phenotypes:
        nodes += _terms(phenotypes.ontology, {t for _, t in shows}, "HPO", PHENOTYPE)
    order = [PROTEIN, DRUG, DISEASE, *NAMESPACES, PHENOTYPE]
    nodes.sort(key=lambda n: (order.index(n.type), n.id))

    facts = [
        Fact(f"{_SHORT[space]}_protein", "interacts with", (PROTEIN, a), (space, t))
        for a, t in sorted(does)
        for space in [sources.ontology.terms[t].namespace]
    ]
    facts += _facts("disease_protein", "associated with", PROTEIN, DISEASE, causes)
    targets = sources.drugs.targets if sources.drugs else set()
    hits = {(d, of_symbol[s]) for d, s in targets if s in of_symbol}
    facts += _facts("drug_protein", "target", DRUG, PROTEIN, hits)
    touches = {
        (min(a, b), max(a, b))
        for pair in sources.interactions
        for a, b in [[of_symbol.get(s, "") for s in pair]]
        if a and b and a != b
    }
    facts += _facts("protein_protein", "ppi", PROTEIN, PROTEIN, touches)
    facts += _facts("disease_phenotype_positive", "phenotype present", DISEASE, PHENOTYPE, shows)
    return nodes, [*facts, *_hierarchy(sources.ontology, used)]


def _annotation(sources: Sources) -> set[tuple[str, str]]:
    """(accession, present term) of the proteins that have a sequence."""
    found = {
        (accession, sources.ontology.resolve(name))
        for accession, name in sources.annotation.pairs
        if accession in sources.sequences
    }
    return {(a, term) for a, term in found if term not in (None, _PROTEIN_BINDING)}


def _terms(ontology: Ontology, used: set[str], source: str, kind: str = "") -> list[Node]:
    terms = (ontology.terms[i] for i in used)
    return [Node(kind or t.namespace, t.id, t.name, source, (t.definition,)) for t in terms]


def _facts(
    relation: str, display: str, head: str, tail: str, pairs: set[tuple[str, str]]
) -> list[Fact]:
    return [Fact(relation, display, (head, a), (tail, b)) for a, b in sorted(pairs)]


def _hierarchy(ontology: Ontology, used: set[str]) -> list[Fact]:
    """Parents and children of one namespace, both used."""
    facts = []
    for space in NAMESPACES:
        terms = (ontology.terms[i] for i in sorted(used))
        facts += [
            Fact(f"{_SHORT[space]}_{_SHORT[space]}", "parent-child", (space, p), (space, t.id))
            for t in terms
            if t.namespace == space
            for p in t.parents
            if p in used and ontology.terms[p].namespace == space
        ]
    return facts
