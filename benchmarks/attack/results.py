"""What a command has written, without the times and machines in it, so that runs compare equal."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# Written differently by each run of the same command; only the presence of the file counts.
_VOLATILE = re.compile(
    r"(.*/)?(run\.json|embeddings\.json|results\.md|[^/]*\.png|sweep\.(json|md)|train\.log|log\.txt)"
)
# Bytes of a checkpoint and logs; the digests of its arrays are a file of their own.
_SKIPPED = re.compile(
    r"(.*/)?(checkpoints/\d+/(?!digests/metadata|data/metadata).*|tensorboard/.*)"
)
_TIMES = ("triples_per_second", "about", "seconds", "step_seconds")


def contents(folder: Path) -> dict[str, bytes]:
    """Returns the files of a folder, or a single file, by name."""
    if folder.is_file():
        return {"": _content(folder.name, folder)}
    files = {str(p.relative_to(folder)): p for p in folder.rglob("*") if p.is_file()}
    return {k: _content(k, p) for k, p in files.items() if not _SKIPPED.fullmatch(k)}


def differences(found: Mapping[str, bytes], expected: Mapping[str, bytes]) -> str:
    """Names the files that differ; empty if none does."""
    names = found.keys() | expected.keys()
    different = sorted(k for k in names if found.get(k) != expected.get(k))
    more = f" and {len(different) - 3} more" if len(different) > 3 else ""
    return " ".join(name or "the file" for name in different[:3]) + more


def _content(name: str, path: Path) -> bytes:
    if _VOLATILE.fullmatch(name):
        return b""
    raw = path.read_bytes()
    try:
        if name.endswith("metrics.jsonl"):
            return json.dumps([_timeless(json.loads(x)) for x in raw.splitlines()]).encode()
        if name.endswith(".json"):
            return json.dumps(_timeless(json.loads(raw))).encode()
    except ValueError:
        pass
    return raw


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _timeless(v) for k, v in value.items() if k not in _TIMES}
    return [_timeless(v) for v in value] if isinstance(value, list) else value
