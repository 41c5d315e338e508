"""Whose turn it is: one table. What is not in it is refused with OUT_OF_TURN.

Source: PostgreSQL documentation, "Message Flow". The rows are what the *client* may say in each state, and the few
things said to it that move the state. A client may pipeline, so nothing here waits for an answer: that the target
answers in order is `relay.py`'s to keep.

Four choices that the documentation leaves open, or where we are stricter than the server:

* **CopyData, CopyDone and CopyFail outside COPY.** The server drops them silently, always, because a client that is
  in the middle of sending when COPY fails cannot know. Here they are dropped only where that can be the reason: after
  an error or a refusal, until the next other message. Otherwise they are OUT_OF_TURN. They are never forwarded.
  Some clients (asyncpg) send the data right behind the statement, before CopyInResponse: so whoever drives this table
  must not read on behind a statement that begins COPY IN until the target answered it, or the gateway refused it.
* **Anything else while COPY IN is running** fails the COPY on a server, which loses that message. Here it is
  OUT_OF_TURN. Flush and Sync are allowed, as on a server, and must be forwarded: the server reads over them while it
  copies, but if COPY has just failed there, Sync is what ends the skipping.
* **SKIPPING** is entered only when the *gateway* refused a message of the extended protocol. After an error of the
  server's own, the server skips, and the gateway forwards as before: two that skip would disagree about which Sync
  ends it.
* **Messages before ReadyForQuery of the login** are refused: TOO_EARLY in `login.py`.
"""

from __future__ import annotations

import enum
from typing import Final

import msgspec

from ostiary.model.errors import Misdeed, PeerMisbehaved
from ostiary.protocols.postgres import messages as m


class State(enum.Enum):
    """Where a client's connection is. Transitions live in TURNS and nowhere else."""

    BEFORE_STARTUP = "before startup"
    AUTHENTICATING = "authenticating"
    READY = "ready"
    """Between units of work."""
    EXTENDED = "extended"
    """In a pipeline of the extended protocol, before its Sync."""
    FAILED = "in a pipeline that failed at the target"
    """As EXTENDED, after an error of the target's: it skips until Sync, and stray COPY messages are dropped here."""
    SKIPPING = "skipping until Sync"
    """The gateway refused a message of the pipeline: all the rest of it is dropped."""
    COPY_IN = "copy in"
    DROPPING = "dropping what is left of a COPY"
    """As READY, after an error or a refusal: stray COPY messages are dropped."""
    TERMINATED = "terminated"


class Refused(msgspec.Struct, frozen=True):
    """What moves the state when the gateway said no to the message that came last."""


_WORK: Final[dict[type, State]] = {
    m.Query: State.READY,
    m.FunctionCall: State.READY,
    m.Parse: State.EXTENDED,
    m.Bind: State.EXTENDED,
    m.Describe: State.EXTENDED,
    m.Execute: State.EXTENDED,
    m.Close: State.EXTENDED,
    m.Flush: State.EXTENDED,
    m.Sync: State.READY,
    m.Terminate: State.TERMINATED,
}

TURNS: Final[dict[State, dict[type, State]]] = {
    State.BEFORE_STARTUP: {
        m.SSLRequest: State.BEFORE_STARTUP,
        m.GSSENCRequest: State.BEFORE_STARTUP,
        m.CancelRequest: State.TERMINATED,
        m.StartupMessage: State.AUTHENTICATING,
    },
    State.AUTHENTICATING: {
        m.AuthenticationData: State.AUTHENTICATING,
        m.AuthenticationOk: State.READY,
    },
    State.READY: _WORK
    | {
        m.CopyInResponse: State.COPY_IN,
        m.ErrorResponse: State.DROPPING,
        Refused: State.DROPPING,
    },
    State.EXTENDED: _WORK
    | {
        m.CopyInResponse: State.COPY_IN,
        m.ErrorResponse: State.FAILED,
        Refused: State.SKIPPING,
    },
    State.FAILED: dict.fromkeys(_WORK, State.FAILED)
    | {
        m.CopyInResponse: State.COPY_IN,
        m.CopyData: State.FAILED,
        m.CopyDone: State.FAILED,
        m.CopyFail: State.FAILED,
        m.ErrorResponse: State.FAILED,
        Refused: State.SKIPPING,
        m.Sync: State.DROPPING,
        m.Terminate: State.TERMINATED,
    },
    State.SKIPPING: dict.fromkeys(_WORK, State.SKIPPING)
    | {
        m.CopyData: State.SKIPPING,
        m.CopyDone: State.SKIPPING,
        m.CopyFail: State.SKIPPING,
        m.ErrorResponse: State.SKIPPING,
        m.Sync: State.DROPPING,
        m.Terminate: State.TERMINATED,
    },
    State.COPY_IN: {
        m.CopyData: State.COPY_IN,
        m.CopyDone: State.READY,
        m.CopyFail: State.READY,
        m.Flush: State.COPY_IN,
        m.Sync: State.COPY_IN,
        m.Terminate: State.TERMINATED,
        m.ErrorResponse: State.DROPPING,
        Refused: State.DROPPING,
    },
    State.DROPPING: _WORK
    | {
        m.CopyInResponse: State.COPY_IN,
        m.CopyData: State.DROPPING,
        m.CopyDone: State.READY,
        m.CopyFail: State.READY,
        m.ErrorResponse: State.DROPPING,
        Refused: State.DROPPING,
    },
    State.TERMINATED: {},
}
"""state -> type of what is said -> state after it."""

DROPPED: Final[frozenset[tuple[State, type]]] = frozenset(
    {(State.SKIPPING, kind) for kind in TURNS[State.SKIPPING] if kind not in (m.Sync, m.Terminate, m.ErrorResponse)}
    | {(state, kind) for state in (State.DROPPING, State.FAILED) for kind in (m.CopyData, m.CopyDone, m.CopyFail)}
)
"""Turns that are allowed and come to nothing: the message goes no further, and is not judged."""


def turn(state: State, message: object) -> State:
    """The state after `message`. Raises `PeerMisbehaved` (OUT_OF_TURN) if it is not its turn."""
    try:
        return TURNS[state][type(message)]
    except KeyError:
        what = f"{type(message).__name__} while {state.value}"
        raise PeerMisbehaved(Misdeed.OUT_OF_TURN, what) from None


def is_dropped(state: State, message: object) -> bool:
    """Whether `message`, allowed in `state`, is read over and goes no further."""
    return (state, type(message)) in DROPPED
