"""A recorded session run again, through the gateway, as whoever runs it: `ostiary sessions replay --against`.

It is a client like any other: it logs in with a gateway token, policy decides each statement, and the log has all of it. So
a replay never gets more than who runs it may have, and what it did is found as everything else is.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Final

import msgspec

from ostiary.model.connections import Connection, PostgresConnection, PostgresUpstream
from ostiary.model.errors import NotAdmitted, Reason
from ostiary.model.secrets import Secret
from ostiary.protocols.postgres import encode
from ostiary.protocols.postgres import messages as m
from ostiary.recording.asked import Asked, Heard
from ostiary.upstream import Target, open_target

SANDBOX: Final = "sandbox=true"
"""The label of a connection on which recorded sessions may be run again."""
PATIENCE_SECONDS: Final = 600.0
"""One operation's time."""
_NO_DATA: Final = b"the recording holds no data for this COPY\0"


class Ran(msgspec.Struct, frozen=True):
    """One operation, run again."""

    asked: Asked
    answer: Heard
    differences: tuple[str, ...]


def is_sandbox(connection: Connection) -> bool:
    """Whether recorded sessions may be run again on a connection."""
    return SANDBOX in connection.labels


def through(gateway: tuple[str, int, bool], ca_file: str | None, connection: PostgresConnection, user: str) -> PostgresConnection:
    """Make the connection to the gateway by which a client gets to `connection`."""
    host, port, tls = gateway
    upstream = PostgresUpstream(
        host=host, port=port, database=connection.name, user=user, password=None, tls="verify-full" if tls else "disable",
        ca_file=ca_file, cert_file=None, key_file=None, connect_timeout=30,
    )  # fmt: skip
    return msgspec.structs.replace(connection, upstream=upstream)


async def run_again(gateway: PostgresConnection, token: Secret, operations: Iterable[Asked]) -> AsyncIterator[Ran]:
    """Ask each operation in turn, and compare. Raises `NotAdmitted` when the gateway lets nobody in, or ends the session."""
    settings = {"application_name": "ostiary replay", "client_encoding": "UTF8"}
    clear = gateway.upstream.tls == "disable"  # a gateway on loopback without a certificate: `ostiary connect` does the same
    client = _Client(await open_target(gateway, token, settings, clear_allowed=clear))
    try:
        for one in operations:
            async with asyncio.timeout(PATIENCE_SECONDS):
                answer = await client.ask(one)
            yield Ran(one, answer, tuple(one.answer.differences(answer)))
    finally:
        client.close()


class _Client(asyncio.Protocol):
    """One session; one operation at a time."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._answer = Heard()
        self._done: asyncio.Future[None] | None = None
        self._copied = b""
        self._lost = False
        target.attach(self)

    async def ask(self, one: Asked) -> Heard:
        """Ask as it was asked then, and return the answer."""
        if self._lost:
            raise _gone()
        # In the extended protocol the Sync before is ignored while a COPY waits for data: another follows it.
        self._answer, self._copied = Heard(), (bytes(one.copied) or encode.frame(b"f", _NO_DATA)) + (b"" if one.parameters is None else encode.SYNC)
        self._done = asyncio.get_running_loop().create_future()
        self._target.transport.write(_question(one))
        await self._done
        return self._answer

    def close(self) -> None:
        self._target.close()

    def data_received(self, data: bytes) -> None:
        try:
            self._answer.feed(data)
        except ValueError as problem:
            self._settle(problem)
            return
        if self._answer.wants_data:
            self._answer.wants_data = False
            self._target.transport.write(self._copied)
        if self._answer.is_ready:
            self._settle(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True
        self._settle(exc or _gone())

    def _settle(self, problem: Exception | None) -> None:
        if self._done is None or self._done.done():
            return
        if problem is None:
            self._done.set_result(None)
        else:
            self._done.set_exception(problem)


def _gone() -> NotAdmitted:
    return NotAdmitted(Reason.TARGET_UNREACHABLE, "the gateway ended the session")


def _question(one: Asked) -> bytes:
    parameters = one.parameters
    if parameters is None:
        return encode.encode(m.Query(one.statement))
    results = (1,) if one.answer.is_binary else ()
    return b"".join((
        encode.encode(m.Parse(b"", one.statement, ())),
        encode.encode(m.Bind(b"", b"", parameters.formats, parameters.values, results)),
        encode.encode(m.Describe("P", b"")),
        encode.encode(m.Execute(b"", 0)),
        encode.SYNC,
    ))
