"""SCIM 2.0: the identity provider tells who is there, and who no longer is. RFC 7643, RFC 7644.

What we need of it is one thing: `active`. A user who is made inactive, or deleted, is stopped at once, with the delegations they gave and
the service accounts they own; one who is made active again may log in again. The resource is kept as it was sent, and given back.

Users only. Groups come with the issuer's tokens, and a second source of them would be a second opinion. Filters: `userName eq "…"` and
`externalId eq "…"`, which is what providers ask before they create. PATCH: `replace` and `add` of single attributes, with or without a path.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import sqlite3
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ostiary.api.deps import Desk, said_by
from ostiary.api.forms import NO_STORE, FormRefused, json_of
from ostiary.model.errors import NotAdmitted, Reason
from ostiary.store.database import StoreFailed

USER: Final = "urn:ietf:params:scim:schemas:core:2.0:User"
LIST: Final = "urn:ietf:params:scim:api:messages:2.0:ListResponse"
ERROR: Final = "urn:ietf:params:scim:api:messages:2.0:Error"
MAX_PAGE: Final = 200
MAX_USERS: Final = 200_000
_FILTER: Final = re.compile(r'\s*(userName|externalId|id)\s+eq\s+"([^"\\]{1,512})"\s*', re.IGNORECASE)


class ScimRefused(Exception):
    """RFC 7644, 3.12."""

    def __init__(self, status: int, detail: str, kind: str = "") -> None:
        super().__init__(detail)
        self.status = status
        self.kind = kind


Act = Callable[[Request], Awaitable[Response]]


class Scim:
    """The handlers."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def routes(self) -> list[Route]:
        """Where they are; none without a configured token."""
        if self._desk.deps.scim_token is None:
            return []
        base, user = "/scim/v2", "/scim/v2/Users/{id}"
        return [
            Route(f"{base}/ServiceProviderConfig", self._door(self._capabilities), methods=["GET"]),
            Route(f"{base}/ResourceTypes", self._door(self._types), methods=["GET"]),
            Route(f"{base}/Users", self._door(self._find), methods=["GET"]),
            Route(f"{base}/Users", self._door(self._create), methods=["POST"]),
            Route(user, self._door(self._read), methods=["GET"]),
            Route(user, self._door(self._replace), methods=["PUT"]),
            Route(user, self._door(self._patch), methods=["PATCH"]),
            Route(user, self._door(self._delete), methods=["DELETE"]),
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
            except sqlite3.IntegrityError:
                return _error(409, "there is a user of that name already", "uniqueness")
            except StoreFailed as error:
                if "UNIQUE" in str(error):
                    return _error(409, "there is a user of that name already", "uniqueness")
                return _error(503, "try again")

        return handle

    def _check(self, request: Request) -> None:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
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
            where, values = f" WHERE {'sub' if column == 'json_external' else column} = ?", (found[2],)

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

    # --- changing ---

    async def _create(self, request: Request) -> Response:
        given = _user(await json_of(request))
        name = str(uuid.uuid4())
        user = await self._keep(request, name, given, is_new=True)
        return _answer(user, 201)

    async def _replace(self, request: Request) -> Response:
        given = _user(await json_of(request))
        await self._user(request.path_params["id"])
        return _answer(await self._keep(request, request.path_params["id"], given, is_new=False))

    async def _patch(self, request: Request) -> Response:
        asked = msgspec.json.decode(await json_of(request))
        operations = asked.get("Operations") if isinstance(asked, dict) else None
        if not isinstance(operations, list) or not 0 < len(operations) <= 100:
            raise ScimRefused(400, "Operations is missing", "invalidSyntax")
        user = await self._user(request.path_params["id"])
        for operation in operations:
            _apply(user, operation)
        return _answer(await self._keep(request, request.path_params["id"], _checked(user), is_new=False))

    async def _delete(self, request: Request) -> Response:
        name = request.path_params["id"]
        user = await self._user(name)
        # Stopped first: a user who is gone from the table and may still log in would be the wrong half.
        await self._stand(request, user | {"active": False}, "deleted by the identity provider")

        def work(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM people WHERE id = ?", (name,))

        await self._desk.deps.records.change_people(work)
        return Response(status_code=204, headers=NO_STORE)

    async def _keep(self, request: Request, name: str, given: dict[str, Any], *, is_new: bool) -> dict[str, Any]:
        deps, now = self._desk.deps, int(self._desk.deps.clock())
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now))
        created = given.get("meta", {}).get("created", stamp) if isinstance(given.get("meta"), dict) else stamp
        location = f"{deps.base_url}/scim/v2/Users/{name}"
        meta = {"resourceType": "User", "created": created, "lastModified": stamp, "location": location}
        user = given | {"id": name, "active": given.get("active", True) is True, "meta": meta}
        subject = self._subject(user)
        # Before it is kept: if stopping fails the provider is told so, and tries again.
        if is_new and user["active"]:
            await self._stand_unless_stopped(request, user)
        else:
            await self._leave_name(request, name, subject)
            await self._stand(request, user, "disabled by the identity provider")

        def work(connection: sqlite3.Connection) -> None:
            if is_new and connection.execute("SELECT count(*) FROM people").fetchone()[0] >= MAX_USERS:
                raise ScimRefused(507, "there are too many users")
            resource = msgspec.json.encode(user)
            values = (name, deps.scim_issuer, subject, user["userName"], int(user["active"]), resource, now, now)
            connection.execute(
                "INSERT INTO people (id, iss, sub, user_name, active, resource, created, changed) VALUES (?,?,?,?,?,?,?,?)"
                " ON CONFLICT (id) DO UPDATE SET sub = excluded.sub, user_name = excluded.user_name,"
                " active = excluded.active, resource = excluded.resource, changed = excluded.changed",
                values,
            )

        await deps.records.change_people(work)
        return user

    async def _leave_name(self, request: Request, name: str, subject: str) -> None:
        """Stop whom a user was, where the change makes somebody else of them: nobody would tell of that one any more."""
        issuer = self._desk.deps.scim_issuer

        def work(connection: sqlite3.Connection) -> None:
            taken = "SELECT 1 FROM people WHERE iss = ? AND sub = ? AND id <> ?"
            if connection.execute(taken, (issuer, subject, name)).fetchone() is not None:
                raise ScimRefused(409, "there is a user of that name already", "uniqueness")

        await self._desk.deps.records.change_people(work)
        was = await self._user(name)
        if self._subject(was) != subject:
            await self._stand(request, was | {"active": False}, "is somebody else at the identity provider now")

    async def _stand_unless_stopped(self, request: Request, user: dict[str, Any]) -> None:
        """A new user is not stopped, and nobody is let back in by being created: an administrator may have isolated them."""
        if not await self._desk.recorded(
            "scim.user", said_by(request), None, None, detail=f"created {self._subject(user)}"
        ):
            raise ScimRefused(503, "this cannot be recorded now")

    async def _stand(self, request: Request, user: dict[str, Any], why: str) -> None:
        """Stop or release whoever this is; a stop that an administrator made is not the provider's to lift."""
        records, subject, issuer = self._desk.deps.records, self._subject(user), self._desk.deps.scim_issuer
        held = next((s for s in records.stopped() if (s.get("iss"), s.get("sub")) == (issuer, subject)), None)
        ours = held is not None and held.get("reason") == Reason.LOST_OWNER.name
        detail = f"{subject} of {issuer}"
        if user["active"] and ours:
            await records.release(issuer, subject)
            detail = f"enabled {detail}"
        elif not user["active"] and held is None:
            ended = await records.stop(issuer, subject, Reason.LOST_OWNER, why, int(self._desk.deps.clock()))
            detail = f"disabled {detail}; ended {len(ended.delegations)} delegations and {len(ended.accounts)} accounts"
        if not await self._desk.recorded("scim.user", said_by(request), None, None, detail=detail):
            raise ScimRefused(503, "this cannot be recorded now")

    def _subject(self, user: dict[str, Any]) -> str:
        subject = user.get(self._desk.deps.scim_subject)
        if not isinstance(subject, str) or not 0 < len(subject) <= 512:
            raise ScimRefused(
                400, f"{self._desk.deps.scim_subject} is missing: it names the person in tokens", "invalidValue"
            )
        return subject


def _user(body: bytes) -> dict[str, Any]:
    found = msgspec.json.decode(body)
    if not isinstance(found, dict):
        raise ScimRefused(400, "not a resource", "invalidSyntax")
    return _checked(found)


def _checked(user: dict[str, Any]) -> dict[str, Any]:
    if USER not in user.get("schemas", []):
        raise ScimRefused(400, f"schemas does not name {USER}", "invalidValue")
    if not isinstance(user.get("userName"), str) or not 0 < len(user["userName"]) <= 512:
        raise ScimRefused(400, "userName is missing", "invalidValue")
    active = user.get("active", True)
    if isinstance(active, str) and active.lower() in ("true", "false"):
        active = active.lower() == "true"  # one large provider sends text
    if not isinstance(active, bool):
        raise ScimRefused(400, "active is neither true nor false", "invalidValue")
    user["active"] = active
    return user


def _apply(user: dict[str, Any], operation: object) -> None:
    """RFC 7644, 3.5.2, for single attributes."""
    if not isinstance(operation, dict) or str(operation.get("op", "")).lower() not in ("replace", "add", "remove"):
        raise ScimRefused(400, "op is none of replace, add, remove", "invalidSyntax")
    path, value, op = operation.get("path"), operation.get("value"), str(operation["op"]).lower()
    changes: dict[str, Any]
    if path is None and op != "remove":
        if not isinstance(value, dict):
            raise ScimRefused(400, "value is not an object", "invalidValue")
        changes = value
    elif isinstance(path, str) and re.fullmatch(r"[A-Za-z$][\w$-]*(\.[A-Za-z$][\w$-]*)?", path):
        changes = {path: value}
    else:
        # Attributes that are lists do not matter here, and a path that is not understood changes nothing that does.
        if isinstance(path, str) and path.lower().startswith(("active", "username", "externalid")):
            raise ScimRefused(400, "that path is not understood", "invalidPath")
        return
    for name, each in changes.items():
        # Names are compared without case (RFC 7643, 2.1): `Active` must not be another attribute than `active`.
        spelt: dict[str, str] = {"active": "active", "username": "userName", "externalid": "externalId"} | {
            key.lower(): key for key in user
        }
        written: str = spelt.get(name.lower(), name)
        if written in ("id", "meta", "schemas"):
            continue
        if op == "remove":
            user.pop(written, None)
        else:
            user[written] = each


def _number(text: str | None, default: int) -> int:
    if text is None:
        return default
    if not (text.isascii() and text.lstrip("-").isdigit() and len(text) < 10):
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
