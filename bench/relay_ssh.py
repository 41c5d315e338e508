"""`python -m bench.relay_ssh PORT HOST PORT USER KEY`: the least that a proxy on asyncssh can do. It lets everybody in, and hands on what comes, unread.

What it costs is what asyncssh costs for decrypting and encrypting each packet once more; whatever stands between its figures and the gateway's is the
gateway's own.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any, Final

import asyncssh
import uvloop

WINDOW: Final = 2 << 20
ALGORITHMS: Final = ["aes128-gcm@openssh.com"]


class End:
    """One side of a channel; what comes in goes out at the other."""

    def __init__(self) -> None:
        self.chan: Any = None
        self.other: End | None = None
        self.held: list[tuple[bytes, int | None]] = []
        self.ended = False
        self.lost = False

    def connection_made(self, chan: Any) -> None:
        self.chan = chan

    def data_received(self, data: bytes, datatype: int | None) -> None:
        if self.other is None:
            self.held.append((data, datatype))
        else:
            self.other.chan.write(data, datatype)

    def eof_received(self) -> bool:
        self.ended = True
        if self.other is not None and not self.other.lost:
            self.other.chan.write_eof()
        return True

    def pause_writing(self) -> None:
        if self.other is not None:
            self.other.chan.pause_reading()

    def resume_writing(self) -> None:
        if self.other is not None:
            self.other.chan.resume_reading()


class Back(End, asyncssh.SSHClientSession[bytes]):
    def __init__(self) -> None:
        super().__init__()
        self._status = 255

    def exit_status_received(self, status: int) -> None:
        self._status = status

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self.lost = True
        self.end()

    def end(self) -> None:
        """End the other side too, if this one has ended."""
        if self.lost and self.other is not None:
            self.other.chan.exit(self._status)


class Front(End, asyncssh.SSHServerSession[bytes]):
    def __init__(self, target: asyncssh.SSHClientConnection) -> None:
        super().__init__()
        self._target = target
        self._opening: asyncio.Task[None] | None = None

    def pty_requested(self, term_type: str, term_size: Any, term_modes: Any) -> bool:
        self._terminal = {"term_type": term_type, "term_size": term_size, "term_modes": dict(term_modes)}
        return True

    def exec_requested(self, command: str) -> bool:  # noqa: ARG002 - as asyncssh calls it
        return True

    def subsystem_requested(self, subsystem: str) -> bool:  # noqa: ARG002 - as above
        return True

    def session_started(self) -> None:
        self._opening = asyncio.get_running_loop().create_task(self._open())

    async def _open(self) -> None:
        options = {"command": self.chan.get_command(), "subsystem": self.chan.get_subsystem()} | getattr(
            self, "_terminal", {}
        )
        _, back = await self._target.create_session(Back, encoding=None, window=WINDOW, **options)
        back.other = self
        for data, datatype in back.held:
            self.chan.write(data, datatype)
        for data, datatype in self.held:
            back.chan.write(data, datatype)
        self.other = back
        if self.ended and not back.lost:
            back.chan.write_eof()
        back.end()

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        if self.other is not None:
            self.other.chan.close()


class Server(asyncssh.SSHServer):
    def __init__(self, target: asyncssh.SSHClientConnection) -> None:
        self._target = target

    def password_auth_supported(self) -> bool:
        return True

    def validate_password(self, username: str, password: str) -> bool:  # noqa: ARG002 - as above
        return True

    def session_requested(self) -> Front:
        return Front(self._target)


async def serve(port: int, host: str, target: int, user: str, key: str) -> None:
    """Relay until killed."""
    algorithms: dict[str, Any] = {"encryption_algs": ALGORITHMS, "compression_algs": None}
    there = await asyncssh.connect(
        host, target, username=user, client_keys=[key], known_hosts=None, config=None, **algorithms
    )
    here = await asyncssh.listen(
        "127.0.0.1", port, server_factory=lambda: Server(there), server_host_keys=[asyncssh.generate_private_key("ssh-ed25519")],
        encoding=None, window=WINDOW, line_editor=False, **algorithms,
    )  # fmt: skip
    await here.wait_closed()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4], sys.argv[5]))
