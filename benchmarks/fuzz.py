"""Damages valid files at random and checks that no damage is read as data.

    python -m benchmarks.fuzz --cases 20000 --seed 0

The targets are every kind of file that is read: shards, manifest and other files of a dataset;
embedding files; graphs; entities; feature and similarity tables. `--cases` are the cases in all. A
case applies one to three mutations to the bytes of a file (see `benchmarks.mutations`). The reader
must raise `InputError` with one line, or return what it may return; no other exception, no crash,
no case of more than 60 seconds and no allocation of more than 4 GiB.

| column | what the reader returned |
|---|---|
| refused | an `InputError` |
| same | the content of the valid file |
| accounted | of text: rows = used + rejected, and each line of the valid file that is left gives \
the same row; of other files: the content of another valid file |
| other values | other values under the same ids, which nothing in the format can show |

Other values are wrong but for these formats, which have no checksum of them:

- npy, safetensors: neither header nor values have one.
- HDF5 and AnnData: values have none unless a filter adds it (`fletcher32`, gzip's Adler-32); the
  descriptions of the datasets have one in HDF5's newer format only. Two datasets with the same data
  are refused, but two whole descriptions can change places unnoticed.
- Parquet: pages have one only if the writer adds it (`write_page_checksum`), and the footer never.
- The sidecar of an export and an encoder specification: JSON without a digest. The shards that a
  sidecar lists have one in it.

An id never has another row's vector unless the bytes of the id or of the vector were changed.

After the cases, files are read that unpack to, or claim, far more than they hold (see
`benchmarks.fuzzing.bombs`); each must be refused within 1 GiB.
"""

import argparse
from collections.abc import Sequence

from benchmarks.fuzzing import bombs, dataset_targets, embedding_targets, table_targets
from benchmarks.fuzzing.case import Factory, Tally
from benchmarks.fuzzing.worker import run_jobs
from bridge_jax import cli
from bridge_jax.formatting import text_table


def targets() -> dict[str, Factory]:
    """Returns the targets by name; each is made in a folder."""
    return {
        **dataset_targets.factories(),
        **embedding_targets.factories(),
        **table_targets.factories(),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the benchmark; see the module's docstring."""
    args = _parser().parse_args(argv)
    factories = {n: f for n, f in targets().items() if not args.targets or n in args.targets}
    share, more = divmod(args.cases, len(factories))
    jobs = [(name, 0, share + (i < more)) for i, name in enumerate(factories)]
    tallies = run_jobs(factories, jobs, args.seed)
    print(format_tallies(tallies))
    wrong = [f"{n}: {message}" for n, t in tallies.items() for message in t.wrong]
    if not args.skip_bombs:
        rows = bombs.run_bombs()
        print("\n" + text_table([[r.name, r.outcome, f"{r.peak_mib:.0f} MiB"] for r in rows],
                                ("file", "outcome", "memory")))  # fmt: skip
        wrong += [f"{r.name}: {r.message}" for r in rows if r.message]
    print("\n".join(["", *wrong]))
    return 1 if wrong else 0


def format_tallies(tallies: dict[str, Tally]) -> str:
    """Formats the outcomes of each target and their sum."""
    header = (
        "file", "cases", "refused", "same", "accounted", "other values", "wrong", "slowest",
        "memory",
    )  # fmt: skip
    rows = [
        [
            n, t.cases, t.refused, t.same, t.accounted, t.other_values, len(t.wrong),
            f"{t.slowest_s * 1e3:.0f} ms", f"{t.peak_mib:.0f} MiB",
        ]
        for n, t in tallies.items()
    ]  # fmt: skip
    sums = [sum(int(row[i]) for row in rows) for i in range(1, 7)]
    return text_table([*rows, ["all", *sums, "", ""]], header)


def _parser() -> argparse.ArgumentParser:
    parser = cli.parser("benchmarks.fuzz", __doc__)
    parser.add_argument("--cases", type=int, default=20_000, help="cases in all; default: 20000")
    parser.add_argument("--seed", type=int, default=0, help="random seed; default: 0")
    parser.add_argument(
        "--targets", nargs="*", default=[], choices=[*targets()], metavar="FILE",
        help="only these files, by their names in the table; default: all",
    )  # fmt: skip
    parser.add_argument("--skip-bombs", action="store_true", help="run the cases only")
    return parser


if __name__ == "__main__":
    cli.run(main)
