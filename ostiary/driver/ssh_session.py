"""One session of SSH: a person on a host, its channels, and the connection to the target."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import asyncssh
import msgspec
import structlog

from ostiary.config.types import SshListener
from ostiary.driver.admission import Begun, Reception, unrecorded
from ostiary.driver.leases import Lease
from ostiary.driver.ssh_back import Back
from ostiary.driver.ssh_channel import ChannelDriver
from ostiary.driver.ssh_question import Asking
from ostiary.driver.ssh_remote import Listening, listen, reach
from ostiary.driver.ssh_sides import ClientSide
from ostiary.driver.targets import Destination, Resolve
from ostiary.masking.detectors import holds_lines
from ostiary.model.connections import SshConnection
from ostiary.model.errors import LogFailed, NotAdmitted, OstiaryError, Reason
from ostiary.model.identity import Said, VerifiedIdentity
from ostiary.model.printable import printable
from ostiary.model.restraints import Restraint
from ostiary.model.secrets import Secret
from ostiary.policy.policies import Policies
from ostiary.protocols.ssh import messages as m
from ostiary.protocols.ssh.forwards import BACK, ForwardRelay
from ostiary.protocols.ssh.operations import Ground
from ostiary.protocols.ssh.relay import ChannelRelay, ChannelSettings
from ostiary.session.path import Line
from ostiary.upstream.ssh import open_ssh, swaps_links
from ostiary.upstream.ssh_wire import Turn
from ostiary.vault.payload_format import PayloadError

CLOSED: Final = "it closed the connection"
PROHIBITED: Final = asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED

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


class House:
    """What the sessions of one listener share, and all of those that are open."""

    def __init__(self, reception: Reception, settings: SshListener, authority: bytes = b"") -> None:
        """`authority`: the raw public key that signs users' certificates; empty: none lets in."""
        self.reception = reception
        self.authority = authority
        self.settings = settings
        self.sessions: set[SshSession] = set()
        self._open = reception.commons.tally("open ssh")

    @property
    def open(self) -> int:
        """How many sessions there are, in all workers."""
        return self._open.total

    def enter(self, session: SshSession) -> None:
        """A session begins."""
        self.sessions.add(session)
        self._open.add(1)

    def leave(self, session: SshSession) -> None:
        """It has ended."""
        if session in self.sessions:
            self.sessions.remove(session)
            self._open.leave()


class SshSession:
    """One person on one host: its channels, and the connection to the target."""

    def __init__(
        self, house: House, begun: Begun, target: SshDestination, client: asyncssh.SSHServerConnection, said: Said, turn: Turn
    ) -> None:
        self._turn = turn
        self._said = said
        self._house = house
        self._begun = begun
        self.admitted = begun.admitted
        self._target = target
        self._client = client
        self._upstream: asyncssh.SSHClientConnection | None = None
        self._channels: set[ChannelDriver] = set()
        self._loop = asyncio.get_running_loop()
        self._lease: Lease | None = None
        self._idle_timer: asyncio.TimerHandle | None = None
        turn.stirred_at = self._loop.time()
        self._opened_channels = 0
        self._back = Back(self.forward)
        self._has_asked = False
        self._finished = False
        connection = target.connection
        reception = house.reception
        self.restraint = reception.restraint(self.admitted.who, connection)
        """Budgets and alerts that restrain it, all channels together."""
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
            by_line=holds_lines(connection.detect),
            keeps_files=connection.keep_files,
            links=False,
            masks_files=connection.masks_files,
            refuses_files=connection.refuses_files,
            notes=begun.journal.is_full,
        )
        house.enter(self)

    async def dial(self) -> None:
        """Get into the host. Raises `NotAdmitted`."""
        session = self

        class Watch(asyncssh.SSHClient):
            def connection_lost(self, exc: Exception | None) -> None:
                del exc
                if session._upstream is not None:  # else `open_ssh` says what was wrong
                    session.cut(NotAdmitted(Reason.TARGET_UNREACHABLE, CLOSED))

        upstream = await open_ssh(
            self._target.connection, self._target.credential(), key_id(self.admitted.who, self._begun.session), Watch, self._turn
        )
        if upstream.is_closed():
            raise NotAdmitted(Reason.TARGET_UNREACHABLE, CLOSED)
        if self._finished:  # it was ended from outside meanwhile
            upstream.close()
        self._upstream = upstream
        self._back.attach(upstream)
        self._settings = msgspec.structs.replace(self._settings, links=swaps_links(upstream))

    @property
    def id(self) -> str:
        """The session's id."""
        return self._begun.session

    def connection(self) -> asyncssh.SSHClientConnection:
        """The connection to the target."""
        assert self._upstream is not None  # noqa: S101 - dialled before the first channel
        return self._upstream

    def use(self, policies: Policies) -> None:
        """Policies were loaded anew."""
        for channel in self._channels:
            channel.line.policies = policies

    def restrain(self, restraint: Restraint | None) -> None:
        """An alert has said something about whoever acts here."""
        self.restraint = restraint
        for channel in self._channels:
            channel.line.restraint = restraint

    def end_in_time(self) -> None:
        """End when its lease does, and when nothing happens for too long. Raises `NotAdmitted` where a grant was taken back meanwhile."""
        if self._finished:
            return
        self._lease = self._house.reception.lease(self._begun, self._target.connection.name, self.cut)
        if self._house.settings.idle_seconds:
            self._idle_timer = self._loop.call_later(self._house.settings.idle_seconds, self._is_it_idle)

    def _is_it_idle(self) -> None:
        left = self._turn.stirred_at + self._house.settings.idle_seconds - self._loop.time()
        if left <= 0 and not any(channel.asking.is_waiting for channel in self._channels):
            self.cut(NotAdmitted(Reason.IDLE))
        else:
            self._idle_timer = self._loop.call_later(max(left, 1.0), self._is_it_idle)

    # --- channels ----------------------------------------------------------------------------------------------------

    def _driver(self, relay: ChannelRelay | ForwardRelay) -> ChannelDriver:
        if self._finished or len(self._channels) >= self._house.settings.max_channels:
            raise asyncssh.ChannelOpenError(asyncssh.OPEN_RESOURCE_SHORTAGE, "too many channels in this session")
        reception = self._house.reception
        line = Line(
            admitted=self.admitted,
            connection=self._target.connection,
            policies=reception.policies,
            relay=relay,
            said=self._said,
            granted=self._begun.granted,
        )
        line.restraint = self.restraint
        self._opened_channels += 1
        asking = Asking(reception.desk, line, session=self.id, channel=self._opened_channels.to_bytes(8, "big"))
        driver = ChannelDriver(
            line=line, relay=relay, journal=self._begun.journal, session=self, asking=asking, counting=reception.counting, turn=self._turn
        )
        self._channels.add(driver)
        return driver

    def channel(self) -> ClientSide:
        """Open a channel for a command, a shell or a subsystem."""
        return ClientSide(self._driver(ChannelRelay(self._settings)))

    async def forward(self, asked: bytes) -> ChannelDriver:
        """Open a forward, if policy permits it and the other side takes it."""
        driver, opened = await self._opened(asked)
        if not opened:
            raise asyncssh.ChannelOpenError(PROHIBITED, "ostiary: refused")
        return driver

    async def remote(self, asked: bytes) -> Any:
        """Have the target listen for the client, if policy permits it; what ends it, or False."""
        for start in m.decode(asked):
            if isinstance(start, m.Request) and self._back.is_open(start.name, start.body):
                return True
        driver, opened = await self._opened(asked)
        return driver.target if opened else False

    async def _opened(self, asked: bytes) -> tuple[ChannelDriver, bool]:
        """The channel of a forward that is asked for, and whether it is permitted and the other side takes it: else it is over."""
        driver = self._driver(ForwardRelay(self._ground))
        driver.heard(asked)
        opened = False
        try:
            opened = await driver.opened
        finally:
            if not opened:
                driver.finish()
        return driver, opened

    async def listen(self, start: m.Request, driver: ChannelDriver) -> Listening:
        """See `Upstream.listen`."""
        if start.name in BACK:
            return self._back.listen(start, driver)
        return await listen(start, self.connection(), driver, self.forward)

    def met(self, channel: Any) -> None:
        """See `Upstream.met`."""
        self._back.ask(channel)

    async def reach(self, start: m.Request, side: ClientSide) -> None:
        """See `Upstream.reach`."""
        await reach(start, self._client, side)

    async def refuse(self, kind: str, place: str) -> None:
        """Put on record that something was asked for that is never permitted here."""
        driver = self._driver(ForwardRelay(self._ground))
        driver.heard(m.encode(m.Request(kind, m.string(place.encode()))))
        try:
            await driver.opened
        finally:
            driver.finish()

    def left(self, channel: ChannelDriver) -> None:
        """That channel is over."""
        self._has_asked = self._has_asked or channel.asking.has_asked
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
                reason = unrecorded(failure).reason
                told, status = reason.value, reason.name
            case _:
                told, status = "internal error", "INTERNAL_ERROR"
        self._client.disconnect(asyncssh.DISC_BY_APPLICATION, f"ostiary: {printable(told)[:400]}")
        self.finish(status)

    def finish(self, status: str) -> None:
        """Close what is open in the log, and both connections. Runs once."""
        if self._finished:
            return
        self._finished = True
        if self._lease is not None:
            self._lease.close()
        if self._idle_timer is not None:
            self._idle_timer.cancel()
        for channel in list(self._channels):
            channel.cut()
        if self._has_asked:
            self._house.reception.desk.leave(self.id)
        try:
            self._begun.journal.end(status)
        except (OstiaryError, OSError) as exc:
            _log.error("a session's end is not on record", session=self._begun.session, error=str(exc))
        if self._upstream is not None:
            self._upstream.close()
        self._target.leave()
        self._house.leave(self)


def key_id(who: VerifiedIdentity, session: str) -> str:
    """How the host's own log names the actor: the key id of the certificate, printable ASCII without spaces."""
    chain = "/".join([*(actor.name or actor.sub for actor in who.acting), who.subject])
    plain = "".join(c if c.isascii() and c.isprintable() and not c.isspace() else "_" for c in chain)
    return f"ostiary:{session}:{plain}"
