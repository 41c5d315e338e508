"""What is open in a log: intents without an outcome, sessions without an end. Kept by the sealer, used by recovery.

Read off the entries' bytes without parsing them (`ostiary.kernel.entries.see`). A test feeds it hostile text.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from ostiary.audit.keys import replace
from ostiary.kernel.entries import see


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
        see(entry, self.intents, self.sessions)

    def see_all(self, entries: list[bytes]) -> None:
        """Take account of the next entries."""
        self.index += len(entries)
        intents, sessions = self.intents, self.sessions
        for entry in entries:
            see(entry, intents, sessions)

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
