"""What a target says of its settings in each login: read once.

A target begins a session with some fifteen ParameterStatus messages, the same each time but for `application_name`, which names the session. A run
of them that was read is kept, as the bytes it was, with what they say; bytes that begin with a run that is known say that. So nothing is
assumed of a target: what differs by a byte is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from ostiary.kernel.frames import frame_size
from ostiary.protocols.postgres import decode
from ostiary.protocols.postgres import messages as m

TAG: Final = 0x53
"""ParameterStatus."""
HEADER: Final = 5
MAX_RUN: Final = 4096
"""Bytes of a run that is kept."""
MAX_RUNS: Final = 64
OWN: Final = b"application_name\0"
"""Differs in each session, so no run begins with it; PostgreSQL says it first."""


class Run(NamedTuple):
    """ParameterStatus messages in a row."""

    wire: bytes
    values: Mapping[str, str]
    """Name to value; each name once."""
    messages: int


class KnownSettings:
    """Runs that were read, by the first of their frames."""

    def __init__(self) -> None:
        self._runs: dict[bytes, Run] = {}

    def at(self, buf: bytearray) -> Run | None:
        """The run that `buf` begins with, if it is known. Nothing is taken off."""
        if len(buf) < HEADER or buf[0] != TAG:
            return None
        known = self._runs.get(bytes(buf[: frame_size(buf)]))
        return known if known is not None and buf.startswith(known.wire) else None

    def learn(self, buf: bytearray) -> bool:
        """Read the run that `buf` begins with, and keep it if another message follows on it; whether it was worth trying. Nothing is taken off.

        Raises `PeerMisbehaved`. Whoever tries after each message would read the same again and again.
        """
        if len(buf) < HEADER or buf[0] != TAG or buf.startswith(OWN, HEADER):
            return False
        rest = bytearray(buf[:MAX_RUN])
        values: dict[str, str] = {}
        first, count = bytes(rest[: frame_size(rest)]), 0
        while len(rest) >= HEADER and rest[0] == TAG:
            message = decode.next_backend(rest)
            if not isinstance(message, m.ParameterStatus) or message.name in values:
                return True
            values[message.name] = message.value
            count += 1
        if rest:
            while len(self._runs) >= MAX_RUNS:
                del self._runs[next(iter(self._runs))]
            self._runs[first] = Run(bytes(buf[: min(len(buf), MAX_RUN) - len(rest)]), values, count)
        return True
