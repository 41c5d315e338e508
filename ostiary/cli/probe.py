"""Try a target as the gateway would: resolve the credential, dial, log in, ask one question."""

from __future__ import annotations

import asyncio
from typing import Final

from ostiary.catalogue import Catalogue
from ostiary.driver.http_target import HttpDestination
from ostiary.driver.side import Side
from ostiary.model.catalogue import Snapshot
from ostiary.model.connections import Connection, HttpConnection, PostgresConnection
from ostiary.model.errors import NotAdmitted, Reason
from ostiary.model.operations import Operation
from ostiary.protocols.postgres import decode, encode
from ostiary.protocols.postgres import messages as m
from ostiary.protocols.postgres.operations import ProtectedColumns, View
from ostiary.protocols.postgres.operations import understand as understand_text
from ostiary.upstream.dial import open_target
from ostiary.upstream.rds import password_of
from ostiary.vault.references import resolve

QUESTION: Final = b"SELECT 1"
MAX_ANSWER: Final = 64 * 1024
"""Bytes of the answer to one constant; more is no PostgreSQL."""


class _Answer(asyncio.Protocol):
    """Hears one answer, to its ReadyForQuery."""

    def __init__(self) -> None:
        self.done: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._held = bytearray()
        self._error = ""

    def data_received(self, data: bytes) -> None:
        self._held += data
        try:
            self._read()
        except Exception as exc:  # noqa: BLE001 - whatever it is, it belongs to whoever waits
            self._fail(exc)

    def _read(self) -> None:
        while (message := decode.next_backend(self._held)) is not None:
            if isinstance(message, m.ErrorResponse):
                fields = dict(message.fields)
                self._error = fields.get("M", b"").decode(errors="replace")
            elif isinstance(message, m.ReadyForQuery) and not self.done.done():
                self.done.set_result(self._error)
        if len(self._held) > MAX_ANSWER:
            self._fail(NotAdmitted(Reason.TARGET_REFUSED, "its answer to SELECT 1 has no end"))

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._fail(NotAdmitted(Reason.TARGET_UNREACHABLE, "it closed the connection"))

    def _fail(self, error: Exception) -> None:
        if not self.done.done():
            self.done.set_exception(error)


async def probe(connection: Connection) -> str:
    """Return what the target says it is. Raises `ConfigError` for the credential, `NotAdmitted` for the target."""
    match connection:
        case PostgresConnection():
            return await _ask_postgres(connection)
        case HttpConnection():
            return await _reach_http(connection)
        case _:
            raise NotAdmitted(Reason.UNSUPPORTED, f"nothing tries out a target of type {connection.type}")


async def look(connection: Connection) -> tuple[str, list[str]]:
    """Return the account that the gateway is on the target, and what an operator should know about it."""
    return (
        await _look_at_postgres(connection) if isinstance(connection, PostgresConnection) else (connection.account, [])
    )


async def _reach_http(connection: HttpConnection) -> str:
    """Dial, and have the credential ready; nothing is asked of a service, for what a request does is its own business."""
    destination = HttpDestination(connection, resolve)
    if destination.shown.ready() is None:
        await destination.shown.fetch()
    link = await destination.open()
    link.close()
    return f"HTTP at {connection.upstream.host_header}"


async def _ask_postgres(connection: PostgresConnection) -> str:
    password = await password_of(connection, resolve)
    target = await open_target(connection, password, {"application_name": "ostiary connections test"})
    try:
        answer = _Answer()
        target.attach(answer)
        target.transport.write(encode.encode(m.Query(QUESTION)))
        async with asyncio.timeout(connection.upstream.connect_timeout):
            problem = await answer.done
    except TimeoutError:
        raise NotAdmitted(Reason.TARGET_UNREACHABLE, "it let us in, and did not answer SELECT 1 in time") from None
    finally:
        target.close()
    if problem:
        raise NotAdmitted(Reason.TARGET_REFUSED, problem)
    return f"PostgreSQL {target.logged_in.parameters.get('server_version', 'of a version it does not tell')}"


async def _look_at_postgres(connection: PostgresConnection) -> tuple[str, list[str]]:
    snapshot = await _snapshot(connection)
    warnings = []
    if snapshot.superuser:
        warnings.append(
            f"{snapshot.role} is a superuser there: give the gateway a role that may do no more than it must"
        )
    warnings += [
        f"protected column {each.schema}.{each.table}.{each.column} is not there: nothing protects it"
        for each in ProtectedColumns(connection.protect, snapshot, connection.rules).missing
    ]
    return snapshot.role, warnings


async def understand(connection: PostgresConnection, sql: str) -> Operation:
    """Return what `sql` would do on this target, by its catalogue. Nothing of it runs there."""
    snapshot = await _snapshot(connection)
    text = sql.encode()
    facts = understand_text(text, View(snapshot.search_path), snapshot, ProtectedColumns(connection.protect, snapshot, connection.rules))
    return Operation(facts, text, None, b"")


async def _snapshot(connection: PostgresConnection) -> Snapshot:
    password = await password_of(connection, resolve)
    catalogue = Catalogue(connection, lambda: Side.open(connection, password))
    try:
        return await catalogue.refresh()
    finally:
        await catalogue.close()
