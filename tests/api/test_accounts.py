"""Service accounts have an owner and an end; whoever is stopped is stopped everywhere, by an administrator or their provider."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time

import pytest

from ostiary.api.scim import USER
from ostiary.model.errors import NotAdmitted, Reason
from ostiary.testing.issuer import PIPELINE, LocalIssuer
from tests.api.conftest import Door

SCIM_TOKEN = "s" * 40


@pytest.fixture
def world(make_door):
    """A door with people, a CI system, an administrator and a provider that speaks SCIM."""
    with LocalIssuer() as ci:
        table = {"issuer": ci.issuer, "audience": "ostiary", "kind": "workload", "algorithms": ["EdDSA"]}
        table |= {"task_claim": "run_id", "initiator_claim": "actor", "initiator_proved": True}
        door = make_door(
            issuers=[table],
            admin_groups=frozenset({"security"}),
            scim_token=hashlib.sha256(SCIM_TOKEN.encode()).hexdigest(),
            scim_issuer="",
        )
        object.__setattr__(door.deps, "scim_issuer", door.idp.issuer)
        yield door, ci


def admin(door: Door) -> str:
    return door.token(door.idp.mint(sub="sam", name="Sam", groups=["security"]))


def post(door: Door, path: str, token: str, body: dict):
    return door.send("POST", path, json=body, headers={"authorization": f"Bearer {token}"})


def account(door: Door, ci: LocalIssuer, **over):
    asked = {"name": "svc-deploy", "owner_issuer": door.idp.issuer, "owner": "carl", "issuer": ci.issuer}
    asked |= {"conditions": {"repository": "shop/deploy"}, "connections": ["orders-db"], "days": 30, **over}
    return post(door, "/v1/accounts", admin(door), asked)


def scim(door: Door, method: str, path: str, body: dict | None = None, token: str = SCIM_TOKEN):
    headers = {"authorization": f"Bearer {token}"}
    if body is not None:
        headers["content-type"] = "application/scim+json"
    content = None if body is None else json.dumps(body)
    return door.send(method, f"/scim/v2{path}", content=content, headers=headers)


def person(door: Door, sub: str = "carl", **over) -> str:
    body = {"schemas": [USER], "userName": f"{sub}@shop.example", "externalId": sub, "active": True, **over}
    answer = scim(door, "POST", "/Users", body)
    assert answer.status_code == 201, answer.text
    return answer.json()["id"]


def test_a_job_uses_an_account_and_stays_itself(world):
    door, ci = world
    assert account(door, ci).status_code == 200
    who = door.identity(door.token(ci.mint_pipeline(), account="svc-deploy"))
    assert (who.subject, who.account, who.audience) == (PIPELINE["sub"], "svc-deploy", {"orders-db"})
    assert (who.initiator.sub, who.task) == ("bob", "8123")


@pytest.mark.parametrize("over", [{"repository": "evil/fork"}, {"repository": None}, {"repository": ["shop/deploy"]}])
def test_another_job_does_not_get_it(world, over):
    door, ci = world
    account(door, ci)
    answer = door.exchange(ci.mint_pipeline(**over), account="svc-deploy")
    assert "access_token" not in answer.json()
    assert door.events[-1].who.subject == PIPELINE["sub"]
    assert "another repository" in door.events[-1].detail


def test_neither_a_person_nor_a_gateway_token_gets_it(world):
    door, ci = world
    account(door, ci)
    for token in (door.idp.mint(), door.token(ci.mint_pipeline()), door.idp.mint(repository="shop/deploy")):
        assert "access_token" not in door.exchange(token, account="svc-deploy").json()
    assert "access_token" not in door.exchange(ci.mint_pipeline(), account="no-such").json()


def test_when_the_owner_is_disabled_the_account_stops_at_once_and_the_job_is_named(world):
    """The contractor's story: who is off-boarded is not accused of what the next job does with what was theirs."""
    door, ci = world
    carl = person(door)
    account(door, ci)
    running = door.token(ci.mint_pipeline(), account="svc-deploy")
    patch = {"schemas": [], "Operations": [{"op": "Replace", "path": "active", "value": "False"}]}
    assert scim(door, "PATCH", f"/Users/{carl}", patch).status_code == 200
    with pytest.raises(NotAdmitted) as caught:
        door.identity(running)
    assert caught.value.reason is Reason.LOST_OWNER
    answer = door.exchange(ci.mint_pipeline(run_id="9000"), account="svc-deploy")
    assert "access_token" not in answer.json()
    event = door.events[-1]
    assert event.reason is Reason.LOST_OWNER
    assert (event.who.subject, event.who.task, event.who.initiator.sub) == (PIPELINE["sub"], "9000", "bob")
    assert "carl" not in repr(event)
    assert "access_token" not in door.exchange(door.idp.mint(sub="carl")).json()


def test_an_account_ends_and_its_name_is_not_used_again(world):
    door, ci = world
    account(door, ci)
    running = door.token(ci.mint_pipeline(), account="svc-deploy")
    assert post(door, "/v1/accounts/end", admin(door), {"name": "svc-deploy", "reason": "leaked"}).status_code == 200
    with pytest.raises(NotAdmitted, match="leaked"):
        door.identity(running)
    door.identity(door.token(ci.mint_pipeline()))
    assert account(door, ci).status_code == 409
    assert account(door, ci, name="svc-other").status_code == 200


def test_an_account_expires_and_what_was_made_under_it_no_later(world):
    door, ci = world
    account(door, ci, days=1)
    now = time.time()
    object.__setattr__(door.deps, "clock", lambda: now + 86_400 - 300)
    who = door.exchange(ci.mint_pipeline(exp=int(now) + 87_000, iat=int(now) + 86_000), account="svc-deploy").json()
    assert 0 < who["expires_in"] <= 300
    object.__setattr__(door.deps, "clock", lambda: now + 86_401)
    late = ci.mint_pipeline(exp=int(now) + 90_000, iat=int(now) + 86_400)
    assert "access_token" not in door.exchange(late, account="svc-deploy").json()
    assert door.events[-1].reason is Reason.EXPIRED_TOKEN


@pytest.mark.parametrize(
    "over",
    [
        {"conditions": {}},
        {"conditions": None},
        {"days": 0},
        {"days": 10_000},
        {"name": "Bad Name"},
        {"issuer": "https://evil"},
        {"owner_issuer": "https://evil"},
        {"connections": ["no-such"]},
        {"more": 1},
    ],
)
def test_an_account_that_is_not_bounded_is_not_made(world, over):
    door, ci = world
    assert account(door, ci, **over).status_code in (400, 409)


def test_only_people_of_the_group_administer_and_no_agent_for_them(world):
    door, ci = world
    body = {"issuer": ci.issuer, "subject": "x", "reason": "r"}
    agent = door.token(door.idp.mint_agent({"sub": "sam", "groups": ["security"]}))
    bounded = door.token(admin(door), authorization_details='[{"type":"ostiary","actions":["read"]}]')
    job = door.token(ci.mint_pipeline(groups=["security"]))
    for token in (door.token(), agent, bounded, job):
        assert post(door, "/v1/stops", token, body).status_code == 403
        assert door.events[-1].reason is Reason.NOT_PERMITTED
    assert post(door, "/v1/stops", "x.y.z", body).status_code == 401
    assert post(door, "/v1/stops", admin(door), body).status_code == 200


@pytest.mark.parametrize("kind", ["person", "agent", "workload"])
def test_whoever_is_isolated_is_out_until_released(world, kind):
    door, ci = world
    token, issuer, subject = {
        "person": (door.idp.mint(), door.idp.issuer, "ana"),
        "agent": (door.idp.mint_agent(), door.idp.issuer, "agent:coder"),
        "workload": (ci.mint_pipeline(), ci.issuer, PIPELINE["sub"]),
    }[kind]
    running = door.token(token)
    stop = {"issuer": issuer, "subject": subject}
    assert post(door, "/v1/stops", admin(door), stop | {"reason": "it went wild"}).status_code == 200
    for refused in (lambda: door.identity(running), lambda: door.identity(door.token(token))):
        with pytest.raises((NotAdmitted, AssertionError)):
            refused()
    listed = door.send("GET", "/v1/stops", headers={"authorization": f"Bearer {admin(door)}"}).json()["stopped"]
    assert [(each["sub"], each["detail"]) for each in listed] == [(subject, "it went wild")]
    assert post(door, "/v1/stops/release", admin(door), stop).status_code == 200
    door.identity(running)


def test_an_administrator_does_not_lock_themselves_out(world):
    door, _ = world
    body = {"issuer": door.idp.issuer, "subject": "sam", "reason": "oops"}
    assert post(door, "/v1/stops", admin(door), body).status_code == 409


# --- SCIM ---


def test_the_provider_alone_speaks_scim(world):
    door, _ = world
    for token in ("", "wrong", admin(door)):
        assert scim(door, "GET", "/Users", token=token).status_code == 401
    assert scim(door, "GET", "/ServiceProviderConfig").json()["patch"] == {"supported": True}


def test_people_are_found_kept_and_given_back(world):
    door, _ = world
    carl = person(door, displayName="Carl", emails=[{"value": "carl@shop.example", "primary": True}])
    found = scim(door, "GET", '/Users?filter=userName eq "carl@shop.example"').json()
    assert (found["totalResults"], found["Resources"][0]["id"]) == (1, carl)
    assert scim(door, "GET", '/Users?filter=externalId eq "carl"').json()["totalResults"] == 1
    assert scim(door, "GET", '/Users?filter=userName eq "nobody"').json()["Resources"] == []
    assert scim(door, "GET", f"/Users/{carl}").json()["emails"][0]["primary"] is True
    assert scim(door, "GET", "/Users/none").status_code == 404
    again = {"schemas": [USER], "userName": "carl@shop.example", "externalId": "other"}
    assert scim(door, "POST", "/Users", again).status_code == 409


DISABLE = {
    "PATCH path": ("PATCH", {"Operations": [{"op": "replace", "path": "active", "value": False}]}),
    "PATCH whole": ("PATCH", {"Operations": [{"op": "Replace", "value": {"active": False}}]}),
    "PATCH other case": ("PATCH", {"Operations": [{"op": "replace", "path": "Active", "value": False}]}),
    "PUT": ("PUT", {"schemas": [USER], "userName": "carl@shop.example", "externalId": "carl", "active": False}),
    "DELETE": ("DELETE", None),
}


@pytest.mark.parametrize("active", [True, False])
def test_who_becomes_somebody_else_at_the_provider_is_out_under_the_old_name(world, active):
    door, _ = world
    carl = person(door)
    token = door.token(door.idp.mint(sub="carl"))
    changed = {"schemas": [USER], "userName": "carl@shop.example", "externalId": "charles", "active": active}
    assert scim(door, "PUT", f"/Users/{carl}", changed).status_code == 200
    with pytest.raises(NotAdmitted):
        door.identity(token)
    if active:
        assert door.token(door.idp.mint(sub="charles"))
        back = {"Operations": [{"op": "replace", "path": "externalId", "value": "carl"}]}
        assert scim(door, "PATCH", f"/Users/{carl}", back).status_code == 200
        assert door.identity(token).subject == "carl"


def test_a_user_that_takes_anothers_name_lets_nobody_in_and_puts_nobody_out(world):
    door, _ = world
    carl, dora = person(door), person(door, "dora")
    scim(door, "PATCH", f"/Users/{dora}", {"Operations": [{"op": "replace", "path": "active", "value": False}]})
    taken = {"schemas": [USER], "userName": "carl@shop.example", "externalId": "dora", "active": True}
    assert scim(door, "PUT", f"/Users/{carl}", taken).status_code == 409
    assert door.token(door.idp.mint(sub="carl"))
    assert door.exchange(door.idp.mint(sub="dora")).status_code == 400


@pytest.mark.parametrize("way", DISABLE)
def test_whoever_is_disabled_in_any_way_is_out_at_once(world, way):
    door, _ = world
    carl = person(door)
    token = door.token(door.idp.mint(sub="carl"))
    method, body = DISABLE[way]
    assert scim(door, method, f"/Users/{carl}", body).status_code in (200, 204)
    with pytest.raises(NotAdmitted) as caught:
        door.identity(token)
    assert caught.value.reason is Reason.LOST_OWNER


def test_whoever_is_enabled_again_is_back_but_an_administrators_stop_stays(world):
    door, _ = world
    carl = person(door)
    token = door.token(door.idp.mint(sub="carl"))

    def active(value: bool) -> None:
        body = {"Operations": [{"op": "replace", "path": "active", "value": value}]}
        assert scim(door, "PATCH", f"/Users/{carl}", body).status_code == 200

    active(False)
    active(True)
    door.identity(token)
    stop = {"issuer": door.idp.issuer, "subject": "carl", "reason": "under investigation"}
    post(door, "/v1/stops", admin(door), stop)
    active(False)
    active(True)
    with pytest.raises(NotAdmitted, match="under investigation"):
        door.identity(token)


@pytest.mark.parametrize(
    "body",
    [
        {"schemas": [USER], "externalId": "x"},
        {"schemas": [], "userName": "x", "externalId": "x"},
        {"schemas": [USER], "userName": "x"},
        {"schemas": [USER], "userName": "x", "externalId": "x", "active": "maybe"},
        {"schemas": [USER], "userName": "x", "externalId": 5},
        [],
    ],
)
def test_a_resource_that_names_nobody_is_refused(world, body):
    door, _ = world
    assert scim(door, "POST", "/Users", body).status_code == 400


def test_a_patch_that_is_not_understood_is_refused_where_it_matters(world):
    door, _ = world
    carl = person(door)
    for operation in (
        {"op": "replace", "path": 'active[value eq "x"]', "value": False},
        {"op": "replace", "path": "active", "value": "perhaps"},
        {"op": "remove", "path": "externalId"},
        {"op": "copy", "path": "active", "value": False},
        "nonsense",
    ):
        assert scim(door, "PATCH", f"/Users/{carl}", {"Operations": [operation]}).status_code == 400
    assert asyncio.run(door.records.change_people(lambda c: c.execute("SELECT active FROM people").fetchall())) == [
        (1,)
    ]
