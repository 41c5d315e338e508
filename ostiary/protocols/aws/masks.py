"""Which fields of an answer are secrets: those that AWS's own model calls sensitive, those named here, and those that the operator names.

All of the first two are of the class `secret`; who may see them, policy says (`unmask` on `Ostiary::DataClass::"secret"`).
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, Final

from ostiary.model.connections import AwsConnection, ProtectedField, Strategy
from ostiary.protocols.aws.conditions import PARTIQL
from ostiary.protocols.aws.models import SECRETIVE, Call, Service

SECRET: Final = "secret"  # noqa: S105 - a data class
MAX_DEPTH: Final = 12
MAX_FIELDS: Final = 400
_NO_SECRET: Final = frozenset({"nexttoken", "marker", "token", "clienttoken", "continuationtoken", "paginationtoken", "name", "arn"})
"""Members that models call sensitive although they only page on, or name."""

_ENVIRONMENT: Final = "json:/{}/Environment/Variables"
_SEALED: Final = "json:/CiphertextForRecipient"
"""The plaintext, sealed for a key that the caller chose."""
NAMED: Final[dict[str, tuple[str, ...]]] = {
    "secretsmanager:GetSecretValue": ("json:/SecretString", "json:/SecretBinary"),
    "secretsmanager:BatchGetSecretValue": ("json:/SecretValues/*/SecretString", "json:/SecretValues/*/SecretBinary"),
    "secretsmanager:GetRandomPassword": ("json:/RandomPassword",),
    "kms:Decrypt": ("json:/Plaintext", _SEALED), "kms:GenerateDataKey": ("json:/Plaintext", _SEALED),
    "kms:GenerateDataKeyPair": ("json:/PrivateKeyPlaintext", _SEALED), "kms:DeriveSharedSecret": ("json:/SharedSecret", _SEALED),
    **{f"mobiletargeting:{verb}{kind}Channel": (f"json:/{kind}ChannelResponse/Credential", f"json:/{kind.upper()}ChannelResponse/Credential", "json:/Credential")
       for verb in ("Get", "Update", "Delete") for kind in ("Gcm", "Baidu")},
    "lambda:GetFunction": ("json:/Configuration/Environment/Variables", "json:/Code/Location"),
    "lambda:Invoke": ("head:X-Amz-Log-Result",),
    "lambda:GetFunctionConfiguration": ("json:/Environment/Variables",),
    "lambda:UpdateFunctionConfiguration": ("json:/Environment/Variables",), "lambda:CreateFunction": ("json:/Environment/Variables",),
    "lambda:UpdateFunctionCode": ("json:/Environment/Variables",), "lambda:PublishVersion": ("json:/Environment/Variables",),
    "lambda:ListFunctions": (_ENVIRONMENT.format("Functions/*"),), "lambda:ListVersionsByFunction": (_ENVIRONMENT.format("Versions/*"),),
    "lambda:GetLayerVersion": ("json:/Content/Location",),
    "ecs:DescribeTaskDefinition": ("json:/taskDefinition/containerDefinitions/*/environment/*/value",),
    "ecs:RegisterTaskDefinition": ("json:/taskDefinition/containerDefinitions/*/environment/*/value",),
    "ecs:DescribeTasks": ("json:/tasks/*/overrides/containerOverrides/*/environment/*/value",),
    "batch:DescribeJobDefinitions": ("json:/jobDefinitions/**/environment/*/value",), "batch:DescribeJobs": ("json:/jobs/**/environment/*/value",),
    "ec2:DescribeInstanceAttribute": ("xml://userData/value",), "ec2:DescribeLaunchTemplateVersions": ("xml://userData",),
    "ec2:GetLaunchTemplateData": ("xml://userData",), "ec2:GetConsoleOutput": ("xml://output",),
    "ec2:CreateLaunchTemplateVersion": ("xml://userData",), "ec2:DescribeSpotInstanceRequests": ("xml://userData",),
    "ec2:DescribeSpotFleetRequests": ("xml://userData",),
    "autoscaling:DescribeLaunchConfigurations": ("xml://UserData",),
    "elasticbeanstalk:DescribeConfigurationSettings": ("xml://OptionSettings/member/Value",),
    "glue:GetConnection": ("json:/**/ConnectionProperties",), "glue:GetConnections": ("json:/**/ConnectionProperties",),
    "apprunner:DescribeService": ("json:/**/RuntimeEnvironmentVariables",),
    "apigateway:GetApiKey": ("json:/value",), "apigateway:GetApiKeys": ("json:/item/*/value", "json:/items/*/value"),
    "cognito-idp:DescribeUserPoolClient": ("json:/UserPoolClient/ClientSecret",),
    "appsync:ListApiKeys": ("json:/apiKeys/*/id",), "datapipeline:GetPipelineDefinition": ("json:/parameterValues/*/stringValue",),
    "states:DescribeExecution": ("json:/input", "json:/output"),
}  # fmt: skip
"""By operation, the whole of what is named being hidden: what its answer holds that should be a secret, and the model does not say so."""

_ENVIRONMENTS: Final = re.compile(r"(?i).*environment_?variables?(?:override)?|environment|envvars?|user_?data(?:override)?")
"""Members that programs and machines are given their secrets in, of whatever service."""

_DECRYPTED: Final = {
    "ssm:GetParameter": "json:/Parameter/Value", "ssm:GetParameters": "json:/Parameters/*/Value",
    "ssm:GetParametersByPath": "json:/Parameters/*/Value", "ssm:GetParameterHistory": "json:/Parameters/*/Value",
}  # fmt: skip

_ITEMS: Final = {
    "GetItem": ("/Item/{}",), "Query": ("/Items/*/{}", "/LastEvaluatedKey/{}"), "Scan": ("/Items/*/{}", "/LastEvaluatedKey/{}"),
    "BatchGetItem": ("/Responses/*/*/{}", "/UnprocessedKeys/**/{}"), "TransactGetItems": ("/Responses/*/Item/{}",),
    "PutItem": ("/Attributes/{}", "/Item/{}", "/ItemCollectionMetrics/**/{}"),
    "UpdateItem": ("/Attributes/{}", "/Item/{}", "/ItemCollectionMetrics/**/{}"),
    "DeleteItem": ("/Attributes/{}", "/Item/{}", "/ItemCollectionMetrics/**/{}"),
    "TransactWriteItems": ("/CancellationReasons/*/Item/{}", "/ItemCollectionMetrics/**/{}"),
    "BatchWriteItem": ("/UnprocessedItems/**/{}", "/ItemCollectionMetrics/**/{}"), "ExecuteStatement": ("/Items/*/{}",),
    "BatchExecuteStatement": ("/Responses/*/Item/{}", "/Responses/*/Error/Item/{}"), "ExecuteTransaction": ("/Responses/*/Item/{}",),
    "GetRecords": ("/Records/*/dynamodb/*/{}",),
}  # fmt: skip
"""Where an operation of DynamoDB shows attributes of items."""


def fields(name: str, call: Call | None, service: Service | None, connection: AwsConnection) -> tuple[ProtectedField, ...]:
    """The protected fields of the answer to `service:Operation`."""
    if call is None or service is None:
        return ()
    found = [ProtectedField(place, SECRET, Strategy.REDACT) for place in NAMED.get(name, ())]
    if name not in _DECRYPTED:
        as_json = call.protocol in ("json", "rest-json")
        told = (*sensitive(service, call.operation, as_json=as_json), *sensitive_headers(service, call.operation))
        found += [ProtectedField(place, SECRET, Strategy.REDACT) for place in told]
    elif call.parameters.get("WithDecryption"):
        found.append(ProtectedField(_DECRYPTED[name], SECRET, Strategy.REDACT))
    for place, field in connection.hidden:
        if place == name:
            found.append(field)
        elif call.service in ("dynamodb", "dynamodbstreams") and place.startswith("dynamodb:") and _shows(call, place[9:]):
            # What PartiQL selects is named after the end of a path: any attribute may be the protected one.
            attribute = "*" if call.operation in PARTIQL else field.place.replace("~", "~0").replace("/", "~1")
            found += [
                ProtectedField(f"json:{spot.format(attribute)}", field.data_class, field.strategy)
                for spot in _ITEMS.get(call.operation, ())
            ]
    return tuple(dict.fromkeys(found))


def reads_as(call: Call | None, service: Service | None) -> str:
    """How an answer is read by whoever called, whatever its media type says: `json`, `xml`, or `content`."""
    if call is None or service is None:
        return "content"
    output = service.operations[call.operation].get("output")
    shape = {} if output is None else service.shape(output["shape"])
    payload = shape.get("payload")
    if payload is not None and service.shape(shape["members"][payload]["shape"])["type"] in ("blob", "string"):
        return "content"
    return "json" if call.protocol in ("json", "rest-json") else "xml"


def _shows(call: Call, table: str) -> bool:
    """Whether items of that table may be in the answer; where it cannot be told, they may."""
    named = call.parameters.get("TableName")
    return not isinstance(named, str) or named == table or named.endswith((f":table/{table}", f"/{table}"))


@lru_cache(maxsize=4096)
def sensitive(service: Service, operation: str, *, as_json: bool) -> tuple[str, ...]:
    """Members of an answer that the model calls sensitive, as places; `body:` is all of an answer that is one value."""
    output = service.operations[operation].get("output")
    if output is None or service.name == "s3":
        return ()
    shape = service.shape(output["shape"])
    member = shape["members"].get(shape.get("payload"))
    name: str = output["shape"] if member is None else member["shape"]
    if member is not None and service.shape(name)["type"] != "structure":
        return ("body:",) if service.shape(name).get("sensitive") or member.get("sensitive") else ()
    walk = _Walk(service, as_json=as_json)
    if not walk.all_of(name, ()):
        return walk.anywhere(name)
    return tuple(walk.found)


@lru_cache(maxsize=4096)
def sensitive_headers(service: Service, operation: str) -> tuple[str, ...]:
    """Headers of an answer that the model calls sensitive, as places."""
    output = service.operations[operation].get("output")
    if output is None or service.name == "s3":
        return ()
    members = service.shape(output["shape"])["members"]
    return tuple([
        f"head:{member.get('locationName', name)}"
        for name, member in members.items()
        if member.get("location") == "header" and (service.shape(member["shape"]).get("sensitive") or SECRETIVE.fullmatch(name))
    ])  # fmt: skip


class _Walk:
    """Goes through the shapes of an answer."""

    def __init__(self, service: Service, *, as_json: bool) -> None:
        self._service = service
        self._as_json = as_json
        self.found: list[str] = []

    def _place(self, path: tuple[str, ...], *, anywhere: bool = False) -> str:
        return ("json:/**/" if anywhere else "json:/") + "/".join(path) if self._as_json else f"xml://{path[-1]}"

    def _hidden(self, shape: dict[str, Any], path: tuple[str, ...]) -> tuple[str, ...] | None:
        """What is hidden of a member at `path`, whole or in parts; None: nothing of it by itself."""
        if not path:
            return None
        if shape.get("sensitive") and path[-1].lower() not in _NO_SECRET:
            return path
        if shape["type"] in ("string", "blob") and SECRETIVE.fullmatch(path[-1]) is not None and not shape.get("enum"):
            return path
        return self._environment(path, shape)

    def all_of(self, name: str, path: tuple[str, ...]) -> bool:
        """Note every place beneath; False: there are too many, or they have no end."""
        shape: dict[str, Any] = self._service.shape(name)
        if len(path) > MAX_DEPTH or len(self.found) > MAX_FIELDS:
            return False
        if (hidden := self._hidden(shape, path)) is not None:
            self.found.append(self._place(hidden))
            return True
        return all(self.all_of(below, (*path, step)) for step, below in self._below(shape))

    def anywhere(self, name: str) -> tuple[str, ...]:
        """As places at any depth, by the name of the member that they stand in: of shapes that go round, or hold too many."""
        seen: set[tuple[str, tuple[str, ...]]] = set()
        waiting: list[tuple[str, tuple[str, ...]]] = [(name, ())]
        found: dict[str, None] = {}
        while waiting:
            each = name, end = waiting.pop()
            if each in seen or len(end) > MAX_DEPTH:
                continue
            seen.add(each)
            shape = self._service.shape(name)
            if (hidden := self._hidden(shape, end)) is not None:
                found[self._place(hidden, anywhere=True)] = None
                continue
            for step, below in self._below(shape):
                waiting.append((below, (step,) if shape["type"] == "structure" else (*end, step)))
        return tuple(found)

    def _environment(self, path: tuple[str, ...], shape: dict[str, Any]) -> tuple[str, ...] | None:
        """What of a member is hidden that holds an environment or user data; None: it is no such member."""
        kind = shape["type"]
        if _ENVIRONMENTS.fullmatch(path[-1]) is None or (kind == "string" and "data" not in path[-1].lower()):
            return None
        if kind in ("map", "string", "blob"):
            return path
        if kind != "list":
            return None
        each = self._service.shape(shape["member"]["shape"])
        step = "*" if self._as_json else shape["member"].get("locationName", "member")
        values = [member.get("locationName", name) for name, member in each.get("members", {}).items() if name.lower() == "value"]
        return (*path, step, *values[:1])

    def _below(self, shape: dict[str, Any]) -> list[tuple[str, str]]:
        """(step, shape) of what a shape is made of."""
        match shape["type"]:
            case "structure":
                members = shape["members"].items()
                return [(each.get("locationName", name), each["shape"]) for name, each in members if each.get("location") is None]
            case "list":
                member = shape["member"]
                return [("*" if self._as_json else member.get("locationName", "member"), member["shape"])]
            case "map":
                return [("*" if self._as_json else "value", shape["value"]["shape"])]
            case _:
                return []
