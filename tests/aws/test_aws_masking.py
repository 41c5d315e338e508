"""What comes back of AWS: secrets by the models, attributes by the operator's word; never in the record either."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.aws.account import POLICY, Account, account

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
