"""Do 32 users at once get their answers?

    python -m bridge_jax.serve --workdir runs/demo &
    python benchmarks/serve.py --url http://127.0.0.1:7860 --users 32 --questions 10

Each user is a thread that asks one question after another, without a pause: ten answers for a
random one of the nodes that the page offers at first. Once through the JSON API, and once as the
page's button does, which also draws the map and writes the CSV. Every answer must have ten rows
about the node that was asked. Prints answers a second and the waiting times.
"""

import argparse
import json
import random
import sys
import threading
import time
import urllib.request
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from bridge_jax import cli

Ask = Callable[[str], None]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; see the module's docstring."""
    args = _parser().parse_args(argv)
    page = Page(args.url)
    faults: list[str] = []
    rows = []
    for name, ask in (("JSON API", page.ask_api), ("page", page.ask_page)):
        ask(page.nodes[0])  # warm
        took, waits = crowd(ask, page.nodes, args.users, args.questions, faults)
        waits.sort()
        late = waits[int(0.95 * len(waits))]
        rows.append([name, len(waits), len(waits) / took, waits[len(waits) // 2], late, waits[-1]])
    header = ("", "answers", "a second", "median wait, s", "95 %", "longest")
    print(f"{args.users} users, {len(faults)} answers wrong or missing")
    print(cli.table(rows, header))
    for fault in faults[:3]:
        print(fault, file=sys.stderr)
    return 1 if faults else 0


def crowd(
    ask: Ask, nodes: Sequence[str], users: int, questions: int, faults: list[str]
) -> tuple[float, list[float]]:
    """Let many users ask at once; returns the seconds all took, and each wait."""
    waits: list[float] = []

    def user(number: int) -> None:
        rng = random.Random(number)
        for _ in range(questions):
            node = rng.choice(nodes)
            start = time.perf_counter()
            try:
                ask(node)
            except (OSError, ValueError) as e:
                faults.append(f"{node}: {e!r}")
            waits.append(time.perf_counter() - start)

    threads = [threading.Thread(target=user, args=(i,)) for i in range(users)]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - start, waits


class Page:
    """A running page, asked over HTTP."""

    def __init__(self, url: str) -> None:
        """Read what the page offers."""
        self.api = f"{url}/gradio_api"
        with urllib.request.urlopen(f"{url}/config", timeout=60) as reply:
            config = json.load(reply)
        props = {c["props"].get("elem_id"): c["props"] for c in config["components"]}
        self.nodes = [node for _, node in props["node"]["choices"]]
        self.source = props["source"]["value"]
        first, _ = props["kind"]["choices"][0]
        self.relation, self.target = first.split(" → ")
        asked = (d for d in config["dependencies"] if any(t[1] == "load" for t in d["targets"]))
        self.function = next(d["id"] for d in asked)

    def ask_api(self, node: str) -> None:
        """One question to the API.

        Raises:
          ValueError: the answer is an error, or wrong.
          OSError: no answer.
        """
        data = [self.source, self.relation, self.target, node, 10, "mark"]
        event = self._post("call/retrieve", {"data": data})["event_id"]
        with urllib.request.urlopen(f"{self.api}/call/retrieve/{event}", timeout=120) as reply:
            kind, value = reply.read().decode().strip().rsplit("event: ", 1)[1].split("\ndata: ")
        rows = json.loads(value)[0] if kind == "complete" else []
        if [r["rank"] for r in rows] != list(range(1, 11)) or rows[0]["query"] != node:
            raise ValueError(value)

    def ask_page(self, node: str) -> None:
        """One press of the button.

        Raises:
          ValueError: the answer is an error, or wrong.
          OSError: no answer.
        """
        session = uuid.uuid4().hex
        data = [self.source, 0, node, None, 10, "mark"]
        question = {"data": data, "fn_index": self.function, "session_hash": session}
        self._post("queue/join", question)
        url = f"{self.api}/queue/data?session_hash={session}"
        with urllib.request.urlopen(url, timeout=120) as reply:
            for line in reply:
                if b'"process_completed"' in line:
                    output = json.loads(line[len("data: ") :])["output"]
                    break
        html = str(output.get("data", output)[0])
        if html.count("<tr>") != 11 or node not in html:
            raise ValueError(html[:200])

    def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        raw, kind = json.dumps(body).encode(), {"content-type": "application/json"}
        request = urllib.request.Request(f"{self.api}/{path}", raw, kind)
        with urllib.request.urlopen(request, timeout=120) as reply:
            answer: dict[str, Any] = json.load(reply)
        return answer


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--url", default="http://127.0.0.1:7860", help="where the page is")
    parser.add_argument("--users", type=int, default=32, help="default: 32")
    parser.add_argument("--questions", type=int, default=10, help="of each; default: 10")
    return parser


if __name__ == "__main__":
    cli.run(main)
