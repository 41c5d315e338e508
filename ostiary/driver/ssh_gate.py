"""The SSH listener: `ssh CONNECTION@gateway`. Login, the connect decision, `session.start`, the target, and then channels.

asyncssh speaks the transport and authentication (RFC 4253, 4252). The user name is the connection and nothing else. Whoever logs in
shows a token as password, or answers the question for it (keyboard-interactive); no key and no certificate lets anybody in.
Proof, target and policy are looked at before authentication succeeds, so who is not let in hears why in a banner and never has
a session; the target is dialled and `session.start` durable before the first channel opens.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import asyncssh
import structlog

from ostiary.config.types import SshListener
from ostiary.driver.admission import Begun, Reception, WhyNot, ending
from ostiary.driver.spawn import spawn
from ostiary.driver.ssh_channel import ChannelDriver, ClientSide
from ostiary.driver.targets import Destination, Resolve
from ostiary.identity.ssh import HOST
from ostiary.listener.accept import accept_forever
from ostiary.model.connections import SshConnection
from ostiary.model.decisions import Permit
from ostiary.model.errors import ConfigError, LogFailed, NotAdmitted, OstiaryError, Reason
from ostiary.model.identity import Claims, Said, VerifiedIdentity
from ostiary.model.printable import printable
from ostiary.model.secrets import Secret
from ostiary.policy.policies import Policies
from ostiary.protocols.ssh import messages as m
from ostiary.protocols.ssh.forwards import ForwardRelay
from ostiary.protocols.ssh.operations import Ground
from ostiary.protocols.ssh.relay import ChannelRelay, ChannelSettings
from ostiary.session.path import Line
from ostiary.upstream.ssh import CIPHERS, KEEPALIVE_SECONDS, MACS, WINDOW, open_ssh
from ostiary.vault.payload_format import PayloadError

MAX_ATTEMPTS: Final = 6
"""Failed proofs before the connection is cut: OpenSSH, sshd_config(5), MaxAuthTries."""
MAX_TOKEN: Final = 16 * 1024
PROHIBITED: Final = asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED

asyncssh.set_log_level("ERROR")  # it writes commands and environments to its diagnostics, where secrets must not stand

_log = structlog.get_logger("ostiary")


class SshDestination(Destination):
    """A host."""

    connection: SshConnection

    def __init__(self, connection: SshConnection, resolve: Resolve) -> None:
        super().__init__(connection)
        self._resolve = resolve

    def credential(self) -> Secret:
        """Read the one credential, anew each time."""
        return self._resolve(self.connection.secrets[0])


class SshGate:
    """One SSH listener."""

    def __init__(
        self,
        reception: Reception,
        settings: SshListener,
        keys: Path,
    ) -> None:
        """`keys`: the folder of the gateway's own."""
        self.reception = reception
        self.settings = settings
        self._host_keys = _host_keys(settings, keys)
        self._logins = 0
        self.sessions: set[SshSession] = set()
        self._closing = False

    async def serve(self, sock: socket.socket) -> None:
        """Accept clients until cancelled."""
        await accept_forever(sock, self._came)

    def use(self, policies: Policies) -> None:
        """From now on every operation is decided under these."""
        for session in self.sessions:
            session.use(policies)

    def stop(self, why_not: WhyNot) -> None:
        """End the sessions whose identity may not go on."""
        for session in list(self.sessions):
            if (why := why_not(session.admitted.who)) is not None:
                session.cut(why)

    def close(self) -> None:
        """Let nobody in any more, and end every session."""
        self._closing = True
        for session in list(self.sessions):
            session.cut(NotAdmitted(Reason.TARGET_UNREACHABLE, "the gateway is shutting down"))

    def _came(self, sock: socket.socket, address: str) -> None:
        if self._closing or self._logins >= self.settings.max_logins:
            sock.close()
            return
        self._logins += 1
        spawn(self._admit(sock, address), f"login {address}")

    async def _admit(self, sock: socket.socket, address: str) -> None:
        door = Door(self, address)
        try:
            async with asyncio.timeout(self.settings.login_seconds):
                await asyncssh.run_server(
                    sock,
                    server_factory=lambda: door,
                    config=None,
                    server_host_keys=self._host_keys,
                    server_version="Ostiary",
                    encryption_algs=list(CIPHERS),
                    mac_algs=list(MACS),
                    compression_algs=["none"],
                    login_timeout=self.settings.login_seconds,
                    rekey_bytes=self.settings.rekey_bytes,
                    keepalive_interval=KEEPALIVE_SECONDS,
                    keepalive_count_max=4,
                    encoding=None,
                    line_editor=False,
                    window=WINDOW,
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
            self._logins -= 1


class Door(asyncssh.SSHServer):
    """One client: from its first word to the end of its session."""

    def __init__(self, gate: SshGate, address: str) -> None:
        self._gate = gate
        self._address = address
        self._connection: asyncssh.SSHServerConnection | None = None
        self._attempts = 0
        self._admitted: tuple[Permit, SshDestination, Claims] | None = None
        self._session: SshSession | None = None
        self._opening: asyncio.Future[SshSession] | None = None
        self.over_or_in = asyncio.Event()

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        """The transport is there."""
        self._connection = conn
        conn.set_extra_info(ostiary=self)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has gone, or was sent away."""
        self.over_or_in.set()
        if self._session is not None:
            self._session.finish("ended" if exc is None else "client gone")

    def cut(self) -> None:
        """Hang up."""
        if self._connection is not None:
            self._connection.abort()

    # --- login -------------------------------------------------------------------------------------------------------

    def begin_auth(self, username: str) -> bool:
        """RFC 4252, 5. Everybody has to prove who they are."""
        del username
        return True

    def public_key_auth_supported(self) -> bool:
        """RFC 4252, 7: no key and no certificate lets anybody in."""
        return False

    def password_auth_supported(self) -> bool:
        """A token is a password."""
        return True

    async def validate_password(self, username: str, password: str) -> bool:
        """RFC 4252, 8."""
        return await self._prove(username, password)

    def kbdint_auth_supported(self) -> bool:
        """Keyboard-interactive asks for the token."""
        return True

    def get_kbdint_challenge(self, username: str, lang: str, submethods: str) -> Any:
        """RFC 4256, 3.2."""
        del lang, submethods
        shown = printable(username[:64])
        return "Ostiary", f"Get a token with: ostiary token {shown}", "en", [("Token as password: ", False)]

    async def validate_kbdint_response(self, username: str, responses: Any) -> bool:
        """RFC 4256, 3.4."""
        return len(responses) == 1 and await self._prove(username, str(responses[0]))

    async def _prove(self, username: str, token: str) -> bool:
        said = Said(address=self._address, user="", application=self._client_version())
        return await self.admit(
            Claims(connection=username, token=Secret(token.strip()[:MAX_TOKEN]), said=said),
            self._gate.reception.identify,
        )

    def _client_version(self) -> str:
        version = None if self._connection is None else self._connection.get_extra_info("client_version")
        return printable(str(version or "")[:128])

    async def admit(self, claims: Claims, identify: Callable[[Claims], Awaitable[VerifiedIdentity]]) -> bool:
        """Who, onto what, and may they. Whoever may not is on record, and hears why."""
        self._admitted = None
        reception, gate = self._gate.reception, self._gate
        try:
            who = await identify(claims)
            try:
                target = reception.target(claims.connection, SshDestination, gate.settings, len(gate.sessions))
                self._admitted = (reception.admit(who, target, claims.said), target, claims)
            except NotAdmitted as exc:
                await reception.turn_away(claims, who, exc)
                raise
        except NotAdmitted as exc:
            self._refuse(f"{exc}. {exc.hint}" if exc.hint else str(exc))
        except LogFailed:
            self._refuse(Reason.LOG_UNAVAILABLE.value)
        return self._admitted is not None

    def _refuse(self, sentence: str) -> None:
        self._attempts += 1
        connection = self._connection
        if connection is None:
            return
        connection.send_auth_banner(f"ostiary: {printable(sentence)}\r\n")
        if self._attempts >= MAX_ATTEMPTS:
            connection.disconnect(asyncssh.DISC_NO_MORE_AUTH_METHODS_AVAILABLE, "Too many attempts")

    def auth_completed(self) -> None:
        """Somebody is in: begin the session."""
        self.over_or_in.set()
        self._opening = asyncio.get_running_loop().create_future()
        spawn(self._open(), f"session from {self._address}")

    async def _open(self) -> None:
        assert self._opening is not None  # noqa: S101 - set before
        connection, admitted = self._connection, self._admitted
        if connection is None or admitted is None:
            self.cut()
            return
        permit, target, claims = admitted
        try:
            begun = await self._gate.reception.begin(permit, claims.said, target)
        except (OstiaryError, OSError) as exc:
            self._fail(exc)
            return
        session = SshSession(self._gate, begun, target, connection, claims.said)
        try:
            await session.dial()
            self._gate.reception.still_stands(permit.who)
        except (OstiaryError, OSError) as exc:
            session.finish(ending(exc))
            if isinstance(exc, NotAdmitted):
                await self._gate.reception.turn_away(claims, permit.who, exc)
            self._fail(exc)
            return
        self._session = session
        if connection.is_closed():
            session.finish("client gone")
            return
        self._opening.set_result(session)
        session.end_at(permit.who.expires - time.time())
        _log.info("session", session=begun.session, connection=target.connection.name, who=permit.who.subject)

    def _fail(self, exc: BaseException) -> None:
        told = exc if isinstance(exc, NotAdmitted) else NotAdmitted(Reason.LOG_UNAVAILABLE)
        if self._connection is not None:
            self._connection.disconnect(asyncssh.DISC_BY_APPLICATION, f"ostiary: {printable(str(told))[:400]}")
        if self._opening is not None and not self._opening.done():
            self._opening.cancel()

    # --- channels ----------------------------------------------------------------------------------------------------

    async def _ready(self) -> SshSession:
        if self._opening is None:
            raise asyncssh.ChannelOpenError(PROHIBITED, "not logged in")
        try:
            return await asyncio.shield(self._opening)
        except asyncio.CancelledError:
            raise asyncssh.ChannelOpenError(asyncssh.OPEN_CONNECT_FAILED, "the session did not begin") from None

    async def _channel(self) -> ClientSide:
        return (await self._ready()).channel()

    def session_requested(self) -> Any:
        """RFC 4254, 6.1: the session is there before its first channel."""
        return self._channel()

    async def connection_requested(self, dest_host: str, dest_port: int, orig_host: str, orig_port: int) -> Any:
        """RFC 4254, 7.2: a local or dynamic forward."""
        body = m.string(dest_host.encode()) + m.u32(dest_port) + m.string(orig_host.encode()) + m.u32(orig_port)
        return await (await self._ready()).forward(m.encode(m.Request("direct-tcpip", body)))

    async def unix_connection_requested(self, dest_path: str) -> Any:
        """OpenSSH, PROTOCOL 2.4."""
        body = m.string(dest_path.encode())
        return await (await self._ready()).forward(m.encode(m.Request("direct-streamlocal@openssh.com", body)))

    async def server_requested(self, listen_host: str, listen_port: int) -> Any:
        """RFC 4254, 7.1: a remote forward is refused, and on record."""
        await (await self._ready()).refuse("tcpip-forward", f"{listen_host}:{listen_port}")
        return False

    async def unix_server_requested(self, listen_path: str) -> Any:
        """OpenSSH, PROTOCOL 2.4: refused, and on record."""
        await (await self._ready()).refuse("streamlocal-forward@openssh.com", listen_path)
        return False


class SshSession:
    """One person on one host: its channels, and the connection to the target."""

    def __init__(
        self, gate: SshGate, begun: Begun, target: SshDestination, client: asyncssh.SSHServerConnection, said: Said
    ) -> None:
        self._said = said
        self._gate = gate
        self._begun = begun
        self.admitted = begun.admitted
        self._target = target
        self._client = client
        self._upstream: asyncssh.SSHClientConnection | None = None
        self._channels: set[ChannelDriver] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._finished = False
        self._why = ""
        connection = target.connection
        self._ground = Ground(
            connection=connection.name,
            home=connection.home,
            protected=connection.protect,
            masks_files=connection.masks_files,
        )
        self._settings = ChannelSettings(
            ground=self._ground,
            accept_env=connection.accept_env,
            detects=bool(connection.detect),
            keeps_files=connection.keep_files,
            masks_files=connection.masks_files,
        )
        gate.sessions.add(self)

    async def dial(self) -> None:
        """Get into the host. Raises `NotAdmitted`."""
        session = self

        class Watch(asyncssh.SSHClient):
            def connection_lost(self, exc: Exception | None) -> None:
                del exc
                session.cut(NotAdmitted(Reason.TARGET_UNREACHABLE, "it closed the connection"))

        self._upstream = await open_ssh(
            self._target.connection, self._target.credential(), key_id(self.admitted.who, self._begun.session), Watch
        )

    def connection(self) -> asyncssh.SSHClientConnection:
        """The connection to the target."""
        assert self._upstream is not None  # noqa: S101 - dialled before the first channel
        return self._upstream

    def use(self, policies: Policies) -> None:
        """Policies were loaded anew."""
        for channel in self._channels:
            channel.line.policies = policies

    def end_at(self, seconds: float) -> None:
        """End when the identity does."""
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(max(0.0, seconds), self.cut, NotAdmitted(Reason.EXPIRED_TOKEN))

    # --- channels ----------------------------------------------------------------------------------------------------

    def _driver(self, relay: ChannelRelay | ForwardRelay) -> ChannelDriver:
        if self._finished or len(self._channels) >= self._gate.settings.max_channels:
            raise asyncssh.ChannelOpenError(asyncssh.OPEN_RESOURCE_SHORTAGE, "too many channels in this session")
        reception, connection = self._gate.reception, self._target.connection
        held = reception.desk.granted(self.admitted.who, connection.name)
        line = Line(
            admitted=self.admitted,
            connection=connection,
            policies=reception.policies,
            relay=relay,
            said=self._said,
            granted=frozenset() if held is None else held.groups,
        )
        line.restraint = reception.restraint(self.admitted.who, connection)
        driver = ChannelDriver(line=line, relay=relay, journal=self._begun.journal, session=self)
        self._channels.add(driver)
        return driver

    def channel(self) -> ClientSide:
        """Open a channel for a command, a shell or a subsystem."""
        return ClientSide(self._driver(ChannelRelay(self._settings)))

    async def forward(self, asked: bytes) -> ClientSide:
        """Open a forward, if policy permits it and the target connects."""
        driver = self._driver(ForwardRelay(self._ground))
        driver.heard(asked)
        if not await driver.opened:
            raise asyncssh.ChannelOpenError(PROHIBITED, "ostiary: refused")
        return ClientSide(driver)

    async def refuse(self, kind: str, place: str) -> None:
        """Put on record that something was asked for that is never permitted here."""
        driver = self._driver(ForwardRelay(self._ground))
        driver.heard(m.encode(m.Request(kind, m.string(place.encode()))))
        await driver.opened

    def left(self, channel: ChannelDriver) -> None:
        """That channel is over."""
        self._channels.discard(channel)

    # --- the end -----------------------------------------------------------------------------------------------------

    def cut(self, failure: BaseException) -> None:
        """End the session at once, and tell the client why, as far as it is its business."""
        if self._finished:
            return
        match failure:
            case NotAdmitted():
                told, status = str(failure), failure.reason.name
            case LogFailed() | PayloadError():
                told, status = Reason.LOG_UNAVAILABLE.value, Reason.LOG_UNAVAILABLE.name
            case _:
                told, status = "internal error", "INTERNAL_ERROR"
        self._client.disconnect(asyncssh.DISC_BY_APPLICATION, f"ostiary: {printable(told)[:400]}")
        self.finish(status)

    def finish(self, status: str) -> None:
        """Close what is open in the log, and both connections. Runs once."""
        if self._finished:
            return
        self._finished = True
        if self._timer is not None:
            self._timer.cancel()
        for channel in list(self._channels):
            channel.cut()
        try:
            self._begun.journal.end(status)
        except (OstiaryError, OSError) as exc:
            _log.error("a session's end is not on record", session=self._begun.session, error=str(exc))
        if self._upstream is not None:
            self._upstream.close()
        self._target.leave()
        self._gate.sessions.discard(self)


def _host_keys(settings: SshListener, keys: Path) -> list[Any]:
    """What clients see: the operator's key, or the gateway's own with its certificate."""
    try:
        if settings.host_key is not None:
            return [asyncssh.read_private_key(settings.host_key)]
        key = asyncssh.read_private_key(str(keys / f"{HOST}.key"))
        return [(key, asyncssh.read_certificate(str(keys / f"{HOST}-cert.pub")))]
    except (OSError, asyncssh.KeyImportError) as exc:
        raise ConfigError("listen.ssh.host_key", f"cannot be used: {exc}") from None


def key_id(who: VerifiedIdentity, session: str) -> str:
    """How the host's own log names the actor: the key id of the certificate, printable ASCII without spaces."""
    chain = "/".join([*(actor.name or actor.sub for actor in who.acting), who.subject])
    plain = "".join(c if c.isascii() and c.isprintable() and not c.isspace() else "_" for c in chain)
    return f"ostiary:{session}:{plain}"
