"""Reading of two thousand damaged files; `benchmarks/fuzz.py` runs many more."""

from pathlib import Path

import pytest

from benchmarks.fuzz import Target, fuzz, main, make_targets
from benchmarks.mutations import MUTATIONS
from bridge_jax.errors import InputError

CASES = 400


@pytest.fixture(scope="module")
def fuzz_targets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Target]:
    return make_targets(tmp_path_factory.mktemp("fuzz"))


@pytest.mark.parametrize("name", ["nodes", "triples", "manifest", "kg.csv", "kg.csv.gz"])
def test_no_damage_is_read_as_data(fuzz_targets: dict[str, Target], name: str) -> None:
    target = fuzz_targets[name]
    tally = fuzz(target, CASES, seed=0)
    assert tally.wrong == []
    assert tally.refused + tally.same + tally.accounted == CASES
    assert set(tally.mutations) == set(MUTATIONS)
    if name == "kg.csv":
        assert tally.accounted > CASES / 2  # most damage leaves a readable table
    else:
        assert tally.refused > 0.9 * CASES
    assert target.read(target.valid) == "same"


@pytest.mark.parametrize(
    ("read", "message"),
    [
        (lambda raw: "same", None),
        (lambda raw: {}["bug"], "KeyError"),
        (lambda raw: (_ for _ in ()).throw(InputError("two\nlines")), "several lines"),
        (lambda raw: (_ for _ in ()).throw(AssertionError("other")), "AssertionError: other"),
    ],
)
def test_the_harness_reports_faults_of_a_reader(tmp_path: Path, read, message: str | None) -> None:
    tally = fuzz(Target(tmp_path / "x", b"sound" * 9, b"other" * 9, read), 3, seed=0)
    assert (tmp_path / "x").read_bytes() == b"sound" * 9
    assert len(tally.wrong) == (3 if message else 0)
    assert all(message in w for w in tally.wrong)


def test_the_command_counts_every_case(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--cases", "3", "--seed", "5"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[2:7]]
    assert [r[0] for r in rows] == ["nodes", "triples", "manifest", "kg.csv", "kg.csv.gz"]
    assert all(int(r[1]) == 3 == sum(map(int, r[2:5])) and r[5] == "0" for r in rows)
