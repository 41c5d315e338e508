"""A credential in the wrong hands shows, and what it is worth is the operator's to say."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from ostiary.audit.entries import Encoder
from ostiary.audit.ids import Ids
from ostiary.driver.admission import Reception
from ostiary.identity import habits
from ostiary.identity.habits import CREDENTIAL, SIGNS, Habits, Memory, network_of, sort_of
from ostiary.model.errors import NotAdmitted, Reason
from ostiary.model.identity import Actor, Authentication, Claims, Initiator, Kind, Said, VerifiedIdentity
from ostiary.model.secrets import Secret
from ostiary.testing import pgclient as pg
from ostiary.testing.gateway import gateway, target
from ostiary.testing.waiting import until

FLAGGED = dict.fromkeys(SIGNS, "flag")


def who(kind=Kind.WORKLOAD, *, token="t", family=(), subject="job", acting=(), account=None, initiator=None):
    return VerifiedIdentity(
        issuer="https://ci", subject=subject, kind=kind, name=subject, email=None, groups=frozenset(), acting=acting,
        initiator=None if initiator is None else Initiator(initiator, initiator, proved=True), task=None, mandate=None,
        auth=Authentication("oidc", token, None, 0, family), expires=1 << 40, audience=frozenset(), account=account,
        digest=b"",
    )  # fmt: skip


def said(address="10.0.0.1:5", application="deploy 1.2"):
    return Said(address=address, application=application)


def signs(watch: Habits, identity, *, at: float, **more) -> list[str]:
    return [sign.name for sign in watch.notice(identity, said(**more), at)]


def test_one_credential_from_two_networks_within_minutes():
    watch = Habits(FLAGGED)
    assert signs(watch, who(), at=0) == []
    assert signs(watch, who(), at=1, address="10.0.0.77:9") == []
    assert signs(watch, who(), at=2, address="10.9.0.1:9") == ["another_network"]
    assert signs(watch, who(), at=2000) == [], "people travel"
    child = who(token="u", family=("t",))
    assert signs(watch, child, at=2001, address="10.9.0.1:9") == ["another_network"], "what was made from it is it"
    assert signs(watch, who(token="other"), at=2002, address="10.9.9.9:1") == []


def test_a_workloads_credential_in_a_persons_hands():
    watch = Habits(FLAGGED)
    assert signs(watch, who(), at=0, application="psql") == ["interactive_client"]
    agent = Actor("https://ci", "agent", Kind.AGENT, "agent")
    assert signs(watch, who(Kind.HUMAN, token="a", acting=(agent,)), at=0, application="DBeaver 24.1") == [
        "interactive_client"
    ]
    assert signs(watch, who(Kind.HUMAN, token="h"), at=0, application="psql") == []
    assert signs(watch, who(token="n"), at=0, application="deploy 1.2") == []
    assert signs(watch, who(token="n"), at=1, application="deploy 1.3") == []
    assert signs(watch, who(token="n"), at=2, application="curl/8") == ["another_client"]


def test_what_is_merely_flagged_is_flagged_once_in_a_while():
    watch = Habits(FLAGGED)
    assert signs(watch, who(), at=0, application="psql") == ["interactive_client"]
    assert signs(watch, who(), at=1, application="psql") == []
    assert signs(watch, who(), at=700, application="psql") == ["interactive_client"]
    strict = Habits(FLAGGED | {"interactive_client": "refuse"})
    assert [signs(strict, who(), at=at, application="psql") for at in (0, 1)] == [["interactive_client"]] * 2


def test_an_account_used_by_another_job_or_for_somebody_else():
    watch = Habits(FLAGGED)
    assert signs(watch, who(account="svc", initiator="bob"), at=0) == []
    assert signs(watch, who(token="u", account="svc", initiator="bob"), at=1) == []
    assert signs(watch, who(token="v", account="svc", initiator="eve"), at=2) == ["another_job"]
    assert signs(watch, who(token="w", account="svc", subject="fork", initiator="eve"), at=3) == ["another_job"]


@pytest.mark.parametrize("reaction", ["refuse", "approve", "stop"])
def test_who_is_not_let_in_as_usual_is_not_what_is_usual_the_next_time(reaction):
    """Else whoever tries twice is in, and the rightful holder is the strange one."""
    watch = Habits(dict.fromkeys(SIGNS, reaction))
    assert signs(watch, who(account="svc", initiator="bob"), at=0) == []
    thief = who(token="v", account="svc", subject="fork", initiator="eve")
    for at in (1, 2, 3):
        assert signs(watch, thief, at=at) == ["another_job"]
    assert signs(watch, who(token="u", account="svc", initiator="bob"), at=4) == []
    assert signs(watch, who(token="n"), at=5) == []
    for at in (6, 7):
        assert signs(watch, who(token="n"), at=at, address="10.9.0.1:9", application="curl/8") == ["another_network", "another_client"]
    assert signs(watch, who(token="n"), at=8) == []


def test_a_token_used_after_its_job_ended():
    over = {"8123"}
    watch = Habits(FLAGGED, lambda who: "it has ended" if who.subject in over else "")
    assert signs(watch, who(subject="8124"), at=0) == []
    assert signs(watch, who(subject="8123", token="u"), at=0) == ["ended_job"]
    quiet = Habits(FLAGGED | {"ended_job": "off"}, lambda _: "it has ended")
    assert signs(quiet, who(), at=0) == []


def test_what_is_off_is_not_said_and_memory_is_bounded(monkeypatch):
    monkeypatch.setattr(habits, "MAX_REMEMBERED", 10)
    memory = Memory()
    watch = Habits(FLAGGED | {"interactive_client": "off"}, memory=memory)
    assert signs(watch, who(), at=0, application="psql") == []
    for number in range(50):
        watch.notice(who(token=f"t{number}"), said(), number)
    assert sum(memory.find(CREDENTIAL, f"t{number}") is not None for number in range(50)) == 10


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("10.1.2.3:5", "10.1.2.0/24"),
        ("2001:db8::1:5432", "2001:db8::/64"),
        ("[2001:db8::1]:1", "2001:db8::/64"),
        ("local", "local"),
    ],
)
def test_networks(address, network):
    assert network_of(address) == network
    assert (sort_of("psql"), sort_of("Foo-Bar/1.2 (x)"), sort_of("")) == ("psql", "foobar", "")


def test_a_misused_credential_is_flagged_refused_or_ended_with_its_sessions(postgres):
    permit = '@id("all") permit (principal, action, resource);'
    issuer = {"kind": "workload"}
    misuse = {"misuse": {"another_client": "stop", "interactive_client": "flag"}}
    with gateway(connections={"db": target(postgres)}, policy=permit, issuer=issuer, sections=misuse) as gate:
        token, other = gate.token("job"), gate.token("job")
        session = gate.connect("db", token=token, application_name="deploy 1")
        with gate.connect("db", token=other, application_name="psql") as flagged:
            assert not flagged.query("select 1").is_refused
        with pytest.raises(pg.ServerError, match="unusual"):
            gate.connect("db", token=token, application_name="curl")
        told = session.read_reply()
        session.close()
        assert told.closed
        assert "unusual" in told.errors[0]["M"]
        with pytest.raises(pg.ServerError, match="unusual"):
            gate.connect("db", token=token, application_name="deploy 1")
        logins = [entry["login"] for entry in gate.entries() if entry["kind"] == "login"]
        assert any(each["status"] == "admitted" and "interactive_client" in each["detail"] for each in logins)
        assert any(each.get("reason") == "MISUSED_TOKEN" and "another_client" in each["detail"] for each in logins)


def test_who_is_refused_because_nobody_can_be_asked_is_on_record_before_they_hear_of_it():
    written: list[bytes] = []

    class Written(SimpleNamespace):
        def append(self, entry: bytes) -> int:
            written.append(entry)
            return len(written)

        async def wait_durable(self, _: int) -> None:
            written.append(b"durable")

    async def verify(*_: object) -> VerifiedIdentity:
        return who()

    async def nobody(*_: object) -> None:
        raise NotAdmitted(Reason.CONTROL_UNREACHABLE, "the link is down", "try again in a moment")

    reception: Any = Reception.__new__(Reception)
    reception._verifier, reception._writer, reception._demand = SimpleNamespace(verify=verify), Written(), nobody
    reception._encoder, reception._ids = Encoder("gw1/w0", Ids().next(), str), Ids()
    reception._habits = Habits(FLAGGED | {"interactive_client": "approve"})
    claims = Claims(connection="db", token=Secret("t"), said=said(application="psql"))
    with pytest.raises(NotAdmitted, match="cannot check") as refused:
        asyncio.run(reception.identify(claims))
    assert (refused.value.reason, refused.value.detail) == (Reason.CONTROL_UNREACHABLE, "")
    entry, durable = written
    login = json.loads(entry)["login"]
    assert (login["reason"], durable) == ("CONTROL_UNREACHABLE", b"durable")
    assert "interactive_client" in login["detail"]


CI = {
    "policy": '@id("all") permit (principal, action, resource);',
    "issuer": {"kind_claim": "kind", "kind": "human", "task_claim": "run_id"},
}


@pytest.fixture(scope="module")
def watched(postgres):
    """A gateway that has people look at what a strange client does, and hears of jobs that end."""
    secret = "a secret of GitHub's"
    postgres.psql("create table if not exists misuse_orders (id int); truncate misuse_orders; insert into misuse_orders values (2)")
    with gateway(
        connections={"db": target(postgres)}, **CI, secrets_by_name={"hook": secret},
        sections={"misuse": {"another_client": "approve", "approvers": ["security:1"]}},
        tables={"job_webhooks": [{"kind": "github", "issuer": "https://idp.test", "secret": "file:@HOME@/secrets/hook"}]},
    ) as gate:  # fmt: skip
        yield gate, secret
    postgres.psql("drop table misuse_orders")


def test_what_is_done_with_a_misused_credential_takes_approval(watched):
    gate, _ = watched
    token, other = (gate.token("job", kind="workload", run_id="7") for _ in range(2))
    url, sam = f"http://127.0.0.1:{gate.api_port}", gate.token("sam", groups=["security"], run_id="-")
    usual = gate.connect("db", token=token, application_name="deploy 1")
    assert not usual.query("select id from misuse_orders").is_refused
    for _ in range(2):  # trying again makes it no more usual
        with gate.connect("db", token=token, application_name="curl") as strange:
            strange.send(pg.query(b"select id from misuse_orders"))
            question = until(lambda: approvals(url, sam))
            answer = {"digest": question["digest"], "reason": "I looked"}
            done = httpx.post(f"{url}/v1/approvals/{question['id']}/approve", json=answer, headers=bearer(sam), timeout=30)
            assert done.status_code == 200, done.text
            reply = strange.read_reply()
            assert not reply.is_refused
            assert reply.rows == [(b"2",)]
    # Sessions that were open before are held to it as well, and another credential of the job is not.
    usual.send(pg.query(b"select id from misuse_orders"))
    assert until(lambda: approvals(url, sam))
    usual.close()
    with gate.connect("db", token=other, application_name="deploy 1") as session:
        assert not session.query("select id from misuse_orders").is_refused
    logins = [entry["login"] for entry in gate.entries() if entry["kind"] == "login"]
    assert any(each["status"] == "admitted" and "everything takes approval" in each.get("detail", "") for each in logins)


def test_sessions_of_a_job_end_with_it_and_nothing_of_it_is_let_in_again(watched):
    gate, secret = watched
    token = gate.token("job", kind="workload", run_id="8123")
    session = gate.connect("db", token=token, application_name="deploy 1")
    body = json.dumps({"action": "completed", "workflow_run": {"id": 8123}}).encode()
    signed = "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    headers = {"x-github-event": "workflow_run", "x-hub-signature-256": signed}
    done = httpx.post(f"http://127.0.0.1:{gate.api_port}/v1/jobs/github", content=body, headers=headers, timeout=30)
    assert done.json() == {"task": "8123"}
    told = session.read_reply()
    session.close()
    assert told.closed
    assert "unusual" in told.errors[0]["M"]
    with pytest.raises(pg.ServerError, match="unusual"):
        gate.connect("db", token=token, application_name="deploy 1")
    again = [entry["login"] for entry in gate.entries() if entry["kind"] == "login" and "ended_job" in entry["login"].get("detail", "")]
    assert again[-1]["reason"] == "MISUSED_TOKEN"
    ends = [entry["result"]["status"] for entry in gate.entries() if entry["kind"] == "session.end"]
    assert "MISUSED_TOKEN" in ends


def test_a_job_says_itself_that_it_is_over(watched):
    gate, _ = watched
    token = gate.token("job", kind="workload", run_id="9")
    gate.environment["OSTIARY_SUBJECT_TOKEN"] = token
    done = gate.run("end-job")
    assert done.returncode == 0, done.stderr
    with pytest.raises(pg.ServerError, match="unusual"):
        gate.connect("db", token=token)


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


def approvals(url: str, token: str) -> dict | None:
    found = httpx.get(f"{url}/v1/approvals", headers=bearer(token), timeout=30).json()["approvals"]
    return found[0] if found else None
