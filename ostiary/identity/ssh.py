"""The gateway's SSH keys, and user certificates that stand for a gateway token.

Three keys in `keys/`: `ssh-host` (what clients see), `ssh-host-ca` (signs it, so that a client pins one line for good) and `ssh-user-ca`
(signs user certificates; only the control process opens it). The public half of each lies beside it.

A user certificate is a gateway token in another form: the same claims, the same lifetime, the same revocation; what proves it is the
signature of the authority over it, and the client's over the session (RFC 4252, 7). The claims stand in a principal, `ostiary:` and the
payload of the token as it would be signed (base64url). They are no bearer secret: without the private key nobody can use them.
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
from ostiary.model.errors import ConfigError, NotAdmitted, Reason

HOST: Final = "ssh-host"
HOST_AUTHORITY: Final = "ssh-host-ca"
USER_AUTHORITY: Final = "ssh-user-ca"
PRINCIPAL: Final = "ostiary:"
HOST_SECONDS: Final = 5 * 365 * 86_400
MAX_PUBLIC: Final = 16 * 1024
SKEW_SECONDS: Final = 30


def ensure_keys(folder: Path) -> None:
    """Make what is missing of the three keys, and the host's certificate. Never overwrites a key."""
    for name in (HOST, HOST_AUTHORITY, USER_AUTHORITY):
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


def public_line(folder: Path, name: str) -> str:
    """The public half of one of the keys, as OpenSSH writes it. Raises `ConfigError`."""
    path = folder / f"{name}.pub"
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        raise ConfigError(str(path), "cannot be read; `ostiary serve` makes it at its start") from None


class UserAuthority:
    """Signs user certificates. Lives in the control process only."""

    def __init__(self, folder: Path) -> None:
        self._key = _load(folder / f"{USER_AUTHORITY}.key")

    def sign(self, public: str, token: str, *, until: int, connections: list[str], name: str) -> str:
        """A certificate over a client's public key, for whom a freshly minted gateway token is for, until it expires.

        Raises `NotAdmitted` for a key that is none.
        """
        if len(public) > MAX_PUBLIC:
            raise NotAdmitted(Reason.UNSUPPORTED, "the public key is too long")
        try:
            key = ser.load_ssh_public_key(public.encode())
        except (ValueError, UnsupportedAlgorithm, UnicodeEncodeError):
            raise NotAdmitted(Reason.UNSUPPORTED, "that is no public key of SSH") from None
        payload = token.split(".")[1]
        now = int(time.time())
        builder = (
            ser.SSHCertificateBuilder()
            .public_key(key)  # type: ignore[arg-type]  # what is not of these kinds it refuses itself
            .serial(secrets.randbits(63))
            .type(ser.SSHCertificateType.USER)
            .key_id(name.encode("ascii", "replace")[:256])
            .valid_principals([f"{PRINCIPAL}{payload}".encode(), *(each.encode() for each in connections)][:256])
            .valid_after(now - SKEW_SECONDS)
            .valid_before(until)
            .add_extension(b"permit-pty", b"")
            .add_extension(b"permit-port-forwarding", b"")
        )
        return builder.sign(self._key).public_bytes().decode()


def payload_of(principals: list[str]) -> str:
    """The claims that a certificate stands for. Raises `NotAdmitted` where it is none of the gateway's."""
    found = [each[len(PRINCIPAL) :] for each in principals if each.startswith(PRINCIPAL)]
    if len(found) != 1:
        raise NotAdmitted(Reason.BAD_TOKEN, "the certificate names nobody")
    return found[0]


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
