"""The path of one HTTP exchange as a conversation: whatever fails before it is decided is a refusal, on record before anybody hears of it."""

from __future__ import annotations

import pytest

from ostiary.masking.documents import Rules
from ostiary.masking.http import ReplyMasker
from ostiary.model import commands as c
from ostiary.model.connections import (
    CredentialKind,
    Durability,
    HttpConnection,
    HttpCredential,
    HttpUpstream,
    Recording,
)
from ostiary.model.decisions import Permit, Refusal
from ostiary.model.errors import Misdeed, NotAdmitted, PeerMisbehaved, Reason
from ostiary.model.identity import Authentication, Kind, VerifiedIdentity
from ostiary.model.operations import Operation
from ostiary.model.proofs import Denied, Intended, Masked, Recorded
from ostiary.policy.decide import connect_operation, decide
from ostiary.policy.policies import Policies
from ostiary.protocols.http.decode import read_request
from ostiary.protocols.http.operations import Understanding
from ostiary.protocols.http.relay import Asked, HttpRelay
from ostiary.session.exchange import request, undecided
from ostiary.session.path import Line
from ostiary.session.world import World
from ostiary.testing.playbook import Playbook

ANA = VerifiedIdentity(
    issuer="https://idp.example", subject="ana", kind=Kind.HUMAN, name="Ana", email=None, groups=frozenset(), acting=(),
    initiator=None, task=None, mandate=None, auth=Authentication("oidc", "00" * 32, None, 1), expires=1 << 40,
    audience=frozenset(), digest=b"ana",
)  # fmt: skip
POLICY = """
@id("all") permit (principal, action, resource);
@id("ask") @approval("dba") forbid (principal, action == Ostiary::Action::"delete", resource) unless { context.approved_by.contains("dba") };
"""
CONNECTION = HttpConnection(
    name="app",
    upstream=HttpUpstream(
        host="10.0.0.1", port=443, tls="verify-full", ca_file=None, cert_file=None, key_file=None, connect_timeout=1.0,
        host_header="app", base_path="", reply_seconds=1.0, max_connections=1,
        credential=HttpCredential(kind=CredentialKind.NONE, secret=None, header="", user="", token_url="", scope=""),
    ),
    labels=(), durability=Durability.STRICT, recording=Recording.FULL, detect=frozenset(), max_sessions=1, hosts=frozenset({"app"}), prefix="",
    routes=(), only_routes=False, protect=(), pass_types=frozenset(), pass_headers=frozenset(), max_request_bytes=1 << 20, approval_seconds=0.0,
    actor_headers=False,
)  # fmt: skip


class Broken(RuntimeError):
    """What nobody foresaw."""


class Asks(HttpRelay):
    """Cannot say what people are to be asked."""

    def asked(self, operation: Operation) -> Asked:
        raise Broken


def begun(raw: bytes, kind: type[HttpRelay] = HttpRelay) -> tuple[Line, HttpRelay]:
    head = read_request(raw)
    assert head is not None
    relay = kind(head, Understanding(CONNECTION))
    policies = Policies.load({"policy.cedar": POLICY})
    admitted = decide(policies, ANA, connect_operation(CONNECTION), CONNECTION)
    assert isinstance(admitted, Permit)
    return Line(admitted=admitted, connection=CONNECTION, policies=policies, relay=relay), relay


class Told(World):
    """What is asked of the world, in order. Nothing is run in it."""

    def __init__(self, *, waits: bool) -> None:
        self.waits = waits
        self.denied: tuple[Denied, ...] = ()
        self.asked: list[str] = []
        self.said: list[bytes] = []

    def write(self, decisions: tuple[Permit | Refusal, ...]) -> tuple[Intended | Denied, ...] | None:
        self.asked.append("write")
        (decision,) = decisions
        assert isinstance(decision, Refusal)
        self.denied = (Denied(decision, "01a2142d-4be1-72bc-bea9-0ae6c2a39137"),)
        return None if self.waits else self.denied

    def record(self, masked: Masked, under: Intended | None) -> Recorded:
        assert under is None
        self.asked.append("record")
        self.said.append(masked.frames)
        return Recorded(masked.frames)

    def send(self, recorded: tuple[Recorded, ...]) -> None:
        self.asked.append("send")
        assert [each.frames for each in recorded] == self.said


def status(line: Line, relay: HttpRelay, *, waits: bool = False) -> int:
    """Of the refusal, once it is durable; nothing was run. `waits`: for the disk."""
    world = Told(waits=waits)
    rest = request(line, ReplyMasker(frozenset(), Rules(()), frozenset()), world)
    if rest is not None:
        play = Playbook(rest)
        if waits:
            assert world.asked == ["write"]
            play.expect(c.AwaitDurable, then=world.denied)
        play.finished()
    else:
        assert not waits
    assert world.asked[0] == "write"
    assert world.asked[-1] == "send"
    assert set(world.asked[1:-1]) == {"record"}
    return int(world.said[0].split(b" ")[1])


def broken(*_: object, **__: object) -> None:
    raise Broken


def test_a_policy_that_cannot_be_asked_is_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    line, relay = begun(b"GET /x HTTP/1.1\r\nHost: app\r\n\r\n")
    monkeypatch.setattr("cedarpy.is_authorized_batch", broken)
    assert status(line, relay) == 500
    assert isinstance(relay.bug, Broken)


def test_a_refusal_is_heard_when_the_disk_has_it() -> None:
    line, relay = begun(b"TRACE /x HTTP/1.1\r\nHost: app\r\n\r\n")
    assert status(line, relay, waits=True) == 405


def test_a_question_that_cannot_be_put_is_a_refusal() -> None:
    line, relay = begun(b"DELETE /x HTTP/1.1\r\nHost: app\r\n\r\n", Asks)
    assert status(line, relay) == 500


@pytest.mark.parametrize(
    ("why", "code"),
    [
        (PeerMisbehaved(Misdeed.TOO_SLOW, "the body"), "400"),
        (NotAdmitted(Reason.CONTROL_UNREACHABLE), "503"),
        (Broken(), "500"),
    ],
)
def test_whatever_ends_it_before_is_a_refusal_that_no_policy_lifts(why: Exception, code: str) -> None:
    line, relay = begun(b"POST /x HTTP/1.1\r\nHost: app\r\nContent-Length: 5\r\n\r\n")
    refusal = undecided(line, relay, why)
    assert refusal.operation.facts.objection is not None
    assert refusal.operation.facts.objection.code == code
    assert refusal.operation.statement.startswith(b"POST /x")
    assert refusal.operation.wire == b""
