"""Signature Version 4: read one strictly, verify it, and make one (AWS, "Signature Version 4 signing process").

Theory of operation
-------------------
A signature covers the method, the path, the query, the headers that it names, and the hash of the body. What it does not cover is
nobody's word: `host` and every `x-amz-…` header must be among what is signed, and a request whose parts can be read in two ways
(a header twice, a query parameter of the signature twice, `+` in a query, dot segments) is refused before a key is looked up.

The canonical path is the one thing that services disagree on. S3 encodes a key once and normalises nothing; all others encode the path
as it was sent a second time, after normalising it, and since a path that normalising would change is refused, that is no step here.

The same code writes the canonical request of both directions, so what was verified and what is signed again cannot drift apart.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
import re
from collections.abc import Iterable
from typing import Final
from urllib.parse import quote, unquote_to_bytes

import msgspec

from ostiary.model.secrets import Secret
from ostiary.protocols.http.messages import Header, values

ALGORITHM: Final = b"AWS4-HMAC-SHA256"
UNSIGNED: Final = b"UNSIGNED-PAYLOAD"
EMPTY_HASH: Final = hashlib.sha256(b"").hexdigest()
STREAMING: Final = frozenset({
    b"STREAMING-AWS4-HMAC-SHA256-PAYLOAD", b"STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER", b"STREAMING-UNSIGNED-PAYLOAD-TRAILER",
})  # fmt: skip
MAX_PAIRS: Final = 256
"""Parameters of a query."""
MAX_SIGNED: Final = 100
"""Headers that a signature may name."""
SKEW_SECONDS: Final = 300
"""How far a signature's date may lie from the gateway's clock, either way."""
MAX_PRESIGNED: Final = 7 * 24 * 3600
"""Seconds that a presigned URL may ask for; the session token in it ends earlier."""

_AUTHORIZATION: Final = re.compile(
    rb"AWS4-HMAC-SHA256 +Credential=([^,\s/]{1,128})/([0-9]{8})/([a-z0-9-]{1,40})/([a-z0-9.-]{1,64})/aws4_request, *"
    rb"SignedHeaders=([a-z0-9;!#$%&'*+.^_`|~-]{1,4096}), *Signature=([0-9a-f]{64})"
)
_CREDENTIAL: Final = re.compile(rb"([^,\s/]{1,128})/([0-9]{8})/([a-z0-9-]{1,40})/([a-z0-9.-]{1,64})/aws4_request")
_NOT_PLAIN: Final = re.compile(r"[^A-Za-z0-9+=,.@_-]")
_DATE: Final = re.compile(rb"[0-9]{8}T[0-9]{6}Z")
_HEX: Final = re.compile(rb"[0-9a-f]{64}")
_NAMES: Final = re.compile(rb"[a-z0-9!#$%&'*+.^_`|~-]+(?:;[a-z0-9!#$%&'*+.^_`|~-]+)*")
"""RFC 9110, 5.6.2: what names of headers are made of."""
_PATH: Final = re.compile(rb"/(?:[A-Za-z0-9!$&'()*+,;:=@\-._~/]|%[0-9A-Fa-f]{2})*")
_QUERY: Final = re.compile(rb"(?:[A-Za-z0-9!$'()*,:=@\-._~/?;&]|%[0-9A-Fa-f]{2})*")
_SLASHES: Final = re.compile(r"[/\\]")
"""What an encoded one may become on the way: `%2F..%2F` is a dot segment too."""
_SPACES: Final = re.compile(rb" +")
_IN_QUERY: Final = (
    b"X-Amz-Algorithm", b"X-Amz-Credential", b"X-Amz-Date", b"X-Amz-Expires", b"X-Amz-SignedHeaders", b"X-Amz-Signature",
    b"X-Amz-Security-Token",
)  # fmt: skip


class NotSigned(Exception):
    """The request proves nobody. `code` is AWS's own name for why; the text is for the caller, and quotes no secret."""

    def __init__(self, code: str, message: str, status: int = 403) -> None:
        super().__init__(message)
        self.code = code
        self.status = status


class AwsTarget(msgspec.Struct, frozen=True):
    """A request target that can be read in one way."""

    raw: bytes
    """The path as it was sent."""
    segments: tuple[str, ...]
    """Its parts between slashes, decoded once; of `/` one that is empty."""
    query: tuple[tuple[str, str], ...]
    """Parameters, decoded, in their order, without those of a presigned signature."""
    signature: dict[bytes, bytes]
    """Those of a presigned signature, decoded; empty: it is not presigned."""

    @property
    def path(self) -> str:
        """The path, decoded: for people, policy and S3."""
        return "/" + "/".join(self.segments)


class Signed(msgspec.Struct, frozen=True):
    """What a signature says of itself."""

    access_key: str
    date: str
    """YYYYMMDD of the scope."""
    region: str
    service: str
    names: tuple[bytes, ...]
    """Headers that it covers, in lower case, sorted."""
    signature: str
    at: str
    """YYYYMMDDTHHMMSSZ."""
    expires: int | None
    """Seconds that a presigned URL is good for; None: the signature stands in a header."""
    token: Secret
    """The session token."""
    payload: bytes
    """What it says of the body: a hash, `UNSIGNED-PAYLOAD` or `STREAMING-…`; empty: the hash of the body, not said."""

    @property
    def scope(self) -> str:
        """The credential's scope."""
        return f"{self.date}/{self.region}/{self.service}/aws4_request"


def read_target(target: bytes) -> AwsTarget:
    """Read a request target in origin-form. Raises `NotSigned`."""
    path, _, query = target.partition(b"?")
    if _PATH.fullmatch(path) is None or _QUERY.fullmatch(query) is None:
        raise NotSigned("InvalidURI", "the path or the query holds a character that must be percent-encoded", 400)
    segments = tuple([_text(part) for part in path[1:].split(b"/")])
    if any(piece in (".", "..") for part in segments for piece in _SLASHES.split(part)):
        raise NotSigned("InvalidURI", "the path has a dot segment", 400)
    pairs, signature = [], {}
    parts = query.split(b"&") if query else []
    if len(parts) > MAX_PAIRS:
        raise NotSigned("InvalidURI", f"the query has more than {MAX_PAIRS} parameters", 400)
    for part in parts:
        name, _, value = part.partition(b"=")
        decoded = unquote_to_bytes(name)
        if decoded.lower().startswith(b"x-amz-") and decoded.lower() in {each.lower() for each in _IN_QUERY} and b"AWSAccessKeyId=" not in query:
            if name not in _IN_QUERY or name in signature:  # as it stands, so that the record knows what to leave out
                raise NotSigned("AuthorizationQueryParametersError", "a parameter of the signature is there twice, or misspelt", 400)
            signature[decoded] = unquote_to_bytes(value)
        else:
            pairs.append((_text(name), _text(value)))
    return AwsTarget(path, segments, tuple(pairs), signature)


def _text(raw: bytes) -> str:
    try:
        text = unquote_to_bytes(raw).decode()
    except UnicodeDecodeError:
        raise NotSigned("InvalidURI", "the path or the query is not UTF-8", 400) from None
    if any(char < " " or char == "\x7f" for char in text):
        raise NotSigned("InvalidURI", "the path or the query holds a control character", 400)
    return text


def read_signature(headers: tuple[Header, ...], target: AwsTarget) -> Signed:
    """What signature a request carries. Raises `NotSigned`."""
    shown = values(headers, b"authorization")
    if any(name == "AWSAccessKeyId" for name, _ in target.query):
        raise NotSigned("InvalidRequest", "Signature Version 2 covers too little, and is not read: presign with s3v4 (signature_version in SDKs)", 400)
    if shown and target.signature:
        raise NotSigned("InvalidArgument", "a request is signed in its Authorization header or in its query, not in both", 400)
    if target.signature:
        return _presigned(headers, target.signature, target.query)
    if len(shown) != 1:
        said = "an Authorization header twice" if shown else "no signature: sign the request with keys of `ostiary aws CONNECTION`"
        if not shown and any(b"multipart/form-data" in kind.lower() for kind in values(headers, b"content-type")):
            said = "S3's uploads by form (a presigned POST) are not read: presign a PUT"
        raise NotSigned("MissingAuthenticationToken", said)
    found = _AUTHORIZATION.fullmatch(shown[0])
    if found is None:
        raise NotSigned("IncompleteSignature", "the Authorization header is no AWS Signature Version 4", 400)
    at = _once(headers, b"x-amz-date")
    payload = _once(headers, b"x-amz-content-sha256", needed=False)
    token = _once(headers, b"x-amz-security-token", needed=False)
    return _signed(headers, found.groups(), at, None, token, payload)


def lifted(headers: tuple[Header, ...], target: AwsTarget, signed: Signed) -> tuple[tuple[Header, ...], AwsTarget]:
    """Headers and target of a request to S3 that is presigned, without `x-amz-…` in its query: S3 takes those for headers, and so do SDKs.

    They are signed as part of the query. Raises `NotSigned` where one is there twice.
    """
    if signed.expires is None or signed.service != "s3":
        return headers, target
    moved = [(name.lower().encode(), value) for name, value in target.query if name.lower().startswith("x-amz-")]
    names = [name for name, _ in moved] + [name.lower() for name, _ in headers if name.lower().startswith(b"x-amz-")]
    if len(set(names)) != len(names) or not all(name.isascii() and value.isascii() for name, value in moved):
        raise NotSigned("InvalidRequest", "a header is there twice, in the query too, or holds what no header can", 400)
    kept = tuple([pair for pair in target.query if not pair[0].lower().startswith("x-amz-")])
    return (*headers, *((name, value.encode()) for name, value in moved)), msgspec.structs.replace(target, query=kept)


def _payload_in(query: tuple[tuple[str, str], ...]) -> bytes:
    found = [value for name, value in query if name.lower() == "x-amz-content-sha256"]
    return found[0].encode() if len(found) == 1 else b""


def _presigned(headers: tuple[Header, ...], said: dict[bytes, bytes], query: tuple[tuple[str, str], ...]) -> Signed:
    missing = [name for name in _IN_QUERY[:-1] if name not in said]
    if missing or said[b"X-Amz-Algorithm"] != ALGORITHM:
        raise NotSigned("AuthorizationQueryParametersError", "the signature in the query is not whole", 400)
    credential = _CREDENTIAL.fullmatch(said[b"X-Amz-Credential"])
    names, signature, life = said[b"X-Amz-SignedHeaders"], said[b"X-Amz-Signature"], said[b"X-Amz-Expires"]
    if credential is None or _NAMES.fullmatch(names) is None or _HEX.fullmatch(signature) is None:
        raise NotSigned("AuthorizationQueryParametersError", "the signature in the query cannot be read", 400)
    if not (life.isdigit() and len(life) <= 6 and 0 < int(life) <= MAX_PRESIGNED):
        raise NotSigned("AuthorizationQueryParametersError", "X-Amz-Expires must be from 1 to 604800 seconds", 400)
    for name in (b"x-amz-date", b"x-amz-security-token"):
        if values(headers, name):
            raise NotSigned("InvalidRequest", "a presigned request carries its date and token in the query alone", 400)
    payload = _once(headers, b"x-amz-content-sha256", needed=False) or _payload_in(query)
    parts = (*credential.groups(), names, signature)
    return _signed(headers, parts, said[b"X-Amz-Date"], int(life), said.get(b"X-Amz-Security-Token", b""), payload)


def _once(headers: tuple[Header, ...], name: bytes, *, needed: bool = True) -> bytes:
    found = values(headers, name)
    if len(found) > 1 or (needed and not found):
        raise NotSigned("IncompleteSignature", f"{name.decode()} must be there once", 400)
    return found[0] if found else b""


def _signed(
    headers: tuple[Header, ...], parts: tuple[bytes, ...], at: bytes, expires: int | None, token: bytes, payload: bytes
) -> Signed:
    access_key, date, region, service, joined, signature = parts
    names = tuple(joined.split(b";"))
    if list(names) != sorted(set(names)) or len(names) > MAX_SIGNED or b"host" not in names:
        raise NotSigned("IncompleteSignature", "SignedHeaders must be sorted, each name once, and hold `host`", 400)
    if _DATE.fullmatch(at) is None or not at.startswith(date):
        raise NotSigned("IncompleteSignature", "the date of the request is not that of its credential's scope", 400)
    if not token:
        raise NotSigned("InvalidClientTokenId", "no session token: the keys of `ostiary aws CONNECTION` come with one")
    for name, _ in headers:
        lower = name.lower()
        if lower.startswith(b"x-amz-") and lower not in names:
            raise NotSigned("AccessDenied", f"the header {lower.decode()} is not signed: it could be anybody's")
    for name in names:
        if len(values(headers, name)) != 1:
            raise NotSigned("SignatureDoesNotMatch", f"the signed header {name.decode()} is not there, or more than once")
    if payload and payload not in STREAMING and payload != UNSIGNED and _HEX.fullmatch(payload) is None:
        raise NotSigned("InvalidArgument", "x-amz-content-sha256 is neither a hash nor one of AWS's words", 400)
    return Signed(
        access_key.decode("ascii", "replace"), date.decode(), region.decode(), service.decode(), names, signature.decode(),
        at.decode(), expires, Secret(token.decode("latin-1")), payload,
    )  # fmt: skip


def plain_name(text: str) -> str:
    """A name as STS takes it for sessions and source identities: two to 64 characters. What it cannot hold is told apart by a digest."""
    plain = _NOT_PLAIN.sub("-", text)
    if plain == text and 2 <= len(text) <= 64:
        return plain
    return f"{plain[:54]}-{hashlib.sha256(text.encode()).hexdigest()[:9]}"


def check_time(signed: Signed, now: float) -> None:
    """Whether a signature's date is of now, by the gateway's clock alone. Raises `NotSigned`."""
    try:
        at = dt.datetime.strptime(signed.at, "%Y%m%dT%H%M%SZ").replace(tzinfo=dt.UTC).timestamp()
    except ValueError:
        raise NotSigned("IncompleteSignature", "the date of the request is none", 400) from None
    if at > now + SKEW_SECONDS:
        raise NotSigned("RequestTimeTooSkewed", "the signature is of the future: set the clock")
    if now > at + (SKEW_SECONDS if signed.expires is None else signed.expires):
        if signed.expires is not None:
            raise NotSigned("AccessDenied", "the presigned URL has expired")
        raise NotSigned("RequestTimeTooSkewed", "the signature is too old: set the clock, and sign each request when it is sent")


def signed_at(signed: Signed) -> float:
    """When it says that it was made, in seconds since 1970; `check_time` has seen it."""
    return dt.datetime.strptime(signed.at, "%Y%m%dT%H%M%SZ").replace(tzinfo=dt.UTC).timestamp()


def escaped(text: str, safe: str = "") -> str:
    """Percent-encoding as AWS wants it: all but letters, digits and `-._~`."""
    return quote(text, safe=safe + "-._~")


def canonical_path(target: AwsTarget, service: str) -> str:
    """The path as it is signed: S3's keys once, others' paths as they were sent and once more."""
    return escaped(target.path, "/") if service == "s3" else quote(target.raw, safe="/-._~")


def canonical_query(pairs: Iterable[tuple[str, str]]) -> str:
    """The query as it is signed, and as it is sent."""
    return "&".join(f"{name}={value}" for name, value in sorted((escaped(name), escaped(value)) for name, value in pairs))


def canonical_request(method: bytes, path: str, query: str, headers: Iterable[Header], payload: str) -> bytes:
    """The canonical request. `headers`: those that are signed, lower-case names, sorted."""
    held = [(name, _SPACES.sub(b" ", value.strip())) for name, value in headers]
    lines = [method, path.encode(), query.encode(), *(name + b":" + value for name, value in held), b""]
    return b"\n".join([*lines, b";".join(name for name, _ in held), payload.encode()])


def signing_key(secret: Secret, date: str, region: str, service: str) -> bytes:
    """The key that a day's requests to one service in one region are signed with."""
    key = b"AWS4" + secret.reveal().encode()
    for part in (date, region, service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


def string_to_sign(at: str, scope: str, request: bytes) -> bytes:
    """What is put under the key."""
    return b"\n".join([ALGORITHM, at.encode(), scope.encode(), hashlib.sha256(request).hexdigest().encode()])


def signature_of(key: bytes, text: bytes) -> str:
    """The signature of `text`."""
    return hmac.digest(key, text, "sha256").hex()


def verify(signed: Signed, method: bytes, target: AwsTarget, headers: tuple[Header, ...], secret: Secret, payload: str) -> bytes:
    """Check a request's signature; the day's key, for what follows it. Raises `NotSigned`. `payload`: the body's hash, or its word."""
    covered = [(name, values(headers, name)[0]) for name in signed.names]
    query = list(target.query)
    if signed.expires is not None:
        query += [(n.decode(), v.decode("latin-1")) for n, v in target.signature.items() if n != b"X-Amz-Signature"]
    request = canonical_request(
        method, canonical_path(target, signed.service), canonical_query(query), covered, payload
    )
    key = signing_key(secret, signed.date, signed.region, signed.service)
    made = signature_of(key, string_to_sign(signed.at, signed.scope, request))
    if not hmac.compare_digest(made, signed.signature):
        raise NotSigned(
            "SignatureDoesNotMatch", "the signature does not fit the request: check the keys, and that nothing on the way changes it"
        )
    return key


class Keys(msgspec.Struct, frozen=True):
    """A credential of AWS."""

    access_key: str
    secret: Secret
    token: Secret
    """Empty: a long-lived key."""
    expires: float = float("inf")
    """Seconds since 1970."""


def presign(
    host: str, parameters: Iterable[tuple[str, str]], *, keys: Keys, region: str, service: str, at: str, seconds: int
) -> str:
    """A GET of `/` at `host` as a signed URL without its scheme, good for so many seconds."""
    scope = f"{at[:8]}/{region}/{service}/aws4_request"
    pairs = [
        *parameters, ("X-Amz-Algorithm", ALGORITHM.decode()), ("X-Amz-Credential", f"{keys.access_key}/{scope}"), ("X-Amz-Date", at),
        ("X-Amz-Expires", str(seconds)), ("X-Amz-SignedHeaders", "host"),
    ]  # fmt: skip
    if keys.token.reveal():
        pairs.append(("X-Amz-Security-Token", keys.token.reveal()))
    query = canonical_query(pairs)
    request = canonical_request(b"GET", "/", query, [(b"host", host.encode())], EMPTY_HASH)
    key = signing_key(keys.secret, at[:8], region, service)
    return f"{host}/?{query}&X-Amz-Signature={signature_of(key, string_to_sign(at, scope, request))}"


def sign(
    *, method: bytes, path: str, query: str, headers: list[Header], payload: str, keys: Keys, region: str, service: str, at: str
) -> list[Header]:
    """The header lines that sign a request. `path`: as it is sent; `headers`: lower-case names, each once, `host` among them."""
    made = [(b"x-amz-date", at.encode()), (b"x-amz-content-sha256", payload.encode())]
    if keys.token.reveal():
        made.append((b"x-amz-security-token", keys.token.reveal().encode()))
    covered = sorted([*headers, *made])
    canonical = path if service == "s3" else quote(path, safe="/-._~")
    request = canonical_request(method, canonical, query, covered, payload)
    scope = f"{at[:8]}/{region}/{service}/aws4_request"
    key = signing_key(keys.secret, at[:8], region, service)
    signature = signature_of(key, string_to_sign(at, scope, request))
    names = b";".join(name for name, _ in covered).decode()
    shown = f"AWS4-HMAC-SHA256 Credential={keys.access_key}/{scope}, SignedHeaders={names}, Signature={signature}"
    return [*made, (b"authorization", shown.encode())]
