"""A request in, the call that it is out: which operation of which service, with which parameters, by AWS's own service models.

Every wire protocol names its operation elsewhere: `query` and `ec2` in a form (`Action`, `Version`), `json` in `X-Amz-Target`, the REST
ones in method and path. What a model does not hold is refused: a parameter, a header or a query parameter that is not known here could
change what the service does. Bodies are read once, strictly: a JSON key twice, or a form's name twice, is no request.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from types import UnionType
from typing import Any, Final
from urllib.parse import unquote_to_bytes

import msgspec

from ostiary.protocols.aws import documents, forms
from ostiary.protocols.aws.forms import MAX_FORM
from ostiary.protocols.aws.sigv4 import AwsTarget
from ostiary.protocols.http.messages import Header, values

MAX_DEPTH: Final = 64
SERVICE_HEADERS: Final = frozenset({
    b"x-amz-date", b"x-amz-content-sha256", b"x-amz-security-token", b"x-amz-target", b"x-amz-user-agent", b"x-amz-api-version",
    b"x-amz-decoded-content-length", b"x-amz-trailer", b"x-amz-sdk-checksum-algorithm",
})  # fmt: skip
"""Those that belong to no operation."""

NOT_HERE: Final = frozenset({("s3", "ListDirectoryBuckets"), ("s3", "CreateSession"), ("s3", "WriteGetObjectResponse"), ("s3", "RenameObject")})
"""(service, operation) that are served elsewhere than what they are routed like."""
SECRETIVE: Final = re.compile(
    r"(?i)(?:.*[a-z])?(?:password|passphrase|(?:client|shared|signing)_?secret|secret_?(?:access_?key|key|token|string|binary)|private_?key|api_?key|auth_?key|"
    r"(?:auth|access|refresh|id|bearer|session|signed|participant|hec)_?token|token_?value|(?:activation|unlock|authorization|auth|confirmation|verification)_?code|"
    r"pre_?shared_?key|(?:pre)?signed_?ur[li]|(?:app|nwk)_?s_?key|personal_?pin)|secret|token_?code"
)
"""Members that are called like a secret, whether or not the model calls them sensitive."""
_FORM: Final = re.compile(rb"(?:[A-Za-z0-9!$'()*,:@\-._~/?;+&=\[\]{}|^`\"<>\\]|%[0-9A-Fa-f]{2})*")


_PLAIN: Final[dict[str, type | UnionType]] = {
    "string": str, "character": str, "blob": str, "boolean": bool, "integer": int, "long": int, "short": int, "byte": int,
    "float": int | float | str, "double": int | float | str, "timestamp": int | float | str,
}  # fmt: skip
"""How plain values are written in JSON. `NaN` and dates are texts."""


class Unreadable(Exception):
    """The request is no call that is known here. `code` is AWS's own name for why."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.code = code
        self.status = status


class Call(msgspec.Struct, frozen=True):
    """What a request asks for."""

    service: str
    """botocore's name of it: `s3`, `cloudwatch`."""
    operation: str
    protocol: str
    """`query`, `ec2`, `json`, `rest-json` or `rest-xml`."""
    parameters: dict[str, Any]
    """By the model's names: as they were decoded."""
    quiet: frozenset[str]
    """Parameters that hold secrets or content: no log and no policy sees them."""
    headers: frozenset[bytes]
    """Request headers that belong to the operation, in lower case."""
    prefixes: tuple[bytes, ...]
    """And how others may begin: `x-amz-meta-`."""
    streams: bool
    """Its body is content, and not parameters."""
    events: bool
    """Its answer is a stream of events."""
    json_version: str = "1.0"


class Route:
    """Where a REST operation is: method, parts of the path, words of the query."""

    __slots__ = ("deprecated", "literals", "method", "name", "needed", "parts", "words")

    def __init__(self, name: str, operation: dict[str, Any], needed: frozenset[tuple[str, str]]) -> None:
        path, _, query = operation["http"]["requestUri"].partition("?")
        self.name = name
        self.method = operation["http"]["method"].encode()
        self.parts = tuple(path[1:].split("/"))
        self.words = dict(each.partition("=")[::2] for each in query.split("&") if each)
        self.literals = sum(not part.startswith("{") for part in self.parts)
        self.needed = needed
        self.deprecated = bool(operation.get("deprecated"))

    def match(self, segments: tuple[str, ...]) -> dict[str, str] | None:
        """The path's labels; None: another path."""
        parts = self.parts
        greedy = parts[-1].endswith("+}")
        if len(segments) < len(parts) or (len(segments) > len(parts) and not greedy):
            return None
        found = {}
        for part, segment in zip(parts, segments, strict=False):
            if not part.startswith("{"):
                if part != segment:
                    return None
            else:
                found[part[1:-1].rstrip("+")] = segment
        if greedy:
            found[parts[-1][1:-2]] = "/".join(segments[len(parts) - 1 :])
        return found if all(found.values()) else None


class Service:
    """One service, by its model."""

    def __init__(self, name: str, model: dict[str, Any]) -> None:
        said = model["metadata"]
        self.name = name
        self.version: str = said["apiVersion"]
        self.protocols = frozenset(said.get("protocols") or [said["protocol"]]) | {said["protocol"]}
        self.target: str = said.get("targetPrefix", "")
        self.json_version: str = said.get("jsonVersion", "1.0")
        self.operations: dict[str, Any] = model["operations"]
        self._shapes: dict[str, Any] = model["shapes"]
        self._routes: list[Route] | None = None

    # --- finding the operation ---

    def by_target(self, named: str) -> str | None:
        """The operation of an `X-Amz-Target`."""
        prefix, _, name = named.rpartition(".")
        fits = "json" in self.protocols and prefix == self.target and name in self.operations
        return name if fits else None

    def by_form(self, form: dict[str, str]) -> str | None:
        """The operation of a form's `Action` and `Version`."""
        name = form.get("Action", "")
        fits = self.protocols & {"query", "ec2"} and form.get("Version") == self.version and name in self.operations
        return name if fits else None

    def by_route(self, method: bytes, target: AwsTarget, headers: tuple[Header, ...]) -> tuple[str, dict[str, str]] | None:
        """The operation of a method and a path, and the labels in it. Raises `Unreadable` where two would do."""
        if not self.protocols & {"rest-json", "rest-xml"}:
            return None
        query = dict(target.query)
        twice = {name for name, count in Counter(name for name, _ in target.query).items() if count > 1}
        given = frozenset([("header", name.lower().decode("latin-1")) for name, _ in headers] + [("querystring", n) for n in query])
        found = []
        for route in self.routes():
            if route.method != method or not route.needed <= given:
                continue
            if twice & route.words.keys() or any(query.get(word) != value for word, value in route.words.items()):
                continue
            labels = route.match(target.segments)
            if labels is None or not self._knows(route, query, headers):
                continue
            rank = (len(route.words), route.literals, len(route.parts), len(route.needed), not route.deprecated)
            found.append((rank, route.name, labels))
        if not found:
            return None
        found.sort(key=lambda each: each[0], reverse=True)
        if len(found) > 1 and found[0][0] == found[1][0]:
            raise Unreadable("InvalidRequest", f"the request could be {found[0][1]} or {found[1][1]}")
        return found[0][1], found[0][2]

    def routes(self) -> list[Route]:
        """All of them, made once."""
        if self._routes is None:
            here = ((name, each) for name, each in self.operations.items() if (self.name, name) not in NOT_HERE)
            self._routes = [Route(name, each, self._needed(each)) for name, each in here]
        return self._routes

    def _needed(self, operation: dict[str, Any]) -> frozenset[tuple[str, str]]:
        shape = self._input(operation)
        return frozenset(
            (member["location"], member["locationName"].lower() if member["location"] == "header" else member["locationName"])
            for name, member in shape["members"].items()
            if name in shape.get("required", ()) and member.get("location") in ("header", "querystring")
        )

    def _knows(self, route: Route, query: dict[str, str], headers: tuple[Header, ...]) -> bool:
        """Whether the operation has a word for everything that stands in query and headers."""
        located = self._located(self.operations[route.name])
        known = {name for where, name in located if where == "querystring"} | set(route.words) | {"x-id"}
        if query.get("x-id", route.name) != route.name:
            return False
        if "*" not in known and set(query) - known:
            return False
        names, prefixes = self.headers_of(route.name)
        return all(
            lower in names or lower in SERVICE_HEADERS or lower.startswith(prefixes)
            for lower in (name.lower() for name, _ in headers)
            if lower.startswith(b"x-amz-")
        )

    def headers_of(self, operation: str) -> tuple[frozenset[bytes], tuple[bytes, ...]]:
        """Names of an operation's headers in lower case, and how others may begin."""
        located = self._located(self.operations[operation])
        names = frozenset(name.lower().encode() for where, name in located if where == "header")
        prefixes = tuple(name.lower().encode() for where, name in located if where == "headers" and name)
        if self.operations[operation].get("httpChecksum"):
            prefixes += (b"x-amz-checksum-",)
        return names, prefixes

    def shape(self, name: str) -> dict[str, Any]:
        """A shape of the model."""
        found: dict[str, Any] = self._shapes[name]
        return found

    def input_of(self, operation: str) -> dict[str, Any]:
        """The shape of an operation's parameters."""
        return self._input(self.operations[operation])

    def form_of(self, operation: str, parameters: dict[str, Any], *, ec2: bool) -> dict[str, str]:
        """The form of a call with these parameters, by the model's names."""
        named = {"Action": operation, "Version": self.version}
        return named | forms.write(self._shapes, self.input_of(operation), parameters, ec2=ec2)

    def _input(self, operation: dict[str, Any]) -> dict[str, Any]:
        if "input" not in operation:
            return {"type": "structure", "members": {}}
        found: dict[str, Any] = self._shapes[operation["input"]["shape"]]
        return found

    def _located(self, operation: dict[str, Any]) -> list[tuple[str, str]]:
        found = []
        for name, member in self._input(operation)["members"].items():
            where = member.get("location", "")
            takes_any = where == "querystring" and self._shapes[member["shape"]]["type"] == "map"
            found.append((where, "*" if takes_any else member.get("locationName", name)))
        return found

    # --- its parameters ---

    def call(
        self, name: str, protocol: str, *, target: AwsTarget | None = None, labels: dict[str, str] | None = None,
        headers: tuple[Header, ...] = (), body: bytes | None = b"", form: dict[str, str] | None = None,
    ) -> Call:  # fmt: skip
        """Read the parameters. `body` None: it streams, and is content. Raises `Unreadable`."""
        operation = self.operations[name]
        shape = self._input(operation)
        payload = shape.get("payload")
        content = payload is not None and self._shapes[shape["members"][payload]["shape"]]["type"] in ("blob", "string")
        parameters: dict[str, Any] = {}
        if form is not None:
            parameters = self._form(shape, form, ec2=protocol == "ec2")
        elif protocol == "json":
            parameters = _named(shape, self._json(shape, body))
        else:
            parameters = self._rest(shape, labels or {}, target, headers)
            if not content:
                parameters |= self._body(name, protocol, body)
        names, prefixes = self.headers_of(name)
        return Call(
            self.name, name, protocol, parameters, self._quiet(shape), names, prefixes, content, self._events(operation),
            self.json_version,
        )  # fmt: skip

    def _rest(
        self, shape: dict[str, Any], labels: dict[str, str], target: AwsTarget | None, headers: tuple[Header, ...]
    ) -> dict[str, Any]:
        query: dict[str, list[str]] = {}
        for key, value in () if target is None else target.query:
            query.setdefault(key, []).append(value)
        found: dict[str, Any] = {}
        for name, member in shape["members"].items():
            spelled = member.get("locationName", name)
            match member.get("location"):
                case "uri" if spelled in labels:
                    found[name] = labels[spelled]
                case "querystring" if spelled in query:
                    several = query[spelled]
                    if len(several) > 1 and self._shapes[member["shape"]]["type"] != "list":
                        raise Unreadable("InvalidRequest", f"{spelled} is there twice in the query")
                    found[name] = several[0] if len(several) == 1 else several
                case "header":
                    sent = values(headers, spelled.lower().encode())
                    if len(sent) > 1:
                        raise Unreadable("InvalidRequest", f"the header {spelled} is there twice")
                    if sent:
                        found[name] = sent[0].decode("latin-1")
        return found

    def document(self, operation: str) -> documents.Form:
        """How the body of an operation of `rest-xml` is written."""
        said, shape = self.operations[operation]["input"], self.input_of(operation)
        payload = shape.get("payload")
        if payload is not None:
            said = shape["members"][payload]
            shape = self._shapes[said["shape"]]
        root = said.get("locationName") or payload or said["shape"]
        return documents.Form(self._shapes, shape, root, said.get("xmlNamespace", {}).get("uri", ""))

    def _body(self, name: str, protocol: str, body: bytes | None) -> dict[str, Any]:
        """Parameters that stand in the body of a REST call. What is one parameter stands by its name, and what is plain in it by its own too."""
        shape = self.input_of(name)
        payload = shape.get("payload")
        if protocol == "rest-json":
            inner = shape if payload is None else self._shapes[shape["members"][payload]["shape"]]
            whole = self._json(inner, body)
        elif body is None:
            raise Unreadable("RequestEntityTooLarge", "the parameters are larger than can be judged", 413)
        elif body.strip():
            whole = self._document(name, body)
        else:
            return {}
        if payload is None:
            return _named(shape, whole) if protocol == "rest-json" else whole
        return {key: value for key, value in whole.items() if isinstance(value, str | int | float | bool)} | ({payload: whole} if whole else {})

    def _document(self, name: str, body: bytes) -> dict[str, Any]:
        if "input" not in self.operations[name]:
            raise Unreadable("MalformedXML", f"{name} has no body")
        try:
            return self.document(name).read(body)
        except documents.Misread as exc:
            raise Unreadable("MalformedXML", str(exc)) from None

    def _json(self, shape: dict[str, Any], body: bytes | None) -> dict[str, Any]:
        if body is None:
            raise Unreadable("RequestEntityTooLarge", "the parameters are larger than can be judged", 413)
        if not body.strip():
            return {}
        whole = read_json(body)
        if not isinstance(whole, dict):
            raise Unreadable("SerializationException", "the body is no JSON object")
        self._check(shape, whole, 0)
        return whole

    def _check(self, shape: dict[str, Any], value: object, depth: int) -> None:
        """Whether the model has a word for all of it."""
        if depth > MAX_DEPTH:
            raise Unreadable("SerializationException", f"the body is nested more than {MAX_DEPTH} deep")
        kind = shape["type"]
        if value is None or (kind == "structure" and shape.get("document")):
            return
        if kind == "structure":
            if not isinstance(value, dict):
                raise Unreadable("SerializationException", "a structure is written as something else")
            known = {member.get("locationName", name): member for name, member in shape["members"].items() if not _elsewhere(member)}
            for key, inner in value.items():
                if key not in known and key != "__type":
                    raise Unreadable("UnknownParameter", f"the parameter {key[:64]!r} is not in the model of the operation that is known here")
                if key in known:
                    self._check(self._shapes[known[key]["shape"]], inner, depth + 1)
        elif kind == "list" and isinstance(value, list):
            for inner in value:
                self._check(self._shapes[shape["member"]["shape"]], inner, depth + 1)
        elif kind == "map" and isinstance(value, dict):
            for inner in value.values():
                self._check(self._shapes[shape["value"]["shape"]], inner, depth + 1)
        elif isinstance(value, list | dict) or kind in ("list", "map"):
            raise Unreadable("SerializationException", "a list or a map is written as something else")
        elif not isinstance(value, _PLAIN.get(kind, object)) or (isinstance(value, bool) and kind != "boolean"):
            raise Unreadable("SerializationException", f"a value is written as something else than the {kind} that it is")

    def _form(self, shape: dict[str, Any], form: dict[str, str], *, ec2: bool) -> dict[str, Any]:
        try:
            return forms.read(self._shapes, shape, form, ec2=ec2)
        except forms.Misread as exc:
            raise Unreadable("MalformedQueryString", str(exc)) from None

    def _quiet(self, shape: dict[str, Any]) -> frozenset[str]:
        found = set()
        for name, member in shape["members"].items():
            shape_of = self._shapes[member["shape"]]
            inner = self._shapes[shape_of["member"]["shape"]] if shape_of["type"] == "list" else shape_of
            hidden = shape_of.get("sensitive") or inner.get("sensitive") or inner["type"] == "blob"
            if hidden or SECRETIVE.fullmatch(name) or re.search(r"(?i)secret(?!id)|password|plaintext", name):
                found.add(name)
        return frozenset(found)

    def _events(self, operation: dict[str, Any]) -> bool:
        if "output" not in operation:
            return False
        members = self._shapes[operation["output"]["shape"]]["members"]
        return any(self._shapes[member["shape"]].get("eventstream") for member in members.values())


def _named(shape: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """Members of a JSON object by the model's names."""
    spelled: dict[str, str] = {str(member.get("locationName", name)): name for name, member in shape["members"].items()}
    return {spelled.get(str(key), str(key)): value for key, value in given.items()}


def _elsewhere(member: dict[str, Any]) -> bool:
    return member.get("location") in ("uri", "header", "headers", "querystring", "statusCode")


def read_json(body: bytes) -> Any:
    """JSON that every reader reads alike: UTF-8, each key once, numbers that are numbers. Raises `Unreadable`."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        if len(made) != len(pairs):
            raise Unreadable("SerializationException", "a key is there twice in one object")
        return made

    try:
        msgspec.json.decode(body)  # stricter than the standard library: no NaN, no BOM, no lone surrogates
        return json.loads(body, object_pairs_hook=once)
    except (ValueError, RecursionError, UnicodeDecodeError):
        raise Unreadable("SerializationException", "the body is no JSON") from None


def read_form(body: bytes) -> dict[str, str]:
    """A form, each name once. Raises `Unreadable`."""
    if _FORM.fullmatch(body) is None:
        raise Unreadable("MalformedQueryString", "the form holds a character that must be percent-encoded")
    parts = body.split(b"&") if body else []
    if len(parts) > MAX_FORM:
        raise Unreadable("MalformedQueryString", f"the form has more than {MAX_FORM} parameters")
    found: dict[str, str] = {}
    for part in parts:
        name, _, value = part.partition(b"=")
        try:
            key = unquote_to_bytes(name.replace(b"+", b" ")).decode()
            text = unquote_to_bytes(value.replace(b"+", b" ")).decode()
        except UnicodeDecodeError:
            raise Unreadable("MalformedQueryString", "the form is not UTF-8") from None
        if key in found:
            raise Unreadable("MalformedQueryString", f"{key[:64]!r} is there twice in the form")
        found[key] = text
    return found
