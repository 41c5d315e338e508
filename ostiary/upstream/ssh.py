"""Getting into a host over SSH: with a pinned key or authority of the host's, and one credential of the gateway's.

asyncssh speaks the transport. What is decided here: the host shows a key that the configuration names, or a certificate of an authority
that it names, or nothing is sent to it; ciphers are those that Terrapin (CVE-2023-48795) has no hold on; no agent, no configuration
file, no key of the gateway's user is ever looked at.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

import asyncssh

from ostiary.model.connections import SshConnection, SshUpstream
from ostiary.model.errors import NotAdmitted, Reason
from ostiary.model.secrets import Secret
from ostiary.upstream.reach import dial, explain

CIPHERS: Final = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "aes256-ctr", "aes128-ctr")
"""No chacha20-poly1305 and no CBC: with these an attacker on the way can drop the first messages unseen where one side
lacks strict key exchange."""
MACS: Final = ("hmac-sha2-256-etm@openssh.com", "hmac-sha2-512-etm@openssh.com", "hmac-sha2-256", "hmac-sha2-512")
WINDOW: Final = 8 << 20
"""Bytes in flight from the target on one channel: 40 ms at 200 MB/s."""
KEEPALIVE_SECONDS: Final = 30
CERTIFICATE_SECONDS: Final = 120
"""How long a certificate is good for: it is used at once, and a session outlives it."""
MAX_KEY_ID: Final = 256


async def open_ssh(
    connection: SshConnection, credential: Secret, key_id: str, client: type[asyncssh.SSHClient] = asyncssh.SSHClient
) -> asyncssh.SSHClientConnection:
    """Dial, check the host, log in. `key_id` names the person and the session in the host's own log, where a certificate does.

    Raises `NotAdmitted`.
    """
    upstream = connection.upstream
    try:
        async with asyncio.timeout(upstream.connect_timeout):
            sock = await dial(upstream)
            try:
                return await asyncssh.connect(
                    upstream.host,
                    upstream.port,
                    sock=sock,
                    client_factory=client,
                    username=upstream.user,
                    known_hosts=_known(upstream),
                    config=None,
                    agent_path=None,
                    encryption_algs=list(CIPHERS),
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


def _known(upstream: SshUpstream) -> tuple[list[Any], list[Any], list[Any]]:
    """(keys, authorities, revoked) that are believed: nothing else is."""
    keys = [asyncssh.import_public_key(line) for line in upstream.host_keys]
    authorities = [asyncssh.import_public_key(line) for line in upstream.host_authorities]
    return keys, authorities, []


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
        permit_x11_forwarding=False,
        permit_agent_forwarding=False,
        permit_user_rc=False,
    )
    return {"client_keys": [(fresh, certificate)], "password_auth": False}
