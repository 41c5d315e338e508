"""What policy demands of a call's parameters: the call is rewritten, judged anew, signed, and both forms are on record."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from ostiary.testing.gateway import Gateway
from tests.approvals.world import Person
from tests.aws.account import WATCH, Account, account
from tests.aws.test_aws_gateway import next_second, refused

POLICY = """
@id("reads-short-pages") @parameters("MaxKeys?<=2; MaxItems?<=3; Limit?<=2; MaxResults?<=5; limit?<=2")
permit (principal, action in [Ostiary::Action::"read", Ostiary::Action::"connect"], resource);

@id("writes-encrypted")
@parameters("PutObject:ServerSideEncryption=AES256; CreateMultipartUpload:ServerSideEncryption=AES256; ACL?!=public-*|authenticated-read;
 Grant?!=x; GrantRead?!=*AllUsers*; PutObject:Tagging+=owner=ostiary.subject();
 PutBucketTagging:Tagging/TagSet+=owner=ostiary.subject(); PutObjectTagging:Tagging/TagSet+=owner=ostiary.subject();
 PutBucketEncryption:ServerSideEncryptionConfiguration/Rules/*/ApplyServerSideEncryptionByDefault/SSEAlgorithm=aws:kms")
permit (principal, action == Ostiary::Action::"write", resource in Ostiary::Service::"aws-prod/s3");
permit (principal, action == Ostiary::Action::"write", resource in Ostiary::Service::"aws-prod/dynamodb");
@id("no-public-bucket") @parameters("ACL?!=public-*; AccessControlPolicy/Grants?!=*/AllUsers|*/AuthenticatedUsers; PolicyX?=1; Policy?!=*")
permit (principal, action in [Ostiary::Action::"administer", Ostiary::Action::"define"], resource in Ostiary::Service::"aws-prod/s3");

@id("ec2-defines-dry-and-tagged")
@parameters("DryRun?=true; CreateVolume:Encrypted=true; CreateVolume:TagSpecifications/volume+=owner=ostiary.actor()")
permit (principal, action == Ostiary::Action::"define", resource in Ostiary::Service::"aws-prod/ec2");
@id("iam-tagged") @parameters("CreateUser:Tags+=owner=ostiary.subject()")
permit (principal, action == Ostiary::Action::"administer", resource in Ostiary::Service::"aws-prod/iam");
@id("secrets-tagged") @parameters("CreateSecret:Tags+=owner=ostiary.subject()")
permit (principal, action == Ostiary::Action::"define", resource in Ostiary::Service::"aws-prod/secretsmanager");
@id("sqs-tagged") @parameters("tags?+=owner=ostiary.subject()")
permit (principal, action == Ostiary::Action::"administer", resource in Ostiary::Service::"aws-prod/sqs");
@id("impossible") @parameters("NoSuchThing=1")
permit (principal, action == Ostiary::Action::"administer", resource in Ostiary::Service::"aws-prod/sns");
@id("dynamodb-defines") permit (principal, action == Ostiary::Action::"define", resource in Ostiary::Service::"aws-prod/dynamodb");
@id("deletes-encrypted-or-not") @parameters("DeleteQueue:QueueUrl!=*/keep-*")
permit (principal, action == Ostiary::Action::"delete", resource);
@id("deletes-need-a-dba") @approval("dba")
forbid (principal, action == Ostiary::Action::"delete", resource) unless { context.approved_by.contains("dba") };
@id("judged-again") forbid (principal, action, resource) when {
    resource is Ostiary::Arn && resource.name == "arn:aws:s3:::judged" &&
    context.arguments.hasTag("MaxKeys") && context.arguments.getTag("MaxKeys").contains("2") };
"""


@pytest.fixture(scope="module")
def obliged(moto: str) -> Iterator[Account]:
    with account(moto, POLICY, approval_seconds=0.0) as made:
        yield made


def recorded(gateway: Gateway, name: str) -> dict[str, object]:
    """The last intent of that operation."""
    return [entry for entry in gateway.entries() if entry["kind"] == "intent" and entry["op"]["name"] == name][-1]


def test_pages_are_as_short_as_policy_says_in_every_protocol(obliged: Account) -> None:
    s3, iam, dynamodb, logs, lambdas = (obliged.direct(name) for name in ("s3", "iam", "dynamodb", "logs", "lambda"))
    s3.create_bucket(Bucket="paged")
    for number in range(4):
        s3.put_object(Bucket="paged", Key=f"k{number}", Body=b"x")
        iam.create_role(RoleName=f"paged{number}", AssumeRolePolicyDocument="{}")
        logs.create_log_group(logGroupName=f"/paged/{number}")
    del lambdas
    dynamodb.create_table(
        TableName="paged", BillingMode="PAY_PER_REQUEST", KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
    )  # fmt: skip
    for number in range(4):
        dynamodb.put_item(TableName="paged", Item={"id": {"S": str(number)}, "n": {"N": "1.10"}})
    through = {name: obliged.client(name) for name in ("s3", "iam", "dynamodb", "logs", "ec2")}
    assert len(through["s3"].list_objects_v2(Bucket="paged")["Contents"]) == 2, "where none is asked for"
    assert len(through["s3"].list_objects_v2(Bucket="paged", MaxKeys=1000)["Contents"]) == 2, "where more are"
    assert len(through["iam"].list_roles()["Roles"]) == 3
    found = through["dynamodb"].scan(TableName="paged", ConsistentRead=True)
    assert len(found["Items"]) == 2
    assert len(through["dynamodb"].scan(TableName="paged", Limit=1)["Items"]) == 1, "what is short already stays"
    assert len(through["logs"].describe_log_groups()["logGroups"]) == 2
    pages = through["s3"].get_paginator("list_objects_v2").paginate(Bucket="paged")
    assert [each["Key"] for page in pages for each in page["Contents"]] == ["k0", "k1", "k2", "k3"], "an SDK still pages on"


def test_the_rewritten_call_is_what_is_judged(obliged: Account) -> None:
    obliged.direct("s3").create_bucket(Bucket="judged")
    heard, _ = WATCH.begin()
    assert "judged-again" in refused(obliged.client("s3").list_objects_v2, Bucket="judged", MaxKeys=1000)["Message"]
    assert heard == []
    assert "Contents" not in obliged.client("s3").list_objects_v2(Bucket="judged", MaxKeys=1)


def test_an_object_is_encrypted_and_tagged_and_its_public_acl_is_taken_away_however_it_is_sent(obliged: Account, tmp_path: Path) -> None:
    direct, s3 = obliged.direct("s3"), obliged.client("s3")
    direct.create_bucket(Bucket="forced")
    content = b"0123456789abcdef" * (1 << 15)
    WATCH.begin()
    s3.put_object(Bucket="forced", Key="small", Body=b"hello", ACL="public-read", Tagging="a=1&owner=eve")
    s3.put_object(Bucket="forced", Key="large", Body=content, ACL="public-read-write")
    s3.upload_fileobj(io.BytesIO(content * 20), "forced", "parts", ExtraArgs={"ACL": "authenticated-read"})
    assert not any("X-Amz-Acl" in head for head in WATCH.heads)
    for key, body in (("small", b"hello"), ("large", content), ("parts", content * 20)):
        found = direct.get_object(Bucket="forced", Key=key)
        assert found["ServerSideEncryption"] == "AES256"
        assert found["Body"].read() == body
    tags = {each["Key"]: each["Value"] for each in direct.get_object_tagging(Bucket="forced", Key="small")["TagSet"]}
    assert tags == {"a": "1", "owner": "ana"}
    grants = direct.get_object_acl(Bucket="forced", Key="small")["Grants"]
    assert "AllUsers" not in json.dumps(grants)


UPLOADS = """
@id("uploads-private") @parameters("ACL?!=public-*; CreateMultipartUpload:ServerSideEncryption=AES256")
permit (principal, action in [Ostiary::Action::"write", Ostiary::Action::"connect"], resource);
"""


def test_who_may_not_give_rights_uploads_without_the_acl_that_policy_takes_away_and_with_another_not_at_all(moto: str) -> None:
    with account(moto, UPLOADS) as uploader:
        direct, s3 = uploader.direct("s3"), uploader.client("s3")
        direct.create_bucket(Bucket="drop")
        WATCH.begin()
        s3.put_object(Bucket="drop", Key="public", Body=b"hello", ACL="public-read")
        s3.upload_fileobj(io.BytesIO(bytes(9 << 20)), "drop", "parts", ExtraArgs={"ACL": "public-read-write"})
        assert not any("X-Amz-Acl" in head for head in WATCH.heads)
        assert recorded(uploader.gateway, "s3:PutObject")["stmt"]["asked"]
        for given in ({"ACL": "authenticated-read"}, {"GrantRead": "uri=http://acs.amazonaws.com/groups/global/AllUsers"}):
            refused(s3.put_object, Bucket="drop", Key="given", Body=b"hello", **given)
            refused(s3.create_multipart_upload, Bucket="drop", Key="given", **given)
        refused(s3.put_object_acl, Bucket="drop", Key="public", ACL="public-read")
        assert [each["Key"] for each in direct.list_objects_v2(Bucket="drop")["Contents"]] == ["parts", "public"]


def test_both_forms_of_a_call_are_on_record_with_what_was_demanded(obliged: Account) -> None:
    obliged.direct("s3").create_bucket(Bucket="both")
    obliged.client("s3").put_object(Bucket="both", Key="k", Body=b"hello", ACL="public-read")
    entry = recorded(obliged.gateway, "s3:PutObject")
    assert "PutObject:ServerSideEncryption=AES256" in entry["decision"]["duties"]["parameters"]
    assert {"stmt", "op"} <= entry.keys()
    said = obliged.gateway.run("audit", "show", entry["id"])
    assert said.returncode == 0, said.stderr
    asked, sent = json.dumps(entry["stmt"].get("asked", "")), said.stdout + json.dumps(entry)
    assert asked not in ('""', "null"), sent


def test_what_is_forced_on_ec2_iam_and_json_services_is_what_they_hear(obliged: Account) -> None:
    ec2, iam = obliged.client("ec2"), obliged.client("iam")
    error = refused(ec2.create_volume, AvailabilityZone="us-east-1a", Size=1, Encrypted=False, TagSpecifications=[{"ResourceType": "volume", "Tags": [{"Key": "a", "Value": "b"}]}])
    assert error["Code"] == "DryRunOperation"
    op = recorded(obliged.gateway, "ec2:CreateVolume")["op"]
    assert "Encrypted" in json.dumps(op), op
    iam.create_user(UserName="tagged", Tags=[{"Key": "owner", "Value": "eve"}, {"Key": "team", "Value": "x"}])
    tags = obliged.direct("iam").list_user_tags(UserName="tagged")["Tags"]
    assert sorted((each["Key"], each["Value"]) for each in tags) == [("owner", "ana"), ("team", "x")]
    obliged.client("secretsmanager").create_secret(Name="tagged", SecretString="s")
    assert obliged.direct("secretsmanager").describe_secret(SecretId="tagged")["Tags"] == [{"Key": "owner", "Value": "ana"}]
    url = obliged.client("sqs").create_queue(QueueName="tagged")["QueueUrl"]
    assert obliged.direct("sqs").list_queue_tags(QueueUrl=url)["Tags"] == {"owner": "ana"}


def test_a_demand_that_cannot_be_met_refuses_the_call_and_nothing_reaches_the_service(obliged: Account, tmp_path: Path) -> None:
    sns, s3 = obliged.client("sns"), obliged.client("s3")
    obliged.direct("s3").create_bucket(Bucket="unmet")
    heard, _ = WATCH.begin()
    assert "no such parameter" in refused(sns.create_topic, Name="n")["Message"]
    assert "cannot be rewritten" in refused(s3.put_bucket_policy, Bucket="unmet", Policy="{}")["Message"]
    assert heard == []
    refused(s3.put_bucket_acl, Bucket="unmet", ACL="public-read")  # nothing is left of it that a service could do
    s3.put_bucket_acl(Bucket="unmet", ACL="private")
    assert "AllUsers" not in json.dumps(obliged.direct("s3").get_bucket_acl(Bucket="unmet")["Grants"])


def test_what_is_forced_in_a_document_is_what_the_service_hears(obliged: Account) -> None:
    direct, s3 = obliged.direct("s3"), obliged.client("s3")
    direct.create_bucket(Bucket="written")
    owner = direct.get_bucket_acl(Bucket="written")["Owner"]
    group = "http://acs.amazonaws.com/groups/global/"
    grants = [{"Grantee": {"Type": "Group", "URI": group + name}, "Permission": "READ"} for name in ("AllUsers", "AuthenticatedUsers")]
    kept = {"Grantee": {"Type": "CanonicalUser", "ID": owner["ID"]}, "Permission": "FULL_CONTROL"}
    WATCH.begin()
    s3.put_bucket_acl(Bucket="written", AccessControlPolicy={"Owner": owner, "Grants": [*grants, kept]})
    assert direct.get_bucket_acl(Bucket="written")["Grants"] == [kept]
    s3.put_bucket_tagging(Bucket="written", Tagging={"TagSet": [{"Key": "owner", "Value": "eve"}, {"Key": "a", "Value": "<b>"}]})
    tags = {each["Key"]: each["Value"] for each in direct.get_bucket_tagging(Bucket="written")["TagSet"]}
    assert tags == {"owner": "ana", "a": "<b>"}
    rule = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}, "BucketKeyEnabled": True}
    s3.put_bucket_encryption(Bucket="written", ServerSideEncryptionConfiguration={"Rules": [rule]})
    (found,) = direct.get_bucket_encryption(Bucket="written")["ServerSideEncryptionConfiguration"]["Rules"]
    assert found["ApplyServerSideEncryptionByDefault"] == {"SSEAlgorithm": "aws:kms"}
    for head in WATCH.heads:  # what was said of the caller's body is not said of this one
        assert not [name for name in head if name.lower().startswith("x-amz-checksum") or name.lower() == "x-amz-sdk-checksum-algorithm"] or "X-Amz-Acl" in head


def test_people_are_asked_about_the_call_as_it_is_rewritten_and_a_yes_is_for_that(obliged: Account) -> None:
    url = obliged.direct("sqs").create_queue(QueueName="gone-soon")["QueueUrl"]
    sqs = obliged.client("sqs")
    error = refused(sqs.delete_queue, QueueUrl=url)
    assert error["Code"].startswith("ApprovalPending")
    dora = Person(obliged.gateway, "dora", "dba")
    (waiting,) = [each for each in dora.questions() if each["id"] in error["Message"]]
    assert dora.approve(waiting).status_code == 200
    next_second()
    sqs.delete_queue(QueueUrl=url)
    with pytest.raises(ClientError):
        obliged.direct("sqs").get_queue_url(QueueName="gone-soon")
