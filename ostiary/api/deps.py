"""What the API needs of the rest, and how every area of it says who asks and what happened."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from prometheus_client import CollectorRegistry, Counter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ostiary.api.events import Record, TokenEvent
from ostiary.api.forms import NO_STORE, Form, FormRefused, single
from ostiary.api.showing import bearer, proved_key
from ostiary.identity.aws import AwsLogin
from ostiary.identity.aws_keys import AwsKeys
from ostiary.identity.clients import Clients
from ostiary.identity.dpop import KeyProof
from ostiary.identity.gateway import TokenSigner
from ostiary.identity.jobs import EndJob, Hook
from ostiary.identity.oidc import Login, Provided
from ostiary.identity.records import Records
from ostiary.identity.saml import SamlLogin
from ostiary.identity.tokens import Proved
from ostiary.identity.verifier import Verifier
from ostiary.model.errors import NotAdmitted, Reason
from ostiary.model.identity import Kind, Said, VerifiedIdentity

MAX_SAID: Final = 512
"""Characters of what a caller claims."""


async def _nobody_cares(_who: VerifiedIdentity) -> None:
    """Without approvals."""


async def _nobody_works(_issuer: str, _task: str, _at: float, _by: str) -> None:
    """Where the ends of jobs are not kept."""


async def _nobody_ends(_session: str, _why: str, _now: int) -> None:
    """Without workers."""


async def _nobody_asks(_provided: Provided) -> None:
    """Where issuers are not asked again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deps:
    """What the API needs of the rest."""

    verifier: Verifier
    signer: TokenSigner
    revoke: Callable[[str, int], Awaitable[None]]
    """Ends a token and all that was made from it, durably: the hash of its id, and when it expires anyway."""
    connections: frozenset[str]
    record: Record
    registry: CollectorRegistry
    records: Records
    clients: Clients
    base_url: str
    """How clients reach this API, without a slash at the end: the issuer of the gateway's tokens."""
    mtls_url: str | None = None
    """Where clients with a certificate reach it, whose tokens are bound to that; None: nowhere."""
    logins: tuple[Login | SamlLogin, ...] = ()
    """Issuers at which people can log in with a browser."""
    admin_groups: frozenset[str] = frozenset()
    admin_issuer: str | None = None
    scim_token: str | None = None
    """Hex SHA-256 of the bearer token of the identity provider."""
    scim_issuer: str = ""
    scim_subject: str = "externalId"
    actor_keys: tuple[dict[str, str], ...] = ()
    """Public keys of what services are told of who acts (`X-Ostiary-Assertion`)."""
    saw: Callable[[VerifiedIdentity], Awaitable[None]] = _nobody_cares
    """Hears of everybody whom a token is given: approvals forget who lost a group."""
    aws: AwsLogin | None = None
    """Asks AWS who signed; None: its principals do not log in here."""
    returned: Callable[[Provided], Awaitable[None]] = _nobody_asks
    """Hears of every login at an issuer, before it is asked whether whoever it is was stopped."""
    aws_accounts: frozenset[str] = frozenset()
    """Connections that are AWS accounts."""
    aws_keys: AwsKeys | None = None
    """Makes the keys that clients of AWS sign with; None: no connection needs any."""
    end_job: EndJob = _nobody_works
    """Tells everybody that a job has ended."""
    job_hooks: tuple[Hook, ...] = ()
    """CI systems that say so."""
    end_session: Callable[[str, str, int], Awaitable[None]] = _nobody_ends
    """Ends a session: its id, why, and when that was said."""
    clock: Callable[[], float] = time.time

    def is_admin(self, who: VerifiedIdentity) -> bool:
        """Whether this is a person of an administrators' group, at the keyboard themselves."""
        trusted = self.admin_issuer is None or who.issuer == self.admin_issuer
        alone = who.kind is Kind.HUMAN and not who.acting and who.mandate is None
        return trusted and alone and not self.admin_groups.isdisjoint(who.groups)


class Desk:
    """What handlers of every area share: who asks, and the record of it."""

    def __init__(self, deps: Deps) -> None:
        self.deps = deps
        self._count = Counter(
            "ostiary_token_requests", "Requests to the token endpoints.", ["action", "result"], registry=deps.registry
        )

    def count(self, kind: str, result: str) -> None:
        """Count a request that was not recorded."""
        self._count.labels(kind, result).inc()

    async def bearer(self, request: Request) -> Proved:
        """Who makes this request, with a token of the gateway's own. Raises `NotAdmitted`."""
        deps = self.deps
        proved = await bearer(request, deps.verifier, deps.base_url, deps.clock())
        if not proved.own:
            raise NotAdmitted(Reason.BAD_TOKEN, "not a token of the gateway's")
        return proved

    def proved_key(self, request: Request, token: str | None, now: float) -> KeyProof | None:
        """The key that this request proves (RFC 9449, 4.3); None: it brings no proof. Raises `NotAdmitted`."""
        return proved_key(request, self.deps.verifier, self.deps.base_url, token, now)

    async def recorded(
        self,
        action: str,
        said: Said,
        who: VerifiedIdentity | None,
        refused: NotAdmitted | None,
        connections: frozenset[str] = frozenset(),
        detail: str = "",
    ) -> bool:
        """Put it on record, durably; False: that cannot be done, so nothing may be issued or promised."""
        event = TokenEvent(
            action=action,
            said=said,
            who=who,
            connections=tuple(sorted(connections)),
            reason=None if refused is None else refused.reason,
            detail=detail if refused is None else refused.detail,
        )
        kind = action.removeprefix("token.")
        try:
            await self.deps.record(event)
        except Exception:  # noqa: BLE001 - whatever stops the record stops the token
            self._count.labels(kind, "unrecorded").inc()
            return False
        self._count.labels(kind, "done" if refused is None else refused.reason.name.lower()).inc()
        return True


def said_by(request: Request, form: Form | None = None) -> Said:
    """What the caller claims: recorded as said, proved by nothing."""
    peer = request.client
    return Said(
        address="local" if peer is None else f"{peer.host}:{peer.port}",
        application=request.headers.get("user-agent", ""),
        purpose=_claimed(form or {}, "purpose"),
        ticket=_claimed(form or {}, "ticket"),
    )


def _claimed(form: Form, name: str) -> str:
    value = single(form, name) or ""
    if len(value) > MAX_SAID:
        raise FormRefused(f"{name} is longer than {MAX_SAID} characters")
    return value


def answer(content: object, status: int = 200) -> Response:
    """JSON that no cache keeps."""
    return JSONResponse(content, status, NO_STORE)


def refused_json(sentence: str, status: int) -> Response:
    """Say no, with a sentence fit for the caller."""
    return answer({"error": sentence}, status)
