"""Parts of `benchmarks.serve`: what the web server does over many queries, and under attack.

`run_endurance` lets clients do at the same time what a public server meets:

- queries over the JSON API and as the page sends them, all of whose results are compared with those
  of the Python API;
- uploads of an embedding, whose results are compared, too; of files that are none; of files that
  are too large; and uploads that a page of another site sends;
- requests that are damaged, or for another host;
- clients that hang up within a header, within a body, or before they read their answer.

Meanwhile the run that the server was started with is removed, damaged and put back.
"""

import io
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from html import unescape
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import numpy as np

import bridge_jax
from bridge_jax.formatting import text_table

NUM_NODES = 12
_REPLACE_EVERY = 3.0  # seconds


class Server(NamedTuple):
    """A running server.

    Attributes:
      url: Address of the page.
      process: Its process.
      temp: Folder of its temporary files.
      log: File of what it prints.
    """

    url: str
    process: subprocess.Popen[bytes]
    temp: Path
    log: Path

    def rss(self) -> float:
        """Returns the resident memory in MB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) / 1e3


@contextmanager
def running_server(workdir: Path, temp: Path) -> Iterator[Server]:
    """Starts a server and waits until it answers; ends it by SIGTERM."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    url, log = f"http://127.0.0.1:{port}", temp.parent / "log"
    command = [sys.executable, "-m", "bridge_jax.serve", "--workdir", str(workdir)]
    with open(log, "wb") as handle:
        process = subprocess.Popen(
            [*command, "--port", str(port), "--upload-limit", "1"],
            stdout=handle,
            stderr=subprocess.STDOUT,
            env={**os.environ, "TMPDIR": str(temp)},
        )
    try:
        while url not in log.read_text():
            if process.poll() is not None:
                raise RuntimeError(log.read_text())
            time.sleep(0.2)
        yield Server(url, process, temp, log)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def run_steady(
    workdir: str, num_users: int, num_queries: int, make_client: Any, run_users: Any
) -> int:
    """Sends many queries, half of them as the page does, and prints the server's memory.

    Args:
      workdir: Trained run.
      num_users: Number of threads.
      num_queries: Number of queries.
      make_client: `Client` of `benchmarks.serve`.
      run_users: `run_users` of `benchmarks.serve`.

    Returns:
      1 if a response was wrong, else 0.
    """
    failures: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        temp = Path(folder) / "temp"
        temp.mkdir()
        with running_server(Path(workdir), temp) as server:
            client = make_client(server.url)
            rows = [[0, server.rss(), 0.0]]
            start = time.monotonic()
            while rows[-1][0] < num_queries:
                per_user = max(num_queries // 20 // num_users, 1)
                for query in (client.query_api, client.query_page):
                    run_users(query, client.nodes, num_users, per_user, failures)
                num_sent = int(rows[-1][0] + 2 * per_user * num_users)
                rows.append([num_sent, server.rss(), time.monotonic() - start])
    print(f"{len(failures)} responses wrong or missing")
    print(text_table(rows, ("queries", "memory, MB", "seconds")))
    return 1 if failures else 0


def run_endurance(workdir: str, num_clients: int, minutes: float, make_client: Any) -> int:
    """Runs all kinds of clients at once; prints what they got and the server's memory.

    Args:
      workdir: Trained run.
      num_clients: Number of threads; an eighth of them each upload, hang up and send damaged
        requests.
      minutes: Duration.
      make_client: `Client` of `benchmarks.serve`.

    Returns:
      1 if an answer was wrong, something was left behind, or the server printed a traceback.
    """
    with tempfile.TemporaryDirectory(prefix="serve-") as folder:
        temp, run = Path(folder) / "temp", Path(folder) / "run"
        temp.mkdir()
        shutil.copytree(workdir, run)
        with running_server(run, temp) as server:
            clients = Clients(server, workdir, make_client)
            rows = clients.run(num_clients, minutes, lambda: _replace(run, Path(workdir)))
        left = sorted(p.name for p in temp.iterdir())
        log, code = server.log.read_text(), server.process.returncode
    header = ("minute", "memory, MB", "answers", "wrong", "refused", "not refused", "hung up")
    print(text_table(rows, header))
    settled = [row[1] for row in rows if row[0] >= min(1.0, minutes / 2)]
    print(
        f"memory {min(settled):,.0f} to {max(settled):,.0f} MB after the first "
        f"{min(1.0, minutes / 2):g} minutes; run replaced {clients.counts['replaced']} times; exit "
        f"code {code}; left behind: {left or 'nothing'}; {log.count('Traceback')} tracebacks in "
        f"{len(log.splitlines()):,} lines of log"
    )
    for failure in clients.failures[:5]:
        print(failure, file=sys.stderr)
    wrong = clients.counts["wrong"] + clients.counts["not refused"]
    return 1 if wrong or left or code or "Traceback" in log else 0


def _replace(run: Path, original: Path) -> None:
    """Removes the run, puts a damaged one in its place, and then the original."""
    shutil.rmtree(run)
    time.sleep(_REPLACE_EVERY / 3)
    shutil.copytree(original, run)
    for path in run.rglob("*"):
        if path.is_file():
            path.write_bytes(b"damaged")
    time.sleep(_REPLACE_EVERY / 3)
    shutil.rmtree(run)
    shutil.copytree(original, run)


class Clients:
    """Threads that send queries, uploads and damaged requests, and hang up.

    Attributes:
      counts: Number of answers, of wrong ones, of refusals, of requests that should have been
        refused, and of clients that hung up.
      failures: Descriptions of what went wrong.
    """

    def __init__(self, server: Server, workdir: str, make_client: Any) -> None:
        """Computes the right answers with the Python API."""
        self.counts: Counter[str] = Counter()
        self.failures: list[str] = []
        self._server, self._client = server, make_client(server.url)
        self._address = (urlsplit(server.url).hostname or "", urlsplit(server.url).port or 0)
        self._end, self._lock = 0.0, threading.Lock()
        client, bridge = self._client, bridge_jax.load(workdir)
        triple_type = (client.source, client.relation, client.target)
        table = bridge.experiment.tables[client.source]  # type: ignore[union-attr]
        self._expected, self._files = {}, {}
        for node in client.nodes[:NUM_NODES]:
            x = np.asarray(table.stored[list(table.ids).index(node)], np.float32)
            results = bridge.retrieve(*triple_type, ids=[node], k=10)
            self._expected[node] = [result.id for result in results]
            results = bridge.retrieve(*triple_type, embedding=x, k=10)
            self._files[node] = _npy(x), [result.id for result in results]

    def run(
        self, num_clients: int, minutes: float, replace: Callable[[], None]
    ) -> list[list[float]]:
        """Runs all clients; returns a row of memory and counts for each tenth of the time."""
        start = time.monotonic()
        self._end = start + 60 * minutes
        others = [self._upload, self._hang_up, self._send_damaged]
        kinds = [
            others[i // 2] if i < 6 else self._query for i in (n % 16 for n in range(num_clients))
        ]
        threads = [threading.Thread(target=self._repeat, args=(f, i)) for i, f in enumerate(kinds)]
        threads.append(threading.Thread(target=self._repeat_replacement, args=(replace,)))
        for thread in threads:
            thread.start()
        rows = []
        for tenth in range(1, 11):
            time.sleep(max(0, start + 6 * minutes * tenth - time.monotonic()))
            names = ("answers", "wrong", "refused", "not refused", "hung up")
            counts = [float(self.counts[name]) for name in names]
            rows.append([(time.monotonic() - start) / 60, self._server.rss(), *counts])
        for thread in threads:
            thread.join()
        return [[row[0], row[1], *map(int, row[2:])] for row in rows]

    def _repeat(self, act: Callable[[random.Random], None], seed: int) -> None:
        rng = random.Random(seed)
        while time.monotonic() < self._end:
            try:
                act(rng)
            except (OSError, ValueError) as e:
                self._count("wrong", f"{act.__name__}: {e!r}")

    def _repeat_replacement(self, replace: Callable[[], None]) -> None:
        while time.monotonic() < self._end:
            replace()
            self._count("replaced")
            time.sleep(_REPLACE_EVERY / 3)

    def _count(self, name: str, failure: str = "") -> None:
        with self._lock:
            self.counts[name] += 1
            if failure:
                self.failures.append(failure)

    def _check(self, ids: list[str], expected: list[str], query: str) -> None:
        is_right = ids == expected
        self._count("answers")
        if not is_right:
            self._count("wrong", f"{query}: {ids}, expected {expected}")

    def _query(self, rng: random.Random) -> None:
        node = rng.choice(list(self._expected))
        query = self._client.query_page if rng.random() < 0.3 else self._client.query_api
        self._check(query(node), self._expected[node], node)

    def _upload(self, rng: random.Random) -> None:
        node = rng.choice(list(self._files))
        content, expected = self._files[node]
        match rng.randrange(4):
            case 0:
                html = self._client.page_html(None, self._send_file("new.npy", content))
                ids = [unescape(node) for node in re.findall('<tr[^>]* data-id="([^"]*)"', html)]
                self._check(ids, expected, f"upload of {node}")
            case 1:
                x = np.load(io.BytesIO(content))
                x[rng.randrange(len(x))] = rng.choice([np.nan, np.inf])
                path = self._send_file(
                    "nan.npy", rng.choice([_npy(x), content[:-9], b"\x80\x04N."])
                )
                html = self._client.page_html(None, path)
                self._expect('{"error"' in html, f"no refusal of a damaged file: {html[:99]}")
            case 2:
                self._expect_status(413, "upload", *_form("large.npy", bytes(2**20 + 1)))
            case _:
                body, headers = _form("foreign.npy", content)
                headers["origin"] = "http://evil.example"
                self._expect_status(403, "upload", body, headers)

    def _send_file(self, name: str, content: bytes) -> str:
        body, headers = _form(name, content)
        request = urllib.request.Request(f"{self._client.api}/upload", body, headers)
        with urllib.request.urlopen(request, timeout=120) as response:
            return str(json.load(response)[0])

    def _send_damaged(self, rng: random.Random) -> None:
        kind = {"content-type": "application/json"}
        status, path, body, headers = rng.choice(
            [
                (422, "call/retrieve", b"{", kind),
                (400, "queue/join", b'{"data": [], "fn_index": 99, "session_hash": "x"}', kind),
                (404, "vibe-edit", b"{}", kind),
                (421, "call/retrieve", b"{}", {**kind, "host": "rebound.example"}),
                (413, "call/retrieve", bytes(2**20 + 1), kind),
            ]
        )
        self._expect_status(status, path, body, headers)

    def _expect_status(self, status: int, path: str, body: bytes, headers: dict[str, str]) -> None:
        request = urllib.request.Request(f"{self._client.api}/{path}", body, headers)
        try:
            with urllib.request.urlopen(request, timeout=120) as response:
                found, text = response.status, response.read()
        except urllib.error.HTTPError as e:
            found, text = e.code, e.read()
        is_line = text.count(b"\n") == 1 and b"Traceback" not in text
        self._expect(found == status and is_line, f"{path}: {found} {text[:99]!r}, not {status}")

    def _expect(self, is_refused: bool, failure: str) -> None:
        self._count("refused" if is_refused else "not refused", "" if is_refused else failure)

    def _hang_up(self, rng: random.Random) -> None:
        head = "POST /gradio_api/{} HTTP/1.1\r\nhost: localhost\r\ncontent-type: {}\r\n"
        body, headers = _form("half.npy", bytes(50_000))
        upload = head.format("upload", headers["content-type"]).encode()
        node = rng.choice(list(self._expected))
        client = self._client
        data = [client.source, client.relation, client.target, node, 10, "mark"]
        session = f"{rng.random():.12f}"
        event = {"data": data, "fn_index": client.load_function, "session_hash": session}
        join = json.dumps(event).encode()
        length = b"content-length: %d\r\n\r\n"
        queue = head.format("queue/join", "application/json").encode() + length % len(join)
        stream = (
            f"GET /gradio_api/queue/data?session_hash={session} HTTP/1.1\r\nhost: localhost\r\n\r\n"
        )
        with socket.create_connection(self._address, timeout=120) as connection, suppress(OSError):
            match rng.randrange(4):
                case 0:
                    connection.sendall(upload[: rng.randrange(len(upload))])
                case 1:
                    connection.sendall(
                        upload + length % len(body) + body[: rng.randrange(len(body))]
                    )
                case 2:
                    connection.sendall(queue + join)
                case _:
                    connection.sendall(queue + join)
                    connection.recv(1000)
                    connection.sendall(stream.encode())
                    connection.recv(100)
            time.sleep(rng.choice([0, 0.05, 0.3]))
        self._count("hung up")


def _npy(x: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, x)
    return file.getvalue()


def _form(name: str, content: bytes) -> tuple[bytes, dict[str, str]]:
    """Returns the body and the headers of a form with one file."""
    head = f'--limit\r\ncontent-disposition: form-data; name="files"; filename="{name}"\r\n\r\n'
    body = head.encode() + content + b"\r\n--limit--\r\n"
    return body, {"content-type": "multipart/form-data; boundary=limit"}
