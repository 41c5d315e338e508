"""The gateway's SSH host key, and the authority that signs it so that a client pins one line for good.

Both lie in `keys/`: `ssh-host` (what clients see) and `ssh-host-ca`. The public half of each lies beside it.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from pathlib import Path
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization as ser
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ostiary.identity.keys import write_whole
from ostiary.model.errors import ConfigError

HOST: Final = "ssh-host"
HOST_AUTHORITY: Final = "ssh-host-ca"
HOST_SECONDS: Final = 5 * 365 * 86_400
SKEW_SECONDS: Final = 30


def ensure_keys(folder: Path) -> None:
    """Make what is missing of the two keys, and the host's certificate. Never overwrites a key."""
    for name in (HOST, HOST_AUTHORITY):
        path = folder / f"{name}.key"
        if not path.exists():
            _create(path)
        public = path.with_suffix(".pub")
        if not public.exists():
            write_whole(public, _public_line(_load(path)), 0o644)
    certificate = folder / f"{HOST}-cert.pub"
    if not certificate.exists():
        write_whole(
            certificate,
            _host_certificate(_load(folder / f"{HOST}.key"), _load(folder / f"{HOST_AUTHORITY}.key")),
            0o644,
        )


def _create(path: Path) -> None:
    pem = Ed25519PrivateKey.generate().private_bytes(ser.Encoding.PEM, ser.PrivateFormat.OpenSSH, ser.NoEncryption())
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    write_whole(temporary, pem, 0o600)
    with contextlib.suppress(FileExistsError):  # of two that start at once one makes the key, and both read the same
        os.link(temporary, path)
    temporary.unlink()


def _load(path: Path) -> Ed25519PrivateKey:
    try:
        if path.stat().st_mode & 0o077:
            raise ConfigError(str(path), "others may read this key: chmod 600")
        key = ser.load_ssh_private_key(path.read_bytes(), None)
    except OSError as error:
        raise ConfigError(str(path), error.strerror or "cannot be read") from None
    except (ValueError, UnsupportedAlgorithm):
        raise ConfigError(str(path), "is no private key of OpenSSH") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError(str(path), "is no Ed25519 key")
    return key


def _public_line(key: Ed25519PrivateKey) -> bytes:
    return key.public_key().public_bytes(ser.Encoding.OpenSSH, ser.PublicFormat.OpenSSH) + b"\n"


def _host_certificate(key: Ed25519PrivateKey, authority: Ed25519PrivateKey) -> bytes:
    """For any host name: which names the authority is believed for stands in each client's `@cert-authority` line."""
    now = int(time.time())
    builder = (
        ser.SSHCertificateBuilder()
        .public_key(key.public_key())
        .serial(secrets.randbits(63))
        .type(ser.SSHCertificateType.HOST)
        .key_id(b"ostiary")
        .valid_for_all_principals()  # type: ignore[no-untyped-call]
        .valid_after(now - SKEW_SECONDS)
        .valid_before(now + HOST_SECONDS)
    )
    signed: bytes = builder.sign(authority).public_bytes()
    return signed + b"\n"
