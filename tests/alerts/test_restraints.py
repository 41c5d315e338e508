"""Budgets, and rules over what is on record: pure, and then on a real PostgreSQL."""

from __future__ import annotations

import asyncio
import datetime as dt
import time
from pathlib import Path
from typing import Any

import pytest

from ostiary.alerts.budgets import Budgets
from ostiary.alerts.engine import AREA, Engine
from ostiary.alerts.heard import chain_key
from ostiary.alerts.rules import HOUR, Memory, Watch
from ostiary.config.types import Alert
from ostiary.config.types import Budget as Section
from ostiary.model.decisions import NeedsApproval, Permit, Refusal
from ostiary.model.errors import NotAdmitted, Reason
from ostiary.model.identity import Actor, Kind, Mandate
from ostiary.model.operations import Action
from ostiary.model.restraints import Budget, Purse, Restraint
from ostiary.policy.decide import decide
from ostiary.policy.policies import Policies
from ostiary.policy.restrained import restrained
from ostiary.store import news
from ostiary.store.database import Database
from ostiary.store.news import NewsBoard
from ostiary.testing.gateway import gateway, target
from ostiary.testing.peers import postgres_cluster
from ostiary.testing.pgclient import Closed, ServerError
from tests.approvals.world import Person, until, waits
from tests.policy.policy_world import connection, identity, operation, touch

ALL = Policies.load({"p": "permit (principal, action, resource);"})
AGENT = Actor("https://idp.example.com", "coder", Kind.AGENT, "coder")


def permit(action: Action = Action.READ, who=None) -> Permit:
    found = decide(ALL, who or identity("staff"), operation(touch(action)), connection())
    assert isinstance(found, Permit)
    return found


def restraint(**budget: Any) -> Restraint:
    return Restraint((Purse(Budget(**{"name": "b", "of": "operations", "most": 2, "per": "session"} | budget)),))


def test_the_operation_that_is_one_too_many_is_refused_before_it_happens() -> None:
    held = restraint()
    assert [type(restrained(held, permit(), 100)) for _ in range(3)] == [Permit, Permit, Refusal]
    refused = restrained(held, permit(), 100)
    assert isinstance(refused, Refusal)
    assert (refused.grounds.because, "2 operations a session" in refused.grounds.message) == (("budget:b",), True)


def test_deletes_are_counted_apart_and_leave_reading_alone() -> None:
    held = restraint(of="deletes", most=1)
    assert isinstance(restrained(held, permit(Action.DELETE), 1), Permit)
    assert isinstance(restrained(held, permit(Action.DELETE), 1), Refusal)
    assert isinstance(restrained(held, permit(), 1), Permit)


def test_a_window_ends_with_its_time_and_a_clock_that_goes_back_opens_none() -> None:
    held = restraint(most=1, per="day")
    day = 86_400 * 20_000
    assert isinstance(restrained(held, permit(), day), Permit)
    assert isinstance(restrained(held, permit(), day + 86_399), Refusal)
    assert isinstance(restrained(held, permit(), day - 86_400), Refusal)
    assert isinstance(restrained(held, permit(), day + 86_400), Permit)


def test_rows_end_the_session_before_one_too_many_leaves() -> None:
    held = restraint(of="rows", most=10)
    held.took(10, 999)
    assert isinstance(restrained(held, permit(), 1), Refusal)
    with pytest.raises(NotAdmitted) as ended:
        held.took(1, 1)
    assert ended.value.reason is Reason.BUDGET_SPENT


def test_rows_by_the_second_refuse_the_next_operation_and_not_the_one_at_hand() -> None:
    held = restraint(of="rows", most=10, per="second")
    assert isinstance(restrained(held, permit(), 5), Permit)
    held.took(1000, 1)
    assert isinstance(restrained(held, permit(), 5), Refusal)
    assert isinstance(restrained(held, permit(), 6), Permit)


def test_sessions_of_one_person_share_a_budget_and_so_do_those_under_one_mandate(tmp_path: Path) -> None:
    sections = (
        Section(name="by-person", of="operations", most=3, per="day", kinds=(Kind.AGENT,)),
        Section(name="by-mandate", of="operations", most=3, per="day", by="mandate"),
    )
    budgets = Budgets(sections, tmp_path / "b.json")
    mandate = Mandate("m-1", None, None, None)
    ana, through = identity("staff"), identity("staff", acting=(AGENT,))
    assert budgets.purses(ana, connection(), 1) == ()
    first, second = budgets.purses(through, connection(), 1)[0], budgets.purses(through, connection(), 1)[0]
    assert first is second
    assert budgets.purses(identity(subject="bob", acting=(AGENT,)), connection(), 1)[0] is not first
    one = budgets.purses(identity(subject="x", mandate=mandate), connection(), 1)
    other = budgets.purses(identity(subject="y", mandate=mandate), connection(), 1)
    assert one[0] is other[0]
    first, narrowed = Mandate("m-2", None, None, None), Mandate("m-3", None, ("read",), None)
    before = budgets.purses(identity(mandate=first, task="m-2"), connection(), 1)
    assert budgets.purses(identity(mandate=narrowed, task="m-2"), connection(), 1)[0] is before[0]


def test_what_was_spent_of_a_day_outlives_a_restart(tmp_path: Path) -> None:
    sections = (Section(name="daily", of="operations", most=2, per="day"),)
    now = 86_400 * 20_000 + 5
    before = Budgets(sections, tmp_path / "b.json")
    held = Restraint(before.purses(identity(), connection(), now))
    assert isinstance(restrained(held, permit(), now), Permit)
    before.keep()
    assert (tmp_path / "b.json").stat().st_mode & 0o077 == 0
    again = Restraint(Budgets(sections, tmp_path / "b.json").purses(identity(), connection(), now))
    assert [type(restrained(again, permit(), now)) for _ in range(2)] == [Permit, Refusal]


def test_after_an_alert_everything_takes_approval_but_being_connected() -> None:
    held = Restraint(())
    held.demanded = (("dba", 1),)
    asked = restrained(held, permit(Action.READ), 1)
    assert isinstance(asked, NeedsApproval)
    assert asked.approvers == (("dba", 1),)
    approved = decide(ALL, identity(), operation(touch(Action.READ)), connection(), approved_by=frozenset({"dba"}), approval="q")
    assert isinstance(approved, Permit)
    assert restrained(held, approved, 1) is approved


# --- rules ---


def start(session: str = "s", *, act: bool = False, groups: tuple[str, ...] = ("staff",)) -> dict[str, Any]:
    who: dict[str, Any] = {"iss": "i", "sub": "ana", "kind": "human", "name": "Ana", "groups": list(groups)}
    if act:
        who["act"] = [{"iss": "i", "sub": "coder", "kind": "agent", "name": "coder"}]
    return {"kind": "session.start", "session": session, "who": who, "target": {"connection": "db"}, "t": at(0), "id": "0"}


def at(seconds: float) -> str:
    return (dt.datetime(2026, 11, 25, 12, tzinfo=dt.UTC) + dt.timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")


def entry(kind: str, seconds: float = 0, session: str = "s", table: str = "t", **result: Any) -> dict[str, Any]:
    return {
        "kind": kind, "session": session, "t": at(seconds), "id": f"{kind}-{seconds}", "result": result,
        "op": {"objects": [{"kind": "relation", "name": table, "action": "read"}]},
    }  # fmt: skip


def watch(**rule: Any) -> Watch:
    found = Watch((Alert(name="r", **rule),), Memory())
    found.heard(start())
    return found


def test_refusals_in_a_row_set_it_off_and_a_permit_begins_anew() -> None:
    held = watch(when="refusals", count=3, within_seconds=60.0)
    for kind in ("deny", "deny", "intent", "deny", "deny"):
        assert held.heard(entry(kind)) == []
    (alarm,) = held.heard(entry("deny", 1))
    assert (alarm.actor.name, alarm.why, alarm.entry) == ("Ana", "3 refusals in a row", "deny-1")
    assert held.heard(entry("deny", 2)) == []
    assert held.heard(entry("deny", 70)) == []


def test_a_first_use_is_one_once_and_by_whom() -> None:
    held = watch(when="first-use")
    held.heard(start("agent", act=True))
    assert "first use of t" in held.heard(entry("intent"))[0].why
    assert held.heard(entry("intent", 100)) == []
    (alarm,) = held.heard(entry("intent", 200, "agent"))
    assert (alarm.actor.name, alarm.actor.sub) == ("coder for Ana", "coder")
    assert held.heard(entry("intent", 300, table="u"))[0].actor.sub == "ana"


def test_a_volume_is_unusual_against_what_is_usual_for_somebody() -> None:
    held = watch(when="volume", factor=5.0, count=100)
    for hour in range(4):
        assert held.heard(entry("outcome", hour * HOUR, rows=100)) == []
    assert held.heard(entry("outcome", 4 * HOUR, rows=400)) == []
    (alarm,) = held.heard(entry("outcome", 4 * HOUR + 1, rows=200))
    assert alarm.why == "600 rows this hour, where 100 are usual"


def test_without_a_usual_nothing_is_unusual() -> None:
    held = watch(when="volume", factor=5.0, count=1)
    assert held.heard(entry("outcome", 0, rows=1_000_000)) == []


def test_a_masked_class_read_in_bulk_sets_it_off() -> None:
    held = watch(when="masked", count=100, classes=("pci",), within_seconds=60.0)
    assert held.heard(entry("outcome", 0, rows=500, masked={"email": 500})) == []
    assert held.heard(entry("outcome", 1, rows=60, masked={"pci": 60})) == []
    assert "120 protected values" in held.heard(entry("outcome", 2, rows=60, masked={"pci": 60}))[0].why


def test_a_rule_is_about_whom_it_names() -> None:
    held = watch(when="first-use", kinds=(Kind.AGENT,))
    held.heard(start("agent", act=True))
    assert held.heard(entry("intent")) == []
    assert held.heard(entry("intent", 1, "agent"))


def test_worker_and_watch_mean_the_same_chain() -> None:
    who = identity(issuer="i", subject="ana", acting=(Actor("i", "coder", Kind.AGENT, "coder"),))
    held = watch(when="first-use")
    held.heard(start("agent", act=True))
    assert held.heard(entry("intent", 1, "agent"))[0].actor.key == chain_key(who)


def test_the_session_after_one_that_was_ended_is_ended_too() -> None:
    held = watch(when="refusals", count=2, within_seconds=60.0, do=("end-session",))
    held.heard(start("next"))
    assert [len(held.heard(entry("deny", n))) for n in range(3)] == [0, 1, 0]
    assert [alarm.session for alarm in held.heard(entry("deny", 4, "next"))] == ["next"]


def test_what_somebody_used_takes_no_more_room_than_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ostiary.alerts.rules.MAX_USED", 3)
    held = watch(when="first-use")
    for number in range(10):
        held.heard(entry("intent", number * 100, table=f"t{number}"))
    assert sum(map(len, held.memory.used.values())) == len(held.memory.fresh) == 3
    assert held.heard(entry("intent", 2000, table="t9"))
    assert held.heard(entry("intent", 3000, table="t1")) == []


def test_a_session_that_is_open_is_watched_after_a_restart_too(tmp_path: Path) -> None:
    rule = Alert(name="r", when="refusals", count=1, within_seconds=60.0)
    batches = [[start()], [entry("deny")], [{"kind": "session.end", "session": "s"}], [entry("deny", 100)]]
    told: list[dict[str, Any]] = []

    async def record(said: dict[str, Any]) -> None:
        told.append(said)

    async def one(batch: list[dict[str, Any]]) -> None:
        database = Database.open(tmp_path / "control.db", (news.AREA, AREA))
        engine = Engine(
            (rule,), read=lambda _: (batch, {}), database=database, board=NewsBoard(database), record=record,
            isolate=lambda *_: record({}), notify=lambda *_: None, clock=lambda: 0.0,
        )  # fmt: skip
        await engine.load()
        await engine.look()
        await database.close()

    for batch, alarms in zip(batches, (0, 1, 1, 1), strict=True):
        asyncio.run(one(batch))
        assert len(told) == alarms


# --- on a real PostgreSQL ---


POLICY = """
permit (principal, action, resource);
@id("no-deletes") forbid (principal, action == Ostiary::Action::"delete", resource);
"""


def test_budgets_and_alerts_hold_on_a_real_postgresql() -> None:
    sections: dict[str, Any] = {
        "": {
            "budgets": [
                {"name": "rows", "of": "rows", "most": 500, "per": "session", "kinds": ["agent"]},
                {"name": "ops", "of": "operations", "most": 5, "per": "day", "groups": ["interns"]},
            ],
            "alerts": [
                {"name": "probing", "when": "refusals", "count": 3, "do": ["notify", "end-session", "isolate"], "groups": ["staff"]},
                {"name": "asks", "when": "refusals", "count": 2, "do": ["demand-approval"], "approvers": ["dba"], "groups": ["temps"]},
            ],
        }
    }
    with postgres_cluster() as peer:
        peer.psql("CREATE TABLE other (id int primary key); INSERT INTO other SELECT generate_series(1, 9)")
        with gateway(connections={"db": target(peer)}, policy=POLICY, tables=sections[""]) as gate:
            agent = gate.token("ana", groups=["people"], act={"sub": "coder"})
            with gate.connect("db", token=agent) as client:
                assert len(client.query("SELECT generate_series(1, 400)").rows) == 400
                with pytest.raises((Closed, ServerError, AssertionError)):
                    reply = client.query("SELECT generate_series(1, 400)")
                    assert not reply.errors
                    assert not reply.closed
            with gate.connect("db", token=gate.token("iris", groups=["interns"])) as client:
                for _ in range(3):
                    assert not client.query("SELECT 1").is_refused
            with gate.connect("db", token=gate.token("iris", groups=["interns"])) as client:
                refusals = [client.query("SELECT 1").is_refused for _ in range(4)]
                assert refusals == [False, False, True, True]
            _demands(gate)
            _isolates(gate)


def _demands(gate) -> None:
    with gate.connect("db", token=gate.token("tim", groups=["temps"])) as client:
        for _ in range(2):
            assert client.query("DELETE FROM other").is_refused
        dora = Person(gate, "dora", "dba")
        until(lambda: [e for e in gate.entries() if e.get("config", {}).get("rule") == "asks"])
        time.sleep(0.5)  # the news is on its way to the worker; what is asked below waits either way
        waiting = waits(client, "SELECT count(*) FROM other")
        dora.approve(dora.wait_question())
        assert waiting.reply().rows == [(b"9",)]


def _isolates(gate) -> None:
    token = gate.token("mallory", groups=["staff"])
    client = gate.connect("db", token=token)
    for _ in range(3):
        client.query("DELETE FROM other")
    until(lambda: _is_cut(client))
    client.close()
    with pytest.raises(ServerError):
        gate.connect("db", token=token)
    (alarm,) = [e["config"] for e in gate.entries() if e.get("config", {}).get("rule") == "probing"]
    assert (alarm["sub"], alarm["do"]) == ("mallory", ["notify", "end-session", "isolate"])


def _is_cut(client) -> bool:
    try:
        return bool(client.query("SELECT 1").closed)
    except (Closed, OSError):
        return True
