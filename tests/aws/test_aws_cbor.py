"""The CBOR protocol is not read: whoever speaks it is refused in it, with a sentence, on record."""

from __future__ import annotations

import pytest
from botocore.parsers import create_parser

from tests.aws.account import Account
from tests.aws.test_aws_forms import ServiceModel, model
from tests.aws.wire import ask

HEAD = [("smithy-protocol", "rpc-v2-cbor"), ("content-type", "application/cbor"), ("accept", "application/cbor")]


@pytest.mark.parametrize("body", [b"\xbf\xff", b"\xa0", b"", b"\xff" * 100])
def test_a_call_in_cbor_is_refused_in_cbor_with_a_sentence(shared: Account, heard: list[str], body: bytes) -> None:
    before = len(shared.records("deny"))
    path = "/service/GraniteServiceVersion20100801/operation/ListMetrics"
    reply = ask(shared, "POST", path, host="monitoring.us-east-1.amazonaws.com", service="monitoring", headers=HEAD, body=body)
    assert reply.status == 400
    shape = ServiceModel(model("cloudwatch"), "cloudwatch").operation_model("ListMetrics").output_shape
    given = {"status_code": reply.status, "headers": dict(reply.headers), "body": reply.body}
    error = create_parser("smithy-rpc-v2-cbor").parse(given, shape)["Error"]
    assert error["Code"] == "UnsupportedProtocol"
    assert "JSON or query" in error["Message"]
    assert len(shared.records("deny")) == before + 1
    assert heard == []
