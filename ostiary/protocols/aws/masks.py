"""Which fields of an answer are secrets: those that AWS's own model calls sensitive, those named here, and those that the operator names.

All of the first two are of the class `secret`; who may see them, policy says (`unmask` on `Ostiary::DataClass::"secret"`).
"""

from __future__ import annotations

from typing import Any, Final

from ostiary.model.connections import AwsConnection, ProtectedField, Strategy
from ostiary.protocols.aws.models import Call, Service

SECRET: Final = "secret"  # noqa: S105 - a data class
MAX_DEPTH: Final = 12
MAX_FIELDS: Final = 400
_NO_SECRET: Final = frozenset({"nexttoken", "marker", "token", "clienttoken", "continuationtoken", "paginationtoken", "name", "arn"})
"""Members that models call sensitive although they only page on, or name."""

_ENVIRONMENT: Final = "json:/{}/Environment/Variables"
NAMED: Final[dict[str, tuple[str, ...]]] = {
    "secretsmanager:GetSecretValue": ("json:/SecretString", "json:/SecretBinary"),
    "secretsmanager:BatchGetSecretValue": ("json:/SecretValues/*/SecretString", "json:/SecretValues/*/SecretBinary"),
    "secretsmanager:GetRandomPassword": ("json:/RandomPassword",),
    "kms:Decrypt": ("json:/Plaintext",), "kms:GenerateDataKey": ("json:/Plaintext",),
    "kms:GenerateDataKeyPair": ("json:/PrivateKeyPlaintext",), "kms:DeriveSharedSecret": ("json:/SharedSecret",),
    "lambda:GetFunction": ("json:/Configuration/Environment/Variables", "json:/Code/Location"),
    "lambda:GetFunctionConfiguration": ("json:/Environment/Variables",),
    "lambda:UpdateFunctionConfiguration": ("json:/Environment/Variables",), "lambda:CreateFunction": ("json:/Environment/Variables",),
    "lambda:UpdateFunctionCode": ("json:/Environment/Variables",), "lambda:PublishVersion": ("json:/Environment/Variables",),
    "lambda:ListFunctions": (_ENVIRONMENT.format("Functions/*"),), "lambda:ListVersionsByFunction": (_ENVIRONMENT.format("Versions/*"),),
    "lambda:GetLayerVersion": ("json:/Content/Location",),
    "ecs:DescribeTaskDefinition": ("json:/taskDefinition/containerDefinitions/*/environment/*/value",),
    "ecs:RegisterTaskDefinition": ("json:/taskDefinition/containerDefinitions/*/environment/*/value",),
    "ecs:DescribeTasks": ("json:/tasks/*/overrides/containerOverrides/*/environment/*/value",),
    "batch:DescribeJobDefinitions": ("json:/jobDefinitions/**/environment/*/value",), "batch:DescribeJobs": ("json:/jobs/**/environment/*/value",),
    "codebuild:BatchGetProjects": ("json:/projects/*/environment/environmentVariables/*/value",),
    "codebuild:BatchGetBuilds": ("json:/builds/*/environment/environmentVariables/*/value",),
    "codebuild:CreateProject": ("json:/project/environment/environmentVariables/*/value",),
    "codebuild:UpdateProject": ("json:/project/environment/environmentVariables/*/value",),
    "ec2:DescribeInstanceAttribute": ("xml://userData/value",), "ec2:DescribeLaunchTemplateVersions": ("xml://userData",),
    "ec2:GetLaunchTemplateData": ("xml://userData",), "ec2:GetConsoleOutput": ("xml://output",),
    "ec2:CreateLaunchTemplateVersion": ("xml://userData",), "ec2:DescribeSpotInstanceRequests": ("xml://userData",),
    "ec2:DescribeSpotFleetRequests": ("xml://userData",),
    "autoscaling:DescribeLaunchConfigurations": ("xml://UserData",),
    "elasticbeanstalk:DescribeConfigurationSettings": ("xml://OptionSettings/member/Value",),
    "glue:GetConnection": ("json:/**/ConnectionProperties",), "glue:GetConnections": ("json:/**/ConnectionProperties",),
    "amplify:GetApp": ("json:/app/environmentVariables",), "amplify:ListApps": ("json:/apps/*/environmentVariables",),
    "apprunner:DescribeService": ("json:/**/RuntimeEnvironmentVariables",),
    "sagemaker:DescribeTrainingJob": ("json:/Environment",), "sagemaker:DescribeModel": ("json:/**/Environment",),
    "apigateway:GetApiKey": ("json:/value",), "apigateway:GetApiKeys": ("json:/item/*/value", "json:/items/*/value"),
    "cognito-idp:DescribeUserPoolClient": ("json:/UserPoolClient/ClientSecret",),
    "appsync:ListApiKeys": ("json:/apiKeys/*/id",), "datapipeline:GetPipelineDefinition": ("json:/parameterValues/*/stringValue",),
    "states:DescribeExecution": ("json:/input", "json:/output"),
}  # fmt: skip
"""By operation, the whole of what is named being hidden: what its answer holds that should be a secret, and the model does not say so."""

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
    "TransactWriteItems": ("/CancellationReasons/*/Item/{}",),
    "BatchWriteItem": ("/UnprocessedItems/**/{}",), "ExecuteStatement": ("/Items/*/{}",),
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
        found += [ProtectedField(place, SECRET, Strategy.REDACT) for place in sensitive(service, call)]
    elif call.parameters.get("WithDecryption"):
        found.append(ProtectedField(_DECRYPTED[name], SECRET, Strategy.REDACT))
    for place, field in connection.hidden:
        if place == name:
            found.append(field)
        elif call.service in ("dynamodb", "dynamodbstreams") and place.startswith("dynamodb:") and _shows(call, place[9:]):
            attribute = field.place.replace("~", "~0").replace("/", "~1")
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


def sensitive(service: Service, call: Call) -> list[str]:
    """Members of an answer that the model calls sensitive, as places."""
    output = service.operations[call.operation].get("output")
    if output is None or call.service == "s3":
        return []
    as_json = call.protocol in ("json", "rest-json")
    found: list[str] = []
    _walk(service, output["shape"], (), found, as_json)
    return found


def _walk(service: Service, name: str, path: tuple[str, ...], found: list[str], as_json: bool) -> None:
    shape: dict[str, Any] = service.shape(name)
    if len(path) > MAX_DEPTH or len(found) >= MAX_FIELDS:
        return
    if shape.get("sensitive") and path and path[-1].lower() not in _NO_SECRET:
        found.append("json:/" + "/".join(path) if as_json else f"xml://{path[-1]}")
        return
    match shape["type"]:
        case "structure":
            for member, each in shape["members"].items():
                if each.get("location") is None:
                    _walk(service, each["shape"], (*path, each.get("locationName", member)), found, as_json)
        case "list":
            step = "*" if as_json else shape["member"].get("locationName", "member")
            _walk(service, shape["member"]["shape"], (*path, step), found, as_json)
        case "map":
            _walk(service, shape["value"]["shape"], (*path, "*" if as_json else "value"), found, as_json)
