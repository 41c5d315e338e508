"""What a client sends on a channel before it is judged: as much of the environment as sshd takes, and a command in any bytes.

asyncssh keeps every variable until something is asked for, has no callback for them, and refuses a command that is not UTF-8 unheard, so that nobody could put it on record; so
its reading of these requests is replaced.
"""

from __future__ import annotations

from typing import Any, Final

import asyncssh

MAX_VARIABLES: Final = 128
"""As OpenSSH's sshd (session.c, session_env_req)."""
MAX_BYTES: Final = 128 * 1024
"""Of all of them: Linux takes that much of one."""


def few_variables(channel: asyncssh.SSHServerChannel[bytes]) -> asyncssh.SSHServerChannel[bytes]:
    """Have a channel refuse the variables that are too many."""
    inner: Any = channel
    take = inner._process_env_request  # noqa: SLF001 - see above
    number = size = 0

    def came(packet: Any) -> bool:
        nonlocal number, size
        number += 1
        size += len(packet.get_remaining_payload())
        return number <= MAX_VARIABLES and size <= MAX_BYTES and bool(take(packet))

    inner._process_env_request = came  # noqa: SLF001 - see above
    return channel


def any_command(channel: asyncssh.SSHServerChannel[bytes]) -> asyncssh.SSHServerChannel[bytes]:
    """Have a channel hand on a command that is not UTF-8: whoever judges it refuses it, on record."""
    inner: Any = channel

    def came(packet: Any) -> bool:
        command = packet.get_string()
        packet.check_end()
        return bool(inner._start_session(command=command.decode("utf-8", "surrogateescape")))  # noqa: SLF001 - see above

    inner._process_exec_request = came  # noqa: SLF001 - see above
    return channel
