"""Questions and answers over HTTP: `/v1/approvals`, `/v1/grants`, `/v1/break-glass`, and Slack's door.

Whoever calls shows a token of their own login (`Authorization: Bearer`). What a caller may not see does not exist for them.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ostiary.api.deps import said_by
from ostiary.api.events import Record, TokenEvent
from ostiary.api.forms import NO_STORE, body_of, json_of, read_json
from ostiary.api.showing import bearer
from ostiary.api.slack import NotSlack, SlackDoor
from ostiary.approvals.office import NotAnswered, Office
from ostiary.identity.verifier import Verifier
from ostiary.model.errors import LogFailed, NotAdmitted, OstiaryError
from ostiary.model.identity import VerifiedIdentity
from ostiary.store.database import StoreFailed

PREFIX: Final = "/v1/approvals"


class Answered(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An answer. `digest` is that of the question as it was shown."""

    digest: str
    reason: str = ""


class Wanted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A connection for a time."""

    connection: str
    minutes: int
    reason: str


class Broken(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Break the glass."""

    connection: str
    reason: str


class Revoked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Take back what was granted."""

    reason: str = ""


class Reviewed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a review found."""

    note: str


Handler = Callable[[VerifiedIdentity, Request], Awaitable[Any]]


class Approving:
    """The handlers."""

    def __init__(self, office: Office, verifier: Verifier, slack: SlackDoor | None, record: Record) -> None:
        """`record`: puts a token that was not accepted on record."""
        self._office = office
        self._verifier = verifier
        self._slack = slack
        self._record = record

    def routes(self) -> list[Route]:
        """Return the routes."""
        found = [
            self._route(PREFIX, "GET", self._list),
            self._route(f"{PREFIX}/{{id}}", "GET", self._show),
            self._route(f"{PREFIX}/{{id}}/approve", "POST", self._approve),
            self._route(f"{PREFIX}/{{id}}/deny", "POST", self._deny),
            self._route("/v1/grants", "POST", self._request),
            self._route("/v1/grants/{id}/revoke", "POST", self._revoke),
            self._route("/v1/break-glass", "POST", self._break_glass),
            self._route("/v1/break-glass", "GET", self._glasses),
            self._route("/v1/break-glass/{id}/review", "POST", self._review),
        ]
        if self._slack is not None:
            found.append(Route("/v1/slack", self._clicked, methods=["POST"]))
        return found

    def _route(self, path: str, method: str, handler: Handler) -> Route:
        async def endpoint(request: Request) -> Response:
            try:
                return await answered(request)
            except (LogFailed, StoreFailed):
                return _no(503, "it cannot be kept now; nothing was done")

        async def answered(request: Request) -> Response:
            try:
                who = await self._who(request)
                return JSONResponse(await handler(who, request), headers=NO_STORE)
            except NotAnswered as exc:
                return _no(404 if exc.absent else 403, str(exc))
            except NotAdmitted as why:
                await self._record(TokenEvent(
                    action=f"{method} {path}", said=said_by(request), who=None, connections=(), reason=why.reason, detail=why.detail
                ))  # fmt: skip
                return _no(401, "show the token of your own login")
            except (LogFailed, StoreFailed):
                raise
            except msgspec.MsgspecError as exc:
                return _no(400, f"the body is not what is expected: {exc}")
            except OstiaryError as exc:
                return _no(403, str(exc))

        return Route(path, endpoint, methods=[method])

    async def _who(self, request: Request) -> VerifiedIdentity:
        return (await bearer(request, self._verifier, self._verifier.own_issuer or "", time.time())).identity

    async def _list(self, who: VerifiedIdentity, request: Request) -> Any:
        return {"approvals": await self._office.listed(who, past=request.query_params.get("past") == "true")}

    async def _show(self, who: VerifiedIdentity, request: Request) -> Any:
        return await self._office.show(who, request.path_params["id"])

    async def _approve(self, who: VerifiedIdentity, request: Request) -> Any:
        return await self._answer(who, request, yes=True)

    async def _deny(self, who: VerifiedIdentity, request: Request) -> Any:
        return await self._answer(who, request, yes=False)

    async def _answer(self, who: VerifiedIdentity, request: Request, *, yes: bool) -> Any:
        said = read_json(await json_of(request), Answered)
        return await self._office.answer(
            who, request.path_params["id"], yes=yes, digest=said.digest, reason=said.reason, way="api"
        )

    async def _request(self, who: VerifiedIdentity, request: Request) -> Any:
        said = read_json(await json_of(request), Wanted)
        return await self._office.request(who, said.connection, said.minutes, said.reason)

    async def _revoke(self, who: VerifiedIdentity, request: Request) -> Any:
        said = read_json(await json_of(request), Revoked)
        return await self._office.revoke(who, request.path_params["id"], said.reason)

    async def _break_glass(self, who: VerifiedIdentity, request: Request) -> Any:
        said = read_json(await json_of(request), Broken)
        return await self._office.break_glass(who, said.connection, said.reason)

    async def _glasses(self, who: VerifiedIdentity, _: Request) -> Any:
        return {"break_glass": await self._office.glasses(who)}

    async def _review(self, who: VerifiedIdentity, request: Request) -> Any:
        said = read_json(await json_of(request), Reviewed)
        return await self._office.review(who, request.path_params["id"], said.note)

    async def _clicked(self, request: Request) -> Response:
        """Hear a click in Slack. What is wrong with one that is not believed is not told."""
        if self._slack is None:
            return _no(404, "there is no Slack here")
        body, headers = await body_of(request), request.headers
        try:
            click = self._slack.click(
                body, headers.get("x-slack-request-timestamp", ""), headers.get("x-slack-signature", ""), int(time.time())
            )
        except NotSlack:
            return _no(401, "not accepted")
        try:
            done = await self._office.answer(
                click.who, click.question, yes=click.yes, digest=click.digest, reason="", way="slack"
            )
        except OstiaryError as exc:
            return JSONResponse({"response_type": "ephemeral", "replace_original": False, "text": str(exc)})
        return JSONResponse({"response_type": "ephemeral", "replace_original": False, "text": f"{done['state']}"})


def _no(status: int, sentence: str) -> Response:
    return JSONResponse({"error": sentence}, status, NO_STORE)
