"""A request in, an `Operation` out: what it does, by route or by method; and what goes on to the service in its stead."""

from __future__ import annotations

import re
from collections.abc import Container
from functools import lru_cache
from typing import Final

import msgspec

from ostiary.model.connections import CredentialKind, HttpConnection, HttpRoute
from ostiary.model.nouns import Noun
from ostiary.model.operations import MAX_HEAD, Action, Arguments, Facts, Objection, Resource, Unjudgeable, plain_facts
from ostiary.protocols.http import encode
from ostiary.protocols.http.messages import CONNECTION_OPTIONS, HOP_BY_HOP, Fields, Header, RequestHead
from ostiary.protocols.http.parameters import JSON_TELLING, Unseen, asks_another, form_asks, is_graphql, json_asks
from ostiary.protocols.http.paths import Ambiguous, Target, read_arguments, read_target

MAX_JUDGED: Final = 4 << 20
"""Bytes of a body that is read whole before the request is decided; a larger one cannot be seen through."""
MAX_LINES: Final = 10_000
"""Lines of JSON that may ask for something: more of them are not looked at."""
MAX_CACHED: Final = 4096
MAX_NAME: Final = 128
"""Bytes of a header's name that is passed on."""

METHODS: Final = {
    "GET": Action.READ,
    "HEAD": Action.READ,
    "OPTIONS": Action.READ,
    "POST": Action.WRITE,
    "PUT": Action.WRITE,
    "PATCH": Action.WRITE,
    "DELETE": Action.DELETE,
}
"""What a method does where no route says otherwise: RFC 9110, 9.3; RFC 5789. Any other is opaque."""
_GRAVITY: Final = (
    Action.OPAQUE, Action.DELETE, Action.ADMINISTER, Action.EXECUTE, Action.TRANSFER, Action.DEFINE, Action.WRITE, Action.READ, Action.CONNECT,
)  # fmt: skip
_NEVER: Final = frozenset({"TRACE", "TRACK", "CONNECT"})
"""Reflect credentials, or are a tunnel."""

_PLAINLY: Final = "Write the request in the plain way, or ask the operator."
_GRPC: Final = re.compile(rb"(?i)[ \t]*application/grpc(?:\+[^;]*)?[ \t]*(?:;.*)?")
"""Not gRPC-Web, which is HTTP like any other."""

# Names of header fields, `_` and `.` read as `-`, as CGI, WSGI and their kin read them.
_IDENTITY: Final = re.compile(
    r"forwarded.*|via|proxy|x-forwarded.*|x-real-ip|(?:[a-z0-9]+-)*client-?ip|x-originating-ip|x-azure-socketip|cf-.*|fastly-.*|x-envoy-.*|"
    r"x-ostiary-.*|x-gateway-.*|x-goog-(?:authenticated|iap)-.*|x-amzn-oidc-.*|x-ms-(?:client-principal|token).*|"
    r"x-pomerium-.*|teleport-.*|x-teleport-.*|x-auth-request-.*|x-remote-.*|remote-.*|x-proxy-.*|impersonate-.*|"
    r"ssl-client-.*|x-ssl-.*|x-client-cert.*|x-client-dn|client-cert.*|x-arr-.*|x-tls-.*|x-spiffe-.*|"
    r"x-appengine-.*|x-consumer-.*|x-credential-.*|x-anonymous-.*|oidc-.*|(?:x-)?shib-.*|mellon-.*|sm-.*|iv-.*|eppn|affiliation|x-middleware-.*|"
    r"x-original-.*|x-rewrite-.*|x-http-method.*|x-http-[a-z]+-override|x-method-override|x-override-.*|x-host(?:-.*)?|x-waws-.*|"
    r"(?:x-)?(?:[a-z0-9]+-)*(?:user|username|userid|uid|userinfo|login|identity|principal|email|mail|groups?|roles?|jwt|assertion|"
    r"subject|actor|impersonat(?:e|ed|ion)|behalf|authenticated|webauth|sso|tenant|scopes?|permissions?|claims?|entitlements?)(?:-[a-z0-9]+)*"
)
_KEPT: Final = frozenset({"user-agent", "sec-ch-ua", "from"})
_NAME: Final = re.compile(r"[A-Za-z0-9-]+")
_CREDENTIALS: Final = frozenset({b"authorization", b"proxy-authorization", b"x-ostiary-token"})
_END_TO_END: Final = re.compile(
    r"authorization|cookie|host|content-.*|accept.*|if-.*|range|origin|referer|expect|date|cache-control|user-agent|x-amz-.*|"
    r"x-ostiary-.*|digest|signature.*"
)
_CHARSET: Final = re.compile(rb"(?i)charset(?:(?!charset)[^=;])*=\s*[\"']?([^;\"'\s]*)")
_ASCII_LIKE: Final = frozenset({b"utf-8", b"utf8", b"us-ascii", b"iso-8859-1"})
"""Character sets in which ASCII is ASCII, and nothing else is."""
_GRAPHQL_PATH: Final = re.compile(r"graphi?ql", re.IGNORECASE)


class Judged(Noun):
    """What a request head says, once."""

    __slots__ = ("below", "facts", "place", "target", "wants_body")

    def __init__(self, target: Target | None, facts: Facts, *, wants_body: bool, below: str = "", place: bytes = b"") -> None:
        self.target: Final = target
        self.facts: Final = facts
        """Of the request, its body left aside."""
        self.wants_body: Final = wants_body
        """What it does may hang on its body: that is read first."""
        self.below: Final = below
        """The path of ours under which it came in, if it did."""
        self.place: Final = place
        """The target as the service is asked for it."""


class Route:
    """A route of the configuration, ready to be matched."""

    __slots__ = ("like", "method", "pattern", "route")

    def __init__(self, route: HttpRoute) -> None:
        self.route = route
        self.method = route.method
        self.pattern = re.compile(_template(route.template))
        self.like = re.compile(_template(route.template.rstrip("/")) + r"(?:\.[a-z0-9]{1,16})?/?", re.IGNORECASE)

    def matches(self, method: str, path: str, *, loosely: bool) -> bool:
        """Whether it describes such a request. `loosely`: for a service that cares neither for case, nor for a slash or a format at the end."""
        pattern = self.like if loosely else self.pattern
        return self.method in ("*", method) and pattern.fullmatch(path) is not None


def _template(template: str) -> str:
    parts = []
    for piece in re.split(r"(\{[a-z_][a-z0-9_]*(?:\.\.\.)?\})", template):
        if piece.endswith("...}"):
            parts.append(".*")
        elif piece.startswith("{"):
            parts.append("[^/]+")
        else:
            parts.append(re.escape(piece))
    return "".join(parts)


class Understanding:
    """What requests to one service do: shared by its sessions, so that a repeated request costs a look-up."""

    def __init__(self, connection: HttpConnection) -> None:
        self.connection = connection
        self._base = connection.upstream.base_path.encode()
        self._routes = tuple(Route(route) for route in connection.routes)
        self._known: dict[tuple[bytes, bytes, bool], Judged] = {}

    def judge(self, head: RequestHead, socket: bool = False) -> Judged:
        """Say what a request does, as far as its head tells. `socket`: it asks for a WebSocket."""
        key = (head.method, head.target, socket)
        found = self._known.get(key)
        if found is None:
            found = self._judge(head, socket)
            if len(self._known) >= MAX_CACHED:
                del self._known[next(iter(self._known))]
            self._known[key] = found
        return found

    def _judge(self, head: RequestHead, socket: bool) -> Judged:
        method = head.method.decode("ascii")
        try:
            target = read_target(head.target)
            arguments = read_arguments(target.query)
        except Ambiguous as exc:
            return Judged(None, objected(method, Unjudgeable.UNPARSABLE, str(exc), "400"), wants_body=False)
        path = target.path
        prefix = below = self.connection.prefix
        if prefix and path_below(path, prefix) is None:
            below = ""
        if below:
            path = path_below(path, prefix) or "/"
            wire = target.wire[len(prefix) :] or b"/"
            target = Target(path, wire, target.query, target.authority)
        if method in _NEVER:
            said = f"{method} is never passed on"
            return Judged(target, objected(method, Unjudgeable.UNSUPPORTED, said, "405"), wants_body=False)
        if b"%u" in target.query.lower():
            said = "the query holds an escape (%u) that some services read and some do not"
            return Judged(target, objected(method, Unjudgeable.UNPARSABLE, said, "400"), wants_body=False)
        if any(asks_another(name) for name, _ in arguments):
            said = "the query asks for another method (`_method`)"
            return Judged(target, objected(method, Unjudgeable.UNPARSABLE, said, "400"), wants_body=False)
        facts = self._facts("WEBSOCKET" if socket else method, path, arguments)
        place = self._base + target.wire + (b"?" + target.query if target.query else b"")
        return Judged(target, facts, wants_body=method not in ("GET", "HEAD", "OPTIONS", "DELETE"), below=below, place=place)

    def _facts(self, method: str, path: str, arguments: Arguments) -> Facts:
        is_socket = method == "WEBSOCKET"
        route, *others = self._readings("GET" if is_socket else method, path, is_socket=is_socket)
        if route is None and is_socket:
            return objected(method, Unjudgeable.UNSUPPORTED, "no route of the connection says that a WebSocket is opened there", "400")
        if route is None and self.connection.only_routes:
            return objected(method, Unjudgeable.UNSUPPORTED, "no route of the connection describes this request", "404")
        action = METHODS.get(method, Action.OPAQUE) if route is None else Action(route.action)
        opaque: tuple[str, ...] = ()
        asks = any(is_graphql(name, text) for name, texts in arguments for text in texts)
        if route is None and (asks or _GRAPHQL_PATH.search(path) is not None):
            action, opaque = Action.OPAQUE, ("a GraphQL operation",)
        elif route is None and method not in METHODS:
            opaque = (f"the method {method}",)
        # A service may ignore case in paths, so both readings must be permitted; and so must what another reading of its routes would do.
        names = dict.fromkeys((path, path.lower()))
        actions = dict.fromkeys((action, *(Action(each.action) for each in others if each is not None)))
        return plain_facts(
            action=gravest(actions),
            name=method if route is None else route.name,
            resources=tuple(Resource("path", name, each, (), ()) for each in actions for name in names),
            head=f"{method} {path}"[:MAX_HEAD],
            arguments=arguments,
            opaque=opaque,
        )

    def _readings(self, method: str, path: str, *, is_socket: bool) -> list[HttpRoute | None]:
        """The route that describes a request, and those by which a service may take it that reads paths loosely, or does for HEAD what it does for GET."""
        methods = (method, "GET") if method == "HEAD" else (method,)
        routes = [each for each in self._routes if each.route.websocket is is_socket]
        return [
            next((each.route for each in routes if each.matches(spelt, path, loosely=loosely)), None)
            for loosely in (False, True)
            for spelt in methods
        ]


def gravest(actions: Container[Action]) -> Action:
    """The one that people should see first."""
    return next(each for each in _GRAVITY if each in actions)


def objected(method: str, reason: Unjudgeable, message: str, status: str, hint: str = _PLAINLY) -> Facts:
    """Facts of a request that cannot be judged."""
    objection = Objection(reason, message, hint, status, None)
    return plain_facts(action=Action.OPAQUE, name=method[:32], resources=(), head=method[:32], objection=objection)


def is_grpc(head: RequestHead) -> bool:
    """Whether it is a call of gRPC: its answer would end with trailers, which nobody here passes on."""
    return any(_GRPC.fullmatch(kind) is not None for kind in head.fields.all(b"content-type"))


def not_grpc(head: RequestHead) -> Judged:
    """Of a call of gRPC: that it is none of ours."""
    said = "gRPC is not spoken: HTTP/2 ends here, and trailers with it"
    hint = "Call the service's HTTP/JSON or gRPC-Web interface, if it has one."
    return Judged(None, objected(head.method.decode("ascii"), Unjudgeable.UNSUPPORTED, said, "501", hint), wants_body=False)


def path_below(path: str, prefix: str) -> str | None:
    """The rest of `path` under `prefix`; None: it is not under it."""
    if path == prefix:
        return "/"
    return path[len(prefix) :] if path.startswith(prefix + "/") else None


def with_body(judged: Judged, head: RequestHead, body: bytes | None) -> Facts:
    """Facts of a request, its body taken into account. `body` None: it is too large to be looked at.

    Bodies that change what a request does are those of GraphQL, and forms whose `_method` names another method.
    """
    facts = judged.facts
    kinds = head.fields.all(b"content-type")
    if facts.objection is not None or (body is not None and not body):
        return facts
    if len(kinds) > 1:
        return objected(facts.name, Unjudgeable.UNPARSABLE, "Content-Type is there twice", "400")
    kind = (kinds or (b"",))[0].partition(b";")[0].strip().lower()
    if _is_veiled(head, kind, body):
        return _opaque(facts, "a body in an encoding that is not read")
    if kind == b"application/graphql":
        return _opaque(facts, "a GraphQL operation")
    if body is None:
        return _opaque(facts, "a body too large to be looked at") if not kind or b"json" in kind or b"form" in kind else facts
    try:
        another, graphql = _asks(kind, body)
    except Unseen:
        return _opaque(facts, "a body too large to be looked at")
    except (msgspec.DecodeError, ValueError, RecursionError):
        return _opaque(facts, "a body that looks like GraphQL and is no JSON")
    if another:
        return objected(facts.name, Unjudgeable.UNPARSABLE, "the body asks for another method (`_method`)", "400")
    return _opaque(facts, "a GraphQL operation") if graphql else facts


def _asks(kind: bytes, body: bytes) -> tuple[bool, bool]:
    """Whether a body asks for another method, and whether it is GraphQL. Of one whose type nobody names, services take the type for what it looks like.

    Raises `Unseen`, `msgspec.DecodeError`, ValueError and RecursionError.
    """
    in_parts = b"multipart" in kind
    found = form_asks(body, in_parts=in_parts) if in_parts or b"form-urlencoded" in kind or not kind else (False, False)
    if b"json" in kind or not kind or body.lstrip()[:1] in (b"{", b"["):
        texts = body.splitlines() if b"ndjson" in kind else [body]
        telling = [text for text in texts if JSON_TELLING.search(unescaped(text)) is not None]
        if len(telling) > MAX_LINES:
            raise Unseen
        for text in telling:
            msgspec.json.decode(text)  # it is strict
            another, graphql = json_asks(text, unescaped(text))
            found = found[0] or another, found[1] or graphql
    return found


def _is_veiled(head: RequestHead, kind: bytes, body: bytes | None) -> bool:
    """Whether it is of a type that a service would read for what to do, in a coding or a character set that is not read here."""
    if kind and not any(word in kind for word in (b"json", b"form", b"graphql")):
        return False
    codings = b",".join(head.fields.all(b"content-encoding")).lower().split(b",")
    if any(each.strip() not in (b"", b"identity") for each in codings):
        return True
    sets = _CHARSET.findall(b"".join(head.fields.all(b"content-type")))
    if any(each.lower() not in _ASCII_LIKE for each in sets):
        return True
    return body is not None and b"multipart" not in kind and (b"\0" in body or body.startswith((b"\xfe\xff", b"\xff\xfe")))


def unescaped(body: bytes) -> bytes:
    r"""`body` with `\u00XX` escapes of ASCII written out, for a quick look."""
    if b"\\u00" not in body:
        return body
    return re.sub(rb"\\u00([0-7][0-9A-Fa-f])", lambda found: bytes([int(found[1], 16)]), body)


def _opaque(facts: Facts, why: str) -> Facts:
    return plain_facts(
        action=facts.action, name=facts.name, resources=facts.resources, head=facts.head,
        arguments=facts.arguments, opaque=(*facts.opaque, why),
    )  # fmt: skip


def named_hop_by_hop(fields: Fields) -> frozenset[bytes]:
    """What `Connection` names, which is not passed on. Raises `Ambiguous` where it names what must be: RFC 9110, 7.6.1."""
    named = fields.options
    for name in named:
        if name and name not in CONNECTION_OPTIONS and (is_identity(name) or _END_TO_END.fullmatch(name.decode("latin-1")) is not None):
            raise Ambiguous("`Connection` names a header that is not this hop's to drop")
    return named - CONNECTION_OPTIONS if named else named


@lru_cache(maxsize=1024)
def is_identity(name: bytes) -> bool:
    """Whether a service could take a header of that name, in any spelling, for who calls, from where, or what is asked."""
    if len(name) > MAX_NAME:
        return True
    plain = name.decode("latin-1").lower().replace("_", "-").replace(".", "-")
    return plain not in _KEPT and _IDENTITY.fullmatch(plain) is not None


def lines_passed_on(head: RequestHead, connection: HttpConnection, named: frozenset[bytes], reading: bool) -> bytes:
    """As `passed_on`, behind the service's own `Host`, as lines; kept with the fields, as what it hangs on stays the same from request to request."""
    fields = head.fields
    kept = fields.passed
    if kept is not None and kept[0] is connection and bool(kept[1]) == reading:
        return kept[2]
    host = (b"Host", connection.upstream.host_header.encode())
    lines = encode.field_lines([host, *passed_on(head, connection, named, reading=reading)])
    fields.passed = connection, reading, lines
    return lines


def passed_on(head: RequestHead, connection: HttpConnection, named: frozenset[bytes], *, reading: bool) -> list[Header]:
    """The header fields that go on to the service: not those of one hop, no credential of the caller, no claimed identity.

    `reading`: with masking on, conditions and ranges go too, and no compressed answer is asked for: a range of a masked
    value, or an answer whether it has changed, says something about it. Where the service is shown a credential, answers are looked
    through for it: they are not compressed, and parts come one at a time.
    """
    masks = connection.masks
    shows = connection.upstream.credential.kind is not CredentialKind.NONE
    own = connection.upstream.credential.header.lower().encode()
    kept: list[Header] = []
    for header in head.headers:
        name = header[0].lower()
        if name in HOP_BY_HOP or name in _CREDENTIALS or name in named or name in _OURS or name == own:
            continue
        if name.startswith(b"sec-websocket-"):  # the handshake is our own
            continue
        if masks and (name in _MASKED or (reading and name in _CONDITIONS)):
            continue
        if shows and (name == b"accept-encoding" or (name == b"range" and b"," in header[1])):
            continue
        text = name.decode("ascii")
        if text not in connection.pass_headers and (_NAME.fullmatch(text) is None or is_identity(name)):
            continue
        kept.append(header)
    if masks or shows:
        kept.append((b"Accept-Encoding", b"identity"))
    return kept


_OURS: Final = frozenset({b"host", b"content-length", b"expect"})
_MASKED: Final = frozenset({b"accept-encoding", b"range", b"if-range", b"want-digest", b"want-repr-digest", b"want-content-digest"})
_CONDITIONS: Final = frozenset({b"if-none-match", b"if-modified-since", b"if-match", b"if-unmodified-since"})
