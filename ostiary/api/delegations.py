"""Delegations: a person, or an agent with what it holds, lets somebody act. Given, listed, revoked.

The token of a delegation is shown once, to whoever gave it. It is no secret that opens anything: it is good only together with the
token of the actor that it names.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ostiary.api.deps import Desk, answer, refused_json, said_by
from ostiary.api.forms import Form, FormRefused, Unreadable, form_of, read_details, single
from ostiary.identity.exchange import Wanted, give
from ostiary.identity.gateway import MayAct, Minted
from ostiary.identity.records import Delegation, Refused
from ostiary.identity.tokens import Proved
from ostiary.model.errors import LogFailed, NotAdmitted, Reason
from ostiary.model.identity import Said, VerifiedIdentity
from ostiary.store.database import StoreFailed

NOT_ACCEPTED = "the token was not accepted"


@dataclass(frozen=True, slots=True)
class Given:
    """A fresh delegation."""

    minted: Minted
    kept: Delegation
    proved: Proved
    """It as the subject of an exchange."""


async def given(desk: Desk, by: Proved, to: MayAct, wanted: Wanted, seconds: int, said: Said) -> Given:
    """Make, keep and record a delegation. Raises `NotAdmitted`, `Refused`, `StoreFailed`; then there is none."""
    deps, now = desk.deps, desk.deps.clock()
    try:
        minted = give(deps.signer, by, to, wanted, known=deps.connections, seconds=seconds, now=now)
    except NotAdmitted as error:
        await desk.recorded("delegation.create", said, by.identity, error)
        raise
    who = minted.identity
    giver = who.acting[0] if who.acting else None
    kept = Delegation(
        id=who.auth.token,
        iss=who.issuer,
        sub=who.subject,
        name=who.name,
        by_iss=who.issuer if giver is None else giver.iss,
        by_sub=who.subject if giver is None else giver.sub,
        to_iss=to.iss,
        to_sub=to.sub,
        details=[dict(item) for item in wanted.details or ()],
        purpose=wanted.purpose,
        ticket=wanted.ticket,
        created=int(now),
        expires=who.expires,
    )
    await deps.records.add_delegation(kept, int(now))
    if not await desk.recorded(
        "delegation.create", said, who, None, who.audience, f"{kept.id} to {to.sub} of {to.iss}"
    ):
        raise LogFailed("the delegation cannot be recorded")
    may_act = {"iss": to.iss, "sub": to.sub}
    return Given(minted, kept, Proved(identity=who, may_act=may_act, own=True, is_delegation=True))


class Delegations:
    """The handlers."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def routes(self) -> list[Route]:
        """Where they are."""
        return [
            Route("/v1/delegations", self.create, methods=["POST"]),
            Route("/v1/delegations", self.list, methods=["GET"]),
            Route("/v1/delegations/revoke", self.revoke, methods=["POST"]),
            Route("/v1/whoami", self.whoami, methods=["GET"]),
        ]

    async def create(self, request: Request) -> Response:
        """Let the actor `to` (of `to_issuer`; the gateway's own clients if not said) act within `authorization_details`."""
        form = await form_of(request)
        said = said_by(request, form)
        try:
            by = await self._desk.bearer(request)
        except NotAdmitted as error:
            await self._desk.recorded("delegation.create", said, None, error)
            return refused_json(NOT_ACCEPTED, 401)
        try:
            to, seconds, details = self._read(form)
            wanted = Wanted(details=details, purpose=said.purpose, ticket=said.ticket)
            made = await given(self._desk, by, to, wanted, seconds, said)
        except NotAdmitted as error:
            return refused_json(error.detail or error.reason.value, 403)
        except (Refused, Unreadable, FormRefused) as error:
            return refused_json(str(error), 400)
        except (StoreFailed, LogFailed):
            return refused_json("the delegation cannot be kept now; there is none. Try again", 503)
        return answer({"delegation": made.minted.token} | shown(made.kept, int(self._desk.deps.clock())), 201)

    def _read(self, form: Form) -> tuple[MayAct, int, list[dict[str, Any]] | None]:
        to = single(form, "to")
        seconds = single(form, "seconds") or "3600"
        if to is None:
            raise Refused("to is missing: whom it is given to")
        if not (seconds.isascii() and seconds.isdigit() and len(seconds) < 9):
            raise Refused("seconds is not a number")
        issuer = single(form, "to_issuer") or self._desk.deps.base_url
        if issuer == self._desk.deps.base_url:
            if self._desk.deps.clients.find(to) is None:
                raise Refused(f"the gateway has no client {to[:64]!a}; name its issuer, or add it to [[clients]]")
        elif issuer not in self._desk.deps.verifier.issuers:
            raise Refused("to_issuer is no issuer that is trusted here")
        return MayAct(iss=issuer, sub=to), int(seconds), read_details(single(form, "authorization_details"))

    async def list(self, request: Request) -> Response:
        """Those that whoever asks gave or was given; an agent sees its own, not all of its person's."""
        try:
            who = (await self._desk.bearer(request)).identity
            found = await self._desk.deps.records.delegations(*at_keyboard(who))
        except NotAdmitted as error:
            await self._desk.recorded("delegation.list", said_by(request), None, error)
            return refused_json(NOT_ACCEPTED, 401)
        except StoreFailed:
            return refused_json("try again", 503)
        now = int(self._desk.deps.clock())
        return answer({"delegations": [shown(each, now) for each in found]})

    async def revoke(self, request: Request) -> Response:
        """End one, and every session under it."""
        form = await form_of(request)
        said, why = said_by(request, form), single(form, "reason") or ""
        try:
            who = (await self._desk.bearer(request)).identity
        except NotAdmitted as error:
            await self._desk.recorded("delegation.revoke", said, None, error)
            return refused_json(NOT_ACCEPTED, 401)
        by = None if self._desk.deps.is_admin(who) else at_keyboard(who)
        try:
            one = await self._desk.deps.records.end_delegation(
                single(form, "id") or "", by, why[:512], int(self._desk.deps.clock())
            )
        except Refused as error:
            await self._desk.recorded("delegation.revoke", said, who, NotAdmitted(Reason.NOT_PERMITTED, str(error)))
            return refused_json(str(error), 404)
        except StoreFailed:
            return refused_json("the revocation cannot be written; try again", 503)
        if not await self._desk.recorded("delegation.revoke", said, who, None, detail=f"{one.id} {why}".strip()):
            return refused_json("it is revoked, but that cannot be recorded; try again", 503)
        return answer({"revoked": one.id})

    async def whoami(self, request: Request) -> Response:
        """What the token proves."""
        try:
            who = (await self._desk.bearer(request)).identity
        except NotAdmitted as error:
            await self._desk.recorded("whoami", said_by(request), None, error)
            return refused_json(NOT_ACCEPTED, 401)
        return answer(identity_shown(who))


def at_keyboard(who: VerifiedIdentity) -> tuple[str, str]:
    """(issuer, subject) of whoever makes the request."""
    return (who.acting[0].iss, who.acting[0].sub) if who.acting else (who.issuer, who.subject)


def shown(kept: Delegation, now: int) -> dict[str, Any]:
    """A delegation as JSON."""
    state = "ended" if kept.ended is not None else "expired" if kept.expires <= now else "open"
    found: dict[str, Any] = msgspec.to_builtins(kept)
    for name in ("created", "expires", "ended"):
        if found[name] is not None:
            found[name] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(found[name]))
    return found | {"state": state}


def identity_shown(who: VerifiedIdentity) -> dict[str, Any]:
    """An identity as JSON."""
    found: dict[str, Any] = {
        "issuer": who.issuer,
        "subject": who.subject,
        "kind": who.kind.value,
        "name": who.name,
        "email": who.email,
        "groups": sorted(who.groups),
        "acting": [msgspec.to_builtins(actor) for actor in who.acting],
        "initiator": None if who.initiator is None else msgspec.to_builtins(who.initiator),
        "task": who.task,
        "mandate": None if who.mandate is None else msgspec.to_builtins(who.mandate),
        "account": who.account,
        "connections": sorted(who.audience),
        "purpose": who.purpose,
        "ticket": who.ticket,
        "expires": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(who.expires)),
        "bound": who.auth.key is not None,
    }
    return {name: value for name, value in found.items() if value not in (None, [], "")}
