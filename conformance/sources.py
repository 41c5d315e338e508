"""Where the suites come from: Debian's source packages and PyPI's source distributions, into `conformance/work/`.

What neither offers can be named as a folder of unpacked source.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
WORK = HERE / "work"


class CannotFetch(Exception):
    """A suite cannot be had here; the sentence says why."""


def run(command: list[str], cwd: Path, **env: str) -> str:
    """Run to the end; `CannotFetch` with its last words if it fails."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, env=_environment(env))
    if done.returncode:
        raise CannotFetch(f"{' '.join(command[:4])}: {(done.stderr or done.stdout).strip()[-1500:]}")
    return done.stdout


def _environment(extra: dict[str, str]) -> dict[str, str] | None:
    return os.environ | extra if extra else None


NAMED: dict[str, Path] = {}
"""Folders of unpacked source that whoever runs this named, by suite: for what no registry offers."""


def named_source(suite: str) -> Path | None:
    """The folder that was named for a suite (`--source SUITE=FOLDER`), if any."""
    return NAMED.get(suite)


def debian_source(package: str, version: str | None = None) -> Path:
    """Fetch and unpack a source package, of exactly this upstream version if one is given; the folder that it unpacks to.

    The machine's own sources are read as `deb-src` from a list beside; nothing under /etc is touched.
    """
    place = WORK / "debian" / package
    place.mkdir(parents=True, exist_ok=True)
    if found := sorted(path for path in place.iterdir() if path.is_dir() and path.name != "apt"):
        return found[-1]
    options = _apt(place / "apt")
    run(["apt-get", *options, "-q", "update"], place)
    offered = re.findall(r"^Version: (\S+)", run(["apt-cache", *options, "showsrc", package], place), re.MULTILINE)
    wanted = [v for v in offered if version is None or re.sub(r"^\d+:", "", v).startswith(version + "-")] or offered
    for choice in wanted:
        try:
            run(["apt-get", *options, "-q", "source", "--download-only", f"{package}={choice}"], place)
            break
        except CannotFetch as problem:
            last = problem
    else:
        raise CannotFetch(f"Debian offers {package} as {offered}, none of which can be fetched: {last}")
    archives = list(place.glob("*.orig.tar.*"))
    if not archives:
        raise CannotFetch(f"no upstream archive came with {package}")
    return unpack(archives[0], place)


def _apt(state: Path) -> list[str]:
    for folder in ("lists/partial", "cache/archives/partial", "parts"):
        (state / folder).mkdir(parents=True, exist_ok=True)
    lines = []
    for path in (Path("/etc/apt/sources.list"), *Path("/etc/apt/sources.list.d").glob("*.list")):
        if path.exists():
            lines += ["deb-src" + line[3:] for line in path.read_text().splitlines() if re.match(r"deb\s", line)]
    (state / "sources.list").write_text("\n".join(lines) + "\n")
    for path in Path("/etc/apt/sources.list.d").glob("*.sources"):
        text = re.sub(r"(?m)^Types:.*$", "Types: deb-src", path.read_text())
        (state / "parts" / path.name).write_text(text)
    settings = {
        "Dir::Etc::SourceList": state / "sources.list",
        "Dir::Etc::SourceParts": state / "parts",
        "Dir::State::Lists": state / "lists",
        "Dir::Cache": state / "cache",
        "APT::Sandbox::User": "root",
    }
    return [word for key, value in settings.items() for word in ("-o", f"{key}={value}")]


def pypi_source(name: str, version: str) -> Path:
    """Fetch and unpack a source distribution; the folder that it unpacks to."""
    place = WORK / "pypi" / name
    place.mkdir(parents=True, exist_ok=True)
    if found := sorted(path for path in place.iterdir() if path.is_dir()):
        return found[-1]
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", ":all:", "-d", str(place)]
    run([*command, f"{name}=={version}"], place)
    return unpack(next(iter(place.glob("*.tar.gz"))), place)


def unpack(archive: Path, place: Path) -> Path:
    # By tar, which keeps out what would land elsewhere: Python's own way to say so is younger than 3.11.
    run(["tar", "-xf", str(archive)], place)
    with tarfile.open(archive) as tar:
        return place / tar.getnames()[0].split("/")[0]


def virtual_environment(name: str, *packages: str) -> Path:
    """A virtual environment of the suite's own; its Python."""
    place = WORK / "venv" / name
    python = place / "bin" / "python"
    stamp = place / "stamp"
    if not stamp.exists() or stamp.read_text() != " ".join(packages):
        run([sys.executable, "-m", "venv", "--clear", str(place)], HERE)
        run([str(python), "-m", "pip", "install", "-q", *packages], HERE)
        stamp.write_text(" ".join(packages))
    return python
