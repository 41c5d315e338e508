"""Whose turn it is on a channel: RFC 4254, 6. What is not in the table is refused.

OPENING   environment and a terminal may be asked for, then exactly one of shell, exec and subsystem
RUNNING   it was permitted: bytes, end of input, signals, new sizes of the window
REFUSED   it was not: whatever else comes is dropped, and the channel is over
"""

from __future__ import annotations

import enum
from typing import Final


class State(enum.Enum):
    """Of one channel."""

    OPENING = "opening"
    ASKED = "asked"
    RUNNING = "running"
    REFUSED = "refused"


STARTS: Final = frozenset({"shell", "exec", "subsystem"})

ALLOWED: Final[dict[State, frozenset[str]]] = {
    State.OPENING: frozenset({"env", "pty-req", *STARTS, "window-change"}),
    State.ASKED: frozenset({"data", "eof", "close", "window-change", "signal", "break"}),
    State.RUNNING: frozenset({"data", "eof", "close", "window-change", "signal", "break"}),
    State.REFUSED: frozenset({"data", "eof", "close", "window-change", "signal", "break"}),
}
"""Requests and messages (`data eof close`) by state. `ASKED` holds what comes until the decision is there."""

FROM_TARGET: Final = frozenset({"data", "eof", "close", "exit-status", "exit-signal"})
