"""Download the packages that carry the sources, and read files out of them without installing."""

import importlib.util
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from bridge_jax.data.files import sha256_of_file
from bridge_jax.errors import InputError


@dataclass(frozen=True)
class Package:
    """A package, and the part of the graph that it carries.

    Attributes:
      part: of the graph.
      source: who made the data.
      licence: of the data.
      redistributable: whether that licence lets the graph be passed on.
      name: of the package.
      version: of the package; data and checksum are those of this version.
      registry: `PyPI` or `Debian`.
      file: as the registry names it.
      sha256: of the file.
      package_licence: of the package around the data.
    """

    part: str
    source: str
    licence: str
    redistributable: bool
    name: str
    version: str
    registry: str
    file: str
    sha256: str
    package_licence: str

    def describe(self) -> dict[str, str]:
        """The entry of a manifest's `sources`."""
        through = f"{self.source}, through {self.name} {self.version} ({self.registry})"
        return {"part": self.part, "source": through, "licence": self.licence}


def fetch(package: Package, cache: Path) -> Path:
    """Download a package with its registry's own client, unless the cache has it.

    Args:
      package: what to fetch.
      cache: the folder to keep it in; a file that was put there by hand will do.

    Returns:
      The file, its checksum checked.

    Raises:
      InputError: it cannot be downloaded, or is another file.
    """
    path = cache / package.file
    if not path.is_file():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as folder:
            _download(package, Path(folder))
            found = Path(folder) / package.file
            if not found.is_file():
                there = ", ".join(p.name for p in Path(folder).iterdir()) or "nothing"
                raise InputError(f"{package.name}: expected {package.file}, got {there}")
            found.rename(path)
    sha256 = sha256_of_file(path)
    if sha256 != package.sha256:
        raise InputError(
            f"{path}: sha256 {sha256[:12]}… where {package.name} {package.version} has "
            f"{package.sha256[:12]}…; remove the file to download it again"
        )
    return path


def _download(package: Package, folder: Path) -> None:
    if package.registry == "PyPI":
        client, wanted = "pip", f"{package.name}=={package.version}"
        command = [*_pip(), "download", "--no-deps", "--only-binary", ":all:", wanted]
    else:
        client, wanted = "apt-get", f"{package.name}={package.version}"
        command = [client, "download", wanted]
    print(f"downloading {wanted} ({package.registry})", file=sys.stderr)
    remedy = f"put {package.file} into the cache by hand"
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    except FileNotFoundError as e:
        raise InputError(f"{wanted}: this needs {client}; {remedy}") from e
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise InputError(f"{wanted}: {client} failed ({reason}); {remedy}")


def _pip() -> list[str]:
    if importlib.util.find_spec("pip"):
        return [sys.executable, "-m", "pip"]
    return [shutil.which("pip") or "pip"]


def read_member(path: Path, name: str) -> bytes:
    """Read one file out of a wheel.

    Raises:
      InputError: the wheel is damaged or does not hold it.
    """
    try:
        with zipfile.ZipFile(path) as wheel:
            return wheel.read(name)
    except (KeyError, EOFError, zlib.error, zipfile.BadZipFile) as e:
        raise InputError(f"{path}: cannot read {name}: {e}") from e


def read_text(path: Path, name: str) -> str:
    """Read one UTF-8 file out of a wheel.

    Raises:
      InputError: the wheel is damaged or does not hold it, or it is no text.
    """
    try:
        return read_member(path, name).decode()
    except UnicodeDecodeError as e:
        raise InputError(f"{path}: {name} is not UTF-8: {e}") from e


def read_members(path: Path, names: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    """Read some files out of a Debian package, in one pass.

    Args:
      path: the package: an `ar` archive that holds a compressed tar archive of files.
      names: paths in it, as `usr/share/…`.

    Yields:
      Name and content, in the order of the package.

    Raises:
      InputError: the package is damaged or lacks one of them.
    """
    left = set(names)
    try:
        with open(path, "rb") as handle:
            _seek_data(handle)
            with tarfile.open(fileobj=handle, mode="r|*") as files:
                for member in files:
                    name = member.name.removeprefix("./")
                    if name in left and (content := files.extractfile(member)) is not None:
                        left.remove(name)
                        yield name, content.read()
                        if not left:
                            return
    except (tarfile.TarError, EOFError, ValueError) as e:
        raise InputError(f"{path}: not a Debian package, or damaged: {e}") from e
    raise InputError(f"{path}: lacks {', '.join(sorted(left))}")


def _seek_data(handle: IO[bytes]) -> None:
    """Stand at the start of the `data.tar.*` of an `ar` archive."""
    if handle.read(8) != b"!<arch>\n":
        raise ValueError("no ar archive")
    while len(header := handle.read(60)) == 60:
        if header.startswith(b"data.tar"):
            return
        size = int(header[48:58])
        handle.seek(size + size % 2, 1)
    raise ValueError("no data.tar in it")
