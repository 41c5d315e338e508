"""A session begins with a glance at the catalogue: one round trip where nothing changed, and whatever changed is seen."""

from __future__ import annotations

import asyncio

from ostiary.catalogue.read import GLANCE, look
from ostiary.driver import side
from ostiary.driver.side import Side
from ostiary.protocols.postgres import encode
from ostiary.protocols.postgres import messages as m
from ostiary.testing.peers import Peer
from tests.catalogue.test_catalogue import connection


class Asked:
    """A link that notes what it was asked."""

    def __init__(self, link: Side) -> None:
        self.link = link
        self.asked: list[int] = []

    @property
    def is_closed(self) -> bool:
        return self.link.is_closed

    async def fetch_all(self, statements):
        self.asked.append(len(statements))
        return await self.link.fetch_all(statements)

    def close(self) -> None:
        self.link.close()


def test_where_nothing_was_committed_a_glance_is_one_round_trip_and_ddl_is_seen_by_the_next(postgres: Peer) -> None:
    postgres.psql("create database glance")

    async def story() -> None:
        link = Asked(await Side.open(connection(postgres, database="glance"), None))
        known = await look(link, None)
        for _ in range(3):
            link.asked.clear()
            assert await look(link, known) is known
            assert link.asked == [len(GLANCE)]
        for number in range(3):
            await asyncio.to_thread(postgres.psql, f"create table t{number}(x int)", "glance")
            known = await look(link, known)
            assert f"t{number}" in {relation.name for relation in known.snapshot.relations.values()}
            link.asked.clear()
        known = await look(link, known)
        assert await look(link, known) is known
        link.close()

    try:
        asyncio.run(story())
    finally:
        postgres.psql("drop database glance with (force)")


def test_where_something_is_committed_all_the_time_no_glance_goes_before_the_look(postgres: Peer) -> None:
    postgres.psql("create database busy")

    async def story() -> None:
        link = Asked(await Side.open(connection(postgres, database="busy"), None))
        known = await look(link, None)
        for first in (len(GLANCE), len(GLANCE) - 1, len(GLANCE) - 1):
            await asyncio.to_thread(postgres.psql, "create table if not exists w(x int); insert into w values (1)", "busy")
            link.asked.clear()
            known = await look(link, known)
            assert link.asked[0] == first
        link.close()

    try:
        asyncio.run(story())
    finally:
        postgres.psql("drop database busy with (force)")


class Wire:
    """What a side connection is attached to, without a target."""

    def __init__(self) -> None:
        self.sent = b""
        self.transport = self

    def attach(self, protocol) -> None:
        self.protocol = protocol

    def write(self, data: bytes) -> None:
        self.sent += data


def answer(value: bytes, behind: bytes = b"") -> bytes:
    """A row of one text column, and the end."""
    row = m.RowDescription((m.Field(b"x", 0, 0, 25, -1, -1, 0),))
    told = encode.encode(row) + b"D" + (10 + len(value)).to_bytes(4, "big") + b"\0\1" + len(value).to_bytes(4, "big") + value
    return told + encode.encode(m.CommandComplete("SELECT 1")) + encode.READY["I"] + behind


async def put(wire: Wire, link: Side, *chunks: bytes):
    task = asyncio.get_running_loop().create_task(link.fetch_all(["select x"]))
    await asyncio.sleep(0)
    for chunk in chunks:
        link.data_received(chunk)
    return (await asyncio.wait_for(task, 5))[0]


def test_an_answer_says_what_it_says_whether_it_is_the_one_before_or_differs_anywhere(monkeypatch) -> None:
    read: list[object] = []
    decoded = side.decode.backend
    monkeypatch.setattr(side.decode, "backend", lambda frame: read.append(frame) or decoded(frame))

    async def story() -> None:
        wire = Wire()
        link = Side(wire)
        assert await put(wire, link, answer(b"one")) == [{"x": "one"}]
        seen = len(read)
        same = answer(b"one")
        for at in range(len(same)):
            assert await put(wire, link, same[:at], same[at:]) == [{"x": "one"}]
        assert len(read) == seen, "an answer that is the same was read anew"
        for at in range(len(same)):
            other = answer(b"two")
            assert await put(wire, link, other[:at], other[at:]) == [{"x": "two"}]
            assert await put(wire, link, same) == [{"x": "one"}]
        longer = answer(b"one and more")
        assert await put(wire, link, longer) == [{"x": "one and more"}]

    asyncio.run(story())


def test_what_stands_behind_an_answer_is_not_waited_for_the_next_time() -> None:
    notice = encode.encode(m.ParameterStatus("TimeZone", "UTC"))

    async def story() -> None:
        wire = Wire()
        link = Side(wire)
        assert await put(wire, link, answer(b"one", notice)) == [{"x": "one"}]
        assert await put(wire, link, answer(b"one")) == [{"x": "one"}]
        link.data_received(notice)  # between two questions
        assert await put(wire, link, answer(b"one")) == [{"x": "one"}]
        assert await put(wire, link, answer(b"two")) == [{"x": "two"}]

    asyncio.run(story())
