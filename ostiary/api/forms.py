"""Reading requests: bounded bodies, strict forms (RFC 6749, 3.2: no parameter twice), and errors in RFC 6749's words."""

from __future__ import annotations

import asyncio
import re
from typing import Any, Final, TypeVar
from urllib.parse import parse_qsl

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse

from ostiary.identity.jose import strict_json

Read = TypeVar("Read")

MAX_BODY: Final = 64 * 1024
"""Two tokens of 16 KiB, and room for the rest."""
BODY_SECONDS: Final = 10.0
MAX_FIELDS: Final = 64
_REPEATABLE: Final = frozenset({"audience", "resource"})
"""RFC 8693, 2.1 allows several of these."""
_FORM: Final = re.compile(r"application/x-www-form-urlencoded(\s*;\s*charset=utf-8)?", re.IGNORECASE | re.ASCII)
_JSON: Final = re.compile(r"application/(scim\+)?json(\s*;\s*charset=utf-8)?", re.IGNORECASE | re.ASCII)
NO_STORE: Final = {"cache-control": "no-store", "pragma": "no-cache"}
"""RFC 6749, 5.1."""


class FormRefused(Exception):
    """The request cannot be read. The sentence is fit for the caller."""

    def __init__(self, sentence: str, status: int = 400) -> None:
        super().__init__(sentence)
        self.status = status


class Unreadable(Exception):
    """A token request that breaks its RFC. `error` is from RFC 6749, 5.2; the sentence is for the caller."""

    def __init__(self, error: str, sentence: str) -> None:
        super().__init__(sentence)
        self.error = error


Form = dict[str, list[str]]


async def form_of(request: Request, most: int = MAX_BODY) -> Form:
    """The request's form; raises `FormRefused`. Empty values count as absent (RFC 6749, 3.2)."""
    if _FORM.fullmatch(request.headers.get("content-type", "")) is None:
        raise FormRefused("send application/x-www-form-urlencoded", 415)
    body = await body_of(request, most)
    try:
        fields = parse_qsl(
            body.decode("ascii"),
            keep_blank_values=True,
            strict_parsing=True,
            errors="strict",
            max_num_fields=MAX_FIELDS,
        )
    except ValueError:
        raise FormRefused("the form cannot be read") from None
    found: Form = {}
    for name, value in fields:
        if name in found and name not in _REPEATABLE:
            raise FormRefused("a parameter stands twice")
        if value:
            found.setdefault(name, []).append(value)
    return found


async def json_of(request: Request, most: int = MAX_BODY) -> bytes:
    """The request's JSON, not read yet; raises `FormRefused`."""
    if _JSON.fullmatch(request.headers.get("content-type", "")) is None:
        raise FormRefused("send application/json", 415)
    return await body_of(request, most)


def read_json(body: bytes, kind: type[Read]) -> Read:
    """A body as `kind`, read as strictly as a token is: whoever reads it beside us reads the same. Raises `FormRefused`, `msgspec.ValidationError`."""
    try:
        value = strict_json(body)
    except ValueError as error:
        raise FormRefused(f"not strict JSON: {ascii(str(error))[1:97]}") from None
    return msgspec.convert(value, kind)


async def body_of(request: Request, most: int = MAX_BODY) -> bytes:
    """The request's body, whatever it is; raises `FormRefused`."""
    if "content-encoding" in request.headers:
        raise FormRefused("content encodings are not accepted", 415)
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in request.stream():
                body += chunk
                if len(body) > most:
                    raise FormRefused(f"the request is larger than {most // 1024} KiB", 413)
    except (TimeoutError, ClientDisconnect):
        raise FormRefused("the request did not arrive in time", 408) from None
    return bytes(body)


def single(form: Form, name: str) -> str | None:
    """The one value of a parameter; None: absent."""
    return form[name][0] if name in form else None


def oauth_error(error: str, description: str, status: int = 400) -> JSONResponse:
    """RFC 6749, 5.2."""
    return JSONResponse({"error": error, "error_description": description}, status, NO_STORE)


def read_details(text: str | None) -> list[dict[str, Any]] | None:
    """RFC 9396, 2. Raises `Unreadable`."""
    if text is None:
        return None
    try:
        return msgspec.convert(strict_json(text.encode()), list[dict[str, Any]])
    except ValueError:
        raise Unreadable("invalid_authorization_details", "authorization_details is not a list of objects") from None
