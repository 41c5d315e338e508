"""What comes back of AWS: secrets by the models, attributes by the operator's word; never in the record either."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from botocore.exceptions import ClientError

from ostiary.masking.aws import AwsReplyMasker
from ostiary.masking.documents import Unmaskable
from ostiary.model.results import ReplyHead
from ostiary.protocols.aws.conditions import _expression
from tests.aws.account import POLICY, WATCH, Account, account

SENTINEL = "hunter2-sentinel"


@pytest.fixture(scope="module")
def masked(moto: str) -> Iterator[Account]:
    named = 'forbid (principal, action == Ostiary::Action::"unmask", resource);'
    policy = POLICY.replace(named, named.replace("forbid", "permit").replace(";", ' when { principal.subject == "sec" };'))
    with account(moto, policy, detect=[], protect={"dynamodb:people/note": {"class": "pii"}}) as made:
        yield made


def test_a_secret_is_masked_but_for_whom_policy_shows_it(masked: Account) -> None:
    direct = masked.direct("secretsmanager")
    direct.create_secret(Name="db", SecretString=SENTINEL)
    masked.direct("ssm").put_parameter(Name="/pw", Value=SENTINEL, Type="SecureString")
    shown = masked.client("secretsmanager").get_secret_value(SecretId="db")
    assert shown["SecretString"] == "*" * len(SENTINEL)
    assert shown["Name"] == "db"
    ssm = masked.client("ssm")
    assert SENTINEL not in json.dumps(ssm.get_parameter(Name="/pw", WithDecryption=True), default=str)
    assert SENTINEL not in json.dumps(ssm.get_parameters(Names=["/pw"], WithDecryption=True), default=str)
    assert SENTINEL not in json.dumps(ssm.get_parameters_by_path(Path="/", WithDecryption=True), default=str)
    assert masked.client("secretsmanager", subject="sec").get_secret_value(SecretId="db")["SecretString"] == SENTINEL
    assert SENTINEL not in json.dumps(masked.gateway.entries())


def test_an_attribute_is_masked_in_every_answer_that_shows_items(masked: Account) -> None:
    direct, dynamodb = masked.direct("dynamodb"), masked.client("dynamodb")
    direct.create_table(
        TableName="people", BillingMode="PAY_PER_REQUEST", KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
    )  # fmt: skip
    direct.put_item(TableName="people", Item={"id": {"S": "1"}, "note": {"M": {"deep": {"L": [{"S": SENTINEL}]}}}, "plain": {"S": "seen"}})
    key = {"id": {"S": "1"}}
    answers = [
        dynamodb.get_item(TableName="people", Key=key), dynamodb.scan(TableName="people"),
        dynamodb.query(TableName="people", KeyConditionExpression="id = :i", ExpressionAttributeValues={":i": {"S": "1"}}),
        dynamodb.batch_get_item(RequestItems={"people": {"Keys": [key]}}),
        dynamodb.transact_get_items(TransactItems=[{"Get": {"TableName": "people", "Key": key}}]),
        dynamodb.update_item(
            TableName="people", Key=key, UpdateExpression="SET plain = :p", ExpressionAttributeValues={":p": {"S": "seen"}}, ReturnValues="ALL_NEW"
        ),
    ]  # fmt: skip
    for answer in answers:
        assert "seen" in json.dumps(answer, default=str)
        assert SENTINEL not in json.dumps(answer, default=str)
    assert SENTINEL not in json.dumps(masked.gateway.entries())


IDS = {":v": {"S": "x"}}
ASKS: list[tuple[str, dict[str, object]]] = [
    ("scan", {"FilterExpression": "begins_with(note, :v)", "ExpressionAttributeValues": IDS}),
    ("scan", {"FilterExpression": "begins_with(#n, :v)", "ExpressionAttributeNames": {"#n": "note"}, "ExpressionAttributeValues": IDS}),
    ("scan", {"FilterExpression": "size(plain)>:v AND size(note)>:v", "ExpressionAttributeValues": {":v": {"N": "1"}}, "Select": "COUNT"}),
    ("scan", {"ScanFilter": {"note": {"ComparisonOperator": "NOT_NULL"}}}),
    ("query", {"KeyConditionExpression": "id = :v AND note = :v", "ExpressionAttributeValues": IDS}),
    ("put_item", {"Item": {"id": {"S": "1"}}, "ConditionExpression": "attribute_not_exists(note)"}),
    ("put_item", {"Item": {"id": {"S": "1"}}, "Expected": {"note": {"Exists": False}}}),
    ("update_item", {"UpdateExpression": "SET plain = note"}),
    ("update_item", {"UpdateExpression": "SET note = :v, plain = if_not_exists(x, note)", "ExpressionAttributeValues": IDS}),
    ("update_item", {"UpdateExpression": "REMOVE x SET plain=#n", "ExpressionAttributeNames": {"#n": "note"}}),
    ("update_item", {"UpdateExpression": "SET plain = :v", "ExpressionAttributeValues": IDS, "ConditionExpression": "note.deep[0] = :v"}),
]


@pytest.mark.parametrize("asked", ASKS, ids=str)
def test_what_hangs_on_a_protected_attribute_is_refused(masked: Account, asked: tuple[str, dict[str, object]]) -> None:
    operation, given = asked
    key = {"Key": {"id": {"S": "1"}}} if operation == "update_item" else {}
    with pytest.raises(ClientError) as refused:
        getattr(masked.client("dynamodb"), operation)(TableName="people", **key, **given)
    assert refused.value.response["Error"]["Code"] == "AccessDeniedException"
    assert "pii" in refused.value.response["Error"]["Message"]


def test_a_part_of_a_transaction_that_asks_about_a_protected_attribute_is_refused(masked: Account) -> None:
    check = {"TableName": "people", "Key": {"id": {"S": "1"}}, "ConditionExpression": "note = :v", "ExpressionAttributeValues": IDS}
    with pytest.raises(ClientError) as refused:
        masked.client("dynamodb").transact_write_items(TransactItems=[{"ConditionCheck": check}])
    assert refused.value.response["Error"]["Code"] == "AccessDeniedException"


@pytest.mark.parametrize(
    "expression", ["SET note = :v", "SET plain = :v, note = :v", "REMOVE note", "SET #n = :v REMOVE x", "set note.deep = :v remove note2"]
)
def test_setting_a_protected_attribute_asks_nothing(expression: str) -> None:
    names = {"#n": "note"}
    assert not [name for name in _expression(expression, names, updates=True) if name in ("note", None)]


def test_what_cannot_be_cut_may_be_any_attribute() -> None:
    assert list(_expression("note = \x00", {}, updates=False)) == [None]
    assert list(_expression(7, {}, updates=True)) == [None]
    assert None in list(_expression("#gone = :v", {}, updates=False))


def test_a_call_whose_answer_is_withheld_is_not_made_again_by_an_sdk(shared: Account) -> None:
    shared.direct("s3").create_bucket(Bucket="packed")
    shared.direct("s3").put_object(Bucket="packed", Key="a.bin", Body=b"PK\x03\x04\x00")
    WATCH.begin()
    with pytest.raises(ClientError, match=r"it is withheld: a body that is no text.*pass_types") as told:
        shared.client("s3", attempts=3).get_object(Bucket="packed", Key="a.bin")
    assert told.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403
    assert WATCH.lines == ["GET /packed/a.bin"]
    WATCH.says = ("200 OK", [("Content-Type", "text/plain")], b"run once")
    try:
        WATCH.begin()
        with pytest.raises(ClientError, match=r"AccessDenied.*a body that is not XML. Policy can show its classes in clear.$"):
            shared.client("sns", attempts=3).publish(TopicArn="arn:aws:sns:us-east-1:123456789012:news", Message="x")
        assert len(WATCH.lines) == 1
    finally:
        WATCH.says = None


def test_a_fault_of_the_service_stays_one_that_an_sdk_tries_again_though_its_page_is_withheld(shared: Account) -> None:
    WATCH.begin()
    WATCH.says = ("503 Service Unavailable", [("Content-Type", "text/html")], b"<html><p>busy")
    try:
        with pytest.raises(ClientError, match="ServiceUnavailable") as told:
            shared.client("sns", attempts=2).list_topics()
    finally:
        WATCH.says = None
    assert told.value.response["ResponseMetadata"]["HTTPStatusCode"] == 503
    assert len(WATCH.lines) == 2


def test_a_part_that_is_all_of_an_object_is_looked_through_and_any_other_is_withheld(shared: Account) -> None:
    shared.direct("s3").create_bucket(Bucket="parts")
    shared.direct("s3").put_object(Bucket="parts", Key="a.csv", Body=b"id,ssn\n1,078-05-1120\n")
    s3 = shared.client("s3")
    for asked in ("bytes=0-", "bytes=0-5242879", "bytes=0-20"):
        answer = s3.get_object(Bucket="parts", Key="a.csv", Range=asked)
        assert answer["ResponseMetadata"]["HTTPStatusCode"] == 206
        assert answer["Body"].read() == b"id,ssn\n1,***********\n"
    for asked in ("bytes=1-", "bytes=0-19", "bytes=-20"):
        with pytest.raises(ClientError, match="a part of what must be looked through whole; ask for all of it"):
            s3.get_object(Bucket="parts", Key="a.csv", Range=asked)


@pytest.mark.parametrize("said", [b"bytes 0-3/5", b"bytes 0-4/*", b"bytes 1-5/5", b"bytes 0-4/5, bytes 0-4/5", b"items 0-4/5", b""])
def test_what_does_not_plainly_say_that_it_is_whole_is_a_part(said: bytes) -> None:
    masker = AwsReplyMasker(frozenset({"ssn"}), frozenset(), lambda: ((), "content"))
    head = ReplyHead(206, ((b"Content-Type", b"text/plain"), (b"Content-Range", said)), has_body=True, length=5, of_read=True)
    with pytest.raises(Unmaskable, match="a part"):
        masker.mask(head)
