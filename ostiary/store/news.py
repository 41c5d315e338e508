"""What workers must know: revocations, answers, grants, isolations. Durable first, then told.

A piece of news has a topic, a key and a body; a later one with the same topic and key takes its place, and one whose body is
None takes it back. Sequence numbers only grow, so a worker that was away asks for what came after the last one it heard. News
is forgotten when its `until` has passed, by everybody, so the board is bounded by what is in force.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from ostiary.store.database import Area, Database, StoreFailed, Work

MAX_NEWS: Final = 200_000
"""Pieces in force at once; one more is refused: that is 200,000 revoked tokens that have not expired."""
MAX_BODY: Final = 64 * 1024
"""Bytes of one body as JSON."""
FOREVER: Final = 1 << 40
"""`until` of what holds until it is taken back."""

AREA: Final = Area(
    "news",
    (
        (
            """CREATE TABLE news (seq INTEGER PRIMARY KEY AUTOINCREMENT, topic TEXT NOT NULL, key TEXT NOT NULL,
               body BLOB, until INTEGER NOT NULL, UNIQUE (topic, key)) STRICT""",
        ),
    ),
)


Piece = tuple[str, str, dict[str, Any] | None, int]
"""Topic, key, body, until: see `News`."""


class News(msgspec.Struct, frozen=True):
    """One thing that workers know, or no longer do."""

    seq: int
    topic: str
    key: str
    body: dict[str, Any] | None
    """None: it was taken back."""
    until: int
    """Seconds since 1970 after which it no longer matters."""


class NewsBoard:
    """The news in force, in memory and in the database. Lives in the control process."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock
        self._known: dict[tuple[str, str], News] = {}
        self._told: list[Callable[[News], object]] = []
        self.latest = 0

    async def load(self) -> None:
        """Read what is in force. Once, before anything else."""

        def work(connection: sqlite3.Connection) -> list[tuple[int, str, str, bytes | None, int]]:
            connection.execute("DELETE FROM news WHERE until <= ?", (int(self._clock()),))
            return connection.execute("SELECT seq, topic, key, body, until FROM news ORDER BY seq").fetchall()

        for seq, topic, key, body, until in await self._database.transact(work):
            self._keep(News(seq, topic, key, None if body is None else msgspec.json.decode(body), until))

    def listen(self, told: Callable[[News], object]) -> None:
        """Call `told` with every piece from now on, in order, once it is durable. It must not wait."""
        self._told.append(told)

    def since(self, seq: int) -> list[News]:
        """What is in force, or was taken back, after `seq`, in order."""
        return sorted((news for news in self._known.values() if news.seq > seq), key=lambda news: news.seq)

    def lookup(self, topic: str, key: str) -> News | None:
        """The piece in force under this topic and key."""
        found = self._known.get((topic, key))
        return None if found is None or found.body is None or found.until <= self._clock() else found

    def all(self, topic: str) -> list[News]:
        """Every piece in force under this topic, in order."""
        now = self._clock()
        held = (n for n in self._known.values() if n.topic == topic and n.body is not None and n.until > now)
        return sorted(held, key=lambda news: news.seq)

    async def tell(self, topic: str, key: str, body: dict[str, Any] | None, until: int) -> News:
        """Make a piece of news durable and tell it to whoever listens. Raises `StoreFailed`; then nobody heard it."""
        (news,) = await self.tell_all([(topic, key, body, until)])
        return news

    async def tell_all(self, pieces: Sequence[Piece], beside: Work[object] | None = None) -> list[News]:
        """Tell several pieces as one transaction, together with the changes that `beside` makes."""

        def work(connection: sqlite3.Connection) -> Sequence[Piece]:
            if beside is not None:
                beside(connection)
            return pieces

        return await self.change(work)

    async def change(self, work: Work[Sequence[Piece]]) -> list[News]:
        """Run `work` as a transaction, and tell the pieces that it returns, durable in the same one."""

        def whole(connection: sqlite3.Connection) -> list[News]:
            return [_write(connection, piece) for piece in self._bounded(work(connection))]

        told = await self._database.transact(whole)
        for news in told:
            self._keep(news)
            for tell in self._told:
                tell(news)
        return told

    def _bounded(self, pieces: Sequence[Piece]) -> Sequence[Piece]:
        if len(self._known) + len(pieces) > MAX_NEWS:
            now = self._clock()
            if sum(news.until > now for news in list(self._known.values())) + len(pieces) > MAX_NEWS:
                raise StoreFailed(f"more than {MAX_NEWS} revocations and the like are in force")
        return pieces

    def _keep(self, news: News) -> None:
        self._known[news.topic, news.key] = news
        self.latest = max(self.latest, news.seq)
        if len(self._known) > MAX_NEWS:
            now = self._clock()
            self._known = {key: held for key, held in self._known.items() if held.until > now}


def held(connection: sqlite3.Connection, topic: str, key: str) -> dict[str, Any] | None:
    """The body under this topic and key, as a transaction sees it; None: there is none, or it was taken back."""
    found = connection.execute("SELECT body FROM news WHERE topic = ? AND key = ? AND body IS NOT NULL", (topic, key)).fetchone()
    return None if found is None else msgspec.json.decode(found[0], type=dict[str, Any])


def _write(connection: sqlite3.Connection, piece: Piece) -> News:
    topic, key, body, until = piece
    encoded = None if body is None else msgspec.json.encode(body)
    if encoded is not None and len(encoded) > MAX_BODY:
        raise StoreFailed(f"news of more than {MAX_BODY} bytes")
    # REPLACE takes a fresh sequence number, so whoever asks for what came later gets it.
    done = connection.execute(
        "INSERT OR REPLACE INTO news (topic, key, body, until) VALUES (?, ?, ?, ?)", (topic, key, encoded, until)
    )
    return News(int(done.lastrowid or 0), topic, key, body, until)
