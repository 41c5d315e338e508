"""An agent acts for a person only by delegation: bounded, listed, revocable, narrowed and never widened."""

from __future__ import annotations

import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from ostiary.api.app import create_app
from ostiary.api.approvals import Approving
from ostiary.api.words import DELEGATION_TOKEN, JWT
from ostiary.identity.standing import STOPPED, actor_key
from ostiary.model.errors import NotAdmitted, Reason
from ostiary.model.identity import Claims, Kind, Said
from ostiary.model.secrets import Secret
from tests.api.conftest import Agent, Door

READ_TWO = [
    {
        "type": "ostiary",
        "connections": ["orders-db"],
        "actions": ["connect", "read"],
        "resources": ["public.a", "public.b"],
    }
]


@pytest.fixture
def world(make_door, tmp_path: Path):
    coder, helper = Agent(tmp_path, "agent:coder"), Agent(tmp_path, "agent:helper")
    return make_door(coder, helper), coder, helper


def give(door: Door, token: str, to: str = "agent:coder", details=READ_TWO, **form):
    data = {"to": to, "authorization_details": json.dumps(details), **form}
    return door.send("POST", "/v1/delegations", data=data, headers={"authorization": f"Bearer {token}"})


def given(door: Door, token: str, **more) -> str:
    answer = give(door, token, **more)
    assert answer.status_code == 201, answer.text
    return answer.json()["delegation"]


def act(door: Door, delegation: str, agent: Agent, **form):
    return door.exchange(delegation, subject_token_type=DELEGATION_TOKEN, **agent.proof(), **form)


def test_an_agent_acts_for_the_person_within_what_was_given(world):
    door, coder, _ = world
    delegation = given(door, door.token(), purpose="fix the report", ticket="OPS-42")
    who = door.identity(act(door, delegation, coder).json()["access_token"])
    assert (who.subject, who.kind, [a.sub for a in who.acting]) == ("ana", Kind.HUMAN, ["agent:coder"])
    assert who.acting[0].kind is Kind.AGENT
    assert who.audience == {"orders-db"}
    assert (who.mandate.actions, who.mandate.resources) == (("connect", "read"), ("public.a", "public.b"))
    assert who.task == who.mandate.id
    assert (who.purpose, who.ticket) == ("fix the report", "OPS-42")
    assert [event.action for event in door.events[-2:]] == ["delegation.create", "token.exchange"]


def test_a_delegation_is_good_for_nobody_but_the_actor_that_it_names(world):
    door, _, helper = world
    delegation = given(door, door.token())
    assert "access_token" not in act(door, delegation, helper).json()
    assert door.events[-1].who.subject == "agent:helper", "whoever tried is on record"
    alone = door.exchange(delegation, subject_token_type=DELEGATION_TOKEN)
    assert "access_token" not in alone.json()
    as_actor = door.exchange(door.idp.mint(), actor_token=delegation, actor_token_type=JWT)
    assert "access_token" not in as_actor.json()
    for path, method in (("/v1/whoami", "GET"), ("/v1/delegations", "GET")):
        assert door.send(method, path, headers={"authorization": f"Bearer {delegation}"}).status_code == 401


def test_a_delegation_opens_no_session(world):
    import asyncio

    door, _, _ = world
    delegation = given(door, door.token())
    claims = Claims(connection="orders-db", token=Secret(delegation), said=Said(address="x"))

    async def shown_again() -> None:
        assert (await door.verifier.verify_token(delegation, time.time())).is_delegation, "it is remembered from here on"
        for _ in range(2):
            with pytest.raises(NotAdmitted, match="delegation opens no session"):
                await door.verifier.verify(claims, time.time())

    asyncio.run(shown_again())


@pytest.mark.parametrize(
    ("details", "dimension"),
    [
        ({"connections": ["orders-db", "hr-db"], "actions": ["read"]}, "connections"),
        ({"connections": ["orders-db"], "actions": ["read", "delete"]}, "actions"),
        ({"connections": ["orders-db"], "actions": ["read"], "resources": ["public.*"]}, "resources"),
        ({"connections": ["orders-db"], "actions": ["read"], "resources": ["public.c"]}, "resources"),
    ],
)
def test_a_sub_agent_is_never_given_more_than_its_agent_has(world, details, dimension):
    door, coder, _ = world
    token = act(door, given(door, door.token()), coder).json()["access_token"]
    answer = give(door, token, "agent:helper", [{"type": "ostiary", **details}])
    assert answer.status_code == 403
    assert f"wider in {dimension}" in answer.json()["error"]
    assert door.events[-1].reason is Reason.BAD_TOKEN
    assert [actor.sub for actor in door.events[-1].who.acting] == ["agent:coder"]


def test_a_sub_agent_gets_less_and_the_whole_chain_is_named(world):
    door, coder, helper = world
    token = act(door, given(door, door.token(), seconds="600"), coder).json()["access_token"]
    less = [{"type": "ostiary", "connections": ["orders-db"], "actions": ["read"], "resources": ["public.a"]}]
    who = door.identity(
        act(door, given(door, token, to="agent:helper", details=less, seconds="7200"), helper).json()["access_token"]
    )
    assert [actor.sub for actor in who.acting] == ["agent:helper", "agent:coder"]
    assert who.mandate.resources == ("public.a",)
    assert who.expires <= time.time() + 600, "it ends with what it was made of"


def test_a_budget_is_spent_under_every_mandate_that_it_stands_in(world):
    door, coder, helper = world
    bounded = [{**READ_TWO[0], "effects": {"calls": 10, "rows": 500}}]
    token = act(door, given(door, door.token(), details=bounded), coder).json()["access_token"]
    more = [{**READ_TWO[0], "effects": {"calls": 11}}]
    assert give(door, token, "agent:helper", more).status_code == 403
    less = [{**READ_TWO[0], "effects": {"calls": 5}}]
    who = door.identity(act(door, given(door, token, to="agent:helper", details=less), helper).json()["access_token"])
    assert sorted((budget.calls, budget.rows) for budget in who.mandate.budgets) == [(5, None), (10, 500)]
    unbounded = given(door, token, to="agent:helper", details=READ_TWO)
    who = door.identity(act(door, unbounded, helper).json()["access_token"])
    assert [(budget.calls, budget.rows) for budget in who.mandate.budgets] == [(10, 500)]


@pytest.mark.parametrize(
    "details",
    [
        None,
        [{"type": "ostiary"}],
        [{"type": "ostiary", "connections": ["orders-db"]}],
        [{"type": "ostiary", "connections": ["no-such"], "actions": ["read"]}],
        [{"type": "ostiary", "connections": ["orders-db"], "actions": ["read"], "more": 1}],
        [{"type": "ostiary", "connections": ["orders-db"], "actions": ["read"], "within": [{"id": "x", "calls": 1}]}],
        [{"type": "ostiary", "connections": ["orders-db"], "actions": ["read"], "effects": {"calls": -1}}],
        [{"type": "ostiary", "connections": ["orders-db"], "actions": ["read"], "effects": {"calls": True}}],
        [{"type": "ostiary", "connections": ["orders-db"], "actions": ["read"], "effects": {"cells": 1}}],
        [{"type": "ostiary", "connections": ["orders-db"], "actions": ["read"], "id": "mine"}],
        [{"type": "other"}],
    ],
)
def test_what_is_not_said_or_not_understood_is_not_given(world, details):
    door, _, _ = world
    assert give(door, door.token(), details=details).status_code in (400, 403)


@pytest.mark.parametrize(
    "form", [{"to": "nobody"}, {"to_issuer": "https://evil"}, {"seconds": "5"}, {"seconds": "9999999"}]
)
def test_nobody_unknown_and_no_unbounded_time(world, form):
    door, _, _ = world
    assert give(door, door.token(), **form).status_code in (400, 403)


def test_a_person_sees_and_ends_what_they_gave_and_nobody_else_does(world):
    door, coder, _ = world
    ana, bob = door.token(), door.token(door.idp.mint(sub="bob", name="Bob"))
    delegation = given(door, ana)
    token = act(door, delegation, coder).json()["access_token"]

    def listed(who: str):
        answer = door.send("GET", "/v1/delegations", headers={"authorization": f"Bearer {who}"})
        return answer.json()["delegations"]

    (one,) = listed(ana)
    assert (one["to_sub"], one["state"]) == ("agent:coder", "open")
    assert listed(bob) == []
    end = {"data": {"id": one["id"][:12], "reason": "done"}}
    refused = door.send("POST", "/v1/delegations/revoke", headers={"authorization": f"Bearer {bob}"}, **end)
    assert refused.status_code == 404
    door.identity(token)
    done = door.send("POST", "/v1/delegations/revoke", headers={"authorization": f"Bearer {ana}"}, **end)
    assert done.status_code == 200
    for dead in (lambda: door.identity(token), lambda: door.identity(delegation)):
        with pytest.raises(NotAdmitted) as caught:
            dead()
        assert caught.value.reason is Reason.REVOKED_TOKEN
    assert "access_token" not in act(door, delegation, coder).json()
    assert listed(ana)[0]["state"] == "ended"


def test_logging_out_ends_no_delegation_and_its_revocation_no_login(world):
    door, coder, _ = world
    login = door.token()
    delegation = given(door, login)
    door.send("POST", "/v1/revoke", data={"token": login})
    assert act(door, delegation, coder).status_code == 200
    door.identity(door.token())


def test_stopping_a_person_ends_all_that_they_gave(world):
    import asyncio

    door, coder, _ = world
    token = act(door, given(door, door.token()), coder).json()["access_token"]
    asyncio.run(door.records.stop(door.idp.issuer, "ana", Reason.LOST_OWNER, "left", int(time.time())))
    with pytest.raises(NotAdmitted) as caught:
        door.identity(token)
    assert caught.value.reason is Reason.LOST_OWNER
    asyncio.run(door.records.release(door.idp.issuer, "ana"))
    assert door.board.lookup(STOPPED, actor_key(door.idp.issuer, "ana")) is None
    with pytest.raises(NotAdmitted):
        door.identity(token)
    door.identity(door.token())


def test_if_the_record_cannot_be_made_nothing_is_given(world):
    door, _, _ = world
    token = door.token()
    door.log_down = True
    assert give(door, token).status_code == 503


def test_whoami_says_what_is_proved(world):
    door, coder, _ = world
    token = act(door, given(door, door.token()), coder).json()["access_token"]
    found = door.send("GET", "/v1/whoami", headers={"authorization": f"Bearer {token}"}).json()
    assert (found["subject"], found["acting"][0]["sub"], found["connections"]) == ("ana", "agent:coder", ["orders-db"])
    assert door.send("GET", "/v1/whoami").status_code == 401
    theirs = {"authorization": f"Bearer {door.idp.mint()}"}
    assert door.send("GET", "/v1/whoami", headers=theirs).status_code == 401


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/v1/whoami"), ("GET", "/v1/delegations"), ("POST", "/v1/delegations"), ("POST", "/v1/delegations/revoke"), ("GET", "/v1/accounts")],
)
def test_a_token_that_is_not_accepted_is_on_record_wherever_it_is_shown(world, method, path):
    door, _, _ = world
    door.events.clear()
    form = {"data": {"id": "x"}} if method == "POST" else {}
    assert door.send(method, path, headers={"authorization": "Bearer x.y.z"}, **form).status_code == 401
    (event,) = door.events
    assert (event.reason, event.who) == (Reason.BAD_TOKEN, None)


@pytest.mark.parametrize(("method", "path"), [("GET", "/v1/approvals"), ("POST", "/v1/grants"), ("POST", "/v1/break-glass")])
def test_it_is_on_record_where_questions_are_answered_too_or_is_not_answered(world, method, path):
    door, _, _ = world
    office: Any = None
    deps = dataclasses.replace(door.deps, registry=CollectorRegistry())
    door.app = create_app(deps, Approving(office, door.verifier, None, door._record).routes())
    shown = {"authorization": "Bearer x.y.z"}
    assert door.send(method, path, headers=shown).status_code == 401
    assert (door.events[-1].action, door.events[-1].reason) == (f"{method} {path}", Reason.BAD_TOKEN)
    door.log_down = True
    assert door.send(method, path, headers=shown).status_code == 503
