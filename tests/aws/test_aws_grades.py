"""How grave a call is: what changes who may do what asks for `administer`, by whatever name or parameter; and no change is a read."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import pytest
from botocore.exceptions import ClientError
from botocore.loaders import Loader

from ostiary.driver.aws_models import access
from ostiary.model.operations import Action
from ostiary.protocols.aws.actions import INDIRECT, hands_out
from ostiary.protocols.aws.arns import touched
from ostiary.protocols.aws.models import Service
from tests.aws.account import WATCH, account
from tests.aws.test_aws_bounds import HERE
from tests.aws.test_aws_secrets import operations

GOVERNING = [
    "kinesis:PutResourcePolicy", "cloudtrail:PutResourcePolicy", "bedrock:PutResourcePolicy", "vpc-lattice:PutResourcePolicy", "oam:PutSinkPolicy",
    "logs:PutDestinationPolicy", "codeartifact:PutDomainPermissionsPolicy", "kafka:PutClusterPolicy", "dsql:PutClusterPolicy", "eks:CreateAccessEntry",
    "eks:AssociateAccessPolicy", "aoss:CreateAccessPolicy", "lex:CreateResourcePolicyStatement", "ram:CreatePermission", "rolesanywhere:CreateTrustAnchor",
    "verifiedpermissions:CreatePolicy", "quicksight:UpdateResourcePermissions", "workdocs:AddResourcePermissions", "guardduty:EnableOrganizationAdminAccount",
    "xray:DeleteResourcePolicy",
]  # fmt: skip


@pytest.mark.parametrize("named", GOVERNING)
def test_a_change_of_who_may_do_what_is_administer_though_aws_calls_it_a_write(named: str) -> None:
    prefix, _, operation = named.partition(":")
    assert access().action(prefix, operation) is Action.ADMINISTER


def test_no_policy_of_a_resource_is_written_as_data() -> None:
    telling = re.compile(r"(?:Put|Set|Create|Update|Delete|Add|Remove)[A-Za-z]*(?:ResourcePolicy|Permissions?|AccessPolicy|AccessEntry)")
    named = {each for each, _, operation in operations() if telling.fullmatch(operation)}
    assert len(named) > 100
    assert {each for each in named if access().action(*each.split(":")) is not Action.ADMINISTER} == set()


def test_what_is_called_a_change_is_no_read() -> None:
    telling = re.compile(r"(?:Batch)?(?:Put|Set|Create|Update|Delete|Modify|Attach|Detach|Add|Remove|Enable|Disable|Send|Deliver|Complete)[A-Z].*")
    found = {each for each, _, operation in operations() if telling.fullmatch(operation) and access().action(*each.split(":")) is Action.READ}
    assert {each for each in found if not hands_out(each)} == set()


def test_an_agent_or_a_command_that_is_made_to_run_is_opaque() -> None:
    for named in ("bedrock:InvokeFlow", "bedrock:InvokeInlineAgent", "bedrock-agentcore:InvokeAgentRuntimeCommand", "ec2-instance-connect:SendSSHPublicKey"):
        assert named in INDIRECT
        assert access().action(*named.split(":")) is Action.EXECUTE


def done(service: str, operation: str, given: dict[str, Any]) -> set[Action]:
    model = Service(service, Loader().load_service_model(service, "service-2"))
    assert given.keys() <= model.input_of(operation)["members"].keys()
    call = msgspec.structs.replace(model.call(operation, "json"), parameters=given)
    action = access().action(access().prefix(service), operation)
    assert action is not None
    return {each for _, each in touched(call, action, access(), HERE, b"")[0]}


PLACE = {"Bucket": "bucket", "Key": "k"}
GIVING: list[tuple[str, str, dict[str, Any], bool]] = [
    ("s3", "PutObject", {**PLACE, "ACL": "public-read"}, True), ("s3", "PutObject", {**PLACE, "GrantFullControl": "id=x"}, True),
    ("s3", "PutObject", {**PLACE, "ACL": "bucket-owner-full-control"}, False), ("s3", "PutObject", {**PLACE, "ACL": "private"}, False), ("s3", "PutObject", PLACE, False),
    ("s3", "CreateMultipartUpload", {**PLACE, "ACL": "public-read-write"}, True), ("s3", "CreateBucket", {"Bucket": "bucket", "GrantWrite": "uri=x"}, True),
    ("s3", "DeleteObject", {**PLACE, "BypassGovernanceRetention": "true"}, True), ("s3", "DeleteObject", {**PLACE, "BypassGovernanceRetention": "false"}, False),
    ("dynamodb", "CreateTable", {"TableName": "tab", "ResourcePolicy": "{}"}, True), ("ec2", "ModifyVpcEndpoint", {"VpcEndpointId": "v", "ResetPolicy": "true"}, True),
    ("ec2", "CreateVpcEndpoint", {"PolicyDocument": "{}"}, True), ("opensearch", "UpdateDomainConfig", {"DomainName": "d", "AccessPolicies": "{}"}, True),
]  # fmt: skip


@pytest.mark.parametrize(("service", "operation", "given", "gives"), GIVING, ids=range(len(GIVING)))
def test_a_call_that_says_who_may_do_what_besides_what_it_does_asks_for_administer_too(service: str, operation: str, given: dict[str, Any], gives: bool) -> None:
    assert (Action.ADMINISTER in done(service, operation, given)) is gives


def test_who_may_write_does_not_make_an_object_public(moto: str) -> None:
    policy = 'permit (principal, action in [Ostiary::Action::"read", Ostiary::Action::"write"], resource); permit (principal, action == Ostiary::Action::"connect", resource);'
    with account(moto, policy) as made:
        made.direct("s3").create_bucket(Bucket="gives")
        s3 = made.client("s3")
        s3.put_object(Bucket="gives", Key="k", Body=b"x")
        heard, _ = WATCH.begin()
        for given in ({"ACL": "public-read"}, {"GrantRead": "uri=http://acs.amazonaws.com/groups/global/AllUsers"}):
            with pytest.raises(ClientError, match="AccessDenied"):
                s3.put_object(Bucket="gives", Key="k", Body=b"x", **given)
        assert heard == []
