"""Budgets of operations, deletes and bytes hold for calls to AWS, in the service's own words."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from botocore.exceptions import ClientError

from tests.aws.account import WATCH, Account, account
from tests.aws.test_aws_gateway import refused

POLICY = "permit (principal, action, resource);"
BUDGETS = [
    {"name": "few-calls", "of": "operations", "most": 3, "per": "day", "groups": ["callers"]},
    {"name": "few-deletes", "of": "deletes", "most": 2, "per": "day", "groups": ["cleaners"], "connections": ["aws-prod"]},
    {"name": "few-bytes", "of": "bytes", "most": 100_000, "per": "session", "groups": ["readers"]},
]


@pytest.fixture(scope="module")
def bounded(moto: str) -> Iterator[Account]:
    with account(moto, POLICY, tables={"budgets": BUDGETS}, detect=[]) as made:
        direct = made.direct("s3")
        direct.create_bucket(Bucket="spent")
        direct.put_object(Bucket="spent", Key="large", Body=b"x" * 60_000, ContentType="text/plain")
        made.direct("dynamodb").create_table(
            TableName="spent", BillingMode="PAY_PER_REQUEST", KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        )  # fmt: skip
        yield made


def of(made: Account, subject: str, group: str) -> str:
    made.grant(subject, groups=[group])
    return subject


def test_calls_of_every_service_are_counted_together_and_the_one_too_many_is_refused_in_the_services_words(bounded: Account) -> None:
    subject = of(bounded, "carl", "callers")
    s3, dynamodb, sts = (bounded.client(name, subject=subject) for name in ("s3", "dynamodb", "sts"))
    s3.list_objects_v2(Bucket="spent")
    dynamodb.describe_table(TableName="spent")
    sts.get_caller_identity()
    heard, _ = WATCH.begin()
    for call, asked in ((s3.list_objects_v2, {"Bucket": "spent"}), (dynamodb.describe_table, {"TableName": "spent"}), (sts.get_caller_identity, {})):
        error = refused(call, **asked)
        assert "few-calls" in error["Message"]
        assert error["Code"].startswith("AccessDenied")
    assert heard == []
    assert bounded.records("deny")[-1]["who"]["sub"] == "carl"
    bounded.client("s3", subject=of(bounded, "cora", "callers")).list_objects_v2(Bucket="spent")


def test_deletes_are_counted_whatever_deletes_and_reads_go_on(bounded: Account) -> None:
    subject = of(bounded, "dan", "cleaners")
    s3, dynamodb = bounded.client("s3", subject=subject), bounded.client("dynamodb", subject=subject)
    s3.delete_object(Bucket="spent", Key="a")
    dynamodb.batch_write_item(RequestItems={"spent": [{"DeleteRequest": {"Key": {"id": {"S": "1"}}}}]})
    heard, _ = WATCH.begin()
    item = {"TableName": "spent", "Key": {"id": {"S": "1"}}}
    for call, asked in ((s3.delete_object, {"Bucket": "spent", "Key": "b"}), (dynamodb.delete_item, item)):
        assert "few-deletes" in refused(call, **asked)["Message"]
    assert heard == []
    assert s3.list_objects_v2(Bucket="spent")["KeyCount"] == 1
    dynamodb.get_item(**item)


def test_bytes_are_counted_and_the_answer_that_is_too_much_does_not_come_whole(bounded: Account) -> None:
    s3 = bounded.client("s3", subject=of(bounded, "rob", "readers"))
    assert len(s3.get_object(Bucket="spent", Key="large")["Body"].read()) == 60_000
    with pytest.raises(Exception, match=r"few-bytes|Forbidden|IncompleteRead|Connection broken|Response ended"):
        s3.get_object(Bucket="spent", Key="large")["Body"].read()
    with pytest.raises(ClientError, match="few-bytes"):
        s3.get_object(Bucket="spent", Key="large")
    assert "BUDGET_SPENT" in {entry["result"].get("error") for entry in bounded.records("outcome")}
