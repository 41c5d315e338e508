"""boto3 and the `aws` command through the real gateway, before moto."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from tests.approvals.world import Person
from tests.aws.account import Account, account


def refused(call, *args, **kwargs) -> dict[str, str]:
    with pytest.raises(ClientError) as said:
        call(*args, **kwargs)
    return said.value.response["Error"]


def test_s3_works_as_directly(shared: Account) -> None:
    s3 = shared.client("s3")
    s3.create_bucket(Bucket="plain")
    s3.put_object(Bucket="plain", Key="a/b c.txt", Body=b"hello", Metadata={"who": "me"})
    assert s3.get_object(Bucket="plain", Key="a/b c.txt")["Body"].read() == b"hello"
    assert s3.head_object(Bucket="plain", Key="a/b c.txt")["Metadata"] == {"who": "me"}
    assert [each["Key"] for each in s3.list_objects_v2(Bucket="plain")["Contents"]] == ["a/b c.txt"]
    assert "plain" in [each["Name"] for each in s3.list_buckets()["Buckets"]]
    s3.copy_object(Bucket="plain", Key="copy", CopySource={"Bucket": "plain", "Key": "a/b c.txt"})
    assert shared.direct("s3").get_object(Bucket="plain", Key="copy")["Body"].read() == b"hello"
    assert "no-delete" in refused(s3.delete_object, Bucket="plain", Key="copy")["Message"]
    assert shared.direct("s3").get_object(Bucket="plain", Key="copy")["Body"].read() == b"hello"


def test_query_and_ec2_services_work_as_directly(shared: Account) -> None:
    iam, sts, ec2, sns, cloudwatch = (shared.client(name) for name in ("iam", "sts", "ec2", "sns", "cloudwatch"))
    assert sts.get_caller_identity()["Account"] == "123456789012"
    iam.create_user(UserName="bob")
    assert iam.get_user(UserName="bob")["User"]["UserName"] == "bob"
    vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    assert vpc in [each["VpcId"] for each in ec2.describe_vpcs(VpcIds=[vpc])["Vpcs"]]
    topic = sns.create_topic(Name="news")["TopicArn"]
    assert sns.publish(TopicArn=topic, Message="hello")["MessageId"]
    cloudwatch.put_metric_data(Namespace="n", MetricData=[{"MetricName": "m", "Value": 1.0}])
    assert cloudwatch.list_metrics(Namespace="n")["Metrics"]


def test_json_services_work_as_directly(shared: Account) -> None:
    dynamodb, sqs, logs, ssm = (shared.client(name) for name in ("dynamodb", "sqs", "logs", "ssm"))
    dynamodb.create_table(
        TableName="orders", BillingMode="PAY_PER_REQUEST", KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
    )  # fmt: skip
    dynamodb.put_item(TableName="orders", Item={"id": {"S": "1"}, "total": {"N": "3"}})
    assert dynamodb.get_item(TableName="orders", Key={"id": {"S": "1"}})["Item"]["total"] == {"N": "3"}
    url = sqs.create_queue(QueueName="jobs")["QueueUrl"]
    sqs.send_message(QueueUrl=url, MessageBody="work")
    assert sqs.receive_message(QueueUrl=url)["Messages"][0]["Body"] == "work"
    logs.create_log_group(logGroupName="/app")
    logs.create_log_stream(logGroupName="/app", logStreamName="s")
    assert logs.describe_log_groups(logGroupNamePrefix="/app")["logGroups"][0]["logGroupName"] == "/app"
    ssm.put_parameter(Name="/a/b", Value="v", Type="String")
    assert ssm.get_parameter(Name="/a/b")["Parameter"]["Value"] == "v"


def test_rest_services_work_as_directly(shared: Account) -> None:
    lambdas, route53, efs = (shared.client(name) for name in ("lambda", "route53", "efs"))
    assert "Functions" in lambdas.list_functions()
    assert route53.list_hosted_zones()["HostedZones"] == []
    assert efs.describe_file_systems()["FileSystems"] == []


def test_a_refusal_is_an_error_of_the_service_with_the_policys_sentence(shared: Account) -> None:
    dynamodb, ec2, iam, lambdas = (shared.client(name) for name in ("dynamodb", "ec2", "iam", "lambda"))
    for call, asked, code in (
        (dynamodb.delete_table, {"TableName": "x"}, "AccessDeniedException"),
        (ec2.terminate_instances, {"InstanceIds": ["i-1"]}, "UnauthorizedOperation"),
        (lambdas.delete_function, {"FunctionName": "f"}, "AccessDenied"),
        (iam.create_access_key, {"UserName": "bob"}, "AccessDenied"),
    ):
        error = refused(call, **asked)
        assert error["Code"] == code
        assert "no-delete" in error["Message"] or "never passed on" in error["Message"]


def test_large_objects_go_up_in_parts_and_come_down_whole(shared: Account, tmp_path: Path) -> None:
    s3 = shared.client("s3")
    s3.create_bucket(Bucket="large")
    content = b"0123456789abcde\n" * (1 << 20)
    (tmp_path / "up").write_bytes(content)
    s3.upload_file(str(tmp_path / "up"), "large", "object.txt")
    assert shared.direct("s3").get_object(Bucket="large", Key="object.txt")["Body"].read() == content
    assert s3.get_object(Bucket="large", Key="object.txt")["Body"].read() == content
    s3.put_object(Bucket="large", Key="one.txt", Body=content)
    assert shared.direct("s3").get_object(Bucket="large", Key="one.txt")["Body"].read() == content


def test_what_happened_is_on_record_by_arn_and_action(shared: Account) -> None:
    refused(shared.client("s3", subject="eve").delete_object, Bucket="plain", Key="on/record")
    (found,) = [entry for entry in shared.records("deny") if "on/record" in str(entry)]
    assert found["op"]["name"] == "s3:DeleteObject"
    assert found["op"]["objects"] == [{"kind": "arn", "name": "arn:aws:s3:::plain/on/record", "action": "delete"}]
    assert found["who"]["sub"] == "eve"


APPROVALS = """
permit (principal, action, resource);
@id("deletes-need-a-dba") @approval("dba") @message("Deletes need a DBA.")
forbid (principal, action == Ostiary::Action::"delete", resource) unless { context.approved_by.contains("dba") };
"""


@pytest.fixture(scope="module")
def approved(moto: str) -> Iterator[Account]:
    """Deletes wait for a DBA, for a moment."""
    with account(moto, APPROVALS, approval_seconds=0.0) as made:
        yield made


@pytest.mark.parametrize(
    ("service", "made", "call", "asked"),
    [
        ("s3", ("create_bucket", {"Bucket": "doomed"}), "delete_bucket", {"Bucket": "doomed"}),
        ("rds", ("create_db_instance", {"DBInstanceIdentifier": "doomed", "DBInstanceClass": "db.t3.micro", "Engine": "postgres", "AllocatedStorage": 20}),
         "delete_db_instance", {"DBInstanceIdentifier": "doomed", "SkipFinalSnapshot": True}),
        ("s3", ("create_bucket", {"Bucket": "bulk"}), "delete_objects", {"Bucket": "bulk", "Delete": {"Objects": [{"Key": "a"}, {"Key": "b"}]}}),
    ],
    ids=["DeleteBucket", "rds:DeleteDBInstance", "DeleteObjects"],
)  # fmt: skip
def test_a_delete_waits_for_people_and_the_same_call_goes_through_after_a_yes(
    approved: Account, service: str, made: tuple[str, dict[str, object]], call: str, asked: dict[str, object]
) -> None:
    getattr(approved.direct(service), made[0])(**made[1])
    client = approved.client(service)
    error = refused(getattr(client, call), **asked)
    assert error["Code"] == "ApprovalPending"
    dora = Person(approved.gateway, "dora", "dba")
    (waiting,) = [each for each in dora.questions() if each["id"] in error["Message"]]
    assert dora.approve(waiting).status_code == 200
    next_second()
    getattr(client, call)(**asked)
    next_second()
    assert refused(getattr(client, call), **asked)["Code"] == "ApprovalPending", "a yes is used once"


def next_second() -> None:
    """Two calls that say the same have one signature in one second."""
    now = int(time.time())
    while int(time.time()) == now:
        time.sleep(0.01)


def test_an_sdk_that_makes_the_same_call_twice_in_a_second_tries_again_by_itself(shared: Account) -> None:
    shared.direct("sqs").create_queue(QueueName="twice")
    sqs = shared.client("sqs", attempts=5)
    url = sqs.get_queue_url(QueueName="twice")["QueueUrl"]
    for _ in range(3):
        sqs.send_message(QueueUrl=url, MessageBody="same")
    assert len(shared.direct("sqs").receive_message(QueueUrl=url, MaxNumberOfMessages=10)["Messages"]) == 3
