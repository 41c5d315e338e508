"""Real clients through both logins and nothing else: a relay that forwards every frame it can name."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import os
import subprocess
import threading

import asyncpg
import psycopg
import pytest
import test_wire_upstream as wire

from ostiary.kernel import frames
from ostiary.protocols.postgres import decode, encode, login, states
from ostiary.upstream import open_target


class Gate(asyncio.Protocol):
    """One client: log it in, log in for it, forward. Every message is decoded, and written from its decoded form."""

    def __init__(self, port, spoken):
        self.door = login.ServerLogin(address="test", offers_tls=False, allows_clear=True)
        self.port, self.spoken = port, spoken
        self.inbox = frames.Inbox(1 << 20, from_client=True)
        self.phase = states.Phase.OPEN
        self.backlog, self.waiting = collections.deque(), False
        self.upstream = None

    def connection_made(self, transport):
        self.transport = transport

    def connection_lost(self, exc):
        if self.upstream is not None:
            self.upstream.close()

    def data_received(self, data):
        if self.upstream is not None:
            self.forward(data)
            return
        match self.door.receive(data):
            case login.Reply(reply):
                self.transport.write(reply)
            case login.Present() as present:
                self.spoken.append(present)
                self.task = asyncio.ensure_future(self.admit(present))
            case login.Cancel():
                self.transport.close()

    async def admit(self, present):
        target = await open_target(wire.target(self.port), None, present.parameters)
        self.back = Back(self)
        target.attach(self.back)
        key = b"k" * (32 if present.version >= 196610 else 4)
        self.transport.write(login.welcome(target.logged_in.parameters.items(), 4711, key))

    def forward(self, data):
        buf, runs = self.inbox.feed(data)
        for _, start, end, count in runs:
            at = start
            for _ in range(count):
                size = frames.frame_size(buf, at)
                self.backlog.append(decode.frontend(bytes(buf[at : at + size])))
                at += size
            assert at == end
        self.pump()

    def pump(self):
        """Not behind a Query or Execute that may begin COPY IN: asyncpg sends the data at once."""
        while self.backlog and not self.waiting:
            message = self.backlog.popleft()
            taken = states.move(self.phase, message) is states.Move.TAKE
            if isinstance(message, (states.m.CopyDone, states.m.CopyFail)):
                self.phase = states.Phase.OPEN
            if taken:
                self.upstream.write(encode.encode(message))
            self.waiting = isinstance(message, states.m.Query) and b"copy" in message.statement.lower()

    def hears(self, message):
        if isinstance(message, states.m.CopyInResponse):
            self.phase = states.Phase.COPYING
        elif isinstance(message, states.m.ErrorResponse):
            self.phase = states.Phase.OPEN
        if isinstance(message, (states.m.CopyInResponse, states.m.ErrorResponse, states.m.ReadyForQuery)):
            self.waiting = False
            self.pump()


class Back(asyncio.Protocol):
    def __init__(self, gate):
        self.gate, self.inbox = gate, frames.Inbox(1 << 20, from_client=False)

    def connection_made(self, transport):
        self.gate.upstream = transport

    def connection_lost(self, exc):
        self.gate.transport.close()

    def data_received(self, data):
        buf, runs = self.inbox.feed(data)
        for tag, start, end, count in runs:
            part = bytes(buf[start:end])
            if tag == ord("D") and count:
                assert frames.check_rows(buf, start, end, -1) == count
            elif count == 1:
                message = decode.backend(part)
                assert encode.encode(message) == part
                self.gate.hears(message)
            self.gate.transport.write(part)


@pytest.fixture
def gate(postgres):
    """(port, what clients presented) of a relay that runs in a thread."""
    spoken, loop, up = [], asyncio.new_event_loop(), threading.Event()
    listening = None

    def serve():
        nonlocal listening
        asyncio.set_event_loop(loop)
        listening = loop.run_until_complete(
            loop.create_server(lambda: Gate(postgres.port, spoken), "127.0.0.1", 0),
        )
        up.set()
        loop.run_forever()

    thread = threading.Thread(target=serve)
    thread.start()
    up.wait(10)
    yield listening.sockets[0].getsockname()[1], spoken
    loop.call_soon_threadsafe(listening.close)
    loop.call_soon_threadsafe(loop.call_later, 0.2, loop.stop)
    thread.join(10)
    loop.close()


def test_psql_works(gate, postgres):
    port, spoken = gate
    script = (
        "\\set ON_ERROR_STOP on\nselect 1+1;\nbegin; create temp table t (a int, b text);\n"
        "copy t from stdin;\n1\tx\n2\ty\n\\.\ncopy t to stdout;\ncommit;\nselect count(*) from generate_series(1, 50000);\n"
        "select repeat('x', 3000000)::text is not null;\n"
    )
    environment = os.environ | {
        "PGPASSWORD": "tok.en",
        "PGSSLMODE": "prefer",
        "PGOPTIONS": "-c intervalstyle=postgres_verbose",
        "PGTZ": "PST8PDT",
        "PGDATESTYLE": "Postgres, MDY",
    }
    done = subprocess.run(
        [str(postgres.binaries / "psql"), "-X", "-q", "-A", "-t", f"host=127.0.0.1 port={port} dbname=orders user=ana"],
        input=script + "show intervalstyle; show timezone; show client_encoding;",
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.stderr == ""
    assert done.stdout.split() == ["2", "1", "x", "2", "y", "50000", "t", "postgres_verbose", "PST8PDT", "UTF8"]
    (present,) = spoken
    assert (present.claims.connection, present.claims.said.user) == ("orders", "ana")
    assert present.claims.token.reveal() == "tok.en"


def test_psycopg_works(gate):
    port, _ = gate
    with psycopg.connect(
        f"host=127.0.0.1 port={port} dbname=orders user=ana password=x", prepare_threshold=0
    ) as connection:
        assert connection.execute("select %s::int + 1", [41]).fetchone() == (42,)
        with connection.cursor(binary=True) as cursor:
            assert cursor.execute("select repeat('x', 5000000)").fetchone() == ("x" * 5_000_000,)
        with connection.pipeline():
            cursors = [connection.execute("select %s", [i]) for i in range(50)]
        assert [cursor.fetchone() for cursor in cursors] == [(i,) for i in range(50)]
        connection.execute("create temp table t (a int)")
        with connection.cursor().copy("copy t from stdin") as copy:
            for i in range(1000):
                copy.write_row((i,))
        with (
            contextlib.suppress(psycopg.Error),
            connection.transaction(),
            connection.cursor().copy("copy t from stdin") as copy,
        ):
            copy.write(b"not a number\n" * 100_000)
        assert connection.execute("select count(*) from t").fetchone() == (1000,)


def test_asyncpg_works(gate):
    port, _ = gate

    async def go():
        connection = await asyncpg.connect(
            host="127.0.0.1", port=port, database="orders", user="ana", password="x", ssl=False
        )
        assert await connection.fetchval("select $1::int + 1", 41) == 42
        assert len(await connection.fetch("select generate_series(1, 20000)")) == 20000
        with pytest.raises(asyncpg.UndefinedTableError):
            await connection.fetch("select * from nowhere")
        async with connection.transaction():
            await connection.execute("create temp table t (a int, b text)")
            await connection.copy_records_to_table("t", records=[(i, "x") for i in range(500)])
            assert await connection.fetchval("select count(*) from t") == 500
        await connection.close()

    asyncio.run(go())
