"""npm packages for tests: servers and SDKs that are not ours, in the versions that a test names.

`scripts/setup.sh` sees to node and npm. A registry that cannot be reached is nobody's fault, and the one reason to leave such a test out;
whatever else goes wrong with an installation is a failure.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Final

SECONDS: Final = 240.0
_UNREACHABLE: Final = re.compile(
    r"\b(ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ETIMEDOUT|ENETUNREACH|EHOSTUNREACH|ERR_SOCKET_TIMEOUT|EIDLETIMEOUT|ENOTCACHED|E50[0-9]|E429)\b"
)


class NoRegistry(Exception):
    """The registry cannot be reached."""


def install(folder: Path, *packages: str) -> str:
    """Install packages, each `name@version`, into a folder; where `node` is. Raises `NoRegistry`; `AssertionError` with what npm said."""
    npm, node = shutil.which("npm"), shutil.which("node")
    assert npm is not None, "npm is not installed: scripts/setup.sh names it"
    assert node is not None, "node is not installed: scripts/setup.sh names it"
    for package in packages:
        assert re.fullmatch(r"@?[a-z0-9/-]+@\d+\.\d+\.\d+", package), f"{package} names no exact version: what is tested would change by itself"
    command = [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefer-offline", "--fetch-retries=1", *packages]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise NoRegistry(f"npm installed nothing within {SECONDS:.0f} s") from None
    if done.returncode != 0 and (found := _UNREACHABLE.search(done.stderr)) is not None:
        raise NoRegistry(f"npm reaches no registry ({found[0]})")
    assert done.returncode == 0, done.stderr
    return node
