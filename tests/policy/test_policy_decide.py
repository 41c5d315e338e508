"""What policy permits, refuses and asks; and that whatever fails is a no."""

from __future__ import annotations

import sys
from pathlib import Path

import cedarpy
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))
from policy_world import SAMPLE, connection, identity, operation, touch

from ostiary.model.decisions import NeedsApproval, Permit, Refusal
from ostiary.model.identity import Actor, Authentication, Initiator, Kind, Mandate
from ostiary.model.operations import Action, Objection, Operation, Resource, Unjudgeable, plain_facts
from ostiary.policy import policies as policies_module
from ostiary.policy.decide import connect_operation, decide, explain
from ostiary.policy.entities import KINDS, circumstances, entities, questions
from ostiary.policy.policies import SCHEMA, Policies

READ, WRITE, DELETE = Action.READ, Action.WRITE, Action.DELETE
ALL = "permit (principal, action, resource);"
AGENT = Actor("https://idp.example.com", "agent-7", Kind.AGENT, "Coder")


def rules(*texts: str) -> Policies:
    return Policies.load({f"f{number}.cedar": text for number, text in enumerate(texts)})


def test_the_sample_policies_work_as_they_stand() -> None:
    policies = rules(SAMPLE)
    ana = identity("support")
    permit = decide(policies, ana, operation(touch(READ)), connection())
    assert isinstance(permit, Permit)
    assert permit.grounds.because == ("agents-read-orders",)
    assert permit.grounds.policy == policies.digest
    refusal = decide(policies, ana, operation(touch(WRITE)), connection())
    assert isinstance(refusal, Refusal)
    assert refusal.grounds.because == ()
    assert isinstance(decide(policies, identity("sales"), operation(touch(READ)), connection()), Refusal)
    assert isinstance(decide(policies, ana, operation(touch(READ)), connection(name="other-db")), Refusal)


def test_a_default_deny_names_what_was_asked_and_who_would_need_what() -> None:
    grounds = decide(rules(SAMPLE), identity("support", acting=(AGENT,)), operation(touch(WRITE)), connection()).grounds
    assert grounds.message == "no policy permits write on relation public.orders"
    assert "Ana (through Coder), in support" in grounds.hint
    assert 'Ostiary::Relation::"orders-db/public.orders"' in grounds.hint


def test_a_forbid_wins_and_is_named_with_its_message() -> None:
    policies = rules(
        ALL, '@id("no-writes") @message("Not here.") forbid (principal, action == Ostiary::Action::"write", resource);'
    )
    refusal = decide(policies, identity(), operation(touch(WRITE)), connection())
    assert isinstance(refusal, Refusal)
    assert refusal.grounds.because == ("no-writes",)
    assert refusal.grounds.message == "policy no-writes forbids write on relation public.orders: Not here."


def test_every_resource_must_be_permitted_for_its_own_action() -> None:
    policies = rules(
        'permit (principal, action == Ostiary::Action::"read", resource);'
        'permit (principal, action == Ostiary::Action::"write", resource == Ostiary::Relation::"orders-db/public.log");'
    )
    conn, who = connection(), identity()
    both = operation(touch(WRITE, "public.log"), touch(READ))
    assert isinstance(decide(policies, who, both, conn), Permit)
    other = operation(touch(WRITE), touch(READ), touch(READ, "public.log"))
    assert isinstance(decide(policies, who, other, conn), Refusal)
    order = operation(touch(READ), touch(WRITE), action=WRITE)
    assert isinstance(decide(policies, who, order, conn), Refusal)


def test_an_operation_that_names_no_resource_is_put_to_the_connection() -> None:
    conn, who = connection(), identity()
    policies = rules(
        'permit (principal, action == Ostiary::Action::"read", resource == Ostiary::Connection::"orders-db");'
    )
    assert isinstance(decide(policies, who, operation(), conn), Permit)
    assert isinstance(decide(policies, who, operation(action=Action.ADMINISTER), conn), Refusal)
    graver = operation(touch(READ), action=Action.ADMINISTER)
    only_read = rules('permit (principal, action == Ostiary::Action::"read", resource);')
    assert isinstance(decide(only_read, who, graver, conn), Refusal)


@pytest.mark.parametrize("effect", ["permit", "forbid"])
def test_an_evaluation_error_anywhere_is_a_no(effect: str) -> None:
    broken = f'@id("broken") {effect} (principal, action, resource) when {{ 9223372036854775807 + 1 > 0 }};'
    policies = rules(ALL, broken)
    refusal = decide(policies, identity(), operation(touch(READ)), connection())
    assert isinstance(refusal, Refusal)
    assert refusal.grounds.because == ("broken",)
    assert "failed" in refusal.grounds.message
    (opinion,) = explain(policies, identity(), operation(touch(READ)), connection())
    assert opinion.errors
    assert not opinion.permitted


def test_a_statement_that_was_objected_to_is_refused_with_the_judges_words() -> None:
    objection = Objection(Unjudgeable.UNPARSABLE, "syntax error", "look again", "42601", 3)
    asked = operation(touch(READ), objection=objection)
    for _ in range(2):
        refusal = decide(rules(ALL), identity(), asked, connection())
        assert isinstance(refusal, Refusal)
        assert (refusal.grounds.message, refusal.grounds.hint) == ("syntax error", "look again")


def test_a_resource_of_an_unknown_kind_is_refused() -> None:
    assert isinstance(decide(rules(ALL), identity(), operation(touch(READ, "x", "teapot")), connection()), Refusal)


def test_more_resources_than_policy_looks_at_are_refused() -> None:
    many = operation(*(touch(READ, f"public.t{number}") for number in range(2001)))
    assert isinstance(decide(rules(ALL), identity(), many, connection()), Refusal)


# --- by name ----------------------------------------------------------------------------------------------------------


def test_what_cannot_be_seen_through_must_be_permitted_by_name() -> None:
    conn, who = connection(), identity()
    asked = operation(touch(READ), opaque=("a DO block",))
    assert isinstance(decide(rules(ALL), who, asked, conn), Refusal)
    named = rules(ALL, 'permit (principal, action == Ostiary::Action::"opaque", resource);')
    assert isinstance(decide(named, who, asked, conn), Permit)
    as_resource = operation(touch(Action.OPAQUE, "DO", "other"))
    assert isinstance(decide(rules(ALL), who, as_resource, conn), Refusal)
    assert isinstance(decide(named, who, as_resource, conn), Permit)
    forbidden = rules(
        ALL,
        'permit (principal, action == Ostiary::Action::"opaque", resource);',
        'forbid (principal, action, resource) when { context.opaque.contains("a DO block") };',
    )
    assert isinstance(decide(forbidden, who, asked, conn), Refusal)


UNMASK_PII = '@id("see-pii") permit (principal in Ostiary::Group::"dba", action == Ostiary::Action::"unmask", resource == Ostiary::DataClass::"pii");'


def test_masking_is_on_until_a_policy_permits_unmask_by_name() -> None:
    asked = operation(touch(READ, "public.customers", classes=("pii",)))
    assert decide(rules(ALL), identity("dba"), asked, connection()).grounds.clear == frozenset()
    granted = decide(rules(ALL, UNMASK_PII), identity("dba"), asked, connection()).grounds
    assert granted.clear == {"pii"}
    assert "see-pii" in granted.because
    assert decide(rules(ALL, UNMASK_PII), identity("sales"), asked, connection()).grounds.clear == frozenset()
    detectors = rules(
        ALL, 'permit (principal, action == Ostiary::Action::"unmask", resource in Ostiary::Connection::"orders-db");'
    )
    assert decide(detectors, identity(), asked, connection()).grounds.clear == {"pii", "pci", "card"}
    error = rules(
        ALL,
        UNMASK_PII,
        'forbid (principal, action == Ostiary::Action::"unmask", resource) when { 9223372036854775807 + 1 > 0 };',
    )
    assert decide(error, identity("dba"), asked, connection()).grounds.clear == frozenset()


INFER_PII = '@id("sort-pii") permit (principal in Ostiary::Group::"dba", action == Ostiary::Action::"infer", resource == Ostiary::DataClass::"pii");'


def test_filtering_by_a_protected_column_needs_infer_or_unmask_on_its_class() -> None:
    asked = operation(touch(READ, "public.customers", classes=("pii",)), infer=("pii",))
    refusal = decide(rules(ALL, UNMASK_PII, INFER_PII), identity(), asked, connection())
    assert isinstance(refusal, Refusal)
    assert "a protected column of class pii decides what the statement returns" in refusal.grounds.message
    assert 'Ostiary::Action::"infer" on Ostiary::DataClass::"pii"' in refusal.grounds.hint
    dba = identity("dba")
    inferred = decide(rules(ALL, INFER_PII), dba, asked, connection())
    assert isinstance(inferred, Permit)
    assert inferred.grounds.clear == frozenset()
    assert "sort-pii" in inferred.grounds.because
    assert isinstance(decide(rules(ALL, UNMASK_PII), dba, asked, connection()), Permit)


def test_storing_a_protected_column_needs_unmask_on_its_class() -> None:
    asked = operation(touch(READ, "public.customers", classes=("pii",)), unmask=("pii",))
    refusal = decide(rules(ALL, UNMASK_PII), identity(), asked, connection())
    assert isinstance(refusal, Refusal)
    assert (
        refusal.grounds.message
        == "the statement puts values of a protected column of class pii where nobody masks them"
    )
    assert "they come back masked" in refusal.grounds.hint
    assert isinstance(decide(rules(ALL, UNMASK_PII), identity("dba"), asked, connection()), Permit)
    two = operation(touch(READ, "public.customers"), unmask=("pci", "pii"))
    assert isinstance(decide(rules(ALL, UNMASK_PII), identity("dba"), two, connection()), Refusal)
    unknown = operation(touch(READ, "public.customers"), unmask=("a-class-of-no-connection",))
    assert isinstance(decide(rules(ALL, UNMASK_PII), identity("dba"), unknown, connection()), Refusal)


# --- obligations ------------------------------------------------------------------------------------------------------


def test_the_strictest_row_limit_of_all_satisfied_permits_wins() -> None:
    policies = rules(
        '@id("a") @limit("500") permit (principal, action, resource);'
        '@id("b") @limit("100") permit (principal in Ostiary::Group::"support", action, resource);'
        '@id("c") @limit("5") permit (principal in Ostiary::Group::"guests", action, resource);'
    )
    assert decide(policies, identity("support"), operation(touch(READ)), connection()).grounds.row_limit == 100
    assert decide(policies, identity(), operation(touch(READ)), connection()).grounds.row_limit == 500
    assert decide(rules(ALL), identity(), operation(touch(READ)), connection()).grounds.row_limit is None


def test_a_limit_on_clear_data_binds_where_that_data_is_touched() -> None:
    policies = rules(
        ALL,
        '@limit("10") permit (principal, action == Ostiary::Action::"unmask", resource == Ostiary::DataClass::"pii");',
    )
    touched = operation(touch(READ, "public.customers", classes=("pii",)))
    assert decide(policies, identity(), touched, connection()).grounds.row_limit == 10
    assert decide(policies, identity(), operation(touch(READ)), connection()).grounds.row_limit is None


def test_a_read_only_permit_lets_nothing_be_changed() -> None:
    policies = rules('@id("looks") @read_only permit (principal, action, resource);')
    assert isinstance(decide(policies, identity(), operation(touch(READ)), connection()), Permit)
    refusal = decide(policies, identity(), operation(touch(WRITE)), connection())
    assert isinstance(refusal, Refusal)
    assert refusal.grounds.because == ("looks",)


# --- approvals --------------------------------------------------------------------------------------------------------


def test_a_refusal_that_an_approval_would_lift_is_a_question() -> None:
    policies = rules(SAMPLE, ALL)
    question = decide(policies, identity(), operation(touch(DELETE)), connection())
    assert isinstance(question, NeedsApproval)
    assert question.approvers == (("dba", 1),)
    assert "Deletes in production need a DBA." in question.grounds.message
    approved = frozenset({"dba"})
    assert isinstance(
        decide(policies, identity(), operation(touch(DELETE)), connection(), approved_by=approved), Permit
    )
    # What an approval led to is not remembered: it is used once.
    assert isinstance(decide(policies, identity(), operation(touch(DELETE)), connection()), NeedsApproval)
    wrong = decide(policies, identity(), operation(touch(DELETE)), connection(), approved_by=frozenset({"sales"}))
    assert isinstance(wrong, Refusal)


def test_a_question_is_asked_only_if_the_approvals_would_lead_to_a_permit() -> None:
    conn, asked = connection(), operation(touch(DELETE))
    assert isinstance(decide(rules(SAMPLE), identity(), asked, conn), Refusal), "nothing permits it anyway"
    hard = 'forbid (principal, action, resource in Ostiary::Label::"env=prod");'
    assert isinstance(decide(rules(SAMPLE, ALL, hard), identity(), asked, conn), Refusal), "another forbid stands"
    deaf = '@approval("dba") forbid (principal, action, resource);'
    assert isinstance(decide(rules(ALL, deaf), identity(), asked, conn), Refusal), "it does not look at approvals"


def test_quorums_of_all_deciding_policies_are_joined() -> None:
    lifted = 'unless { context.approved_by.containsAll(["dba", "security"]) };'
    policies = rules(
        ALL,
        f'@approval("dba:2,security:1") forbid (principal, action == Ostiary::Action::"delete", resource) {lifted}',
        f'@approval("security:3") forbid (principal, action, resource) {lifted}',
    )
    question = decide(policies, identity(), operation(touch(DELETE)), connection())
    assert isinstance(question, NeedsApproval)
    assert question.approvers == (("dba", 2), ("security", 3))


# --- who --------------------------------------------------------------------------------------------------------------


def test_a_policy_sees_the_whole_chain() -> None:
    policies = rules(
        ALL,
        'forbid (principal, action, resource) when { context.kinds.contains("agent") } unless { action == Ostiary::Action::"read" };',
    )
    ana, through = identity(), identity(acting=(AGENT,))
    assert isinstance(decide(policies, ana, operation(touch(WRITE)), connection()), Permit)
    assert isinstance(decide(policies, through, operation(touch(WRITE)), connection()), Refusal)
    assert isinstance(decide(policies, through, operation(touch(READ)), connection()), Permit)
    keyboard = rules(
        'permit (principal, action, resource) when { context.actor.subject == "agent-7" && context.acting.contains(context.actor) };'
    )
    assert isinstance(decide(keyboard, through, operation(touch(READ)), connection()), Permit)
    assert isinstance(decide(keyboard, ana, operation(touch(READ)), connection()), Refusal)


def test_a_policy_sees_issuer_kind_initiator_task_and_mandate() -> None:
    policies = rules(
        'permit (principal in Ostiary::Issuer::"https://idp.example.com", action, resource) when {'
        ' principal.kind == "workload" && context has initiator && context.initiator.proved && context has task &&'
        ' context.task == "run-1" && context has mandate && principal has email };'
    )
    initiator, mandate = Initiator("bo", "Bo", proved=True), Mandate("m1", None, None, None)
    run = identity(kind=Kind.WORKLOAD, initiator=initiator, task="run-1", mandate=mandate)
    assert isinstance(decide(policies, run, operation(touch(READ)), connection()), Permit)
    assert isinstance(decide(policies, identity(), operation(touch(READ)), connection()), Refusal)


def test_never_more_than_the_audience() -> None:
    assert isinstance(
        decide(rules(ALL), identity(audience=frozenset({"orders-db"})), operation(touch(READ)), connection()), Permit
    )
    refusal = decide(rules(ALL), identity(audience=frozenset({"hr-db"})), operation(touch(READ)), connection())
    assert isinstance(refusal, Refusal)
    assert "not for the connection orders-db" in refusal.grounds.message


@pytest.mark.parametrize(
    ("mandate", "permitted"),
    [
        (Mandate("m", None, None, None), True),
        (Mandate("m", ("orders-db",), ("read",), ("public.orders",)), True),
        (Mandate("m", None, None, ("public.*",)), True),
        (Mandate("m", None, None, ("*",)), True),
        (Mandate("m", ("hr-db",), None, None), False),
        (Mandate("m", (), None, None), False),
        (Mandate("m", None, ("write",), None), False),
        (Mandate("m", None, (), None), False),
        (Mandate("m", None, None, ("public.order",)), False),
        (Mandate("m", None, None, ("public.order?",)), False),
        (Mandate("m", None, None, ("Public.*",)), False),
        (Mandate("m", None, None, ()), False),
    ],
)  # fmt: skip
def test_never_more_than_the_mandate(mandate: Mandate, permitted: bool) -> None:
    found = decide(rules(ALL), identity(mandate=mandate), operation(touch(READ)), connection())
    assert isinstance(found, Permit if permitted else Refusal)


def test_a_mandate_that_names_the_connection_opens_it() -> None:
    mandate = Mandate("m", ("orders-db",), ("read",), ("public.orders",))
    assert isinstance(
        decide(rules(ALL), identity(mandate=mandate), connect_operation(connection()), connection()), Permit
    )


@pytest.mark.parametrize(
    ("where", "kind", "is_demanded"),
    [
        ('resource in Ostiary::Connection::"orders-db"', Kind.HUMAN, True),
        ('resource in Ostiary::Connection::"hr-db"', Kind.HUMAN, False),
        ('context.kinds.contains("workload")', Kind.WORKLOAD, True),
        ('context.kinds.contains("workload")', Kind.HUMAN, False),
    ],
)
def test_policy_can_demand_a_mandate_by_connection_and_by_kind_of_actor(where: str, kind: Kind, is_demanded: bool) -> None:
    demand = f'@id("mandate") @message("Bring a mandate.") forbid (principal, action, resource) when {{ {where} }} unless {{ context has mandate }};'
    asked, mandate = operation(touch(READ)), Mandate("m", None, None, None)
    found = decide(rules(ALL, demand), identity(kind=kind), asked, connection())
    assert isinstance(found, Refusal if is_demanded else Permit)
    assert ("Bring a mandate." in found.grounds.message) is is_demanded
    assert isinstance(decide(rules(ALL, demand), identity(kind=kind, mandate=mandate), asked, connection()), Permit)


def test_policy_can_demand_a_bound_token_and_an_account() -> None:
    demand = '@id("bound") forbid (principal, action, resource) unless { context.bound && context has account };'
    asked = operation(touch(READ))
    assert isinstance(decide(rules(ALL, demand), identity(), asked, connection()), Refusal)
    bound = Authentication(method="gateway-token", token="0" * 64, key="k", at=0)
    who = msgspec.structs.replace(identity(), auth=bound, account="svc", digest=b"other")
    assert isinstance(decide(rules(ALL, demand), who, asked, connection()), Permit)


def test_a_mandate_without_unmask_keeps_the_masks_on() -> None:
    asked = operation(touch(READ))
    mandate = Mandate("m", None, ("read",), None)
    assert (
        decide(rules(ALL, UNMASK_PII), identity("dba", mandate=mandate), asked, connection()).grounds.clear
        == frozenset()
    )


# --- remembering ------------------------------------------------------------------------------------------------------


def test_a_repeated_decision_shares_its_grounds() -> None:
    policies = rules(ALL)
    first = decide(policies, identity(), operation(touch(READ)), connection())
    again = decide(policies, identity(), operation(touch(READ)), connection())
    assert again.grounds is first.grounds


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policies_module, "GENERATION", 8)
    policies = rules(ALL)
    for number in range(40):
        decide(policies, identity(), operation(touch(READ, f"public.t{number}")), connection())
    assert len(policies._young) + len(policies._old) <= 16


def test_another_identity_connection_or_statement_is_another_decision() -> None:
    policies = rules(SAMPLE)
    assert isinstance(decide(policies, identity("support"), operation(touch(READ)), connection()), Permit)
    assert isinstance(decide(policies, identity(), operation(touch(READ)), connection()), Refusal)
    assert isinstance(decide(policies, identity("support"), operation(touch(WRITE)), connection()), Refusal)
    assert isinstance(decide(policies, identity("support"), operation(touch(READ)), connection(name="x")), Refusal)


def test_a_policy_that_reads_the_clock_is_asked_again_each_minute() -> None:
    policies = rules(ALL, 'forbid (principal, action, resource) when { context.now.toTime() >= duration("20h") };')
    assert policies.reads_clock
    noon, late = 12 * 3600, 21 * 3600
    assert isinstance(decide(policies, identity(), operation(touch(READ)), connection(), now=noon), Permit)
    assert isinstance(decide(policies, identity(), operation(touch(READ)), connection(), now=late), Refusal)
    assert not rules(SAMPLE).reads_clock


# --- properties -------------------------------------------------------------------------------------------------------

GROUPS = ["support", "dba", "sales"]
SCOPES = ["resource", 'resource in Ostiary::Connection::"orders-db"', 'resource in Ostiary::Label::"env=dev"', 'resource == Ostiary::Relation::"orders-db/public.orders"']  # fmt: skip
CONDITIONS = ["", "when { context.has_where }", 'unless { context.kinds.contains("agent") }', 'when { context.columns.contains("card") }', "when { 9223372036854775807 + 1 > 0 }"]  # fmt: skip
heads = st.builds(
    lambda group, action, scope, condition: f"({group}, {action}, {scope}) {condition};",
    st.sampled_from(["principal", *(f'principal in Ostiary::Group::"{group}"' for group in GROUPS)]),
    st.sampled_from(
        [
            "action",
            'action == Ostiary::Action::"read"',
            'action in [Ostiary::Action::"write", Ostiary::Action::"opaque"]',
        ]
    ),
    st.sampled_from(SCOPES),
    st.sampled_from(CONDITIONS),
)
people = st.builds(
    lambda groups, agent: identity(*groups, acting=(AGENT,) if agent else ()),
    st.sets(st.sampled_from(GROUPS)),
    st.booleans(),
)
resources = st.builds(
    touch,
    st.sampled_from([READ, WRITE, DELETE, Action.OPAQUE]),
    st.sampled_from(["public.orders", "public.customers"]),
    columns=st.sampled_from([(), ("card",)]),
)
asked_things = st.builds(
    lambda found, where: operation(*found, has_where=where), st.lists(resources, max_size=3), st.booleans()
)


@settings(max_examples=150, deadline=None)
@given(st.lists(heads, max_size=3), st.lists(heads, max_size=2), heads, people, asked_things)
def test_adding_a_forbid_never_turns_a_no_into_a_yes(
    permits: list[str], forbids: list[str], more: str, who: object, asked: object
) -> None:
    texts = [f"permit {head}" for head in permits] + [f"forbid {head}" for head in forbids]
    before = decide(rules("\n".join(texts)), who, asked, connection())
    after = decide(rules("\n".join([*texts, f"forbid {more}"])), who, asked, connection())
    if not isinstance(before, Permit):
        assert not isinstance(after, Permit)


@settings(max_examples=100, deadline=None)
@given(
    st.text(max_size=30),
    st.sampled_from(sorted(set(KINDS) - {"class", "connection"})),
    st.text(max_size=30),
    st.text(max_size=10),
)
def test_whatever_things_are_called_they_fit_the_schema_and_are_nothing_but_names(
    name: str, kind: str, subject: str, group: str
) -> None:
    who = identity(group, subject=subject, name=name)
    asked = operation(touch(READ, name, kind, columns=(name,)))
    cedarpy.Entities.from_json_str(
        msgspec.json.encode(entities(who, connection(), questions(asked.facts, connection()))).decode(), SCHEMA
    )
    policies = rules(ALL)
    assert isinstance(decide(policies, who, asked, connection()), Permit)
    (opinion, *_) = explain(policies, who, asked, connection())
    assert not opinion.errors


def test_the_circumstances_are_those_of_the_schema() -> None:
    run = identity(
        acting=(AGENT,), initiator=Initiator("bo", "Bo", proved=False), task="t", mandate=Mandate("m", None, None, None)
    )
    found = circumstances(run, connection(), operation(touch(READ)).facts, frozenset(), 0)
    assert {"initiator", "task", "mandate", "actor", "acting", "kinds", "now"} <= set(found)
    assert isinstance(decide(rules(ALL), run, operation(touch(READ)), connection()), Permit)


@pytest.mark.parametrize(("pages", "allowed"), [(("10",), True), (("10000",), False), ((), False)])
def test_policy_sees_what_was_passed_by_name(pages: tuple[str, ...], allowed: bool) -> None:
    held = rules(
        'permit (principal, action, resource) when { context.arguments.hasTag("limit") &&'
        ' context.arguments.getTag("limit").contains("10") };'
    )
    facts = plain_facts(
        action=Action.READ,
        name="GET",
        resources=(Resource("path", "/orders", Action.READ, (), ()),),
        arguments=(("limit", pages),) if pages else (),
    )
    assert isinstance(decide(held, identity(), Operation(facts, b"", None, b""), connection()), Permit) is allowed


@pytest.mark.parametrize(
    ("path", "allowed"),
    [("/orders/17", True), ("/orders", True), ("/orders/17/", True), ("/ordersx", False), ("/", False)],
)
def test_a_path_is_in_all_paths_above_it(path: str, allowed: bool) -> None:
    held = rules('permit (principal, action, resource in Ostiary::Path::"orders-db/orders");')
    facts = plain_facts(action=Action.READ, name="GET", resources=(Resource("path", path, Action.READ, (), ()),))
    assert isinstance(decide(held, identity(), Operation(facts, b"", None, b""), connection()), Permit) is allowed


def test_what_may_show_rows_of_anything_shows_none_to_whom_a_filter_is_about() -> None:
    filtered = """@filter("a = 1") permit (principal in Ostiary::Group::"support", action == Ostiary::Action::"read",
        resource == Ostiary::Relation::"{}/public.orders");"""
    samples = operation(touch(READ, "pg_catalog.pg_stats"))
    for place, groups, told in (("orders-db", ("support",), False), ("orders-db", (), True), ("other", ("support",), True)):
        policies = rules(ALL, filtered.format(place))
        duties = decide(policies, identity(*groups), samples, connection()).grounds.duties
        assert (duties is None) == told


def test_what_takes_the_place_of_another_is_demanded_where_its_permit_is_satisfied() -> None:
    policies = rules(
        ALL,
        """@instead("public.safe") permit (principal in Ostiary::Group::"support", action == Ostiary::Action::"read",
        resource == Ostiary::Relation::"orders-db/public.orders");""",
    )
    for groups, asked, demanded in (
        (("support",), touch(Action.READ), (("relation", "public.orders", "public.safe"),)),
        (("support",), touch(Action.READ, "public.others"), None),
        (("support",), touch(Action.WRITE), None),
        (("dba",), touch(Action.READ), None),
    ):
        grounds = decide(policies, identity(*groups), operation(asked), connection()).grounds
        assert (None if grounds.duties is None else grounds.duties.instead) == demanded
