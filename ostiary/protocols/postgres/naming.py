"""A comment behind each statement that tells the target's own log who acts.

Theory of operation
-------------------
The comment is one text a session, made of what was proved and of nothing that the client says. Each value is percent-encoded (RFC 3986, 2.1)
down to letters, digits and `-._~`, as in OpenTelemetry's sqlcommenter: no quote, no star, no slash and no backslash is left in one, so
nothing that a name holds ends the comment.

It stands behind the text. What was judged comes first, whole and unchanged, so positions in errors are the client's own, and the target's
parser has left every string and comment when it gets there: the text was parsed to its end with the target's own grammar. A space keeps it
from being read into an operator (PostgreSQL 15, 4.1.3). Where the text ends in a comment up to the end of its line, ours is part of that.

It is put in when the message is sent, after the decision and the record, which are about what the client sent.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import quote

from ostiary.model.identity import VerifiedIdentity

MAX_VALUE: Final = 128
"""Characters of one value before it is encoded."""
_PARSE: Final = 0x50


def comment_for(who: VerifiedIdentity, session: str) -> bytes:
    """The comment of a session: who is at the keyboard, for whom, for which task."""
    chain = [*(actor.sub for actor in who.acting), who.subject]
    values = {"actor": chain[0], "session": session}
    if len(chain) > 1:
        values["for"] = chain[-1]
    if who.task is not None:
        values["task"] = who.task
    said = ",".join(f"ostiary_{name}='{quote(value[:MAX_VALUE], safe='', errors='replace')}'" for name, value in sorted(values.items()))
    return f" /*{said}*/".encode("ascii")


def commented(wire: bytes, comment: bytes) -> bytes:
    """Query or Parse (PostgreSQL 15, 55.7) with `comment` behind its text."""
    if not comment:
        return wire
    start = wire.index(0, 5) + 1 if wire[0] == _PARSE else 5  # behind the statement's name
    end = wire.index(0, start)
    size = int.from_bytes(wire[1:5], "big") + len(comment)
    return b"".join((wire[:1], size.to_bytes(4, "big"), wire[5:end], comment, wire[end:]))
