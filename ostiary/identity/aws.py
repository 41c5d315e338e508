"""AWS principals: who signed `sts:GetCallerIdentity` for us, as AWS itself says.

Theory of operation
-------------------
AWS has no tokens for its principals, but it tells whoever sends a signed request whose signature that is. So a client signs one such request
and does not send it: it gives us the presigned URL (SigV4 in the query), and we ask. Nothing secret passes: what is signed is good for
this one question, for minutes.

It is bound to us: the signature covers two headers that we send, our own address and a nonce of ours that is good once, so a URL that was
made for another service, or seen on its way, is good for nothing here. Whom we ask is the operator's list alone, and what we
send is built anew from the values that were checked: of a client's URL nothing else gets out. No redirect is followed.

The session's name of an assumed role is chosen by whoever assumes it: for an instance it is the instance's id and for a Lambda the
function's name, and anybody else who may assume the role can choose the same. The role is proved, so the role is the subject.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping
from typing import Any, Final, NoReturn
from urllib.parse import parse_qsl, quote, urlsplit

import httpx

from ostiary.identity.jose import bad_token, strict_object
from ostiary.identity.jwks import FetchFailed, fetch_document, trust
from ostiary.identity.tokens import Proved, prove
from ostiary.model.errors import NotAdmitted, Reason
from ostiary.model.identity import Authentication, Kind

ISSUER: Final = "https://sts.amazonaws.com"
"""What stands for AWS as an issuer in records, policies and service accounts, whichever of its hosts answered."""
AUDIENCE_HEADER: Final = "x-ostiary-audience"
NONCE_HEADER: Final = "x-ostiary-nonce"
NONCE_SECONDS: Final = 300
MAX_URL: Final = 8192
MAX_EXPIRES: Final = 900
LEEWAY_SECONDS: Final = 60
GOOD_SECONDS: Final = 3600
"""How long what was proved is good: a role's session lasts an hour where nobody asks for more, and STS does not say."""
ASK_SECONDS: Final = 10.0
MAX_SPENT: Final = 100_000
_FIXED: Final = {
    "Action": "GetCallerIdentity",
    "Version": "2011-06-15",
    "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
    "X-Amz-SignedHeaders": f"host;{AUDIENCE_HEADER};{NONCE_HEADER}",
}
_SHAPES: Final = {
    "X-Amz-Credential": re.compile(r"[A-Z0-9]{16,128}/([0-9]{8})/[a-z0-9-]{1,32}/sts/aws4_request", re.ASCII),
    "X-Amz-Date": re.compile(r"[0-9]{8}T[0-9]{6}Z", re.ASCII),
    "X-Amz-Expires": re.compile(r"[1-9][0-9]{0,3}", re.ASCII),
    "X-Amz-Signature": re.compile(r"[0-9a-f]{64}", re.ASCII),
    "X-Amz-Security-Token": re.compile(r"[A-Za-z0-9+/=]{16,4096}", re.ASCII),
}
_OPTIONAL: Final = frozenset({"X-Amz-Security-Token"})
_ARN: Final = re.compile(
    r"arn:(aws|aws-cn|aws-us-gov):(?:sts::(?P<a>[0-9]{12}):assumed-role/(?P<role>[\w+=,.@-]{1,64})/(?P<session>[\w+=,.@-]{2,64})"
    r"|iam::(?P<b>[0-9]{12}):user/(?P<user>[\w+=,.@/-]{1,512}))",
    re.ASCII,
)
"""Roles and users; not the root user, and not federated users, whose names whoever made them chose freely."""
_INSTANCE: Final = re.compile(r"i-[0-9a-f]{8,17}", re.ASCII)


class AwsLogin:
    """Asks STS. For one event loop."""

    def __init__(
        self, *, audience: str, accounts: frozenset[str], roles: frozenset[str], endpoints: tuple[str, ...], ca_file: str | None = None
    ) -> None:
        """`audience`: this gateway's address; `roles`: names of the roles that may come, empty: all of the accounts."""
        self.audience = audience
        self._accounts = accounts
        self._roles = roles
        self.endpoint = endpoints[0]
        """Where clients are told to mean it for."""
        self._endpoints = frozenset(endpoints)
        self._ca_file = ca_file
        self._key = secrets.token_bytes(32)
        self._spent: dict[str, float] = {}

    # --- nonces: made without being remembered, so nobody fills our memory by asking for them ---

    def nonce(self, now: float) -> str:
        """A nonce that is good once, for `NONCE_SECONDS`."""
        plain = f"{int(now)}.{secrets.token_hex(16)}"
        return f"{plain}.{self._mark(plain)}"

    def _mark(self, plain: str) -> str:
        return hmac.new(self._key, plain.encode(), hashlib.sha256).hexdigest()[:32]

    def _check_nonce(self, nonce: str, now: float) -> None:
        plain, _, mark = nonce.rpartition(".")
        made = plain.partition(".")[0]
        if not nonce.isascii() or not hmac.compare_digest(self._mark(plain), mark):
            bad_token("the nonce is not one of ours")
        if not 0 <= now - int(made) <= NONCE_SECONDS:
            bad_token("the nonce is too old")
        if len(self._spent) >= MAX_SPENT:
            self._spent = {each: until for each, until in self._spent.items() if until > now}
        if nonce in self._spent or len(self._spent) >= MAX_SPENT:
            bad_token("the nonce was used already")

    # --- what is shown ---

    async def verify(self, url: str, nonce: str, now: float) -> Proved:
        """Who signed the presigned URL, as STS says. Raises `NotAdmitted`."""
        self._check_nonce(nonce, now)
        endpoint, asked = self._read(url, now)
        # Spent before it is asked: two who show the same at once get one answer. What AWS does not vouch for takes no room.
        self._spent[nonce] = now + NONCE_SECONDS
        try:
            return self._believe(await self._ask(endpoint, asked, nonce), nonce, now)
        except BaseException:
            del self._spent[nonce]
            raise

    def _read(self, url: str, now: float) -> tuple[str, Mapping[str, str]]:
        """The endpoint, one of ours, and the parameters; everything else about the URL is refused."""
        if len(url) > MAX_URL or not url.isascii() or not url.isprintable() or " " in url:
            bad_token("it is no presigned URL")
        try:
            parts = urlsplit(url)
            endpoint = f"{parts.scheme}://{parts.netloc}"
            pairs = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=True, max_num_fields=16, separator="&")
        except ValueError:
            bad_token("it is no presigned URL")
        if endpoint not in self._endpoints or parts.path != "/" or parts.fragment or "#" in url:
            bad_token("it is no request to an STS endpoint that is configured")
        asked = dict(pairs)
        if len(asked) != len(pairs) or asked.keys() - _OPTIONAL != _FIXED.keys() | (_SHAPES.keys() - _OPTIONAL):
            bad_token("its parameters are not those of one presigned GetCallerIdentity")
        for name, value in asked.items():
            if value != _FIXED.get(name, value) or (name in _SHAPES and _SHAPES[name].fullmatch(value) is None):
                bad_token(f"{name} is not as it must be")
        self._check_time(asked, now)
        return endpoint, asked

    def _check_time(self, asked: Mapping[str, str], now: float) -> None:
        try:
            signed = dt.datetime.strptime(asked["X-Amz-Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=dt.UTC).timestamp()
        except ValueError:
            bad_token("X-Amz-Date is no date")
        expires = int(asked["X-Amz-Expires"])
        if expires > MAX_EXPIRES or signed > now + LEEWAY_SECONDS:
            bad_token("it was signed for too long, or in the future")
        if now >= signed + expires:
            raise NotAdmitted(Reason.EXPIRED_TOKEN, "the presigned URL has expired")
        if asked["X-Amz-Credential"].split("/")[1] != asked["X-Amz-Date"][:8]:
            bad_token("X-Amz-Credential is of another day")

    async def _ask(self, endpoint: str, asked: Mapping[str, str], nonce: str) -> dict[str, Any]:
        query = "&".join(f"{name}={quote(value, safe='-_.~')}" for name, value in sorted(asked.items()))
        headers = {AUDIENCE_HEADER: self.audience, NONCE_HEADER: nonce}
        try:
            async with (
                asyncio.timeout(ASK_SECONDS),
                httpx.AsyncClient(
                    follow_redirects=False, trust_env=False, verify=trust(self._ca_file), timeout=ASK_SECONDS, headers=headers
                ) as client,
            ):
                return strict_object(await fetch_document(client, f"{endpoint}/?{query}"))
        except FetchFailed as error:
            if "HTTP status 4" in str(error):
                bad_token("STS does not accept the signature")
            raise NotAdmitted(Reason.ISSUER_UNREACHABLE, str(error)) from None
        except (httpx.HTTPError, httpx.InvalidURL, ValueError, TimeoutError, OSError) as error:
            raise NotAdmitted(Reason.ISSUER_UNREACHABLE, type(error).__name__) from None

    def _believe(self, said: dict[str, Any], nonce: str, now: float) -> Proved:
        try:
            held = said["GetCallerIdentityResponse"]["GetCallerIdentityResult"]
            arn, account, user = held["Arn"], held["Account"], held["UserId"]
        except (KeyError, TypeError):
            _strange()
        if not all(isinstance(each, str) for each in (arn, account, user)):
            _strange()
        found = _ARN.fullmatch(arn)
        if found is None:
            bad_token("it is neither a role nor a user")
        if (found["a"] or found["b"]) != account:
            _strange()
        role, session = found["role"], found["session"]
        if role is not None and user.partition(":")[2] != session:
            _strange()
        if account not in self._accounts or (self._roles and role not in self._roles):
            bad_token("trust condition on account or role does not hold")
        claims = {"account": account, "arn": arn, "user_id": user.partition(":")[0]}
        if role is None:
            subject, name = arn, found["user"].rpartition("/")[2]
        else:
            subject, name = f"arn:{found[1]}:iam::{account}:role/{role}", f"{role}/{session}"
            claims |= {"role": role, "session": session}
            if _INSTANCE.fullmatch(session):
                claims["instance"] = session
        identity = prove(
            issuer=ISSUER, subject=subject, kind=Kind.WORKLOAD, name=name, email=None, groups=frozenset(), acting=(),
            initiator=None, task=session, mandate=None, audience=frozenset(), expires=int(now) + GOOD_SECONDS,
            auth=Authentication(method="aws-sts", token=hashlib.sha256(nonce.encode()).hexdigest(), key=None, at=int(now)),
        )  # fmt: skip
        return Proved(identity=identity, may_act=None, own=False, is_delegation=False, claims=claims)


def _strange() -> NoReturn:
    bad_token("the answer of STS is not as it is documented")
