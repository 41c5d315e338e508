"""With many policies only those are asked that can have a say, and the answer is the one that all of them give."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import cedarpy
import msgspec
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from policy_world import connection, identity, operation, touch

from ostiary.model.decisions import Permit
from ostiary.model.operations import Action, Resource, plain_facts
from ostiary.policy import policies as holding
from ostiary.policy.decide import decide, explain
from ostiary.policy.policies import SCHEMA, Policies
from ostiary.policy.slicing import MAX_SLICES, About, Slicer, about
from ostiary.policy.source import read

PRINCIPALS = (
    "principal", 'principal in Ostiary::Group::"support"', 'principal in Ostiary::Group::"dba"',
    'principal == Ostiary::Identity::"https://idp.example.com|ana"', 'principal in Ostiary::Issuer::"https://idp.example.com"',
    'principal is Ostiary::Identity in Ostiary::Group::"staff"', "principal is Ostiary::Identity",
    'principal == Ostiary::Identity::"https://elsewhere.example|ana"',
)  # fmt: skip
ACTIONS = (
    "action", 'action == Ostiary::Action::"read"', 'action in [Ostiary::Action::"write", Ostiary::Action::"delete"]',
    'action == Ostiary::Action::"unmask"', 'action in [Ostiary::Action::"infer", Ostiary::Action::"read"]', 'action == Ostiary::Action::"connect"',
)  # fmt: skip
RESOURCES = (
    "resource", 'resource in Ostiary::Connection::"orders-db"', 'resource in Ostiary::Connection::"orders"', 'resource in Ostiary::Label::"env=prod"',
    'resource in Ostiary::Label::"env=dev"', 'resource == Ostiary::Relation::"orders-db/public.orders"', 'resource in Ostiary::Schema::"orders-db/public"',
    'resource in Ostiary::Schema::"other/public"', "resource is Ostiary::Relation", 'resource is Ostiary::Relation in Ostiary::Connection::"orders-db"',
    "resource is Ostiary::DataClass", 'resource == Ostiary::DataClass::"pci"',
)  # fmt: skip
CONDITIONS = ("", "when { context.has_where }", "when { 9223372036854775807 + context.weekday > 0 }", 'unless { context.kinds.contains("agent") }')


@pytest.mark.parametrize("seed", range(12))
def test_the_answer_is_the_one_that_all_policies_give(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    dice = random.Random(seed)
    texts: list[str] = []
    while len(texts) < 40:
        effect = dice.choice(("permit", "permit", "permit", "forbid"))
        head = ", ".join(dice.choice(each) for each in (PRINCIPALS, ACTIONS, RESOURCES))
        made = f'@id("p{len(texts)}") {effect} ({head}) {dice.choice(CONDITIONS) if dice.random() < 0.4 else ""};'
        if cedarpy.validate_policies(made, SCHEMA).validation_passed:
            texts.append(made)
    text = {"p.cedar": "\n".join(texts)}
    whole = Policies.load(text)
    monkeypatch.setattr(holding, "WHOLE_SETS", 0)
    sliced = Policies.load(text)
    for groups in ((), ("support",), ("dba", "staff"), ("nobody",)):
        for name, action in (("public.orders", Action.READ), ("public.t", Action.WRITE), ("side.t", Action.DELETE), ("public.orders", Action.DEFINE)):
            facts = operation(touch(action, name)).facts
            asked = operation(touch(action, name))
            asked = type(asked)(msgspec.structs.replace(facts, unmask=("pci",), infer=("pii",), digest=facts.digest), b"", None, b"")
            who = identity(*groups)
            assert explain(whole, who, asked, connection()) == explain(sliced, who, asked, connection())
            one, other = (decide(each, who, asked, connection()) for each in (whole, sliced))
            assert (type(one), one.grounds) == (type(other), other.grounds)


def test_policies_about_others_are_not_asked_and_slices_are_shared_and_bounded() -> None:
    text = "\n".join(
        f'@id("team-{n}") permit (principal in Ostiary::Group::"team-{n}", action, resource in Ostiary::Connection::"db-{n}");' for n in range(400)
    )
    policies = {each.id: each for each in read("p.cedar", text + '@id("all") forbid (principal, action == Ostiary::Action::"define", resource);')}
    slicer = Slicer(policies)
    here = about(identity("team-3", "unknown"), connection(name="db-3"))
    named = (("Ostiary::Group", "team-3"),)
    assert [each.id for each in slicer.chosen(Action.DEFINE, named, here)] == ["team-3", "all"]
    assert [each.id for each in slicer.chosen(Action.READ, named, here)] == ["team-3"]
    assert not slicer.chosen(Action.UNMASK, named, here)
    again = about(identity("team-3", "another"), connection(name="db-3"))
    assert slicer.compiled(Action.READ, here) is slicer.compiled(Action.READ, again)
    kept = [slicer.compiled(Action.READ, About(here.principals, f"c{n}", ())) for n in range(MAX_SLICES)]
    assert all(isinstance(each, cedarpy.PolicySet) for each in kept)
    assert slicer.compiled(Action.READ, here) is not None


def test_one_permit_among_thousands_counts() -> None:
    policies = Policies.load({
        "p.cedar": "\n".join(
            f'@id("team-{n}") permit (principal in Ostiary::Group::"team-{n}", action, resource in Ostiary::Connection::"orders-db");'
            for n in range(2_000)
        )
    })  # fmt: skip
    facts = plain_facts(action=Action.READ, name="SELECT", resources=(Resource("relation", "public.t", Action.READ, (), ()),))
    asked = type(operation(touch(Action.READ)))(facts, b"", None, b"")
    assert isinstance(decide(policies, identity("team-1999"), asked, connection()), Permit)
    assert not isinstance(decide(policies, identity("team-2000"), asked, connection()), Permit)
