"""What a request does is not hidden in how its parameters, its form's fields or its path are written."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from conftest import World, world

from ostiary.model.operations import Action, Unjudgeable, plain_facts
from ostiary.protocols.http.messages import RequestHead
from ostiary.protocols.http.operations import Judged, with_body
from ostiary.protocols.http.paths import read_arguments

FACTS = plain_facts(action=Action.WRITE, name="POST", resources=())
FORM, JSON, PARTS, NONE = "application/x-www-form-urlencoded", "application/json", "multipart/form-data; boundary=b", ""


def facts(kind: str, body: bytes) -> Any:
    headers = ((b"Content-Type", kind.encode()),) if kind else ()
    return with_body(Judged(None, FACTS, wants_body=True), RequestHead(b"POST", b"/x", 1, headers, b""), body)


def part(name: bytes, text: bytes = b"DELETE", more: bytes = b"") -> bytes:
    return b"--b\r\nContent-Disposition: form-data; " + name + more + b"\r\n\r\n" + text + b"\r\n--b--\r\n"


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (FORM, b"_method=DELETE"), (FORM, b"a=1&%5f%6D%65thod=delete"), (FORM, b"a=1;_METHOD=delete"), (FORM, b"%u005fmethod=DELETE"),
        (FORM, b".method=DELETE"), (FORM, b"%2emethod=DELETE"), (FORM, b"[method=DELETE"), (FORM, b"++_method%00x=DELETE"),
        (FORM, b"X-HTTP-Method-Override=DELETE"), (FORM, b"a=b&X-HTTP-Method=DELETE"), (FORM, b"_HttpMethod=PATCH"),
        (NONE, b"_method=DELETE"), (NONE, b'{"_method":"DELETE"}'), (JSON, b'{"a":1,"_method":"DELETE"}'), (JSON, b'{"\\u005fmethod":"DELETE"}'),
        (PARTS, part(b'name="_method"')), (PARTS, part(b"name=_method")), (PARTS, part(b"name='_method'")), (PARTS, part(b'name="_\\m\\ethod"')),
        (PARTS, part(b"name*=utf-8''%5Fmethod")), (PARTS, part(b'name*0="_met"; name*1="hod"')), (PARTS, part(b'name="=?utf-8?q?=5Fmethod?="')),
        (PARTS, part(b'filename="x"; name = ".method"')),
    ],
)  # fmt: skip
def test_another_method_is_asked_for_in_no_spelling(kind: str, body: bytes) -> None:
    found = facts(kind, body)
    assert found.objection is not None
    assert found.objection.reason is Unjudgeable.UNPARSABLE


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (JSON, b'{"query":"mutation{x}","query":"plain words"}'), (JSON, b'{"query":"plain words","query":"mutation{x}"}'),
        (JSON, b'{"Query":"mutation{x}"}'), (JSON, b'[{"a":1},{"QUERY":"{x}"}]'), (JSON, b'{"query":" ,,\\ufeff,mutation{x}"}'),
        (JSON, b'{"query":"\\"what it does\\" mutation{x}"}'), (JSON, b'{"query":"# a\\n,# b\\nsubscription{x}"}'),
        (JSON, b'{"a":[' + b"1," * 200_000 + b'1],"query":"mutation{x}"}'),
        (FORM, b"query=mutation%7Bx%7D"), (FORM, b"a=1&Query=+%7Bx%7D"), (FORM, b"a=1;query=mutation{x}"), (FORM, b"&" * 5000 + b"query=x"),
        (PARTS, part(b'name="query"', b"mutation{x}")), (PARTS, part(b'name="operations"', b'{"query":"mutation{x}"}')),
        (PARTS, part(b'name="query"', b"{x}", b"\r\nContent-Type: text/plain")),
    ],
)  # fmt: skip
def test_graphql_is_opaque_however_it_is_written(kind: str, body: bytes) -> None:
    found = facts(kind, body)
    assert found.objection is None
    assert found.opaque


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (FORM, b"payment_method=card&query=shoes"), (FORM, b"method=card"), (FORM, b"shipping.method=air"), (FORM, b"a=_method"),
        (JSON, b'{"jsonrpc":"2.0","method":"sum"}'), (JSON, b'{"payment_method":"card"}'), (JSON, b'{"a":{"_method":"x"}}'),
        (JSON, b'{"queries":[{"query":"{job=\\"x\\"}"}]}'), (JSON, b'{"query":"two words"}'), (JSON, b'{"query":"\\"one phrase\\""}'),
        (PARTS, part(b'name="payment_method"')), (PARTS, part(b'name="a"; filename="=?utf-8?q?b?="', b"x _method y")),
        (PARTS, part(b'name="a"', b"\0\xff" * 1000)), (NONE, b"\xff" * 1000),
    ],
)  # fmt: skip
def test_what_only_looks_like_it_is_plain(kind: str, body: bytes) -> None:
    found = facts(kind, body)
    assert found.objection is None
    assert not found.opaque


@pytest.mark.timeout(120)  # what takes the square of a body's length takes hours
@pytest.mark.parametrize("kind", [FORM, JSON, PARTS, NONE])
@pytest.mark.parametrize(
    "unit", [b"query=1&", b'name="query"\n', b"name=query;", b'{"query":"', b'"query":"x",', b"%71uery", b"\\m\\e", b'name="\\', b'"""', b"[{},", b"query;"]
)
def test_no_body_costs_more_than_its_length(kind: str, unit: bytes) -> None:
    body = (unit * (4 << 20))[: 4 << 20]
    facts(kind, body)
    facts(kind, b"{" + json.dumps(body[:100_000].decode("latin-1")).encode() + b':"_method query"}')


@pytest.mark.parametrize("kind", [FORM, PARTS])
def test_a_form_of_too_many_escaped_letters_is_opaque_and_one_of_other_escapes_is_not(kind: str) -> None:
    assert facts(kind, b"a=" + b"%61" * (1 << 17)).opaque
    assert not facts(kind, b"a=" + b"%d0%af" * (1 << 17)).opaque


ROUTES = [
    {"match": "POST /invoices/{id}/void", "action": "delete", "name": "invoices.void"},
    {"match": "GET /purge/{id}", "action": "delete", "name": "purge"},
    {"match": "POST /Search", "action": "read", "name": "search"},
    {"match": "POST /{rest...}", "action": "write", "name": "any"},
]


@pytest.fixture(scope="module")
def routed() -> Iterator[World]:
    policy = 'permit (principal, action, resource);\n@id("no-delete") forbid (principal, action == Ostiary::Action::"delete", resource);'
    with world(policy, routes=ROUTES) as made:
        yield made


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/invoices/1/void"), ("POST", "/INVOICES/1/VOID"), ("POST", "/invoices/1/Void"), ("POST", "/invoices/1/void/"),
        ("POST", "/invoices/1/void.json"), ("GET", "/purge/1"), ("HEAD", "/purge/1"), ("HEAD", "/Purge/1/"),
    ],
)  # fmt: skip
def test_what_a_route_says_holds_in_every_spelling_of_its_path_and_for_head(routed: World, method: str, path: str) -> None:
    assert routed.ask(method, path).status == 403


def test_other_paths_are_of_the_route_that_describes_them(routed: World) -> None:
    assert [routed.ask("POST", path).status for path in ("/invoices/1", "/Search", "/search", "/x.json", "/x/")] == [200] * 5
    assert [entry["op"]["name"] for entry in routed.records("intent")[-5:]] == ["any", "search", "any", "any", "any"]
    assert [entry["op"]["action"] for entry in routed.records("intent")[-5:]] == ["write", "read", "write", "write", "write"]


def test_a_query_is_read_with_semicolons_as_ends_of_parameters_and_without() -> None:
    assert read_arguments(b"a=1;b=2&c=3") == (("a", ("1", "1;b=2")), ("b", ("", "2")), ("c", ("3",)))
    assert read_arguments(b"a=1&a=1;") == (("", ("",)), ("a", ("1", "1;")))
    assert read_arguments(b"a=1%3Bb=2") == (("a", ("1;b=2",)),)


@pytest.mark.parametrize("query", ["_method=DELETE", ".method=DELETE", "+_method%00=DELETE", "X-HTTP-Method-Override=DELETE", "a=1;%5Fmethod=x", "%u005fmethod=x"])
def test_nor_is_another_method_asked_for_in_the_query(routed: World, query: str) -> None:
    routed.service.heard.clear()
    assert routed.ask("POST", f"/x?{query}").status == 400
    assert bytes(routed.service.heard) == b""
