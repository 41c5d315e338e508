"""The environment that a client sends in front of a command: as much of it as sshd takes, and no more is kept.

asyncssh keeps every variable until something is asked for, and has no callback for them; so its reading of the request is replaced.
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
