"""The path as a conversation: what it hears, what it must ask for, in order. No socket, no loop, no clock."""

from __future__ import annotations

import struct

import pytest

from ostiary import masking
from ostiary.masking import plan as plans
from ostiary.model import commands as c
from ostiary.model.catalogue import Column, Relation, Snapshot
from ostiary.model.connections import Durability, PostgresConnection, PostgresUpstream, Protected, Recording, Strategy
from ostiary.model.decisions import Permit, Refusal
from ostiary.model.errors import PeerMisbehaved
from ostiary.model.identity import Authentication, Kind, VerifiedIdentity
from ostiary.model.proofs import Denied, Intended, Masked, Outcome, Recorded
from ostiary.policy.decide import connect_operation, decide
from ostiary.policy.policies import Policies
from ostiary.protocols.postgres import encode, refusals
from ostiary.protocols.postgres import messages as m
from ostiary.protocols.postgres.relay import PostgresRelay
from ostiary.protocols.postgres.understanding import Knowledge, Understanding
from ostiary.session.path import Line, replies, requests
from ostiary.session.world import World
from ostiary.testing.playbook import Playbook

assert masking  # the path masks with the real thing

ANA = VerifiedIdentity(
    issuer="https://idp.example", subject="ana", kind=Kind.HUMAN, name="Ana", email=None, groups=frozenset(), acting=(),
    initiator=None, task=None, mandate=None, auth=Authentication("oidc", "00" * 32, None, 1), expires=1 << 40,
    audience=frozenset(), digest=b"ana",
)  # fmt: skip
POLICY = """
@id("sessions") permit (principal, action == Ostiary::Action::"connect", resource);
@id("reads") permit (principal, action == Ostiary::Action::"read", resource);
"""


def relation(oid: int, name: str, *columns: str) -> Relation:
    return Relation(
        oid=oid, schema="public", name=name, kind="r",
        columns=tuple(Column(column, number, 25) for number, column in enumerate(columns, 1)),
        reads=(), calls=(), read_calls=(), built_in_calls=(), built_in_read_calls=(), children=(), delete_cascades=(), update_cascades=(), guards=(), referenced_by=(),
        rules=False,
    )  # fmt: skip


TABLES = {each.oid: each for each in (relation(20000, "orders", "id", "note"), relation(20001, "people", "name", "card"))}
SNAPSHOT = Snapshot(
    version=1, database="shop", server_version=150000, role="svc", superuser=False, search_path=("public",),
    writable_schemas=frozenset(), relations=TABLES,
    relation_oids={(each.schema, each.name): each.oid for each in TABLES.values()}, functions={}, functions_named={},
    operators_named={}, types={}, type_oids={}, user_casts={}, implicit_casts=frozenset(),
)  # fmt: skip
CONNECTION = PostgresConnection(
    name="shop",
    upstream=PostgresUpstream(
        host="db", port=5432, database="shop", user="svc", password=None, tls="disable", ca_file=None, cert_file=None,
        key_file=None, connect_timeout=1.0,
    ),
    labels=(), durability=Durability.STRICT, recording=Recording.FULL,
    protect=(Protected("public", "people", "card", "pci", Strategy.LAST4),), detect=frozenset(), catalogue_seconds=30.0,
    max_sessions=1,
)  # fmt: skip


class Session(World):
    """Both lines of one session over one relay, and the world that they ask."""

    def __init__(self) -> None:
        policies = Policies.load({"policy.cedar": POLICY})
        admitted = decide(policies, ANA, connect_operation(CONNECTION), CONNECTION)
        assert isinstance(admitted, Permit)
        self.relay = PostgresRelay(
            Understanding(Knowledge(CONNECTION.protect), SNAPSHOT), detect=CONNECTION.detect, plans=plans
        )
        line = Line(admitted=admitted, connection=CONNECTION, policies=policies, relay=self.relay)
        self.requests = Playbook(requests(line, self))
        self.replies = Playbook(replies(line, self))
        self.sent = b""
        self.told = b""
        self.order: list[str] = []

    def known(self) -> Snapshot | None:
        return SNAPSHOT

    def write(self, decisions: tuple[Permit | Refusal, ...]) -> tuple[Intended | Denied, ...] | None:
        self.order += ["intent" if isinstance(d, Permit) else "deny" for d in decisions]
        return tuple(
            Intended(d, f"entry-{n}", 0) if isinstance(d, Permit) else Denied(d, f"entry-{n}")
            for n, d in enumerate(decisions)
        )

    def run(self, order: c.Order) -> bool:
        self.order.append("run")
        self.sent += order.wire
        return True

    def record(self, masked: Masked, under: Intended | None) -> Recorded:
        self.order.append("record")
        return Recorded(masked.frames)

    def conclude(self, outcomes: tuple[Outcome, ...]) -> None:
        self.order += [f"outcome {outcome.status} {outcome.tag}".strip() for outcome in outcomes]

    def outdate(self) -> None:
        self.order.append("outdated")

    def send(self, recorded: tuple[Recorded, ...]) -> None:
        self.order.append("send")
        self.told += b"".join(each.frames for each in recorded)

    def client(self, *messages: m.Frontend) -> None:
        """Let the client say something, and the world do all that the path asks for."""
        self._drive(self.requests, c.HearClient, b"".join(encode.encode(each) for each in messages))

    def target(self, *messages: m.Backend) -> None:
        self._drive(self.replies, c.HearTarget, b"".join(encode.encode(each) for each in messages))
        if self.relay.is_stalled:
            self._drive(self.requests, c.HearClient, b"")

    def _drive(self, line: Playbook, hear: type, data: bytes) -> None:
        line.expect(hear, then=data)
        assert isinstance(line.asked, hear)

    def heard(self) -> bytes:
        """What the target was sent since the last call."""
        sent, self.sent = self.sent, b""
        return sent

    def shown(self) -> bytes:
        told, self.told = self.told, b""
        return told


@pytest.fixture
def session() -> Session:
    return Session()


def described(*columns: tuple[str, int, int]) -> m.RowDescription:
    return m.RowDescription(tuple(m.Field(name.encode(), table, number, 25, -1, -1, 0) for name, table, number in columns))


def row(*values: bytes) -> m.DataRow:
    return m.DataRow(struct.pack("!H", len(values)) + b"".join(struct.pack("!I", len(v)) + v for v in values))


READY = m.ReadyForQuery("I")


def test_the_intent_is_durable_before_the_target_hears_and_the_outcome_before_the_client_does(session):
    query = m.Query(b"SELECT id FROM orders")
    session.client(query)
    assert session.heard() == encode.encode(query)
    session.target(described(("id", 20000, 1)), row(b"7"), m.CommandComplete("SELECT 1"), READY)
    assert session.order == ["intent", "run", "record", "outcome ok SELECT 1", "send"]
    assert b"7" in session.shown()


def test_a_refusal_is_on_record_before_the_client_hears_of_it_and_the_target_hears_nothing(session):
    session.client(m.Query(b"DELETE FROM orders"))
    assert session.order == ["deny", "record", "send"]
    assert session.heard() == b""
    told = session.shown()
    assert b"42501" in told
    assert told.endswith(encode.encode(READY))


def test_a_protected_column_is_masked_by_its_origin_and_not_by_its_label(session):
    session.client(m.Query(b"SELECT card AS note FROM people"))
    session.target(described(("note", 20001, 2)), row(b"4111111111111111"), m.CommandComplete("SELECT 1"), READY)
    told = session.shown()
    assert b"4111111111111111" not in told
    assert b"************1111" in told


def test_a_refusal_in_a_transaction_fails_the_transaction_at_the_target(session):
    session.client(m.Query(b"BEGIN"))
    session.target(m.CommandComplete("BEGIN"), m.ReadyForQuery("T"))
    session.heard(), session.shown()
    session.client(m.Query(b"DELETE FROM orders"))
    assert session.heard() == refusals.POISON_QUERY
    assert session.shown() == b""
    session.target(m.ErrorResponse((("S", b"ERROR"), ("C", b"42601"), ("M", b"syntax error"))), m.ReadyForQuery("E"))
    told = session.shown()
    assert b"42501" in told
    assert b"syntax error" not in told
    assert told.endswith(encode.encode(m.ReadyForQuery("E")))


def test_a_refused_parse_discards_what_follows_up_to_sync(session):
    session.client(
        m.Parse(b"", b"SELECT id FROM orders", ()), m.Bind(b"", b"", (), (), ()), m.Execute(b"", 0),
        m.Parse(b"", b"DELETE FROM orders", ()), m.Bind(b"", b"", (), (), ()), m.Execute(b"", 0), m.Sync(),
    )  # fmt: skip
    heard = session.heard()
    assert b"DELETE" not in heard
    assert heard.endswith(refusals.POISON_PARSE + encode.SYNC)
    session.target(
        m.ParseComplete(), m.ParameterDescription(()), described(("id", 20000, 1)), m.BindComplete(), row(b"7"),
        m.CommandComplete("SELECT 1"), m.ErrorResponse((("S", b"ERROR"), ("C", b"42601"), ("M", b"syntax error"))), READY,
    )  # fmt: skip
    told = session.shown()
    assert told.count(b"Z\0\0\0\x05") == 1
    assert b"42501" in told
    assert "outcome rolled back SELECT 1" in session.order, session.order


def test_the_gateways_own_describe_is_not_heard_by_the_client(session):
    session.client(m.Parse(b"s", b"SELECT card FROM people", ()), m.Sync())
    session.target(m.ParseComplete(), m.ParameterDescription(()), described(("card", 20001, 2)), READY)
    assert session.shown() == encode.PARSE_COMPLETE + encode.READY["I"]


def test_rows_are_masked_though_the_client_never_asked_for_their_description(session):
    session.client(m.Parse(b"s", b"SELECT card FROM people", ()), m.Bind(b"", b"s", (), (), (1,)), m.Execute(b"", 0), m.Sync())
    session.target(
        m.ParseComplete(), m.ParameterDescription(()), described(("card", 20001, 2)), m.BindComplete(),
        row(b"4111111111111111"), m.CommandComplete("SELECT 1"), READY,
    )  # fmt: skip
    assert b"4111111111111111" not in session.shown()


def test_a_bind_waits_where_its_name_may_mean_two_things(session):
    """A Parse behind an earlier Sync may fail and leave the name with its old meaning: the Bind is judged when that is known."""
    session.client(m.Parse(b"s", b"SELECT id FROM orders", ()), m.Sync())
    session.target(m.ParseComplete(), m.ParameterDescription(()), described(("id", 20000, 1)), READY)
    session.heard()
    session.client(m.Close("S", b"s"), m.Parse(b"s", b"SELECT note FROM orders", ()), m.Sync(), m.Bind(b"", b"s", (), (), ()))
    assert encode.encode(m.Bind(b"", b"s", (), (), ())) not in session.heard()
    assert session.relay.is_stalled
    assert session.order.count("intent") == 0
    session.target(
        m.CloseComplete(), m.ErrorResponse((("S", b"ERROR"), ("C", b"42P05"), ("M", b"exists"))), READY,
    )  # fmt: skip
    assert not session.relay.is_stalled
    assert session.order.count("intent") + session.order.count("deny") == 1


def test_after_an_error_at_the_target_what_it_skips_is_neither_sent_nor_left_open(session):
    session.client(m.Parse(b"", b"SELECT id FROM orders", ()), m.Bind(b"", b"", (), (), ()), m.Execute(b"", 0), m.Flush())
    session.heard()
    session.target(m.ErrorResponse((("S", b"ERROR"), ("C", b"57014"), ("M", b"cancelled"))))
    session.client(m.Bind(b"", b"", (), (), ()), m.Execute(b"", 0))
    assert session.heard() == b""
    session.client(m.Sync())
    assert session.heard() == encode.SYNC
    session.target(READY)
    outcomes = [each for each in session.order if each.startswith("outcome")]
    assert outcomes == ["outcome skipped"]  # the error was the Parse's, so the first portal never came to be
    assert session.order.count("intent") == 1
    assert session.shown().count(b"SERROR") == 1  # and nothing is said of what was discarded


@pytest.mark.parametrize("answer", [m.CommandComplete("SELECT 1"), row(b"7"), m.ParseComplete()])
def test_an_answer_to_nothing_ends_the_session(session, answer):
    with pytest.raises(PeerMisbehaved):
        session.target(answer)


def test_a_target_that_changes_how_strings_are_read_ends_the_session(session):
    with pytest.raises(PeerMisbehaved, match="standard_conforming_strings"):
        session.target(m.ParameterStatus("standard_conforming_strings", "off"))
    other = Session()
    with pytest.raises(PeerMisbehaved, match="client_encoding"):
        other.target(m.ParameterStatus("client_encoding", "SJIS"))


def test_what_was_under_way_when_the_session_died_is_unknown(session):
    session.client(m.Query(b"SELECT id FROM orders"))
    (outcome,) = session.relay.abandon()
    assert outcome.status == "unknown"


def test_a_result_from_a_table_that_nobody_judged_is_masked_whole_and_outdates_the_catalogue(session):
    """The table was swapped for another of its name: its columns go by other OIDs, so nothing is known of them."""
    session.client(m.Query(b"SELECT card FROM people"))
    session.target(described(("card", 29999, 2)), row(b"4111111111111111"), m.CommandComplete("SELECT 1"), READY)
    assert b"4111111111111111" not in session.shown()
    assert "outdated" in session.order


def test_the_targets_own_goodbye_is_the_last_word(session):
    session.target(m.ErrorResponse((("S", b"FATAL"), ("V", b"FATAL"), ("C", b"57P01"), ("M", b"terminating connection"))))
    assert session.relay.has_farewell
    assert b"57P01" in session.shown()
