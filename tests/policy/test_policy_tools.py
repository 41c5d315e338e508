"""The tools around policies: unit tests, simulation, explanations, and the policies that are shipped."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import ostiary.policy
from ostiary.cli.supposing import believe, template
from ostiary.model.decisions import NeedsApproval, Permit, Refusal
from ostiary.model.errors import ConfigError
from ostiary.model.identity import Actor, Kind, Said
from ostiary.model.operations import Action
from ostiary.policy.decide import decide
from ostiary.policy.near import near
from ostiary.policy.policies import Policies
from ostiary.policy.replaying import recall, simulate
from ostiary.policy.trials import read_suite, run
from tests.policy.policy_world import SAMPLE, connection, identity, operation, touch

LIBRARY = Path(ostiary.policy.__file__).parent / "library"
ALL = 'permit (principal, action, resource);\npermit (principal, action == Ostiary::Action::"opaque", resource);'
AT = Said(address="10.1.2.3:4711", ticket="OPS-1")
AT_ORDERS = {"orders-db": connection()}


def cli(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ostiary.cli.main", *arguments]
    root = Path(ostiary.policy.__file__).parents[2]
    environment = os.environ | {"PYTHONPATH": str(root)}
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, cwd=cwd, env=environment)


def test_every_shipped_policy_has_tests_and_all_of_them_hold() -> None:
    policies = {path.stem for path in LIBRARY.glob("*.cedar")}
    assert policies == {path.name.removesuffix(".test.toml") for path in LIBRARY.glob("*.test.toml")}
    assert {"read-only", "no-ddl", "no-delete-without-where", "export-limit", "protect-production", "four-eyes",
            "agents-read-only", "working-hours", "observe"} <= policies  # fmt: skip
    done = cli("policy", "test", "-o", "json")
    report = json.loads(done.stdout)
    assert done.returncode == 0, report
    assert report["run"] > 30


@pytest.mark.parametrize("policy", sorted(LIBRARY.glob("*.cedar")), ids=lambda path: path.stem)
def test_a_shipped_policys_tests_can_fail(policy: Path) -> None:
    """Each policy of a file is there for a reason that its tests know: without it, one of them fails."""
    import tomllib

    suite = read_suite("suite", tomllib.loads(policy.with_suffix(".test.toml").read_text()))
    texts = {name: (LIBRARY / name).read_text() for name in suite.policies}
    whole = Policies.load(texts)
    own = [each.id for each in whole.by_id.values() if each.place.startswith(policy.name)]
    assert all(not result.faults for result in run(suite, whole, template(), believe))
    for left_out in own:
        rest = Policies({key: each for key, each in whole.by_id.items() if key != left_out})
        if left_out == "observe-use-of-protected-columns":
            continue  # what it lets through needs a connection with protected columns: `test_observing_…`
        assert any(result.faults for result in run(suite, rest, template(), believe)), left_out


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({}, "holds no"),
        ({"test": [{"name": "x", "expect": "permit", "dose": []}]}, "dose"),
        ({"test": [{"name": "x"}]}, "expect"),
        ({"test": [{"name": "x", "expect": "maybe"}]}, "must be one of"),
        ({"test": [{"name": "x", "expect": "deny", "does": ["delete everything"]}]}, "ACTION KIND NAME"),
        ({"tests": []}, "unknown key"),
        ({"test": [{"name": "x", "expect": "deny", "who": {"group": ["a"]}}]}, "group"),
    ],
)
def test_a_test_file_that_says_nothing_checkable_is_refused(document: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        read_suite("file", document)


def test_a_failed_test_says_what_was_expected_and_what_came(tmp_path: Path) -> None:
    (tmp_path / "p.cedar").write_text(SAMPLE)
    cases = {
        "policies": ["p.cedar"],
        "given": {"who": {"groups": ["support"]}, "connection": {"name": "orders-db", "labels": {"env": "prod"}}},
        "test": [
            {
                "name": "reads",
                "does": ["read relation public.orders"],
                "expect": "permit",
                "because": ["agents-read-orders"],
            },
            {"name": "wrong", "does": ["read relation public.orders"], "expect": "deny"},
            {"name": "deletes", "does": ["delete relation public.orders"], "expect": "permit"},
        ],
    }
    (tmp_path / "p.test.json").write_text(json.dumps(cases))
    done = cli("policy", "test", str(tmp_path / "p.test.json"))
    assert done.returncode == 1
    assert "1 of 3 hold" in done.stdout
    assert "wrong" in done.stdout
    assert "expected deny, and it is permit" in done.stdout
    assert "deletes-need-a-dba" in done.stdout


def entry(**changes: Any) -> dict[str, Any]:
    """An intent as the log holds it."""
    return {
        "id": "1", "kind": "intent", "t": "2026-11-25T09:00:00.000000Z",
        "who": {"iss": "https://idp.example.com", "sub": "ana", "kind": "human", "name": "Ana", "groups": ["support"]},
        "client": {"address": "10.1.2.3:4711", "said": {"ticket": "OPS-1"}},
        "target": {"connection": "orders-db"},
        "op": {"action": "delete", "name": "DELETE", "effects": ["delete"],
               "objects": [{"kind": "relation", "name": "public.orders", "action": "delete"}]},
        "decision": {"verdict": "permit", "policies": ["all"], "policy": "0"},
    } | changes  # fmt: skip


def test_a_simulation_shows_what_would_be_refused_and_what_would_wait() -> None:
    read = entry(
        op={
            "action": "read",
            "name": "SELECT",
            "objects": [{"kind": "relation", "name": "public.orders", "action": "read"}],
        }
    )
    stricter = Policies.load({"p": ALL + SAMPLE})
    done = simulate([entry(), read], stricter, {"orders-db": connection()}, believe)
    (only,) = done.differences
    assert (done.replayed, done.same, only.now) == (2, 1, "needs approval by 1 of dba")
    gone = simulate([read], stricter, {}, believe)
    assert gone.differences[0].now == "gone"


def test_a_simulation_compares_what_is_demanded_and_who_is_asked() -> None:
    read = {"action": "read", "name": "SELECT", "objects": [{"kind": "relation", "name": "public.orders", "action": "read"}]}
    demanding = Policies.load({
        "p": '@id("all") @rows("10") permit (principal, action, resource);'
        '@id("eu") @filter("region = \'eu\'") permit (principal, action == Ostiary::Action::"read", resource);'
    })  # fmt: skip
    was = {"verdict": "permit", "policies": ["all"], "policy": "0"}
    same = was | {"duties": {"rows": 10, "filters": [["public.orders", "region = 'eu'"]]}}
    other = was | {"duties": {"rows": 20, "filters": [["public.orders", "region = 'us'"]]}}
    found = simulate([entry(op=read, decision=each) for each in (was, same, other)], demanding, AT_ORDERS, believe).differences
    words = "permit (cut at 10 rows; only rows of public.orders where region = 'eu')"
    assert [(each.was, each.now) for each in found] == [("permit", words), (words.replace("10", "20").replace("eu", "us"), words)]
    (dropped,) = simulate([entry(op=read, decision=same)], Policies.load({"p": ALL}), AT_ORDERS, believe).differences
    assert dropped.now == "permit"
    replaced = was | {"duties": {"instead": [["relation", "public.orders", "public.safe"]]}}
    assert not simulate([entry(op=read, decision=replaced)], Policies.load({"p": ALL}), AT_ORDERS, believe).differences


def test_a_simulation_tells_a_question_from_a_refusal_and_from_another_question() -> None:
    asking = Policies.load({"p": ALL + SAMPLE})
    unanswered = {"verdict": "deny", "policies": ["deletes-need-a-dba"], "policy": "0", "approvers": [["dba", 1]]}
    approved = {"verdict": "permit", "policies": ["all"], "policy": "0", "approval": "1", "approved_by": ["dba"]}
    assert not simulate([entry(kind="deny", decision=unanswered), entry(decision=approved)], asking, AT_ORDERS, believe).differences
    refused = {"verdict": "deny", "policies": ["deletes-need-a-dba"], "policy": "0"}
    (each,) = simulate([entry(kind="deny", decision=refused)], asking, AT_ORDERS, believe).differences
    assert (each.was, each.now) == ("deny", "needs approval by 1 of dba")
    (each,) = simulate([entry(decision=approved)], Policies.load({"p": ALL}), AT_ORDERS, believe).differences
    assert (each.was, each.now) == ("permit (approved by dba)", "permit")
    others = Policies.load({"p": ALL + SAMPLE.replace('"dba"', '"security"')})
    (each,) = simulate([entry(decision=approved)], others, AT_ORDERS, believe).differences
    assert "security" in each.now


def test_a_simulation_asks_at_the_time_and_place_of_the_operation() -> None:
    hours = Policies.load({"p": ALL, "h": (LIBRARY / "working-hours.cedar").read_text()})
    at_night = entry(t="2026-11-25T23:00:00.000000Z")
    done = simulate([entry(), at_night], hours, {"orders-db": connection()}, believe)
    assert [each.recalled.at for each in done.differences] == [recall(at_night).at]
    office = Policies.load(
        {
            "p": ALL
            + 'forbid (principal, action, resource) unless { context has address && context.address.isInRange(ip("10.0.0.0/8")) };'
        }
    )
    assert not simulate([entry()], office, {"orders-db": connection()}, believe).differences
    elsewhere = entry(client={"address": "192.0.2.1:99"})
    assert len(simulate([elsewhere], office, {"orders-db": connection()}, believe).differences) == 1


def test_a_simulation_says_what_it_cannot_replay() -> None:
    cut = entry(op={"action": "read", "name": "SELECT", "omitted": 900, "digest": "0"})
    objected = entry(kind="deny", decision={"verdict": "deny", "policies": [], "objection": {"reason": "UNPARSABLE"}})
    done = simulate(
        [cut, objected, {"kind": "outcome"}], Policies.load({"p": ALL}), {"orders-db": connection()}, believe
    )
    assert done.replayed == 0
    assert sum(done.left_out.values()) == 2


def test_an_explanation_names_the_permits_that_came_near() -> None:
    policies = Policies.load(
        {
            "p": SAMPLE
            + '@id("writes") permit (principal in Ostiary::Group::"dba", action == Ostiary::Action::"write", resource in Ostiary::Connection::"other") when { context.has_where };'
        }
    )
    (wants_group,) = near(policies, identity("staff"), connection(), touch(Action.READ))
    assert wants_group.id == "agents-read-orders"
    assert 'in Ostiary::Group::"support"' in wants_group.why
    (wants_both,) = near(policies, identity("staff"), connection(), touch(Action.WRITE))
    assert "Group" in wants_both.why
    assert 'Ostiary::Connection::"other"' in wants_both.why
    (condition,) = near(policies, identity("dba"), connection(name="other"), touch(Action.WRITE))
    assert condition.why == "its condition does not hold"


# --- what a policy can see ---


def test_a_policy_sees_the_network_the_ticket_and_the_labels() -> None:
    policies = Policies.load(
        {
            "p": """
        @id("office") permit (principal, action, resource) when {
          context has address && context.address.isInRange(ip("10.0.0.0/8")) && context.said.ticket like "OPS-*" &&
          context.labels.contains("env=prod")
        };"""
        }
    )
    who, target, asked = identity("staff"), connection(), operation(touch(Action.READ))
    assert isinstance(decide(policies, who, asked, target, said=AT), Permit)
    for other in (
        Said(address="192.0.2.1:1", ticket="OPS-1"),
        Said(address="10.1.2.3:1"),
        Said(address="local", ticket="OPS-1"),
    ):
        assert isinstance(decide(policies, who, asked, target, said=other), Refusal)
    assert isinstance(decide(policies, who, asked, connection(name="other", labels=()), said=AT), Refusal)
    six = Policies.load(
        {"p": "permit (principal, action, resource) when { context has address && context.address.isIpv6() };"}
    )
    assert isinstance(decide(six, who, asked, target, said=Said(address="[2001:db8::1]:99")), Permit)


def test_a_remembered_decision_is_not_that_of_another_place() -> None:
    """The cache knows the client only where a policy looks at it: then two clients never share a decision."""
    looks = Policies.load({"p": 'permit (principal, action, resource) when { context.said.ticket == "OPS-1" };'})
    who, target, asked = identity("staff"), connection(), operation(touch(Action.READ))
    assert isinstance(decide(looks, who, asked, target, said=AT), Permit)
    assert isinstance(decide(looks, who, asked, target, said=Said(address="10.1.2.3:4711")), Refusal)
    blind = Policies.load({"p": ALL})
    assert looks.reads_client
    assert not blind.reads_client


def test_the_chain_of_actors_is_there_to_be_decided_on() -> None:
    chain = (Actor("i", "tool-1", Kind.WORKLOAD, "tool"), Actor("i", "coder-1", Kind.AGENT, "coder"))
    policies = Policies.load(
        {
            "p": 'permit (principal, action, resource) when { context.acting.contains(context.actor) && context.kinds.contains("agent") };'
        }
    )
    asked = operation(touch(Action.READ))
    assert isinstance(decide(policies, identity(acting=chain), asked, connection()), Permit)
    assert isinstance(decide(policies, identity(), asked, connection()), Refusal)


# --- observing ---


OBSERVE = (LIBRARY / "observe.cedar").read_text()


def test_observing_lets_through_what_would_be_refused_and_the_grounds_say_so() -> None:
    policies = Policies.load({"p": SAMPLE, "o": OBSERVE})
    who, target = identity("support"), connection()
    deleted = decide(policies, who, operation(touch(Action.DELETE)), target)
    assert isinstance(deleted, Permit)
    assert deleted.grounds.noted is not None
    assert (deleted.grounds.noted.verdict, deleted.grounds.because) == ("deny", ("observe",))
    approvable = decide(Policies.load({"p": SAMPLE + ALL, "o": OBSERVE}), who, operation(touch(Action.DELETE)), target)
    assert isinstance(approvable, Permit)
    assert approvable.grounds.noted is not None
    assert approvable.grounds.noted.verdict == "needs approval"
    assert isinstance(
        decide(Policies.load({"p": SAMPLE + ALL}), who, operation(touch(Action.DELETE)), target), NeedsApproval
    )


def test_observing_hides_nothing_that_the_policies_permit() -> None:
    policies = Policies.load({"p": SAMPLE, "o": OBSERVE})
    read = decide(policies, identity("support"), operation(touch(Action.READ)), connection())
    assert isinstance(read, Permit)
    assert (read.grounds.noted, read.grounds.because) == (None, ("agents-read-orders",))


def test_observing_shows_no_class_in_clear_that_the_policies_do_not() -> None:
    policies = Policies.load({"o": OBSERVE})
    computed = decide(policies, identity(), operation(touch(Action.READ), unmask=("pii",)), connection())
    assert isinstance(computed, Permit)
    assert computed.grounds.clear == frozenset()
    assert computed.grounds.noted is not None


def test_observing_goes_no_further_than_the_token() -> None:
    narrow = identity(audience=frozenset({"elsewhere"}))
    assert isinstance(
        decide(Policies.load({"o": OBSERVE}), narrow, operation(touch(Action.READ)), connection()), Refusal
    )


def test_what_a_broken_policy_would_have_done_is_noted_too() -> None:
    broken = Policies.load(
        {
            "o": OBSERVE,
            "p": 'permit (principal, action, resource); @id("broken") forbid (principal, action, resource) when { 9223372036854775807 + context.weekday > 0 };',
        }
    )
    found = decide(broken, identity(), operation(touch(Action.READ)), connection())
    assert isinstance(found, Permit)
    assert found.grounds.noted is not None
    assert "failed" in found.grounds.noted.message
