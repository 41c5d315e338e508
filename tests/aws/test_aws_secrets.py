"""Over all of AWS's models: what hands out a way in is never passed on; what is sensitive, or an environment, is hidden, whole, in every answer."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
from botocore.loaders import Loader

from ostiary.driver.aws_models import access
from ostiary.masking.aws import WHOLE, AwsReplyMasker
from ostiary.masking.counts import Counts
from ostiary.masking.documents import JsonMasker, Rules, Unmaskable
from ostiary.model.connections import ProtectedField, Strategy
from ostiary.model.results import ReplyEnd, ReplyHead
from ostiary.protocols.aws.actions import hands_out
from ostiary.protocols.aws.masks import NAMED as NAMED_FIELDS
from ostiary.protocols.aws.masks import sensitive, sensitive_headers
from ostiary.protocols.aws.models import Service

NO_SECRET = {"nexttoken", "marker", "token", "clienttoken", "continuationtoken", "paginationtoken", "name", "arn"}


@cache
def services() -> dict[str, Service]:
    loader = Loader()
    return {name: Service(name, loader.load_service_model(name, "service-2")) for name in loader.list_available_services("service-2") if name in access().services}


def operations() -> Iterator[tuple[str, Service, str]]:
    """(`service:Operation`, its service, its name) of all that can run."""
    for name, service in services().items():
        prefix = access().prefix(name)
        for operation in service.operations:
            if access().action(prefix, operation) is not None:
                yield f"{prefix}:{operation}", service, operation


def answer(service: Service, operation: str) -> dict[str, Any]:
    output = service.operations[operation].get("output")
    return {"members": {}} if output is None else service.shape(output["shape"])


NAMED = [
    "elasticmapreduce:GetPersistentAppUIPresignedURL", "elasticmapreduce:GetOnClusterAppUIPresignedURL", "ecr:GetDownloadUrlForLayer",
    "athena:GetSessionEndpoint", "kinesisvideo:GetHLSStreamingSessionURL", "kinesisvideo:GetDASHStreamingSessionURL", "artifact:GetReport",
    "artifact:GetTermForReport", "amplify:GetArtifactUrl", "amplify:CreateDeployment", "connect:StartChatContact", "connect:StartWebRTCContact",
    "connect:GetPromptFile", "license-manager:CreateToken", "gamelift:GetGameSessionLogUrl", "qbusiness:GetDocumentContent",
    "greengrass:GetComponentVersionArtifact", "lex:CreateUploadUrl", "lex:DescribeExport", "sagemaker:CreatePresignedDomainUrl",
    "sagemaker:StartSession", "codebuild:StartSandboxConnection", "lightsail:CreateGUISessionAccessDetails", "ivschat:CreateChatToken",
    "appstream:CreateStreamingURL", "kinesisvideo:GetIceServerConfig", "newservice:CreateDesktopStreamingUrl", "newservice:GetPortalLoginUrl",
]  # fmt: skip


@pytest.mark.parametrize("named", NAMED)
def test_a_way_in_that_is_known_is_never_passed_on(named: str) -> None:
    assert hands_out(named)


URL = re.compile(r"(?i)url$|urls$|downloadlink|manifesturi")
SAYS_SO = re.compile(r"(?i)pre-?signed (?:amazon )?(?:s3 )?ur[li]")
TOKEN = re.compile(r"(?i)(?:participant|access|session|auth|refresh|id)token")
NO_WAY_IN = {"cognito-sync:ListRecords"}
"""Names a place in a list."""


def test_no_operation_answers_with_a_url_that_is_signed_or_a_token_that_lets_in() -> None:
    let_through = []
    for named, service, operation in operations():
        hidden = sensitive(service, operation, as_json=True)
        for member, each in answer(service, operation)["members"].items():
            shape = service.shape(each["shape"])
            said = f"{each.get('documentation', '')} {shape.get('documentation', '')}"
            tells = (URL.search(member) and SAYS_SO.search(said)) or TOKEN.fullmatch(member) or re.search(r"(?i)presigned.*ur[li]$", member)
            if tells and shape["type"] == "string" and not hands_out(named) and f"json:/{each.get('locationName', member)}" not in hidden:
                let_through.append((named, member))
    assert [each for each in let_through if each[0] not in NO_WAY_IN] == []


def leaf_paths(service: Service, name: str, seen: tuple[str, ...] = (), path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every member that the model calls sensitive, once round each circle of shapes."""
    shape = service.shape(name)
    if shape.get("sensitive") and path and path[-1].lower() not in NO_SECRET:
        yield path
    elif seen.count(name) < 2 and len(path) < 16:
        below = {
            "structure": lambda: [(m.get("locationName", n), m["shape"]) for n, m in shape["members"].items() if m.get("location") is None],
            "list": lambda: [("0", shape["member"]["shape"])], "map": lambda: [("any", shape["value"]["shape"])],
        }.get(shape["type"], list)()  # fmt: skip
        for step, inner in below:
            yield from leaf_paths(service, inner, (*seen, name), (*path, step))


def document(path: tuple[str, ...]) -> bytes:
    made = '"sentinel"'
    for step in reversed(path):
        made = f"[{made}]" if step == "0" else f'{{"{step}":{made}}}'
    return made.encode()


def shows(places: tuple[str, ...], path: tuple[str, ...]) -> bool:
    rules = Rules(ProtectedField(place, "secret", Strategy.REDACT) for place in places)
    return b"sentinel" in JsonMasker(0, rules, Counts()).feed(document(path), final=True)


DEEP = [
    ("geo-routes", "CalculateRoutes"), ("emr-containers", "ListJobRuns"), ("fsx", "DescribeFileSystems"), ("organizations", "ListHandshakesForAccount"),
    ("lambda", "ListFunctions"), ("bedrock-agent", "GetAgent"), ("secretsmanager", "GetSecretValue"),
    ("bedrock", "GetEvaluationJob"), ("wisdom", "GetContent"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "operation"), DEEP)
def test_whatever_the_model_calls_sensitive_is_hidden_however_deep_and_however_many(name: str, operation: str) -> None:
    service = services()[name]
    places, shape = sensitive(service, operation, as_json=True), answer(service, operation)
    payload = shape["members"].get(shape.get("payload"))
    root = service.operations[operation]["output"]["shape"] if payload is None else payload["shape"]
    if service.shape(root)["type"] != "structure":
        assert places == (WHOLE,)
        return
    paths = {path for number, path in zip(range(3000), leaf_paths(service, root), strict=False)}
    assert paths
    assert not [path for path in paths if shows(places, path)]


def test_a_payload_that_is_sensitive_is_hidden_in_every_service() -> None:
    for named, service, operation in operations():
        shape = answer(service, operation)
        member = shape["members"].get(shape.get("payload"))
        if member is None or named.startswith("s3:"):
            continue
        inner = service.shape(member["shape"])
        places = sensitive(service, operation, as_json=True)
        if inner["type"] != "structure":
            assert places == ((WHOLE,) if inner.get("sensitive") else ()), named
        assert not [place for place in places if place.startswith(f"json:/{shape['payload']}/")] or shape["payload"] in inner.get("members", ()), named


ENVIRONMENTS = [
    ("codebuild", "StartBuild", ("build", "environment", "environmentVariables", "0", "value")),
    ("codebuild", "StopBuild", ("build", "environment", "environmentVariables", "0", "value")),
    ("codebuild", "RetryBuild", ("build", "environment", "environmentVariables", "0", "value")),
    ("codebuild", "BatchGetBuildBatches", ("buildBatches", "0", "environment", "environmentVariables", "0", "value")),
    ("codebuild", "StartBuildBatch", ("buildBatch", "environment", "environmentVariables", "0", "value")),
    ("codebuild", "BatchGetProjects", ("projects", "0", "environment", "environmentVariables", "0", "value")),
    ("amplify", "GetBranch", ("branch", "environmentVariables", "PASSWORD")), ("amplify", "ListBranches", ("branches", "0", "environmentVariables", "PASSWORD")),
    ("amplify", "UpdateApp", ("app", "environmentVariables", "PASSWORD")), ("sagemaker", "DescribeProcessingJob", ("Environment", "PASSWORD")),
    ("sagemaker", "DescribeTransformJob", ("Environment", "PASSWORD")), ("ecs", "RunTask", ("tasks", "0", "overrides", "containerOverrides", "0", "environment", "0", "value")),
    ("appsync", "GetGraphqlApiEnvironmentVariables", ("environmentVariables", "PASSWORD")),
    ("lightsail", "GetContainerServices", ("containerServices", "0", "nextDeployment", "containers", "any", "environment", "PASSWORD")),
]  # fmt: skip


@pytest.mark.parametrize(("name", "operation", "path"), ENVIRONMENTS)
def test_environments_are_hidden_in_whatever_answer_shows_them(name: str, operation: str, path: tuple[str, ...]) -> None:
    assert not shows(sensitive(services()[name], operation, as_json=True), path)


@pytest.mark.parametrize(("clear", "status", "leaves"), [(set(), 200, False), ({"secret"}, 200, True), (set(), 400, True), ({"pii"}, 200, False)])
def test_a_body_that_is_sensitive_as_a_whole_leaves_only_where_secrets_are_shown(clear: set[str], status: int, leaves: bool) -> None:
    for kind in (b"application/json", b"text/plain", b"application/octet-stream", b"application/zip"):
        masker = AwsReplyMasker(
            frozenset(), frozenset({"application/zip"}), lambda: ((ProtectedField(WHOLE, "secret", Strategy.REDACT),), "content")
        )
        masker.show(frozenset(clear))
        parts = [ReplyHead(status, ((b"Content-Type", kind),), has_body=True, length=10, of_read=False), b'"sentinel"', ReplyEnd()]
        try:
            out = b"".join(each.frames for part in parts for each in masker.mask(part))  # type: ignore[arg-type]
        except Unmaskable:
            out = b""
        assert (b"sentinel" in out) is leaves


CALLED_SO = [
    ("emr", "DescribeCluster", ("Cluster", "KerberosAttributes", "KdcAdminPassword")), ("cloudhsmv2", "DescribeClusters", ("Clusters", "0", "PreCoPassword")),
    ("codepipeline", "ListWebhooks", ("webhooks", "0", "definition", "authenticationConfiguration", "SecretToken")),
    ("codebuild", "CreateWebhook", ("webhook", "secret")), ("dataexchange", "GetAsset", ("AssetDetails", "ApiGatewayApiAsset", "ApiKey")),
    ("dataexchange", "GetJob", ("Details", "ExportAssetToSignedUrl", "SignedUrl")), ("ssm", "CreateActivation", ("ActivationCode",)),
    ("directconnect", "DescribeVirtualInterfaces", ("virtualInterfaces", "0", "authKey")), ("elbv2", "DescribeListeners", ("ClientSecret",)),
]  # fmt: skip


@pytest.mark.parametrize(("name", "operation", "path"), CALLED_SO)
def test_what_is_called_like_a_secret_is_hidden_though_the_model_does_not_call_it_sensitive(name: str, operation: str, path: tuple[str, ...]) -> None:
    if services()[name].protocols & {"query"}:
        assert f"xml://{path[-1]}" in sensitive(services()[name], operation, as_json=False)
    else:
        assert not shows(sensitive(services()[name], operation, as_json=True), path)


def test_and_is_no_argument_that_log_and_policy_see() -> None:
    for name, operation, parameter in (
        ("elasticache", "CreateReplicationGroup", "AuthToken"), ("sts", "GetSessionToken", "TokenCode"), ("apigateway", "CreateDomainName", "certificatePrivateKey"),
        ("securityhub", "RegisterConnectorV2", "AuthCode"), ("transfer", "StartFileTransfer", "CustomHttpHeaders"),
    ):  # fmt: skip
        assert parameter in services()[name].call(operation, "json").quiet, parameter
    assert "SecretId" not in services()["secretsmanager"].call("GetSecretValue", "json").quiet


def test_plaintext_that_is_sealed_for_a_key_of_the_callers_is_hidden_as_the_plaintext_is() -> None:
    for operation in ("Decrypt", "GenerateDataKey", "DeriveSharedSecret"):
        places = NAMED_FIELDS[f"kms:{operation}"]
        assert not shows(places, ("CiphertextForRecipient",))


@pytest.mark.parametrize(("clear", "leaves"), [(set(), False), ({"secret"}, True), ({"pii"}, False)])
def test_a_header_of_an_answer_that_is_sensitive_is_hidden_with_its_name(clear: set[str], leaves: bool) -> None:
    assert sensitive_headers(services()["lex-runtime"], "PostContent") == (
        "head:x-amz-lex-message", "head:x-amz-lex-encoded-message", "head:x-amz-lex-encoded-input-transcript", "head:x-amz-lex-active-contexts",
    )  # fmt: skip
    assert NAMED_FIELDS["lambda:Invoke"] == ("head:X-Amz-Log-Result",)
    masker = AwsReplyMasker(frozenset(), frozenset(), lambda: ((ProtectedField("head:X-Amz-Log-Result", "secret", Strategy.REDACT),), "content"))
    masker.show(frozenset(clear))
    head = ReplyHead(200, ((b"x-amz-log-result", b"c2VudGluZWw="), (b"x-amzn-requestid", b"r")), has_body=False, length=0, of_read=False)
    out = [each for part in (head, ReplyEnd()) for each in masker.mask(part)]
    text = b"".join(each.frames for each in out)
    assert (b"c2VudGluZWw=" in text) is leaves
    assert b"x-amzn-requestid" in text
    assert sum(number for each in out for _, number in each.counts) == (0 if leaves else 1)
