"""Who a request says it is from: the gateway token that it shows, in whichever way its client can."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Final

from ostiary.model.secrets import Secret
from ostiary.protocols.http.messages import Fields, RequestHead

MAX_TOKEN: Final = 16 * 1024
_GLIMPSE: Final = re.compile(rb"(?im)^(?:proxy-)?authorization:[ \t]*bearer[ \t]+([A-Za-z0-9._~+/=-]{1,16384})[ \t]*\r?$")
_HOST: Final = re.compile(rb"(?im)^host:[ \t]*([^\r\n]{1,255}?)[ \t]*\r?$")
_SECRETS: Final = re.compile(
    rb"(?i)((?:^|[\r\n\0])[\t\v\f ]*+(?:(?:proxy-)?authorization|x-ostiary-token|cookie|x-api-key|x-amz-security-token)[\t\v\f\0 ]*+:[\t ]*+)"
    rb"[^\r\n]*+(?:(?:\r\n|[\r\n])[\t ][^\r\n]*+)*+"
)
"""A credential in a head, or in what is none: behind a bare CR, LF or NUL, with blanks before its colon, folded over lines."""


def shown_token(fields: Fields) -> Secret:
    """The token of a request: `Authorization: Bearer`, the password of Basic, or `X-Ostiary-Token`. Empty: none, or several."""
    token = fields.token
    if token is None:
        fields.token = token = _shown(fields)
    return token


def _shown(fields: Fields) -> Secret:
    own = fields.all(b"x-ostiary-token")
    said = fields.all(b"authorization")
    if len(own) > 1 or len(said) > 1:
        return Secret("")
    if own:
        return Secret(own[0].decode("latin-1"))
    if not said or len(said[0]) > MAX_TOKEN * 2:
        return Secret("")
    scheme, _, rest = said[0].partition(b" ")
    if scheme.lower() == b"bearer":
        return Secret(rest.strip().decode("latin-1"))
    if scheme.lower() == b"basic":
        try:
            _, colon, password = base64.b64decode(rest.strip(), validate=True).partition(b":")
        except binascii.Error:
            return Secret("")
        return Secret(password.decode("latin-1") if colon else "")
    return Secret("")


def glimpsed_token(raw: bytes) -> Secret:
    """A token in bytes that are no request: whose it is that the refusal is recorded under. Never let in by it."""
    found = _GLIMPSE.findall(raw)
    return Secret(found[0].decode("latin-1") if len(found) == 1 else "")


def glimpsed_host(raw: bytes) -> bytes:
    """What a malformed request calls its host, if it says so once."""
    found = _HOST.findall(raw)
    return found[0] if len(found) == 1 else b""


def recorded_head(head: RequestHead) -> bytes:
    """A request's head for the record: every byte of it but the caller's credentials."""
    fields, raw = head.fields, head.raw
    if not fields.block:
        return without_secrets(raw)
    if fields.shown is None:
        fields.shown = without_secrets(fields.block)
    return raw[: -2 - len(fields.block)] + fields.shown + b"\r\n"


def without_secrets(raw: bytes) -> bytes:
    """As `recorded_head`, of bytes that need not be a head."""
    return _SECRETS.sub(rb"\1[credential]", raw)
