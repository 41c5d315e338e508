"""What a request says is read in one way, or it is no call: types of JSON, words of a query, headers, names that are no bucket."""

from __future__ import annotations

import socket

import pytest

from tests.aws.account import Account
from tests.aws.wire import ask, send, signed

DYNAMODB = "dynamodb.us-east-1.amazonaws.com"


@pytest.mark.parametrize(
    ("operation", "body"),
    [
        ("DescribeTable", b'{"TableName":123}'), ("DescribeTable", b'{"TableName":true}'), ("ListTables", b'{"Limit":"1"}'), ("ListTables", b'{"Limit":1.5}'),
        ("ListTables", b'{"Limit":true}'), ("GetItem", b'{"TableName":"tab","Key":{"id":{"S":1}}}'), ("GetItem", b'{"TableName":"tab","Key":{},"ConsistentRead":"true"}'),
        ("UpdateTable", b'{"TableName":"tab","DeletionProtectionEnabled":0}'),
    ],
)  # fmt: skip
def test_a_value_of_another_type_than_the_models_is_no_parameter(shared: Account, heard: list[str], operation: str, body: bytes) -> None:
    head = [["Content-Type", "application/x-amz-json-1.0"], ["X-Amz-Target", f"DynamoDB_20120810.{operation}"]]
    reply = ask(shared, "POST", "/", host=DYNAMODB, headers=head, body=body)
    assert reply.status == 400
    assert b"SerializationException" in reply.body
    assert heard == []


@pytest.mark.parametrize(
    ("method", "path", "host"),
    [
        ("POST", "/2020-05-31/tagging?Operation=Untag&Operation=Tag&Resource=arn:aws:cloudfront::123456789012:distribution/D", "cloudfront.amazonaws.com"),
        ("POST", "/123456789012/vaults/v?operation=remove&operation=add", "glacier.us-east-1.amazonaws.com"), ("GET", "/plain?list-type=1&list-type=2", "s3.amazonaws.com"),
        ("POST", "/plain?delete&delete=", "s3.amazonaws.com"),
    ],
)  # fmt: skip
def test_a_word_that_says_which_call_it_is_stands_there_once(shared: Account, heard: list[str], method: str, path: str, host: str) -> None:
    assert ask(shared, method, path, host=host).status == 400
    assert heard == []


def test_a_parameter_in_a_header_that_is_not_signed_is_nobodys_word(shared: Account, heard: list[str]) -> None:
    host, path, header = "iot.us-east-1.amazonaws.com", "/principal-policies/p", ("x-amzn-iot-principal", "arn:aws:iot:us-east-1:123456789012:cert/c")
    request = signed(shared, "PUT", path, host=host)
    reply = send(shared, request, host=host, more=[header])
    assert reply.status == 403
    assert b"is not signed" in reply.body
    assert heard == []
    assert ask(shared, "PUT", path, host=host, headers=[header]).status != 403 or len(heard) == 1, "signed, it is the caller's"


@pytest.mark.parametrize("name", ["my-ap-abc123-s3alias", "my-olap-abc--ol-s3", "dir--use1-az4--x-s3", "x--xa-s3", "t--table-s3", "mfzwi23gnjvgw.mrap", "MY-AP-S3ALIAS"])
def test_a_name_that_leads_to_another_bucket_is_none(shared: Account, heard: list[str], name: str) -> None:
    for reply in (
        ask(shared, "GET", f"/{name}/k", host="s3.amazonaws.com"), ask(shared, "GET", "/k", host=f"{name.lower()}.s3.amazonaws.com"),
        ask(shared, "PUT", "/plain/k", host="s3.amazonaws.com", headers=[["x-amz-copy-source", f"{name}/k"]]),
    ):  # fmt: skip
        assert reply.status == 400
        assert b"bucket" in reply.body
    assert heard == []


def test_what_directory_buckets_have_alone_is_no_call(shared: Account, heard: list[str]) -> None:
    assert ask(shared, "PUT", "/plain/k?renameObject", host="s3.amazonaws.com", headers=[["x-amz-rename-source", "secret"]]).status == 400
    assert heard == []


def test_a_token_in_the_query_is_called_by_its_plain_name_and_never_on_record(shared: Account, heard: list[str]) -> None:
    shared.granted()
    token = shared.granted().session_token.reveal()
    request = signed(shared, "GET", "/plain/k", host="s3.amazonaws.com", presigned=60)
    path = "/" + request.url.split("/", 3)[3]
    for spelled in ("X%2DAmz-Security-Token=", "%58-Amz-Security-Token=", "x-amz-security-token="):
        assert send(shared, request, host="s3.amazonaws.com", path=path.replace("X-Amz-Security-Token=", spelled)).status == 400
    assert heard == []
    kept = b"".join(content for _, content in shared.gateway.written())
    assert token.encode() not in kept
    assert token not in "".join(map(str, shared.gateway.entries()))


def test_a_refusal_of_head_has_no_body_whether_or_not_anybody_is_known(shared: Account, heard: list[str]) -> None:
    request = signed(shared, "HEAD", "/secret-bucket/k", host="s3.amazonaws.com")
    lines = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items() if name.lower() != "host")
    for more in ("", lines):
        with socket.create_connection(("127.0.0.1", shared.port), timeout=10) as client:
            client.sendall(f"HEAD /secret-bucket/k HTTP/1.1\r\nHost: s3.amazonaws.com\r\n{more}Connection: close\r\n\r\n".encode())
            answer = b"".join(iter(lambda: client.recv(65536), b""))
        assert answer.startswith(b"HTTP/1.1 403 ")
        assert answer.endswith(b"\r\n\r\n")
        assert answer.count(b"\r\n\r\n") == 1
    assert heard == []


def test_and_what_comes_after_a_head_on_its_connection_and_is_no_request_is_told_so(shared: Account) -> None:
    request = signed(shared, "HEAD", "/secret-bucket/k", host="s3.amazonaws.com")
    lines = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items() if name.lower() != "host")
    with socket.create_connection(("127.0.0.1", shared.port), timeout=10) as client:
        client.sendall(f"HEAD /secret-bucket/k HTTP/1.1\r\nHost: s3.amazonaws.com\r\n{lines}\r\n".encode())
        assert client.recv(65536).startswith(b"HTTP/1.1 403 ")
        client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n")
        answer = b"".join(iter(lambda: client.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 4")
    assert b"<Error>" in answer
