"""What a call touches, as ARNs: by the patterns that AWS writes for each kind of resource, and the parameters that fill them.

`arn:aws:dynamodb:us-east-1:123456789012:table/${TableName}` is filled from the parameter that is called alike (`TableName`); a parameter
that is an ARN already counts as it is. Batches are taken apart: each thing that they touch is judged for what is done to it. Where a
call needs a resource and none can be told, it is opaque.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Final
from urllib.parse import unquote

from ostiary.model.operations import Action
from ostiary.protocols.aws.actions import Access, gives_rights
from ostiary.protocols.aws.documents import Misread, read_xml
from ostiary.protocols.aws.models import Call, Unreadable

MAX_TOUCHED: Final = 1000
Touched = list[tuple[str, Action]]
"""(ARN, what is done to it)."""

_VARIABLE: Final = re.compile(r"\$\{([A-Za-z0-9]+)\}")
_BUCKET: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,253}[A-Za-z0-9]")
_NO_BUCKET: Final = re.compile(r".*(?:-s3alias|--ol-s3|--x-s3|--xa-s3|--table-s3|\.mrap)", re.IGNORECASE)
"""Names that S3 keeps for what is no bucket of its own, or leads to another: access points, directory buckets."""
_SUFFIX: Final = re.compile(r"(?:withpath|withoutleadingslash|identifiers?|names?|ids?|arns?|s)$")
_SECRET: Final = re.compile(r"(.+)-[A-Za-z0-9]{6}")
_ROLE: Final = re.compile(r"arn:[a-z-]+:iam::[0-9]{12}:(?:role|instance-profile)/")
_ROLE_BY_NAME: Final = re.compile(r"(?:[A-Za-z]*[a-z])?(?:RoleArn|RoleARN|roleArn)|[iI]amRole|AutoScalingRole|[sS]erviceRole|spotIamFleetRole")
_PROFILE_BY_NAME: Final = re.compile(r"IamInstanceProfile|JobFlowRole|instanceRole")
"""Parameters that take the name of a role, or of an instance profile, in place of its ARN."""
_NAME: Final = re.compile(r"[A-Za-z0-9_+=,.@/-]{1,576}")
"""What names of IAM are made of, with their path."""
_QUEUE: Final = re.compile(r"(?:https?://[A-Za-z0-9.-]+(?::[0-9]{1,5})?/)?(?:([0-9]{12})/)?([A-Za-z0-9_-]{1,80}(?:\.fifo)?)")
_SECRET_AS_PARAMETER: Final = "/aws/reference/secretsmanager/"  # noqa: S105 - a path
"""SSM's name of what Secrets Manager keeps."""
_LOWER: Final = frozenset({"rds", "redshift", "elasticache", "memorydb", "dms", "dax"})
"""Services that keep identifiers in lower case, and take them in any."""
MAX_DEPTH: Final = 64
_ACCOUNT: Final = re.compile(r"[0-9]{12}")
_ALIKE: Final = {
    "dbclusterinstance": "dbcluster", "targetgrou": "targetgroup", "dbclustersnapshot": "dbclustersnapshot", "asynchrunjob": "job",
}  # fmt: skip
_FUNCTION: Final = re.compile(
    r"(?:arn:(aws[a-z-]*):lambda:)?(?:([a-z]{2,4}(?:-[a-z]+){1,3}-[0-9]):)?(?:([0-9]{12}):)?(?:function:)?([A-Za-z0-9_.-]{1,140})(?::[A-Za-z0-9$_.-]{1,128})?"
)
"""As Lambda's model writes it: an ARN, from whatever part of it on."""
_OWNERS: Final = frozenset({
    "registryid", "catalogid", "tablecatalogid", "parentcatalogid", "accountid", "awsaccountid", "backupvaultaccountid", "workflowownerid",
    "owneraccount", "owneraccountid", "resourceowneraccountid", "eventdatastoreowneraccountid", "domainowner", "queueownerawsaccountid",
    "owningaccount", "eventbusaccountid", "resourceownerawsaccountid", "sloownerawsaccountid",
})  # fmt: skip
"""Parameters that say in which account is what a call names, in lower case."""
_OF_ACCOUNTS: Final = frozenset({"organizations", "sso", "ram"})
"""Services in which an account is what is acted on, or with whom something is shared."""
_DOES: Final = re.compile(r"(?i)\w*action|\w*action_?type|op|operation|\w*operation_?type|update_?type|update_?mode|change_?type|mutation_?type")
_TAKES_AWAY: Final = re.compile(
    r"(?i)deletes?|\w+todelete|delete_?(?:agents|data\w*entries|\w*entities\w*|files|keys|objects?|public_?keys|requests?|region_?action|"
    r"replication|rule|type|type_?value|variable|\w*strategies|arguments|properties)"
)
"""Words of AWS's models under which stands what is to go, in a call that does other things too."""
_TOLD: Final = frozenset({("dynamodb", "BatchWriteItem"), ("dynamodb", "TransactWriteItems"), ("dynamodb", "UpdateItem"), ("s3", "DeleteObjects")})
"""Of which it is known what is done to what."""
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


def touched(call: Call, action: Action, access: Access, place: Place, body: bytes, *, with_rights: bool = True) -> tuple[Touched, tuple[str, ...]]:
    """What a call touches, and what of it cannot be told; `with_rights`: also the rights that it gives besides. Raises `Unreadable`."""
    prefix = access.prefix(call.service)
    kinds = access.kinds(prefix, access.iam_action(prefix, call.operation))
    places = _places(call, prefix, place)
    changes = action is not Action.READ and not call.operation.startswith(_MAKING)
    found: Touched = []
    for each in places:
        match call.service:
            case "s3":
                found += _s3(call, action, each, body)
            case "dynamodb":
                found += _dynamodb(call, action, each)
        found += _named(call, action, prefix, each)
    told = bool(found)
    parts: tuple[str, ...] = ()
    if call.service != "s3":
        filled = [each for there in places for each in _filled(_unnamed(prefix, call.parameters), kinds, there)]
        found += [(arn, action) for arn, _ in filled]
        if changes and not all(whole for _, whole in filled):
            parts = ("what it touches cannot be told whole",)
        found += [(value, action) for value in _arns(call.parameters)]
    needs = any(needed for _, needed in kinds)
    if not found or not (told or _is_told(found, kinds, needs=needs)):  # what is there may be an ARN of something else
        found += [(each.arn(prefix, "*"), action) for each in places]
        parts = ("what it touches cannot be told",) if needs and changes else parts
    found += _besides(call, prefix, place, found, with_rights=with_rights) if action is not Action.READ else []
    if prefix in _LOWER:
        found = [(_lower(arn, prefix), each) for arn, each in found]
    found = list(dict.fromkeys(found))
    if len(found) > MAX_TOUCHED:
        raise Unreadable("ValidationError", f"the call touches more than {MAX_TOUCHED} things: split it")
    return found, parts


def _besides(call: Call, prefix: str, place: Place, found: Touched, *, with_rights: bool) -> Touched:
    """What a change does besides: roles that it passes on, rights that it gives, and parts that it takes away."""
    made: Touched = []
    if prefix != "iam":
        made += [(arn, Action.ADMINISTER) for arn in passed(call.parameters, place)]
    if with_rights and gives_rights(call.parameters):
        made += [(arn, Action.ADMINISTER) for arn, _ in found]
    if (call.service, call.operation) not in _TOLD and takes_away(call.parameters):
        made += [(arn, Action.DELETE) for arn, _ in [*found, *made]]
    return made


def _places(call: Call, prefix: str, place: Place) -> list[Place]:
    """Where what a call names is: in the account that it says, or in the connection's own."""
    said: dict[str, None] = {}
    for name, value in call.parameters.items():
        if name.lower() in _OWNERS and prefix not in _OF_ACCOUNTS:
            said |= dict.fromkeys(_accounts(value))
    said = said or {place.account: None}
    said |= dict.fromkeys(_catalogs(call.parameters, 0))
    return [Place(place.partition, place.region, account) for account in said]


def _accounts(value: object) -> Iterator[str]:
    """A catalogue is called by its account, or by what is in it: `123456789012:catalog`."""
    for each in _texts(value):
        found = _ACCOUNT.match(each)
        if found is not None and each[12:13] in ("", ":"):
            yield found[0]


def _catalogs(given: Any, depth: int) -> Iterator[str]:
    """Accounts of catalogues that are named somewhere inside."""
    if depth > MAX_DEPTH:
        raise Unreadable("ValidationError", f"the call is nested more than {MAX_DEPTH} deep")
    for name, value in given.items() if isinstance(given, dict) else ():
        if depth and isinstance(name, str) and name.lower() == "catalogid":
            yield from _accounts(value)
        elif isinstance(value, dict | list):
            yield from _catalogs(value, depth + 1)
    for value in given if isinstance(given, list) else ():
        yield from _catalogs(value, depth + 1)


def _is_told(found: Touched, kinds: list[tuple[str, bool]], *, needs: bool) -> bool:
    """Whether something of a kind that the call touches is among what was found; if it `needs` none, it is."""
    return not needs or any(_like(pattern).fullmatch(arn) is not None for pattern, _ in kinds for arn, _ in found)


@lru_cache(maxsize=4096)
def _like(pattern: str) -> re.Pattern[str]:
    """ARNs of a pattern."""
    return re.compile("arn:[a-z-]+:" + ".*".join(re.escape(part) for part in re.split(r"\$\{[A-Za-z0-9]+\}|\*", pattern)))


def _lower(arn: str, prefix: str) -> str:
    """The ARN as its service keeps it."""
    parts = arn.split(":", 5)
    return ":".join([*parts[:5], parts[5].lower()]) if len(parts) == 6 and parts[2] == prefix else arn


def _unnamed(prefix: str, parameters: dict[str, Any]) -> dict[str, Any]:
    """Parameters that are filled into patterns: without those that `_named` reads in their service's own way."""
    own = {"lambda": ("FunctionName",), "kms": ("KeyId", "AliasName"), "sqs": ("QueueUrl",)}.get(prefix, ())
    return {name: value for name, value in parameters.items() if name not in own}


def _filled(parameters: dict[str, Any], kinds: list[tuple[str, bool]], place: Place) -> Iterator[tuple[str, bool]]:
    """(ARN, whether all of it is known): `*` stands for what is not. Several values are several things."""
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
        yield from ((first, True) for first in lists[0] if first.startswith("arn:"))
        plain = [
            [v.lstrip("/") if f"/${{{variable}}}" in pattern else v for v in values if not v.startswith("arn:")]
            for variable, values in zip(variables, lists, strict=True)
        ]
        within = [(place, each) for each in plain[0]]
        if len(variables) > 1:  # what it is in can be named by its ARN
            within += [_inside(v, place) for v in lists[0] if v.startswith("arn:") and not _like(pattern).fullmatch(v)]
        if math.prod((len(within), *(max(1, len(values)) for values in plain[1:]))) > MAX_TOUCHED:
            raise Unreadable("ValidationError", f"the call touches more than {MAX_TOUCHED} things: split it")
        for (there, first), others in itertools.product(within, itertools.product(*(values or ["*"] for values in plain[1:]))):
            filled = {"Region": there.region, "Account": there.account, "Partition": there.partition, **dict(zip(variables, (first, *others), strict=True))}
            text = _VARIABLE.sub(lambda found, held=filled: held[found[1]], pattern)  # type: ignore[misc]
            yield f"arn:{there.partition}:{text}", all(plain[1:])


def _inside(arn: str, place: Place) -> tuple[Place, str]:
    """Where the thing of that ARN is, and its name."""
    parts = [*arn.split(":", 5), "", "", "", "", ""]
    return Place(parts[1] or place.partition, parts[3] or place.region, parts[4] or place.account), _TAIL.split(parts[5])[-1]


_TAIL: Final = re.compile("[:/]")


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


def passed(parameters: Any, place: Place, depth: int = 0) -> Iterator[str]:
    """Roles that a call gives to something else to act by, at whatever depth it names them: what IAM calls `iam:PassRole`."""
    if depth > MAX_DEPTH:
        raise Unreadable("ValidationError", f"the call is nested more than {MAX_DEPTH} deep")
    for each in parameters if isinstance(parameters, list) else ():
        yield from [each] if isinstance(each, str) and _ROLE.match(each) is not None else passed(each, place, depth + 1)
    for name, each in parameters.items() if isinstance(parameters, dict) else ():
        if isinstance(each, str):
            yield from _role(str(name), each, place)
        else:
            yield from passed(each, place, depth + 1)
    if isinstance(parameters, dict) and isinstance(profile := parameters.get("IamInstanceProfile"), dict):
        yield from (f"arn:{place.partition}:iam::{place.account}:instance-profile/{name}" for name in _texts(profile.get("Name")))


def _role(name: str, value: str, place: Place) -> Iterator[str]:
    """The role, or the instance profile, that a parameter names: by its ARN, or where the service takes that by its name."""
    if _ROLE.match(value) is not None:
        yield value
    elif _NAME.fullmatch(value) is not None:
        kind = "role" if _ROLE_BY_NAME.fullmatch(name) else "instance-profile" if _PROFILE_BY_NAME.fullmatch(name) else ""
        if kind:
            yield f"arn:{place.partition}:iam::{place.account}:{kind}/{value.lstrip('/')}"


def takes_away(given: Any, depth: int = 0) -> bool:
    """Whether a call that changes something is told, somewhere inside, to delete a part of it."""
    if depth > MAX_DEPTH:
        raise Unreadable("ValidationError", f"the call is nested more than {MAX_DEPTH} deep")
    if isinstance(given, list):
        return any(takes_away(each, depth + 1) for each in given)
    for name, value in given.items() if isinstance(given, dict) else ():
        if isinstance(value, str):
            if value.lower() == "delete" and _DOES.fullmatch(name) is not None:
                return True
        elif value and (_TAKES_AWAY.fullmatch(name) is not None or takes_away(value, depth + 1)):
            return True
    return False


def _named(call: Call, action: Action, prefix: str, place: Place) -> Iterator[tuple[str, Action]]:
    """Things that are named in a way of their service's own."""
    given = call.parameters
    match prefix:
        case "sqs":
            yield from ((_queue(url, place), action) for url in _texts(given.get("QueueUrl")))
        case "ssm" if "Parameter" in call.operation:
            yield from ((arn, action) for arn in _parameters(given, place))
        case "secretsmanager":
            yield from ((arn, action) for arn in _secrets(call, place))
        case "kms":
            yield from ((arn, action) for name, value in given.items() for each in _texts(value) for arn in _key(name, each, place))
        case "lambda":
            yield from ((_function(name, place), action) for name in _texts(given.get("FunctionName")))
        case "sns" if call.operation == "CreateTopic":
            yield from ((place.arn("sns", name), action) for name in _texts(given.get("Name")))


def _queue(url: str, place: Place) -> str:
    """The ARN of a queue: the last two parts of its URL's path, or its name. Raises `Unreadable`."""
    found = _QUEUE.fullmatch(url)
    if found is None:
        raise Unreadable("InvalidAddress", "QueueUrl is not written as SQS writes it: https://HOST/ACCOUNT/NAME")
    return f"arn:{place.partition}:sqs:{place.region}:{found[1] or place.account}:{found[2]}"


def _parameters(given: dict[str, Any], place: Place) -> Iterator[str]:
    """Parameters of SSM, whatever version of them is asked for; and the secrets that some of them are."""
    for name in (*_texts(given.get("Name")), *_texts(given.get("Names"))):
        if name.startswith("arn:"):
            yield ":".join(name.split(":")[:6])
        else:
            yield place.arn("ssm", "parameter/" + name.partition(":")[0].lstrip("/"))
        found = name.partition(_SECRET_AS_PARAMETER)[2]
        if found:
            yield place.arn("secretsmanager", "secret:" + found.partition(":")[0])
    for path in _texts(given.get("Path")):
        yield place.arn("ssm", "parameter/" + path.strip("/") + ("/*" if path.strip("/") else "*"))


def _secrets(call: Call, place: Place) -> Iterator[str]:
    """Secrets by their names, or by ARNs: with what Secrets Manager appends to those, and without."""
    given = call.parameters
    for name in (*_texts(given.get("SecretId")), *_texts(given.get("SecretIdList"))):
        if not name.startswith("arn:"):
            yield place.arn("secretsmanager", "secret:" + name)
        elif ":secret:" in name and (bare := _SECRET.fullmatch(name)) is not None:
            yield bare[1]
    if call.operation == "CreateSecret":
        yield from (place.arn("secretsmanager", "secret:" + name) for name in _texts(given.get("Name")))


def _key(name: str, value: str, place: Place) -> Iterator[str]:
    """Keys of KMS, and aliases, which are things of their own."""
    if value.startswith("alias/"):
        yield place.arn("kms", value)
    elif name.endswith("KeyId") and value:
        yield value if value.startswith("arn:") else place.arn("kms", "key/" + value)


def _function(name: str, place: Place) -> str:
    """The ARN of a function that is called by its name, or by any part of its ARN that Lambda takes. Raises `Unreadable`."""
    found = _FUNCTION.fullmatch(name)
    if found is None:
        raise Unreadable("ValidationException", "FunctionName is neither a name nor an ARN of a function, or of a part of one")
    partition, region, account, plain = found.groups()
    return f"arn:{partition or place.partition}:lambda:{region or place.region}:{account or place.account}:function:{plain}"


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
    if not _is_bucket(bucket):
        raise Unreadable("InvalidBucketName", "a bucket is named by its plain name here, and an access point is none")
    if call.operation == "DeleteObjects":
        yield from ((s3_arn(place, bucket, each), Action.DELETE) for each in keys_to_delete(body))
        return
    yield s3_arn(place, bucket, key), action
    source = given.get("CopySource")
    if source is not None:
        yield s3_arn(place, *copy_source(source)), Action.READ


def _is_bucket(name: str) -> bool:
    """Whether it is the plain name of a bucket."""
    return _BUCKET.fullmatch(name) is not None and _NO_BUCKET.fullmatch(name) is None


def s3_arn(place: Place, bucket: str, key: str | None = None) -> str:
    """The ARN of a bucket, or of an object in it."""
    return f"arn:{place.partition}:s3:::{bucket}" + ("" if key is None else f"/{key}")


def copy_source(written: str) -> tuple[str, str]:
    """(bucket, key) of an `x-amz-copy-source`. Raises `Unreadable`."""
    try:
        path = unquote(written.partition("?versionId=")[0], errors="strict").lstrip("/")
    except UnicodeDecodeError:
        raise Unreadable("InvalidArgument", "the source of a copy is not UTF-8") from None
    if "+" in written:  # a space to S3, and to others itself
        raise Unreadable("InvalidArgument", "the source of a copy is percent-encoded: write + as %2B, and a space as %20")
    bucket, slash, key = path.partition("/")
    if not _is_bucket(bucket) or not slash or not key or "?" in written.replace("?versionId=", "", 1):
        raise Unreadable("InvalidArgument", "the source of a copy is written as bucket/key")
    if any(part in (".", "..") for part in key.split("/")):
        raise Unreadable("InvalidArgument", "the source of a copy has a dot segment")
    return bucket, key


_IN_DELETE: Final = frozenset({
    ("Delete",), ("Delete", "Quiet"), ("Delete", "Object"), ("Delete", "Object", "Key"), ("Delete", "Object", "VersionId"),
    ("Delete", "Object", "ETag"), ("Delete", "Object", "LastModifiedTime"), ("Delete", "Object", "Size"),
})  # fmt: skip
"""Every element of a DeleteObjects, by S3's API reference."""
_S3_NAMESPACE: Final = "http://s3.amazonaws.com/doc/2006-03-01/"


class _ToDelete:
    """Reads a DeleteObjects: it goes out as it came, so every reader of XML must see in it what is seen here."""

    def __init__(self) -> None:
        self.keys: list[str] = []
        self._path: tuple[str, ...] = ()
        self._text: list[str] = []
        self._in_object: set[str] = set()

    def start(self, name: str, attributes: dict[str, str]) -> None:
        self._path = (*self._path, name)
        plain = not attributes or (len(self._path) == 1 and attributes == {"xmlns": _S3_NAMESPACE})
        if self._path not in _IN_DELETE or not plain:
            raise Unreadable("MalformedXML", "an element or an attribute that a DeleteObjects does not have")
        if len(self._path) == 3 and name in self._in_object:
            raise Unreadable("MalformedXML", f"an Object has its {name} twice")
        self._in_object = {*self._in_object, name} if len(self._path) == 3 else set()
        self._text = []

    def end(self, name: str) -> None:
        if len(self._path) == 3 and name == "Key":
            self.keys.append("".join(self._text))
        elif len(self._path) == 2 and name == "Object" and "Key" not in self._in_object:
            raise Unreadable("MalformedXML", "an Object has exactly one Key")
        self._path, self._text = self._path[:-1], []

    def text(self, text: str) -> None:
        if len(self._path) < 3 and self._path[-1:] != ("Quiet",) and text.strip():
            raise Unreadable("MalformedXML", "text between the elements of a DeleteObjects")
        self._text.append(text)


def keys_to_delete(body: bytes) -> list[str]:
    """The keys of a DeleteObjects. Raises `Unreadable`."""
    read = _ToDelete()
    try:
        read_xml(body, read)
    except Misread as exc:
        raise Unreadable("MalformedXML", str(exc)) from None
    if not read.keys or not all(read.keys):
        raise Unreadable("MalformedXML", "no keys to delete")
    return read.keys
