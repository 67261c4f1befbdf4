"""Training against PyTorch: the same mathematics, the same batches, in one alternating run.

    python -m benchmarks.train_step --turns 5 --json train_step.json

Paper shape: width 768, 6 layers, 12 heads, feed-forward 2048, dropout 0.1, 5 explicit negatives a
row, AdamW, clip 1.0, PrimeKG's tables, float32. Trainers, taking turns:

    reference   as the released trainer works: a Dataset of vectors, lists stacked in a collator by
                two workers, every type projected behind a mask, all four tokens through all layers
    torch       a well-written loop: tables as tensors, ids alone, one projection a group, fused
                AdamW; `torch.nn.TransformerEncoder` too
    bridge_jax  `train_step` as the training command runs it, its batches included

Beside triples per second stands the share of the matrix-multiplication peak of the same library,
measured here, counting only the operations that the dense form needs.
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
from benchmarks.hardware import jax_peak, torch_peak
from bridge_jax import cli
from bridge_jax import config as configs
from bridge_jax.data.batches import Batch, Batches
from bridge_jax.data.graph import Graph
from bridge_jax.distributed.mesh import make_mesh
from bridge_jax.models.bridge import init_params, make_model
from bridge_jax.training.device_data import device_data
from bridge_jax.training.objective import Objective
from bridge_jax.training.optimizer import make_optimizer
from bridge_jax.training.prefetch import prefetch
from bridge_jax.training.train_step import init_state, train_step

WIDTH, LAYERS, HEADS, FEEDFORWARD, DROPOUT, NEGATIVES = 768, 6, 12, 2048, 0.1, 5
TOKENS = 4
# A multiply and an add of each weight and token, forward, and twice that backward.
FLOPS = 6 * TOKENS * LAYERS * (4 * WIDTH**2 + 2 * WIDTH * FEEDFORWARD)

Trainer = Callable[[], None]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; see the module's docstring."""
    args = _parser().parse_args(argv)
    graph, tables = synthetic.primekg(0.05), synthetic.tables()
    batches = Batches(graph.pairs(["train"]), args.batch, 1.0, 0, 1)
    makers = {
        "bridge_jax": partial(_ours, graph, tables, batches),
        "torch": partial(_torch, graph, tables, batches, args.compile),
        "reference": partial(_reference, graph, tables, batches),
    }
    chosen = {name: makers[name](args.steps * (args.turns + 1)) for name in args.only or makers}
    seconds: dict[str, list[float]] = {name: [] for name in chosen}
    for turn in range(args.turns + 1):  # the first one compiles and warms up
        for name, step in chosen.items():
            began = time.perf_counter()
            for _ in range(args.steps):
                step()
            if turn:
                seconds[name].append((time.perf_counter() - began) / args.steps)
    peaks = {"bridge_jax": jax_peak(), "torch": torch_peak()}
    ours = statistics.median(seconds["bridge_jax"]) if "bridge_jax" in seconds else np.nan
    rows = []
    for name, found in seconds.items():
        median = statistics.median(found)
        peak = peaks["bridge_jax" if name == "bridge_jax" else "torch"]
        ratio = statistics.median(f / o for f, o in zip(found, seconds["bridge_jax"], strict=True))
        rows.append(
            [name, args.batch / median, args.batch * FLOPS / median / peak, ratio, min(found)]
        )
    header = ("trainer", "triples/s", "share of peak", "bridge_jax is x faster", "best s/step")
    print(cli.table(rows, header))
    import torch

    about = {
        "batch": args.batch,
        "steps_a_turn": args.steps,
        "gflops_a_triple": FLOPS / 1e9,
        "peak_gflops": {k: v / 1e9 for k, v in peaks.items()},
        "seconds_a_step": seconds,
        "median_of_ours": ours,
        "versions": {"jax": jax.__version__, "torch": torch.__version__},
        "python": platform.python_version(),
        "device": jax.devices()[0].device_kind,
    }
    print(json.dumps({k: about[k] for k in ("batch", "peak_gflops", "versions", "device")}))
    if args.json:
        Path(args.json).write_text(json.dumps(about, indent=1))
    return 0


def _ours(graph: Graph, tables: dict[str, Any], batches: Batches, steps: int) -> Trainer:
    config = configs.default()
    config.loss.update({"negatives": "sampled", "sampled": NEGATIVES, "mask": "none"})
    mesh = make_mesh(1, 1)
    dims = [(name, dim) for name, (_, dim) in synthetic.NODES.items()]
    model = make_model(config.model, dims, graph.relations)
    placed = {n: jnp.asarray(t.rows(slice(None))) for n, t in tables.items()}
    data = device_data(graph, placed)
    objective = Objective(model, batches.groups, graph.triple_types, config.loss, mesh)
    optimizer = make_optimizer(config.optimizer, steps)
    place = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    state = init_state(lambda k: {"model": init_params(model, k)}, optimizer, 0, place)
    update = jax.jit(
        partial(train_step, objective=objective, optimizer=optimizer), donate_argnums=0
    )
    following, key = prefetch(map(batches, range(steps))), jax.random.key(0)
    last: list[Any] = [state]

    def step() -> None:
        last[0], metrics = update(last[0], next(following), data, key)
        jax.block_until_ready(metrics)

    return step


def _encoder() -> Any:
    import torch

    layer = torch.nn.TransformerEncoderLayer(
        WIDTH, HEADS, FEEDFORWARD, DROPOUT, activation="gelu", batch_first=True
    )
    return torch.nn.TransformerEncoder(layer, LAYERS, enable_nested_tensor=False)


class _Parts:
    """What both PyTorch trainers share: the modules, the loss and the update."""

    def __init__(self, graph: Graph, fused: bool) -> None:
        import torch

        self.modules = torch.nn.ModuleDict(
            {
                "encoder": _encoder(),
                "type_embed": torch.nn.Sequential(
                    torch.nn.Embedding(len(graph.node_types), WIDTH), torch.nn.LayerNorm(WIDTH)
                ),
                "relation_embed": torch.nn.Sequential(
                    torch.nn.Embedding(len(graph.relations), WIDTH), torch.nn.LayerNorm(WIDTH)
                ),
                "project": torch.nn.ModuleList(
                    torch.nn.Linear(dim, WIDTH, bias=False) for _, dim in synthetic.NODES.values()
                ),
            }
        )
        self.optimizer = torch.optim.AdamW(
            self.modules.parameters(), 5e-4, weight_decay=1e-4, fused=fused or None
        )

    def update(self, z: Any, head_type: Any, relation: Any, tail_type: Any, tails: Any) -> None:
        """One step; z `[n, d]`, tails `[n, 1 + negatives, d]`, the true one first."""
        import torch

        tokens = [self.modules["type_embed"](head_type), self.modules["relation_embed"](relation)]
        x = torch.stack([z, *tokens, self.modules["type_embed"](tail_type)], dim=1)
        query = torch.nn.functional.normalize(self.modules["encoder"](x)[:, 0] + z, dim=-1)
        keys = torch.nn.functional.normalize(tails, dim=-1)
        logits = torch.einsum("nd,nkd->nk", query, keys) / 0.1
        target = torch.zeros(len(z), dtype=torch.long)
        loss = torch.nn.functional.cross_entropy(logits, target)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.modules.parameters(), 1.0)
        self.optimizer.step()
        loss.item()


def _torch(
    graph: Graph, tables: dict[str, Any], batches: Batches, compiled: bool, steps: int
) -> Trainer:
    import torch

    torch.manual_seed(0)
    parts = _Parts(graph, fused=True)
    if compiled:
        parts.modules["encoder"].compile()
    held = [torch.from_numpy(t.rows(slice(None))) for t in tables.values()]
    groups = [
        (graph.type_id(g.kind.head), graph.relation_id(g.kind.relation), graph.type_id(g.kind.tail))
        for g in batches.groups
    ]
    sizes = torch.tensor([g.size for g in batches.groups])
    context = [torch.repeat_interleave(torch.tensor(c), sizes) for c in zip(*groups, strict=True)]
    project, number = parts.modules["project"], iter(range(steps))

    def step() -> None:
        batch = batches(next(number))
        heads, tails = torch.from_numpy(batch.heads[0]).long(), torch.from_numpy(batch.tails[0])
        z, ends = [], []
        for (head, _, tail), g in zip(groups, batches.groups, strict=True):
            z.append(project[head](held[head][heads[g.columns]]))
            drawn = torch.randint(len(held[tail]), (g.size, NEGATIVES))
            nodes = torch.cat([tails[g.columns, None].long(), drawn], dim=1)
            ends.append(project[tail](held[tail][nodes]))
        parts.update(torch.cat(z), *context, torch.cat(ends))

    return step


def _reference(graph: Graph, tables: dict[str, Any], batches: Batches, steps: int) -> Trainer:
    import torch

    torch.manual_seed(0)
    parts = _Parts(graph, fused=False)
    rows = torch.utils.data.DataLoader(
        _Rows(graph, tables, batches),
        batch_size=batches.size,
        sampler=range(steps * batches.size),
        collate_fn=_collate,
        num_workers=2,
        persistent_workers=True,
    )
    project, loaded = parts.modules["project"], iter(rows)

    def projected(vectors: list[Any], kinds: Any) -> Any:
        out = torch.zeros(len(kinds), WIDTH)
        for kind, layer in enumerate(project):
            mask = kinds == kind
            if mask.any():
                out[mask] = layer(vectors[kind])
        return out

    def step() -> None:
        batch = next(loaded)
        z = projected(batch["head"], batch["head_type"])
        kinds = batch["tail_type"].repeat_interleave(1 + NEGATIVES)
        tails = projected(batch["tail"], kinds).reshape(len(z), 1 + NEGATIVES, WIDTH)
        parts.update(z, batch["head_type"], batch["relation"], batch["tail_type"], tails)

    return step


class _Rows:
    """Row after row of the same batches, with vectors, as a map-style dataset gives them."""

    def __init__(self, graph: Graph, tables: dict[str, Any], batches: Batches) -> None:
        self._graph, self._batches = graph, batches
        self._tables = [t.rows(slice(None)) for t in tables.values()]
        self._step, self._batch = -1, Batch(np.zeros((1, 1), np.int32), np.zeros((1, 1), np.int32))
        self._groups = [g for g in batches.groups for _ in range(g.size)]
        self._random = np.random.default_rng(0)

    def __getitem__(self, index: int) -> dict[str, Any]:
        step, column = divmod(index, self._batches.size)
        if step != self._step:
            self._step, self._batch = step, self._batches(step)
        kind = self._groups[column].triple_type
        head, tail = self._graph.type_id(kind.head), self._graph.type_id(kind.tail)
        false = self._random.integers(0, len(self._tables[tail]), NEGATIVES)
        return {
            "head_type": head,
            "relation": self._graph.relation_id(kind.relation),
            "tail_type": tail,
            "head": self._tables[head][self._batch.heads[0, column]],
            "tails": [self._tables[tail][n] for n in (self._batch.tails[0, column], *false)],
        }


def _collate(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Lists by node type, stacked."""
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


def _parser() -> argparse.ArgumentParser:
    parser = cli.parser("benchmarks.train_step", __doc__)
    parser.add_argument("--batch", type=int, default=252, help="rows a step; default: 252")
    parser.add_argument("--steps", type=int, default=4, help="a turn; default: 4")
    parser.add_argument("--turns", type=int, default=5, help="of each trainer; default: 5")
    parser.add_argument("--compile", action="store_true", help="torch.compile the torch encoder")
    parser.add_argument(
        "--only", nargs="*", choices=("bridge_jax", "torch", "reference"), help="default: all"
    )
    parser.add_argument("--json", help="where to write the figures")
    return parser


if __name__ == "__main__":
    cli.run(main)
