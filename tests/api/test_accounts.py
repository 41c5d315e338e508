"""Service accounts have an owner and an end; whoever is stopped is stopped everywhere, by an administrator or their provider."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time

import httpx
import pytest

from ostiary.api.scim import USER
from ostiary.identity.records import Delegation, Refused
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
    "PATCH text": ("PATCH", {"Operations": [{"op": "Replace", "path": "active", "value": "False"}]}),
    "PATCH whole, text": ("PATCH", {"Operations": [{"op": "add", "value": {"Active": "false"}}]}),
    "PATCH with the schema's name": ("PATCH", {"Operations": [{"op": "replace", "path": f"{USER}:active", "value": False}]}),
    "PATCH with it in lower case": ("PATCH", {"Operations": [{"op": "replace", "path": f"{USER.lower()}:ACTIVE", "value": False}]}),
    "PATCH with it in the value": ("PATCH", {"Operations": [{"op": "replace", "value": {f"{USER}:active": False}}]}),
    "PATCH with an object of it": ("PATCH", {"Operations": [{"op": "replace", "value": {USER: {"active": False}}}]}),
    "PATCH at the schema": ("PATCH", {"Operations": [{"op": "replace", "path": USER, "value": {"active": False}}]}),
    "PATCH with names in other cases": ("PATCH", {"operations": [{"OP": "replace", "Path": "active", "Value": False}]}),
    "PATCH last": ("PATCH", {"Operations": [
        {"op": "replace", "path": 'emails[type eq "work"].value', "value": "c@shop.example"}, {"op": "replace", "path": "active", "value": False},
    ]}),
    "PUT other case": ("PUT", {"schemas": [USER], "UserName": "carl@shop.example", "externalid": "carl", "ACTIVE": "False"}),
    "PUT": ("PUT", {"schemas": [USER], "userName": "carl@shop.example", "externalId": "carl", "active": False}),
    "DELETE": ("DELETE", None),
}  # fmt: skip


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
        {"schemas": [USER], "userName": "x", "externalId": "x", "active": False, "Active": True},
        {"schemas": [USER], "userName": "x", "externalId": "x", USER: {"active": False}, "active": True},
        {"schemas": USER, "userName": "x", "externalId": "x"},
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
        {"op": "remove", "path": "active"},
        {"op": "remove", "path": f"{USER}:active"},
        {"op": "remove", "path": USER},
        {"op": "remove"},
        {"op": "replace", "path": "active.value", "value": False},
        {"op": "replace", "path": f'{USER}:active[x eq "y"]', "value": False},
        {"op": "replace", "value": {"active": False, "Active": True}},
        {"op": "replace", "value": {"active": True, f"{USER}:active": False}},
        {"op": "replace", "value": [{"active": False}]},
        {"op": "replace", "path": ["active"], "value": False},
        {"op": "replace", "path": "[active]", "value": False},
        {"op": "replace", "path": " active", "value": False},
        {"op": "replace", "path": "active", "value": [False]},
        {"op": "replace", "path": "active", "value": None},
        "nonsense",
    ):
        assert scim(door, "PATCH", f"/Users/{carl}", {"Operations": [operation]}).status_code == 400
    assert asyncio.run(door.records.change_people(lambda c: c.execute("SELECT active FROM people").fetchall())) == [
        (1,)
    ]


def test_what_a_replacement_leaves_out_lets_nobody_back_in(world):
    door, _ = world
    carl = person(door)
    resource = {"schemas": [USER], "userName": "carl@shop.example", "externalId": "carl"}
    assert scim(door, "PUT", f"/Users/{carl}", resource | {"active": False}).status_code == 200
    assert scim(door, "PUT", f"/Users/{carl}", resource | {"displayName": "Carl"}).json()["active"] is False
    assert door.exchange(door.idp.mint(sub="carl")).status_code == 400
    assert scim(door, "PUT", f"/Users/{carl}", resource | {"active": True}).status_code == 200
    assert door.token(door.idp.mint(sub="carl"))


def test_attributes_that_do_not_matter_are_kept_as_providers_change_them(world):
    """The forms that Entra and Okta send: paths with a filter, dotted ones, extensions, values with paths as names."""
    door, _ = world
    carl = person(door, name={"givenName": "Carl"}, emails=[{"type": "home", "value": "h@x"}, {"type": "work", "value": "w@x"}])
    department = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:department"

    def patch(*operations: dict) -> dict:
        answer = scim(door, "PATCH", f"/Users/{carl}", {"schemas": ["urn:ietf:params:scim:api:messages:2.0:PatchOp"], "Operations": operations})
        assert answer.status_code == 200, answer.text
        return answer.json()

    user = patch(
        {"op": "Replace", "path": 'emails[type eq "work"].value', "value": "new@x"},
        {"op": "Add", "path": 'phoneNumbers[type eq "mobile"].value', "value": "+1"},
        {"op": "Replace", "path": "name.familyName", "value": "Ng"},
        {"op": "Add", "path": department, "value": "R&D"},
        {"op": "Add", "value": {'roles[primary eq "True"].value': "dba", "name.middleName": "O."}},
        {"op": "replace", "path": 'groups[display eq "a" and type eq "b"].value', "value": "ignored"},
        {"op": "replace", "path": "id", "value": "another"},
    )
    assert [each["value"] for each in user["emails"]] == ["h@x", "new@x"]
    assert user["phoneNumbers"] == [{"type": "mobile", "value": "+1"}]
    assert user["name"] == {"givenName": "Carl", "familyName": "Ng", "middleName": "O."}
    assert user[department.rpartition(":")[0]] == {"department": "R&D"}
    assert user["roles"] == [{"primary": "True", "value": "dba"}]
    assert (user["id"], user["active"]) == (carl, True)
    user = patch({"op": "remove", "path": 'emails[type eq "home"]'}, {"op": "remove", "path": "name.middleName"}, {"op": "add", "path": "emails", "value": [{"type": "x"}]})
    assert [each["type"] for each in user["emails"]] == ["work", "x"]
    assert "middleName" not in user["name"]


def test_errors_and_what_is_not_here_are_said_in_scims_words(world):
    door, _ = world
    person(door)
    error = "urn:ietf:params:scim:api:messages:2.0:Error"
    for method, path, body, status in (
        ("GET", "/Users/none", None, 404), ("GET", "/Groups", None, 404), ("POST", "/Groups", {}, 404), ("GET", "/Bulk", None, 404),
        ("GET", "/Users?filter=active eq true", None, 400), ("POST", "/Users", {"schemas": [USER]}, 400),
        ("POST", "/Users", {"schemas": [USER], "userName": "carl@shop.example", "externalId": "x"}, 409),
    ):  # fmt: skip
        answer = scim(door, method, path, body)
        assert (answer.status_code, answer.headers["content-type"]) == (status, "application/scim+json"), path
        assert (answer.json()["schemas"], answer.json()["status"]) == ([error], str(status))
    assert scim(door, "GET", "/Groups", token="wrong").status_code == 401
    assert scim(door, "GET", "/Schemas").json()["Resources"][0]["id"] == USER
    assert scim(door, "GET", '/Users?filter=userName eq "CARL@shop.example"').json()["totalResults"] == 1
    assert scim(door, "GET", '/Users?filter=externalId eq "CARL"').json()["totalResults"] == 0
    quoted = scim(door, "GET", r'/Users?filter=userName eq "a\"b" or "1"="1"')
    assert quoted.status_code == 400
    assert scim(door, "GET", r'/Users?filter=userName eq "a\"b"').json()["totalResults"] == 0
    raw = b'{"schemas": ["%s"], "userName": "u", "externalId": "u", "active": false, "active": true}' % USER.encode()
    headers = {"authorization": f"Bearer {SCIM_TOKEN}", "content-type": "application/scim+json"}
    assert door.send("POST", "/scim/v2/Users", content=raw, headers=headers).status_code == 400


def test_no_other_stop_or_its_end_lifts_the_providers_no(world):
    """Who is stopped for two reasons is out until both are gone."""
    door, _ = world
    carl = person(door)
    token = door.token(door.idp.mint(sub="carl"))
    who = {"issuer": door.idp.issuer, "subject": "carl"}

    def active(value: bool) -> None:
        body = {"Operations": [{"op": "replace", "path": "active", "value": value}]}
        assert scim(door, "PATCH", f"/Users/{carl}", body).status_code == 200

    for first, second in (("isolate", "disable"), ("disable", "isolate")):
        for act in (first, second):
            if act == "isolate":
                assert post(door, "/v1/stops", admin(door), who | {"reason": "a look"}).status_code == 200
            else:
                active(False)
        assert post(door, "/v1/stops/release", admin(door), who).status_code == 409
        with pytest.raises(NotAdmitted):
            door.identity(token)
        active(True)
        with pytest.raises(NotAdmitted):
            door.identity(token)
        assert post(door, "/v1/stops/release", admin(door), who).status_code == 200
        assert door.identity(token).subject == "carl"
    # The same for the issuer's own no, which the next login at the issuer lifts by itself.
    def issuers_no() -> None:
        asyncio.run(door.records.stop(door.idp.issuer, "carl", Reason.LOST_OWNER, "the issuer says no", int(time.time()), by="issuer"))

    issuers_no()
    active(True)
    with pytest.raises(NotAdmitted, match="the issuer says no"):
        door.identity(token)
    active(False)
    with pytest.raises(Refused):
        asyncio.run(door.records.release(door.idp.issuer, "carl"))
    active(True)
    assert door.identity(token).subject == "carl"
    issuers_no()
    assert asyncio.run(door.records.release(door.idp.issuer, "carl"))
    assert door.identity(token).subject == "carl"


def active(door: Door, user: str, value: bool) -> None:
    body = {"Operations": [{"op": "replace", "path": "active", "value": value}]}
    assert scim(door, "PATCH", f"/Users/{user}", body).status_code == 200


def isolated(door: Door, path: str = "/v1/stops") -> int:
    who = {"issuer": door.idp.issuer, "subject": "carl"}
    return post(door, path, admin(door), who if path.endswith("release") else who | {"reason": "a look"}).status_code


def test_a_user_who_is_created_inactive_is_kept_and_stopped(world):
    door, ci = world
    account(door, ci)
    token = door.token(door.idp.mint(sub="carl"))
    carl = person(door, active=False)
    assert scim(door, "GET", f"/Users/{carl}").json()["active"] is False
    with pytest.raises(NotAdmitted) as caught:
        door.identity(token)
    assert caught.value.reason is Reason.LOST_OWNER
    assert "disabled carl" in door.events[-1].detail
    assert "1 accounts" in door.events[-1].detail
    active(door, carl, True)
    assert door.identity(token).subject == "carl"


def test_whoever_is_deleted_while_isolated_comes_back_by_no_release(world):
    door, _ = world
    carl = person(door)
    token = door.token(door.idp.mint(sub="carl"))
    assert isolated(door) == 200
    assert scim(door, "DELETE", f"/Users/{carl}").status_code == 204
    assert isolated(door, "/v1/stops/release") == 409
    with pytest.raises(NotAdmitted):
        door.identity(token)
    person(door)  # hired again: that lifts the provider's own no, and not the isolation
    with pytest.raises(NotAdmitted, match="a look"):
        door.identity(token)
    assert isolated(door, "/v1/stops/release") == 200
    assert door.identity(token).subject == "carl"


def test_whoever_was_deleted_is_let_in_again_by_being_created_active_and_by_nothing_less(world):
    door, _ = world
    token = door.token(door.idp.mint(sub="carl"))
    assert scim(door, "DELETE", f"/Users/{person(door)}").status_code == 204
    assert isolated(door, "/v1/stops/release") == 409
    body = {"schemas": [USER], "userName": "carl@shop.example", "externalId": "carl"}
    made = scim(door, "POST", "/Users", body).json()
    assert made["active"] is False
    assert scim(door, "DELETE", f"/Users/{made['id']}").status_code == 204
    with pytest.raises(NotAdmitted):
        door.identity(token)
    person(door)
    assert door.identity(token).subject == "carl"


def test_the_providers_no_takes_no_isolations_place_however_they_meet(world):
    door, _ = world
    carl = person(door)
    token = door.token(door.idp.mint(sub="carl"))
    real = door.board.change

    async def after_an_isolation(work):
        door.board.change = real
        await door.records.stop(door.idp.issuer, "carl", Reason.STOPPED_ACTOR, "a look", int(time.time()))
        return await real(work)

    door.board.change = after_an_isolation  # whatever the provider's request has looked up by now is old
    active(door, carl, False)
    active(door, carl, True)
    with pytest.raises(NotAdmitted, match="a look"):
        door.identity(token)


def test_the_issuers_yes_lifts_no_isolation_however_they_meet(world):
    door, _ = world
    now = int(time.time())
    asyncio.run(door.records.stop(door.idp.issuer, "carl", Reason.LOST_OWNER, "gone", now, by="issuer"))
    asyncio.run(door.records.stop(door.idp.issuer, "carl", Reason.STOPPED_ACTOR, "a look", now))
    assert not asyncio.run(door.records.release(door.idp.issuer, "carl", by="issuer"))
    assert door.records.stopped_by(door.idp.issuer, "carl") == ""


def test_a_change_of_anything_else_lets_nobody_in_whom_another_request_disables(world):
    door, _ = world
    carl = person(door)
    token = door.token(door.idp.mint(sub="carl"))
    headers = {"authorization": f"Bearer {SCIM_TOKEN}", "content-type": "application/scim+json"}
    disabled = asyncio.Event()
    real = door._record

    async def record(event) -> None:
        """Have the harmless change wait for the other one, for as long as that can get on."""
        for _ in range(20):
            if disabled.is_set() or event.detail.startswith("disabled"):
                break
            await asyncio.sleep(0.01)
        await real(event)

    async def both() -> None:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=door.app), base_url="http://127.0.0.1") as client:

            async def patch(path: str, value: object) -> None:
                body = {"Operations": [{"op": "replace", "path": path, "value": value}]}
                assert (await client.patch(f"/scim/v2/Users/{carl}", content=json.dumps(body), headers=headers)).status_code == 200
                if path == "active":
                    disabled.set()

            await asyncio.gather(patch("displayName", "Carl"), patch("active", False))

    object.__setattr__(door.deps, "record", record)
    asyncio.run(both())
    assert scim(door, "GET", f"/Users/{carl}").json()["active"] is False
    with pytest.raises(NotAdmitted):
        door.identity(token)


def test_no_delegation_is_kept_of_somebody_who_is_stopped_meanwhile(world):
    """It would come to life with the release."""
    door, _ = world
    now = int(time.time())
    asyncio.run(door.records.stop(door.idp.issuer, "carl", Reason.STOPPED_ACTOR, "a look", now))
    given = Delegation(
        id="d" * 64, iss=door.idp.issuer, sub="carl", name="Carl", by_iss=door.idp.issuer, by_sub="carl", to_iss="a", to_sub="agent",
        details=[], purpose="", ticket="", created=now, expires=now + 60,
    )  # fmt: skip
    for iss, sub in ((door.idp.issuer, "carl"), ("a", "agent")):
        with pytest.raises(Refused, match="was stopped"):
            asyncio.run(door.records.add_delegation(given, now))
        asyncio.run(door.records.release(iss, sub))
        asyncio.run(door.records.stop("a", "agent", Reason.STOPPED_ACTOR, "a look", now))


@pytest.mark.parametrize(
    "body",
    [
        '{"issuer": "I", "subject": "mallory", "subject": "sue", "reason": "r"}', '{"issuer": "I", "subject": "\\ud800", "reason": "r"}',
        "[" * 30_000, '{"issuer": "I", "subject": "sue", "reason": "r"} {}', '\ufeff{"issuer": "I", "subject": "sue", "reason": "r"}',
    ],
)  # fmt: skip
def test_what_two_readers_could_read_differently_stops_nobody(world, body):
    door, _ = world
    headers = {"authorization": f"Bearer {admin(door)}", "content-type": "application/json"}
    answer = door.send("POST", "/v1/stops", content=body.replace('"I"', json.dumps(door.idp.issuer)).encode(), headers=headers)
    assert answer.status_code == 400, answer.text
    assert post(door, "/v1/stops", admin(door), {"issuer": door.idp.issuer, "subject": "x", "reason": "r"}).status_code == 200
    assert [each["sub"] for each in door.send("GET", "/v1/stops", headers=headers).json()["stopped"]] == ["x"]


@pytest.mark.parametrize("name", ["ca\nrl", "carl\u200b", "carl\u3164", " carl", "carl ", " ", "\u202ecarl"])
def test_nobody_is_told_of_under_a_name_that_no_token_can_have(world, name):
    door, _ = world
    body = {"schemas": [USER], "userName": "u", "externalId": name}
    assert scim(door, "POST", "/Users", body).status_code == 400
    carl = person(door)
    assert scim(door, "PATCH", f"/Users/{carl}", {"Operations": [{"op": "replace", "path": "externalId", "value": name}]}).status_code == 400


def test_requests_of_scim_that_cannot_be_read_are_answered_in_its_words(world):
    door, _ = world
    carl = person(door)
    for query in ("startIndex=--5", "count=-", "count=1e3", "startIndex=1234567890"):
        assert scim(door, "GET", f"/Users?{query}").status_code == 400
    half = {"schemas": [USER], "userName": "u", "externalId": "u", "displayName": "\ud800"}
    assert scim(door, "POST", "/Users", half).json()["scimType"] == "invalidSyntax"
    assert scim(door, "PATCH", f"/Users/{carl}", {"Operations": [{"op": "add", "path": "title", "value": "\udfff"}]}).status_code == 400
    two = [("authorization", f"Bearer {SCIM_TOKEN}"), ("authorization", "Bearer other")]
    assert door.send("GET", "/scim/v2/Users", headers=two).status_code == 401
