"""What a call says beside its parameters: XML bodies, copies' sources, types of answers, paths; and that nothing of it is an internal error."""

from __future__ import annotations

import base64
import hashlib
import socket
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ClientError
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from ostiary.model.operations import Action, plain_facts
from ostiary.protocols.aws.arns import keys_to_delete
from ostiary.protocols.aws.models import Unreadable
from ostiary.protocols.aws.relay import AwsRelay
from ostiary.protocols.aws.sigv4 import NotSigned, read_target
from ostiary.protocols.http.messages import RequestHead
from ostiary.protocols.http.operations import Judged
from tests.aws.account import WATCH, Account, account
from tests.aws.wire import ask, send, signed

HOST = "s3.amazonaws.com"
DELETE = b'<Delete xmlns="http://s3.amazonaws.com/doc/2006-03-01/">%b</Delete>'
ONE = b"<Object><Key>a</Key></Object>"
STRANGE = [
    DELETE % b"<Object><Key>prod/<x/>a</Key></Object>", DELETE % b"<Object><Key>prod/<!-- -->a</Key></Object>",
    DELETE % b"<Object><Key>prod/<?x?>a</Key></Object>", DELETE % b"<Object><Key><![CDATA[prod/]]>a</Key></Object>",
    b"<?xml version='1.0' encoding='UTF-7'?>" + DELETE % b"<Object><Key>+AHAAcgBvAGQ-/a</Key></Object>",
    b"<?xml version='1.0' encoding='iso-8859-1'?>" + DELETE % ONE, "<Delete><Object><Key>a</Key></Object></Delete>".encode("utf-16"),
    b"<!DOCTYPE Delete [<!ENTITY k 'prod'>]>" + DELETE % b"<Object><Key>&k;</Key></Object>",
    DELETE % b"<Object><Key>a</Key><Key>prod</Key></Object>", DELETE % b"<Object><Key>a</Key><x:Key xmlns:x='urn:x'>prod</x:Key></Object>",
    DELETE % b"<Object><Key>a</Key></Object><x><Object><Key>prod</Key></Object></x>", DELETE % b"<Object><Key>a</Key><Object><Key>prod</Key></Object></Object>",
    DELETE % b"<Object><VersionId>1</VersionId></Object>", DELETE % b"<Object><Key>a</Key>prod</Object>", DELETE % b"", b"<Delete/>", b"",
    DELETE % b"<Object><Key xmlns='urn:other'>a</Key></Object>", b"<x:Delete xmlns:x='urn:x'><x:Object><x:Key>a</x:Key></x:Object></x:Delete>",
    DELETE % b"<Object><Key>a</Key><VersionId>1</VersionId><VersionId>2</VersionId></Object>", DELETE % b"<Object><Key></Key></Object>",
]  # fmt: skip


@pytest.mark.parametrize("body", STRANGE)
def test_a_list_of_keys_that_others_could_read_otherwise_is_none(body: bytes) -> None:
    with pytest.raises(Unreadable):
        keys_to_delete(body)


@given(st.lists(st.text(st.characters(min_codepoint=0x20, exclude_categories=("Cs",), exclude_characters="\ufffe\uffff"), min_size=1), min_size=1, max_size=5))
def test_keys_are_what_another_reader_of_xml_finds(keys: list[str]) -> None:
    root = etree.Element("Delete", nsmap={None: "http://s3.amazonaws.com/doc/2006-03-01/"})
    for key in keys:
        each = etree.SubElement(root, "Object")
        etree.SubElement(each, "Key").text = key
        etree.SubElement(each, "VersionId").text = "1"
    etree.SubElement(root, "Quiet").text = "true"
    body = etree.tostring(root, encoding="UTF-8", xml_declaration=True)
    assert keys_to_delete(body) == [each.text for each in etree.fromstring(body).iter("{*}Key")] == keys


def test_one_that_is_strange_is_refused_on_record(shared: Account, heard: list[str]) -> None:
    shared.granted()
    for body in STRANGE[:3]:
        before = len(shared.records("deny"))
        digest = base64.b64encode(hashlib.md5(body).digest()).decode()
        assert ask(shared, "POST", "/plain?delete=", host=HOST, headers=[["Content-MD5", digest]], body=body).status == 400
        assert len(shared.records("deny")) == before + 1
    assert heard == []


# --- nobody but the object says what type it is of ---


@pytest.fixture(scope="module")
def typed(moto: str) -> Any:
    with account(moto, detect=["ssn"], pass_types=["application/zip"], protect={"s3:GetObject json:/ssn": {"class": "pii"}}) as made:
        made.direct("s3").create_bucket(Bucket="typed")
        made.direct("s3").put_object(Bucket="typed", Key="k", Body=b'{"ssn":"hunter2-sentinel"}', ContentType="application/json")
        yield made


@pytest.mark.parametrize("chosen", [{"ResponseContentType": "application/zip"}, {"ResponseContentType": "text/plain"}, {"ResponseContentEncoding": "gzip"}])
def test_the_type_of_an_answer_is_not_the_callers_to_choose(typed: Account, chosen: dict[str, str]) -> None:
    s3 = typed.client("s3")
    for call in (s3.get_object, s3.head_object):
        with pytest.raises(ClientError):
            call(Bucket="typed", Key="k", **chosen)
    host = "s3.amazonaws.com"
    request = signed(typed, "GET", "/typed/k?response-content-type=application%2Fzip", host=host, presigned=60)
    assert send(typed, request, host=host).status == 403
    assert b"sentinel" not in s3.get_object(Bucket="typed", Key="k")["Body"].read()


@pytest.mark.parametrize("kind", ["text/plain", "text/html", "binary/octet-stream", "application/x-yaml"])
def test_fields_that_are_protected_are_never_in_content_of_another_type(typed: Account, kind: str) -> None:
    typed.direct("s3").put_object(Bucket="typed", Key="other", Body=b'{"ssn":"hunter2-sentinel"}', ContentType=kind)
    with pytest.raises(ClientError):
        typed.client("s3").get_object(Bucket="typed", Key="other")


@pytest.mark.parametrize("coding", ["br", "zstd", "gzip, br"])
def test_content_in_a_coding_that_is_not_read_does_not_leave_and_none_is_asked_for(typed: Account, coding: str) -> None:
    typed.direct("s3").put_object(Bucket="typed", Key="packed", Body=b"\x8b\x05sentinel", ContentType="application/json", ContentEncoding=coding)
    _, heads = WATCH.begin()
    with pytest.raises(ClientError) as refused:
        typed.client("s3").get_object(Bucket="typed", Key="packed")
    assert coding in str(refused.value)
    assert "sentinel" not in str(refused.value)
    assert "Accept-Encoding" not in heads[-1]


def test_head_tells_no_digest_of_what_get_masks(typed: Account) -> None:
    head = typed.client("s3").head_object(Bucket="typed", Key="k")
    assert "ETag" not in head
    assert "LastModified" in head, "the `aws` command needs it"
    assert head["ContentLength"]
    put = typed.client("s3").put_object(Bucket="typed", Key="mine", Body=b"x")
    assert put["ETag"], "whoever writes is told"


# --- content that is not signed ---


def test_a_presigned_put_is_content_that_is_not_signed(moto: str) -> None:
    with account(moto, unsigned_payload=False) as made:
        made.direct("s3").create_bucket(Bucket="strict")
        request = signed(made, "PUT", "/strict/k", host=HOST, presigned=60)
        reply = send(made, request, host=HOST, body=b"anything")
        assert reply.status == 403
        assert b"unsigned content" in reply.body
        assert ask(made, "PUT", "/strict/k", host=HOST, body=b"signed").status == 200


# --- paths, and what is no text ---


@pytest.mark.parametrize(
    "path", [b"/mine/public%2F..%2Fprod", b"/mine/..%2Fprod", b"/mine/a%2f.", b"/mine/%2e%2e%2fprod", b"/mine/a%5C..%5Cprod", b"/mine/..%5cprod", b"/..%2f"]
)
def test_a_dot_segment_behind_an_encoded_slash_is_one(path: bytes) -> None:
    with pytest.raises(NotSigned):
        read_target(path)


@pytest.mark.parametrize("path", [b"/mine/a%2Fb", b"/mine/a..b%2Fc", b"/mine/...%2F"])
def test_an_encoded_slash_by_itself_is_part_of_a_key(path: bytes) -> None:
    assert read_target(path).segments[0] == "mine"


@pytest.mark.parametrize("source", ["b/%ff", "b/%c3%28", "%ff/k", "b/\xff", "b/%", "b/%zz", "%00/%00"])
def test_a_source_of_a_copy_that_is_no_text_is_refused_on_record(shared: Account, heard: list[str], source: str) -> None:
    shared.granted()
    before = len(shared.records("deny")) + len(shared.records("login"))
    assert ask(shared, "PUT", "/plain/k", host=HOST, headers=[["x-amz-copy-source", source]]).status in (400, 403)
    assert len(shared.records("deny")) + len(shared.records("login")) == before + 1
    assert heard == []


# --- nothing that cannot be read goes unrecorded ---

NOWHERE = [
    b"GET / HTTP/1.1\r\nX: y\r\n\r\n", b"GET / HTTP/1.0\r\n\r\n", b"GET / HTTP/1.1\r\nHost:\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: \xff\r\n\r\n", b"GET http://a/ HTTP/1.1\r\n\r\n", b"GET /%ff HTTP/1.1\r\nHost: s3.amazonaws.com\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: s3.amazonaws.com\r\nAuthorization: Bearer x\r\n\r\n", b"POST / HTTP/1.1\r\nAuthorization: \xff\xfe\r\n\r\n",
    b"GET /?X-Amz-Signature=%ff&X-Amz-Algorithm=%00 HTTP/1.1\r\n\r\n",
]  # fmt: skip


@pytest.mark.parametrize("raw", NOWHERE)
def test_what_names_no_place_is_answered_and_on_record(shared: Account, raw: bytes) -> None:
    before = len(shared.records("login")) + len(shared.records("deny"))
    with socket.create_connection(("127.0.0.1", shared.port), timeout=20) as sock:
        sock.sendall(raw)
        assert sock.recv(65536).startswith(b"HTTP/1.1 4")
    assert len(shared.records("login")) + len(shared.records("deny")) == before + 1


HEAD = RequestHead(b"PUT", b"/k", 1, ((b"Host", b"s3.amazonaws.com"), (b"Content-Length", b"1")), b"PUT /k HTTP/1.1\r\n\r\n")


def broken(*_: object, **__: object) -> Any:
    raise AttributeError("a bug")


@pytest.mark.parametrize("where", ["judge", "finish", "feed"])
def test_whatever_goes_wrong_while_a_call_is_judged_is_a_refusal(where: str) -> None:
    """An error of ours is no way past the record: it is refused like anything else that cannot be read."""
    fine = Judged(None, plain_facts(action=Action.OPAQUE, name="-", resources=()), wants_body=True)
    asking = SimpleNamespace(
        connection=SimpleNamespace(max_message_bytes=1, max_request_bytes=9), judge=lambda *_, **__: fine, finish=broken, protocol="s3", head=None,
        chunks=SimpleNamespace(feed=broken, size=0) if where == "feed" else None,
    )  # fmt: skip
    if where == "judge":
        asking.judge = broken
    relay = AwsRelay(HEAD, asking)  # type: ignore[arg-type]
    relay.heard(b"x")
    said = relay.operation()
    assert said.facts.objection is not None
    assert said.facts.objection.code == "500"
    assert said.wire == b""
    assert isinstance(relay.bug, AttributeError)
