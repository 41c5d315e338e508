"""The SSH listener: `ssh CONNECTION@gateway`. It lets clients in (`ssh_door.py`), and keeps their sessions (`ssh_session.py`)."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncssh
import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_ssh_public_key

from ostiary.config.types import SshListener
from ostiary.driver.admission import Reception, WhyNot
from ostiary.driver.spawn import spawn
from ostiary.driver.ssh_door import CLIENT_WINDOW, Door
from ostiary.driver.ssh_session import House, SshDestination
from ostiary.identity.ssh import HOST, USER_AUTHORITY
from ostiary.listener.accept import accept_forever
from ostiary.model.errors import ConfigError, NotAdmitted, Reason
from ostiary.model.identity import VerifiedIdentity
from ostiary.model.restraints import Restraint
from ostiary.policy.policies import Policies
from ostiary.upstream.ssh import CIPHERS, KEEPALIVE_SECONDS, KEX, MACS, SIGNATURES, VERSION
from ostiary.upstream.ssh_wire import MAX_PACKET, Wire

asyncssh.set_log_level("ERROR")  # it writes commands and environments to its diagnostics, where secrets must not stand

_log = structlog.get_logger("ostiary")


class SshGate:
    """One SSH listener."""

    def __init__(
        self,
        reception: Reception,
        settings: SshListener,
        keys: Path,
    ) -> None:
        """`keys`: the folder of the gateway's own."""
        self.settings = settings
        self.house = House(reception, settings, _authority(keys))
        self._host_keys = _host_keys(settings, keys)
        self._logins = reception.commons.tally("waiting ssh")
        self._closing = False

    async def serve(self, sock: socket.socket) -> None:
        """Accept clients until cancelled."""
        await accept_forever(sock, self._came)

    def use(self, policies: Policies) -> None:
        """From now on every operation is decided under these."""
        for session in self.house.sessions:
            session.use(policies)

    def stop(self, why_not: WhyNot) -> None:
        """End the sessions whose identity may not go on."""
        for session in list(self.house.sessions):
            if (why := why_not(session.admitted.who)) is not None:
                session.cut(why)

    def restrain(self, restrained: Callable[[VerifiedIdentity, Restraint | None], Restraint | None]) -> None:
        """See `Alertable.restrain`."""
        for session in self.house.sessions:
            session.restrain(restrained(session.admitted.who, session.restraint))

    def end(self, session: str, why: NotAdmitted) -> None:
        """See `Alertable.end`."""
        for each in list(self.house.sessions):
            if each.id == session:
                each.cut(why)

    def close(self) -> None:
        """Let nobody in any more, and end every session."""
        self._closing = True
        for session in list(self.house.sessions):
            session.cut(NotAdmitted(Reason.TARGET_UNREACHABLE, "the gateway is shutting down"))

    def _came(self, sock: socket.socket, address: str) -> None:
        if self._closing or not self._logins.enter(self.settings.max_logins):
            sock.close()
            return
        spawn(self._admit(sock, address), f"login {address}")

    async def _admit(self, sock: socket.socket, address: str) -> None:
        door = Door(self.house, address)
        try:
            async with asyncio.timeout(self.settings.login_seconds):
                await asyncssh.run_server(
                    None,
                    tunnel=Wire(sock, door.turn),
                    server_factory=lambda: door,
                    config=None,
                    server_host_keys=self._host_keys,
                    server_version=VERSION,
                    kex_algs=list(KEX),
                    encryption_algs=list(CIPHERS),
                    signature_algs=list(SIGNATURES),
                    mac_algs=list(MACS),
                    compression_algs=["none"],
                    login_timeout=self.settings.login_seconds,
                    rekey_bytes=self.settings.rekey_bytes,
                    keepalive_interval=KEEPALIVE_SECONDS,
                    keepalive_count_max=4,
                    encoding=None,
                    line_editor=False,
                    window=CLIENT_WINDOW,
                    max_pktsize=MAX_PACKET,
                    x11_forwarding=False,
                    agent_forwarding=False,
                    allow_scp=False,
                    gss_host=None,
                    host_based_auth=False,
                )
                await door.over_or_in.wait()
        except (TimeoutError, asyncssh.Error, OSError) as exc:
            _log.debug("login did not succeed", client=address, error=str(exc))
            door.cut()
        finally:
            self._logins.leave()


def _authority(keys: Path) -> bytes:
    """The raw public key that signs users' certificates."""
    path = keys / f"{USER_AUTHORITY}.pub"
    try:
        key = load_ssh_public_key(path.read_bytes())
    except (OSError, ValueError) as exc:
        raise ConfigError(str(path), f"cannot be used: {exc}") from None
    if not isinstance(key, Ed25519PublicKey):
        raise ConfigError(str(path), "is no Ed25519 key")
    return key.public_bytes_raw()


def _host_keys(settings: SshListener, keys: Path) -> list[Any]:
    """What clients see: the operator's key, or the gateway's own with its certificate."""
    try:
        if settings.host_key is not None:
            return [asyncssh.read_private_key(settings.host_key)]
        key = asyncssh.read_private_key(str(keys / f"{HOST}.key"))
        return [(key, asyncssh.read_certificate(str(keys / f"{HOST}-cert.pub")))]
    except (OSError, asyncssh.KeyImportError) as exc:
        raise ConfigError("listen.ssh.host_key", f"cannot be used: {exc}") from None


__all__ = ["SshDestination", "SshGate"]
