"""What the gateway signs with: keys of its own, a role that is assumed in the name of who acts, or those of its machine.

With a role, CloudTrail shows the person: the session is named after who acts, its source identity is the subject (a caller cannot set
either), and its tags say for whom, in which session of the gateway. Keys are kept for a session and fetched anew before they end.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import re
import time
from collections.abc import Callable
from typing import Final
from urllib.parse import urlencode
from xml.etree import ElementTree as ET

import httpx
import msgspec

from ostiary.model.connections import AwsCredential, AwsCredentialKind
from ostiary.model.errors import NotAdmitted, Reason
from ostiary.model.identity import VerifiedIdentity
from ostiary.model.secrets import Secret, SecretRef
from ostiary.protocols.aws.sigv4 import Keys, plain_name, sign

KEEP_SECONDS: Final = 5.0
"""How long a secret that was read is used before it is read again, so that a rotated one is used soon."""
EARLY_SECONDS: Final = 120.0
FETCH_SECONDS: Final = 10.0
MAX_ANSWER: Final = 64 * 1024
GATEWAY: Final = "ostiary-gateway"
"""In whose name the gateway assumes a role for itself."""
METADATA: Final = "http://169.254.169.254"
_ROLE: Final = re.compile(r"[A-Za-z0-9+=,.@_-]{1,64}")
_CODE: Final = re.compile(r"[A-Za-z.]{1,64}")
_NOT_TAG: Final = re.compile(r"[^A-Za-z0-9 _.:/=+@-]")


class Place(msgspec.Struct, frozen=True):
    """Where keys are for."""

    connection: str
    region: str
    """Where roles are assumed."""
    sts: tuple[str, str]
    """(URL, host header) of it."""


class AwsShown:
    """The credential of one session."""

    def __init__(
        self, held: AwsCredential, place: Place, resolve: Callable[[SecretRef], Secret], who: VerifiedIdentity | None, session: str
    ) -> None:
        """`who`: in whose name a role is assumed; None: in the gateway's own."""
        self._place = place
        self._held = held
        self._resolve = resolve
        self._who = who
        self._session = session
        self._until = -1.0
        self.keys = Keys("", Secret(""), Secret(""))

    def ready(self) -> bytes | None:
        """Nothing to add to a head by itself; None: `fetch` first."""
        if time.monotonic() < self._until:
            return b""
        if self._held.kind is not AwsCredentialKind.STATIC or self._held.role:
            return None
        self.keys = self._static()
        self._until = time.monotonic() + KEEP_SECONDS
        return b""

    async def fetch(self) -> bytes:
        """Fetch keys. Raises `NotAdmitted`."""
        try:
            async with httpx.AsyncClient(timeout=FETCH_SECONDS, follow_redirects=False, trust_env=False) as client:
                match self._held.kind:
                    case AwsCredentialKind.WEB_IDENTITY:
                        keys = await self._assume(client, None)
                    case AwsCredentialKind.INSTANCE:
                        base = await _from_machine(client)
                        keys = await self._assume(client, base) if self._held.role else base
                    case _:
                        keys = await self._assume(client, self._static())
        except _NoKeys as exc:
            raise NotAdmitted(Reason.TARGET_UNREACHABLE, f"AWS did not give the gateway keys ({exc})") from None
        except (httpx.HTTPError, ValueError, KeyError, TypeError, ET.ParseError, msgspec.MsgspecError):
            raise NotAdmitted(Reason.TARGET_UNREACHABLE, "AWS did not give the gateway keys") from None
        self.keys = keys
        self._until = time.monotonic() + max(0.0, keys.expires - time.time() - EARLY_SECONDS)
        return b""

    def _static(self) -> Keys:
        if self._held.secret is None:
            raise NotAdmitted(Reason.TARGET_UNREACHABLE, "the connection has no credential")
        return Keys(self._held.access_key, Secret(self._resolve(self._held.secret).reveal().strip()), Secret(""))

    def _asked(self, base: Keys | None) -> dict[str, str]:
        held, who = self._held, self._who
        subject, issuer = (GATEWAY, "") if who is None else (who.subject, who.issuer)
        actor = who.acting[0].sub if who is not None and who.acting else subject
        asked = {
            "Action": "AssumeRole", "Version": "2011-06-15", "RoleArn": held.role, "RoleSessionName": plain_name(actor),
            "DurationSeconds": str(held.session_seconds),
        }  # fmt: skip
        if base is None:
            if held.token is None:
                raise NotAdmitted(Reason.TARGET_UNREACHABLE, "the connection has no credential")
            token = self._resolve(held.token).reveal().strip()
            return asked | {"Action": "AssumeRoleWithWebIdentity", "WebIdentityToken": token}
        tags = {
            "ostiary:subject": subject, "ostiary:issuer": issuer, "ostiary:actor": actor, "ostiary:session": self._session,
            "ostiary:connection": self._place.connection,
        }  # fmt: skip
        asked["SourceIdentity"] = plain_name(subject)
        if held.external_id:
            asked["ExternalId"] = held.external_id
        for number, (name, value) in enumerate(tags.items(), 1):
            asked[f"Tags.member.{number}.Key"] = name
            asked[f"Tags.member.{number}.Value"] = _NOT_TAG.sub("-", value)[:256]
        return asked

    async def _assume(self, client: httpx.AsyncClient, base: Keys | None) -> Keys:
        url, host = self._place.sts
        body = urlencode(self._asked(base)).encode()
        headers = [(b"host", host.encode()), (b"content-type", b"application/x-www-form-urlencoded; charset=utf-8")]
        if base is not None:
            at = dt.datetime.now(dt.UTC).strftime("%Y%m%dT%H%M%SZ")
            headers += sign(
                method=b"POST", path="/", query="", headers=list(headers), payload=hashlib.sha256(body).hexdigest(), keys=base,
                region=self._place.region, service="sts", at=at,
            )  # fmt: skip
        status, content = await _asked_of(client, "POST", url, headers, body)
        found = {each.tag.rpartition("}")[2]: each.text or "" for each in ET.fromstring(content).iter()}  # noqa: S314 - STS's own answer, bounded
        if status != 200:
            code = found.get("Code", "")
            raise _NoKeys(f"STS says {code}" if _CODE.fullmatch(code) else f"STS answers {status}")
        return _keys(found["AccessKeyId"], found["SecretAccessKey"], found["SessionToken"], found["Expiration"])


class _NoKeys(ValueError):
    """There are none. The text says why, and quotes no secret."""


async def _asked_of(client: httpx.AsyncClient, method: str, url: str, headers: list[tuple[bytes, bytes]], body: bytes) -> tuple[int, bytes]:
    """(status, content) of an answer, of which no more is read than there may be. Raises `_NoKeys`."""
    content = b""
    async with client.stream(method, url, headers=[*headers, (b"accept-encoding", b"identity")], content=body) as answer:
        async for piece in answer.aiter_bytes():
            content += piece
            if len(content) > MAX_ANSWER:
                raise _NoKeys("the answer is too long")
    return answer.status_code, content


async def _from_machine(client: httpx.AsyncClient) -> Keys:
    """The machine's role: Instance Metadata Service, version 2."""
    async def said(method: str, path: str, header: str, value: str) -> bytes:
        status, content = await _asked_of(client, method, METADATA + path, [(header.encode(), value.encode())], b"")
        if status != 200:
            raise _NoKeys(f"the instance metadata service answers {status}")
        return content

    token = (await said("PUT", "/latest/api/token", "X-aws-ec2-metadata-token-ttl-seconds", "300")).decode("ascii").strip()
    place, header = "/latest/meta-data/iam/security-credentials/", "X-aws-ec2-metadata-token"
    role = (await said("GET", place, header, token)).decode("ascii").strip()
    if _ROLE.fullmatch(role) is None:
        raise _NoKeys("the machine has no role")
    found = msgspec.json.decode(await said("GET", place + role, header, token), type=dict[str, str])
    return _keys(found["AccessKeyId"], found["SecretAccessKey"], found["Token"], found["Expiration"])


def _keys(access_key: str, secret: str, token: str, expires: str) -> Keys:
    ends = dt.datetime.fromisoformat(expires)
    return Keys(access_key, Secret(secret), Secret(token), ends.timestamp())
