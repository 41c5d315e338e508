"""The gateway's own token key: Ed25519, made once, its private half read by the signing process only.

Two files: `<path>` holds the private key (PKCS #8 PEM, mode 0600) for the control process; beside it `<path>.jwks.json`
holds the public set that workers verify with, so that what parses hostile bytes cannot mint. A set may hold several
keys: rotation puts the new one in front and leaves the old one until its last token has expired.
"""

from __future__ import annotations

import json
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from joserfc.errors import JoseError
from joserfc.jwk import OKPKey

from ostiary.identity.jose import UnusableKey, encode_base64url, pin
from ostiary.identity.jwks import FetchFailed, KeyRing, ring_from
from ostiary.model.errors import ConfigError

ALGORITHM: Final = "EdDSA"
MAX_KEY_FILE: Final = 4096
MAX_PUBLISHED: Final = 4
"""Keys in the public set: rotate no oftener than tokens live, and none is dropped too early."""


@dataclass(frozen=True, slots=True)
class TokenKey:
    """The private key that gateway tokens are signed with."""

    kid: str
    """RFC 7638 thumbprint."""
    key: OKPKey = field(repr=False)

    def public_jwk(self) -> dict[str, str]:
        """The public half as a JWK, ready to be published."""
        return {
            "kty": "OKP",
            "crv": "Ed25519",
            "x": str(self.key.as_dict(private=False)["x"]),
            "kid": self.kid,
            "alg": ALGORITHM,
            "use": "sig",
        }

    def ring(self) -> KeyRing:
        """The public half as a key ring."""
        return KeyRing((pin(self.public_jwk(), (ALGORITHM,)),), ())


def token_key_from(pem: bytes) -> TokenKey:
    """A PKCS #8 PEM as the token key; raises `UnusableKey`."""
    try:
        key = OKPKey.import_key(pem)
        curve, private = key.curve_name, key.is_private
    except (JoseError, ValueError, TypeError) as error:
        raise UnusableKey(f"cannot be read ({type(error).__name__})") from None
    if curve != "Ed25519" or not private:
        raise UnusableKey("not an Ed25519 private key")
    return TokenKey(kid=key.thumbprint(), key=key)


def new_token_key() -> TokenKey:
    """A fresh key, on no disk."""
    key = OKPKey.generate_key("Ed25519")
    return TokenKey(kid=key.thumbprint(), key=key)


def public_path(path: Path) -> Path:
    """Where the public set of the key at `path` is kept."""
    return path.with_name(path.name + ".jwks.json")


def load_or_create_token_key(path: Path) -> TokenKey:
    """The key at `path`, made if it is missing; its public set is written beside it where it lacks the key.

    Raises `ConfigError` for a file that others may read, or that is no Ed25519 key.
    """
    if not path.exists():
        _create(path, new_token_key())
    key = _load(path)
    public = public_path(path)
    if not public.exists() or key.kid not in {known.kid for known in load_token_ring(path).keys}:
        older = json.loads(public.read_bytes())["keys"] if public.exists() else []
        write_whole(public, json.dumps({"keys": [key.public_jwk(), *older]}, indent=1).encode() + b"\n", 0o644)
    return key


def older_keys(path: Path) -> list[dict[str, str]]:
    """The public keys beside the one at `path` that signed before it, as JWKs: they are published until they are removed."""
    found: list[dict[str, str]] = json.loads(public_path(path).read_bytes())["keys"][1:]
    return found


def rotate_token_key(path: Path) -> TokenKey:
    """Sign with a fresh key from the next start on. The old one's public half stays until `MAX_PUBLISHED` came after it.

    The public set is written first: a worker that meets a token of the new key must know it.
    """
    public = public_path(path)
    load_or_create_token_key(path)
    older = json.loads(public.read_bytes())["keys"]
    key = new_token_key()
    write_whole(public, json.dumps({"keys": [key.public_jwk(), *older][:MAX_PUBLISHED]}, indent=1).encode() + b"\n", 0o644)
    write_whole(path, key.key.as_pem(private=True), 0o600)
    return key


def load_token_ring(path: Path) -> KeyRing:
    """The public keys that belong to the private one at `path`, without opening that. Raises `ConfigError`."""
    public = public_path(path)
    try:
        ring = ring_from(public.read_bytes(), (ALGORITHM,))
    except (OSError, FetchFailed) as error:
        raise ConfigError(str(public), f"cannot be read ({error}); `ostiary init` makes it") from None
    if not ring.keys:
        raise ConfigError(str(public), "holds no usable key")
    return ring


def _load(path: Path) -> TokenKey:
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            pem = file.read(MAX_KEY_FILE + 1)
    except OSError as error:
        raise ConfigError(str(path), error.strerror or "cannot be read") from None
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise ConfigError(str(path), "others may read this key: chmod 600")
    try:
        return token_key_from(pem)
    except UnusableKey as error:
        raise ConfigError(str(path), str(error)) from None


def _create(path: Path, key: TokenKey) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    pem = key.key.as_pem(private=True)
    # Linked into place, so that of two that start at once one makes the key and both read the same.
    temporary = path.with_name(f".{path.name}.{encode_base64url(os.urandom(9))}")
    write_whole(temporary, pem, 0o600)
    try:
        os.link(temporary, path)
    except FileExistsError:
        pass
    finally:
        temporary.unlink()
    sync_folder(path.parent)


def write_whole(path: Path, content: bytes, mode: int) -> None:
    """Whole or not at all: a reader sees the old file or the new one."""
    temporary = path.with_name(f".{path.name}.{encode_base64url(os.urandom(9))}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(descriptor, mode)
        file.write(content)
        file.flush()
        os.fsync(descriptor)
    temporary.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make durable which files a folder holds."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
