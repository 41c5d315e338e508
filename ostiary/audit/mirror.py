"""A published log, fetched over HTTP: what a verifier needs of it, and no more than its checkpoint says there is.

The checkpoint is checked with a trusted key before its size is believed; a tile, a bundle and the list of checkpoints have a size that
they cannot exceed, and a longer answer is cut off and refused. What is fetched lies in a folder as the log itself does, for
`ostiary.audit.verify` to read. Fetching proves nothing by itself.
"""

from __future__ import annotations

import contextlib
import http.client
import mmap
import os
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from ostiary.audit.tiles import tile_path
from ostiary.audit.tree import WIDTH
from ostiary.audit.verify import MAX_ENTRY, MAX_NOTE, Checkpoint, Fault, Policy
from ostiary.model.errors import OstiaryError

TIMEOUT_SECONDS: Final = 20.0
MAX_ENTRIES: Final = 1 << 32
MAX_BYTES: Final = 1 << 40
_AT_ONCE: Final = 8
_BATCH: Final = 256
"""Files that are asked for before the next are thought of."""
_NOTE_BYTES: Final = 1 << 12
"""A checkpoint with its cosignatures, at most; for the list of them."""


class NotFetched(OstiaryError):
    """The log could not be fetched, or is larger than it may be. The sentence says what."""

    def __init__(self, sentence: str, *, tampered: bool = False) -> None:
        super().__init__(sentence)
        self.tampered = tampered


def mirror(
    url: str, folder: Path, policy: Policy, *, tree_only: bool = False, progress: Callable[[int], None] | None = None
) -> None:
    """Fetch the published log at `url` into an empty folder. Raises `NotFetched`; nothing is believed that the policy does not name."""
    base = url.rstrip("/")
    try:
        parts = urlsplit(base)
    except ValueError:
        raise NotFetched("not a URL") from None
    if parts.scheme not in {"https", "http"} or not parts.hostname or parts.username is not None:
        raise NotFetched("expected an http or https URL without a user")
    note = _get(base, "checkpoint", MAX_NOTE)
    try:
        newest = Checkpoint.parse(note)
        key = policy.logs.get(newest.origin)
        if key is None:
            raise NotFetched(f"no trusted key for {newest.origin}")
        newest.check(key)
    except Fault as problem:
        raise NotFetched(f"the checkpoint is not good: {problem}", tampered=problem.tampered) from None
    if newest.size > MAX_ENTRIES:
        raise NotFetched(f"{newest.size} entries are more than can be fetched")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not tree_only:
        with (folder / "checkpoints").open("wb") as file:
            file.writelines(_parts(base, "checkpoints", _NOTE_BYTES * (newest.size + 64)))
        _cut_behind(folder / "checkpoints", newest.text)
    done = 0
    with ThreadPoolExecutor(_AT_ONCE, "mirror") as pool:
        files = _files(newest.size)
        while some := list(islice(files, _BATCH)):
            for _ in pool.map(lambda file: _fetch(base, folder, *file), some):
                done += 1
                if progress is not None:
                    progress(done)
    (folder / "checkpoint").write_bytes(note)


def _cut_behind(path: Path, text: bytes) -> None:
    """Cut the list of checkpoints behind the one with this text: the log may have grown since that was fetched."""
    if not path.stat().st_size:
        return
    with path.open("r+b") as file:
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as listed:
            at = listed.rfind(b"\n" + text + b"\n") + 1
            end = at + len(text) + 1
            while listed[end : end + 4] == "\u2014 ".encode():
                end = listed.find(b"\n", end) + 1 or len(listed)
            is_there = at or listed[: len(text)] == text
        if is_there:
            file.truncate(end)


def _files(size: int) -> Iterator[tuple[str | int, int, int, int]]:
    """Yield (level, number, width, most bytes) of every tile and bundle of a tree of this size."""
    level = 0
    while count := size >> 8 * level:
        for number in range((count + WIDTH - 1) // WIDTH):
            width = min(WIDTH, count - number * WIDTH)
            yield level, number, width, 32 * WIDTH
            if not level:
                yield "entries", number, width, (MAX_ENTRY + 2) * WIDTH
        level += 1


def _fetch(base: str, folder: Path, level: str | int, number: int, width: int, most: int) -> None:
    # A partial tile may be gone once its full one is there: tlog-tiles, "Partial Tiles".
    for name in dict.fromkeys((tile_path(level, number, width), tile_path(level, number))):
        with contextlib.suppress(FileNotFoundError):
            data = _get(base, name, most)
            path = folder / name
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.write_bytes(data)
            return
    # Not there: the verifier says so, and names the entry.


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: object, **__: object) -> None:
        """Follow nothing: the log is where the caller says."""


_OPENER: Final = urllib.request.build_opener(_NoRedirect)


def _get(base: str, name: str, most: int) -> bytes:
    return b"".join(_parts(base, name, most))


def _parts(base: str, name: str, most: int) -> Iterator[bytes]:
    """Fetch one file. Raises `FileNotFoundError` where there is none, `NotFetched` for anything else."""
    request = urllib.request.Request(f"{base}/{name}")  # noqa: S310 - the scheme was checked
    most = min(most, MAX_BYTES)
    held = 0
    try:
        with _OPENER.open(request, timeout=TIMEOUT_SECONDS) as answer:
            while part := answer.read(min(1 << 20, most + 1 - held)):
                held += len(part)
                if held > most:
                    raise NotFetched(f"{name} is longer than it can be")
                yield part
    except urllib.error.HTTPError as refused:
        with refused:
            if refused.code in {404, 410} and name.startswith("tile/"):
                raise FileNotFoundError(os.strerror(2)) from None
            raise NotFetched(f"{name} cannot be fetched: HTTP {refused.code}") from None
    except (OSError, ValueError, http.client.HTTPException) as problem:
        raise NotFetched(f"{name} cannot be fetched: {problem!r}") from None
