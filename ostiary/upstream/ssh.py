"""Getting into a host over SSH: with a pinned key or authority of the host's, and one credential of the gateway's.

asyncssh speaks the transport. What is decided here: the host shows a key that the configuration names, or a certificate of an authority
that it names, or nothing is sent to it; ciphers are those that Terrapin (CVE-2023-48795) has no hold on; no agent, no configuration
file, no key of the gateway's user is ever looked at.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final, TypeVar

import asyncssh
from asyncssh.kex import get_kex_algs

from ostiary.model.connections import SshConnection, SshUpstream
from ostiary.model.errors import NotAdmitted, Reason
from ostiary.model.secrets import Secret
from ostiary.upstream.reach import dial, explain
from ostiary.upstream.ssh_wire import Turn, Wire, unlogged

CIPHERS: Final = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "aes256-ctr", "aes128-ctr")
"""No chacha20-poly1305 and no CBC: with these an attacker on the way can drop the first messages unseen where one side
lacks strict key exchange."""
MACS: Final = ("hmac-sha2-256-etm@openssh.com", "hmac-sha2-512-etm@openssh.com", "hmac-sha2-256", "hmac-sha2-512")
KEX: Final = tuple(
    name
    for name in (
        "mlkem768x25519-sha256", "curve25519-sha256", "curve25519-sha256@libssh.org", "ecdh-sha2-nistp256", "ecdh-sha2-nistp384", "ecdh-sha2-nistp521",
        "diffie-hellman-group16-sha512", "diffie-hellman-group18-sha512", "diffie-hellman-group14-sha256", "diffie-hellman-group-exchange-sha256",
    )
    if name.encode() in get_kex_algs()
)  # fmt: skip
"""Nothing with SHA-1, and what is left of these where the machine's libraries lack some. asyncssh adds the marks of strict key exchange itself."""
SIGNATURES: Final = (
    "ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", "sk-ssh-ed25519@openssh.com", "sk-ecdsa-sha2-nistp256@openssh.com",
    "rsa-sha2-512", "rsa-sha2-256",
)  # fmt: skip
"""No `ssh-rsa`, which is SHA-1 (RFC 8332), and no DSA."""
WINDOW: Final = 8 << 20
"""Bytes in flight from the target on one channel: 40 ms at 200 MB/s."""
VERSION: Final = "Ostiary (SFTP as OpenSSH)"
"""RFC 4253, 4.2: what the gateway calls itself on either side. OpenSSH has the two paths of SYMLINK the other way round than the draft, and others look
for its name here to know which way is meant."""
KEEPALIVE_SECONDS: Final = 30
CERTIFICATE_SECONDS: Final = 120
"""How long a certificate is good for: it is used at once, and a session outlives it."""
MAX_KEY_ID: Final = 256
IGNORE: Final = 2
"""RFC 4253, 11.2: SSH_MSG_IGNORE."""

_Connection = TypeVar("_Connection", asyncssh.SSHClientConnection, asyncssh.SSHServerConnection)


async def open_ssh(
    connection: SshConnection, credential: Secret, key_id: str, client: type[asyncssh.SSHClient] = asyncssh.SSHClient, turn: Turn | None = None
) -> asyncssh.SSHClientConnection:
    """Dial, check the host, log in. `key_id` names the person and the session in the host's own log, where a certificate does.

    Raises `NotAdmitted`.
    """
    upstream = connection.upstream
    try:
        async with asyncio.timeout(upstream.connect_timeout):
            sock = await dial(upstream)
            try:
                made = await asyncssh.connect(
                    upstream.host,
                    upstream.port,
                    tunnel=Wire(sock, turn or Turn()),
                    client_factory=client,
                    username=upstream.user,
                    client_version=VERSION,
                    known_hosts=_known(upstream),
                    config=None,
                    agent_path=None,
                    kex_algs=list(KEX),
                    encryption_algs=list(CIPHERS),
                    signature_algs=list(SIGNATURES),
                    server_host_key_algs=_host_algorithms(upstream),
                    mac_algs=list(MACS),
                    compression_algs=["none"],
                    keepalive_interval=KEEPALIVE_SECONDS,
                    keepalive_count_max=4,
                    gss_auth=False,
                    gss_kex=False,
                    host_based_auth=False,
                    kbdint_auth=False,
                    **_credential(upstream, credential, key_id),
                )
                return quiet(made)
            except BaseException:
                sock.close()
                raise
    except asyncssh.HostKeyNotVerifiable as exc:
        raise NotAdmitted(
            Reason.TARGET_UNREACHABLE,
            "it shows a host key that the configuration does not name",
            "the operator should look at host_keys of the connection",
        ) from exc
    except (asyncssh.PermissionDenied, asyncssh.KeyImportError) as exc:
        raise NotAdmitted(Reason.TARGET_REFUSED, type(exc).__name__) from exc
    except asyncssh.Error as exc:
        raise NotAdmitted(Reason.TARGET_UNREACHABLE, f"the SSH handshake failed ({type(exc).__name__})") from exc
    except Exception as exc:  # noqa: BLE001 - sorted by explain, which raises
        explain(exc, upstream)


def quiet(connection: _Connection) -> _Connection:
    """Have it send no empty message in front of each one, as asyncssh does: that guards CBC (RFC 4251, 9.3.1), which is not spoken here, and costs as much as a keystroke."""
    send = connection.send_packet

    def sent(kind: int, *parts: bytes, handler: Any = None) -> None:
        if kind != IGNORE:
            send(kind, *parts, handler=handler)

    unlogged(connection)
    connection.send_packet = sent  # type: ignore[method-assign, assignment]
    return connection


def swaps_links(target: asyncssh.SSHClientConnection) -> bool:
    """Whether the target reads SYMLINK as OpenSSH does: it is OpenSSH, or looks who is asking."""
    version = str(target.get_extra_info("server_version", ""))
    return any(name in version for name in ("OpenSSH", "AsyncSSH"))


def _known(upstream: SshUpstream) -> tuple[list[Any], list[Any], list[Any]]:
    """(keys, authorities, revoked) that are believed: nothing else is."""
    keys = [asyncssh.import_public_key(line) for line in upstream.host_keys]
    authorities = [asyncssh.import_public_key(line) for line in upstream.host_authorities]
    return keys, authorities, []


def _host_algorithms(upstream: SshUpstream) -> list[str]:
    """How the host may sign, by the keys and authorities that are believed: another would be refused anyway."""
    pinned = {name.decode() for line in upstream.host_keys for name in asyncssh.import_public_key(line).sig_algorithms}
    certified = [f"{name.removesuffix('@openssh.com')}-cert-v01@openssh.com" for name in SIGNATURES] if upstream.host_authorities else []
    return [*certified, *(name for name in SIGNATURES if name in pinned)]


def _credential(upstream: SshUpstream, credential: Secret, key_id: str) -> dict[str, Any]:
    if upstream.password is not None:
        return {"password": credential.reveal(), "client_keys": None, "public_key_auth": False}
    key = asyncssh.import_private_key(credential.reveal() + "\n")
    if upstream.authority is None:
        return {"client_keys": [key], "password_auth": False}
    fresh = asyncssh.generate_private_key("ssh-ed25519")
    certificate = key.generate_user_certificate(
        fresh,
        key_id[:MAX_KEY_ID],
        principals=[upstream.user],
        valid_after="-60s",
        valid_before=f"+{CERTIFICATE_SECONDS}s",
        permit_user_rc=False,  # agent and display it may have: they are asked for where policy permits it, and decided on here when they are used
    )
    return {"client_keys": [(fresh, certificate)], "password_auth": False}
