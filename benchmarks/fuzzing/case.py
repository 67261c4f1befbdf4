"""A damaged file, the check of what its reader made of it, and the counts of many such cases."""

import re
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.mutations import mutate
from bridge_jax.errors import InputError

SAME, ACCOUNTED, OTHER_VALUES, REFUSED = "same", "accounted", "other_values", "refused"
# What NumPy, Arrow and PyTorch say if an allocation fails: it was tried, where the size should have
# been checked. (The HDF5 library is in a process of its own, which is limited.)
OUT_OF_MEMORY = re.compile(
    "does not fit into the memory|Unable to allocate|[mc]alloc of size|DefaultCPUAllocator"
)


@dataclass(frozen=True)
class Target:
    """A file to damage.

    Attributes:
      path: Path of the file.
      valid: Its valid bytes.
      other: Bytes of the same file of another dataset.
      read: Reads the file, given its bytes, and returns `SAME`, `ACCOUNTED` or `OTHER_VALUES`;
        raises otherwise.
      has_checksum: Whether the format or the reader detects every change of a value, so that
        `OTHER_VALUES` is wrong.
    """

    path: Path
    valid: bytes
    other: bytes
    read: Callable[[bytes], str]
    has_checksum: bool = True


Factory = Callable[[Path], Target]


class Result(NamedTuple):
    """Outcome of a case.

    Attributes:
      outcome: `SAME`, `ACCOUNTED`, `OTHER_VALUES`, `REFUSED`, or empty if the case failed.
      message: Why it failed.
      mutations: Names of the mutations.
      seconds: Time that reading took.
    """

    outcome: str
    message: str
    mutations: tuple[str, ...]
    seconds: float


@dataclass
class Tally:
    """Outcomes of a target's cases.

    Attributes:
      refused: Cases that raised `InputError`.
      same: Cases that returned the content of the valid file.
      accounted: Cases that returned other content of which every line is accounted for.
      other_values: Cases that returned other values, which the format cannot detect.
      slowest_s: Seconds of the slowest case.
      peak_mib: Largest growth of the worker's memory.
      wrong: Messages of the cases that failed.
      mutations: How often each mutation was applied.
    """

    refused: int = 0
    same: int = 0
    accounted: int = 0
    other_values: int = 0
    slowest_s: float = 0.0
    peak_mib: float = 0.0
    wrong: list[str] = field(default_factory=list)
    mutations: Counter[str] = field(default_factory=Counter)

    @property
    def cases(self) -> int:
        """Number of cases."""
        right = self.refused + self.same + self.accounted + self.other_values
        return right + len(self.wrong)

    def add(self, k: int, result: Result) -> None:
        """Counts case k."""
        self.mutations.update(result.mutations)
        self.slowest_s = max(self.slowest_s, result.seconds)
        if result.outcome:
            setattr(self, result.outcome, getattr(self, result.outcome) + 1)
        else:
            self.wrong.append(f"case {k} ({', '.join(result.mutations)}): {result.message}")


def run_case(target: Target, seed: int, k: int) -> Result:
    """Damages a file and reads it.

    Args:
      target: File to damage.
      seed: Random seed; the case depends on the seed and k only.
      k: Number of the case.
    """
    raw, mutations = mutate(target.valid, target.other, np.random.default_rng((seed, k)))
    target.path.write_bytes(raw)
    start = time.perf_counter()
    outcome, message = check(target, raw)
    return Result(outcome, message, tuple(mutations), time.perf_counter() - start)


def check(target: Target, raw: bytes) -> tuple[str, str]:
    """Reads a file that holds some bytes.

    Returns:
      The outcome, and why it is wrong; one of them is empty.
    """
    try:
        outcome = target.read(raw)
    except InputError as e:
        if "\n" in str(e):
            return "", f"message of several lines: {e}"
        if OUT_OF_MEMORY.search(str(e)):
            return "", f"refused after an allocation had failed: {e}"
        return REFUSED, ""
    except Exception as e:
        return "", f"{type(e).__name__}: {e}"
    if outcome == OTHER_VALUES and target.has_checksum:
        return "", "other values from a format with a checksum"
    return outcome, ""
