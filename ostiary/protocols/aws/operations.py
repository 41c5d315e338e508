"""A signed request in, an `Operation`'s facts out: verified, read by the service's model, judged by what it touches.

One `Asking` is one request. What can be said of it at its head is said then (who signed, which service, whether it streams); the rest
when its body is here, or as much of it as is held. What is sent is written from what was judged here, never copied.
"""

from __future__ import annotations

import base64
import hashlib
import re
from typing import Any, Final, Protocol
from urllib.parse import urlencode

import msgspec

from ostiary.model.connections import AwsConnection
from ostiary.model.duties import Demand
from ostiary.model.identity import VerifiedIdentity
from ostiary.model.operations import MAX_HEAD, Action, Arguments, Facts, Objection, Resource, Unjudgeable, plain_facts
from ostiary.model.secrets import Secret
from ostiary.protocols.aws.actions import INDIRECT, Access, by_verb, gives_rights, hands_out, states
from ostiary.protocols.aws.arns import Place, copy_source, touched
from ostiary.protocols.aws.chunks import CHECKSUMS, ChunkReader
from ostiary.protocols.aws.conditions import inferred
from ostiary.protocols.aws.hosts import read_host
from ostiary.protocols.aws.models import Call, Service, Unreadable, read_form
from ostiary.protocols.aws.replays import Replays
from ostiary.protocols.aws.rewriting import Impossible, body_with, changed, resolved
from ostiary.protocols.aws.sigv4 import (
    EMPTY_HASH,
    STREAMING,
    UNSIGNED,
    AwsTarget,
    NotSigned,
    Signed,
    check_time,
    lifted,
    plain_name,
    verify,
)
from ostiary.protocols.http.messages import Header, RequestHead, sole, values
from ostiary.protocols.http.operations import Judged, gravest

MAX_SHOWN: Final = 64
"""Parameters that policy and log see."""
MAX_VALUE: Final = 256
_STREAMED: Final = frozenset({("s3", "PutObject"), ("s3", "UploadPart")})
"""Whose body is content of any size."""
_CHOOSES: Final = frozenset({"ResponseContentType", "ResponseContentEncoding"})
_OF_HTTP: Final = frozenset({
    b"accept", b"accept-encoding", b"baggage", b"cache-control", b"expires", b"range", b"traceparent", b"tracestate", b"x-amzn-trace-id",
})  # fmt: skip
_FORM: Final = b"application/x-www-form-urlencoded"
_HEX: Final = re.compile(rb"[0-9a-f]{64}")
_DIGEST: Final = re.compile(rb"content-md5|x-amz-checksum-.*|x-amz-sdk-checksum-algorithm")


class Models(Protocol):
    """The service models that are at hand."""

    access: Access

    def has(self, services: list[str]) -> bool:
        """Whether they are loaded."""
        ...

    async def load(self, services: list[str]) -> None:
        """Load what is missing."""
        ...

    def loaded(self, service: str) -> Service:
        """The model of botocore's service of that name; it was loaded before."""
        ...

    def host(self, service: str, region: str) -> str | None:
        """The host that serves it there; None: it is not there."""
        ...


class Arrival(msgspec.Struct, frozen=True):
    """A request whose signature was read, and whose session is known."""

    signed: Signed
    target: AwsTarget
    secret: Secret
    """Of the gateway key that it claims to be signed with."""
    own: frozenset[str]
    """Names of the listener."""
    now: float
    who: VerifiedIdentity


class Understanding:
    """What requests on one connection do."""

    def __init__(self, connection: AwsConnection, models: Models, replays: Replays) -> None:
        self.connection = connection
        self.models = models
        self.replays = replays

    def asking(self, arrival: Arrival) -> Asking:
        """One request."""
        return Asking(self, arrival)

    def services(self, signed: Signed) -> list[str]:
        """The services that a signature may be for, by botocore's names."""
        return self.models.access.signing_as(signed.service)


class Asking:
    """One request, as far as it is known."""

    def __init__(self, understanding: Understanding, arrival: Arrival) -> None:
        self.connection = understanding.connection
        self._understanding = understanding
        self._arrival = arrival
        self.target = arrival.target
        self.service: Service | None = None
        self.call: Call | None = None
        self.form: dict[str, str] | None = None
        self.chunks: ChunkReader | None = None
        self.streams = False
        self.facts: Facts | None = None
        self.host = ""
        self.head: RequestHead | None = None
        """The head with all its headers where headers stand; None: it is as it came."""
        self._labels: dict[str, str] = {}
        self._operation = ""
        self._protocol = ""
        self._key = b""

    @property
    def protocol(self) -> str:
        """In whose format errors are written; empty: not known yet."""
        return "s3" if self._arrival.signed.service == "s3" and self._protocol in ("rest-xml", "") else self._protocol

    @property
    def signed(self) -> Signed:
        """The caller's signature."""
        return self._arrival.signed

    # --- at the head ---

    def judge(self, head: RequestHead, socket: bool = False) -> Judged:
        """What the head says. `socket`: it asks for a WebSocket, which no service of AWS's has here."""
        try:
            if socket:
                raise Unreadable("InvalidRequest", "WebSockets are not spoken to AWS")  # noqa: TRY301 - one way out for all faults
            self._begin(head)
        except (NotSigned, Unreadable) as exc:
            self.facts = refusal(self.name, exc)
            return Judged(None, self.facts, wants_body=False)
        return Judged(None, plain_facts(action=Action.OPAQUE, name="-", resources=()), wants_body=True)

    def _begin(self, head: RequestHead) -> None:
        signed, models = self._arrival.signed, self._understanding.models
        check_time(signed, self._arrival.now)
        if values(head.headers, b"smithy-protocol"):
            raise Unreadable("UnsupportedProtocol", "the CBOR protocol is not read here: have the SDK speak JSON or query")
        candidates = self._understanding.services(signed)
        endpoints = frozenset(models.access.services[name][2] for name in candidates)
        bucket = read_host(head, self._arrival.own, signed.service, signed.region, endpoints)
        if signed.region not in self.connection.regions:
            raise Unreadable("AccessDenied", f"the connection is not for the region {signed.region}, but for {', '.join(self.connection.regions)}", 403)
        self._verify_early(head)
        headers, self.target = lifted(head.headers, self.target, signed)
        self.head = head = head.with_headers(headers)
        if signed.service == "s3":
            self.target = _path_style(self.target, bucket)
        self._find(head, [models.loaded(name) for name in candidates])
        self._check_payload(head)

    def _find(self, head: RequestHead, services: list[Service]) -> None:
        """Which operation it is, where the head tells; of forms, the body does."""
        named = sole(head.headers, b"x-amz-target")
        kind = (sole(head.headers, b"content-type") or b"").partition(b";")[0].strip().lower()
        if values(head.headers, b"x-amz-target"):
            found = [(each, name) for each in services if (name := each.by_target((named or b"").decode("latin-1"))) is not None]
            self._plain_post(head)
            self._settle(found, "json")
        elif kind == _FORM and self.target.path == "/":
            self._plain_post(head)
            self._protocol = "query"
        else:
            routed = [(s, by) for s in services if (by := s.by_route(head.method, self.target, head.headers)) is not None]
            self._settle([(service, by[0]) for service, by in routed], "")
            self._labels = routed[0][1][1]

    def _plain_post(self, head: RequestHead) -> None:
        if head.method != b"POST" or self.target.path != "/" or self.target.query:
            raise Unreadable("InvalidRequest", "such a call is a POST to /, without a query")

    def _settle(self, found: list[tuple[Service, str]], protocol: str) -> None:
        if len(found) != 1:
            said = "no operation that is known here" if not found else "it could be of more than one service"
            raise Unreadable("UnknownOperation", f"{said}; parameters, headers and versions have to be those of AWS's model", 400)
        self.service, self._operation = found[0]
        rest = "rest-xml" if "rest-xml" in self.service.protocols else "rest-json"
        self._protocol = protocol or rest
        self.streams = (self.service.name, self._operation) in _STREAMED

    def _check_payload(self, head: RequestHead) -> None:
        """What the signature says of the body, and whether that will do."""
        word = self.signed.payload
        if word in STREAMING:
            if not self.streams:
                raise Unreadable("InvalidRequest", "only content of objects can be signed as it streams")
            trailer = (sole(head.headers, b"x-amz-trailer") or b"").decode("latin-1")
            if word.endswith(b"-TRAILER") != bool(trailer) or (trailer and trailer not in CHECKSUMS):
                raise Unreadable("InvalidRequest", "x-amz-trailer does not fit x-amz-content-sha256")
            self.chunks = ChunkReader(self.signed, self._key, trailer)
        presigned = self.signed.expires is not None and not word  # its signature says nothing of the body
        unsigned = word in (UNSIGNED, b"STREAMING-UNSIGNED-PAYLOAD-TRAILER") or presigned
        if unsigned and self.streams and not self.connection.unsigned_payload:
            raise Unreadable("AccessDenied", "unsigned content is not taken on this connection: sign the payload", 403)

    def _verify_early(self, head: RequestHead) -> None:
        """Verify the signature now, where it says what the body is; else when the body is here."""
        word = self.signed.payload
        if word or self.signed.expires is not None:
            presigned = "UNSIGNED-PAYLOAD" if self.signed.service == "s3" else EMPTY_HASH
            self._verify(head, word.decode() or presigned)

    def _verify(self, head: RequestHead, payload: str) -> None:
        signed = self.signed
        self._key = verify(signed, head.method, self._arrival.target, head.headers, self._arrival.secret, payload)

    # --- when the body is here ---

    def finish(self, head: RequestHead, body: bytes | None) -> Facts:
        """What the request does. `body` None: it streams. Asked once more, it says the same."""
        if self.facts is None:
            try:
                self.facts = self._finished(head, body)
            except (NotSigned, Unreadable) as exc:
                self.facts = refusal(self.name, exc)
        return self.facts

    def _finished(self, head: RequestHead, body: bytes | None) -> Facts:
        self._check_body(head, body)
        if self._protocol == "query":
            self._read_form(body)
        service = self.service
        if service is None:
            raise Unreadable("UnknownOperation", "no operation that is known here")
        self.call = call = service.call(
            self._operation, self._protocol, target=self.target, labels=self._labels, headers=head.headers, body=body, form=self.form
        )
        self._check_headers(head, call)
        host = self._understanding.models.host(service.name, self.signed.region)
        if host is None:
            raise Unreadable("InvalidRequest", f"{service.name} is not served in {self.signed.region}")
        self.host = host
        facts = self._facts(call, body or b"")
        if facts.action is not Action.READ:
            self.use_once()
        return facts

    def _check_body(self, head: RequestHead, body: bytes | None) -> None:
        word = self.signed.payload
        if body is None:
            if not self.streams:
                raise Unreadable("RequestEntityTooLarge", "the parameters are larger than can be judged", 413)
            if not self._key:
                raise NotSigned("InvalidRequest", "content of this size is signed with x-amz-content-sha256", 400)
            return
        digest = hashlib.sha256(body).hexdigest()
        if not self._key:
            self._verify(head, digest)
        elif _HEX.fullmatch(word) is not None and word.decode() != digest:
            raise NotSigned("XAmzContentSHA256Mismatch", "the body is not the one that was signed", 400)
        elif body and self.chunks is None and _HEX.fullmatch(word) is None and not self.streams:
            raise NotSigned("AccessDenied", "a body that says what to do has to be signed: UNSIGNED-PAYLOAD is for content of objects")

    def _check_headers(self, head: RequestHead, call: Call) -> None:
        """Parameters in headers are the caller's word, and so are signed; of those that HTTP itself has, who signs them is left to SDKs."""
        for name, _ in head.headers:
            lower = name.lower()
            if lower in call.headers and lower not in self.signed.names and not lower.startswith((b"x-amz-", b"content-", b"if-")) and lower not in _OF_HTTP:
                raise NotSigned("AccessDenied", f"the header {lower.decode('latin-1')} is not signed: it could be anybody's")

    def _read_form(self, body: bytes | None) -> None:
        self.form = read_form(body or b"")
        models, signed = self._understanding.models, self.signed
        services = [models.loaded(name) for name in self._understanding.services(signed)]
        self._settle([(each, name) for each in services if (name := each.by_form(self.form or {})) is not None], "query")
        if self.service is not None and "ec2" in self.service.protocols:
            self._protocol = "ec2"

    def without_rights(self, body: bytes) -> Facts | None:
        """What the call would be without the rights that it gives besides; None: it gives none. Raises `Unreadable`."""
        call = self.call
        return None if call is None or not gives_rights(call.parameters) else self._facts(call, body, with_rights=False)

    # --- as policy demands it ---

    def obey(self, head: RequestHead, body: bytes | None, demands: tuple[Demand, ...], who: VerifiedIdentity) -> tuple[RequestHead, bytes | None] | None:
        """(head, body) of the call as `demands` want it, which this is from now on; None: it is so. Raises `Impossible`, `Unreadable`.

        The judge reads what was written, and has to find that nothing is left to be changed.
        """
        call, service = self.call, self.service
        if call is None or service is None:
            raise Impossible("a request that is no call is not rewritten")
        wanted = resolved(demands, call, who)
        made = changed(call, service, wanted, has_body=body != b"")
        if not made:
            return None
        head, body = self._with(head, body, call, made)
        self.call = call = self._read_again(head, body, call)
        if changed(call, service, wanted, has_body=body != b""):
            raise Impossible("policy demands that the call be rewritten, and what comes of it is not what it demands")
        self.facts = self._facts(call, body or b"")
        return head, body

    def _with(self, head: RequestHead, body: bytes | None, call: Call, made: dict[str, Any]) -> tuple[RequestHead, bytes | None]:
        """Write changed parameters to where they stand."""
        if self.service is None:
            raise Impossible("a request that is no call is not rewritten")
        if self.form is not None:
            kept = {name: value for name, value in (call.parameters | made).items() if value is not None}
            self.form = self.service.form_of(call.operation, kept, ec2=call.protocol == "ec2")
            return head, urlencode(self.form).encode()
        shape = self.service.input_of(call.operation)
        query, headers, inside = list(self.target.query), list(head.headers), {}
        for name, value in made.items():
            member = shape["members"][name]
            spelled = str(member.get("locationName", name))
            match member.get("location"):
                case "querystring":
                    query = [pair for pair in query if pair[0] != spelled] + ([] if value is None else [(spelled, str(value))])
                case "header":
                    headers = [each for each in headers if each[0].lower() != spelled.lower().encode()]
                    headers += [] if value is None else [(spelled.encode(), _of_header(value))]
                case None:
                    inside[name] = value
                case where:
                    raise Impossible(f"policy demands another {name}, and it stands in the {where}")
        if inside:
            if body is None:
                raise Impossible("policy demands that the call be rewritten, and it is too large")
            body = body_with(body, self.service, call, inside)
            headers = _with_digest(headers, body)
        self.target = msgspec.structs.replace(self.target, query=tuple(query))
        return head.with_headers(tuple(headers)), body

    def _read_again(self, head: RequestHead, body: bytes | None, was: Call) -> Call:
        """What the judge reads of what was written; it has to be the same operation."""
        service = self.service
        if service is None:
            raise Impossible("a request that is no call is not rewritten")
        if was.protocol in ("rest-json", "rest-xml"):
            routed = service.by_route(head.method, self.target, head.headers)
            if routed is None or routed[0] != was.operation:
                raise Impossible("policy demands that the call be rewritten, and it would be another one")
        form = None if self.form is None else read_form(body or b"")
        return service.call(
            was.operation, was.protocol, target=self.target, labels=self._labels, headers=head.headers, body=body, form=form
        )

    # --- what it does ---

    def use_once(self) -> None:
        """Something is to change: its signature is good once. Raises `NotSigned`."""
        self._understanding.replays.use(self.signed, self._arrival.now)

    def enforced(self, sent: dict[bytes, bytes]) -> dict[bytes, bytes]:
        """Headers that are set whatever the caller says: buckets belong to the account. Raises `Unreadable`."""
        call, account = self.call, self.connection.account_id.encode()
        if call is None or call.service != "s3":
            return {}
        made = {}
        source = call.parameters.get("CopySource")
        owners = {b"x-amz-expected-bucket-owner": call.parameters.get("Bucket")}
        if source is not None:
            owners[b"x-amz-source-expected-bucket-owner"] = copy_source(source)[0]
        for name, bucket in owners.items():
            if name not in call.headers or bucket in self.connection.foreign_buckets:
                continue
            if sent.get(name, account) != account:
                raise Unreadable("AccessDenied", f"buckets of other accounts than {self.connection.account_id} are not used here", 403)
            made[name] = account
        return made

    @property
    def name(self) -> str:
        """`service:Operation`, as far as it is known."""
        if self.service is None:
            return self.signed.service
        return f"{self._understanding.models.access.prefix(self.service.name)}:{self._operation}"

    def _facts(self, call: Call, body: bytes, *, with_rights: bool = True) -> Facts:
        access, connection = self._understanding.models.access, self.connection
        name = self.name
        prefix = access.prefix(call.service)
        action = access.action(prefix, call.operation)
        if action is None:
            raise Unreadable("AccessDenied", f"nobody says how grave {name} is, so it is refused", 403)
        if hands_out(name) and name not in connection.danger_hands_out:
            said = f"the answer to {name} would be a way past the gateway, so it is never passed on"
            raise Unreadable("AccessDenied", said, 403)
        if call.service == "sts" and (said := misnamed(call, self._arrival.who)):
            raise Unreadable("AccessDenied", said, 403)
        if call.service == "s3" and _CHOOSES & call.parameters.keys():
            said = "the type of an answer is not the caller's to choose (response-content-type): masking goes by it"
            raise Unreadable("AccessDenied", said, 403)
        if call.events:
            raise Unreadable("AccessDenied", f"the answer to {name} is a stream of events, which nobody looks through", 403)
        place = Place(connection.partition, self.signed.region, connection.account_id)
        found, unclear = touched(call, action, access, place, body, with_rights=with_rights)
        if action is Action.ADMINISTER and by_verb(call.operation) is Action.DELETE:
            found += [(arn, Action.DELETE) for arn, _ in found]  # it takes something away too: both have to be permitted
        holds = ("a statement or a program",) if name not in INDIRECT and states(prefix, call.parameters) else ()
        opaque = (*unclear, *holds, *([INDIRECT[name]] if name in INDIRECT else []))
        return plain_facts(
            action=gravest([action, *(each for _, each in found)]),
            name=name,
            resources=tuple(Resource("arn", arn, each, (), ()) for arn, each in found),
            head=f"{name} {found[0][0]}"[:MAX_HEAD],
            arguments=self._arguments(call, access.iam_action(prefix, call.operation), prefix),
            opaque=opaque,
            infer=inferred(call, connection),
        )

    def _arguments(self, call: Call, iam_action: str, prefix: str) -> Arguments:
        """Plain parameters: never what the model calls sensitive, nor content, nor structures."""
        shown: dict[str, tuple[str, ...]] = {"aws:action": (f"{prefix}:{iam_action}",), "aws:region": (self.signed.region,)}
        for name, value in sorted(call.parameters.items())[:MAX_SHOWN]:
            if name in call.quiet:
                continue
            several = value if isinstance(value, list) else [value]
            if all(isinstance(each, str | int | float) for each in several):
                shown[name] = tuple(sorted(_written(each) for each in several[:MAX_SHOWN]))
        return tuple(sorted(shown.items()))


def misnamed(call: Call, who: VerifiedIdentity) -> str:
    """Why a role may not be assumed under the names that a call gives it: CloudTrail would show another than who acts. Empty: it may."""
    subject = plain_name(who.subject)
    actor = plain_name(who.acting[0].sub) if who.acting else subject
    for name, wanted in (("RoleSessionName", actor), ("SourceIdentity", subject)):
        if call.parameters.get(name, wanted) != wanted:
            return f"{name} says who acts, and has to be {wanted} here"
    return ""


def _with_digest(headers: list[Header], body: bytes) -> list[Header]:
    """Headers of a body that was written anew: what they say of it was said of another. Where something is said, it is the MD5 of this one."""
    told = [each for each in headers if _DIGEST.fullmatch(each[0].lower()) is not None]
    kept = [each for each in headers if each not in told]
    md5 = base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest())
    return [*kept, (b"content-md5", md5)] if told else kept


def _of_header(value: Any) -> bytes:
    text = str(value)
    if not text.isascii() or any(char < " " or char == "\x7f" for char in text):
        raise Impossible("policy demands a value that no header can hold")
    return text.encode()


def _written(value: object) -> str:
    return ("true" if value else "false") if isinstance(value, bool) else str(value)[:MAX_VALUE]


def refusal(name: str, why: NotSigned | Unreadable) -> Facts:
    """Facts of a request that cannot be judged, or never runs here."""
    objection = Objection(
        Unjudgeable.UNPARSABLE if why.status == 400 else Unjudgeable.UNSUPPORTED, str(why), "", f"{why.status} {why.code}", None
    )
    return plain_facts(action=Action.OPAQUE, name=name[:64], resources=(), head=name[:64], objection=objection)


def _path_style(target: AwsTarget, bucket: str) -> AwsTarget:
    """S3's two ways to name a bucket, as one."""
    segments = target.segments
    if bucket:
        segments = (bucket, *segments)
    if len(segments) == 2 and not segments[1]:
        segments = segments[:1]
    return msgspec.structs.replace(target, segments=segments)


