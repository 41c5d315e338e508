"""SCIM 2.0: the identity provider tells who is there, and who no longer is. RFC 7643, RFC 7644.

What we need of it is one thing: `active`. A user who is made inactive, or deleted, is stopped at once, with the delegations they gave and
the service accounts they own; one who is made active again may log in again. The resource is kept as it was sent, and given back.

Users only. Groups come with the issuer's tokens, and a second source of them would be a second opinion. Filters: `userName eq "…"` and
`externalId eq "…"`, which is what providers ask before they create. What PATCH does: `ostiary.api.scim_resources`.
"""

from __future__ import annotations

import asyncio
import copy
import hashlib
import hmac
import re
import sqlite3
import time
import uuid
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ostiary.api.deps import Desk, said_by
from ostiary.api.forms import NO_STORE, FormRefused, json_of
from ostiary.api.scim_resources import USER, Resource, ScimRefused, checked, patched, read_object
from ostiary.identity.people import People, Person
from ostiary.identity.records import Ended, Refused
from ostiary.model.errors import NotAdmitted, Reason
from ostiary.model.printable import is_visible
from ostiary.store.database import StoreFailed

LIST: Final = "urn:ietf:params:scim:api:messages:2.0:ListResponse"
ERROR: Final = "urn:ietf:params:scim:api:messages:2.0:Error"
MAX_PAGE: Final = 200
_NUMBER: Final = re.compile(r"-?[0-9]{1,9}", re.ASCII)
_FILTER: Final = re.compile(r'\s*(userName|externalId|id)\s+eq\s+("(?:[^"\\]|\\.){1,512}")\s*', re.IGNORECASE)


Act = Callable[[Request], Awaitable[Response]]


class Scim:
    """The handlers."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._people = People(desk.deps.records)
        self._changing = asyncio.Lock()

    def routes(self) -> list[Route]:
        """Where they are; none without a configured token."""
        if self._desk.deps.scim_token is None:
            return []
        base, user = "/scim/v2", "/scim/v2/Users/{id}"
        return [
            Route(f"{base}/ServiceProviderConfig", self._door(self._capabilities), methods=["GET"]),
            Route(f"{base}/ResourceTypes", self._door(self._types), methods=["GET"]),
            Route(f"{base}/Schemas", self._door(self._schemas), methods=["GET"]),
            Route(f"{base}/Users", self._door(self._find), methods=["GET"]),
            Route(f"{base}/Users", self._door(self._create), methods=["POST"]),
            Route(user, self._door(self._read), methods=["GET"]),
            Route(user, self._door(self._replace), methods=["PUT"]),
            Route(user, self._door(self._patch), methods=["PATCH"]),
            Route(user, self._door(self._delete), methods=["DELETE"]),
            Route(f"{base}/{{rest:path}}", self._door(self._nothing), methods=["GET", "POST", "PUT", "PATCH", "DELETE"]),
        ]

    def _door(self, act: Act) -> Act:
        """Let the identity provider alone in, and say every error in SCIM's words."""

        async def handle(request: Request) -> Response:
            try:
                self._check(request)
                return await act(request)
            except NotAdmitted as error:
                await self._desk.recorded("scim", said_by(request), None, error)
                return _error(401, "the bearer token is not the one configured")
            except ScimRefused as error:
                return _error(error.status, str(error), error.kind)
            except (FormRefused, msgspec.MsgspecError) as error:
                return _error(400, str(error), "invalidSyntax")
            except Refused as error:
                return _error(507, str(error))
            except StoreFailed as error:
                if "UNIQUE" in str(error):
                    return _error(409, "there is a user of that name already", "uniqueness")
                return _error(503, "try again")

        return handle

    def _check(self, request: Request) -> None:
        shown = request.headers.getlist("authorization")
        scheme, _, token = (shown[0] if len(shown) == 1 else "").partition(" ")
        given = hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
        wanted = self._desk.deps.scim_token or ""
        if scheme.lower() != "bearer" or not hmac.compare_digest(given, wanted):
            raise NotAdmitted(Reason.BAD_TOKEN, "not the identity provider's token")

    # --- reading ---

    async def _capabilities(self, _: Request) -> Response:
        no = {"supported": False}
        return _answer(
            {
                "schemas": ["urn:ietf:params:scim:schemas:core:2.0:ServiceProviderConfig"],
                "patch": {"supported": True},
                "bulk": no | {"maxOperations": 0, "maxPayloadSize": 0},
                "filter": {"supported": True, "maxResults": MAX_PAGE},
                "changePassword": no,
                "sort": no,
                "etag": no,
                "authenticationSchemes": [
                    {"type": "oauthbearertoken", "name": "Bearer token", "description": "The token of [scim]"}
                ],
            }
        )

    async def _types(self, _: Request) -> Response:
        kind = {"schemas": ["urn:ietf:params:scim:schemas:core:2.0:ResourceType"], "id": "User", "name": "User"}
        return _list([kind | {"endpoint": "/Users", "schema": USER}], 1, 1)

    async def _schemas(self, _: Request) -> Response:
        """RFC 7643, 7: the attributes that matter here. All others are kept as they are sent."""
        text = {"type": "string", "multiValued": False, "mutability": "readWrite", "returned": "default"}
        attributes = [
            text | {"name": "userName", "required": True, "caseExact": False, "uniqueness": "server"},
            text | {"name": "externalId", "required": self._desk.deps.scim_subject == "externalId", "caseExact": True, "uniqueness": "server"},
            text | {"name": "active", "type": "boolean", "required": False, "caseExact": False, "uniqueness": "none"},
        ]
        schema = {"schemas": ["urn:ietf:params:scim:schemas:core:2.0:Schema"], "id": USER, "name": "User", "attributes": attributes}
        return _list([schema], 1, 1)

    async def _nothing(self, _: Request) -> Response:
        raise ScimRefused(404, "there is nothing here: users alone are kept")

    async def _find(self, request: Request) -> Response:
        query = request.query_params
        start, count = _number(query.get("startIndex"), 1), min(_number(query.get("count"), MAX_PAGE), MAX_PAGE)
        where = ""
        values: tuple[str, ...] = ()
        if (wanted := query.get("filter")) is not None:
            found = _FILTER.fullmatch(wanted)
            if found is None:
                raise ScimRefused(400, 'only userName, externalId or id eq "…" can be filtered by', "invalidFilter")
            column = {"username": "user_name", "externalid": "json_external", "id": "id"}[found[1].lower()]
            if column == "json_external" and self._desk.deps.scim_subject != "externalId":
                raise ScimRefused(400, "externalId is not what identifies users here", "invalidFilter")
            # userName is compared without case (RFC 7643, 4.1.1); what stands in tokens is not.
            where = {"user_name": " WHERE user_name = ? COLLATE NOCASE", "json_external": " WHERE sub = ?", "id": " WHERE id = ?"}[column]
            values = (msgspec.json.decode(found[2]),)

        def work(connection: sqlite3.Connection) -> tuple[list[dict[str, Any]], int]:
            (total,) = connection.execute(f"SELECT count(*) FROM people{where}", values).fetchone()  # noqa: S608 - our own words
            rows = connection.execute(
                f"SELECT resource FROM people{where} ORDER BY id LIMIT ? OFFSET ?",  # noqa: S608 - our own words
                (*values, max(0, count), max(0, start - 1)),
            ).fetchall()
            return [msgspec.json.decode(row) for (row,) in rows], int(total)

        users, total = await self._desk.deps.records.change_people(work)
        return _list(users, total, max(1, start))

    async def _read(self, request: Request) -> Response:
        return _answer(await self._user(request.path_params["id"]))

    async def _user(self, name: str) -> dict[str, Any]:
        def work(connection: sqlite3.Connection) -> dict[str, Any]:
            row = connection.execute("SELECT resource FROM people WHERE id = ?", (name,)).fetchone()
            if row is None:
                raise ScimRefused(404, "there is no such user")
            found: dict[str, Any] = msgspec.json.decode(row[0])
            return found

        found: dict[str, Any] = await self._desk.deps.records.change_people(work)
        return found

    # --- changing: one at a time, so that nothing is kept of what was read before it changed ---

    async def _create(self, request: Request) -> Response:
        given = checked(read_object(await json_of(request)))
        async with self._changing:
            if "active" not in given and await self._people.has_departed(self._desk.deps.scim_issuer, self._subject(given)):
                given["active"] = False  # what is left out lets nobody back in
            return _answer(await self._keep(request, str(uuid.uuid4()), given, None), 201)

    async def _replace(self, request: Request) -> Response:
        given = checked(read_object(await json_of(request)))
        async with self._changing:
            was = await self._user(request.path_params["id"])
            given.setdefault("active", was["active"])  # what is left out lets nobody back in
            return _answer(await self._keep(request, request.path_params["id"], given, was))

    async def _patch(self, request: Request) -> Response:
        asked = read_object(await json_of(request))
        async with self._changing:
            was = await self._user(request.path_params["id"])
            user = patched(copy.deepcopy(was), asked)
            return _answer(await self._keep(request, request.path_params["id"], user, was))

    async def _delete(self, request: Request) -> Response:
        async with self._changing:
            was = self._person(await self._user(request.path_params["id"]))
            ended = await self._people.drop(was, int(self._desk.deps.clock()))
        await self._record(request, f"deleted {was.sub} of {was.iss}; {_ended([ended])}")
        return Response(status_code=204, headers=NO_STORE)

    async def _keep(self, request: Request, name: str, given: Resource, before: Resource | None) -> dict[str, Any]:
        deps, now = self._desk.deps, int(self._desk.deps.clock())
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now))
        created = given.get("meta", {}).get("created", stamp) if isinstance(given.get("meta"), dict) else stamp
        location = f"{deps.base_url}/scim/v2/Users/{name}"
        meta = {"resourceType": "User", "created": created, "lastModified": stamp, "location": location}
        user = given | {"id": name, "active": given.get("active", True) is True, "meta": meta}
        person, was = self._person(user), None if before is None else self._person(before)
        whom = f"{person.sub} of {person.iss}"
        # Letting in is on record before it is done, and stopping is done before it is on record.
        if person.active:
            anew = was is None or not was.active or was.sub != person.sub
            await self._record(request, f"{'created' if was is None else 'enabled' if anew else 'changed'} {whom}")
        told = await self._people.keep(person, was, now)
        if told.stopped:
            await self._record(request, f"disabled {', '.join(told.stopped)} of {person.iss}; {_ended(told.ended)}")
        return user

    async def _record(self, request: Request, detail: str) -> None:
        if not await self._desk.recorded("scim.user", said_by(request), None, None, detail=detail):
            raise ScimRefused(503, "this cannot be recorded now")

    def _person(self, user: Resource) -> Person:
        issuer, resource = self._desk.deps.scim_issuer, msgspec.json.encode(user)
        return Person(
            id=user["id"], iss=issuer, sub=self._subject(user), user_name=user["userName"], active=user["active"], resource=resource
        )

    def _subject(self, user: Resource) -> str:
        subject = user.get(self._desk.deps.scim_subject)
        # As tokens name people (`ostiary.identity.chain`): under a name that no token can have, nobody would ever be stopped.
        if not isinstance(subject, str) or not 0 < len(subject) <= 512 or not is_visible(subject) or subject != subject.strip():
            raise ScimRefused(
                400, f"{self._desk.deps.scim_subject} is missing, or no name: it names the person in tokens", "invalidValue"
            )
        return subject


def _ended(ended: Iterable[Ended]) -> str:
    found = list(ended)
    delegations, accounts = sum(len(each.delegations) for each in found), sum(len(each.accounts) for each in found)
    return f"ended {delegations} delegations and {accounts} accounts"


def _number(text: str | None, default: int) -> int:
    if text is None:
        return default
    if _NUMBER.fullmatch(text) is None:
        raise ScimRefused(400, "startIndex and count are numbers", "invalidValue")
    return int(text)


def _list(resources: list[dict[str, Any]], total: int, start: int) -> Response:
    found = {"schemas": [LIST], "totalResults": total, "startIndex": start, "itemsPerPage": len(resources)}
    return _answer(found | {"Resources": resources})


def _answer(content: object, status: int = 200) -> Response:
    return JSONResponse(content, status, NO_STORE, media_type="application/scim+json")


def _error(status: int, detail: str, kind: str = "") -> Response:
    found = {"schemas": [ERROR], "status": str(status), "detail": detail}
    return _answer(found | ({"scimType": kind} if kind else {}), status)
