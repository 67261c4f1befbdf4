"""Assembly of the sources into one graph: nodes with their texts, and undirected facts."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from .annotation import Annotation
from .diseases import Diseases
from .drugs import Drugs
from .obo import Ontology
from .ontology import NAMESPACES
from .phenotypes import Phenotypes

PROTEIN, DRUG, DISEASE, PHENOTYPE = "gene/protein", "drug", "disease", "effect/phenotype"
NODE_TYPES = (PROTEIN, DRUG, DISEASE, *NAMESPACES, PHENOTYPE)
_PROTEIN_BINDING = "GO:0005515"  # says that there is a binding partner, not which
_ABBREVIATIONS = dict(zip(NAMESPACES, ("bioprocess", "molfunc", "cellcomp"), strict=True))


class GraphNode(NamedTuple):
    """Node of the graph.

    Attributes:
      type: Node type.
      id: Id in the source, unique within the type.
      name: Name to show.
      source: Database that the node comes from.
      features: Further columns of the node type's feature table, e.g. the sequence.
      synonyms: Other names.
    """

    type: str
    id: str
    name: str
    source: str
    features: tuple[str, ...]
    synonyms: tuple[str, ...] = ()


class GraphFact(NamedTuple):
    """Undirected fact of the graph.

    Attributes:
      relation: PrimeKG's name of the relation, e.g. `drug_protein`.
      display: PrimeKG's display name of the relation, e.g. `target`.
      head: Type and id of one end.
      tail: Type and id of the other end.
    """

    relation: str
    display: str
    head: tuple[str, str]
    tail: tuple[str, str]


@dataclass(frozen=True)
class Sources:
    """Contents of all sources.

    Attributes:
      sequences: Protein sequence by UniProt accession.
      annotation: GO annotation of human proteins.
      ontology: Gene Ontology.
      diseases: Diseases of UniProt and their proteins.
      interactions: Pairs of gene symbols whose proteins interact.
      drugs: Drugs and their targets; None leaves them out of the graph.
      phenotypes: Phenotypes and genes of diseases; None leaves them out of the graph.
    """

    sequences: Mapping[str, str]
    annotation: Annotation
    ontology: Ontology
    diseases: Diseases
    interactions: Sequence[tuple[str, str]]
    drugs: Drugs | None
    phenotypes: Phenotypes | None


def assemble(sources: Sources) -> tuple[list[GraphNode], list[GraphFact]]:
    """Joins the sources into one graph.

    Proteins are the annotated human ones that have a sequence. If several have the same gene
    symbol, it names the first of them, and the others are named by their accession. Terms of an
    ontology are nodes if a fact uses them. An OMIM number shared by several diseases stands for
    the last of them.

    Args:
      sources: Contents of all sources.

    Returns:
      The nodes, ordered by type and id; and the facts without duplicates, ordered by relation.
    """
    accession_of = _accession_by_symbol(sources)
    annotated = _annotated_pairs(sources)
    used_terms = {term for _, term in annotated}
    causes = {(p, d) for p, d in sources.diseases.proteins if p in sources.sequences}
    shows: set[tuple[str, str]] = set()
    if sources.phenotypes:
        disease_of = {d.omim.replace("MIM:", "OMIM:"): d.id for d in sources.diseases.diseases}
        causes |= {
            (accession_of[symbol], disease_of[omim])
            for symbol, omim in sources.phenotypes.genes
            if symbol in accession_of and omim in disease_of
        }
        shows = {
            (disease_of[omim], term)
            for omim, annotated_term in sources.phenotypes.diseases
            if omim in disease_of and (term := sources.phenotypes.ontology.resolve(annotated_term))
        }
    nodes = _nodes(sources, accession_of, used_terms, {term for _, term in shows})
    drug_targets = sources.drugs.targets if sources.drugs else set()
    targets = {(d, accession_of[s]) for d, s in drug_targets if s in accession_of}
    interactions = _interacting_proteins(sources, accession_of)
    facts = [
        *_annotation_facts(sources.ontology, annotated),
        *_facts("disease_protein", "associated with", PROTEIN, DISEASE, causes),
        *_facts("drug_protein", "target", DRUG, PROTEIN, targets),
        *_facts("protein_protein", "ppi", PROTEIN, PROTEIN, interactions),
        *_facts("disease_phenotype_positive", "phenotype present", DISEASE, PHENOTYPE, shows),
        *_hierarchy_facts(sources.ontology, used_terms),
    ]
    return nodes, facts


def _accession_by_symbol(sources: Sources) -> dict[str, str]:
    """The first protein with a sequence of each gene symbol."""
    accession_of: dict[str, str] = {}
    for accession, symbol in sources.annotation.symbols.items():
        if accession in sources.sequences:
            accession_of.setdefault(symbol, accession)
    return accession_of


def _annotated_pairs(sources: Sources) -> set[tuple[str, str]]:
    """Pairs of accession and current GO term, of the proteins that have a sequence."""
    pairs = {
        (accession, sources.ontology.resolve(term))
        for accession, term in sources.annotation.pairs
        if accession in sources.sequences
    }
    return {(a, term) for a, term in pairs if term not in (None, _PROTEIN_BINDING)}


def _interacting_proteins(
    sources: Sources, accession_of: Mapping[str, str]
) -> set[tuple[str, str]]:
    """Pairs of different proteins, the smaller accession first."""
    pairs = set()
    for symbols in sources.interactions:
        a, b = (accession_of.get(symbol, "") for symbol in symbols)
        if a and b and a != b:
            pairs.add((min(a, b), max(a, b)))
    return pairs


def _nodes(
    sources: Sources,
    accession_of: Mapping[str, str],
    used_terms: Iterable[str],
    used_phenotypes: Iterable[str],
) -> list[GraphNode]:
    symbol_of = {accession: symbol for symbol, accession in accession_of.items()}
    nodes = [
        GraphNode(
            PROTEIN, accession, symbol_of.get(accession, accession), "UniProt", (sequence,),
            (sources.annotation.symbols[accession], *sources.annotation.synonyms[accession]),
        )
        for accession, sequence in sources.sequences.items()
    ]  # fmt: skip
    if sources.drugs:
        nodes += [
            GraphNode(DRUG, d.id, d.name, "DrugBank", (d.smiles,)) for d in sources.drugs.drugs
        ]
    nodes += [
        GraphNode(
            DISEASE, d.id, d.name, "UniProt-Disease", (d.omim, d.definition), (d.acronym, d.omim)
        )
        for d in sources.diseases.diseases
    ]
    for term in (sources.ontology.terms[i] for i in used_terms):
        definition = (term.definition,)
        nodes.append(GraphNode(term.namespace, term.id, term.name, "GO", definition, term.synonyms))
    if sources.phenotypes:
        for term in (sources.phenotypes.ontology.terms[i] for i in used_phenotypes):
            definition = (term.definition,)
            nodes.append(GraphNode(PHENOTYPE, term.id, term.name, "HPO", definition, term.synonyms))
    return sorted(nodes, key=lambda node: (NODE_TYPES.index(node.type), node.id))


def _facts(
    relation: str, display: str, head_type: str, tail_type: str, pairs: set[tuple[str, str]]
) -> list[GraphFact]:
    return [GraphFact(relation, display, (head_type, a), (tail_type, b)) for a, b in sorted(pairs)]


def _annotation_facts(ontology: Ontology, pairs: set[tuple[str, str]]) -> list[GraphFact]:
    facts = []
    for accession, term in sorted(pairs):
        namespace = ontology.terms[term].namespace
        relation = f"{_ABBREVIATIONS[namespace]}_protein"
        facts.append(GraphFact(relation, "interacts with", (PROTEIN, accession), (namespace, term)))
    return facts


def _hierarchy_facts(ontology: Ontology, used_terms: set[str]) -> list[GraphFact]:
    """Parents and children within one namespace, if both are nodes."""
    facts = []
    for namespace in NAMESPACES:
        relation = f"{_ABBREVIATIONS[namespace]}_{_ABBREVIATIONS[namespace]}"
        terms = (ontology.terms[i] for i in sorted(used_terms))
        facts += [
            GraphFact(relation, "parent-child", (namespace, parent), (namespace, term.id))
            for term in terms
            if term.namespace == namespace
            for parent in term.parents
            if parent in used_terms and ontology.terms[parent].namespace == namespace
        ]
    return facts
