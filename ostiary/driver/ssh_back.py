"""What a target may open back to a client, where the client asked for it and policy permits it: its agent (OpenSSH, PROTOCOL.agent) and its display (RFC 4254, 6.3).

Both are like listeners of remote forwards (`ssh_remote.py`): asked for once, and each connection that comes is decided on when it comes. What is asked of the gateway is asked
of the target for every channel that is opened after that, as OpenSSH's server has it for all channels of a connection. asyncssh connects to an agent or a display
of its own machine, or to none, and has no callback; so what it calls when the target opens such a channel is replaced.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Final

import asyncssh

from ostiary.driver.ssh_remote import Came, Listening
from ostiary.driver.ssh_sides import TargetSide
from ostiary.protocols.ssh import messages as m
from ostiary.protocols.ssh.forwards import AGENT, DISPLAY
from ostiary.upstream.ssh import WINDOW
from ostiary.upstream.ssh_wire import MAX_PACKET

if TYPE_CHECKING:
    from ostiary.driver.ssh_channel import ChannelDriver

NOBODY: Final = "nobody asked for it"


class Back:
    """Of one session: what its channels on the target may reach of the client's."""

    def __init__(self, came: Came) -> None:
        self._came = came
        self._open: dict[str, tuple[bytes, ChannelDriver, Listening]] = {}
        self._upstream: Any = None

    def attach(self, upstream: asyncssh.SSHClientConnection) -> None:
        """Hear when the target opens one."""
        self._upstream = upstream
        heard: Any = upstream
        heard._process_auth_agent_at_openssh_dot_com_open = self._agent  # noqa: SLF001 - see above
        heard._process_x11_open = self._display  # noqa: SLF001 - see above

    def is_open(self, kind: str, body: bytes) -> bool:
        """Whether just that is permitted already."""
        return kind in self._open and self._open[kind][0] == body

    def listen(self, start: m.Request, driver: ChannelDriver) -> Listening:
        """From now on the target may open it; what stands for it in place of a channel."""
        if start.name in self._open:  # with another cookie
            self._open[start.name][2].close()
        listening = Listening(_Ending(self._open, start.name), driver.target_gone)
        self._open[start.name] = (start.body, driver, listening)
        return listening

    def ask(self, channel: Any) -> None:
        """Ask the target for it on a channel that has just been opened. No reply is wanted: a command runs without it, too."""
        for name, (body, _, _) in self._open.items():
            asked = b""
            if name == DISPLAY:
                reader = m.Reader(body)
                asked = b"\0" + m.string(reader.string()) + m.string(reader.string().hex().encode()) + reader.rest()
            channel.send_packet(m.REQUEST, m.string(name.encode()), b"\0", asked)

    def _agent(self, packet: Any) -> tuple[Any, Coroutine[Any, Any, TargetSide]]:
        packet.check_end()
        driver = self._driver(AGENT)
        return self._upstream.create_unix_channel(window=WINDOW, max_pktsize=MAX_PACKET), self._answered(driver, m.Request("auth-agent@openssh.com", b""))

    def _display(self, packet: Any) -> tuple[Any, Coroutine[Any, Any, TargetSide]]:
        origin = m.string(packet.get_string()) + m.u32(packet.get_uint32())
        packet.check_end()
        driver = self._driver(DISPLAY)
        return self._upstream.create_x11_channel(window=WINDOW, max_pktsize=MAX_PACKET), self._answered(driver, m.Request("x11", origin))

    def _driver(self, kind: str) -> ChannelDriver:
        if kind not in self._open:
            raise asyncssh.ChannelOpenError(asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED, NOBODY)
        return self._open[kind][1]

    async def _answered(self, driver: ChannelDriver, asked: m.Request) -> TargetSide:
        driver.count_one()
        return TargetSide(await self._came(m.encode(asked)))


class _Ending(asyncssh.SSHListener):
    """Takes one of them back."""

    def __init__(self, opened: dict[str, Any], kind: str) -> None:
        super().__init__()
        self._opened, self._kind = opened, kind

    def close(self) -> None:
        """Nobody may come any more."""
        self._opened.pop(self._kind, None)

    async def wait_closed(self) -> None:
        """It is closed at once."""
