"""Gateway keys for AWS's SDKs: an access key, a secret and a session token, made from a gateway token for one connection.

The session token *is* the gateway token, sealed, so that a worker needs no table to know whose it is, and whatever ends the gateway
token ends the keys. It is no bearer token: the secret hangs on a key that callers do not have, so whoever sees a request (and the session
token in it) can neither sign another nor use the gateway token inside elsewhere.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import stat
import time
from pathlib import Path
from typing import Final

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from ostiary.identity.jose import MAX_TOKEN
from ostiary.identity.keys import sync_folder, write_whole
from ostiary.model.errors import ConfigError, NotAdmitted, Reason
from ostiary.model.secrets import Secret

MARK: Final = "OST1"
"""What session tokens begin with."""
KEY_BYTES: Final = 32
MAX_SESSION_TOKEN: Final = MAX_TOKEN * 2
NEW_SECONDS: Final = 300.0
"""How long a key is new: who starts a gateway starts a worker of it soon."""
_ABOUT: Final = b"ostiary aws session token 1"


class _Sealed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    connection: str
    token: str


class GatewayKeys(msgspec.Struct, frozen=True):
    """What a client of AWS signs with."""

    access_key: str
    secret: Secret
    session_token: str


class AwsKeys:
    """Makes and reads them. Both processes hold the key: neither can make a gateway token with it."""

    def __init__(self, key: bytes) -> None:
        self._seal = AESGCM(_derived(key, b"seal"))
        self._sign = _derived(key, b"sign")

    def make(self, token: str, connection: str) -> GatewayKeys:
        """Keys for the connection, good for as long as the gateway token is."""
        nonce = os.urandom(12)
        held = self._seal.encrypt(nonce, msgspec.json.encode(_Sealed(connection, token)), _ABOUT)
        return self._keys(MARK + base64.urlsafe_b64encode(nonce + held).decode())

    def _keys(self, session_token: str) -> GatewayKeys:
        known = hashlib.sha256(session_token.encode()).digest()
        access_key = "OSTI" + base64.b32encode(known).decode()[:16]
        secret = base64.b64encode(hmac.digest(self._sign, session_token.encode(), "sha256")).decode()[:40]
        return GatewayKeys(access_key, Secret(secret), session_token)

    def open(self, session_token: str, access_key: str) -> tuple[str, Secret, Secret]:
        """(connection, gateway token, secret) of a session token. Raises `NotAdmitted`."""
        if not session_token.startswith(MARK) or len(session_token) > MAX_SESSION_TOKEN:
            raise NotAdmitted(Reason.BAD_TOKEN, "not signed with keys of this gateway's")
        keys = self._keys(session_token)
        try:
            raw = base64.b64decode(session_token[len(MARK) :], altchars=b"-_", validate=True)
            held = msgspec.json.decode(self._seal.decrypt(raw[:12], raw[12:], _ABOUT), type=_Sealed)
        except (binascii.Error, ValueError, InvalidTag, msgspec.DecodeError):
            raise NotAdmitted(Reason.BAD_TOKEN, "not signed with keys of this gateway's") from None
        if not hmac.compare_digest(keys.access_key, access_key):
            raise NotAdmitted(Reason.BAD_TOKEN, "the access key belongs to another session token")
        return held.connection, Secret(held.token), keys.secret


def _derived(key: bytes, use: bytes) -> bytes:
    return HKDF(SHA256(), KEY_BYTES, salt=None, info=b"ostiary aws keys 1 " + use).derive(key)


def is_first(path: Path) -> bool:
    """Whether no worker ever served with the key at `path`: it was made just now, and it is marked so. The mark goes with the question.

    Where nothing is known (an older gateway made the key, a backup brought it back), one may have.
    """
    mark = _mark(path, path.read_bytes())
    try:
        made = mark.stat().st_mtime
        mark.unlink()
    except FileNotFoundError:
        return False
    sync_folder(path.parent)
    return 0 <= time.time() - made <= NEW_SECONDS


def _mark(path: Path, key: bytes) -> Path:
    told = _derived(key, b"mark")[:8].hex()
    return path.with_name(f"{path.name}.new-{told}")


def load_or_create(path: Path) -> AwsKeys:
    """The key at `path`, made if it is missing. Raises `ConfigError` for one that others may read."""
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Linked into place, so that of two that start at once one makes the key and both read the same.
        temporary = path.with_name(f".{path.name}.{os.urandom(6).hex()}")
        key = os.urandom(KEY_BYTES)
        write_whole(temporary, key, 0o600)
        write_whole(_mark(path, key), b"", 0o600)  # before the key can be used
        try:
            os.link(temporary, path)
        except FileExistsError:
            _mark(path, key).unlink()
        finally:
            temporary.unlink()
    with path.open("rb") as file:
        mode, key = os.fstat(file.fileno()).st_mode, file.read(KEY_BYTES + 1)
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise ConfigError(str(path), "others may read this key: chmod 600")
    if len(key) != KEY_BYTES:
        raise ConfigError(str(path), f"must hold {KEY_BYTES} bytes; remove it, and a new one is made")
    return AwsKeys(key)
