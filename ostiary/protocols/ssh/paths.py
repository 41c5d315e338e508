"""Paths on the target, in one spelling each.

What policy is asked about is a *canonical* path: absolute, without `.`, `..`, doubled or trailing slashes; `~/…` where it lies in
the account's home and nobody has said where that is. Nothing here looks at a file system: where a link could lead elsewhere,
`ostiary.protocols.ssh.files` asks the target (REALPATH) first.
"""

from __future__ import annotations

import posixpath
from fnmatch import fnmatchcase
from typing import Final

from ostiary.model.connections import ProtectedPath

MAX_PATH: Final = 4096
"""Bytes: Linux' PATH_MAX."""


def climbs(path: str) -> bool:
    """Whether a component is `..`: where that leads hangs on links that nobody has looked at."""
    return ".." in path.split("/")


def canonical(path: str, cwd: str, home: str | None) -> str:
    """`path` as a process in `cwd` means it; `home` replaces `~`, where it is known. Resolves `..` by text alone."""
    if path == "~" or path.startswith("~/"):
        path = (home or "~") + path[1:]
    elif not path.startswith("/"):
        path = f"{cwd}/{path}"
    if path.startswith("~"):
        rest = posixpath.normpath("/" + path[1:].lstrip("/"))
        return "~" if rest == "/" else "~" + rest
    return "/" + posixpath.normpath(path).lstrip("/")


def classes_of(path: str, protected: tuple[ProtectedPath, ...]) -> tuple[str, ...]:
    """Data classes that a canonical path is protected as, sorted."""
    return tuple(sorted({each.data_class for each in protected if fnmatchcase(path, each.pattern.replace("[", "[[]"))}))
