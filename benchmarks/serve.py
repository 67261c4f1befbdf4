"""Measures how many results per second the web page delivers to 32 users at once.

    python -m bridge_jax.serve --workdir runs/demo &
    python -m benchmarks.serve --url http://127.0.0.1:7860 --users 32 --questions 10

Each user is a thread that sends one query after the other, without a pause: ten results for a
random one of some nodes. The benchmark runs once over the JSON API and once as the page's controls
do, which also draws the map. Each response must have ten rows about the queried node. Prints
responses per second and the waiting times.

    python -m benchmarks.serve --workdir runs/demo --steady 10000
    python -m benchmarks.serve --workdir runs/demo --minutes 5

These start a server of their own. --steady sends so many queries and prints the server's memory
over time. --minutes lets 32 clients query it while its run is replaced, uploads are refused and
clients hang up; see `benchmarks.serve_endurance`.
"""

import argparse
import json
import random
import re
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Sequence
from html import unescape
from typing import Any

from benchmarks import serve_endurance
from bridge_jax import cli
from bridge_jax.formatting import text_table

Query = Callable[[str], object]
K = 10  # results per query


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the benchmark; see the module's docstring."""
    args = _parser().parse_args(argv)
    if args.workdir and args.steady:
        return serve_endurance.run_steady(args.workdir, args.users, args.steady, Client, run_users)
    if args.workdir:
        return serve_endurance.run_endurance(args.workdir, args.users, args.minutes, Client)
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
      nodes: Ids of some nodes.
      source, relation, target: A triple type whose head they have.
      load_function: Number of the function that Gradio answers.
    """

    def __init__(self, url: str) -> None:
        """Asks what the server answers."""
        self._url, self.api = url, f"{url}/gradio_api"
        matches = [
            m for c in "aeip" for m in self._get(f"api/search?text={c}&limit=100")["matches"]
        ]
        types = Counter(m["type"] for m in matches)
        self.source = types.most_common(1)[0][0]
        self.nodes = list(dict.fromkeys(m["id"] for m in matches if m["type"] == self.source))
        triple_types = self._get("api/health")["triple_types"]
        _, self.relation, self.target = next(t for t in triple_types if t[0] == self.source)
        self.load_function = self._get("config")["dependencies"][0]["id"]

    def query_api(self, node: str) -> list[str]:
        """Sends a query to the JSON API; returns the ids of the results.

        Raises:
          ValueError: The response is wrong.
          OSError: There is no response, or it is an error.
        """
        body = {**self._triple_type(), "ids": [node], "k": K}
        rows = json.loads(self._post("api/retrieve", body))
        if [row["rank"] for row in rows] != list(range(1, K + 1)) or rows[0]["query"] != node:
            raise ValueError(str(rows)[:200])
        return [row["id"] for row in rows]

    def query_page(self, node: str) -> list[str]:
        """Sends a query as the page's controls do; returns the ids of the results.

        Raises:
          ValueError: The response is an error, or wrong.
          OSError: There is no response.
        """
        html = self.page_html(node)
        ids = ids_of_page(html)
        if len(ids) != K or node not in html:
            raise ValueError(html[:200])
        return ids

    def page_html(self, node: str | None, upload: str | None = None) -> str:
        """Returns what the page shows for a node, or for an uploaded file.

        Raises:
          OSError: There is no response.
        """
        body = {**self._triple_type(), "id": node, "k": K}
        if upload:
            body |= {"mode": "file", "upload": {"path": upload}}
        try:
            return self._post("answer", body)
        except urllib.error.HTTPError as e:
            return e.read().decode()

    def _triple_type(self) -> dict[str, Any]:
        return {"type": self.source, "relation": self.relation, "target": self.target}

    def _get(self, path: str) -> Any:
        with urllib.request.urlopen(f"{self._url}/{path}", timeout=60) as response:
            return json.load(response)

    def _post(self, path: str, body: dict[str, Any]) -> str:
        raw, headers = json.dumps(body).encode(), {"content-type": "application/json"}
        request = urllib.request.Request(f"{self._url}/{path}", raw, headers)
        with urllib.request.urlopen(request, timeout=120) as response:
            return str(response.read().decode())


def ids_of_page(html: str) -> list[str]:
    """Returns the ids of the answers that the page shows."""
    return [unescape(node) for node in re.findall('<tr[^>]* data-id="([^"]*)"', html)]


def _parser() -> argparse.ArgumentParser:
    parser = cli.parser("benchmarks.serve", __doc__)
    parser.add_argument(
        "--url", default="http://127.0.0.1:7860", help="page; default: http://127.0.0.1:7860"
    )
    parser.add_argument("--users", type=int, default=32, help="number of users; default: 32")
    parser.add_argument("--questions", type=int, default=10, help="queries per user; default: 10")
    parser.add_argument(
        "--workdir", help="trained run; starts a server of its own instead of --url"
    )
    parser.add_argument(
        "--steady", type=int, metavar="N", help="send N queries and print the server's memory"
    )
    parser.add_argument(
        "--minutes", type=float, default=0.5, help="duration without --steady; default: 0.5"
    )
    return parser


if __name__ == "__main__":
    cli.run(main)
