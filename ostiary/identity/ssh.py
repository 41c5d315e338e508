"""The gateway's SSH keys: its host key, the authority that signs it so that a client pins one line for good, and the one for users.

They lie in `keys/`: `ssh-host` (what clients see), `ssh-host-ca` and `ssh-user-ca`. The public half of each lies beside it.

A user's certificate (OpenSSH, PROTOCOL.certkeys) says nothing of its own of who somebody is. It carries a gateway token that is bound to
the certified key (RFC 9449's `cnf`), and SSH proves possession of that key. So one thing is judged, whichever way somebody logs in: the
token, with its chain, its connections, its end, and whoever revoked it. Without the key it is good for nothing.
"""

from __future__ import annotations

import base64
import contextlib
import os
import secrets
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NoReturn

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization as ser
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from joserfc.jwk import ECKey, OKPKey

from ostiary.identity.keys import write_whole
from ostiary.model.errors import ConfigError, NotAdmitted, Reason
from ostiary.model.secrets import Secret

UserKey = Ed25519PublicKey | EllipticCurvePublicKey

HOST: Final = "ssh-host"
HOST_AUTHORITY: Final = "ssh-host-ca"
USER_AUTHORITY: Final = "ssh-user-ca"
TOKEN: Final = b"token@ostiary"
"""Name of the extension that carries the token."""
PERMITTED: Final = (b"permit-pty", b"permit-port-forwarding")
"""What a certificate lets a client ask for; policy decides on each."""
SOURCES: Final = b"source-address"
MAX_CERTIFICATE: Final = 16 * 1024
MAX_KEY_ID: Final = 256
HOST_SECONDS: Final = 5 * 365 * 86_400
SKEW_SECONDS: Final = 30


def ensure_keys(folder: Path) -> None:
    """Make what is missing of the keys, and the host's certificate. Never overwrites a key."""
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


# --- users ------------------------------------------------------------------------------------------------------------


def load_authority(folder: Path) -> Ed25519PrivateKey:
    """The key that signs users' certificates: for the control process."""
    return _load(folder / f"{USER_AUTHORITY}.key")


def read_user_key(line: str) -> UserKey:
    """A public key in OpenSSH's form (`ssh-ed25519 AAAA... comment`). Raises `ValueError`, whose sentence is fit for the caller."""
    try:
        key = ser.load_ssh_public_key(line.strip().encode("ascii"))
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError("the public key is not one of OpenSSH's") from None
    if not isinstance(key, UserKey):
        raise ValueError("the public key must be Ed25519 or ECDSA")  # noqa: TRY004 - it is the caller's value
    return key


def thumbprint(key: UserKey) -> str:
    """RFC 7638: what a token is bound to."""
    pem = key.public_bytes(ser.Encoding.PEM, ser.PublicFormat.SubjectPublicKeyInfo)
    kind = OKPKey if isinstance(key, Ed25519PublicKey) else ECKey
    return kind.import_key(pem).thumbprint()


def user_certificate(
    authority: Ed25519PrivateKey,
    key: UserKey,
    *,
    token: str,
    principals: Sequence[str],
    key_id: str,
    sources: Sequence[str],
    until: int,
    now: int,
) -> str:
    """A certificate as a line. `principals` are the connections it is for; `sources` the networks it may be used from, if not any."""
    builder = (
        ser.SSHCertificateBuilder()
        .public_key(key)
        .serial(secrets.randbits(63))
        .type(ser.SSHCertificateType.USER)
        .key_id(key_id.encode("ascii", "replace")[:MAX_KEY_ID])
        .valid_principals([each.encode() for each in principals])
        .valid_after(now - SKEW_SECONDS)
        .valid_before(until)
        .add_extension(TOKEN, token.encode("ascii"))
    )
    for name in PERMITTED:
        builder = builder.add_extension(name, b"")
    if sources:
        builder = builder.add_critical_option(SOURCES, ",".join(sources).encode("ascii"))
    signed: bytes = builder.sign(authority).public_bytes()
    return signed.decode("ascii")


def read_login(blob: bytes, authority: bytes, principal: str, now: float) -> tuple[Secret, str]:
    """(token, thumbprint of the certified key) of a certificate that is shown for `principal`. Raises `NotAdmitted`.

    `authority`: the raw public key. Whether whoever shows it holds the key, and comes from where it may, is for the caller to see.
    """
    certificate, key = _ours(blob, authority)
    if principal.encode() not in certificate.valid_principals:  # none at all would be any, to OpenSSH
        raise NotAdmitted(Reason.WRONG_AUDIENCE, "the certificate is for other connections")
    if not certificate.valid_after <= now < certificate.valid_before:
        raise NotAdmitted(Reason.EXPIRED_TOKEN, "the certificate", "get a new one with `ostiary ssh-cert`")
    if certificate.critical_options.keys() - {SOURCES} or TOKEN not in certificate.extensions:
        _bad("options that are not the gateway's")
    return Secret(certificate.extensions[TOKEN].decode("ascii", "replace")), thumbprint(key)


def is_ours(blob: bytes, authority: bytes) -> bool:
    """Whether it is a user's certificate that the gateway's authority signed, whatever it is good for."""
    try:
        _ours(blob, authority)
    except NotAdmitted:
        return False
    return True


def _ours(blob: bytes, authority: bytes) -> tuple[ser.SSHCertificate, UserKey]:
    """The certificate, and the key that it certifies. Raises `NotAdmitted`."""
    try:
        kind = blob[4 : 4 + int.from_bytes(blob[:4], "big")]
        if len(blob) > MAX_CERTIFICATE:
            _bad("too long")
        certificate = ser.load_ssh_public_identity(kind + b" " + base64.b64encode(blob))
        if not isinstance(certificate, ser.SSHCertificate):
            _bad("no certificate")
        certificate.verify_cert_signature()
        signer, key = certificate.signature_key(), certificate.public_key()
    except (ValueError, UnsupportedAlgorithm, InvalidSignature) as exc:
        _bad(type(exc).__name__)
    if not isinstance(signer, Ed25519PublicKey) or signer.public_bytes_raw() != authority:
        _bad("not signed by the gateway's authority")
    if certificate.type is not ser.SSHCertificateType.USER or not isinstance(key, UserKey):
        _bad("not a user's")
    return certificate, key


def _bad(why: str) -> NoReturn:
    raise NotAdmitted(Reason.BAD_TOKEN, f"the certificate: {why}")
