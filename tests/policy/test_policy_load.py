"""Policies are checked when they are loaded; a fault names its file, line and policy."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))
from policy_world import SAMPLE, connection, identity

import ostiary.policy
from ostiary.model.errors import ConfigError
from ostiary.model.operations import Action
from ostiary.policy.policies import SCHEMA_TEXT, Policies
from ostiary.policy.slicing import about
from ostiary.policy.source import cut

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((Path(ostiary.policy.__file__).parent / "examples").glob("*.cedar"))
ANY = "(principal, action, resource)"
TABLE = 'permit (principal, action == Ostiary::Action::"read", resource == Ostiary::Relation::"db/public.t");'
FUNCTION = 'permit (principal, action == Ostiary::Action::"execute", resource == Ostiary::Function::"db/{}");'


def test_a_thousand_policies_load() -> None:
    text = "\n".join(
        f'@id("p{n}") permit (principal in Ostiary::Group::"g{n}", action == Ostiary::Action::"read",'
        f' resource in Ostiary::Connection::"c{n}") when {{ context.has_where }};'
        for n in range(1000)
    )
    policies = Policies.load({"a.cedar": text, "b.cedar": SAMPLE})
    assert len(policies) == 1002
    assert re.fullmatch("[0-9a-f]{64}", policies.digest)


def test_a_policy_without_an_id_is_named_by_file_and_number() -> None:
    policies = Policies.load({"a.cedar": f"permit {ANY};\nforbid {ANY};"})
    assert set(policies.by_id) == {"a.cedar:1", "a.cedar:2"}


def test_the_digest_names_the_policies_and_not_their_order_or_files() -> None:
    one, two = '@id("a") permit (principal, action, resource);', '@id("b") forbid (principal, action, resource);'
    assert Policies.load({"x": one + two}).digest == Policies.load({"y": two, "z": "// a comment\n" + one}).digest
    assert Policies.load({"x": one}).digest != Policies.load({"x": one + two}).digest


@pytest.mark.parametrize(
    ("text", "place", "says"),
    [
        ("permit(principal action, resource);", "f.cedar line 1", "not valid Cedar"),
        (f'\n\n// x;\n@id("x")\npermit {ANY} when {{ context.foo }};', "f.cedar line 4, policy `x`", "`foo`"),
        (f'permit {ANY};\n@id("y") permit {ANY} when {{ principal.age > 3 }};', "f.cedar line 2, policy `y`", "age"),
        (f'@id("a") permit {ANY};\n@id("a")\nforbid {ANY};', "f.cedar line 2, policy `a`", "same @id"),
        (f'@limt("4") permit {ANY};', "f.cedar line 1", "did you mean @limit"),
        (f'@limit("many") permit {ANY};', "f.cedar line 1", "number of rows"),
        (f'@limit("-1") permit {ANY};', "f.cedar line 1", "number of rows"),
        (f'@limit("4") forbid {ANY};', "f.cedar line 1", "means nothing on a forbid"),
        (f'@rows("few") permit {ANY};', "f.cedar line 1", "number of rows"),
        (f'@filter("x = 1") permit {ANY};', "f.cedar line 1", "permit of reading alone"),
        (f'@filter(" ") permit {ANY};', "f.cedar line 1", "@filter is empty"),
        (f'@instead("a.b") permit {ANY};', "f.cedar line 1", "@instead stands on a permit to read"),
        (f'@instead("a.b") {TABLE.replace("read", "define")}', "f.cedar line 1", "@instead stands on a permit to read"),
        (f'@instead("b") {TABLE}', "f.cedar line 1", "with its schema"),
        (f'@instead("a.b.c") {TABLE}', "f.cedar line 1", "with its schema"),
        (f'@instead("public.t") {TABLE}', "f.cedar line 1", "in its own place"),
        (f'@instead("a.b") {FUNCTION.format("pg_catalog.now")}', "f.cedar line 1", "functions of somebody's own"),
        (f'@timeout("30s") permit {ANY};', "f.cedar line 1", "must name Ostiary::Action"),
        (f'@timeout("1h") permit {ANY};', "f.cedar line 1", "must be a time"),
        (f'@timeout("0s") permit {ANY};', "f.cedar line 1", "must be a time"),
        (f'@parameters("") permit {ANY};', "f.cedar line 1", "from 1 to 64 demands"),
        (f'@parameters("MaxKeys<100") permit {ANY};', "f.cedar line 1", "is no demand"),
        (f'@parameters("MaxKeys<=many") permit {ANY};', "f.cedar line 1", "wants a number"),
        (f'@parameters("Tags+=owner") permit {ANY};', "f.cedar line 1", "wants a tag"),
        (f'@parameters("MaxKeys<=1") forbid {ANY};', "f.cedar line 1", "means nothing on a forbid"),
        (f'@transactions("no writes") permit {ANY};', "f.cedar line 1", "read only"),
        (f'@approval("dba") permit {ANY};', "f.cedar line 1", "means nothing on a permit"),
        (f'@approval("dba:0") forbid {ANY};', "f.cedar line 1", "@approval"),
        (f'@approval("a,a") forbid {ANY};', "f.cedar line 1", "@approval"),
        (f'@approval("") forbid {ANY};', "f.cedar line 1", "@approval"),
        (f'@justify("x") permit {ANY};', "f.cedar line 1", "unknown annotation @justify"),
        (f'@id("") permit {ANY};', "f.cedar line 1", "@id is empty"),
        ("permit(principal == ?principal, action, resource);", "f.cedar line 1", "template"),
        ('permit(principal, action == Ostiary::Action::"raed", resource);', "f.cedar line 1", "raed"),
        ('permit(principal in Ostiary::Grp::"x", action, resource);', "f.cedar line 1", "Ostiary::Grp"),
        (f"permit {ANY};\nforbid {ANY}", "f.cedar line 2", "not valid Cedar"),
        (f'permit {ANY};\n"', "f.cedar line 2", "not valid Cedar"),
    ],
)  # fmt: skip
def test_a_fault_names_file_line_and_policy(text: str, place: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Policies.load({"f.cedar": text})
    assert caught.value.key == place
    assert says in str(caught.value)


def test_a_policy_hidden_behind_an_odd_line_ending_is_not_lost() -> None:
    policies = Policies.load({"f.cedar": f"permit {ANY};\r// comment\rforbid {ANY};"})
    assert len(policies) == 2


def test_semicolons_in_strings_and_comments_do_not_cut() -> None:
    text = f'// a; b\npermit {ANY} when {{ principal.name == "x;\\"y;" }}; // c;\nforbid {ANY};'
    assert [line for line, _ in cut(text)] == [2, 3]
    assert len(Policies.load({"f": text})) == 2


@given(st.text(max_size=120) | st.lists(st.sampled_from(["permit", ANY, ";", '"', "//", "\n", "\r", "\\", "@id", "when { true }", "/"])).map("".join))  # fmt: skip
def test_whatever_the_text_is_the_only_error_is_a_config_error(text: str) -> None:
    try:
        Policies.load({"f.cedar": text})
    except ConfigError as exc:
        assert str(exc).startswith("f.cedar")  # noqa: PT017 - most texts are refused, some are policies


def test_only_permits_that_name_it_have_a_say_on_what_must_be_named() -> None:
    policies = Policies.load(
        {"f": f'permit {ANY}; permit (principal, action == Ostiary::Action::"opaque", resource); forbid {ANY};'}
    )
    somebody = about(identity(), connection())
    assert len(policies.compiled(Action.READ, somebody)) == 3
    assert len(policies.compiled(Action.OPAQUE, somebody)) == 2
    assert len(policies.compiled(Action.UNMASK, somebody)) == 1


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_every_example_is_valid(path: Path) -> None:
    assert len(Policies.load({path.name: path.read_text()}))


def test_the_examples_go_together() -> None:
    Policies.load({path.name: path.read_text() for path in EXAMPLES})


def test_every_policy_in_the_docs_is_valid() -> None:
    page = (ROOT / "docs" / "policy.md").read_text()
    blocks = re.findall(r"```cedar\n(.*?)```", page, re.DOTALL)
    assert blocks
    Policies.load({f"block{number}": block for number, block in enumerate(blocks)})


def test_every_action_and_annotation_is_in_the_docs() -> None:
    page = (ROOT / "docs" / "policy.md").read_text()
    for action in Action:
        assert f"`{action.value}`" in page
        assert re.search(rf"\b{action.value}\b", SCHEMA_TEXT)
    for annotation in ("id", "message", "approval", "limit", "parameters", "read_only", "description"):
        assert f"`@{annotation}" in page
