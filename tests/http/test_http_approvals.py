"""Approvals over HTTP: a request waits, or is told to come again, and a yes is for exactly it, once. The `approval` cases of the corpus."""

from __future__ import annotations

import signal
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from conftest import Answer, World, hear, with_token, world

from tests.approvals.world import Person, child, events, stopped, until

POLICY = """
@id("all") permit (principal, action, resource);
@id("deletes-need-a-dba") @approval("dba") @message("Deletes need a DBA.")
forbid (principal, action == Ostiary::Action::"delete", resource) unless { context.approved_by.contains("dba") };
@id("writes-to-money") @approval("dba:2,security:1")
forbid (principal, action == Ostiary::Action::"write", resource in Ostiary::Path::"app/money")
unless { context.approved_by.contains("dba") && context.approved_by.contains("security") };
@id("never") forbid (principal, action, resource in Ostiary::Path::"app/never");
@id("haunted") @approval("ghosts")
forbid (principal, action, resource in Ostiary::Path::"app/haunted") unless { context.approved_by.contains("ghosts") };
"""
SETTINGS = {
    "approvals": {
        "break_glass_groups": ["oncall"], "review_groups": ["security"], "max_open": 50, "max_per_hour": 1000, "wait_seconds": 120.0,
    }
}  # fmt: skip
ALERTS = [
    {"name": "asks", "when": "refusals", "count": 2, "do": ["demand-approval"], "approvers": ["dba"], "groups": ["temps"]},
    {"name": "ends", "when": "refusals", "count": 2, "do": ["end-session"], "groups": ["interns"]},
]
HELD = {"approval_seconds": 60.0}
DELETE = b"DELETE /orders/7 HTTP/1.1\r\nHost: app\r\n\r\n"


@pytest.fixture(scope="module")
def made() -> Iterator[World]:
    """Requests that need approval are answered at once."""
    with world(POLICY, sections=SETTINGS, tables={"alerts": ALERTS}, approval_seconds=0.0, detect=[]) as each:
        yield each


@pytest.fixture(scope="module")
def waiting() -> Iterator[World]:
    """They are held."""
    with world(POLICY, sections=SETTINGS, detect=[], **HELD) as each:
        yield each


class Held:
    """A request that waits for its answer in a thread."""

    def __init__(self, app: World, raw: bytes = DELETE, token: str | None = None) -> None:
        self._said: list[bytes] = []
        self._thread = threading.Thread(target=lambda: self._said.append(app.say(raw, token=token)), daemon=True)
        self._thread.start()

    @property
    def is_waiting(self) -> bool:
        return self._thread.is_alive()

    def answer(self) -> Answer:
        self._thread.join(60)
        assert not self._thread.is_alive(), "it still waits"
        return Answer.read(self._said[0])


def dora(app: World) -> Person:
    return Person(app.gateway, "dora", "dba")


def asked(app: World, raw: bytes = DELETE, token: str | None = None) -> dict[str, Any]:
    """Make a request that has to come again; what it is told."""
    answer = Answer.read(app.say(raw, token=token))
    assert answer.status == 403, answer
    assert ("retry-after", "10") in answer.headers
    problem: dict[str, Any] = answer.json()
    assert problem["approval_url"].endswith(f"/v1/approvals/{problem['approval']}")
    return problem


def sent(app: World) -> int:
    """How many requests that change something reached the service."""
    return sum(app.service.heard.count(method + b" /") for method in (b"DELETE", b"POST", b"PUT"))


# --- held ---


def test_a_request_is_held_and_goes_on_when_the_answer_comes(waiting: World) -> None:
    before, held = sent(waiting), Held(waiting)
    question = dora(waiting).wait_question()
    assert sent(waiting) == before
    dora(waiting).approve(question)
    assert held.answer().json()["line"] == "DELETE /orders/7 HTTP/1.1"
    (intent,) = [each for each in waiting.records("intent") if each["decision"].get("approval") == question["id"]]
    assert intent["decision"]["approved_by"] == ["dba"]
    assert waiting.records("outcome")[-1]["result"]["status"] == "ok"


def test_a_no_is_told_with_its_reason_and_again_to_who_repeats_the_request(waiting: World) -> None:
    raw = b"DELETE /denied HTTP/1.1\r\nHost: app\r\n\r\n"
    before, held = sent(waiting), Held(waiting, raw)
    dora(waiting).deny(dora(waiting).wait_question(), reason="not today")
    answer = held.answer()
    assert (answer.status, "not today" in answer.json()["detail"]) == (403, True)
    assert "retry-after" not in dict(answer.headers)
    assert "not today" in Answer.read(waiting.say(raw)).json()["detail"]
    assert dora(waiting).questions() == []
    assert sent(waiting) == before


def test_a_client_that_goes_away_calls_its_question_off_on_record(waiting: World) -> None:
    before = sent(waiting)
    with waiting.connect() as sock:
        sock.sendall(with_token(DELETE, waiting.gateway.token("gone")))
        question = dora(waiting).wait_question()
        sock.shutdown(socket.SHUT_RDWR)
    until(lambda: dora(waiting).show(question["id"])["state"] == "cancelled")
    assert dora(waiting).approve(question).status_code == 403
    until(lambda: any("the client has gone" in each["decision"]["message"] for each in waiting.records("deny")))
    assert sent(waiting) == before


def test_apr_012_of_two_that_wait_for_one_answer_one_runs(waiting: World) -> None:
    raw = b"DELETE /twice HTTP/1.1\r\nHost: app\r\n\r\n"
    before, both = sent(waiting), [Held(waiting, raw), Held(waiting, raw)]
    question = dora(waiting).wait_question()
    third = waiting.connect()  # one more, which goes away: the question of the others stays
    third.sendall(with_token(raw, waiting.token))
    assert Answer.read(waiting.say(b"GET /x HTTP/1.1\r\nHost: app\r\n\r\n")).status == 200
    third.close()
    dora(waiting).approve(question)
    while any(each.is_waiting for each in both):  # whoever came too late for the answer has asked anew
        for other in dora(waiting).questions():
            dora(waiting).deny(other)
    assert sorted(each.answer().status for each in both) == [200, 403]
    assert sent(waiting) == before + 1


def test_a_body_of_a_delete_is_part_of_what_is_asked(waiting: World) -> None:
    raw = with_token(b"DELETE /with-body HTTP/1.1\r\nHost: app\r\nContent-Type: text/plain\r\nContent-Length: 9\r\n\r\n", waiting.gateway.token("w"))
    with waiting.connect() as sock:
        sock.sendall(raw + b"all ")
        assert Answer.read(waiting.say(b"GET /x HTTP/1.1\r\nHost: app\r\n\r\n")).status == 200
        assert dora(waiting).questions() == []
        sock.sendall(b"of it")
        question = dora(waiting).wait_question()
        shown = dora(waiting).show(question["id"])
        assert shown["statement"].endswith("\n\nall of it")
        dora(waiting).approve(question)
        assert Answer.read(hear(sock)).json()["bytes"] == 9


def test_apr_017_policy_that_changed_meanwhile_decides(waiting: World) -> None:
    held, before = Held(waiting), sent(waiting)
    question = dora(waiting).wait_question()
    more = '\n@id("no-more") forbid (principal, action == Ostiary::Action::"delete", resource);'
    (waiting.gateway.home / "policy.cedar").write_text(POLICY + more)
    waiting.gateway.process.send_signal(signal.SIGHUP)
    until(lambda: [each for each in waiting.gateway.entries() if each.get("config", {}).get("action") == "reload"])
    dora(waiting).approve(question)
    assert "no-more" in held.answer().json()["detail"]
    assert sent(waiting) == before


# --- repeated ---


def test_the_same_request_repeated_after_the_approval_runs_once(made: World) -> None:
    before, told = sent(made), asked(made)
    assert asked(made)["approval"] == told["approval"]
    dora(made).approve(dora(made).show(told["approval"]))
    assert Answer.read(made.say(DELETE)).status == 200
    assert sent(made) == before + 1
    assert dora(made).show(told["approval"])["state"] == "used"
    assert asked(made)["approval"] != told["approval"]


def test_a_new_token_of_the_same_person_and_a_new_trace_are_the_same_request(made: World) -> None:
    raw = b"DELETE /traced HTTP/1.1\r\nHost: app\r\nTraceparent: %b\r\nDate: %b\r\n\r\n"
    told = asked(made, raw % (b"00-1", b"now"), made.gateway.token("tom"))
    dora(made).approve(dora(made).show(told["approval"]))
    assert Answer.read(made.say(raw % (b"00-2", b"later"), token=made.gateway.token("tom"))).status == 200
    assert b"00-2" not in made.service.heard  # what no approver saw is not sent under their approval


POST = b"POST /money/1 HTTP/1.1\r\nHost: app\r\nCookie: a=1\r\nX-Mode: dry\r\nContent-Type: application/json\r\nContent-Length: 7\r\n\r\n"


def test_apr_001_an_approval_of_one_request_runs_no_other(made: World) -> None:
    before, told = sent(made), asked(made, POST + b'{"a":1}')
    people = [dora(made), Person(made.gateway, "dan", "dba"), Person(made.gateway, "sid", "security")]
    for person in people:
        assert person.approve(dora(made).show(told["approval"])).status_code == 200
    others = [
        POST + b'{"a":2}', POST.replace(b"/money/1", b"/money/2") + b'{"a":1}', POST.replace(b"POST", b"PUT ").replace(b"PUT  ", b"PUT ") + b'{"a":1}',
        POST.replace(b"a=1", b"a=2") + b'{"a":1}', POST.replace(b"dry", b"wet") + b'{"a":1}', POST.replace(b"X-Mode: dry\r\n", b"") + b'{"a":1}',
        POST.replace(b"/money/1", b"/money/1?force=1") + b'{"a":1}',
    ]  # fmt: skip
    assert len({asked(made, other)["approval"] for other in others} | {told["approval"]}) == len(others) + 1
    assert asked(made, POST + b'{"a":1}', made.gateway.token("bob"))["approval"] != told["approval"]
    agent = made.gateway.token("ana", act={"sub": "coder-7"})
    assert asked(made, POST + b'{"a":1}', agent)["approval"] != told["approval"]
    assert sent(made) == before
    assert Answer.read(made.say(POST + b'{"a":1}')).status == 200
    assert sent(made) == before + 1


def test_apr_003_what_is_shown_is_what_would_be_sent_spelled_out_and_without_secrets(made: World) -> None:
    body = '{"to":"\u202eevil\x1b[2J"}'.encode()
    raw = b"POST /money/s HTTP/1.1\r\nHost: app\r\nCookie: sid=s3cret\r\nContent-Length: %d\r\n\r\n" % len(body)
    shown = dora(made).show(asked(made, raw + body)["approval"])
    assert shown["statement"].startswith("POST /money/s HTTP/1.1\nHost: 127.0.0.1")
    assert "s3cret" not in shown["statement"]
    assert "\\u202eevil\\x1b[2J" in shown["statement"]
    assert any("RIGHT-TO-LEFT OVERRIDE" in flag for flag in shown["flags"])


def test_apr_003_what_cannot_be_shown_whole_is_not_offered(made: World) -> None:
    before = sent(made)
    raw = b"DELETE /big HTTP/1.1\r\nHost: app\r\nContent-Length: 100000\r\n\r\n" + b"x" * 100_000
    assert "too large to be shown" in Answer.read(made.say(raw)).json()["detail"]
    assert sent(made) == before


def test_apr_009_neither_who_asks_nor_their_agent_approves(made: World) -> None:
    told = asked(made, token=made.gateway.token("dora", groups=["dba"], act={"sub": "coder-7"}))
    question = Person(made.gateway, "dan", "dba").show(told["approval"])
    assert dora(made).approve(question).status_code == 403
    assert Person(made.gateway, "dan", "dba", act={"sub": "coder-7"}).approve(question).status_code == 403


def test_apr_014_an_approver_who_lost_the_group_is_not_counted(made: World) -> None:
    raw, before = b"DELETE /lost HTTP/1.1\r\nHost: app\r\n\r\n", sent(made)
    number = asked(made, raw)["approval"]
    leaver = Person(made.gateway, "leaver", "dba")
    assert leaver.approve(leaver.show(number)).json()["state"] == "approved"
    Person(made.gateway, "leaver", "staff").get("/v1/approvals")
    assert Answer.read(made.say(raw)).status == 403
    assert sent(made) == before


def test_apr_023_behind_broken_glass_nobody_is_asked_and_it_is_on_record(made: World) -> None:
    olga = Person(made.gateway, "olga", "oncall")
    glass = olga.post("/v1/break-glass", {"connection": "app", "reason": "orders are stuck"}).json()["id"]
    assert until(lambda: Answer.read(made.say(DELETE, token=olga.token)).status == 200)
    assert [each for each in made.records("intent") if each["decision"].get("approval") == glass]


def test_an_alert_demands_approval_for_everything_and_another_ends_the_session(made: World) -> None:
    get, never = b"GET /x HTTP/1.1\r\nHost: app\r\n\r\n", b"GET /never HTTP/1.1\r\nHost: app\r\n\r\n"
    temp, intern = made.gateway.token("tess", groups=["temps"]), made.gateway.token("ines", groups=["interns"])
    for token in (temp, temp, intern, intern):
        assert Answer.read(made.say(never, token=token)).status == 403
    told = until(lambda: (found := Answer.read(made.say(get, token=temp))).status == 403 and found.json())
    assert "after an alert" in told["detail"]
    dora(made).approve(dora(made).show(told["approval"]))
    assert Answer.read(made.say(get, token=temp)).status == 200
    assert Answer.read(made.say(get, token=temp)).status == 403
    until(lambda: any(each["result"]["status"] == "ENDED_BY_ALERT" for each in made.records("session.end")))


def test_apr_018_apr_019_a_yes_outlives_the_gateway_and_where_nobody_can_be_asked_nothing_runs(made: World) -> None:
    raw, before = b"DELETE /restart HTTP/1.1\r\nHost: app\r\n\r\n", sent(made)
    told = asked(made, raw)
    assert dora(made).approve(dora(made).show(told["approval"])).json()["state"] == "approved"
    made.gateway.kill()
    made.gateway.start()
    assert sent(made) == before
    with stopped(child(made.gateway, "control")):
        assert "nobody can be asked" in Answer.read(made.say(raw.replace(b"restart", b"alone"))).json()["detail"]
    assert until(lambda: Answer.read(made.say(raw)).status == 200)
    assert asked(made, raw)["approval"] != told["approval"]
    assert sent(made) == before + 1
    assert len([each for each in events(made.gateway, "used") if each["approval"]["id"] == told["approval"]]) == 1


def test_apr_013_apr_015_apr_022_questions_are_bounded_and_expire() -> None:
    settings = {"approvals": SETTINGS["approvals"] | {"max_open": 3, "wait_seconds": 3.0}}
    with world(POLICY, sections=settings, approval_seconds=0.0, detect=[]) as app:
        told, haunted = asked(app), asked(app, b"GET /haunted HTTP/1.1\r\nHost: app\r\n\r\n")
        asked(app, b"DELETE /flood HTTP/1.1\r\nHost: app\r\n\r\n")
        flooded = Answer.read(app.say(b"DELETE /flood/2 HTTP/1.1\r\nHost: app\r\n\r\n"))
        assert "more are not asked" in flooded.json()["detail"]
        dora(app).approve(dora(app).show(told["approval"]))
        until(lambda: dora(app).show(told["approval"])["state"] == "expired")
        assert asked(app)["approval"] != told["approval"]
        assert asked(app, b"GET /haunted HTTP/1.1\r\nHost: app\r\n\r\n")["approval"] != haunted["approval"]
        assert sent(app) == 0
