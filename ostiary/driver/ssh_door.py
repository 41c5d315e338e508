"""One SSH client at the door: its login, the connect decision, `session.start`, the target, and then its channels.

asyncssh speaks the transport and authentication (RFC 4253, 4252). The user name is the connection and nothing else. Whoever logs in
shows a token as password, or logs in with a browser meanwhile (keyboard-interactive, the device flow), or shows a certificate of the gateway's authority,
which carries a token that is bound to its key (`ostiary/identity/ssh.py`). A key by itself lets nobody in.
Proof, target and policy are looked at before authentication succeeds, so who is not let in hears why in a banner and never has
a session; the target is dialled and `session.start` durable before the first channel opens.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

import asyncssh
import structlog

from ostiary.driver.admission import ending
from ostiary.driver.devices import Shown
from ostiary.driver.spawn import spawn
from ostiary.driver.ssh_channel import MIN_PACKET, is_small
from ostiary.driver.ssh_lingering import lingering
from ostiary.driver.ssh_session import PROHIBITED, House, SshDestination, SshSession
from ostiary.driver.ssh_sides import ClientSide
from ostiary.driver.ssh_variables import any_command, few_variables
from ostiary.identity.ssh import is_ours, read_login
from ostiary.model.decisions import Permit
from ostiary.model.errors import LogFailed, NotAdmitted, OstiaryError, Reason
from ostiary.model.identity import Claims, Said, VerifiedIdentity
from ostiary.model.printable import printable
from ostiary.model.secrets import Secret
from ostiary.protocols.ssh import messages as m
from ostiary.protocols.ssh.forwards import AGENT, DISPLAY
from ostiary.upstream.ssh import quiet
from ostiary.upstream.ssh_wire import MAX_PACKET, Turn

MAX_ATTEMPTS: Final = 6
"""Failed proofs before the connection is cut: OpenSSH, sshd_config(5), MaxAuthTries."""
MAX_TOKEN: Final = 16 * 1024
CLIENT_WINDOW: Final = 2 << 20
"""Bytes in flight from the client on one channel: what a session may make the gateway keep is this times `max_channels`."""
MAX_NAME: Final = 64
"""Characters of a user name that are shown again."""

_log = structlog.get_logger("ostiary")


class Door(asyncssh.SSHServer):
    """One client: from its first word to the end of its session."""

    def __init__(self, house: House, address: str) -> None:
        self._house = house
        self.turn = Turn()
        self._address = address
        self._connection: asyncssh.SSHServerConnection | None = None
        self._shows_key: Callable[[str, bytes, bytes, bytes], Awaitable[bool]] | None = None
        """asyncssh's own check of a key or certificate, and of the signature by it."""
        self._shown: Shown | None = None
        self._told_of_certificate = False
        """One that does not let in is on record; a client may show it with each request."""
        self._attempts = 0
        self._admitted: tuple[Permit, SshDestination, Claims] | None = None
        self._session: SshSession | None = None
        self._opening: asyncio.Future[SshSession] | None = None
        self.over_or_in = asyncio.Event()

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        """The transport is there."""
        self._connection = conn
        conn.set_extra_info(ostiary=self)
        quiet(conn)
        # asyncssh has no callbacks for these: it asks the connection, which hands out no certificate, and says no to the others unheard.
        self._shows_key = conn.validate_public_key
        conn.validate_public_key = self._prove_by_key  # type: ignore[method-assign]
        conn.create_agent_listener = self._agent_requested  # type: ignore[method-assign]
        conn.attach_x11_listener = self._x11_requested  # type: ignore[method-assign]

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has gone, or was sent away."""
        self.over_or_in.set()
        self._drop_shown()
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
        """RFC 4252, 7: certificates of the gateway's authority."""
        return bool(self._house.authority)

    def validate_ca_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        """OpenSSH, PROTOCOL.certkeys: whether that key may sign. `_prove_by_key` looks at the rest."""
        del username
        return key.algorithm == b"ssh-ed25519" and key.public_data[-32:] == self._house.authority

    async def _prove_by_key(self, username: str, key_data: bytes, msg: bytes, signature: bytes) -> bool:
        """A certificate is shown: with a signature, it is a login; without, a question whether it would do.

        Keys, and certificates of others, are a no without a word: clients try whatever they have.
        """
        if self._shows_key is None:
            return False
        good = await self._shows_key(username, key_data, msg, signature)
        if not is_ours(key_data, self._house.authority):
            return False
        refused = None if good else NotAdmitted(Reason.BAD_TOKEN, "the certificate: not from here, or without its key")
        try:
            token, key = read_login(key_data, self._house.authority, username, time.time())
        except NotAdmitted as exc:
            refused = exc
        if refused is not None:
            await self._turn_away(username, refused, is_told=self._told_of_certificate)
            self._told_of_certificate = True
            return False
        return not msg or await self._prove(username, token, key)

    def password_auth_supported(self) -> bool:
        """A token is a password."""
        return True

    async def validate_password(self, username: str, password: str) -> bool:
        """RFC 4252, 8."""
        return await self._prove(username, _typed(password))

    def kbdint_auth_supported(self) -> bool:
        """Keyboard-interactive asks for the token."""
        return True

    async def get_kbdint_challenge(self, username: str, lang: str, submethods: str) -> Any:
        """RFC 4256, 3.2: where to log in with a browser, and a place to paste a token instead."""
        del lang, submethods
        devices = self._house.reception.devices
        self._drop_shown()
        if devices is not None:
            self._shown = await devices.begin(username[:MAX_NAME], self._said())
        if self._shown is None:
            how, prompt = f"Get a token with: ostiary token {printable(username[:MAX_NAME])}", "Token as password: "
        else:
            how = f"Open {self._shown.page} and type {self._shown.user_code}"
            prompt = "Then press Enter (or paste a token as password): "
        return "Ostiary", how, "en", [(prompt, False)]

    async def validate_kbdint_response(self, username: str, responses: Any) -> bool:
        """RFC 4256, 3.4."""
        if len(responses) != 1:
            return False
        token, shown, devices = _typed(str(responses[0])), self._shown, self._house.reception.devices
        if token == Secret("") and shown is not None and devices is not None:
            if shown.connection != username:
                await self._turn_away(username, NotAdmitted(Reason.WRONG_AUDIENCE, "the code was shown for another name"))
                return False
            try:
                token = await devices.wait(shown)
            except NotAdmitted as exc:
                await self._turn_away(username, exc)
                return False
        return await self._prove(username, token)

    def _drop_shown(self) -> None:
        """Nobody will confirm the code that was shown last."""
        shown, self._shown = self._shown, None
        if shown is not None and self._house.reception.devices is not None:
            spawn(self._house.reception.devices.drop(shown), f"login of {self._address}")

    async def _prove(self, username: str, token: Secret, key: str | None = None) -> bool:
        said = self._said()
        return await self.admit(
            Claims(connection=username, token=token, said=said, key=key),
            self._house.reception.identify,
        )

    async def _turn_away(self, username: str, exc: NotAdmitted, *, is_told: bool = False) -> None:
        """Somebody is not let in before there is a token to look at. `is_told`: that is on record already."""
        try:
            if not is_told:
                await self._house.reception.turn_away(
                    Claims(connection=username, token=Secret(""), said=self._said()), None, exc
                )
        except LogFailed:
            self._refuse(Reason.LOG_UNAVAILABLE.value)
            return
        self._refuse(f"{exc}. {exc.hint}" if exc.hint else str(exc))

    def _said(self) -> Said:
        return Said(address=self._address, user="", application=self._client_version())

    def _client_version(self) -> str:
        version = None if self._connection is None else self._connection.get_extra_info("client_version")
        return printable(str(version or "")[:128])

    async def admit(self, claims: Claims, identify: Callable[[Claims], Awaitable[VerifiedIdentity]]) -> bool:
        """Who, onto what, and may they. Whoever may not is on record, and hears why."""
        self._admitted = None
        house = self._house
        reception = house.reception
        try:
            who = await identify(claims)
            try:
                target = reception.target(claims.connection, SshDestination, house.settings, house.open)
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
        self._drop_shown()
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
            begun = await self._house.reception.begin(permit, claims.said, target)
        except (OstiaryError, OSError) as exc:
            await self._did_not_begin(permit, claims, exc)
            return
        session = SshSession(self._house, begun, target, connection, claims.said, self.turn)
        try:
            await session.dial()
            self._house.reception.still_stands(permit.who)
            session.end_in_time()
        except (OstiaryError, OSError) as exc:
            session.finish(ending(exc))
            await self._did_not_begin(permit, claims, exc)
            return
        self._session = session
        if connection.is_closed():
            session.finish("client gone")
            return
        self._opening.set_result(session)
        _log.info("session", session=begun.session, connection=target.connection.name, who=permit.who.subject)

    async def _did_not_begin(self, permit: Permit, claims: Claims, exc: OstiaryError | OSError) -> None:
        """Somebody was let in, and then not: that is on record, and they are sent away whether it could be or not."""
        try:
            if isinstance(exc, NotAdmitted):
                await self._house.reception.turn_away(claims, permit.who, exc)
        finally:
            self._fail(exc)

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

    async def _channel(self, channel: asyncssh.SSHServerChannel[bytes]) -> ClientSide:
        if is_small(channel):
            raise asyncssh.ChannelOpenError(asyncssh.OPEN_RESOURCE_SHORTAGE, f"ostiary: packets of less than {MIN_PACKET} bytes are not written")
        return (await self._ready()).channel()

    def session_requested(self) -> Any:
        """RFC 4254, 6.1: the session is there before its first channel."""
        assert self._connection is not None  # noqa: S101 - it is this connection that asks
        channel = self._connection.create_server_channel(encoding=None, window=CLIENT_WINDOW, max_pktsize=MAX_PACKET)
        return any_command(few_variables(lingering(channel))), self._channel(channel)

    async def connection_requested(self, dest_host: str, dest_port: int, orig_host: str, orig_port: int) -> Any:
        """RFC 4254, 7.2: a local or dynamic forward."""
        body = m.string(dest_host.encode()) + m.u32(dest_port) + m.string(orig_host.encode()) + m.u32(orig_port)
        return ClientSide(await (await self._ready()).forward(m.encode(m.Request("direct-tcpip", body))))

    async def unix_connection_requested(self, dest_path: str) -> Any:
        """OpenSSH, PROTOCOL 2.4."""
        body = m.string(dest_path.encode())
        return ClientSide(await (await self._ready()).forward(m.encode(m.Request("direct-streamlocal@openssh.com", body))))

    async def server_requested(self, listen_host: str, listen_port: int) -> Any:
        """RFC 4254, 7.1: a remote forward."""
        return await self._remote("tcpip-forward", m.string(listen_host.encode()) + m.u32(listen_port))

    async def unix_server_requested(self, listen_path: str) -> Any:
        """OpenSSH, PROTOCOL 2.4: a remote forward from a socket with a name."""
        return await self._remote("streamlocal-forward@openssh.com", m.string(listen_path.encode()))

    async def _remote(self, kind: str, body: bytes) -> Any:
        try:
            return await (await self._ready()).remote(m.encode(m.Request(kind, body)))
        except asyncssh.ChannelOpenError:  # a global request is answered by yes or no
            return False

    async def _tunnel(self, unit: int | None) -> ClientSide:
        await (await self._ready()).refuse("tun@openssh.com", "any" if unit is None else str(unit))
        raise asyncssh.ChannelOpenError(PROHIBITED, "ostiary: tunnels are not spoken here")

    def tun_requested(self, unit: int | None) -> Any:
        """OpenSSH, PROTOCOL 2.3: refused, and on record."""
        return self._tunnel(unit)

    def tap_requested(self, unit: int | None) -> Any:
        """OpenSSH, PROTOCOL 2.3: refused, and on record."""
        return self._tunnel(unit)

    async def _agent_requested(self) -> bool:
        return bool(await self._remote(AGENT, b""))

    async def _x11_requested(self, chan: Any, auth_proto: bytes, auth_data: bytes, screen: int) -> str | None:
        del chan
        found = await self._remote(DISPLAY, m.string(auth_proto) + m.string(auth_data) + m.u32(screen))
        return "the client's" if found else None


def _typed(text: str) -> Secret:
    """A token as somebody typed or pasted it."""
    return Secret(text.strip()[:MAX_TOKEN])
