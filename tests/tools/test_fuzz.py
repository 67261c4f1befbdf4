"""Reading of some damaged files of every kind; `benchmarks/fuzz.py` runs many more."""

import os
import time
from functools import partial
from pathlib import Path

import pytest

from benchmarks import fuzz
from benchmarks.fuzzing import bombs
from benchmarks.fuzzing.case import OTHER_VALUES, SAME, Target, check, run_case
from benchmarks.fuzzing.worker import make_target, run_jobs
from benchmarks.mutations import MUTATIONS
from bridge_jax.errors import InputError

CASES = 8
NEEDS = {"HDF5": "h5py", "h5ad": "h5py", "torch": "torch", "ESM": "torch",
         "safetensors": "safetensors", "SDF": "rdkit", "Parquet wide": "pandas"}  # fmt: skip


@pytest.mark.parametrize("name", list(fuzz.targets()))
def test_no_damage_is_read_as_data(tmp_path: Path, name: str) -> None:
    for start, module in NEEDS.items():
        if name.startswith(start):
            pytest.importorskip(module)
    target = make_target(fuzz.targets()[name], tmp_path)
    results = [run_case(target, 1, k) for k in range(CASES)]
    assert [r.message for r in results if not r.outcome] == []
    assert {m for r in results for m in r.mutations} <= set(MUTATIONS)
    target.path.write_bytes(target.other)
    assert check(target, target.other)[0] in ("accounted", "refused", "other_values")


@pytest.mark.parametrize(
    ("read", "message"),
    [
        (lambda raw: SAME, ""),
        (lambda raw: {}["bug"], "KeyError"),
        (lambda raw: (_ for _ in ()).throw(InputError("two\nlines")), "several lines"),
        (lambda raw: (_ for _ in ()).throw(InputError("malloc of size 9")), "an allocation"),
        (lambda raw: (_ for _ in ()).throw(AssertionError("other")), "AssertionError: other"),
        (lambda raw: OTHER_VALUES, "a format with a checksum"),
    ],
)
def test_faults_of_a_reader_are_found(tmp_path: Path, read, message: str) -> None:
    target = Target(tmp_path / "x", b"sound" * 9, b"other" * 9, read)
    result = run_case(target, 0, 0)
    assert message in result.message
    assert bool(result.outcome) == (not message)


def _fragile(folder: Path, fault: str) -> Target:
    """Returns a target whose third read crashes, hangs or takes all memory."""
    reads = []

    def read(raw: bytes) -> str:
        reads.append(raw)
        if len(reads) == 3 and fault == "crash":
            os.abort()
        if len(reads) == 3 and fault == "hang":
            time.sleep(60)
        if len(reads) == 3 and fault == "memory":
            bytearray(8 << 30)
        return SAME

    return Target(folder / "x", b"sound" * 9, b"other" * 9, read)


def test_a_worker_that_dies_costs_one_case() -> None:
    faults = ("crash", "hang", "memory")
    factories = {fault: partial(_fragile, fault=fault) for fault in faults}
    tallies = run_jobs(factories, [(fault, 0, 3) for fault in faults], 0, limit_s=1)
    assert [t.cases for t in tallies.values()] == [3, 3, 3]
    (crash,), (hang,), (memory,) = (t.wrong for t in tallies.values())
    assert crash == "case 1 (): the process died with exit code -6"
    assert hang == "case 1 (): longer than 1 s"
    assert memory.startswith("case 1")
    assert memory.endswith("MemoryError: ")


def test_the_command_counts_every_case(capsys: pytest.CaptureFixture[str]) -> None:
    names = ["synonyms", "kg.csv", "npy"]
    assert fuzz.main(["--cases", "7", "--seed", "5", "--skip-bombs", "--targets", *names]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[2:6]]
    assert [r[:2] for r in rows] == [["synonyms", "3"], ["npy", "2"], ["kg.csv", "2"], ["all", "7"]]
    assert all(int(r[1]) == sum(map(int, r[2:6])) and r[6] == "0" for r in rows)


@pytest.mark.parametrize(
    "name", ["npy of 2^40 rows", "torch of 10^12 rows", "safetensors of 10^12 rows",
             "HDF5 of 10^12 rows", "HDF5 chunk", "gzip of zeros, graph"],
)  # fmt: skip
def test_claims_are_refused_before_they_are_allocated(tmp_path: Path, name: str) -> None:
    pytest.importorskip({"H": "h5py", "t": "torch", "s": "safetensors"}.get(name[0], "numpy"))
    bomb = bombs.BOMBS[name]
    path = tmp_path / bomb.file
    bomb.write(path)
    with pytest.raises(InputError) as caught:
        bomb.read(path)
    assert "does not fit into the memory" not in str(caught.value)
