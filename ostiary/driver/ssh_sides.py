"""The two ends of a channel as asyncssh sees them: what it calls back with is written down as messages for the channel's driver."""

from __future__ import annotations

from typing import Any, Final, Protocol

import asyncssh

from ostiary.protocols.ssh import messages as m

INTERRUPT: Final = b"\x03"
"""What a terminal in raw mode sends for Ctrl-C."""


class Driver(Protocol):
    """What hears of both."""

    client: Any
    target: Any

    def heard(self, wire: bytes) -> None:
        """The client did something."""
        ...

    def replied(self, wire: bytes) -> None:
        """The target did something."""
        ...

    def came(self, side: str, data: bytes, code: int) -> None:
        """Bytes came, and what came with them may follow at once."""
        ...

    def met_client(self, channel: Any) -> None:
        """The client's channel is open."""
        ...

    def met_target(self, channel: Any) -> None:
        """The target's channel is open."""
        ...

    def is_called_off(self) -> bool:
        """The client wants to stop: whether that ended a wait, so that nobody else need hear of it."""
        ...

    def client_gone(self) -> None:
        """The client closed the channel."""
        ...

    def target_gone(self, exc: Exception | None) -> None:
        """The target closed the channel."""
        ...

    def hold(self, side: str, why: str, *, on: bool) -> None:
        """Read one side no more, or again."""
        ...


class TargetSide(asyncssh.SSHClientSession[bytes], asyncssh.SSHTCPSession[bytes], asyncssh.SSHUNIXSession[bytes]):
    """What the target does on the channel."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver

    def connection_made(self, chan: Any) -> None:
        """The channel is open."""
        self._driver.met_target(chan)

    def session_started(self) -> None:
        """What was asked for has begun."""

    def data_received(self, data: bytes, datatype: int | None) -> None:
        """Bytes came."""
        self._driver.came("target", data, datatype or 0)

    def eof_received(self) -> bool:
        """Nothing more will come; the channel stays open for what is still to be said."""
        self._driver.replied(m.encode(m.Eof()))
        return True

    def exit_status_received(self, status: int) -> None:
        """RFC 4254, 6.10."""
        self._driver.replied(m.encode(m.Request("exit-status", m.u32(status))))

    def exit_signal_received(self, signal: str, core_dumped: bool, msg: str, lang: str) -> None:
        """RFC 4254, 6.10."""
        body = m.string(signal.encode()) + bytes([core_dumped]) + m.string(msg.encode()) + m.string(lang.encode())
        self._driver.replied(m.encode(m.Request("exit-signal", body)))

    def connection_lost(self, exc: Exception | None) -> None:
        """The channel is closed."""
        self._driver.target_gone(exc)

    def pause_writing(self) -> None:
        """The target takes nothing more for now."""
        self._driver.hold("client", "target is full", on=True)

    def resume_writing(self) -> None:
        """It does again."""
        self._driver.hold("client", "target is full", on=False)


class ClientSide(asyncssh.SSHServerSession[bytes], asyncssh.SSHTCPSession[bytes], asyncssh.SSHUNIXSession[bytes]):
    """What the client does on the channel."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._asked = b""
        self._pty = b""
        self._size = b""
        """The newest size of the terminal, if it changed before anything was asked for."""
        self._has_begun = False

    def connection_made(self, chan: Any) -> None:
        """The channel is open."""
        self._driver.met_client(chan)

    def pty_requested(self, term_type: str, term_size: Any, term_modes: Any) -> bool:
        """RFC 4254, 6.2."""
        modes = b"".join(bytes([code]) + m.u32(value) for code, value in term_modes.items()) + b"\0"
        sizes = b"".join(m.u32(size) for size in term_size)
        self._pty = m.encode(m.Request("pty-req", m.string(term_type.encode()) + sizes + m.string(modes)))
        return True

    def shell_requested(self) -> bool:
        """RFC 4254, 6.5."""
        self._asked = m.encode(m.Request("shell", b""))
        return True

    def exec_requested(self, command: str) -> bool:
        """RFC 4254, 6.5."""
        self._asked = m.request("exec", command.encode("utf-8", "surrogateescape"))
        return True

    def subsystem_requested(self, subsystem: str) -> bool:
        """RFC 4254, 6.5."""
        self._asked = m.request("subsystem", subsystem.encode())
        return True

    def session_started(self) -> None:
        """What was asked for is complete: now it is judged."""
        if not self._asked:
            return  # a forward
        channel = self._driver.client
        variables = [] if channel is None else list(channel.get_environment_bytes().items())
        prelude = b"".join(m.request("env", name, value) for name, value in variables)
        self._has_begun = True
        self._driver.heard(prelude + self._pty + self._size + self._asked)

    def data_received(self, data: bytes, datatype: int | None) -> None:
        """Bytes came."""
        del datatype
        if self._pty and INTERRUPT in bytes(data) and self._driver.is_called_off():
            return
        self._driver.came("client", data, 0)

    def eof_received(self) -> bool:
        """The client sends nothing more, and still listens."""
        self._driver.heard(m.encode(m.Eof()))
        return True

    def terminal_size_changed(self, width: int, height: int, pixwidth: int, pixheight: int) -> None:
        """RFC 4254, 6.7."""
        changed = m.encode(m.Request("window-change", b"".join(m.u32(size) for size in (width, height, pixwidth, pixheight))))
        if self._has_begun:
            self._driver.heard(changed)
        elif self._pty:
            self._size = changed

    def signal_received(self, signal: str) -> None:
        """RFC 4254, 6.9."""
        if self._driver.is_called_off():
            return
        self._driver.heard(m.request("signal", signal.encode()))

    def break_received(self, msec: int) -> bool:
        """RFC 4335."""
        self._driver.heard(m.encode(m.Request("break", m.u32(msec))))
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """The channel is closed."""
        del exc
        self._driver.client_gone()

    def pause_writing(self) -> None:
        """The client takes nothing more for now."""
        self._driver.hold("target", "client is full", on=True)

    def resume_writing(self) -> None:
        """It does again."""
        self._driver.hold("target", "client is full", on=False)
