"""A connection of the gateway's own to a target: simple queries in, rows out. The catalogue is read over it.

It logs in as sessions do (`ostiary.upstream`), so a target that lies in its login, or asks for a billion rounds of hashing, gets no
further here than there. Values come in text format and become Python's by their type: integers, booleans, JSON, and arrays
of integers; everything else stays text.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import orjson

from ostiary.kernel.frames import Inbox
from ostiary.model.connections import PostgresConnection
from ostiary.model.errors import Misdeed, NotAdmitted, OstiaryError, PeerMisbehaved, Reason
from ostiary.model.secrets import Secret
from ostiary.protocols.postgres import decode, encode
from ostiary.protocols.postgres import messages as m
from ostiary.upstream import Target, open_target

MAX_ANSWER: Final = 512 << 20
"""Bytes of one answer. The catalogue of 100,000 tables has about 100 MB."""
HOLD: Final = 16 << 20
MAX_SAME: Final = 4096
"""Bytes of an answer that is remembered: a glance at the catalogue has some 300."""

SETTINGS: Final = {
    "application_name": "ostiary-catalogue",
    "client_encoding": "UTF8",
    "default_transaction_read_only": "on",
    "statement_timeout": "30s",
    "lock_timeout": "5s",
}
DATA_ROW: Final = 0x44
READY: Final = b"Z\x00\x00\x00\x05"
"""ReadyForQuery, but for its last byte, the state of the transaction."""
READY_SIZE: Final = 6

Rows = list[dict[str, Any]]


def _integers(value: str) -> list[int]:
    # A bound other than 1 stands in front: `[0:1]={23,25}`.
    return [int(each) for each in value[value.index("{") + 1 : -1].split(",") if each]


_CONVERSIONS: Final[Mapping[int, Callable[[str], Any]]] = {
    16: lambda value: value == "t",
    20: int, 21: int, 23: int, 26: int,  # int8 int2 int4 oid
    114: orjson.loads,
    1005: _integers, 1007: _integers, 1016: _integers, 1028: _integers,  # int2[] int4[] int8[] oid[]
}  # fmt: skip


class QueryFailed(OstiaryError):
    """The target answered a query of the gateway's own with an error."""


class Side(asyncio.Protocol):
    """One connection. One query at a time."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._inbox = Inbox(HOLD, from_client=False)
        self._answer: asyncio.Future[list[Rows]] | None = None
        self._answers: list[Rows] = []
        self._awaited = 0
        self._asked: tuple[str, ...] = ()
        """The statements that were put last, and what they were on the wire."""
        self._question = b""
        self._raw = bytearray()
        """What has come of their answer; more than `MAX_SAME` of it is not kept."""
        self._told = b""
        """The whole answer that came to them the last time; empty: it is not known, or they are put for the first time."""
        self._said: list[Rows] = []
        self._is_same = False
        """What has come so far is what came the last time, so it has not been read yet."""
        self._columns: tuple[tuple[str, Callable[[str], Any]], ...] = ()
        self._rows: Rows = []
        self._size = 0
        self._error: QueryFailed | None = None
        self._lost = False
        target.attach(self)

    @classmethod
    async def open(cls, connection: PostgresConnection, password: Secret | None) -> Side:
        """Dial and log in; the session is read-only. Raises `NotAdmitted`."""
        return cls(await open_target(connection, password, SETTINGS))

    @property
    def is_closed(self) -> bool:
        """Whether it can be used no more."""
        return self._lost

    async def fetch(self, sql: str) -> Rows:
        """Run one statement; its rows. Raises `QueryFailed`, `PeerMisbehaved`, `NotAdmitted`."""
        (rows,) = await self.fetch_all([sql])
        return rows

    async def fetch_all(self, statements: Sequence[str]) -> list[Rows]:
        """Run statements one after another, in one round trip; the rows of each, to be read only. Raises like `fetch`, once all have ended.

        Where the same is asked as before, and the answer is the same to the byte, it says the same: it is not read anew.
        """
        if self._lost:
            raise NotAdmitted(Reason.TARGET_UNREACHABLE, "it closed the connection")
        self._rows, self._size, self._error = [], 0, None
        self._answers, self._awaited = [], len(statements)
        asked = tuple(statements)
        if asked != self._asked:
            self._asked, self._told, self._said = asked, b"", []
            self._question = b"".join(encode.encode(m.Query(sql.encode())) for sql in statements)
        self._raw.clear()
        self._is_same = bool(self._told)
        self._answer = asyncio.get_running_loop().create_future()
        self._target.transport.write(self._question)
        try:
            answers = await self._answer
        finally:
            self._answer = None
            self._rows, self._answers = [], []
        # With nothing behind its end: what is shorter than this is then no whole answer, and is not waited for in vain.
        if len(self._raw) <= MAX_SAME and self._raw[-READY_SIZE:-1] == READY:
            self._told, self._said = bytes(self._raw), answers
        return answers

    def close(self) -> None:
        """Hang up."""
        self._lost = True
        self._target.close()

    def data_received(self, data: bytes) -> None:
        """Bytes came."""
        if self._answer is not None and len(self._raw) <= MAX_SAME:
            self._raw += data
        if self._is_same:
            if self._told.startswith(self._raw):
                if len(self._raw) == len(self._told):
                    self._is_same = False
                    self._settle(self._said)
                return
            self._is_same = False
            data = bytes(self._raw)
        try:
            self._size += len(data)
            if self._size > MAX_ANSWER:
                raise PeerMisbehaved(Misdeed.TOO_COSTLY, "an answer of the catalogue")  # noqa: TRY301 - one way out
            buf, runs = self._inbox.feed(data)
            for tag, start, end, count in runs:
                if count == 0:
                    raise PeerMisbehaved(Misdeed.TOO_COSTLY, "a message of the catalogue")  # noqa: TRY301
                if tag == DATA_ROW:
                    self._take_rows(buf, start, end)
                else:
                    self._heed(decode.backend(bytes(buf[start:end])))
        except Exception as exc:  # noqa: BLE001 - whatever it was, whoever waits must hear it
            self._settle(exc)
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """The target has gone."""
        self._lost = True
        self._settle(exc or NotAdmitted(Reason.TARGET_UNREACHABLE, "it closed the connection"))

    def _settle(self, outcome: Exception | list[Rows]) -> None:
        answer = self._answer
        if answer is None or answer.done():
            return
        if isinstance(outcome, Exception):
            answer.set_exception(outcome)
        else:
            answer.set_result(outcome)

    def _heed(self, message: m.Backend) -> None:
        match message:
            case m.RowDescription():
                self._columns = tuple(
                    (field.name.decode("utf-8", "replace"), _CONVERSIONS.get(field.type, str)) for field in message.fields
                )
            case m.ErrorResponse():
                self._error = self._error or QueryFailed(f"{message.text('C')} {message.text('M')}")
            case m.ReadyForQuery():
                self._answers.append(self._rows)
                self._rows, self._size = [], 0
                if len(self._answers) == self._awaited:
                    self._settle(self._error or self._answers)
            case _:
                pass  # completions, notices and settings change nothing here

    def _take_rows(self, buf: bytes | bytearray, start: int, end: int) -> None:
        at = start
        columns = self._columns
        while at < end:
            stop = at + 1 + int.from_bytes(buf[at + 1 : at + 5], "big")
            frame = bytes(buf[at:stop])
            decode.check_data_row(frame, len(columns))
            row: dict[str, Any] = {}
            place = 7
            for name, convert in columns:
                length = int.from_bytes(frame[place : place + 4], "big", signed=True)
                place += 4
                if length < 0:
                    row[name] = None
                    continue
                row[name] = convert(frame[place : place + length].decode())
                place += length
            self._rows.append(row)
            at = stop
