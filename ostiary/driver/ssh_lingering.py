"""A client that has sent all and heard the end of output closes its end of the channel; what it still waits for is how the command ended.

OpenSSH's client does so, and its server answers the close when the command has ended, behind the exit status. asyncssh closes the other end at once, and what a
command that goes on without its output says at the end goes nowhere. There is no callback for it, so the channel's own reading of the message is replaced; that
of any other close stays as it is.
"""

from __future__ import annotations

from typing import Any, Final

import asyncssh

CLOSE: Final = 97
"""RFC 4254, 5.3: SSH_MSG_CHANNEL_CLOSE."""


def lingering(channel: asyncssh.SSHServerChannel[bytes]) -> asyncssh.SSHServerChannel[bytes]:
    """Have a channel that both sides have nothing more to say on stay open until it is closed from here."""
    inner: Any = channel
    handlers = inner._packet_handlers  # noqa: SLF001 - see above
    waiting: list[tuple[Any, ...]] = []

    def came(_channel: Any, *packet: Any) -> None:
        both_ended = inner._send_state == inner._recv_state == "eof"  # noqa: SLF001 - see above
        if both_ended and not waiting:
            waiting.append(packet)
        else:
            handlers[CLOSE](channel, *packet)

    def then(do: Any) -> Any:
        def closed() -> None:
            do()
            while waiting:
                handlers[CLOSE](channel, *waiting.pop())

        return closed

    inner._packet_handlers = {**handlers, CLOSE: came}  # noqa: SLF001 - see above
    inner.close, inner.abort = then(channel.close), then(channel.abort)
    return channel
