"""Flips single bits in the files of a run or a dataset, one at a time, and opens it each time.

    python -m benchmarks.attack.bit_flips --workdir runs/demo --flips 400
    python -m benchmarks.attack.bit_flips --workdir data/demo --flips 400

The files are those of the run's checkpoints, its `config.json`, `run.json` and `fusion.json`; if
--workdir is an exported bridge, those of the export; if it is a dataset, all that training and
retrieval read: the manifest, the shards, the names and the synonyms. Half of the flips are spread
over the bytes, the other half over the files. Works on a copy. Each flip is one of:

    refused    one line that names the file or the checkpoint
    harmless   all that was read is as in the undamaged folder
    silent     they are others, without a word
    crash      another exception, or a message of several lines
"""

import argparse
import json
import random
import re
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bridge_jax import cli
from bridge_jax.errors import InputError
from bridge_jax.formatting import text_table

OUTCOMES = ("refused", "harmless", "silent", "crash")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the benchmark; see the module's docstring."""
    args = _parser().parse_args(argv)
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch) / "run"
        shutil.copytree(args.workdir, copy)
        counts, examples = flip_bits(copy, args.flips, args.seed)
    rows = [[kind, *(counts[kind, outcome] for outcome in OUTCOMES)] for kind in _kinds(counts)]
    print(text_table(rows, ("file", *OUTCOMES)))
    for example in examples:
        print(f"silent or crash: {example}")
    if args.json:
        total = {outcome: sum(row[i + 1] for row in rows) for i, outcome in enumerate(OUTCOMES)}
        Path(args.json).write_text(json.dumps({"flips": args.flips, **total}, indent=1) + "\n")
    return 1 if examples else 0


def flip_bits(folder: Path, flips: int, seed: int) -> tuple[Counter[tuple[str, str]], list[str]]:
    """Flips bits in a run, an export or a dataset and opens it.

    Args:
      folder: Folder of one of these; each flip is undone.
      flips: Number of flips.
      seed: Seed of files and bits.

    Returns:
      Number of flips by kind of file and outcome, and the silent ones and crashes in words.
    """
    expected, rng = _open(folder), random.Random(seed)
    files = sorted(p for p in folder.rglob("*") if p.is_file() and _is_read(p.relative_to(folder)))
    sizes = [p.stat().st_size for p in files]
    counts, examples = Counter[tuple[str, str]](), []
    for i in range(flips):
        file = rng.choices(files, sizes)[0] if i % 2 else rng.choice(files)
        content = file.read_bytes()
        bit = rng.randrange(8 * len(content))
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        file.write_bytes(damaged)
        outcome, words = _outcome(folder, expected)
        file.write_bytes(content)
        name = str(file.relative_to(folder))
        counts[_kind(name), outcome] += 1
        if outcome in ("silent", "crash"):
            examples.append(f"{name}, bit {bit}: {words}")
        print(f"\r{i + 1}/{flips}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return counts, examples


def _outcome(folder: Path, expected: dict[str, Any]) -> tuple[str, str]:
    try:
        current = _open(folder)
    except InputError as e:
        return ("crash" if "\n" in str(e) else "refused"), str(e)
    except Exception as e:
        return "crash", repr(e)
    wrong = [name for name in expected if current.get(name) != expected[name]]
    return ("silent", wrong[0]) if wrong else ("harmless", "")


def _open(folder: Path) -> dict[str, Any]:
    """Returns all that answers depend on, by name; arrays as bytes.

    Fields of `config.evaluate` say which rows an evaluation prints, and may be changed.
    """
    if (folder / "manifest.json").exists():
        return _open_dataset(folder)
    import jax

    import bridge_jax
    from bridge_jax import config as configs
    from bridge_jax.evaluation.fusion_settings import read_settings

    bridge = bridge_jax.load(folder)
    settings = read_settings(folder)
    leaves, _ = jax.tree_util.tree_flatten_with_path((bridge.params, dict(bridge.transforms)))
    arrays = {jax.tree_util.keystr(path): np.asarray(leaf).tobytes() for path, leaf in leaves}
    return {
        **arrays,
        "config": {k: v for k, v in configs.to_json(bridge.config).items() if k != "evaluate"},
        "step": bridge.step,
        "triple types": bridge.triple_types,
        "fusion": settings and settings.to_json(),
    }


def _open_dataset(folder: Path) -> dict[str, Any]:
    """Returns all that training and retrieval read of a dataset, by name; arrays as bytes."""
    from bridge_jax.data.dataset import read_nodes
    from bridge_jax.data.embedding_tables import read_names
    from bridge_jax.data.graph import load_graph
    from bridge_jax.data.manifest import read_manifest
    from bridge_jax.data.similarity import read_similarity
    from bridge_jax.data.synonyms import read_synonyms

    manifest = read_manifest(folder)
    graph = load_graph(folder, manifest)
    values: dict[str, Any] = {"manifest": manifest.to_json()}
    for split, facts in graph.facts.items():
        values |= {f"{split} {k}": v.tobytes() for k, v in vars(facts).items()}
    values |= {f"held out {split}": nodes.tobytes() for split, nodes in graph.heldout.items()}
    for table in manifest.node_types:
        ids, x = read_nodes(folder, table)
        values |= {f"ids {table.name}": ids, f"vectors {table.name}": x.tobytes()}
        values[f"names {table.name}"] = read_names(folder, manifest, table.name)
        values[f"synonyms {table.name}"] = read_synonyms(folder, manifest, table.name)
        if pairs := read_similarity(folder, manifest, table.name):
            values[f"similar {table.name}"] = [np.asarray(v).tobytes() for v in pairs]
    return values


def _is_read(path: Path) -> bool:
    """Whether opening the folder reads a file; logs, results and reports do not count."""
    return path.parts[0] in (
        *("checkpoints", "config.json", "run.json", "model.safetensors", "vocabulary.json"),
        *("fusion.json", "manifest.json", "nodes", "triples", "heldout", "similarity"),
    )


def _kind(name: str) -> str:
    """Returns a file's name without step and hash, e.g. `checkpoints/state/d`."""
    hashed = re.compile(r"[0-9]+|[0-9a-f]{32,}")
    return "/".join(p for p in Path(name).parts if not hashed.fullmatch(p))


def _kinds(counts: Counter[tuple[str, str]]) -> list[str]:
    return sorted({kind for kind, _ in counts})


def _parser() -> argparse.ArgumentParser:
    parser = cli.parser("benchmarks.attack.bit_flips", __doc__)
    parser.add_argument("--workdir", required=True, help="trained run, exported bridge or dataset")
    parser.add_argument("--flips", type=int, default=200, help="number of flips; default: 200")
    parser.add_argument("--seed", type=int, default=0, help="seed of the flips; default: 0")
    parser.add_argument("--json", help="JSON file to write; default: none")
    return parser


if __name__ == "__main__":
    cli.run(main)
