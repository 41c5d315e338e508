"""What a token is bound to: a key (DPoP, RFC 9449), or the certificate that its holder shows in TLS (RFC 8705).

Both are one text in `Authentication.key`, and one member of `cnf` (RFC 7800, 3.1) in a token. A certificate's begins with `x5t#S256:`,
which no RFC 7638 thumbprint does, so neither passes for the other.
"""

from __future__ import annotations

import hashlib
import re
from typing import Final

import msgspec

from ostiary.identity.jose import bad_token, encode_base64url

CERTIFICATE: Final = "x5t#S256:"
_THUMBPRINT: Final = re.compile(r"[A-Za-z0-9_-]{43}", re.ASCII)


class Confirmation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """`cnf`, of which one member is there."""

    jkt: str | None = None
    """RFC 9449, 6.1."""
    x5t: str | None = msgspec.field(default=None, name="x5t#S256")
    """RFC 8705, 3.1."""


def certificate_key(certificate: bytes) -> str:
    """What stands for a certificate, in DER: RFC 8705, 3.1."""
    return CERTIFICATE + encode_base64url(hashlib.sha256(certificate).digest())


def confirmation(key: str | None) -> Confirmation | None:
    """`cnf` for a token that is bound to `key`; None: it is bound to nothing."""
    if key is None:
        return None
    return Confirmation(x5t=key.removeprefix(CERTIFICATE)) if key.startswith(CERTIFICATE) else Confirmation(jkt=key)


def bound_to(cnf: object) -> str:
    """What a token with this `cnf` is bound to. Raises `NotAdmitted` for anything but one binding that is understood."""
    if not isinstance(cnf, dict) or len(cnf) != 1:
        bad_token("cnf is not exactly one binding")
    ((name, value),) = cnf.items()
    if name not in ("jkt", "x5t#S256") or not isinstance(value, str) or _THUMBPRINT.fullmatch(value) is None:
        bad_token("bound in a way that is not understood")
    return value if name == "jkt" else CERTIFICATE + value
