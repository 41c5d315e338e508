"""How to say no on a channel so that the client shows it: a line on stderr and exit status 126, or an SFTP status."""

from __future__ import annotations

from typing import Final

from ostiary.model.decisions import Refusal
from ostiary.model.printable import printable
from ostiary.protocols.ssh import sftp
from ostiary.protocols.ssh.messages import Close, Data, Eof, Request, encode, u32

EXIT: Final = 126
"""POSIX, XCU 2.8.2: found, but could not be executed."""
MAX_SHOWN: Final = 1000


def sentence(refusal: Refusal) -> str:
    """Why, in one line that is fit for a terminal."""
    return printable(refusal.grounds.message)[:MAX_SHOWN]


def channel(refusal: Refusal, *, terminal: bool) -> bytes:
    """Refuse what a channel was opened for. On a terminal stderr is the terminal's own stream."""
    end = "\r\n" if terminal else "\n"
    text = f"ostiary: refused: {sentence(refusal)}{end}"
    if refusal.grounds.hint:
        text += f"ostiary: {printable(refusal.grounds.hint)[:MAX_SHOWN]}{end}"
    return notice(text, terminal=terminal) + over(EXIT)


def notice(text: str, *, terminal: bool) -> bytes:
    """A line of the gateway's own."""
    return encode(Data(text.encode(), 0 if terminal else 1))


def over(status: int) -> bytes:
    """The end of a channel with an exit status: RFC 4254, 6.10."""
    return encode(Eof()) + encode(Request("exit-status", u32(status))) + encode(Close())


def file(refusal: Refusal, number: int) -> bytes:
    """Refuse one SFTP request: permission denied, and why."""
    return sftp.status(number, sftp.PERMISSION_DENIED, f"ostiary: {sentence(refusal)}")
