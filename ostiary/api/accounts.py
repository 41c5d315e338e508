"""Service accounts, and stopping anybody or any session: what an administrator does. Each act is on record before it is answered."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ostiary.api.deps import Desk, answer, refused_json, said_by
from ostiary.api.forms import FormRefused, json_of, read_json
from ostiary.identity.aws import ISSUER as AWS
from ostiary.identity.issuers import Condition
from ostiary.identity.records import Refused, ServiceAccount
from ostiary.model.errors import NotAdmitted, Reason
from ostiary.model.identity import VerifiedIdentity
from ostiary.store.database import StoreFailed

MAX_DAYS: Final = 366
Text = Annotated[str, Meta(min_length=1, max_length=512)]
Name = Annotated[str, Meta(pattern="^[a-z0-9]([a-z0-9_.-]{0,61}[a-z0-9])?$")]


class NewAccount(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A service account as it is asked for."""

    name: Name
    owner_issuer: Text
    owner: Text
    issuer: Text
    conditions: Annotated[dict[Text, Condition], Meta(min_length=1, max_length=16)]
    """What the token of a workload must say: at least one, or every job of the issuer could use it."""
    connections: Annotated[list[Text], Meta(max_length=256)] = []
    days: Annotated[int, Meta(ge=1, le=MAX_DAYS)]


class EndAccount(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which account ends, and why."""

    name: Name
    reason: Text


class Stop(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who is stopped, and why."""

    issuer: Text
    subject: Text
    reason: Text


class Release(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who may come back."""

    issuer: Text
    subject: Text


class EndSession(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which session ends, and why."""

    session: Annotated[str, Meta(pattern="^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")]
    reason: Text


Act = Callable[[bytes, VerifiedIdentity], Awaitable[tuple[dict[str, Any], str]]]


class Accounts:
    """The handlers."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def routes(self) -> list[Route]:
        """Where they are."""
        return [
            Route("/v1/accounts", self._admin("account.create", self._create), methods=["POST"]),
            Route("/v1/accounts", self._admin("account.list", self._list), methods=["GET"]),
            Route("/v1/accounts/end", self._admin("account.end", self._end), methods=["POST"]),
            Route("/v1/stops", self._admin("actor.isolate", self._stop), methods=["POST"]),
            Route("/v1/stops", self._admin("actor.list", self._stopped), methods=["GET"]),
            Route("/v1/sessions/end", self._admin("session.end", self._end_session), methods=["POST"]),
            Route("/v1/stops/release", self._admin("actor.release", self._release), methods=["POST"]),
        ]

    def _admin(self, action: str, act: Act) -> Callable[[Request], Awaitable[Response]]:
        """Let administrators alone do `act`; put it on record, whatever comes of it."""

        async def handle(request: Request) -> Response:
            said = said_by(request)
            who: VerifiedIdentity | None = None
            try:
                body = await json_of(request) if request.method == "POST" else b""
                who = (await self._desk.bearer(request)).identity
                if not self._desk.deps.is_admin(who):
                    raise NotAdmitted(Reason.NOT_PERMITTED, "not an administrator")  # noqa: TRY301 - one way out for all
                found, detail = await act(body, who)
            except NotAdmitted as error:
                await self._desk.recorded(action, said, who, error)
                if who is None:
                    return refused_json("the token was not accepted", 401)
                return refused_json("only people of the groups in [admin] of the configuration may do this", 403)
            except (FormRefused, msgspec.ValidationError, msgspec.DecodeError) as error:
                return refused_json(str(error).partition(" - at")[0], 400)
            except Refused as error:
                await self._desk.recorded(action, said, who, NotAdmitted(Reason.NOT_PERMITTED, str(error)))
                return refused_json(str(error), 409)
            except StoreFailed as error:
                return refused_json(str(error), 503)
            if not await self._desk.recorded(action, said, who, None, detail=detail):
                return refused_json("it is done, but that cannot be recorded", 503)
            return answer(found)

        return handle

    def _now(self) -> int:
        return int(self._desk.deps.clock())

    async def _create(self, body: bytes, who: VerifiedIdentity) -> tuple[dict[str, Any], str]:
        del who
        asked = read_json(body, NewAccount)
        deps, now = self._desk.deps, self._now()
        for name in (asked.issuer, asked.owner_issuer):
            if name not in deps.verifier.issuers and not (name == asked.issuer == AWS and deps.aws is not None):
                raise Refused(f"{name} is no issuer that is trusted here")
        if unknown := sorted(set(asked.connections) - deps.connections):
            raise Refused(f"there is no connection {unknown[0]}")
        account = ServiceAccount(
            name=asked.name,
            owner_iss=asked.owner_issuer,
            owner_sub=asked.owner,
            issuer=asked.issuer,
            conditions=asked.conditions,
            connections=asked.connections,
            created=now,
            expires=now + asked.days * 86_400,
        )
        await deps.records.add_account(account)
        return shown(account, now), f"{account.name} for {asked.issuer}"

    async def _list(self, body: bytes, who: VerifiedIdentity) -> tuple[dict[str, Any], str]:
        del body, who
        now = self._now()
        return {"accounts": [shown(each, now) for each in await self._desk.deps.records.accounts()]}, ""

    async def _end(self, body: bytes, who: VerifiedIdentity) -> tuple[dict[str, Any], str]:
        del who
        asked = read_json(body, EndAccount)
        await self._desk.deps.records.end_account(asked.name, asked.reason, self._now())
        return {"ended": asked.name}, f"{asked.name}: {asked.reason}"

    async def _end_session(self, body: bytes, who: VerifiedIdentity) -> tuple[dict[str, Any], str]:
        """Tell the workers; the log says when it has ended. One that is not there, or has ended, is nobody's fault."""
        del who
        asked = read_json(body, EndSession)
        await self._desk.deps.end_session(asked.session, asked.reason, self._now())
        return {"asked": asked.session}, f"{asked.session}: {asked.reason}"

    async def _stop(self, body: bytes, who: VerifiedIdentity) -> tuple[dict[str, Any], str]:
        asked = read_json(body, Stop)
        if (asked.issuer, asked.subject) == (who.issuer, who.subject):
            raise Refused("whoever isolates themselves cannot undo it; ask another administrator")
        ended = await self._desk.deps.records.stop(
            asked.issuer, asked.subject, Reason.STOPPED_ACTOR, asked.reason, self._now()
        )
        told = {"issuer": asked.issuer, "subject": asked.subject} | msgspec.to_builtins(ended)
        return {"stopped": told}, f"{asked.subject} of {asked.issuer}: {asked.reason}"

    async def _stopped(self, body: bytes, who: VerifiedIdentity) -> tuple[dict[str, Any], str]:
        del body, who
        return {"stopped": self._desk.deps.records.stopped()}, ""

    async def _release(self, body: bytes, who: VerifiedIdentity) -> tuple[dict[str, Any], str]:
        del who
        asked = read_json(body, Release)
        if not await self._desk.deps.records.release(asked.issuer, asked.subject):
            raise Refused("nobody of that name is stopped")
        return {"released": msgspec.to_builtins(asked)}, f"{asked.subject} of {asked.issuer}"


def shown(account: ServiceAccount, now: int) -> dict[str, Any]:
    """An account as JSON."""
    state = "ended" if account.ended is not None else "expired" if account.expires <= now else "open"
    found: dict[str, Any] = msgspec.to_builtins(account)
    for name in ("created", "expires", "ended"):
        if found[name] is not None:
            found[name] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(found[name]))
    return found | {"state": state}
