"""Measures how many results per second the web page delivers to 32 users at once.

    python -m bridge_jax.serve --workdir runs/demo &
    python -m benchmarks.serve --url http://127.0.0.1:7860 --users 32 --questions 10

Each user is a thread that sends one query after the other, without a pause: ten results for a
random one of the nodes that the page lists at first. The benchmark runs once over the JSON API and
once as the page's button does, which also draws the map and writes the CSV. Each response must have
ten rows about the queried node. Prints responses per second and the waiting times.
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
from typing import Any

from bridge_jax import cli
from bridge_jax.formatting import text_table

Query = Callable[[str], None]
K = 10  # results per query


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the benchmark; see the module's docstring."""
    args = _parser().parse_args(argv)
    client = Client(args.url)
    failures: list[str] = []
    rows = []
    for name, query in (("JSON API", client.query_api), ("page", client.query_page)):
        query(client.nodes[0])  # warms up
        seconds, waits = run_users(query, client.nodes, args.users, args.questions, failures)
        waits.sort()
        median, p95 = waits[len(waits) // 2], waits[int(0.95 * len(waits))]
        rows.append([name, len(waits), len(waits) / seconds, median, p95, waits[-1]])
    header = ("", "responses", "per second", "median wait, s", "95 %", "longest")
    print(f"{args.users} users, {len(failures)} responses wrong or missing")
    print(text_table(rows, header))
    for failure in failures[:3]:
        print(failure, file=sys.stderr)
    return 1 if failures else 0


def run_users(
    query: Query, nodes: Sequence[str], num_users: int, num_queries: int, failures: list[str]
) -> tuple[float, list[float]]:
    """Lets many users send queries at once.

    Args:
      query: Sends one query; raises OSError or ValueError if it fails.
      nodes: Ids to choose from.
      num_users: Number of threads.
      num_queries: Number of queries per user.
      failures: List to which a message is appended for each failed query.

    Returns:
      Seconds until all users are done, and the waiting time of each query.
    """
    waits: list[float] = []

    def run_user(seed: int) -> None:
        rng = random.Random(seed)
        for _ in range(num_queries):
            node = rng.choice(nodes)
            start = time.perf_counter()
            try:
                query(node)
            except (OSError, ValueError) as e:
                failures.append(f"{node}: {e!r}")
            waits.append(time.perf_counter() - start)

    threads = [threading.Thread(target=run_user, args=(i,)) for i in range(num_users)]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - start, waits


class Client:
    """HTTP client of a running page.

    Attributes:
      api: URL of Gradio's API.
      nodes: Ids of the nodes that the page lists at first.
    """

    def __init__(self, url: str) -> None:
        """Reads the page's config."""
        self.api = f"{url}/gradio_api"
        with urllib.request.urlopen(f"{url}/config", timeout=60) as response:
            config = json.load(response)
        props = {c["props"].get("elem_id"): c["props"] for c in config["components"]}
        self.nodes = [node for _, node in props["node"]["choices"]]
        self._source = props["source"]["value"]
        label, _ = props["triple-type"]["choices"][0]
        self._relation, self._target = label.split(" → ")
        # The function of the button also runs when the page is loaded.
        self._function = next(
            d["id"]
            for d in config["dependencies"]
            if any(event == "load" for _, event in d["targets"])
        )

    def query_api(self, node: str) -> None:
        """Sends a query to the JSON API.

        Raises:
          ValueError: The response is an error, or wrong.
          OSError: There is no response.
        """
        data = [self._source, self._relation, self._target, node, K, "mark"]
        event = self._post("call/retrieve", {"data": data})["event_id"]
        with urllib.request.urlopen(f"{self.api}/call/retrieve/{event}", timeout=120) as response:
            text = response.read().decode().strip()
        status, value = text.rsplit("event: ", 1)[1].split("\ndata: ")
        rows = json.loads(value)[0] if status == "complete" else []
        if [row["rank"] for row in rows] != list(range(1, K + 1)) or rows[0]["query"] != node:
            raise ValueError(value)

    def query_page(self, node: str) -> None:
        """Sends a query as the page's button does.

        Raises:
          ValueError: The response is an error, or wrong.
          OSError: There is no response.
        """
        session = uuid.uuid4().hex
        data = [self._source, 0, node, None, K, "mark"]
        body = {"data": data, "fn_index": self._function, "session_hash": session}
        self._post("queue/join", body)
        url = f"{self.api}/queue/data?session_hash={session}"
        output: dict[str, Any] = {}
        with urllib.request.urlopen(url, timeout=120) as response:
            for line in response:
                if b'"process_completed"' in line:
                    output = json.loads(line[len("data: ") :])["output"]
                    break
        html = str(output.get("data", [output])[0])
        if html.count("<tr>") != K + 1 or node not in html:
            raise ValueError(html[:200])

    def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        raw, headers = json.dumps(body).encode(), {"content-type": "application/json"}
        request = urllib.request.Request(f"{self.api}/{path}", raw, headers)
        with urllib.request.urlopen(request, timeout=120) as response:
            value: dict[str, Any] = json.load(response)
        return value


def _parser() -> argparse.ArgumentParser:
    parser = cli.parser("benchmarks.serve", __doc__)
    parser.add_argument(
        "--url", default="http://127.0.0.1:7860", help="page; default: http://127.0.0.1:7860"
    )
    parser.add_argument("--users", type=int, default=32, help="number of users; default: 32")
    parser.add_argument("--questions", type=int, default=10, help="queries per user; default: 10")
    return parser


if __name__ == "__main__":
    cli.run(main)
