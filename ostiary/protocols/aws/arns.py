"""What a call touches, as ARNs: by the patterns that AWS writes for each kind of resource, and the parameters that fill them.

`arn:aws:dynamodb:us-east-1:123456789012:table/${TableName}` is filled from the parameter that is called alike (`TableName`); a parameter
that is an ARN already counts as it is. Batches are taken apart: each thing that they touch is judged for what is done to it. Where a
call needs a resource and none can be told, it is opaque.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import unquote
from xml.parsers import expat

from ostiary.model.operations import Action
from ostiary.protocols.aws.actions import Access
from ostiary.protocols.aws.models import Call, Unreadable

MAX_TOUCHED: Final = 1000
Touched = list[tuple[str, Action]]
"""(ARN, what is done to it)."""

_VARIABLE: Final = re.compile(r"\$\{([A-Za-z0-9]+)\}")
_BUCKET: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,253}[A-Za-z0-9]")
_SUFFIX: Final = re.compile(r"(?:withpath|withoutleadingslash|identifiers?|names?|ids?|arns?|s)$")
_SECRET: Final = re.compile(r"(.+)-[A-Za-z0-9]{6}")
_ACCOUNT: Final = re.compile(r"[0-9]{12}")
_ALIKE: Final = {
    "dbclusterinstance": "dbcluster", "targetgrou": "targetgroup", "dbclustersnapshot": "dbclustersnapshot", "asynchrunjob": "job",
}  # fmt: skip
_MAKING: Final = ("Create", "Allocate", "Request", "Register", "Import")
"""What these touch is named by AWS once it is there."""
_GLOBAL: Final = frozenset({"iam", "s3", "sts", "cloudfront", "route53", "organizations"})
"""Services whose ARNs name no region."""


class Place:
    """Where a call goes: what every ARN of it begins with."""

    __slots__ = ("account", "partition", "region")

    def __init__(self, partition: str, region: str, account: str) -> None:
        self.partition, self.region, self.account = partition, region, account

    def arn(self, service: str, rest: str) -> str:
        """The ARN of something that is called `rest`."""
        region = "" if service in _GLOBAL else self.region
        return f"arn:{self.partition}:{service}:{region}:{self.account}:{rest}"


def touched(call: Call, action: Action, access: Access, place: Place, body: bytes) -> tuple[Touched, tuple[str, ...]]:
    """What a call touches, and what of it cannot be told. Raises `Unreadable`."""
    prefix = access.prefix(call.service)
    match call.service:
        case "s3":
            found = list(_s3(call, action, place, body))
        case "dynamodb":
            found = list(_dynamodb(call, action, place))
        case _:
            found = []
    found += _named(call, action, prefix, place)
    kinds = access.kinds(prefix, access.iam_action(prefix, call.operation))
    if call.service != "s3":
        found += [(arn, action) for arn in _filled(call.parameters, kinds, place)]
        found += [(value, action) for value in _arns(call.parameters)]
    found = list(dict.fromkeys(found))
    if len(found) > MAX_TOUCHED:
        raise Unreadable("ValidationError", f"the call touches more than {MAX_TOUCHED} things: split it")
    if found:
        return found, ()
    unknown = any(needed for _, needed in kinds) and action is not Action.READ and not call.operation.startswith(_MAKING)
    return [(place.arn(prefix, "*"), action)], ("what it touches cannot be told",) if unknown else ()


def _filled(parameters: dict[str, Any], kinds: list[tuple[str, bool]], place: Place) -> Iterator[str]:
    named: dict[str, list[str]] = {}
    for name, value in parameters.items():
        named.setdefault(stem(name), []).extend(_texts(value))
    for pattern, _ in kinds:
        variables = [each for each in _VARIABLE.findall(pattern) if each not in ("Region", "Account", "Partition")]
        if not variables:
            continue
        lists = [[v for v in named.get(stem(each), []) if v] for each in variables]
        if not lists[0]:
            continue
        for first in lists[0]:
            if first.startswith("arn:"):
                yield first
                continue
            filled = {"Region": place.region, "Account": place.account, "Partition": place.partition, variables[0]: first.lstrip("/")}
            for each, values in zip(variables[1:], lists[1:], strict=True):
                filled[each] = values[0] if len(values) == 1 and not values[0].startswith("arn:") else "*"
            text = _VARIABLE.sub(lambda found, held=filled: held[found[1]], pattern)  # type: ignore[misc]
            yield f"arn:{place.partition}:{text}"


def stem(name: str) -> str:
    """What a parameter and a variable of a pattern have in common: `TableName`, `InstanceIds` → `table`, `instance`."""
    low = name.lower()
    while (cut := _SUFFIX.sub("", low)) != low and cut:
        low = cut
    return _ALIKE.get(low, low)


def _texts(value: object) -> list[str]:
    if isinstance(value, str):
        return [value]
    return [each for each in value if isinstance(each, str)] if isinstance(value, list) else []


def _arns(parameters: dict[str, Any]) -> Iterator[str]:
    for value in parameters.values():
        yield from (each for each in _texts(value) if each.startswith("arn:") and each.count(":") >= 5 and len(each) <= 2048)


def _named(call: Call, action: Action, prefix: str, place: Place) -> Iterator[tuple[str, Action]]:
    """Things that are named in a way of their service's own."""
    given = call.parameters
    if prefix == "sqs" and isinstance(url := given.get("QueueUrl"), str):
        parts = url.rstrip("/").split("/")
        account = parts[-2] if len(parts) > 1 and _ACCOUNT.fullmatch(parts[-2]) else place.account
        yield f"arn:{place.partition}:sqs:{place.region}:{account}:{parts[-1]}", action
    elif prefix == "ssm" and "Parameter" in call.operation:
        for name in (*_texts(given.get("Name")), *_texts(given.get("Names"))):
            if not name.startswith("arn:"):
                yield place.arn("ssm", "parameter/" + name.partition(":")[0].lstrip("/")), action
        for path in _texts(given.get("Path")):
            yield place.arn("ssm", "parameter/" + path.strip("/") + ("/*" if path.strip("/") else "*")), action
    elif prefix == "secretsmanager":
        for name in (*_texts(given.get("SecretId")), *_texts(given.get("SecretIdList"))):
            bare = _SECRET.fullmatch(name.rpartition(":secret:")[2])
            if name.startswith("arn:") and bare is not None:
                yield place.arn("secretsmanager", "secret:" + bare[1]), action
        if call.operation == "CreateSecret":
            yield from ((place.arn("secretsmanager", "secret:" + name), action) for name in _texts(given.get("Name")))
    elif prefix == "lambda":
        for name in _texts(given.get("FunctionName")):
            plain = name.rpartition(":function:")[2].partition(":")[0]
            yield place.arn("lambda", "function:" + plain), action
    elif prefix == "sns" and call.operation == "CreateTopic":
        yield from ((place.arn("sns", name), action) for name in _texts(given.get("Name")))


# --- DynamoDB ---------------------------------------------------------------------------------------------------------

_DONE: Final = {
    "Put": Action.WRITE, "Update": Action.WRITE, "Delete": Action.DELETE, "ConditionCheck": Action.READ, "Get": Action.READ,
    "PutRequest": Action.WRITE, "DeleteRequest": Action.DELETE,
}  # fmt: skip


def _dynamodb(call: Call, action: Action, place: Place) -> Iterator[tuple[str, Action]]:
    given = call.parameters
    if call.operation in ("BatchWriteItem", "BatchGetItem"):
        for table, asked in _dict(given.get("RequestItems")).items():
            if call.operation == "BatchGetItem":
                yield _table(table, place), Action.READ
                continue
            for each in asked if isinstance(asked, list) else []:
                for word in _dict(each):
                    yield _table(table, place), _DONE.get(word, Action.OPAQUE)
    elif call.operation in ("TransactWriteItems", "TransactGetItems"):
        for each in given.get("TransactItems") or []:
            for word, inner in _dict(each).items():
                name = _dict(inner).get("TableName")
                if not isinstance(name, str):
                    raise Unreadable("ValidationException", "a part of the transaction names no table")
                yield _table(name, place), _DONE.get(word, Action.OPAQUE)
    elif call.operation in ("ExecuteStatement", "BatchExecuteStatement", "ExecuteTransaction"):
        yield place.arn("dynamodb", "table/*"), Action.OPAQUE
    elif isinstance(name := given.get("TableName"), str):
        yield _table(name, place), action


def _table(name: str, place: Place) -> str:
    return name if name.startswith("arn:") else place.arn("dynamodb", "table/" + name)


def _dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


# --- S3 ---------------------------------------------------------------------------------------------------------------


def _s3(call: Call, action: Action, place: Place, body: bytes) -> Iterator[tuple[str, Action]]:
    given = call.parameters
    bucket, key = given.get("Bucket"), given.get("Key")
    if bucket is None:
        yield s3_arn(place, "*"), action
        return
    if _BUCKET.fullmatch(bucket) is None:
        raise Unreadable("InvalidBucketName", "a bucket is named by its plain name here")
    if call.operation == "DeleteObjects":
        yield from ((s3_arn(place, bucket, each), Action.DELETE) for each in keys_to_delete(body))
        return
    yield s3_arn(place, bucket, key), action
    source = given.get("CopySource")
    if source is not None:
        yield s3_arn(place, *copy_source(source)), Action.READ


def s3_arn(place: Place, bucket: str, key: str | None = None) -> str:
    """The ARN of a bucket, or of an object in it."""
    return f"arn:{place.partition}:s3:::{bucket}" + ("" if key is None else f"/{key}")


def copy_source(written: str) -> tuple[str, str]:
    """(bucket, key) of an `x-amz-copy-source`. Raises `Unreadable`."""
    path = unquote(written.partition("?versionId=")[0], errors="strict").lstrip("/")
    bucket, slash, key = path.partition("/")
    if _BUCKET.fullmatch(bucket) is None or not slash or not key or "?" in written.replace("?versionId=", "", 1):
        raise Unreadable("InvalidArgument", "the source of a copy is written as bucket/key")
    if any(part in (".", "..") for part in key.split("/")):
        raise Unreadable("InvalidArgument", "the source of a copy has a dot segment")
    return bucket, key


def keys_to_delete(body: bytes) -> list[str]:
    """The keys of a DeleteObjects. Raises `Unreadable`."""
    path: list[str] = []
    keys: list[str] = []
    text: list[str] = []
    seen: list[int] = [0]

    def start(name: str, _: dict[str, str]) -> None:
        path.append(name.rpartition(":")[2])
        text.clear()
        if path == ["Delete", "Object"]:
            seen[0] = 0

    def end(_: str) -> None:
        if path == ["Delete", "Object", "Key"]:
            keys.append("".join(text))
            seen[0] += 1
        elif path == ["Delete", "Object"] and seen[0] != 1:
            raise Unreadable("MalformedXML", "an Object has exactly one Key")
        path.pop()

    read_xml(body, start, end, text.append)
    if not keys or not all(keys):
        raise Unreadable("MalformedXML", "no keys to delete")
    return keys


def read_xml(body: bytes, start: Any, end: Any, text: Any) -> None:
    """Read XML without a DTD of its own. Raises `Unreadable`."""
    parser = expat.ParserCreate("UTF-8")
    parser.StartElementHandler, parser.EndElementHandler, parser.CharacterDataHandler = start, end, text

    def refuse(*_: object) -> None:
        raise Unreadable("MalformedXML", "a document type declaration is never read")

    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(body, True)
    except expat.ExpatError:
        raise Unreadable("MalformedXML", "the body is no XML") from None
