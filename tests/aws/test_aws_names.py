"""One thing is one ARN, however a call names it; and what a call means is not hidden behind something else that it names."""

from __future__ import annotations

from typing import Any

import pytest

from ostiary.protocols.aws.arns import copy_source
from ostiary.protocols.aws.models import Unreadable
from tests.aws.account import Account
from tests.aws.test_aws_bounds import what
from tests.aws.wire import ask

HERE = "us-east-1:123456789012"
OTHER = "999988887777"
ALIKE: list[tuple[str, str, dict[str, Any], set[str]]] = [
    ("secretsmanager", "BatchGetSecretValue", {"SecretIdList": ["a", "b"]},
     {f"arn:aws:secretsmanager:{HERE}:secret:a", f"arn:aws:secretsmanager:{HERE}:secret:b"}),
    ("secretsmanager", "BatchGetSecretValue", {"SecretIdList": ["a", f"arn:aws:secretsmanager:{HERE}:secret:b-AbCdEf"]},
     {f"arn:aws:secretsmanager:{HERE}:secret:{name}" for name in ("a", "b", "b-AbCdEf")}),
    ("kms", "Decrypt", {"KeyId": "alias/prod"}, {f"arn:aws:kms:{HERE}:alias/prod"}),
    ("kms", "Decrypt", {"KeyId": f"arn:aws:kms:{HERE}:alias/prod"}, {f"arn:aws:kms:{HERE}:alias/prod"}),
    ("kms", "Decrypt", {"KeyId": "1234"}, {f"arn:aws:kms:{HERE}:key/1234"}),
    ("kms", "DeleteAlias", {"AliasName": "alias/prod"}, {f"arn:aws:kms:{HERE}:alias/prod"}),
    ("kms", "UpdateAlias", {"AliasName": "alias/prod", "TargetKeyId": "1234"}, {f"arn:aws:kms:{HERE}:alias/prod", f"arn:aws:kms:{HERE}:key/1234"}),
    ("kms", "ReEncrypt", {"SourceKeyId": "alias/a", "DestinationKeyId": "1234"}, {f"arn:aws:kms:{HERE}:alias/a", f"arn:aws:kms:{HERE}:key/1234"}),
    ("logs", "DeleteLogGroup", {"logGroupName": "/aws/lambda/f"}, {f"arn:aws:logs:{HERE}:log-group:/aws/lambda/f"}),
    ("ssm", "GetParameter", {"Name": f"arn:aws:ssm:{HERE}:parameter/x:3"}, {f"arn:aws:ssm:{HERE}:parameter/x", f"arn:aws:ssm:{HERE}:parameter/x:3"}),
    ("ssm", "GetParameters", {"Names": ["/aws/reference/secretsmanager/prod/db:label"]},
     {f"arn:aws:ssm:{HERE}:parameter/aws/reference/secretsmanager/prod/db", f"arn:aws:secretsmanager:{HERE}:secret:prod/db"}),
    ("rds", "DeleteDBInstance", {"DBInstanceIdentifier": "PROD-db"}, {f"arn:aws:rds:{HERE}:db:prod-db"}),
    ("rds", "AddTagsToResource", {"ResourceName": f"arn:aws:rds:{HERE}:db:Prod"}, {f"arn:aws:rds:{HERE}:db:prod"}),
    ("redshift", "DeleteCluster", {"ClusterIdentifier": "Prod"}, {f"arn:aws:redshift:{HERE}:cluster:prod"}),
    ("ecs", "DeleteService", {"cluster": f"arn:aws:ecs:eu-west-1:{OTHER}:cluster/prod", "service": "s"},
     {f"arn:aws:ecs:eu-west-1:{OTHER}:cluster/prod", f"arn:aws:ecs:eu-west-1:{OTHER}:service/prod/s"}),
    *(("sqs", "SendMessage", {"QueueUrl": url}, {f"arn:aws:sqs:us-east-1:{account}:q.fifo"}) for url, account in (
        (f"https://sqs.us-east-1.amazonaws.com/{OTHER}/q.fifo", OTHER), (f"http://127.0.0.1:5000/{OTHER}/q.fifo", OTHER), (f"{OTHER}/q.fifo", OTHER),
        ("q.fifo", "123456789012"),
    )),
]  # fmt: skip


@pytest.mark.parametrize(("service", "operation", "given", "arns"), ALIKE, ids=range(len(ALIKE)))
def test_a_thing_is_judged_by_one_arn_however_it_is_named(service: str, operation: str, given: dict[str, Any], arns: set[str]) -> None:
    assert what(service, operation, given) == (arns, ())


@pytest.mark.parametrize(
    "url",
    [
        "https://h/123456789012/secret?/123456789012/allowed", "https://h/123456789012/secret#/allowed", "https://h/a/123456789012/allowed",
        "https://h/123456789012/secret/..%2Fallowed", "https://h//123456789012/allowed", "https://u:p@h/123456789012/allowed", "q/", "",
    ],
)  # fmt: skip
def test_a_queue_that_two_readers_could_find_elsewhere_is_no_queue(url: str) -> None:
    with pytest.raises(Unreadable):
        what("sqs", "SendMessage", {"QueueUrl": url})


ROLE = "arn:aws:iam::123456789012:role/r"


@pytest.mark.parametrize(
    ("service", "operation", "given"),
    [
        ("autoscaling", "UpdateAutoScalingGroup", {"AutoScalingGroupName": "prod", "ServiceLinkedRoleARN": ROLE}),
        ("ecs", "RunTask", {"taskDefinition": "t", "overrides": {"taskRoleArn": ROLE}}),
        ("route53", "ChangeResourceRecordSets", {"HostedZoneId": "Z1", "ChangeBatch": {"Changes": [{"Action": "DELETE"}]}}),
        ("eks", "UpdateClusterConfig", {"name": "prod", "resourcesVpcConfig": {}, "remoteNetworkConfig": {}, "clientRequestToken": ROLE}),
    ],
)  # fmt: skip
def test_an_arn_of_something_else_does_not_hide_that_what_is_changed_cannot_be_told(service: str, operation: str, given: dict[str, Any]) -> None:
    arns, unclear = what(service, operation, given)
    assert unclear
    assert any(arn.endswith(":*") for arn in arns), arns


def test_nor_what_is_read() -> None:
    arns, _ = what("ecs", "DescribeTasks", {"tasks": ["1"], "cluster": "c"})
    assert f"arn:aws:ecs:{HERE}:task/c/1" in arns
    arns, _ = what("eks", "DescribeCluster", {"name": "prod"})
    assert arns == {f"arn:aws:eks:{HERE}:*"}


@pytest.mark.parametrize(
    ("service", "operation", "given", "arn"),
    [
        ("ecs", "RunTask", {"overrides": {"taskRoleArn": "admin"}}, "role/admin"), ("ecs", "RegisterTaskDefinition", {"executionRoleArn": "admin"}, "role/admin"),
        ("ssm", "CreateActivation", {"IamRole": "service-role/admin"}, "role/service-role/admin"),
        ("emr", "RunJobFlow", {"JobFlowRole": "admin"}, "instance-profile/admin"), ("emr", "RunJobFlow", {"ServiceRole": "admin"}, "role/admin"),
        ("autoscaling", "CreateLaunchConfiguration", {"IamInstanceProfile": "admin"}, "instance-profile/admin"),
        ("batch", "CreateComputeEnvironment", {"computeResources": {"instanceRole": "admin"}}, "instance-profile/admin"),
        ("ec2", "AssociateIamInstanceProfile", {"IamInstanceProfile": {"Name": "admin"}}, "instance-profile/admin"),
    ],
)  # fmt: skip
def test_a_role_that_is_passed_on_by_its_name_is_judged_as_by_its_arn(service: str, operation: str, given: dict[str, Any], arn: str) -> None:
    assert f"arn:aws:iam::123456789012:{arn}" in what(service, operation, given)[0]


def test_a_plus_in_the_source_of_a_copy_is_written_so_that_everybody_reads_one() -> None:
    assert copy_source("bucket/a%2Bb%20c") == ("bucket", "a+b c")
    with pytest.raises(Unreadable):
        copy_source("bucket/a+b")


def test_and_is_refused_on_record(shared: Account, heard: list[str]) -> None:
    before = len(shared.records("deny"))
    assert ask(shared, "PUT", "/plain/k", host="s3.amazonaws.com", headers=[["x-amz-copy-source", "plain/a+b"]]).status == 400
    assert len(shared.records("deny")) == before + 1
    assert heard == []
