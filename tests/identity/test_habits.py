"""A credential in the wrong hands shows, and what it is worth is the operator's to say."""

from __future__ import annotations

import pytest

from ostiary.identity import habits
from ostiary.identity.habits import SIGNS, Habits, network_of, sort_of
from ostiary.model.identity import Actor, Authentication, Initiator, Kind, Said, VerifiedIdentity
from ostiary.testing import pgclient as pg
from ostiary.testing.gateway import gateway, target

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


def test_what_is_off_is_not_said_and_memory_is_bounded(monkeypatch):
    monkeypatch.setattr(habits, "MAX_REMEMBERED", 10)
    watch = Habits(FLAGGED | {"interactive_client": "off"})
    assert signs(watch, who(), at=0, application="psql") == []
    for number in range(50):
        watch.notice(who(token=f"t{number}"), said(), number)
    assert len(watch._credentials) == 10


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
