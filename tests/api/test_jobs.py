"""A job is over when its CI system says so, or it itself; and then what was made for it is good no more."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import time

import pytest

from ostiary.api.words import DELEGATION_TOKEN, JWT
from ostiary.app.control import end_job
from ostiary.identity.jobs import Hook, moment
from ostiary.model.errors import NotAdmitted, Reason
from ostiary.model.secrets import Secret
from ostiary.testing.issuer import LocalIssuer
from tests.api.conftest import Agent

GITHUB, GITLAB = "a secret of GitHub's", "a secret of GitLab's"


@pytest.fixture
def world(make_door):
    """A door that ends jobs, and an issuer of CI jobs beside the one for people."""
    with LocalIssuer() as ci:
        table = {"issuer": ci.issuer, "audience": "ostiary", "kind": "workload", "algorithms": ["EdDSA"], "task_claim": "run_id"}
        held: dict = {}

        async def end(issuer, task, at, by):
            await end_job(held["door"].board, True, issuer, task, at, by)

        hooks = (Hook("github", ci.issuer, Secret(GITHUB)), Hook("gitlab", ci.issuer, Secret(GITLAB)))
        door = held["door"] = make_door(issuers=[table], end_job=end, job_hooks=hooks)
        yield door, ci


def job(ci, **over):
    return ci.mint(sub="repo:shop/deploy", **({"run_id": "8123"} | over))


def github(door, body, secret=GITHUB, event="workflow_run", **headers):
    raw = json.dumps(body).encode()
    signed = "sha256=" + hmac.new(secret.encode(), raw, hashlib.sha256).hexdigest()
    headers = {"x-github-event": event, "x-hub-signature-256": signed, "content-type": "application/json"} | headers
    return door.send("POST", "/v1/jobs/github", content=raw, headers=headers)


def gitlab(door, body, token=GITLAB):
    return door.send("POST", "/v1/jobs/gitlab", json=body, headers={"x-gitlab-token": token})


def run(action="completed", number=8123, at=""):
    return {"action": action, "workflow_run": {"id": number, "updated_at": at}, "repository": {"full_name": "shop/deploy"}}


def pipeline(status="success", number=8123, kind="pipeline"):
    return {"object_kind": kind, "object_attributes": {"id": number, "status": status, "finished_at": None}}


TELL = {
    "github": lambda door, ci: github(door, run()),
    "gitlab": lambda door, ci: gitlab(door, pipeline("failed")),
    "itself": lambda door, ci: door.send("POST", "/v1/jobs/end", headers={"authorization": f"Bearer {job(ci)}"}),
}


@pytest.mark.parametrize("who", TELL)
def test_what_was_made_for_a_job_is_good_no_more_after_its_end(world, who):
    door, ci = world
    early = job(ci, iat=int(time.time()) - 5)
    token = door.token(early)
    other = door.token(job(ci, run_id="8124"))
    answer = TELL[who](door, ci)
    assert (answer.status_code, answer.json()) == (200, {"task": "8123"})
    assert door.events[-1].action == "job.end"
    assert who in door.events[-1].detail
    for shown in (early, token):
        with pytest.raises(NotAdmitted, match="misuse ended_job") as refused:
            door.identity(shown)
        assert refused.value.reason is Reason.MISUSED_TOKEN
    assert door.exchange(early).status_code == 400
    assert door.events[-1].reason is Reason.MISUSED_TOKEN
    assert door.identity(other).task == "8124"


def test_a_run_that_is_started_again_has_tokens_of_its_own(world):
    door, ci = world
    early = job(ci, iat=int(time.time()) - 60, auth_time=None)
    ended = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 30))
    assert github(door, run(at=ended)).status_code == 200
    with pytest.raises(NotAdmitted):
        door.identity(early)
    assert door.identity(job(ci)).task == "8123"


@pytest.mark.parametrize(
    "tell",
    [
        lambda door: github(door, run("requested")),
        lambda door: github(door, run("in_progress")),
        lambda door: github(door, {"zen": "Keep it logically awesome."}, event="ping"),
        lambda door: gitlab(door, pipeline("running")),
        lambda door: gitlab(door, pipeline(kind="build")),
        lambda door: gitlab(door, {"object_kind": "push", "object_attributes": None}),
    ],
)
def test_what_says_something_else_ends_nothing(world, tell):
    door, ci = world
    token = door.token(job(ci))
    assert tell(door).status_code == 204
    assert door.identity(token).task == "8123"


@pytest.mark.parametrize(
    ("tell", "status"),
    [
        (lambda door: github(door, run(), secret=GITLAB), 401),
        (lambda door: github(door, run(), **{"x-hub-signature-256": ""}), 401),
        (lambda door: github(door, run(), **{"x-hub-signature-256": "sha1=" + "0" * 40}), 401),
        (lambda door: gitlab(door, pipeline(), token=GITHUB), 401),
        (lambda door: gitlab(door, pipeline(), token=""), 401),
        (lambda door: github(door, {"action": "completed"}), 400),
        (lambda door: github(door, [1]), 400),
        (lambda door: gitlab(door, {"object_kind": "pipeline", "object_attributes": {"id": "8123"}}), 400),
    ],
)
def test_nobody_else_ends_a_job_and_who_tries_is_on_record(world, tell, status):
    door, ci = world
    token = door.token(job(ci))
    assert tell(door).status_code == status
    assert door.identity(token).task == "8123"
    if status == 401:
        assert (door.events[-1].action, door.events[-1].reason) == ("job.end", Reason.BAD_TOKEN)


def test_only_a_job_ends_itself_and_no_person_or_agent_of_it(world):
    door, ci = world
    shown = {
        door.idp.mint(): 403,
        job(ci, act={"sub": "agent:helper"}): 403,
        job(ci, run_id=None): 401,
        job(ci, exp=1): 401,
        "": 401,
    }
    for token, status in shown.items():
        answer = door.send("POST", "/v1/jobs/end", headers={"authorization": f"Bearer {token}"})
        assert answer.status_code == status, token
    assert door.identity(door.token(job(ci))).task == "8123"


def test_a_person_with_a_task_of_the_same_name_goes_on(world):
    door, _ = world
    github(door, run())
    person = {"type": "ostiary", "id": "8123", "connections": ["orders-db"]}
    assert door.identity(door.idp.mint(authorization_details=[person])).task == "8123"


def test_without_webhooks_there_is_no_place_for_them(make_door):
    door = make_door()
    assert github(door, run()).status_code == 404


def test_a_webhook_is_believed_about_when_it_was_and_never_about_the_future():
    now = 1_800_000_000.0
    assert moment("2027-01-15T07:59:00Z", now) == now - 60
    assert moment("2027-01-15 07:59:00 UTC", now) == now - 60
    assert moment("2026-01-15T08:00:00Z", now) == now - 365 * 86_400
    for said in ("2027-01-15T08:01:00Z", "2027-01-15T07:59:00", "yesterday", ""):
        assert moment(said, now) == now


def stamp(seconds_ago):
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - seconds_ago))


def test_a_webhook_that_is_sent_again_ends_nothing_that_began_since(world):
    door, ci = world
    for ago in (3 * 86_400, 120):
        token = job(ci, iat=int(time.time()) - 60, auth_time=None)
        assert github(door, run(at=stamp(ago))).status_code == 200
        assert door.identity(token).task == "8123"


def test_what_is_told_late_of_an_earlier_end_takes_no_later_one_back(world):
    door, ci = world
    early = job(ci, iat=int(time.time()) - 60, auth_time=None)
    for ago in (30, 90):
        assert github(door, run(at=stamp(ago))).status_code == 200
        with pytest.raises(NotAdmitted, match="misuse ended_job"):
            door.identity(early)


def test_what_a_job_does_for_a_person_ends_with_the_job(world):
    door, ci = world
    now = int(time.time())
    form = {"to": "repo:shop/deploy", "to_issuer": ci.issuer, "seconds": "3600"}
    form["authorization_details"] = json.dumps([{"type": "ostiary", "connections": ["orders-db"], "actions": ["read"]}])
    given = door.send("POST", "/v1/delegations", data=form, headers={"authorization": f"Bearer {door.token()}"})
    assert given.status_code == 201, given.text

    def acting(**over):
        shown = {"actor_token": job(ci, **over), "actor_token_type": JWT, "subject_token_type": DELEGATION_TOKEN}
        return door.token(given.json()["delegation"], **shown)

    other = acting(run_id="9000")
    mine = acting(iat=now - 60, auth_time=None)
    again = door.token(mine)  # exchanged once more, it is the same job's
    assert (door.identity(mine).subject, door.identity(mine).acting[0].sub) == ("ana", "repo:shop/deploy")
    assert github(door, run(at=stamp(30))).status_code == 200
    for token in (mine, again):
        with pytest.raises(NotAdmitted, match="the job 8123 has ended"):
            door.identity(token)
    assert door.identity(other).subject == "ana"
    assert door.identity(acting()).subject == "ana", "a run that is started again"
    assert door.identity(door.token()).subject == "ana"


def test_a_job_gives_no_delegation_that_outlives_it(make_door, tmp_path):
    with LocalIssuer() as ci:
        door = make_door(Agent(tmp_path, "agent:x"), issuers=[{"issuer": ci.issuer, "audience": "ostiary", "kind": "workload", "algorithms": ["EdDSA"]}])
        token = door.token(ci.mint(sub="job"))
        form = {"to": "agent:x", "seconds": "86400"}
        form["authorization_details"] = json.dumps([{"type": "ostiary", "connections": ["orders-db"], "actions": ["read"]}])
        answer = door.send("POST", "/v1/delegations", data=form, headers={"authorization": f"Bearer {token}"})
        assert answer.status_code == 201, answer.text
        given = asyncio.run(door.verifier.verify_token(answer.json()["delegation"], time.time())).identity
        mine = door.identity(token)
        assert given.expires <= mine.expires
        assert mine.auth.token in given.auth.family
