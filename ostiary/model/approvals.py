"""What a human's yes is, and what it was a yes to. The words of `ostiary.approvals`, for the path and the drivers.

An `Answer` is evidence, which policy looks at again; it lets nobody in by itself. It is bound to a digest of everything that
gives an operation its meaning, so it is a yes to nothing else.
"""

from __future__ import annotations

import hashlib

import msgspec

from ostiary.model.connections import Connection
from ostiary.model.identity import VerifiedIdentity
from ostiary.model.operations import Operation


class Answer(msgspec.Struct, frozen=True):
    """Proof that people approved exactly this operation, once. Minted only in `ostiary.approvals`."""

    id: str
    """Of the question, or of the break-glass under which nobody was asked."""
    groups: frozenset[str]
    """Whose quorum is complete: what policy sees as `approved_by`."""


class Ticket(msgspec.Struct, frozen=True):
    """What became of asking: an answer that was there already, a question that waits, or neither."""

    id: str
    """Of the question; empty: it could not be asked."""
    expires: int
    """Seconds since 1970 after which nobody can answer any more."""
    answer: Answer | None
    notice: str
    """For whoever waits: a sentence, and how to get an answer."""
    hint: str
    why_not: str
    """Why it cannot be asked, if it cannot: a sentence for the caller."""
    link: str = ""
    """Where the question is seen."""
    is_new: bool = True
    """It was put just now: nobody asked it before."""


class Reply(msgspec.Struct, frozen=True):
    """How the waiting ended."""

    answer: Answer | None
    why_not: str
    """Without an answer: denied by whom and why, expired, cancelled. A sentence for the caller. Empty: it is still open."""


def binding(
    operation: Operation, who: VerifiedIdentity, connection: Connection, session: str, state: bytes
) -> str:
    """Return the hex SHA-256 that an approval is bound to: two operations share it only if they are the same thing.

    In it are the statement's exact bytes, the parameters with their formats and types, what policy saw of it (but for whether
    a transaction is open), the identity with its acting chain,
    the connection with address, place and account, the session (empty where a request stands for itself), and `state`: whatever
    else of the session changes what the bytes mean. Every part is length-prefixed by the encoding, so none can run into the next.
    """
    parameters = operation.parameters
    upstream = connection.upstream
    parts = (
        "ostiary approval v1",
        operation.statement,
        () if parameters is None else (parameters.formats, parameters.values, parameters.types),
        operation.facts.meaning or operation.facts.digest,
        who.digest,
        (connection.name, connection.type, upstream.host, upstream.port, connection.place, connection.account),
        session,
        state,
    )
    return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()
