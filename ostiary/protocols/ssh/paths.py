"""Paths on the target, in one spelling each.

What policy is asked about is a *canonical* path: absolute, without `.`, `..`, doubled or trailing slashes; `~/…` where it lies in
the account's home and nobody has said where that is. Nothing here looks at a file system: where a link could lead elsewhere,
`ostiary.protocols.ssh.files` asks the target (REALPATH) first.
"""

from __future__ import annotations

import posixpath
import re
from fnmatch import fnmatchcase
from typing import Final

from ostiary.model.connections import ProtectedPath

MAX_PATH: Final = 4096
"""Bytes: Linux' PATH_MAX."""


_PROC: Final = re.compile(r"/+proc/.*/(root|cwd|exe|fd|map_files)(/.*)?|/+dev/+fd/.*", re.DOTALL)
"""proc(5): links that every Linux has, to any place."""


def climbs(path: str) -> bool:
    """Whether it leads where its text does not say: a component is `..`, which hangs on links that nobody has looked at, or a known link."""
    return ".." in path.split("/") or _PROC.fullmatch(path.replace("/./", "/")) is not None


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


def classes_beneath(path: str, protected: tuple[ProtectedPath, ...]) -> tuple[str, ...]:
    """Data classes of what may lie beneath a canonical path, sorted."""
    folder = _folder(path)
    return tuple(sorted({each.data_class for each in protected if _read(each.pattern, folder)}))


def classes_lost(path: str, to: str, protected: tuple[ProtectedPath, ...]) -> tuple[str, ...]:
    """Data classes of what may lie beneath `path`, and would not be protected any more beneath `to`, sorted.

    A pattern that has come as far with either path says the same of whatever follows: `*/.env` of every folder.
    """
    here, there = _folder(path), _folder(to)
    lost = {each.data_class for each in protected if not _read(each.pattern, here) <= _read(each.pattern, there)}
    return tuple(sorted(lost))


def _folder(path: str) -> str:
    return path.rstrip("/") + "/"


def _read(pattern: str, text: str) -> frozenset[int]:
    """How far a pattern of `*` and `?` may have come once it has read all of `text`: places in it. None: nothing that begins so matches."""
    at = _skip(pattern, {0})
    for char in text:
        on = {place + (pattern[place] != "*") for place in at if pattern[place : place + 1] in {"*", "?", char}}
        at = _skip(pattern, on)
    return frozenset(at)


def _skip(pattern: str, places: set[int]) -> set[int]:
    """The places, and those behind stars that match nothing."""
    found = set(places)
    for place in places:
        after = place
        while pattern[after : after + 1] == "*":
            after += 1
            found.add(after)
    return found
