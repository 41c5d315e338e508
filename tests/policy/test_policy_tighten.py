"""What was granted against what was used, and the narrower policy that would have done."""

from __future__ import annotations

from typing import Any

from ostiary.cli.supposing import believe
from ostiary.policy.decide import connect_operation, decide
from ostiary.policy.policies import Policies
from ostiary.policy.replaying import recall_all, simulate
from ostiary.policy.reviewing import review
from ostiary.policy.suppose import Supposed
from ostiary.policy.tightening import MAX_THINGS, propose, used
from tests.policy.policy_world import connection

WIDE = """
@id("staff-do-everything") @limit("500")
permit (principal in Ostiary::Group::"staff", action, resource in Ostiary::Connection::"orders-db") when { context.has_where };
@id("never-used") permit (principal in Ostiary::Group::"staff", action == Ostiary::Action::"define", resource);
@id("others") permit (principal in Ostiary::Group::"others", action, resource);
@id("no-drops") forbid (principal, action == Ostiary::Action::"define", resource);
@id("watch") @observe permit (principal, action, resource);
"""
AT = {"orders-db": connection()}


def entry(action: str = "read", name: str = "public.orders", *, sub: str = "ana", groups: tuple[str, ...] = ("staff",), **more: Any) -> dict[str, Any]:
    return {
        "id": "1", "kind": "intent", "t": "2026-11-25T09:00:00.000000Z",
        "who": {"iss": "https://idp.example.com", "sub": sub, "kind": "human", "name": sub.title(), "groups": list(groups)},
        "client": {"address": "10.1.2.3:4711"}, "target": {"connection": "orders-db"},
        "op": {"action": action, "name": action.upper(), "objects": [{"kind": "relation", "name": name, "action": action}]},
        "decision": {"verdict": "permit", "policies": ["staff-do-everything"], "limit": 500, "policy": "0"} | more,
    }  # fmt: skip


def tightened(*entries: dict[str, Any], text: str = WIDE) -> tuple[Policies, str]:
    policies = Policies.load({"p": text})
    proposed = propose(policies, used(recall_all(entries, {}), policies, AT, believe))
    return Policies.load({"proposal": proposed}), proposed


def test_the_proposal_permits_what_was_done_and_nothing_else() -> None:
    record = [entry(), entry("write", "public.log"), entry("read", "public.log"), entry()]
    narrower, text = tightened(*record)
    assert not simulate(record, narrower, AT, believe).differences
    refused = simulate([entry("delete"), entry("read", "public.customers"), entry("write")], narrower, AT, believe)
    assert [each.now for each in refused.differences] == ["deny"] * 3
    assert "never-used" not in text
    assert "others" not in text
    assert "no-drops" in text
    assert {policy.limit for policy in narrower.by_id.values() if policy.permits} == {500}
    assert "context.has_where" in text


def test_what_only_an_observing_permit_let_through_becomes_a_permit_of_its_own() -> None:
    seen = entry("transfer", sub="bob", groups=(), policies=["watch"], limit=None)
    narrower, text = tightened(seen)
    assert "@observe" not in text
    assert not simulate([seen], narrower, AT, believe).differences
    other = entry("transfer", sub="eve", groups=(), limit=None)
    assert simulate([other], narrower, AT, believe).differences


def test_a_name_that_holds_quotes_stays_a_name() -> None:
    nasty = entry(name='public."x\\" ) }; permit (principal, action, resource);')
    narrower, _ = tightened(nasty)
    assert sum(policy.permits and "read" in policy.names for policy in narrower.by_id.values()) == 1
    assert len(narrower.by_id) == 3
    assert not simulate([nasty], narrower, AT, believe).differences
    assert simulate([entry()], narrower, AT, believe).differences


def test_where_there_are_too_many_things_the_proposal_names_their_connection() -> None:
    narrower, text = tightened(*(entry(name=f"public.t{n}") for n in range(MAX_THINGS + 1)))
    assert 'Ostiary::Connection::"orders-db"' in text
    assert "public.t7" not in text
    assert not simulate([entry(name="public.t7")], narrower, AT, believe).differences
    assert simulate([entry("write")], narrower, AT, believe).differences


def test_a_review_sets_permits_against_their_use_by_identity() -> None:
    rows = review(recall_all([entry(), entry(name="public.log"), entry(sub="bob", groups=())], {}), Policies.load({"p": WIDE}), believe)
    ana = {row.policy: row for row in rows if row.who == "Ana"}
    assert (ana["staff-do-everything"].used, ana["staff-do-everything"].things) == (2, 2)
    assert (ana["never-used"].used, ana["never-used"].last) == (0, 0)
    assert "others" not in ana
    assert ana["watch"].grants == "everything, observed only"
    assert next(row.policy for row in rows if row.who == "Ana") in {"never-used", "watch"}
    bob = {row.policy: row for row in rows if row.who == "Bob"}
    assert bob["staff-do-everything"].grants == "no longer in force"


def test_what_a_permit_demands_stays_where_it_can_stand() -> None:
    text = """@id("opens") @transactions("read only") @timeout("5s")
    permit (principal, action in [Ostiary::Action::"connect", Ostiary::Action::"read"], resource);
    @id("safe") @instead("public.safe") permit (principal, action == Ostiary::Action::"read", resource == Ostiary::Relation::"orders-db/public.orders");
    @id("eu") @filter("region = 'eu'") permit (principal, action == Ostiary::Action::"read", resource);"""
    duties = {"read_only": True, "timeout": 5000, "filters": [["public.safe", "region = 'eu'"]],
              "instead": [["relation", "public.orders", "public.safe"]]}  # fmt: skip
    record = [entry(name="public.safe", policies=["eu", "opens"], limit=None, duties=duties)]
    narrower, proposed = tightened(*record, text=text)
    assert "@instead" in proposed
    assert "@filter" in proposed
    assert not simulate(record, narrower, AT, believe).differences
    opened = decide(narrower, believe(Supposed(subject="ana", groups=("staff",))), connect_operation(AT["orders-db"]), AT["orders-db"])
    assert opened.grounds.duties is not None
    assert (opened.grounds.duties.read_only, opened.grounds.duties.timeout) == (True, 5000)
