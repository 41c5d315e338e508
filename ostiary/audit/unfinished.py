"""What is open in a log: intents without an outcome, sessions without an end. Kept by the sealer, used by recovery.

Read off the entries' bytes without parsing them: quotes inside JSON strings are escaped, so the patterns below match members of the
entry itself and nothing that a caller wrote. A test feeds them hostile text.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import msgspec

from ostiary.audit.keys import replace

_KIND: Final = re.compile(rb'"id":"([0-9a-f-]{36})","kind":"(intent|outcome|session\.start|session\.end)","mono":')
_REF: Final = re.compile(rb'"ref":"([0-9a-f-]{36})","result":')
_AFTER_ID: Final = b'","kind":"'
_BEFORE_KIND: Final = len('"id":"') + 36
"""Bytes from where `_KIND` begins to `_AFTER_ID`."""
_SESSION_BEGINS: Final = b'"session":"'
_SESSION: Final = re.compile(rb'"session":"([0-9a-f-]{36})",')


class _Saved(msgspec.Struct, frozen=True):
    index: int
    intents: dict[str, str]
    sessions: dict[str, str]


class Unfinished:
    """The open intents (id to session) and sessions (session to the id of its start) of the entries before `index`."""

    def __init__(self, index: int = 0) -> None:
        self.index = index
        self.intents: dict[str, str] = {}
        self.sessions: dict[str, str] = {}

    def see(self, entry: bytes) -> None:
        """Take account of the next entry."""
        self.index += 1
        # Found by a plain search for the end of its id, which is much quicker than a pattern's; then the pattern must fit there.
        at = entry.find(_AFTER_ID)
        while (found := _KIND.match(entry, at - _BEFORE_KIND) if at >= _BEFORE_KIND else None) is None:
            if at < 0:
                return
            at = entry.find(_AFTER_ID, at + 1)
        kind = found[2]
        if kind == b"outcome":
            ref = _REF.search(entry, found.end())
            if ref is not None:
                self.intents.pop(ref[1].decode(), None)
            return
        session = _SESSION.match(entry, max(0, entry.find(_SESSION_BEGINS, found.end())))
        if session is None:
            return
        name = session[1].decode()
        if kind == b"intent":
            self.intents[found[1].decode()] = name
        elif kind == b"session.start":
            self.sessions[name] = found[1].decode()
        else:
            self.sessions.pop(name, None)

    def save(self, path: Path) -> None:
        """Write it down, so that recovery need not start at the beginning."""
        replace(path, msgspec.json.encode(_Saved(self.index, self.intents, self.sessions)))

    @classmethod
    def load(cls, path: Path) -> Unfinished:
        """Read what was written down; nothing, or nothing usable, means: start at the beginning."""
        try:
            saved = msgspec.json.decode(path.read_bytes(), type=_Saved)
        except (OSError, msgspec.MsgspecError):
            return cls()
        if saved.index < 0:
            return cls()
        found = cls(saved.index)
        found.intents, found.sessions = saved.intents, saved.sessions
        return found
