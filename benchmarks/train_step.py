"""Training against PyTorch: the same model and the same batches, in one alternating run.

    python -m benchmarks.train_step --turns 5 --json train_step.json

The shape is the paper's: width 768, 6 layers, 12 heads, MLP 2048, dropout 0.1, 5 sampled negatives
per row, AdamW, gradient clipping at 1.0, PrimeKG's tables, float32. Trainers that take turns:

    reference   the released trainer's way: a Dataset of vectors, lists stacked in a collator by two
                workers, every node type projected behind a mask, all four tokens through all layers
    torch       an efficient loop: tables as tensors, batches of ids only, one projection per group,
                fused AdamW; also uses `torch.nn.TransformerEncoder`
    bridge_jax  `train_step` as the training command runs it, including its batches

The table shows triples per second, and the share of the peak rate of the same library's matrix
product, measured here; only the operations that the dense model needs are counted.
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import synthetic
from benchmarks.hardware import jax_peak_flops, torch_peak_flops
from benchmarks.training import make_training
from bridge_jax import cli
from bridge_jax import config as configs
from bridge_jax.data.batches import Batch, Batches
from bridge_jax.data.graph import Graph
from bridge_jax.distributed.mesh import make_mesh
from bridge_jax.formatting import text_table
from bridge_jax.training.device_data import device_data
from bridge_jax.training.prefetch import prefetch

WIDTH, LAYERS, HEADS, MLP_DIM, DROPOUT, NEGATIVES = 768, 6, 12, 2048, 0.1, 5
TOKENS = 4
# Per triple: a multiplication and an addition for each weight and token, and twice that backward.
FLOPS = 6 * TOKENS * LAYERS * (4 * WIDTH**2 + 2 * WIDTH * MLP_DIM)

Step = Callable[[], None]


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the benchmark; see the module's docstring."""
    args = _parser().parse_args(argv)
    graph, tables = synthetic.primekg(0.05), synthetic.tables()
    batches = Batches(graph.pairs(["train"]), args.batch, 1.0, 0, 1)
    trainers: dict[str, Callable[..., Step]] = {
        "bridge_jax": bridge_jax_trainer,
        "torch": partial(torch_trainer, compile_encoder=args.compile),
        "reference": reference_trainer,
    }
    num_steps = args.steps * (args.turns + 1)
    steps = {name: trainers[name](graph, tables, batches, num_steps) for name in args.only}
    seconds = time_in_turns(steps, args.steps, args.turns)
    peaks = {"bridge_jax": jax_peak_flops()} if "bridge_jax" in steps else {}
    if steps.keys() - {"bridge_jax"}:
        peaks["torch"] = torch_peak_flops()
    rows = []
    for name, values in seconds.items():
        rate = args.batch / statistics.median(values)
        peak = peaks["bridge_jax" if name == "bridge_jax" else "torch"]
        pairs = zip(values, seconds.get("bridge_jax", ()), strict=False)
        ratios = [value / bridge_jax for value, bridge_jax in pairs]
        speedup = statistics.median(ratios) if ratios else "–"
        rows.append([name, rate, rate * FLOPS / peak, speedup, min(values)])
    header = ("trainer", "triples/s", "share of peak", "bridge_jax is x faster", "best s/step")
    print(text_table(rows, header))
    report = {
        "batch": args.batch,
        "steps_a_turn": args.steps,
        "gflops_a_triple": FLOPS / 1e9,
        "peak_gflops": {k: v / 1e9 for k, v in peaks.items()},
        "seconds_a_step": seconds,
        "versions": _versions(steps),
        "python": platform.python_version(),
        "device": jax.devices()[0].device_kind,
    }
    print(json.dumps({k: report[k] for k in ("batch", "peak_gflops", "versions", "device")}))
    if args.json:
        Path(args.json).write_text(json.dumps(report, indent=1))
    return 0


def time_in_turns(
    steps: dict[str, Step], steps_per_turn: int, num_turns: int
) -> dict[str, list[float]]:
    """Times several trainers in turns, so that other work on the machine slows all of them alike.

    Args:
      steps: Function that runs one training step, by name of the trainer.
      steps_per_turn: Number of steps that a trainer runs before the next one does.
      num_turns: Number of timed turns; one more turn comes first, to compile and warm up.

    Returns:
      Seconds per step of each turn, by name of the trainer.
    """
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(num_turns + 1):
        for name, step in steps.items():
            start = time.perf_counter()
            for _ in range(steps_per_turn):
                step()
            if turn:
                seconds[name].append((time.perf_counter() - start) / steps_per_turn)
    return seconds


def bridge_jax_trainer(
    graph: Graph, tables: dict[str, Any], batches: Batches, num_steps: int
) -> Step:
    """Returns a function that runs one step of this package."""
    config = configs.default()
    config.loss.update({"negatives": "sampled", "num_sampled": NEGATIVES, "mask": "none"})
    dims = [(name, dim) for name, (_, dim) in synthetic.NODES.items()]
    state, update = make_training(config, graph, dims, batches, make_mesh(1, 1), num_steps)
    data = device_data(
        graph, {n: jnp.asarray(t.model_inputs(slice(None))) for n, t in tables.items()}
    )
    batch_iterator, key = prefetch(map(batches, range(num_steps))), jax.random.key(0)

    def step() -> None:
        nonlocal state
        state, metrics = update(state, next(batch_iterator), data, key)
        jax.block_until_ready(metrics)

    return step


def torch_trainer(
    graph: Graph,
    tables: dict[str, Any],
    batches: Batches,
    num_steps: int,
    compile_encoder: bool = False,
) -> Step:
    """Returns a function that runs one step of an efficient PyTorch loop."""
    import torch

    torch.manual_seed(0)
    model = _TorchBridge(graph, fused=True)
    if compile_encoder:
        model.modules["encoder"].compile()
    tensors = [torch.from_numpy(t.model_inputs(slice(None))) for t in tables.values()]
    groups = [
        (graph.type_id(head), graph.relation_id(relation), graph.type_id(tail))
        for head, relation, tail in (g.triple_type for g in batches.groups)
    ]
    sizes = torch.tensor([g.size for g in batches.groups])
    context = [torch.repeat_interleave(torch.tensor(c), sizes) for c in zip(*groups, strict=True)]
    project, step_numbers = model.modules["project"], iter(range(num_steps))

    def step() -> None:
        batch = batches(next(step_numbers))
        heads, tails = torch.from_numpy(batch.heads[0]).long(), torch.from_numpy(batch.tails[0])
        z, z_tails = [], []
        for (head, _, tail), g in zip(groups, batches.groups, strict=True):
            z.append(project[head](tensors[head][heads[g.columns]]))
            sampled = torch.randint(len(tensors[tail]), (g.size, NEGATIVES))
            nodes = torch.cat([tails[g.columns, None].long(), sampled], dim=1)
            z_tails.append(project[tail](tensors[tail][nodes]))
        model.update(torch.cat(z), *context, torch.cat(z_tails))

    return step


def reference_trainer(
    graph: Graph, tables: dict[str, Any], batches: Batches, num_steps: int
) -> Step:
    """Returns a function that runs one step the way the released trainer does."""
    import torch

    torch.manual_seed(0)
    model = _TorchBridge(graph, fused=False)
    loader = torch.utils.data.DataLoader(
        _TripleDataset(graph, tables, batches),
        batch_size=batches.size,
        sampler=range(num_steps * batches.size),
        collate_fn=_collate,
        num_workers=2,
        persistent_workers=True,
    )
    layers, batch_iterator = model.modules["project"], iter(loader)

    def project(vectors: list[Any], node_types: Any) -> Any:
        out = torch.zeros(len(node_types), WIDTH)
        for node_type, layer in enumerate(layers):
            mask = node_types == node_type
            if mask.any():
                out[mask] = layer(vectors[node_type])
        return out

    def step() -> None:
        batch = next(batch_iterator)
        z = project(batch["head"], batch["head_type"])
        node_types = batch["tail_type"].repeat_interleave(1 + NEGATIVES)
        z_tails = project(batch["tail"], node_types).reshape(len(z), 1 + NEGATIVES, WIDTH)
        model.update(z, batch["head_type"], batch["relation"], batch["tail_type"], z_tails)

    return step


class _TorchBridge:
    """Modules, loss and update that both PyTorch trainers use."""

    def __init__(self, graph: Graph, fused: bool) -> None:
        import torch

        def embedding(count: int) -> Any:
            return torch.nn.Sequential(torch.nn.Embedding(count, WIDTH), torch.nn.LayerNorm(WIDTH))

        layer = torch.nn.TransformerEncoderLayer(
            WIDTH, HEADS, MLP_DIM, DROPOUT, activation="gelu", batch_first=True
        )
        self.modules = torch.nn.ModuleDict(
            {
                "encoder": torch.nn.TransformerEncoder(layer, LAYERS, enable_nested_tensor=False),
                "type_embed": embedding(len(graph.node_types)),
                "relation_embed": embedding(len(graph.relations)),
                "project": torch.nn.ModuleList(
                    torch.nn.Linear(dim, WIDTH, bias=False) for _, dim in synthetic.NODES.values()
                ),
            }
        )
        self.optimizer = torch.optim.AdamW(
            self.modules.parameters(), 5e-4, weight_decay=1e-4, fused=fused or None
        )

    def update(self, z: Any, head_type: Any, relation: Any, tail_type: Any, z_tails: Any) -> None:
        """Runs one step.

        Args:
          z: Projected heads, float `[n, d]`.
          head_type: Ids of the heads' node types, int `[n]`.
          relation: Ids of the relations, int `[n]`.
          tail_type: Ids of the tails' node types, int `[n]`.
          z_tails: Projected tails, float `[n, 1 + negatives, d]`; the true one comes first.
        """
        import torch

        tokens = [self.modules["type_embed"](head_type), self.modules["relation_embed"](relation)]
        x = torch.stack([z, *tokens, self.modules["type_embed"](tail_type)], dim=1)
        query = torch.nn.functional.normalize(self.modules["encoder"](x)[:, 0] + z, dim=-1)
        keys = torch.nn.functional.normalize(z_tails, dim=-1)
        logits = torch.einsum("nd,nkd->nk", query, keys) / 0.1
        target = torch.zeros(len(z), dtype=torch.long)
        loss = torch.nn.functional.cross_entropy(logits, target)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.modules.parameters(), 1.0)
        self.optimizer.step()
        loss.item()


class _TripleDataset:
    """Map-style dataset of the rows of the same batches, with their vectors."""

    def __init__(self, graph: Graph, tables: dict[str, Any], batches: Batches) -> None:
        self._graph, self._batches = graph, batches
        self._tables = [t.model_inputs(slice(None)) for t in tables.values()]
        self._step, self._batch = -1, Batch(np.zeros((1, 1), np.int32), np.zeros((1, 1), np.int32))
        self._triple_types = [g.triple_type for g in batches.groups for _ in range(g.size)]
        self._rng = np.random.default_rng(0)

    def __getitem__(self, index: int) -> dict[str, Any]:
        step, column = divmod(index, self._batches.size)
        if step != self._step:
            self._step, self._batch = step, self._batches(step)
        triple_type = self._triple_types[column]
        head, tail = (self._graph.type_id(t) for t in (triple_type.head, triple_type.tail))
        negatives = self._rng.integers(0, len(self._tables[tail]), NEGATIVES)
        nodes = (self._batch.tails[0, column], *negatives)
        return {
            "head_type": head,
            "relation": self._graph.relation_id(triple_type.relation),
            "tail_type": tail,
            "head": self._tables[head][self._batch.heads[0, column]],
            "tails": [self._tables[tail][node] for node in nodes],
        }


def _collate(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Stacks the vectors of each node type."""
    import torch

    heads: list[list[Any]] = [[] for _ in synthetic.NODES]
    tails: list[list[Any]] = [[] for _ in synthetic.NODES]
    for row in rows:
        heads[row["head_type"]].append(torch.tensor(row["head"]))
        tails[row["tail_type"]].extend(torch.tensor(t) for t in row["tails"])
    batch: dict[str, Any] = {
        name: torch.tensor([row[name] for row in rows])
        for name in ("head_type", "relation", "tail_type")
    }
    batch["head"] = [torch.stack(v) if v else None for v in heads]
    batch["tail"] = [torch.stack(v) if v else None for v in tails]
    return batch


def _versions(trainers: dict[str, Step]) -> dict[str, str]:
    versions = {"jax": jax.__version__}
    if trainers.keys() - {"bridge_jax"}:
        import torch

        versions["torch"] = torch.__version__
    return versions


def _parser() -> argparse.ArgumentParser:
    parser = cli.parser("benchmarks.train_step", __doc__)
    names = ("bridge_jax", "torch", "reference")
    parser.add_argument("--batch", type=int, default=252, help="rows per step; default: 252")
    parser.add_argument("--steps", type=int, default=4, help="steps per turn; default: 4")
    parser.add_argument(
        "--turns", type=int, default=5, help="timed turns of each trainer; default: 5"
    )
    parser.add_argument(
        "--compile", action="store_true", help="torch.compile the encoder of the trainer torch"
    )
    parser.add_argument(
        "--only", nargs="+", choices=names, default=names, help="trainers to run; default: all"
    )
    parser.add_argument("--json", metavar="FILE", help="file to write the numbers to")
    return parser


if __name__ == "__main__":
    cli.run(main)
