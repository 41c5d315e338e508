"""Whose turn it is in one exchange: one table. What is not in it is refused with OUT_OF_TURN.

An exchange is a request and its answer. The service may answer before it has heard all of the request (RFC 9112, 9.5), never before
it has heard the head.

Both are integers: what is asked with every message hashes at the speed of C.
"""

from __future__ import annotations

import enum
from typing import Final

from ostiary.model.errors import Misdeed, PeerMisbehaved


class Phase(enum.IntEnum):
    """How far an exchange has come."""

    JUDGING = enum.auto()
    """The request is heard and decided; the service knows nothing of it."""
    REFUSED = enum.auto()
    """The answer is the gateway's own."""
    ASKED = enum.auto()
    """The head went to the service; nothing came back."""
    ANSWERING = enum.auto()
    """The service is answering."""
    ANSWERED = enum.auto()
    """The answer is whole."""


class Event(enum.IntEnum):
    """What happens to it."""

    REFUSE = enum.auto()
    SEND = enum.auto()
    """The head goes to the service."""
    STREAM = enum.auto()
    """More of the body goes to the service."""
    HEAD = enum.auto()
    """A head of the service's."""
    BODY = enum.auto()
    END = enum.auto()


JUDGING: Final = Phase.JUDGING
ANSWERED: Final = Phase.ANSWERED
SEND: Final = Event.SEND
HEAD: Final = Event.HEAD
BODY: Final = Event.BODY
END: Final = Event.END
"""Those that each exchange meets: an enum's own attribute is a call of Python."""

TURNS: Final[dict[tuple[Phase, Event], Phase]] = {
    (Phase.JUDGING, Event.REFUSE): Phase.REFUSED,
    (Phase.REFUSED, Event.END): Phase.ANSWERED,
    (Phase.JUDGING, Event.SEND): Phase.ASKED,
    (Phase.ASKED, Event.STREAM): Phase.ASKED,
    (Phase.ANSWERING, Event.STREAM): Phase.ANSWERING,
    (Phase.ASKED, Event.HEAD): Phase.ANSWERING,
    (Phase.ANSWERING, Event.BODY): Phase.ANSWERING,
    (Phase.ANSWERING, Event.END): Phase.ANSWERED,
}


_FLAT: Final = [TURNS.get((phase, event)) for phase in range(max(Phase) + 1) for event in range(8)]  # type: ignore[arg-type]  # whatever is not in it is None
"""The table, by `phase * 8 + event`."""


def turn(phase: Phase, event: Event) -> Phase:
    """What `phase` becomes. Raises `PeerMisbehaved` (OUT_OF_TURN) for what the table does not have."""
    row, column = phase, event
    following: Phase | None = _FLAT[row * 8 + column]
    if following is None:
        raise PeerMisbehaved(Misdeed.OUT_OF_TURN, f"{event.name} in {phase.name}")
    return following
