"""The token endpoint and its neighbours: every grant, revocation, introspection. RFC 6749, 7009, 7523, 7662, 8628, 8693, 9449.

Every grant ends in the same place: a proved subject, perhaps a proved actor, and what is wanted, put to `exchange`, which can only
narrow. Every request is on record before its answer leaves, whatever the answer is; if the record cannot be made, the answer is
"not now" and no token exists. What a caller hears about a bad token is one sentence, always the same.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ostiary.api.deps import Desk, answer, said_by
from ostiary.api.forms import NO_STORE, Form, Unreadable, form_of, oauth_error, read_details, single
from ostiary.api.logins import Logins, Pending
from ostiary.api.showing import certificate_of
from ostiary.api.words import (
    ACCESS_TOKEN,
    ASSERTION,
    AWS_IDENTITY,
    AWS_KEYS,
    CLIENT_CREDENTIALS,
    CODE,
    CONNECTION_URN,
    DELEGATION_TOKEN,
    DEVICE_CODE,
    GRANT,
    JWT,
    JWT_BEARER,
    TOKEN_TYPES,
)
from ostiary.identity.aws import NONCE_SECONDS
from ostiary.identity.bound import bound_to
from ostiary.identity.dpop import KeyProof
from ostiary.identity.exchange import DetailsRefused, TargetRefused, Wanted, exchange
from ostiary.identity.gateway import Minted
from ostiary.identity.jose import parse_compact
from ostiary.identity.tokens import Proved
from ostiary.model.errors import NotAdmitted, Reason
from ostiary.model.identity import Said, VerifiedIdentity
from ostiary.store.database import StoreFailed

MAX_AT_ONCE: Final = 64
"""Token requests in work; more are told to come back."""
NOT_ACCEPTED: Final = "the token was not accepted"


class GrantPending(Exception):
    """RFC 8628, 3.5: nobody has said yes or no yet, or the client asks too often. `error` says which."""

    def __init__(self, error: str) -> None:
        super().__init__(error)
        self.error = error


@dataclass(frozen=True, slots=True)
class _Asked:
    """A token request as it was read: what it wants, whatever the grant."""

    connections: frozenset[str]
    details: list[dict[str, Any]] | None
    account: str | None
    keys: bool
    """It is keys for AWS that are wanted, and no token."""


class Tokens:
    """The handlers."""

    def __init__(self, desk: Desk, logins: Logins) -> None:
        self._desk = desk
        self._logins = logins
        self._gate = asyncio.Semaphore(MAX_AT_ONCE)

    def routes(self) -> list[Route]:
        """Where they are."""
        return [
            Route("/v1/token", self.token, methods=["POST"]),
            Route("/oauth/token", self.token, methods=["POST"]),
            Route("/v1/nonce", self.nonce, methods=["GET"]),
            Route("/v1/revoke", self.revoke, methods=["POST"]),
            Route("/oauth/revoke", self.revoke, methods=["POST"]),
            Route("/oauth/introspect", self.introspect, methods=["POST"]),
        ]

    async def token(self, request: Request) -> Response:
        """RFC 6749, 3.2: a gateway token for whatever proves somebody, never wider than that."""
        # Read before a place is taken: who sends slowly keeps nobody else waiting.
        form = await form_of(request)
        said = said_by(request, form)
        if self._gate.locked():
            return oauth_error("temporarily_unavailable", "too many requests at once; try again", 503)
        async with self._gate:
            try:
                kind = _grant(form)
                asked = _read(form)
                self._check_keys(asked, request)
                return await self._grant(request, form, kind, asked, said)
            except Unreadable as error:
                self._desk.count("exchange", "unreadable")
                return oauth_error(error.error, str(error))
            except GrantPending as error:
                return oauth_error(error.error, "nobody has answered yet")

    async def nonce(self, _: Request) -> Response:
        """What a presigned `sts:GetCallerIdentity` has to be bound to."""
        aws = self._desk.deps.aws
        if aws is None:
            return oauth_error("invalid_request", "AWS principals do not log in here: [aws_identities] is not configured", 404)
        return answer({"nonce": aws.nonce(self._desk.deps.clock()), "audience": aws.audience, "endpoint": aws.endpoint, "expires_in": NONCE_SECONDS})

    def _check_keys(self, asked: _Asked, request: Request) -> None:
        if asked.keys and (len(asked.connections) != 1 or not asked.connections <= self._desk.deps.aws_accounts):
            raise Unreadable("invalid_target", "keys for AWS are made for exactly one connection of type aws")
        if asked.keys and request.headers.get("dpop") is not None:
            raise Unreadable("invalid_request", "keys for AWS are bound to themselves: send no DPoP proof")

    async def _grant(self, request: Request, form: Form, kind: str, asked: _Asked, said: Said) -> Response:
        desk, now = self._desk, self._desk.deps.clock()
        subject: Proved | None = None
        actor: Proved | None = None
        minted: Minted | None = None
        refused: NotAdmitted | None = None
        proof: KeyProof | None = None
        try:
            proof = desk.proved_key(request, None, now)
            bound = certificate_of(request) if proof is None else proof.key
            subject, actor = await self._proved(form, kind, now, bound)
            if proof is not None:
                desk.deps.verifier.proofs.spend(proof, now)
            minted = await self._mint(subject, actor, asked, said, bound, now)
        except NotAdmitted as error:
            refused = error
        # A refusal names whoever was proved: somebody who tries what they may not is no stranger.
        who = minted.identity if minted is not None else _at_keyboard(subject, actor)
        done = await desk.recorded(_ACTIONS[kind], said, who, refused, asked.connections, detail=_detail(asked))
        if not done:
            return oauth_error("temporarily_unavailable", "the request cannot be recorded; nothing was issued", 503)
        if minted is None:
            return _refusal(refused, kind)
        try:
            await desk.deps.saw(minted.identity)
        except StoreFailed:
            return oauth_error("temporarily_unavailable", "the login cannot be noted; nothing was issued", 503)
        if kind == "code":
            self._logins.gave(_required(form, "code"), minted.identity.auth.token, minted.identity.expires)
        seconds = max(0, minted.identity.expires - int(desk.deps.clock()))
        if asked.keys:
            return self._aws_keys(minted, asked, seconds)
        given = {
            "access_token": minted.token,
            "issued_token_type": ACCESS_TOKEN,
            "token_type": "Bearer" if proof is None else "DPoP",  # RFC 8705, 3: one that is bound to a certificate is Bearer
            "expires_in": seconds,
        }
        return answer(given)

    def _aws_keys(self, minted: Minted, asked: _Asked, seconds: int) -> Response:
        """The token, sealed, and the keys that go with it. The token itself is not told."""
        (connection,) = asked.connections
        if self._desk.deps.aws_keys is None:
            raise AssertionError("keys were asked for a connection that is no AWS account")
        keys = self._desk.deps.aws_keys.make(minted.token, connection)
        given = {
            "access_token": keys.session_token, "issued_token_type": AWS_KEYS, "token_type": "N_A", "expires_in": seconds,
            "access_key_id": keys.access_key, "secret_access_key": keys.secret.reveal(),
        }  # fmt: skip
        return answer(given)

    async def _proved(self, form: Form, kind: str, now: float, bound: str | None) -> tuple[Proved, Proved | None]:
        """The subject, and who acts for it. Raises `NotAdmitted`, `Unreadable`, `GrantPending`."""
        deps = self._desk.deps
        client = None
        if (assertion := single(form, "client_assertion")) is not None:
            if single(form, "client_assertion_type") != ASSERTION:
                raise Unreadable("invalid_client", f"client_assertion_type must be {ASSERTION}")
            client = await deps.clients.authenticate(assertion, now)
            if single(form, "client_id") not in (None, client.identity.subject):  # RFC 7521, 4.2
                raise Unreadable("invalid_client", "client_id is not the client that proved itself")
        match kind:
            case "exchange":
                subject = await self._subject(form, now, bound)
                token = single(form, "actor_token")
                actor = client if token is None else await deps.verifier.verify_token(token, now, key=bound)
                return subject, actor
            case "jwt-bearer":
                return await deps.verifier.verify_token(_required(form, "assertion"), now, key=bound), client
            case "client-credentials":
                if client is None:
                    raise Unreadable(
                        "invalid_client", "clients prove themselves with client_assertion (private_key_jwt)"
                    )
                return client, None
            case _:
                return await self._logged_in(form, kind, client)

    async def _subject(self, form: Form, now: float, bound: str | None) -> Proved:
        deps, token = self._desk.deps, _required(form, "subject_token")
        if single(form, "subject_token_type") != AWS_IDENTITY:
            return await deps.verifier.verify_token(token, now, key=bound)
        if deps.aws is None:
            raise Unreadable("invalid_request", "AWS principals do not log in here")
        proved = await deps.aws.verify(token, _required(form, "nonce"), now)
        deps.verifier.check(proved.identity)
        return proved

    async def _logged_in(self, form: Form, kind: str, client: Proved | None) -> tuple[Proved, Proved | None]:
        name = single(form, "client_id") or (client.identity.subject if client is not None else None)
        if name is None:
            raise Unreadable("invalid_client", "client_id is missing")
        configured = self._desk.deps.clients.find(name)
        if configured is not None and client is None:
            raise Unreadable("invalid_client", "this client has a key: send client_assertion")
        found: Pending | None
        if kind == "code":
            if (given := self._logins.shown_again(_required(form, "code"))) is not None:
                try:
                    await self._desk.deps.revoke(*given)
                except StoreFailed as error:
                    raise NotAdmitted(Reason.CONTROL_UNREACHABLE, str(error)) from None
                raise NotAdmitted(Reason.BAD_TOKEN, "the code was used before: the token that came of it was ended")
            found = self._logins.redeem(
                _required(form, "code"), name, single(form, "redirect_uri"), _required(form, "code_verifier")
            )
        else:
            state = self._logins.poll(_required(form, "device_code"), name)
            if isinstance(state, str):
                raise GrantPending(state)
            found = state
        if found is None or found.subject is None:
            raise NotAdmitted(Reason.BAD_TOKEN, f"the {kind} is unknown, used, expired or of another client")
        return found.subject, client

    async def _mint(
        self, subject: Proved, actor: Proved | None, asked: _Asked, said: Said, bound: str | None, now: float
    ) -> Minted:
        deps = self._desk.deps
        account, ends = None, 0
        if asked.account is not None:
            try:
                account, ends = await deps.records.usable_account(asked.account, now)
            except StoreFailed as error:
                raise NotAdmitted(Reason.CONTROL_UNREACHABLE, str(error)) from None
        wanted = Wanted(
            connections=asked.connections,
            details=asked.details,
            account=account,
            key=bound,
            purpose=said.purpose,
            ticket=said.ticket,
            seconds=None if account is None else max(1, ends - int(now)),
        )
        return exchange(deps.signer, subject, actor, wanted, known=deps.connections, now=now)

    async def revoke(self, request: Request) -> Response:
        """RFC 7009: whoever holds a token may end it, and with it all that was exchanged from it."""
        desk = self._desk
        form = await form_of(request)
        token = single(form, "token")
        if token is None:
            return oauth_error("invalid_request", "token is missing")
        proved: Proved | None = None
        refused: NotAdmitted | None = None
        try:
            proved = await desk.deps.verifier.verify_token(token, desk.deps.clock(), key=_any_key(token))
        except NotAdmitted as error:
            refused = error
            if error.reason is Reason.ISSUER_UNREACHABLE:
                return oauth_error("temporarily_unavailable", "the token cannot be checked now; try again", 503)
        if proved is not None:
            # First ended, then recorded: if the record fails the caller tries again, and the token is dead all the same.
            try:
                await desk.deps.revoke(proved.identity.auth.token, proved.identity.expires)
            except StoreFailed:
                return oauth_error("temporarily_unavailable", "the revocation cannot be written; try again", 503)
        who = proved.identity if proved is not None else None
        if not await desk.recorded("token.revoke", said_by(request, form), who, refused):
            return oauth_error("temporarily_unavailable", "the revocation cannot be recorded; try again", 503)
        # RFC 7009, 2.2: a token that is not valid is as good as revoked.
        return Response(status_code=200, headers=NO_STORE)

    async def introspect(self, request: Request) -> Response:
        """RFC 7662: what a token of the gateway's says, for clients that prove themselves. All else is not active."""
        desk, now = self._desk, self._desk.deps.clock()
        form = await form_of(request)
        token, assertion = single(form, "token"), single(form, "client_assertion")
        if token is None:
            return oauth_error("invalid_request", "token is missing")
        try:
            if assertion is None or single(form, "client_assertion_type") != ASSERTION:
                raise NotAdmitted(Reason.NO_TOKEN, "no client assertion")  # noqa: TRY301 - one way out for all
            client = await desk.deps.clients.authenticate(assertion, now)
        except NotAdmitted as error:
            await desk.recorded("token.introspect", said_by(request, form), None, error)
            return oauth_error("invalid_client", "clients prove themselves with client_assertion", 401)
        try:
            proved = await desk.deps.verifier.verify_token(token, now, key=_any_key(token))
        except NotAdmitted:
            proved = None
        active = proved is not None and proved.own and not proved.is_delegation
        if not await desk.recorded("token.introspect", said_by(request, form), client.identity, None):
            return oauth_error("temporarily_unavailable", "the request cannot be recorded", 503)
        if proved is None or not active:
            return JSONResponse({"active": False}, headers=NO_STORE)
        return JSONResponse({"active": True} | _claims(token), headers=NO_STORE)


def _claims(token: str) -> dict[str, Any]:
    """What a token says. Whether it is true is checked elsewhere."""
    return parse_compact(token).claims


def _any_key(token: str) -> str | None:
    """What a token says it is bound to: ending or looking at a token takes no proof of it."""
    try:
        return bound_to(_claims(token).get("cnf"))
    except NotAdmitted:
        return None


def _at_keyboard(subject: Proved | None, actor: Proved | None) -> VerifiedIdentity | None:
    """Who asked, of those that were proved: a delegation alone proves nobody's presence."""
    if actor is not None:
        return actor.identity
    return None if subject is None or subject.is_delegation else subject.identity


def _detail(asked: _Asked) -> str:
    parts = (f"account {asked.account}" if asked.account is not None else "", "keys for AWS" if asked.keys else "")
    return ", ".join(part for part in parts if part)


_GRANTS: Final = {
    GRANT: "exchange",
    JWT_BEARER: "jwt-bearer",
    CLIENT_CREDENTIALS: "client-credentials",
    CODE: "code",
    DEVICE_CODE: "device",
}
_ACTIONS: Final = {
    "exchange": "token.exchange",
    "jwt-bearer": "token.exchange",
    "client-credentials": "token.client",
    "code": "token.login",
    "device": "token.login",
}


def _grant(form: Form) -> str:
    kind = _GRANTS.get(single(form, "grant_type") or "")
    if kind is None:
        raise Unreadable("unsupported_grant_type", f"grant_type must be one of {', '.join(_GRANTS)}")
    if kind == "exchange":
        _check_exchange(form)
    return kind


def _check_exchange(form: Form) -> None:
    """RFC 8693, 2.1. A parameter that would restrict and is not understood is an error, not a shrug."""
    actor, actor_type = single(form, "actor_token"), single(form, "actor_token_type")
    if single(form, "subject_token") is None:
        raise Unreadable("invalid_request", "subject_token is missing")
    if single(form, "subject_token_type") not in TOKEN_TYPES | {DELEGATION_TOKEN, AWS_IDENTITY}:
        raise Unreadable("invalid_request", "subject_token_type is missing or not one of ours")
    if (actor is None) != (actor_type is None) or (actor_type is not None and actor_type not in TOKEN_TYPES):
        raise Unreadable("invalid_request", "actor_token and actor_token_type do not fit")
    if single(form, "requested_token_type") not in (None, ACCESS_TOKEN, JWT, AWS_KEYS):
        raise Unreadable("invalid_request", "only access tokens and keys for AWS are issued")


def _read(form: Form) -> _Asked:
    if single(form, "scope") is not None:
        raise Unreadable("invalid_scope", "there are no scopes here; use audience and authorization_details")
    connections = set(form.get("audience", []))
    for resource in form.get("resource", []):
        if not resource.startswith(CONNECTION_URN):
            raise Unreadable("invalid_target", f"resource must be {CONNECTION_URN}NAME")
        connections.add(resource.removeprefix(CONNECTION_URN))
    details = read_details(single(form, "authorization_details"))
    keys = single(form, "requested_token_type") == AWS_KEYS
    return _Asked(frozenset(connections), details, single(form, "account"), keys)


def _required(form: Form, name: str) -> str:
    value = single(form, name)
    if value is None:
        raise Unreadable("invalid_request", f"{name} is missing")
    return value


def _refusal(refused: NotAdmitted | None, kind: str) -> Response:
    """RFC 6749, 5.2; RFC 8693, 2.2.2. Which check a token failed is not told."""
    if isinstance(refused, TargetRefused):
        return oauth_error("invalid_target", "the token is not for that connection, or there is none of that name")
    if isinstance(refused, DetailsRefused):
        return oauth_error("invalid_authorization_details", refused.detail)
    if refused is not None and refused.reason in (Reason.ISSUER_UNREACHABLE, Reason.CONTROL_UNREACHABLE):
        return oauth_error("temporarily_unavailable", "the token cannot be checked now; try again", 503)
    if kind == "client-credentials":
        return oauth_error("invalid_client", NOT_ACCEPTED, 401)
    return oauth_error("invalid_request" if kind == "exchange" else "invalid_grant", NOT_ACCEPTED)
