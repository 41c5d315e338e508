"""What is asked on a channel, as an `Operation`: its action, the things it touches, and what cannot be seen through.

`exec` is judged by the words that it is. The command as a whole is one resource (kind `command`, named by its words in one
spelling: `cat /srv/app.log`), and every file that it names is another. A command that runs what cannot be seen (`sh`, `sudo`, a
substitution) carries the action `opaque` instead of `execute`: a policy must name it. Deny rules over commands are an aid
only; enforcement is what policy permits.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from itertools import pairwise
from typing import Final

import msgspec

from ostiary.model.connections import ProtectedPath
from ostiary.model.operations import (
    MAX_HEAD,
    Action,
    Facts,
    Objection,
    Operation,
    Parameters,
    Resource,
    Unjudgeable,
    facts_digest,
)
from ostiary.protocols.ssh import words
from ostiary.protocols.ssh.paths import canonical, classes_beneath, classes_lost, classes_of, climbs
from ostiary.protocols.ssh.programs import Touch, tells, understand
from ostiary.protocols.ssh.transfers import Transfer, transfer
from ostiary.protocols.ssh.words import Simple

MAX_SUBSYSTEM: Final = 64
_GRAVITY: Final = (
    Action.OPAQUE, Action.TRANSFER, Action.DELETE, Action.WRITE, Action.EXECUTE, Action.READ, Action.CONNECT,
)  # fmt: skip
_HINTS: Final = {
    Unjudgeable.UNPARSABLE: "Correct the command: a quote or an operator stands alone.",
    Unjudgeable.OVERSIZE: f"A command may have {words.MAX_TEXT} characters; send a longer one as a file.",
    Unjudgeable.TOO_COMPLEX: f"A command line may hold {words.MAX_COMMANDS} commands and {words.MAX_WORDS} words.",
    Unjudgeable.BAD_TEXT: "A command may hold no NUL byte, and must be UTF-8.",
}


class Ground(msgspec.Struct, frozen=True, kw_only=True):
    """What a connection says that operations on it are judged by."""

    connection: str
    home: str | None
    """The account's home on the target, where the operator wrote it down."""
    protected: tuple[ProtectedPath, ...]
    masks_files: bool = False
    """The detectors look at the content of files, too: what cannot be looked into must be permitted by name."""


def command(text: str, ground: Ground, wire: bytes, variables: tuple[str, ...] = ()) -> Operation:
    """Judge `exec` (RFC 4254, 6.5). `variables`: the environment sent along, as `NAME=value`."""
    line = words.read(text, variables)
    statement = text.encode("utf-8", "surrogateescape")
    if line.objection is not None:
        return _operation(_objected(line.objection), statement, wire, variables)
    resources: list[Resource] = []
    opaque = list(line.opaque)
    programs: list[str] = []
    cwd: str | None = ground.home or "~"
    has_changed = False
    moved = transfer(line)
    for index, simple in enumerate(line.commands):
        if has_changed and simple.joined in {";", "&", "||"}:
            cwd = None  # it runs also where `cd` could not go
        if moved is None and simple.words[:1] == ("cd",):
            following = line.commands[index + 1] if index + 1 < len(line.commands) else None
            cwd, why = _changed(simple, following, cwd, ground)
            has_changed = True
            opaque += why
            continue
        found, why = _resources(simple, cwd, ground, moved)
        resources += found
        opaque += why
        programs += simple.words[:1]
    if line.opaque:
        # Reading ended before the end: what is asked for is the whole text, and nothing less can be permitted.
        resources.append(Resource("command", text, Action.OPAQUE, (), ()))
    elif not resources:
        resources.append(Resource("command", text.strip(), Action.EXECUTE, (), ()))
    if moved is not None:
        resources.insert(0, Resource("connection", ground.connection, Action.TRANSFER, (), ()))
        resources += [_beneath(each, ground) for each in resources if moved.descends and each.kind == "file"]
    facts = _facts(
        # What only looks like a transfer is a command like any other: its output is looked into, and recorded.
        "exec" if moved is None or moved.opaque else moved.name, _unique(resources), tuple(opaque),
        functions=tuple(sorted(set(programs))), head=_head(line.commands, opaque),
        unmask=_unmask(tuple(resources), is_told=_is_told(line.commands)),
    )  # fmt: skip
    return _operation(facts, statement, wire, variables)


def _beneath(each: Resource, ground: Ground) -> Resource:
    """All that lies beneath a path: `transfer` of `PATH/**`, which no permit to read or write single files covers."""
    leaves = each.action is Action.READ  # what comes in tells nothing
    classes = {*each.classes, *classes_beneath(each.name, ground.protected)} if leaves else set()
    return Resource("file", each.name.rstrip("/") + "/**", Action.TRANSFER, (), tuple(sorted(classes)))


def _is_told(commands: tuple[Simple, ...]) -> bool:
    """Whether a command's input or output reaches more than the caller: another command, or one that says by its status what it read."""
    joined = (each.joined if before.words[:1] != ("cd",) else "" for before, each in pairwise(commands))
    return not {"|", "&&", "||"}.isdisjoint(joined) or any(tells(each.words[0]) for each in commands if each.words and each.words[0] != "cd")


def _changed(simple: Simple, following: Simple | None, cwd: str | None, ground: Ground) -> tuple[str | None, list[str]]:
    """Follow `cd DIR && …`. After any other `cd` nobody knows where a relative path leads."""
    plain = len(simple.words) == 2 and not simple.redirections and simple.joined in {"", ";", "&&"}
    target = simple.words[-1]
    if (
        not plain
        or following is None
        or following.joined != "&&"
        or climbs(target)
        or target.startswith("-")
        or cwd is None
    ):
        return None, ["a change of folder"]
    return canonical(target, cwd, ground.home), []


def _resources(
    simple: Simple, cwd: str | None, ground: Ground, moved: Transfer | None
) -> tuple[list[Resource], list[str]]:
    """Return what one command touches, itself first, and why it must be permitted by name, if it must."""
    understood = understand(simple)
    touches: tuple[Touch, ...] = understood.touches
    why = [understood.opaque] if understood.opaque else []
    if moved is not None:
        touches, why = (*(t for t in touches if t.action is not Action.EXECUTE), *moved.touches), list(moved.opaque)
        if ground.masks_files and any(touch.action is Action.READ for touch in moved.touches):
            why.append("content that cannot be looked into: use sftp")
    if understood.unsure and moved is None and cwd is not None:
        touches = (*touches, *_protected(simple.words[1:], cwd, ground))
    found: list[Resource] = []
    for touch in touches:
        if climbs(touch.path):
            why.append("a path that goes up (..)")
        elif cwd is None and not touch.path.startswith(("/", "~")):
            why.append("a path in a folder that is not known")
        else:
            path = canonical(touch.path, cwd or "~", ground.home)
            if touch.implied and f"{ground.home or '~'}/".startswith(f"{path.rstrip('/')}/"):
                continue
            classes = {*classes_of(path, ground.protected), *_lost(path, touch, cwd or "~", ground)}
            found.append(Resource("file", path, touch.action, (), tuple(sorted(classes))))
    if simple.words and (moved is None or why):
        action = Action.OPAQUE if why else Action.EXECUTE
        found.insert(0, Resource("command", shlex.join(simple.words), action, (), ()))
    elif why:
        found.insert(0, Resource("connection", ground.connection, Action.OPAQUE, (), ()))
    return found, why


def _lost(path: str, touch: Touch, cwd: str, ground: Ground) -> Iterator[str]:
    """Data classes of what lies in a folder that is moved to where nobody protects it."""
    for to in touch.to:
        yield from classes_lost(path, canonical(to, cwd, ground.home), ground.protected)


def _protected(arguments: tuple[str, ...], cwd: str, ground: Ground) -> Iterator[Touch]:
    """Arguments that name a protected path, of a program of which nobody knows which of them are files."""
    for argument in arguments:
        for word in {argument, argument.partition("=")[2]} - {""}:
            if not climbs(word) and classes_of(canonical(word, cwd, ground.home), ground.protected):
                yield Touch(word, Action.EXECUTE)


def shell(ground: Ground, wire: bytes, variables: tuple[str, ...] = ()) -> Operation:
    """Judge an interactive shell: nothing of what will be typed is known, so it is opaque."""
    resources = (Resource("connection", ground.connection, Action.OPAQUE, (), ()),)
    return _operation(_facts("shell", resources, ("an interactive shell",), head="shell"), b"", wire, variables)


def subsystem(name: str, ground: Ground, wire: bytes, variables: tuple[str, ...] = ()) -> Operation:
    """Judge a subsystem (RFC 4254, 6.5). `sftp` opens a channel on which every file is judged; any other is opaque."""
    statement = name.encode()
    if name == "sftp":
        resources = (Resource("connection", ground.connection, Action.TRANSFER, (), ()),)
        return _operation(_facts("sftp", resources, (), head="subsystem sftp"), statement, wire, variables)
    resources = (Resource("command", f"subsystem {shlex.quote(name)}", Action.OPAQUE, (), ()),)
    facts = _facts("subsystem", resources, (f"the subsystem {name[:MAX_SUBSYSTEM]}",), head="subsystem")
    return _operation(facts, statement, wire, variables)


def forward(kind: str, place: str, wire: bytes) -> Operation:
    """Judge a forward: `kind` in RFC 4254's words (`direct-tcpip`, …), `place` as `host:port` or a path.

    What flows through one is not looked into, so policy must permit `transfer` on exactly that end point.
    """
    resources = (Resource("endpoint", place, Action.TRANSFER, (), ()),)
    return _operation(_facts(kind, resources, (), head=kind), f"{kind} {place}".encode(), wire)


def remote(
    kind: str, place: str, origin: str, wire: bytes, *, creates: bool, why: str = "who comes to a listener on the target"
) -> Operation:
    """Judge a listener on the target, or who came to one: `place` is where it listens, `origin` where somebody came from.

    `creates`: a socket with a name, which is a file of the host's.
    """
    resources: tuple[Resource, ...] = (Resource("endpoint", place, Action.OPAQUE, (), ()),)
    if creates:
        resources += (Resource("file", place, Action.WRITE, (), ()),)
    text = f"{kind} {place} from {origin}" if origin else f"{kind} {place}"
    return _operation(_facts(kind, resources, (why,), head=kind), text.encode(), wire)


def file(
    name: str,
    touches: tuple[tuple[str, Action], ...],
    ground: Ground,
    wire: bytes,
    *,
    moves: bool = False,
    details: tuple[str, ...] = (),
) -> Operation:
    """Judge one SFTP request on canonical paths. `moves`: content of a file will flow (an OPEN). `details`: what else it asks for."""
    renames = name in {"link", "symlink", "rename", "posix-rename"}
    resources = tuple(_judged(path, action, touches, ground, renames=renames) for path, action in touches)
    content = moves or renames
    unmask = tuple(sorted({each for r in resources if r.action is Action.READ and content for each in r.classes}))
    action = Action.TRANSFER if moves else _gravest(resources)
    facts = _facts(name, resources, (), head=name, action=action, unmask=unmask)
    return _operation(
        facts, "\0".join([name, *(path for path, _ in touches), *details]).encode("utf-8", "surrogateescape"), wire
    )


def _judged(
    path: str, action: Action, touches: tuple[tuple[str, Action], ...], ground: Ground, *, renames: bool
) -> Resource:
    """One path of a request. Of a folder that gets another name, what lies in it counts, where that name does not protect it."""
    classes = set(classes_of(path, ground.protected))
    if renames and action is Action.READ:
        for to in {other for other, _ in touches} - {path}:
            classes.update(classes_lost(path, to, ground.protected))
    return Resource("file", path, action, (), tuple(sorted(classes)))


def refused(name: str, text: bytes, why: Unjudgeable, message: str, wire: bytes) -> Operation:
    """Say that something cannot be judged, in a sentence."""
    facts = msgspec.structs.replace(
        _objected(why), name=name, objection=Objection(why, message, "", "", None), digest=b"objected " + name.encode()
    )
    return _operation(facts, text, wire)


# --- facts ------------------------------------------------------------------------------------------------------------


def _gravest(resources: tuple[Resource, ...]) -> Action:
    asked = {resource.action for resource in resources}
    return next((action for action in _GRAVITY if action in asked), Action.EXECUTE)


def _unique(resources: list[Resource]) -> tuple[Resource, ...]:
    return tuple(dict.fromkeys(resources))


def _unmask(resources: tuple[Resource, ...], *, is_told: bool = False) -> tuple[str, ...]:
    """Classes that a command does more with than print: it hands them on, or keeps them elsewhere. `is_told`: see `_is_told`."""
    keeps = any(each.kind == "file" and each.action in {Action.WRITE, Action.EXECUTE} for each in resources)
    moves = any(each.action is Action.TRANSFER or each.action is Action.OPAQUE for each in resources)
    using = {Action.READ, Action.EXECUTE, Action.DELETE, Action.TRANSFER}
    read = {name for each in resources if each.action in using for name in each.classes}
    unknown = {name for each in resources if each.action is Action.EXECUTE for name in each.classes}
    return tuple(sorted(read if keeps or moves or is_told else unknown))


def _facts(
    name: str,
    resources: tuple[Resource, ...],
    opaque: tuple[str, ...],
    *,
    functions: tuple[str, ...] = (),
    head: str,
    action: Action | None = None,
    unmask: tuple[str, ...] | None = None,
) -> Facts:
    gravest = action or _gravest(resources)
    uses = _unmask(resources) if unmask is None else unmask
    shown = tuple(dict.fromkeys(opaque))
    return Facts(
        action=gravest,
        name=name,
        resources=resources,
        has_where=True,
        functions=functions,
        opaque=shown,
        unmask=uses,
        harmless=False,
        touches_protected=any(each.classes for each in resources),
        head=head[:MAX_HEAD],
        objection=None,
        invalidates_catalogue=False,
        digest=facts_digest(gravest, name, resources, (functions, shown, uses)),
    )


def _objected(why: Unjudgeable) -> Facts:
    return Facts(
        action=Action.OPAQUE,
        name="exec",
        resources=(),
        has_where=True,
        functions=(),
        opaque=(),
        unmask=(),
        harmless=False,
        touches_protected=False,
        head="",
        objection=Objection(why, why.value.replace("the statement", "the command"), _HINTS.get(why, ""), "", None),
        invalidates_catalogue=False,
        digest=b"objected " + why.name.encode(),
    )


def _operation(facts: Facts, statement: bytes, wire: bytes, variables: tuple[str, ...] = ()) -> Operation:
    parameters = None
    if variables:
        parameters = Parameters((), tuple(each.encode("utf-8", "surrogateescape") for each in variables))
    return Operation(facts, statement, parameters, wire)


def _head(commands: tuple[Simple, ...], opaque: list[str]) -> str:
    """The commands without what could be a secret: programs and the names of options; `?` for every other word."""
    shown = []
    for simple in commands:
        parts = [simple.words[0].rpartition("/")[2]] if simple.words else []
        for word in simple.words[1:]:
            name = word.partition("=")[0]
            is_option = word.startswith("--") and name[2:].replace("-", "").isalpha()
            parts.append(name if is_option else "?")
        parts += ["> ?" if each.access is words.Access.WRITE else "< ?" for each in simple.redirections]
        shown.append((f" {simple.joined} " if simple.joined else "") + " ".join(parts))
    return "".join(shown) + "".join(f" ({each})" for each in dict.fromkeys(opaque))
