"""What was spent under each mandate that bounds effects: one file for every worker of this machine, in SQLite.

Counting is one transaction that looks at every budget and spends of all or of none, so sessions that race for the last row, in
whichever worker, get it once. It is not synced: it outlives a killed worker, and of a power cut it loses the moments that the kernel
had not written. What cannot be counted is not done.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from ostiary.model.commands import Count
from ostiary.model.errors import ConfigError, NotAdmitted, Reason
from ostiary.model.restraints import Missing

KEEP_SECONDS: Final = 32 * 24 * 3600
"""How long what was spent is kept after the last time: longer than anything that a mandate stands in can be good."""
BUSY_SECONDS: Final = 1.0
"""How long another worker is waited for; its transactions take some ten microseconds."""
MAX_OBJECTS: Final = 100_000
"""Different things under one mandate: no more can be told apart."""
_TABLES: Final = (
    """CREATE TABLE IF NOT EXISTS spent (
       mandate TEXT PRIMARY KEY, calls INTEGER NOT NULL, objects INTEGER NOT NULL, rows INTEGER NOT NULL, bytes INTEGER NOT NULL,
       at INTEGER NOT NULL) STRICT, WITHOUT ROWID""",
    "CREATE TABLE IF NOT EXISTS touched (mandate TEXT, object BLOB, PRIMARY KEY (mandate, object)) STRICT, WITHOUT ROWID",
)


class Ledger:
    """The counts. Blocks for microseconds, and never for longer than `BUSY_SECONDS`."""

    def __init__(self, file: Path, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        try:
            os.close(os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            self._connection = sqlite3.connect(file, timeout=BUSY_SECONDS, isolation_level=None)
            for pragma in ("journal_mode = WAL", "synchronous = OFF"):
                self._connection.execute(f"PRAGMA {pragma}")
            for table in _TABLES:
                self._connection.execute(table)
            self.forget()
        except (OSError, sqlite3.Error) as exc:
            raise ConfigError("gateway.state_dir", f"what mandates have spent cannot be kept in {file}: {exc}") from None

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

    def forget(self) -> None:
        """Drop what no token can speak of any more."""
        before = int(self._clock()) - KEEP_SECONDS
        with self._connection:
            self._connection.execute("BEGIN IMMEDIATE")
            old = "SELECT mandate FROM spent WHERE at < ?"
            self._connection.execute(f"DELETE FROM touched WHERE mandate IN ({old})", (before,))  # noqa: S608 - our own words
            self._connection.execute("DELETE FROM spent WHERE at < ?", (before,))

    def count(self, asked: Count) -> Missing | None:
        """See `Count`. Raises `NotAdmitted` where what is left cannot be known."""
        try:
            with self._connection:
                self._connection.execute("BEGIN IMMEDIATE")
                missing = self._count(asked)
                if missing is not None and not asked.came:
                    self._connection.rollback()
                return missing
        except sqlite3.Error as exc:
            raise NotAdmitted(Reason.BUDGET_SPENT, f"what the mandate has left is not known now ({exc})") from None

    def _count(self, asked: Count) -> Missing | None:
        missing: Missing | None = None
        for budget in asked.budgets:
            new = self._touch(budget.id, asked.objects) if budget.objects is not None else 0
            add = {"calls": asked.calls, "objects": new, "rows": asked.rows, "bytes": asked.bytes}
            spent = self._spend(budget.id, add)
            for what, more in add.items():
                most = getattr(budget, what)
                if most is None:
                    continue
                # Rows and bytes come later: what would bring some is not begun with nothing left.
                is_beyond = spent[what] > most or (not asked.came and what in {"rows", "bytes"} and spent[what] >= most)
                if is_beyond or (more and what == "objects" and spent[what] > MAX_OBJECTS):
                    missing = missing or Missing(budget.id, what, most)
        return missing

    def _spend(self, mandate: str, add: dict[str, int]) -> dict[str, int]:
        row = self._connection.execute(
            """INSERT INTO spent VALUES (:mandate, :calls, :objects, :rows, :bytes, :at) ON CONFLICT (mandate) DO UPDATE SET
               calls = calls + :calls, objects = objects + :objects, rows = rows + :rows, bytes = bytes + :bytes, at = :at
               RETURNING calls, objects, rows, bytes""",
            add | {"mandate": mandate, "at": int(self._clock())},
        ).fetchone()
        return dict(zip(add, row, strict=True))

    def _touch(self, mandate: str, objects: tuple[bytes, ...]) -> int:
        return sum(
            self._connection.execute("INSERT OR IGNORE INTO touched VALUES (?, ?)", (mandate, each)).rowcount for each in objects
        )
