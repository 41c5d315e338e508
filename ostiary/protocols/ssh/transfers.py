"""Transfers that come as `exec`: `scp` in its old form, `rsync --server`, and git's two packs.

Recognised, they are `transfer` on the connection and `read` or `write` on the paths that they name, as SFTP's are, so policy says
the same of a file whichever way it goes. The protocol inside is not parsed: what lies beneath a path that is named belongs to it
(the sinks of scp and rsync refuse names that lead out of it). With an option that is not listed here, or together with another
command, the command is opaque.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from ostiary.model.operations import Action
from ostiary.protocols.ssh.programs import Touch
from ostiary.protocols.ssh.words import Line

_SCP_FLAGS: Final = frozenset("dfprtvq")
_RSYNC_LONG: Final = re.compile(
    r"--(server|sender|delete|delete-(before|during|after|delay|excluded)|numeric-ids|partial|inplace|append|checksum|"
    r"safe-links|no-[a-z-]+|timeout=\d+|bwlimit=\d+|compress-level=\d+|modify-window=\d+|stats|size-only|existing|"
    r"ignore-existing|ignore-errors|force|one-file-system|omit-dir-times|omit-link-times|open-noatime|ignore-times|"
    r"new-compress|old-compress|compress-choice=[a-z0-9]+|checksum-choice=[a-z0-9,]+|max-size=\w+|min-size=\w+|"
    r"(no-)?implied-dirs|dirs|old-dirs|log-format=[%a-zA-Z]+|out-format=[%a-zA-Z]+|block-size=\d+)"
)
_RSYNC_SHORT: Final = re.compile(r"-[vqnlogDtprRcxzuHXAUENSWdJOImiy]*(e[0-9]*\.[0-9]*[A-Za-z]*)?")
"""What a client sends for `-a` and its kin, then `e` and capabilities. Left out: `s` (the real arguments follow as input, unseen), `L k K`
(links are followed out of the tree), `b T f` (other files are written or read), and an `e` that would take the next word as its value."""


class Transfer(msgspec.Struct, frozen=True):
    """What a transfer touches."""

    name: str
    touches: tuple[Touch, ...]
    opaque: tuple[str, ...]
    descends: bool = False
    """It takes all that lies beneath its paths."""


def transfer(line: Line) -> Transfer | None:
    """Recognise a transfer; None: the command is none."""
    if not line.commands or not line.commands[0].words:
        return None
    given = line.commands[0].words
    program = given[0]
    found: Transfer | None = None
    if program == "scp" and any(word in {"-t", "-f"} or _is_scp(word) for word in given[1:]):
        found = _scp(given[1:])
    elif program == "rsync" and given[1:2] == ("--server",):
        found = _rsync(given[1:])
    elif program in {"git-upload-pack", "git-receive-pack", "git-upload-archive"}:
        found = _git(program, given[1:])
    elif given[:2] in {("git", "upload-pack"), ("git", "receive-pack"), ("git", "upload-archive")}:
        found = _git("git-" + given[1], given[2:])
    if found is None:
        return None
    if len(line.commands) > 1 or line.commands[0].redirections or line.opaque:
        return Transfer(found.name, found.touches, ("a transfer together with something else",), found.descends)
    return found


def _is_scp(word: str) -> bool:
    return word.startswith("-") and not word.startswith("--") and bool({"t", "f"} & set(word[1:]))


def _scp(arguments: tuple[str, ...]) -> Transfer:
    letters: set[str] = set()
    at = 0
    while at < len(arguments) and arguments[at].startswith("-") and arguments[at] != "-":
        if arguments[at] == "--":
            at += 1
            break
        letters |= set(arguments[at][1:])
        at += 1
    paths = arguments[at:]
    action = Action.WRITE if "t" in letters else Action.READ
    touches = tuple(Touch(path or ".", action) for path in paths)
    if letters - _SCP_FLAGS or {"t", "f"} <= letters or not paths or any(path.startswith("-") for path in paths):
        return Transfer("scp", touches, ("scp with options that are not known",))
    # A sink writes PATH, or names of the client's choice in the folder PATH: which of both only the host knows.
    return Transfer("scp", touches, (), not letters.isdisjoint({"r", "t"}))


def _rsync(arguments: tuple[str, ...]) -> Transfer:
    sends = "--sender" in arguments
    at = 0
    known = True
    while at < len(arguments) and arguments[at].startswith("-"):
        word = arguments[at]
        known = known and bool(_RSYNC_LONG.fullmatch(word) or (len(word) > 1 and _RSYNC_SHORT.fullmatch(word)))
        at += 1
    paths = arguments[at + 1 :] if arguments[at : at + 1] == (".",) else ()
    touches = tuple(Touch(path or ".", Action.READ if sends else Action.WRITE) for path in paths)
    if not known or not paths or any(path.startswith("-") for path in paths):  # rsync takes options behind paths, too
        return Transfer("rsync", touches, ("rsync with options that are not known",))
    return Transfer("rsync", touches, (), not sends or _descends(arguments[:at]))


def _descends(options: tuple[str, ...]) -> bool:
    """Whether it goes into folders: `-r`, which `-a` is sent as, or `-d`, before the capabilities that follow `e`."""
    return any(not word.startswith("--") and not {"r", "d"}.isdisjoint(word.partition("e")[0]) for word in options) or any(
        word.startswith("--delete") or word in {"--dirs", "--old-dirs"} for word in options
    )


def _git(name: str, arguments: tuple[str, ...]) -> Transfer:
    action = Action.WRITE if name == "git-receive-pack" else Action.READ
    touches = tuple(Touch(word, action) for word in arguments if not word.startswith("-"))
    if len(arguments) != 1 or not touches or name == "git-upload-archive":
        return Transfer("git", touches, (f"{name} with options",))
    if arguments[0].startswith(("~", "./~")):
        return Transfer("git", touches, ("a home that git finds itself",))
    bare = arguments[0].rstrip("/")
    if bare:
        touches += (Touch(f"{bare}.git", action),)  # git tries that as well, of `X.git` too; what it tries beneath the path belongs to it anyway
    return Transfer("git", touches, (), descends=True)
