"""A session that is over is gone: nothing of it waits for the collector."""

from __future__ import annotations

import asyncio
import gc
import weakref
from functools import partial

from ostiary.audit.entries import SessionEntries
from ostiary.audit.journal import Journal
from ostiary.catalogue.holder import Catalogue
from ostiary.driver.session import SessionDriver
from ostiary.model.connections import Durability, Recording
from ostiary.policy.decide import connect_operation, decide
from ostiary.policy.policies import Policies
from ostiary.protocols.postgres import encode
from ostiary.session.path import Line
from tests.audit_writer.conftest import session_facts
from tests.session.test_path import ANA, CONNECTION, POLICY, SNAPSHOT, Session


class Transport:
    """One side's socket: it hears nothing of what is not sent to it."""

    def __init__(self) -> None:
        self.sent = b""
        self.protocol = None
        self.closed = False

    def set_protocol(self, protocol) -> None:
        self.protocol = protocol

    def is_closing(self) -> bool:
        return self.closed

    def write(self, data: bytes) -> None:
        self.sent += data

    def close(self) -> None:
        self.closed = True


class Target:
    """A target that is logged in."""

    def __init__(self) -> None:
        self.transport = Transport()

    def attach(self, protocol) -> None:
        self.transport.protocol = protocol


class Place:
    """What a gate does when a session is over."""

    def __init__(self) -> None:
        self.left = 0
        self.driver = None

    def ended(self) -> None:
        self.left += 1

    def cancel(self) -> None:
        """Nothing runs there."""


class Known(Catalogue):
    """A catalogue that needs no target."""

    def current(self):
        return SNAPSHOT


def test_a_session_that_is_over_leaves_nothing_to_the_collector(house):
    async def story() -> None:
        log = house.open()

        def one() -> weakref.ref[Transport]:
            made = Session()
            facts = session_facts(durability=Durability.BUFFERED, recording=Recording.EVENTS)
            journal = Journal(log.writer, SessionEntries(log.encoder, facts), log.ids, open_stream=partial(int, "0"))
            policies = Policies.load({"policy.cedar": POLICY})
            admitted = decide(policies, ANA, connect_operation(CONNECTION), CONNECTION)
            line = Line(admitted=admitted, connection=CONNECTION, policies=policies, relay=made.relay)
            journal.start("cd" * 32, admitted)
            place, client, target = Place(), Transport(), Target()
            driver = SessionDriver(
                line=line, relay=made.relay, journal=journal, catalogue=Known(CONNECTION, None), desk=None, cancel=place.cancel,
                ended=place.ended, counting={},
            )  # fmt: skip
            place.driver = driver
            driver.begin(client, target, b"")
            client.protocol.data_received(encode.TERMINATE)
            target.transport.protocol.connection_lost(None)
            client.protocol.connection_lost(None)
            assert place.left == 1
            assert client.closed
            assert target.transport.closed
            client.protocol = target.transport.protocol = None  # as a loop does with a socket that is closed
            return weakref.ref(client)  # held by the driver, and by nobody else

        one()
        gc.collect()
        gc.disable()
        try:
            assert one()() is None
        finally:
            gc.enable()
        log.writer.close()

    asyncio.run(story())
