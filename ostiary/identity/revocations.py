"""Which tokens were revoked: an append-only file that the control process writes and every worker follows.

One JSON object a line, `{"token": <hex SHA-256 of the jti>, "until": <exp>}`. Readers look at the file's size once a
second and read what was added. A file that cannot be read, or a line that cannot, is a refusal of every gateway token
until it is mended: not knowing who was revoked is no reason to let everybody in. Lines whose token has expired are
forgotten, and left out when the file is rewritten at start.
"""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path
from typing import Final

import msgspec

from ostiary.model.errors import NotAdmitted, Reason

LOOK_SECONDS: Final = 0.5
"""Sessions end within a second of the gateway learning that they must: half of it is for the look."""
MAX_FILE: Final = 64 * 1024 * 1024
_HASH: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)


class Line(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One revocation."""

    token: str
    until: int


class Revocations:
    """The revoked tokens, as far as the file says so by now."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[str, int] = {}
        self._offset = 0
        self._inode = 0
        self._looked: float | None = None
        self._fresh: set[str] = set()

    def is_revoked(self, token: str, now: float) -> bool:
        """Whether the token with this id hash was revoked. Raises `NotAdmitted` if that cannot be known."""
        self._look(now)
        return token in self._known

    def poll(self, now: float) -> frozenset[str]:
        """Id hashes revoked since the last poll: sessions whose `auth.token` or `auth.family` is among them end."""
        self._look(now)
        fresh = frozenset(self._fresh)
        self._fresh.clear()
        return fresh

    def revoke(self, token: str, until: int) -> None:
        """Append a revocation and sync it. Raises `OSError`; then nothing may be promised to whoever asked."""
        if _HASH.fullmatch(token) is None:
            raise ValueError("not the hash of a token id")
        line = msgspec.json.encode(Line(token=token, until=until)) + b"\n"
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            before = os.fstat(descriptor).st_size
            if os.write(descriptor, line) != len(line):
                os.ftruncate(descriptor, before)
                raise OSError(errno.ENOSPC, "the revocation was written in part")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        self._looked = None

    def compact(self, now: float) -> None:
        """Rewrite the file without expired lines. For the one writer, at start."""
        self._looked = None
        self._look(now)
        if not self._path.exists():
            return
        temporary = self._path.with_name(f".{self._path.name}.new")
        lines = [msgspec.json.encode(Line(token=t, until=u)) + b"\n" for t, u in self._known.items() if u > now]
        with temporary.open("wb") as file:
            os.fchmod(file.fileno(), 0o600)
            file.writelines(lines)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self._path)
        self._looked = None

    def _look(self, now: float) -> None:
        if self._looked is not None and 0 <= now - self._looked < LOOK_SECONDS:
            return
        try:
            self._read()
        except FileNotFoundError:
            if self._inode:
                raise NotAdmitted(Reason.REVOKED_TOKEN, "the revocation list has vanished") from None
        except (OSError, ValueError, msgspec.MsgspecError) as error:
            kind = type(error).__name__
            raise NotAdmitted(Reason.REVOKED_TOKEN, f"the revocation list cannot be read ({kind})") from None
        self._looked = now
        if len(self._known) > 10_000:
            self._known = {token: until for token, until in self._known.items() if until > now}

    def _read(self) -> None:
        with self._path.open("rb") as file:
            status = os.fstat(file.fileno())
            if status.st_ino != self._inode or status.st_size < self._offset:
                self._inode, self._offset = status.st_ino, 0
            if status.st_size == self._offset:
                return
            if status.st_size > MAX_FILE:
                raise ValueError("revocation list larger than 64 MiB")
            file.seek(self._offset)
            added = file.read(status.st_size - self._offset)
        # A last line without its end is still being written; it is read when it is whole.
        whole = added[: added.rfind(b"\n") + 1]
        lines = [msgspec.json.decode(line, type=Line) for line in whole.splitlines()]
        for line in lines:
            if line.token not in self._known:
                self._fresh.add(line.token)
            self._known[line.token] = max(line.until, self._known.get(line.token, 0))
        self._offset += len(whole)
