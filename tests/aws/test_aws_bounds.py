"""What bounds a caller by action and ARN: mandates, their budgets, roles that are passed on, things that are named in part; and who is on record."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import pytest
from botocore.exceptions import ClientError
from botocore.loaders import Loader

from ostiary.model.operations import Action
from ostiary.protocols.aws.actions import Access
from ostiary.protocols.aws.arns import Place, touched
from ostiary.protocols.aws.models import Service, Unreadable
from tests.aws.account import WATCH, Account, account
from tests.aws.test_aws_gateway import refused

POLICY = """
permit (principal, action, resource);
permit (principal, action == Ostiary::Action::"opaque", resource) when { principal.subject == "ops" };
@id("passes-no-admin") forbid (principal, action == Ostiary::Action::"administer", resource) when {
    resource is Ostiary::Arn && resource.name like "arn:aws:iam::*:role/admin*" };
"""
HERE = Place("aws", "us-east-1", "123456789012")


@pytest.fixture(scope="module")
def bounded(moto: str) -> Iterator[Account]:
    with account(moto, POLICY) as made:
        yield made


def under(made: Account, name: str, **bounds: Any) -> str:
    """A subject whose keys are of ana's agent under a mandate."""
    details = [{"type": "ostiary", "id": name, **bounds}]
    made.grant(name, sub="ana", act={"iss": "https://idp.test", "sub": "coder"}, authorization_details=details)
    return name


def test_a_mandate_holds_for_actions_and_arns(bounded: Account) -> None:
    direct = bounded.direct("s3")
    for bucket in ("mine", "others"):
        direct.create_bucket(Bucket=bucket)
        direct.put_object(Bucket=bucket, Key="k", Body=b"x", ContentType="text/plain")
    s3 = bounded.client("s3", subject=under(bounded, "reads-mine", actions=["read"], resources=["arn:aws:s3:::mine*"]))
    heard, _ = WATCH.begin()
    assert s3.get_object(Bucket="mine", Key="k")["Body"].read() == b"x"
    assert len(heard) == 1
    for call, asked in (
        (s3.put_object, {"Bucket": "mine", "Key": "k", "Body": b"y"}), (s3.get_object, {"Bucket": "others", "Key": "k"}), (s3.list_buckets, {}),
        (s3.delete_objects, {"Bucket": "mine", "Delete": {"Objects": [{"Key": "k"}]}}),
        (s3.copy_object, {"Bucket": "mine", "Key": "c", "CopySource": "others/k"}),
    ):
        assert "the mandate reads-mine does not allow" in refused(call, **asked)["Message"]
    assert len(heard) == 1


def test_a_mandates_budget_is_counted_by_call_and_by_thing(bounded: Account) -> None:
    bounded.direct("s3").create_bucket(Bucket="counted")
    s3 = bounded.client("s3", subject=under(bounded, "three-calls", effects={"calls": 3}))
    for number in range(3):
        s3.list_objects_v2(Bucket="counted", Prefix=str(number))
    assert "allows 3 calls in all" in refused(s3.list_objects_v2, Bucket="counted")["Message"]
    s3 = bounded.client("s3", subject=under(bounded, "two-things", effects={"objects": 2}))
    keys = [{"Key": f"k{number}"} for number in range(3)]
    assert "allows 2 objects in all" in refused(s3.delete_objects, Bucket="counted", Delete={"Objects": keys})["Message"]
    s3.delete_objects(Bucket="counted", Delete={"Objects": keys[:2]})
    assert "allows 2 objects in all" in refused(s3.delete_object, Bucket="counted", Key="k2")["Message"]


def test_a_search_for_deletes_says_what_by_whom_and_for_whom(bounded: Account) -> None:
    bounded.direct("s3").create_bucket(Bucket="searched")
    bounded.client("s3", subject=under(bounded, "coder for ana")).delete_object(Bucket="searched", Key="2026/01.log")
    found = bounded.gateway.run("audit", "search", "--action", "delete", "--connection", "aws-prod", "-o", "json")
    (entry,) = [each for each in map(json.loads, found.stdout.splitlines()) if each["kind"] == "intent" and "searched" in json.dumps(each)]
    assert entry["op"]["name"] == "s3:DeleteObject"
    assert entry["op"]["objects"] == [{"kind": "arn", "name": "arn:aws:s3:::searched/2026/01.log", "action": "delete"}]
    assert entry["who"]["sub"] == "ana", "for whom"
    assert [each["sub"] for each in entry["who"]["act"]] == ["coder"], "by whom"
    shown = bounded.gateway.run("audit", "search", "--action", "delete", "--connection", "aws-prod").stdout
    assert "arn:aws:s3:::searched/2026/01.log" in shown or "s3:DeleteObject" in shown


def test_a_role_that_is_passed_on_is_judged_as_administering_it(bounded: Account) -> None:
    admin = "arn:aws:iam::123456789012:role/admin"
    heard, _ = WATCH.begin()
    for service, call, asked in (
        ("lambda", "create_function", {"FunctionName": "f", "Role": admin, "Code": {"ZipFile": b"x"}, "Handler": "h", "Runtime": "python3.12"}),
        ("ecs", "run_task", {"taskDefinition": "t", "overrides": {"taskRoleArn": admin}}),
        ("events", "put_targets", {"Rule": "r", "Targets": [{"Id": "1", "Arn": "arn:aws:sqs:us-east-1:123456789012:q", "RoleArn": admin}]}),
        ("logs", "put_subscription_filter", {"logGroupName": "/g", "filterName": "f", "filterPattern": "", "destinationArn": "arn:aws:kinesis:us-east-1:123456789012:stream/s", "roleArn": admin}),
    ):
        error = refused(getattr(bounded.client(service, subject="ops"), call), **asked)
        assert "passes-no-admin" in error["Message"], error
    assert heard == []


@cache
def access() -> Access:
    import ostiary.protocols.aws as here

    return Access(json.loads((Path(here.__file__).parent / "access.json").read_bytes()))


def what(service: str, operation: str, given: dict[str, Any]) -> tuple[set[str], tuple[str, ...]]:
    """The ARNs that a call touches, and what of it cannot be told."""
    model = Service(service, Loader().load_service_model(service, "service-2"))
    assert given.keys() <= model.input_of(operation)["members"].keys()
    call = msgspec.structs.replace(model.call(operation, "json"), parameters=given)
    action = access().action(access().prefix(service), operation)
    assert action is not None
    found, unclear = touched(call, action, access(), HERE, b"")
    return {arn for arn, _ in found}, unclear


def test_each_of_several_things_is_judged_and_what_is_named_in_part_is_opaque() -> None:
    arns, unclear = what("glue", "BatchDeleteTable", {"DatabaseName": "db", "TablesToDelete": ["a", "secret"]})
    assert unclear, arns
    arns, unclear = what("ecs", "DeleteAttributes", {"cluster": "c", "attributes": [{"name": "a"}]})
    assert arns
    arns, unclear = what("logs", "DeleteLogStream", {"logGroupName": "g", "logStreamName": "s"})
    assert arns == {"arn:aws:logs:us-east-1:123456789012:log-group:g:log-stream:s"}
    assert unclear == ()


OTHER = "999988887777"
ELSEWHERE: list[tuple[str, str, dict[str, Any], set[str]]] = [
    ("ecr", "DeleteRepository", {"repositoryName": "r", "registryId": OTHER}, {f"arn:aws:ecr:us-east-1:{OTHER}:repository/r"}),
    ("ecr", "DeleteRepository", {"repositoryName": "r"}, {"arn:aws:ecr:us-east-1:123456789012:repository/r"}),
    ("ecr", "DeleteRepository", {"repositoryName": "r", "registryId": "123456789012"}, {"arn:aws:ecr:us-east-1:123456789012:repository/r"}),
    ("glue", "GetDatabase", {"Name": "d", "CatalogId": OTHER}, {f"arn:aws:glue:us-east-1:{OTHER}:catalog/{OTHER}"}),
    ("glue", "GetDatabase", {"Name": "d", "CatalogId": f"{OTHER}:shop"}, {f"arn:aws:glue:us-east-1:{OTHER}:catalog/{OTHER}:shop"}),
    ("glue", "CreateDatabase", {"DatabaseInput": {"Name": "d", "TargetDatabase": {"CatalogId": OTHER}}},
     {f"arn:aws:glue:us-east-1:{OTHER}:*", "arn:aws:glue:us-east-1:123456789012:*"}),
    ("lakeformation", "GrantPermissions", {"Resource": {"Catalog": {}, "Database": {"Name": "d", "CatalogId": OTHER}}},
     {f"arn:aws:lakeformation:us-east-1:{OTHER}:*", "arn:aws:lakeformation:us-east-1:123456789012:*"}),
    ("sqs", "GetQueueUrl", {"QueueName": "q", "QueueOwnerAWSAccountId": OTHER}, {f"arn:aws:sqs:us-east-1:{OTHER}:q"}),
    *(("lambda", "GetFunction", {"FunctionName": name}, {f"arn:aws:lambda:{region}:{account}:function:x"}) for name, region, account in (
        ("x", "us-east-1", "123456789012"), ("x:alias", "us-east-1", "123456789012"), ("function:x", "us-east-1", "123456789012"),
        (f"{OTHER}:function:x", "us-east-1", OTHER), (f"{OTHER}:function:x:7", "us-east-1", OTHER), (f"{OTHER}:x", "us-east-1", OTHER),
        (f"eu-west-1:{OTHER}:function:x", "eu-west-1", OTHER), (f"arn:aws:lambda:eu-west-1:{OTHER}:function:x", "eu-west-1", OTHER),
    )),
]  # fmt: skip


@pytest.mark.parametrize(("service", "operation", "given", "arns"), ELSEWHERE, ids=range(len(ELSEWHERE)))
def test_what_is_of_another_account_is_judged_as_that_accounts(service: str, operation: str, given: dict[str, Any], arns: set[str]) -> None:
    """However the call says whose it is: as a parameter of its own, inside another, or as a part of an ARN."""
    assert what(service, operation, given)[0] == arns


def test_a_function_that_is_named_in_no_way_of_lambdas_is_refused() -> None:
    for name in ("a:b:c:d", "arn:aws:sqs:us-east-1:123456789012:x", f"{OTHER}:layer:x:1", "x y", ""):
        with pytest.raises(Unreadable):
            what("lambda", "GetFunction", {"FunctionName": name})


@pytest.mark.parametrize(
    ("call", "asked"),
    [
        ("put_bucket_replication", {"ReplicationConfiguration": {"Role": "arn:aws:iam::123456789012:role/r", "Rules": [
            {"Status": "Enabled", "Prefix": "", "Destination": {"Bucket": "arn:aws:s3:::attacker"}}]}}),
        ("put_bucket_notification_configuration", {"NotificationConfiguration": {}}),
        ("put_bucket_logging", {"BucketLoggingStatus": {"LoggingEnabled": {"TargetBucket": "attacker", "TargetPrefix": ""}}}),
        ("put_bucket_lifecycle_configuration", {"LifecycleConfiguration": {"Rules": [{"ID": "x", "Status": "Enabled", "Prefix": "", "Expiration": {"Days": 1}}]}}),
        ("put_bucket_website", {"WebsiteConfiguration": {"RedirectAllRequestsTo": {"HostName": "evil.example"}}}),
    ],
)  # fmt: skip
def test_what_sends_data_elsewhere_or_takes_it_away_later_is_opaque(bounded: Account, call: str, asked: dict[str, Any]) -> None:
    heard, _ = WATCH.begin()
    assert "opaque" in refused(getattr(bounded.client("s3"), call), Bucket="plain-bucket", **asked)["Message"]
    assert heard == []


@pytest.mark.parametrize(
    ("service", "call", "asked"),
    [
        ("ec2", "modify_snapshot_attribute", {"SnapshotId": "snap-1", "CreateVolumePermission": {"Add": [{"UserId": OTHER}]}}),
        ("ec2", "modify_image_attribute", {"ImageId": "ami-1", "LaunchPermission": {"Add": [{"Group": "all"}]}}),
        ("ec2", "modify_fpga_image_attribute", {"FpgaImageId": "afi-1", "LoadPermission": {"Add": [{"UserId": OTHER}]}}),
        ("ec2", "modify_vpc_endpoint_service_permissions", {"ServiceId": "vpce-1", "AddAllowedPrincipals": ["*"]}),
        ("rds", "modify_db_snapshot_attribute", {"DBSnapshotIdentifier": "s", "AttributeName": "restore", "ValuesToAdd": ["all"]}),
        ("redshift", "authorize_snapshot_access", {"SnapshotIdentifier": "s", "AccountWithRestoreAccess": OTHER}),
        ("ssm", "modify_document_permission", {"Name": "d", "PermissionType": "Share", "AccountIdsToAdd": [OTHER]}),
        ("lambda", "add_layer_version_permission", {"LayerName": "l", "VersionNumber": 1, "StatementId": "s", "Action": "lambda:GetLayerVersion", "Principal": "*"}),
    ],
)  # fmt: skip
def test_what_is_shared_with_other_accounts_is_opaque(bounded: Account, service: str, call: str, asked: dict[str, Any]) -> None:
    heard, _ = WATCH.begin()
    assert "opaque" in refused(getattr(bounded.client(service), call), **asked)["Message"]
    assert heard == []


def test_partiql_is_masked_whole_and_asks_for_infer_where_an_attribute_is_protected(moto: str) -> None:
    policy = POLICY + 'permit (principal, action == Ostiary::Action::"infer", resource) when { principal.subject == "ops" };'
    with account(moto, policy, detect=[], protect={"dynamodb:partiql/note": {"class": "pii"}}) as made:
        direct = made.direct("dynamodb")
        direct.create_table(
            TableName="partiql", BillingMode="PAY_PER_REQUEST", KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        )  # fmt: skip
        direct.put_item(TableName="partiql", Item={"id": {"S": "1"}, "note": {"M": {"deep": {"S": "hunter2-sentinel"}}}})
        ops = made.client("dynamodb", subject="ops")
        for statement in ('SELECT * FROM "partiql"', 'SELECT note.deep FROM "partiql"'):
            try:
                answer = ops.execute_statement(Statement=statement)
            except ClientError as error:  # moto does not know every path
                answer = error.response
            assert "hunter2-sentinel" not in json.dumps(answer, default=str)
        assert "opaque" in refused(made.client("dynamodb").execute_statement, Statement='SELECT * FROM "partiql"')["Message"]
        assert "hunter2-sentinel" not in json.dumps(made.gateway.entries())


def test_a_presigned_url_of_version_2_is_refused_with_a_sentence(bounded: Account) -> None:
    import urllib.error
    import urllib.request

    url = bounded.client("s3", signature_version="s3").generate_presigned_url("get_object", {"Bucket": "b", "Key": "k"})
    with pytest.raises(urllib.error.HTTPError) as said:
        urllib.request.urlopen(url, timeout=20)
    assert b"s3v4" in said.value.read()


def test_metadata_of_any_name_that_a_header_can_have_is_taken(bounded: Account) -> None:
    bounded.direct("s3").create_bucket(Bucket="named")
    bounded.client("s3").put_object(Bucket="named", Key="k", Body=b"x", Metadata={"my.key_1": "v"})
    assert bounded.direct("s3").head_object(Bucket="named", Key="k")["Metadata"] == {"my.key_1": "v"}


def test_every_action_that_is_named_has_a_grade() -> None:
    assert access().action("s3", "PutBucketInventoryConfiguration") is Action.WRITE
    assert access().action("s3", "GetBucketMetricsConfiguration") is Action.READ


@pytest.mark.parametrize(
    ("service", "call", "asked"),
    [
        ("athena", "create_named_query", {"Name": "n", "Database": "d", "QueryString": "SELECT 1"}),
        ("athena", "start_query_execution", {"QueryString": "SELECT 1"}),
        ("redshift-data", "execute_statement", {"Sql": "DROP TABLE t", "Database": "d", "ClusterIdentifier": "c"}),
        ("rds-data", "execute_statement", {"resourceArn": "arn:aws:rds:us-east-1:123456789012:cluster:c", "secretArn": "arn:aws:secretsmanager:us-east-1:123456789012:secret:s", "sql": "SELECT 1"}),
        ("logs", "start_query", {"logGroupName": "/g", "startTime": 1, "endTime": 2, "queryString": "fields @message"}),
        ("logs", "put_query_definition", {"name": "n", "queryString": "fields @message"}),
        ("emr-serverless", "start_job_run", {"applicationId": "a", "executionRoleArn": "arn:aws:iam::123456789012:role/r", "jobDriver": {"sparkSubmit": {"entryPoint": "s3://b/k"}}}),
        ("config", "select_resource_config", {"Expression": "SELECT *"}),
        ("iotsitewise", "execute_query", {"queryStatement": "SELECT 1"}),
        ("dms", "modify_endpoint", {"EndpointArn": "arn:aws:dms:us-east-1:123456789012:endpoint:e", "PostgreSQLSettings": {"AfterConnectScript": "DROP"}}),
    ],
)  # fmt: skip
def test_a_statement_inside_a_parameter_is_opaque_whatever_the_call(bounded: Account, service: str, call: str, asked: dict[str, Any]) -> None:
    heard, _ = WATCH.begin()
    said = refused(getattr(bounded.client(service, inject_host_prefix=False), call), **asked)
    assert "opaque" in said["Message"] or "nobody says how grave" in said["Message"], said
    assert heard == []
