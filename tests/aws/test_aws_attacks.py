"""The `aws` items of the attack corpus, against the real gateway before moto; and the rest of their class."""

from __future__ import annotations

import base64
import datetime as dt
import io
import json
import os
import threading
import zipfile
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.aws.account import WATCH, Account, account
from tests.aws.wire import Reply, ask, send, signed

CORPUS = Path(__file__).parents[1] / "attacks" / "attacks.jsonl"
SENTINEL = "078-05-1120"
NOW = "now"


def cases() -> list[Any]:
    found = [json.loads(line) for line in CORPUS.read_text().splitlines()]
    return [pytest.param(case, id=case["id"]) for case in found if case["protocol"] == "aws" and case.get("steps")]


@pytest.mark.parametrize("case", cases())
def test_the_corpus_has_its_required_outcome(shared: Account, heard: list[str], case: dict[str, Any]) -> None:
    (step,) = case["steps"]
    shared.granted()
    before = len(shared.records("deny")) + len(shared.records("login"))
    service = "s3" if step["host"].startswith("169.254") else ""
    reply = ask(
        shared, step["method"], step["path"], host=step["host"], headers=step["headers"], body=step["body"].encode(), service=service
    )
    if case["family"] == "secret":  # it may go through, if it shows nothing: what it shows, other tests look at
        assert reply.status in (403, 404)
        return
    assert reply.status in (400, 403), reply.body
    assert len(shared.records("deny")) + len(shared.records("login")) == before + 1
    assert heard == [], "nothing of it reached the target"


PRESIGN_HOST = "s3.amazonaws.com"
JSON10 = ["Content-Type", "application/x-amz-json-1.0"]


def form(body: str, host: str, account: Account, **how: Any) -> Reply:
    return ask(account, "POST", "/", host=host, headers=[["Content-Type", "application/x-www-form-urlencoded"]], body=body.encode(), **how)


def test_aws_001_a_captured_request_that_changes_something_is_good_once(shared: Account, heard: list[str]) -> None:
    request = signed(shared, "PUT", "/replayed", host="s3.amazonaws.com")
    assert send(shared, request, host="s3.amazonaws.com").status == 200
    again = send(shared, request, host="s3.amazonaws.com")
    assert again.status == 503, "what SDKs sign anew and try again"
    assert b"sent before" in again.body
    assert len(heard) == 1


def test_aws_001_two_at_once_are_one(shared: Account, heard: list[str]) -> None:
    request = signed(shared, "PUT", "/replayed-at-once", host="s3.amazonaws.com")
    replies: list[Reply] = []
    threads = [threading.Thread(target=lambda: replies.append(send(shared, request, host="s3.amazonaws.com"))) for _ in range(6)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert sorted(reply.status for reply in replies) == [200, *[503] * 5]
    assert len(heard) == 1


def test_aws_001_the_session_token_alone_signs_nothing_and_is_no_bearer_token(shared: Account, heard: list[str]) -> None:
    keys = shared.granted()
    request = signed(shared, "GET", "/", host="s3.amazonaws.com")
    request.headers["Authorization"] = f"Bearer {keys.session_token.reveal()}"
    assert send(shared, request, host="s3.amazonaws.com").status == 403
    assert heard == []


@pytest.mark.parametrize("minutes", [-16, -6, 6, 60])
def test_aws_002_a_date_that_is_not_now_is_refused(shared: Account, heard: list[str], minutes: int) -> None:
    when = dt.datetime.now(dt.UTC) + dt.timedelta(minutes=minutes)
    reply = ask(shared, "GET", "/", host="s3.amazonaws.com", when=when)
    assert reply.status == 403
    assert b"RequestTimeTooSkewed" in reply.body
    assert heard == []


def test_aws_003_a_body_that_says_what_to_do_is_what_was_signed(shared: Account, heard: list[str]) -> None:
    head = [JSON10, ["X-Amz-Target", "DynamoDB_20120810.ListTables"]]
    request = signed(shared, "POST", "/", host="dynamodb.us-east-1.amazonaws.com", headers=head, body=b"{}")
    assert send(shared, request, host="dynamodb.us-east-1.amazonaws.com", body=b'{"Limit":1}').status == 403
    request = signed(shared, "PUT", "/plain/changed", host="s3.amazonaws.com", body=b"one")
    assert send(shared, request, host="s3.amazonaws.com", body=b"two").status == 400
    assert heard == []


@pytest.mark.parametrize("name", ["x-amz-copy-source", "x-amz-acl", "x-amz-security-token", "X-Amz-Meta-A", "x-amz-new"])
def test_aws_005_a_header_that_is_not_signed_is_nobodys_word(shared: Account, heard: list[str], name: str) -> None:
    request = signed(shared, "PUT", "/plain/k", host="s3.amazonaws.com", body=b"x")
    assert send(shared, request, host="s3.amazonaws.com", more=[(name, "/plain/other")]).status in (400, 403)
    assert heard == []


def test_aws_005_a_signed_header_that_the_operation_does_not_have_is_refused(shared: Account, heard: list[str]) -> None:
    assert ask(shared, "GET", "/plain/k", host="s3.amazonaws.com", headers=[["x-amz-new-thing", "1"]]).status == 400
    assert heard == []


@pytest.mark.parametrize(
    ("host", "service"),
    [("iam.amazonaws.com", "sts"), ("s3.amazonaws.com", "sts"), ("sts.eu-west-1.amazonaws.com", "sts"), ("evil.example", "sts"),
     ("169.254.169.254", "sts"), ("metadata.google.internal", "sts"), ("sts.amazonaws.com.evil.example", "sts"), ("localhost.evil.example", "sts")],
)  # fmt: skip
def test_aws_009_a_host_of_another_service_than_the_scope_is_refused(shared: Account, heard: list[str], host: str, service: str) -> None:
    assert form("Action=GetCallerIdentity&Version=2011-06-15", host, shared, service=service).status == 400
    assert heard == []


def test_aws_010_a_presigned_url_is_good_at_the_gateway_alone(shared: Account) -> None:
    shared.direct("s3").create_bucket(Bucket="presigned")
    shared.direct("s3").put_object(Bucket="presigned", Key="k", Body=b"hello", ContentType="text/plain")
    request = signed(shared, "GET", "/presigned/k", host="s3.amazonaws.com", presigned=60)
    assert "AKIAGATEWAY" not in request.url
    assert send(shared, request, host="s3.amazonaws.com").body == b"hello"
    late = request.url.replace("X-Amz-Expires=60", "X-Amz-Expires=86400")
    assert send(shared, request, host="s3.amazonaws.com", path="/" + late.split("/", 3)[3]).status == 403


VENDING = [
    ("sts.amazonaws.com", "Action=GetSessionToken&Version=2011-06-15"),
    ("sts.amazonaws.com", "Action=AssumeRole&Version=2011-06-15&RoleArn=arn:aws:iam::123456789012:role/r&RoleSessionName=alice"),
    ("sts.amazonaws.com", "Action=AssumeRoleWithWebIdentity&Version=2011-06-15&RoleArn=arn:aws:iam::123456789012:role/r&RoleSessionName=a&WebIdentityToken=x"),
    ("sts.amazonaws.com", "Action=GetFederationToken&Version=2011-06-15&Name=n"),
    ("iam.amazonaws.com", "Action=CreateAccessKey&Version=2010-05-08&UserName=u"),
    ("iam.amazonaws.com", "Action=CreateLoginProfile&Version=2010-05-08&UserName=u&Password=p"),
]


@pytest.mark.parametrize(("host", "body"), VENDING, ids=[body[:35] for _, body in VENDING])
def test_aws_011_a_call_that_hands_out_credentials_is_never_passed_on(shared: Account, heard: list[str], host: str, body: str) -> None:
    reply = form(body, host, shared)
    assert reply.status == 403
    assert b"never passed on" in reply.body
    assert heard == []


def test_aws_011_nor_one_that_speaks_json_or_rest(shared: Account, heard: list[str]) -> None:
    for service, call, asked in (
        ("ecr", "get_authorization_token", {}), ("sso", "get_role_credentials", {"roleName": "r", "accountId": "1", "accessToken": "t"}),
        ("cognito-identity", "get_credentials_for_identity", {"IdentityId": "us-east-1:x"}), ("ssm", "start_session", {"Target": "i-1"}),
        ("redshift", "get_cluster_credentials", {"DbUser": "u", "ClusterIdentifier": "c"}),
    ):  # fmt: skip
        with pytest.raises(ClientError):
            getattr(shared.client(service), call)(**asked)
    assert heard == []


@pytest.mark.parametrize(
    "body",
    [
        "action=DeleteUser&Version=2010-05-08&UserName=u", "Action=DeleteUser&action=ListUsers&Version=2010-05-08&UserName=u",
        "Action=ListUsers&Action=DeleteUser&Version=2010-05-08&UserName=u", "Action=ListUsers&Version=2010-05-08&%41ction=DeleteUser",
        "Action=deleteuser&Version=2010-05-08&UserName=u", "Action=DeleteUser%00&Version=2010-05-08&UserName=u", "Version=2010-05-08",
        "Action=DeleteUser&Version=2010-05-08&UserName=u&Extra=1", "Action=DeleteUser&Version=2006-01-01&UserName=u",
        "Action=ListUsers", "Action=ListUsers&Version=2010-05-08;Action=DeleteUser",
    ],
)  # fmt: skip
def test_aws_015_and_016_another_spelling_of_action_or_version_is_no_call(shared: Account, heard: list[str], body: str) -> None:
    assert form(body, "iam.amazonaws.com", shared).status in (400, 403)
    assert heard == []


@pytest.mark.parametrize("query", ["/?Action=DeleteUser&Version=2010-05-08&UserName=u", "/?Action=DeleteUser"])
def test_aws_015_a_call_is_read_from_the_body_alone(shared: Account, heard: list[str], query: str) -> None:
    form_type = [["Content-Type", "application/x-www-form-urlencoded"]]
    assert ask(shared, "POST", query, host="iam.amazonaws.com", headers=form_type, body=b"Action=ListUsers&Version=2010-05-08").status == 400
    assert ask(shared, "GET", query, host="iam.amazonaws.com").status == 400
    assert heard == []


@pytest.mark.parametrize(
    "body",
    [b'{"TableName":"t","TableName":"u"}', b'{"TableName":"t","tablename":"u"}', b'{"TableName":"t"}{}', b"[]", b'{"TableName":{"S":"t"}}',
     b'\xef\xbb\xbf{"TableName":"t"}', b'{"TableName":"t","Limit":NaN}', b'{"TableName":"\\ud800"}'],
)  # fmt: skip
def test_json_that_two_readers_could_read_in_two_ways_is_no_call(shared: Account, heard: list[str], body: bytes) -> None:
    head = [JSON10, ["X-Amz-Target", "DynamoDB_20120810.DescribeTable"]]
    assert ask(shared, "POST", "/", host="dynamodb.us-east-1.amazonaws.com", headers=head, body=body).status == 400
    assert heard == []


@pytest.mark.parametrize("target", ["DynamoDB_20111205.DeleteTable", "dynamodb_20120810.DeleteTable", "DynamoDB_20120810.deleteTable", "AmazonSSM.SendCommand", "DeleteTable", ""])
def test_aws_016_another_version_of_a_target_is_no_call(shared: Account, heard: list[str], target: str) -> None:
    head = [JSON10, ["X-Amz-Target", target]]
    assert ask(shared, "POST", "/", host="dynamodb.us-east-1.amazonaws.com", headers=head, body=b'{"TableName":"t"}').status == 400
    assert heard == []


def test_aws_017_partiql_is_opaque_in_every_call(shared: Account, heard: list[str]) -> None:
    dynamodb = shared.client("dynamodb")
    for call, asked in (
        (dynamodb.execute_statement, {"Statement": 'SELECT * FROM "t"'}),
        (dynamodb.batch_execute_statement, {"Statements": [{"Statement": "DELETE FROM t WHERE id='1'"}]}),
        (dynamodb.execute_transaction, {"TransactStatements": [{"Statement": "DELETE FROM t WHERE id='1'"}]}),
    ):
        with pytest.raises(ClientError, match="no-opaque"):
            call(**asked)
    assert heard == []


def test_aws_019_020_021_what_runs_elsewhere_or_later_is_opaque(shared: Account, heard: list[str]) -> None:
    for service, call, asked in (
        ("ec2", "run_instances", {"MinCount": 1, "MaxCount": 1, "ImageId": "ami-1", "UserData": "#!/bin/sh"}),
        ("lambda", "invoke", {"FunctionName": "f"}), ("ecs", "run_task", {"taskDefinition": "t"}),
        ("cloudformation", "create_stack", {"StackName": "s", "TemplateBody": "{}"}),
        ("stepfunctions", "create_state_machine", {"name": "n", "definition": "{}", "roleArn": "arn:aws:iam::123456789012:role/r"}),
        ("scheduler", "create_schedule", {
            "Name": "n", "ScheduleExpression": "rate(1 minute)", "FlexibleTimeWindow": {"Mode": "OFF"},
            "Target": {"Arn": "arn:aws:scheduler:::aws-sdk:iam:createUser", "RoleArn": "arn:aws:iam::123456789012:role/r"},
        }),
        ("config", "put_config_rule", {"ConfigRule": {"Source": {"Owner": "CUSTOM_LAMBDA"}}}),
        ("events", "put_targets", {"Rule": "r", "Targets": [{"Id": "1", "Arn": "arn:aws:lambda:us-east-1:123456789012:function:f"}]}),
        ("ecs", "execute_command", {"command": "sh", "interactive": True, "task": "t"}),
        ("servicecatalog", "provision_product", {"ProvisionedProductName": "n", "ProvisionToken": "x"}),
    ):  # fmt: skip
        with pytest.raises(ClientError) as said:
            getattr(shared.client(service), call)(**asked)
        assert "no-opaque" in str(said.value) or "never passed on" in str(said.value) or "CBOR" in str(said.value)
    assert heard == []


@pytest.mark.parametrize(
    ("host", "path"),
    [("s3.amazonaws.com", "/secret-bucket/k"), ("secret-bucket.s3.amazonaws.com", "/k"), ("secret-bucket.s3.us-east-1.amazonaws.com", "/k"),
     ("s3.us-east-1.amazonaws.com", "/secret-bucket/k"), ("secret-bucket.localhost", "/k"), ("127.0.0.1", "/secret-bucket/k"),
     ("secret-bucket.s3.amazonaws.com", "/?list-type=2"), ("s3.amazonaws.com", "/secret-bucket/")],
)  # fmt: skip
def test_aws_022_a_bucket_is_the_same_however_it_is_named(shared: Account, heard: list[str], host: str, path: str) -> None:
    reply = ask(shared, "GET", path, host=host, service="s3")
    assert reply.status == 403
    assert b"no-secret-bucket" in reply.body
    assert heard == []


@pytest.mark.parametrize(
    "path",
    ["/plain/../secret-bucket/k", "/plain/%2e%2e/secret-bucket/k", "/plain/%2E./secret-bucket/k", "/plain/./k", "/./secret-bucket/k",
     "/plain/..%2fsecret-bucket/k", "/../secret-bucket/k", "/plain\\..\\secret-bucket/k", "/plain/k%00", "/plain/%ff", "/%2fsecret-bucket/k"],
)  # fmt: skip
def test_aws_025_a_key_that_somebody_could_normalise_is_refused(shared: Account, heard: list[str], path: str) -> None:
    reply = ask(shared, "GET", path, host="s3.amazonaws.com")
    assert reply.status in (400, 403)
    assert heard == []


def test_aws_025_a_key_is_sent_as_it_is(shared: Account, heard: list[str]) -> None:
    ask(shared, "GET", "/plain//a//b/c", host="s3.amazonaws.com")
    assert heard == ["GET /plain//a//b/c"]


@pytest.mark.parametrize("source", ["/secret-bucket/k", "secret-bucket/k", "secret-bucket%2Fk", "%73ecret-bucket/k", "//secret-bucket/k", "secret-bucket/k?versionId=1"])
def test_aws_027_the_source_of_a_copy_is_decided_too(shared: Account, heard: list[str], source: str) -> None:
    for path in ("/k", "/k?partNumber=1&uploadId=u"):
        reply = ask(shared, "PUT", path, host="plain.s3.amazonaws.com", headers=[["x-amz-copy-source", source]])
        assert reply.status == 403
        assert b"no-secret-bucket" in reply.body
    assert heard == []


def test_aws_028_nothing_shows_a_part_of_what_is_masked(shared: Account) -> None:
    direct, s3 = shared.direct("s3"), shared.client("s3")
    direct.create_bucket(Bucket="masked")
    for kind in ("text/plain", "application/json", "binary/octet-stream"):
        direct.put_object(Bucket="masked", Key="k", Body=b'{"ssn":"078-05-1120"}', ContentType=kind)
        assert SENTINEL.encode() not in s3.get_object(Bucket="masked", Key="k")["Body"].read()
        for part in ("bytes=8-12", "bytes=0-0", "bytes=8-"):
            with pytest.raises(ClientError):
                s3.get_object(Bucket="masked", Key="k", Range=part)
        whole = s3.get_object(Bucket="masked", Key="k", PartNumber=1)["Body"].read()  # the object has no other part
        assert SENTINEL.encode() not in whole
        assert b"ssn" in whole
    with pytest.raises(ClientError, match=r"no-opaque|stream of events"):
        s3.select_object_content(
            Bucket="masked", Key="k", Expression="select * from s3object", ExpressionType="SQL", InputSerialization={"JSON": {}},
            OutputSerialization={"JSON": {}},
        )  # fmt: skip
    assert SENTINEL not in "".join(json.dumps(entry) for entry in shared.gateway.entries())


def test_aws_029_a_bucket_belongs_to_the_account_or_is_named(shared: Account, heard_heads: list[dict[str, str]]) -> None:
    s3 = shared.client("s3")
    with pytest.raises(ClientError, match="other accounts"):
        s3.put_object(Bucket="attacker-bucket", Key="k", Body=b"x", ExpectedBucketOwner="666666666666")
    with pytest.raises(ClientError):
        s3.put_object(Bucket="attacker-bucket", Key="k", Body=b"x")
    assert heard_heads[-1]["X-Amz-Expected-Bucket-Owner"] == "123456789012"


def test_aws_031_environments_and_user_data_are_masked(shared: Account) -> None:
    direct = shared.direct("ecs")
    direct.register_task_definition(
        family="f", containerDefinitions=[{"name": "c", "image": "i", "memory": 64, "environment": [{"name": "PASSWORD", "value": "hunter2-sentinel"}]}]
    )
    answer = shared.client("ecs").describe_task_definition(taskDefinition="f")
    assert "hunter2-sentinel" not in json.dumps(answer, default=str)
    assert answer["taskDefinition"]["containerDefinitions"][0]["name"] == "c"


def test_aws_031_in_lambda_codebuild_and_ec2(shared: Account) -> None:
    iam = shared.direct("iam")
    role = iam.create_role(RoleName="runs", AssumeRolePolicyDocument="{}")["Role"]["Arn"]
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("f.py", "")
    shared.direct("lambda").create_function(
        FunctionName="env", Runtime="python3.12", Role=role, Handler="f.f", Code={"ZipFile": packed.getvalue()},
        Environment={"Variables": {"PASSWORD": "hunter2-sentinel"}},
    )  # fmt: skip
    shared.direct("codebuild").create_project(
        name="env", source={"type": "S3", "location": "b/k"}, artifacts={"type": "NO_ARTIFACTS"}, serviceRole=role,
        environment={"type": "LINUX_CONTAINER", "image": "i", "computeType": "BUILD_GENERAL1_SMALL",
                     "environmentVariables": [{"name": "PASSWORD", "value": "hunter2-sentinel"}]},
    )  # fmt: skip
    ec2 = shared.direct("ec2")
    machine = ec2.run_instances(ImageId="ami-12c6146b", MinCount=1, MaxCount=1, UserData="#!hunter2-sentinel")["Instances"][0]["InstanceId"]
    functions, builds, machines = shared.client("lambda"), shared.client("codebuild"), shared.client("ec2")
    answers = [
        functions.get_function_configuration(FunctionName="env"), functions.get_function(FunctionName="env"), functions.list_functions(),
        builds.batch_get_projects(names=["env"]), machines.describe_instance_attribute(InstanceId=machine, Attribute="userData"),
    ]  # fmt: skip
    said = json.dumps(answers, default=str)
    assert "hunter2-sentinel" not in said
    assert base64.b64encode(b"#!hunter2-sentinel").decode() not in said
    assert "PASSWORD" in said
    kept = b"".join(content for _, content in shared.gateway.written())
    assert b"hunter2-sentinel" not in kept


def test_aws_033_a_redirect_is_told_and_never_followed(shared: Account, heard: list[str]) -> None:
    for status in ("301 Moved Permanently", "307 Temporary Redirect"):
        body = b"<Error><Code>PermanentRedirect</Code><Endpoint>bucket.s3.evil.example</Endpoint></Error>"
        WATCH.says = (status, [("Location", "http://bucket.s3.evil.example/k"), ("Content-Type", "application/xml")], body)
        try:
            reply = ask(shared, "GET", f"/plain/moved-{status[:3]}", host="s3.amazonaws.com")
        finally:
            WATCH.says = None
        assert reply.status == int(status[:3])
        assert "location" not in reply.headers, "an SDK that follows would sign for it"
    assert len(heard) == 2


def test_aws_035_the_name_of_a_session_is_the_gateways_to_say(shared: Account, heard: list[str]) -> None:
    assert form(VENDING[1][1], "sts.amazonaws.com", shared).status == 403
    assert heard == []


def test_aws_035_nor_where_the_operator_lets_roles_be_assumed(moto: str) -> None:
    with account(moto, danger_hands_out=["sts:AssumeRole"]) as made:
        WATCH.begin()
        sts, role = made.client("sts"), "arn:aws:iam::123456789012:role/r"
        for named in ({"RoleSessionName": "alice"}, {"RoleSessionName": "ana", "SourceIdentity": "alice"}):
            with pytest.raises(ClientError, match="says who acts, and has to be ana"):
                sts.assume_role(RoleArn=role, **named)
        assert WATCH.lines == []
        answer = sts.assume_role(RoleArn=role, RoleSessionName="ana", SourceIdentity="ana")
        assert answer["AssumedRoleUser"]["Arn"].endswith("/ana")
        assert set(answer["Credentials"]["SecretAccessKey"]) == {"*"}, "and what it is good for is masked all the same"


def test_aws_036_a_multipart_upload_of_100_mb_works(shared: Account, tmp_path: Path) -> None:
    s3, direct = shared.client("s3"), shared.direct("s3")
    direct.create_bucket(Bucket="hundred")
    piece = os.urandom(1 << 20)
    with (tmp_path / "large").open("wb") as file:
        for _ in range(100):
            file.write(piece)
    s3.upload_file(str(tmp_path / "large"), "hundred", "large.bin")
    assert direct.get_object(Bucket="hundred", Key="large.bin")["Body"].read() == piece * 100
    assert {"s3:CreateMultipartUpload", "s3:UploadPart", "s3:CompleteMultipartUpload"} <= {
        entry["op"]["name"] for entry in shared.records("intent")
    }
