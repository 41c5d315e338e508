from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from ostiary.audit.entries import Encoder, SessionEntries, SessionFacts
from ostiary.audit.ids import Ids
from ostiary.audit.keys import ensure_origin, init_state
from ostiary.audit.log import Log, open_log
from ostiary.model.connections import Durability, Recording
from ostiary.model.decisions import Grounds, Permit, Refusal
from ostiary.model.events import Kept, PayloadRef
from ostiary.model.identity import Actor, Authentication, Initiator, Kind, Mandate, Said, VerifiedIdentity
from ostiary.model.operations import Action, Facts, Operation, Parameters, Resource
from ostiary.model.proofs import Intended, Outcome


def identity(**changes) -> VerifiedIdentity:
    fields = {
        "issuer": "https://idp.example",
        "subject": "ana",
        "kind": Kind.HUMAN,
        "name": "Ana",
        "email": None,
        "groups": frozenset({"support", "dba"}),
        "acting": (Actor("https://idp.example", "agent-1", Kind.AGENT, "coder"),),
        "initiator": Initiator("ana", "Ana", True),
        "task": "run-7",
        "mandate": Mandate("m1", ("orders-db",), None, ()),
        "auth": Authentication("oidc", "ab" * 32, None, 1_700_000_000),
        "expires": 2_000_000_000,
        "audience": frozenset(),
        "digest": b"d",
    }
    return VerifiedIdentity(**(fields | changes))


def facts(**changes) -> Facts:
    fields = {
        "action": Action.READ,
        "name": "SELECT",
        "resources": (Resource("relation", "public.orders", Action.READ, ("id", "total"), ("pci",)),),
        "has_where": True,
        "functions": (),
        "opaque": (),
        "unmask": (),
        "harmless": True,
        "touches_protected": False,
        "head": "SELECT id, total FROM orders WHERE id = $1",
        "objection": None,
        "invalidates_catalogue": False,
        "digest": b"f",
    }
    return Facts(**(fields | changes))


PATIENCE_SECONDS = 30.0
"""How long tests wait for a disk that is busy with other tests; those about a stall say less."""
GROUNDS = Grounds(("p1",), "cd" * 32, frozenset({"pci"}), 100, "", "")
REF = PayloadRef("aa" * 32, "bb" * 32, 41)


def operation(**changes) -> Operation:
    return Operation(
        facts(**changes), b"SELECT id, total FROM orders WHERE id = 7", Parameters((), (b"7", None)), b"wire"
    )


def session_facts(**changes) -> SessionFacts:
    fields = {
        "identity": identity(),
        "said": Said(address="127.0.0.1:5", user="bob", application="psql", purpose="look", ticket="T-1"),
        "session": Ids().next(),
        "connection": "orders-db",
        "type": "postgresql",
        "address": "db:5432",
        "database": "shop",
        "account": "svc",
        "durability": Durability.STRICT,
        "recording": Recording.FULL,
    }
    return SessionFacts(**(fields | changes))


def outcome(intended: Intended, **changes) -> Outcome:
    fields = {
        "status": "ok",
        "tag": "SELECT 1",
        "rows": 1,
        "bytes": 40,
        "error": "",
        "error_text": "",
        "masked": (),
        "columns": (("id", 23), ("total", 1700)),
    }
    return Outcome(intended=intended, **(fields | changes))


class OneSession:
    """Makes a session's entries with the real clocks."""

    def __init__(self, scrub: Callable[[str], str] = lambda value: value, **changes) -> None:
        self.ids = Ids()
        self.encoder = Encoder("gw1/w0", self.ids.next(), scrub)
        self.entries = SessionEntries(self.encoder, session_facts(**changes))

    def now(self) -> tuple[str, int, int]:
        return self.ids.next(), time.time_ns(), time.monotonic_ns()

    def start(self) -> tuple[str, bytes]:
        moment = self.now()
        return moment[0], self.entries.start(*moment, policy="cd" * 32, grounds=GROUNDS)

    def intent(self, **changes) -> tuple[Intended, bytes]:
        permit = Permit(self.entries.facts.identity, operation(**changes), GROUNDS)
        moment = self.now()
        return Intended(permit, moment[0], moment[2]), self.entries.intent(permit, *moment, Kept(REF, REF))

    def deny(self, stmt: PayloadRef | None = REF, **changes) -> bytes:
        grounds = Grounds((), "cd" * 32, frozenset(), None, "not without a DBA", "ask one")
        return self.entries.deny(Refusal(self.entries.facts.identity, operation(**changes), grounds), *self.now(), Kept(stmt))

    def outcome(self, intended: Intended, **changes) -> bytes:
        return self.entries.outcome(outcome(intended, **changes), *self.now())

    def end(self, start: str) -> bytes:
        return self.entries.end(start, *self.now(), status="ended", operations=1)


@pytest.fixture(scope="session")
def make():
    """The makers of everything that entries are made from."""
    return SimpleNamespace(
        OneSession=OneSession,
        identity=identity,
        facts=facts,
        operation=operation,
        outcome=outcome,
        REF=REF,
        GROUNDS=GROUNDS,
    )


class House:
    """One instance's state folder with one writer, and a tail folder beside it."""

    def __init__(self, folder: Path) -> None:
        self.state = folder / "state"
        self.tail_dir = folder / "tail"
        self.tail_dir.mkdir()
        init_state(self.state, "gw1")
        self.origin = ensure_origin(self.state, "gw1", "w0", 2026)

    def open(self, **options) -> Log:
        defaults = {
            "scrub": str,
            "year": 2026,
            "tail_dir": self.tail_dir,
            "tail_bytes": 1 << 20,
            "segment_bytes": 1 << 18,
            "patience": PATIENCE_SECONDS,
        }
        return open_log(self.state, "gw1", "w0", loop=asyncio.get_running_loop(), **(defaults | options))

    @property
    def wal(self) -> Path:
        return self.origin.folder / "wal"


@pytest.fixture
def house(tmp_path, recwarn) -> House:
    return House(tmp_path)


@pytest.fixture
def link():
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    yield ours, theirs
    theirs.close()
    ours.close()
