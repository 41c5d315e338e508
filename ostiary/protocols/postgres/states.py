"""Whose turn it is: one table. What is not in it is refused with OUT_OF_TURN.

Source: PostgreSQL documentation, "Message Flow". A client may pipeline, so nothing here waits for an answer; that the target
answers in order, and what may answer what, is the table at the end of `answering.py`. The login has its own states (`login.py`).

Choices that the documentation leaves open, or where this is stricter than the server:

* **Anything else while COPY IN is running** fails the COPY on a server, which swallows that message; answers and questions
  would then no longer match here. So it is OUT_OF_TURN. Sync and Flush are allowed, and forwarded: the server reads over them
  while it copies, but if COPY has just failed there, Sync is what ends the skipping.
* **CopyData, CopyDone and CopyFail outside COPY** are dropped, as on a server, because a client that is in the middle of
  sending when COPY fails cannot know. Where one may belong to a COPY that the target has still to begin, it waits
  (`Asking.stalled`): asyncpg sends data right behind the statement.
* **SKIPPING** is entered only when the *gateway* refused a message of the extended protocol. After an error of the target's own,
  the target skips, and `Conversation.skipping` keeps from it what it would discard.
"""

from __future__ import annotations

import enum
from typing import Final

from ostiary.model.errors import Misdeed, PeerMisbehaved
from ostiary.protocols.postgres import messages as m


class Phase(enum.Enum):
    """What a client is in the middle of."""

    OPEN = "between units of work, or in a pipeline"
    SKIPPING = "a message of the pipeline was refused: the rest of it is discarded up to its Sync"
    COPYING = "COPY FROM STDIN"


class Move(enum.Enum):
    """What becomes of a message that is in turn."""

    TAKE = enum.auto()
    DROP = enum.auto()
    """It comes to nothing: it goes no further, and is not judged."""


_WORK: Final[tuple[type, ...]] = (m.Query, m.FunctionCall, m.Parse, m.Bind, m.Describe, m.Execute, m.Close)
_COPY: Final[tuple[type, ...]] = (m.CopyData, m.CopyDone, m.CopyFail)
_ALWAYS: Final[tuple[type, ...]] = (m.Sync, m.Terminate)

def _all(moves: tuple[type, ...], move: Move) -> dict[type, Move]:
    return dict.fromkeys(moves, move)


TURNS: Final[dict[Phase, dict[type, Move]]] = {
    Phase.OPEN: _all((*_WORK, *_ALWAYS, m.Flush), Move.TAKE) | _all(_COPY, Move.DROP),
    Phase.SKIPPING: _all((*_WORK, *_COPY, m.Flush), Move.DROP) | _all(_ALWAYS, Move.TAKE),
    Phase.COPYING: _all((*_COPY, *_ALWAYS, m.Flush), Move.TAKE),
}
"""Phase -> type of message -> what becomes of it."""


_TAGS: Final[dict[type, int]] = {
    m.Query: 0x51, m.FunctionCall: 0x46, m.Parse: 0x50, m.Bind: 0x42, m.Describe: 0x44, m.Execute: 0x45, m.Close: 0x43,
    m.CopyData: 0x64, m.CopyDone: 0x63, m.CopyFail: 0x66, m.Sync: 0x53, m.Terminate: 0x58, m.Flush: 0x48,
}  # fmt: skip


def taken(phase: Phase) -> bytes:
    """Return for each of the 256 tags whether its message is taken in `phase`: 1, or 0 for `move` to say what becomes of it."""
    table = bytearray(256)
    for kind, what in TURNS[phase].items():
        table[_TAGS[kind]] = what is Move.TAKE
    return bytes(table)


def move(phase: Phase, message: m.Frontend) -> Move:
    """What becomes of `message` in `phase`. Raises `PeerMisbehaved` (OUT_OF_TURN) for what the table does not have."""
    found = TURNS[phase].get(type(message))
    if found is None:
        raise PeerMisbehaved(Misdeed.OUT_OF_TURN, f"{type(message).__name__} during {phase.name}")
    return found
