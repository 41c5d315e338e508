"""The HTTP API, first cut: tokens in and out, the gateway's public keys, health and metrics.

Every request for a token is on record before its answer leaves, whatever the answer is; if the record cannot be made,
the answer is "not now" and no token exists. What a caller hears about a bad token is one sentence, always the same:
which check failed is for the log. Nothing here logs bodies, queries or headers.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import uvicorn
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from ostiary.api.events import Record, TokenEvent
from ostiary.api.forms import NO_STORE, Form, FormRefused, form_of, oauth_error, single
from ostiary.api.words import ACCESS_TOKEN, CONNECTION_URN, GRANT, JWT, TOKEN_TYPES
from ostiary.identity.exchange import DetailsRefused, TargetRefused, exchange
from ostiary.identity.gateway import Minted, TokenSigner
from ostiary.identity.tokens import Proved
from ostiary.identity.verifier import Verifier
from ostiary.model.errors import NotAdmitted, Reason
from ostiary.model.identity import Said, VerifiedIdentity
from ostiary.store.database import StoreFailed

MAX_SAID: Final = 512
"""Characters of what a caller claims."""
MAX_AT_ONCE: Final = 64
"""Token requests in work; more are told to come back."""
NOT_ACCEPTED: Final = "the token was not accepted"


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
    clock: Callable[[], float] = time.time


def create_app(deps: Deps) -> Starlette:
    """The API as an ASGI application."""
    handlers = _Handlers(deps)
    return Starlette(
        routes=[
            Route("/v1/token", handlers.token, methods=["POST"]),
            Route("/v1/revoke", handlers.revoke, methods=["POST"]),
            Route("/.well-known/jwks.json", handlers.jwks, methods=["GET"]),
            Route("/healthz", handlers.healthz, methods=["GET"]),
            Route("/metrics", handlers.metrics, methods=["GET"]),
        ],
        exception_handlers={FormRefused: _form_refused},
    )


def server(app: Starlette, *, host: str, port: int, tls_cert: str | None, tls_key: str | None) -> uvicorn.Server:
    """A server for `app`; `await server.serve()` runs it. Port 0 takes a free one.

    No access log: it would hold queries. No proxy headers: the address on record is the socket's.
    """
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        ssl_certfile=tls_cert,
        ssl_keyfile=tls_key,
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        lifespan="off",
        limit_concurrency=4 * MAX_AT_ONCE,
        timeout_keep_alive=5,
        timeout_graceful_shutdown=5,
        h11_max_incomplete_event_size=16 * 1024,
        ws="none",
    )
    return uvicorn.Server(config)


def _form_refused(_: Request, error: Exception) -> Response:
    status = error.status if isinstance(error, FormRefused) else 400
    return oauth_error("invalid_request", str(error), status)


@dataclass(frozen=True, slots=True)
class _Asked:
    """A token request as it was read."""

    subject: str
    actor: str | None
    connections: frozenset[str]
    details: list[dict[str, Any]] | None


class _Unreadable(Exception):
    """A token request that breaks RFC 8693, 2.1. `error` is from RFC 6749, 5.2; the sentence is for the caller."""

    def __init__(self, error: str, sentence: str) -> None:
        super().__init__(sentence)
        self.error = error


class _Handlers:
    def __init__(self, deps: Deps) -> None:
        self._deps = deps
        self._gate = asyncio.Semaphore(MAX_AT_ONCE)
        self._count = Counter(
            "ostiary_token_requests", "Requests to the token endpoints.", ["action", "result"], registry=deps.registry
        )

    async def token(self, request: Request) -> Response:
        """RFC 8693, 2: exchange an issuer's or the gateway's token for a gateway token, never a wider one."""
        if self._gate.locked():
            return oauth_error("temporarily_unavailable", "too many requests at once; try again", 503)
        async with self._gate:
            form = await form_of(request)
            said = _said(request, form)
            try:
                asked = _read_exchange(form)
            except _Unreadable as error:
                self._count.labels("exchange", "unreadable").inc()
                return oauth_error(error.error, str(error))
            return await self._exchange(asked, said)

    async def _exchange(self, asked: _Asked, said: Said) -> Response:
        minted, refused = await self._mint(asked)
        done = await self._recorded(
            "token.exchange", said, minted.identity if minted is not None else None, refused, asked.connections
        )
        if not done:
            return oauth_error("temporarily_unavailable", "the request cannot be recorded; nothing was issued", 503)
        if minted is None:
            return _refusal(refused)
        answer = {
            "access_token": minted.token,
            "issued_token_type": ACCESS_TOKEN,
            "token_type": "Bearer",
            "expires_in": max(0, minted.identity.expires - int(self._deps.clock())),
        }
        return JSONResponse(answer, headers=NO_STORE)

    async def _mint(self, asked: _Asked) -> tuple[Minted | None, NotAdmitted | None]:
        deps, now = self._deps, self._deps.clock()
        try:
            subject = await deps.verifier.verify_token(asked.subject, now)
            actor = None if asked.actor is None else await deps.verifier.verify_token(asked.actor, now)
            minted = exchange(
                deps.signer,
                subject,
                actor,
                connections=asked.connections,
                known=deps.connections,
                details=asked.details,
                now=now,
            )
        except NotAdmitted as error:
            return None, error
        return minted, None

    async def revoke(self, request: Request) -> Response:
        """RFC 7009: whoever holds a token may end it, and with it all that was exchanged from it."""
        form = await form_of(request)
        token = single(form, "token")
        if token is None:
            return oauth_error("invalid_request", "token is missing")
        proved: Proved | None = None
        refused: NotAdmitted | None = None
        try:
            proved = await self._deps.verifier.verify_token(token, self._deps.clock())
        except NotAdmitted as error:
            refused = error
            if error.reason is Reason.ISSUER_UNREACHABLE:
                return oauth_error("temporarily_unavailable", "the token cannot be checked now; try again", 503)
        if proved is not None:
            # First ended, then recorded: if the record fails the caller tries again, and the token is dead all the same.
            try:
                await self._deps.revoke(proved.identity.auth.token, proved.identity.expires)
            except StoreFailed:
                return oauth_error("temporarily_unavailable", "the revocation cannot be written; try again", 503)
        who = proved.identity if proved is not None else None
        if not await self._recorded("token.revoke", _said(request, form), who, refused, frozenset()):
            return oauth_error("temporarily_unavailable", "the revocation cannot be recorded; try again", 503)
        # RFC 7009, 2.2: a token that is not valid is as good as revoked.
        return Response(status_code=200, headers=NO_STORE)

    async def jwks(self, _: Request) -> Response:
        """RFC 7517, 5: the key that gateway tokens are signed with."""
        return JSONResponse({"keys": [self._deps.signer.key.public_jwk()]}, headers={"cache-control": "max-age=300"})

    async def healthz(self, _: Request) -> Response:
        """Whether this process answers."""
        return PlainTextResponse("ok\n")

    async def metrics(self, _: Request) -> Response:
        """Prometheus, text format. No label is a user's, a statement's or a token's."""
        return Response(generate_latest(self._deps.registry), media_type=CONTENT_TYPE_LATEST)

    async def _recorded(
        self,
        action: str,
        said: Said,
        who: VerifiedIdentity | None,
        refused: NotAdmitted | None,
        connections: frozenset[str],
    ) -> bool:
        event = TokenEvent(
            action=action,
            said=said,
            who=who,
            connections=tuple(sorted(connections)),
            reason=None if refused is None else refused.reason,
            detail="" if refused is None else refused.detail,
        )
        kind = action.removeprefix("token.")
        try:
            await self._deps.record(event)
        except Exception:  # noqa: BLE001 - whatever stops the record stops the token
            self._count.labels(kind, "unrecorded").inc()
            return False
        self._count.labels(kind, "done" if refused is None else refused.reason.name.lower()).inc()
        return True


def _refusal(refused: NotAdmitted | None) -> Response:
    """RFC 8693, 2.2.2. Which check a token failed is not told."""
    if isinstance(refused, TargetRefused):
        return oauth_error("invalid_target", "the token is not for that connection, or there is none of that name")
    if isinstance(refused, DetailsRefused):
        return oauth_error("invalid_authorization_details", refused.detail)
    if refused is not None and refused.reason is Reason.ISSUER_UNREACHABLE:
        return oauth_error("temporarily_unavailable", "the token cannot be checked now; try again", 503)
    return oauth_error("invalid_request", NOT_ACCEPTED)


def _read_exchange(form: Form) -> _Asked:
    """RFC 8693, 2.1. A parameter that would restrict and is not understood is an error, not a shrug."""
    if single(form, "grant_type") != GRANT:
        raise _Unreadable("unsupported_grant_type", f"grant_type must be {GRANT}")
    subject, actor = single(form, "subject_token"), single(form, "actor_token")
    if subject is None:
        raise _Unreadable("invalid_request", "subject_token is missing")
    if single(form, "subject_token_type") not in TOKEN_TYPES:
        raise _Unreadable("invalid_request", "subject_token_type is missing or not one of ours")
    actor_type = single(form, "actor_token_type")
    if (actor is None) != (actor_type is None) or (actor_type is not None and actor_type not in TOKEN_TYPES):
        raise _Unreadable("invalid_request", "actor_token and actor_token_type do not fit")
    if single(form, "requested_token_type") not in (None, ACCESS_TOKEN, JWT):
        raise _Unreadable("invalid_request", "only access tokens are issued")
    if single(form, "scope") is not None:
        raise _Unreadable("invalid_scope", "there are no scopes here; use audience and authorization_details")
    connections = set(form.get("audience", []))
    for resource in form.get("resource", []):
        if not resource.startswith(CONNECTION_URN):
            raise _Unreadable("invalid_target", f"resource must be {CONNECTION_URN}NAME")
        connections.add(resource.removeprefix(CONNECTION_URN))
    return _Asked(subject, actor, frozenset(connections), _details(single(form, "authorization_details")))


def _details(text: str | None) -> list[dict[str, Any]] | None:
    if text is None:
        return None
    try:
        return msgspec.json.decode(text, type=list[dict[str, Any]])
    except (msgspec.MsgspecError, RecursionError):
        raise _Unreadable("invalid_authorization_details", "authorization_details is not a list of objects") from None


def _said(request: Request, form: Form) -> Said:
    """What the caller claims: recorded as said, proved by nothing."""
    peer = request.client
    return Said(
        address="local" if peer is None else f"{peer.host}:{peer.port}",
        application=request.headers.get("user-agent", ""),
        purpose=_claimed(form, "purpose"),
        ticket=_claimed(form, "ticket"),
    )


def _claimed(form: Form, name: str) -> str:
    value = single(form, name) or ""
    if len(value) > MAX_SAID:
        raise FormRefused(f"{name} is longer than {MAX_SAID} characters")
    return value
