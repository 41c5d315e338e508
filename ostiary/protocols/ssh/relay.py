"""One channel of an SSH session, for the path: `exec`, a shell, a subsystem, or a forward.

The driver writes what asyncssh hands it as messages (`messages.py`); this relay reads them, says what must be decided, and holds
everything else until it is. Once SFTP was permitted, `files.py` takes the bytes apart and has every file decided.
"""

from __future__ import annotations

import hashlib
import re
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from ostiary.model.catalogue import Snapshot
from ostiary.model.commands import Order
from ostiary.model.decisions import Permit, Refusal
from ostiary.model.errors import Misdeed, PeerMisbehaved
from ostiary.model.operations import Operation, Unjudgeable
from ostiary.model.printable import printable
from ostiary.model.proofs import Batch, Content, Denied, Intended, Masked, Outcome
from ostiary.protocols.relay import Ask, Streamed
from ostiary.protocols.ssh import messages as m
from ostiary.protocols.ssh import operations, refusals
from ostiary.protocols.ssh.alone import Alone
from ostiary.protocols.ssh.echo import Echo, Typed
from ostiary.protocols.ssh.files import Files
from ostiary.protocols.ssh.messages import alone, data_head
from ostiary.protocols.ssh.operations import Ground
from ostiary.protocols.ssh.results import MAX_HELD, Stretch, held_from
from ostiary.protocols.ssh.states import ALLOWED, FROM_TARGET, STARTS, State

MAX_VARIABLES: Final = 64
MAX_LATER: Final = 1 << 20
"""Bytes of messages that wait for the decision. The driver stops reading before."""
MAX_TYPED: Final = 256
MAX_UNSETTLED: Final = 4096
"""Bytes of a terminal's that are kept to be looked at together."""
MAX_COUNTED: Final = 1000
"""Signals and sizes of the window that are passed on in one channel; more is a flood."""
TRANSFERS: Final = frozenset({"scp", "rsync", "git"})
BULK: Final = TRANSFERS | {"sftp"}
WITHHELD: Final = "withheld@ostiary"
"""In a recording: a line was typed that may not be on record."""
UNSHOWN: Final = "unshown@ostiary"
"""In a recording: a line that was typed, and not echoed."""
CUT: Final = "cut@ostiary"
"""In a recording: the beginning of a line that was typed, and longer than is kept."""
_RUNNING: Final = State.RUNNING
_NONE: Final[list[tuple[Intended, Batch]]] = []
_KEYS: Final = re.compile(rb"[\x00-\x1f\x7f]")
_TERM: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9+._-]{0,63}")
_SIGNAL: Final = re.compile(r"[A-Z0-9]{1,16}")
_SIGNALLED: Final = re.compile(r"[A-Za-z0-9]{1,16}(@[a-z0-9.-]{1,32})?")
"""RFC 4254, 6.10: a name without SIG, or one of somebody's own."""
_VALUE: Final = re.compile(r"[^\x00-\x1f\x7f]{0,1024}")


class ChannelSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What a connection says of its channels."""

    ground: Ground
    accept_env: tuple[str, ...]
    """Names that may be sent, `*` standing for any run of characters."""
    detects: bool
    """Any detector looks at what comes back."""
    keeps_files: bool
    links: bool
    """The target reads the two paths of SYMLINK as OpenSSH does."""
    by_line: bool = False
    """What is looked for may stand anywhere in a line, not only in one word."""
    masks_files: bool = False
    """The detectors look at the content of files, too."""
    refuses_files: bool = False
    """A file in which they find something is not read on."""
    notes: bool = True
    """There is a recording, so what is typed on a terminal is looked at: which of it may be there."""


class ChannelRelay(Alone):
    """See `ostiary.protocols.relay.Relay`."""

    def __init__(self, settings: ChannelSettings) -> None:
        self._settings = settings
        self._state = State.OPENING
        self._variables: list[str] = []
        self._prelude: list[bytes] = []
        self.has_terminal = False
        self._sizes: list[bytes] = []
        """Messages that say what the terminal is like."""
        self._echo: Echo | None = None
        """Of a terminal: which of what is typed may be on record."""
        self._unsettled: list[tuple[bool, bytes]] = []
        """What was typed (True) and seen there, and `settle` has not looked at."""
        self._unsettled_bytes = 0
        self._has_pressed = False
        """A key was pressed there that is more than a letter: it may end a line."""
        self._notes: list[tuple[Intended, Batch]] = []
        self._start: Operation | None = None
        self._asked: Operation | None = None
        """What was yielded last."""
        self._later: deque[m.Message] = deque()
        self._wire: list[bytes] = []
        self._decided: list[tuple[Permit | Refusal, Operation]] = []
        self._answers: list[bytes] = []
        self._under: Intended | None = None
        self._streams: dict[int, Stretch] = {}
        self.files: Files | None = None
        self._ends = False
        """The client sends no more files' requests: the target hears of it once it has all of them."""
        self._typed = b""
        self._counted = 0
        self._bytes = 0
        self._masked: dict[str, int] = {}
        self._ending: tuple[str, str] | None = None
        self._outcomes: list[Outcome] = []
        self._streamed: list[Streamed] = []
        self.is_over = False

    # --- from the client ---------------------------------------------------------------------------------------------

    def asks(self, data: bytes, snapshot: Snapshot) -> Iterator[Ask]:
        """Take in messages of the client's; yield what must be decided."""
        del snapshot  # there is no catalogue of a host
        if self._state is _RUNNING and self.files is None and not self._later:
            flows = alone(data)
            if flows is not None:  # nothing of it asks
                self._flows(flows, data)
                return iter(())
        return self._each(data)

    def _each(self, data: bytes) -> Iterator[Ask]:
        for ask in self._asks(data):
            self._asked = ask.operation
            yield ask

    def _asks(self, data: bytes) -> Iterator[Ask]:
        arrived = deque(m.decode(data))
        if self._state is not State.ASKED:
            arrived.extendleft(reversed(self._later))
            self._later.clear()
        while arrived:
            message = arrived.popleft()
            self._check(message)
            if self._state is State.ASKED:
                self._later.append(message)
            elif self._state is State.OPENING:
                if (operation := self._opening(message)) is not None:
                    self._start = operation
                    self._state = State.ASKED
                    yield Ask(operation, takes_effect=True)
            elif self._state is State.RUNNING:
                yield from self._running(message)
        if self._state is State.RUNNING and self.files is not None and not data:
            yield from (Ask(each, takes_effect=True) for each in self.files.asks(b""))

    def _check(self, message: m.Message) -> None:
        name = message.name if isinstance(message, m.Request) else type(message).__name__.lower()
        if name not in ALLOWED[self._state]:
            raise PeerMisbehaved(Misdeed.OUT_OF_TURN, name)

    def _opening(self, message: m.Message) -> Operation | None:
        """Collect what precedes; return what is asked for."""
        assert isinstance(message, m.Request)  # noqa: S101 - by the table
        reader = m.Reader(message.body)
        wire = m.encode(message)
        match message.name:
            case "env":
                self._variable(reader, wire)
            case "pty-req":
                self.has_terminal = self._terminal(reader)
                self._prelude.append(wire)
                self._sizes.append(wire)
            case "window-change":
                self._prelude.append(wire)
                self._sizes.append(wire)
            case "exec":
                said = reader.string()
                reader.end()
                try:
                    text = said.decode()
                except UnicodeDecodeError:
                    return operations.refused("exec", said, Unjudgeable.BAD_TEXT, "a command that is not UTF-8 cannot be judged", self._whole(wire))
                return operations.command(text, self._settings.ground, self._whole(wire), tuple(self._variables))
            case "subsystem":
                name = reader.text()
                reader.end()
                return operations.subsystem(name, self._settings.ground, self._whole(wire), tuple(self._variables))
            case "shell":
                reader.end()
                return operations.shell(self._settings.ground, self._whole(wire), tuple(self._variables))
            case _:
                raise PeerMisbehaved(Misdeed.OUT_OF_TURN, message.name)
        return None

    def _whole(self, wire: bytes) -> bytes:
        return b"".join(self._prelude) + wire

    def _variable(self, reader: m.Reader, wire: bytes) -> None:
        """An environment variable: kept if it is on the list, else dropped, as sshd drops what AcceptEnv does not name."""
        name, value = reader.text(), reader.text()
        reader.end()
        listed = any(re.fullmatch(p.replace("*", "[A-Za-z0-9_]*"), name) for p in self._settings.accept_env)
        if listed and _VALUE.fullmatch(value) and len(self._variables) < MAX_VARIABLES:
            self._variables.append(f"{name}={value}")
            self._prelude.append(wire)

    @staticmethod
    def _terminal(reader: m.Reader) -> bool:
        """RFC 4254, 6.2. A TERM that could do more than name a terminal is no TERM."""
        term = reader.text()
        for _ in range(4):
            reader.u32()
        reader.string()
        reader.end()
        if not _TERM.fullmatch(term):
            raise PeerMisbehaved(Misdeed.BAD_FIELD, "TERM")
        return True

    def _running(self, message: m.Message) -> Iterator[Ask]:
        match message:
            case m.Data(data) if self.files is not None:
                yield from (Ask(each, takes_effect=True) for each in self.files.asks(data))
                return
            case m.Eof() if self.files is not None:
                self._ends = True  # requests that came before it may still wait for where their paths lead
                return
            case m.Data(data):
                self._flows(data, m.encode(message))
                return
            case m.Request():
                self._counted += 1
                if self._counted > MAX_COUNTED and message.name == "window-change":
                    return  # the next session will know the size; a flood has no business with the target
                if self._counted > 2 * MAX_COUNTED:
                    raise PeerMisbehaved(Misdeed.TOO_COSTLY, f"a flood of {message.name}")
                if message.name == "signal" and not _SIGNAL.fullmatch(m.Reader(message.body).text()):
                    raise PeerMisbehaved(Misdeed.BAD_FIELD, "signal")
                if self._echo is not None:
                    self._note(m.encode(message))
                elif self._under is not None:
                    self._streamed.append(Streamed(self._under, m.encode(message), ends=False))
            case _:
                pass
        self._wire.append(m.encode(message))

    def _flows(self, data: bytes | memoryview, wire: bytes) -> None:
        """What is typed, or sent to what runs. `wire`: as a message."""
        self._typed = (self._typed + data[-MAX_TYPED:])[-MAX_TYPED:]
        if self._echo is not None:
            self._unsettle(True, bytes(data))
        elif self._under is not None and not self.is_bulk and not self.has_terminal:
            self._streamed.append(Streamed(self._under, wire, ends=False))
        self._wire.append(wire)

    def decided(self, ask: Ask, decision: Permit | Refusal) -> bool:
        """Heed the decision on the ask just yielded; all of them are made durable at once."""
        self._decided.append((decision, ask.operation))
        return True

    def state(self) -> bytes:
        """The request as it goes to the target, with terminal, environment and attributes: an approval is for exactly that."""
        return b"" if self._asked is None else hashlib.sha256(self._asked.wire).digest()

    def notice(self, text: str, hint: str) -> Batch:
        """A line on stderr, or on the terminal."""
        end = "\r\n" if self.has_terminal else "\n"
        said = "".join(f"ostiary: {printable(each)}{end}" for each in (text, hint) if each)
        return Batch(refusals.notice(said, terminal=self.has_terminal), Content.CONTROL, None, 0, False)

    # --- to the target -----------------------------------------------------------------------------------------------

    def order(self, proofs: tuple[Intended | Denied, ...]) -> Order:
        """Everything taken since the last order, under the proofs that it needs."""
        if self.files is None and not proofs and not self._decided:
            flows, self._wire = self._wire, []
            return Order((), flows[0] if len(flows) == 1 else b"".join(flows))
        return self._judged(proofs)

    def _judged(self, proofs: tuple[Intended | Denied, ...]) -> Order:
        judged = deque(zip((decision for decision, _ in self._decided), proofs, strict=True))
        self._decided.clear()
        if self._state is State.ASKED and judged:
            self._begin(*judged.popleft())
        if self.files is not None and self._state is State.RUNNING:
            inner = self.files.order(judged)
            if inner:
                self._wire.append(data_head(len(inner), 0) + inner)
            if self._ends and self.files.is_idle:
                self._ends = False
                self._wire.append(m.encode(m.Eof()))
            self._streamed += [Streamed(under, data, ends=False) for under, data in self.files.streamed()]
            if answer := self.files.answers():
                self._answers.append(data_head(len(answer), 0) + answer)
        wire, self._wire = b"".join(self._wire), []
        return Order(tuple(proof for proof in proofs if isinstance(proof, Intended)), wire)

    def _begin(self, decision: Permit | Refusal, proof: Intended | Denied) -> None:
        start = self._start
        if isinstance(proof, Intended) and start is not None:
            self._state = State.RUNNING
            self._under = proof
            self._wire.append(start.wire)
            if start.facts.name == "sftp":
                settings = self._settings
                looks = settings.detects and settings.masks_files
                self.files = Files(
                    settings.ground, detects=looks, keeps=settings.keeps_files, links=settings.links, refuses=looks and settings.refuses_files
                )
                return
            clear = proof.permit.grounds.clear
            held = tuple(sorted({name for r in start.facts.resources for name in r.classes} - clear))
            moves = start.facts.name in TRANSFERS
            if self.has_terminal and not self.is_bulk and self._settings.notes:
                self._echo = Echo()
                for wire in self._sizes:
                    self._note(wire)
            # What is moved as a transfer needs `unmask`, so it comes here only in clear.
            self._streams = {
                code: Stretch(
                    code,
                    held if not start.facts.unmask else (),
                    detects=self._settings.detects and (not moves or code > 0),
                    by_line=self._settings.by_line,
                )
                for code in (0, m.STDERR)
            }
        else:
            self._state = State.REFUSED
            self.is_over = True
            if isinstance(decision, Refusal):
                self._answers.append(refusals.channel(decision, terminal=self.has_terminal))

    def streamed(self) -> Iterable[Streamed]:
        """What the client typed, or sent as input or content, for the recording."""
        streamed, self._streamed = self._streamed, []
        return streamed

    def _unsettle(self, is_typed: bool, data: bytes) -> None:
        """Keep what `settle` is to look at."""
        self._unsettled.append((is_typed, data))
        self._unsettled_bytes += len(data)
        if is_typed and _KEYS.search(data) is not None:
            self._has_pressed = True

    def settle(self) -> bool:
        """Look at what was typed and seen on the terminal: it is on its way already, and nothing of it waits for that. Whether something is to be noted.

        As long as no line is complete there is nothing to be found out, so what comes a letter at a time is looked at together.
        """
        echo = self._echo
        if echo is None:
            return False
        if self._has_pressed or echo.is_waiting or self._unsettled_bytes > MAX_UNSETTLED or len(self._unsettled) > MAX_UNSETTLED // 64:
            self._settle(echo)
        return echo.has_settled

    def _settle(self, echo: Echo) -> None:
        for is_typed, data in self._unsettled:
            if is_typed:
                echo.typed(data)
            else:
                echo.seen(data)
        self._unsettled.clear()
        self._unsettled_bytes = 0
        self._has_pressed = False

    def noted(self) -> list[tuple[Intended, Batch]]:
        """The terminal's size, and the lines that were typed there, as far as they may be on record: for the recording, once masked."""
        under, echo = self._under, self._echo
        if not self._notes and (echo is None or not echo.has_settled):
            return _NONE
        if under is not None and echo is not None:
            self._notes += [(under, _typed(line, by_line=self._settings.by_line)) for line in echo.settled()]
        notes, self._notes = self._notes, []
        return notes

    def _note(self, wire: bytes) -> None:
        if self._under is not None:
            self._notes.append((self._under, Batch(wire, Content.CONTROL, None, 0, False)))

    def answers(self) -> Iterable[Batch]:
        """Refusals of the gateway's own."""
        answers, self._answers = b"".join(self._answers), []
        return (Batch(answers, Content.CONTROL, None, 0, False),) if answers else ()

    # --- from the target ---------------------------------------------------------------------------------------------

    def results(self, data: bytes) -> Iterator[tuple[Batch, Intended | None]]:
        """Take in messages of the target's. No bytes: nothing came for a moment, so what is held may go, as far as it may."""
        flows = alone(data)
        return self._results(data) if flows is None else self._data(flows, 0)

    def _results(self, data: bytes) -> Iterator[tuple[Batch, Intended | None]]:
        if not data:
            for stream in self._streams.values():
                if (batch := stream.flush(self._typed)) is not None:
                    yield batch, self._under
            return
        for message in m.decode(data):
            match message:
                case m.Data(inner, code):
                    yield from self._data(inner, code)
                case m.Request(name, body):
                    if name not in FROM_TARGET:
                        raise PeerMisbehaved(Misdeed.OUT_OF_TURN, name)
                    yield Batch(m.encode(m.Request(name, self._ended(name, body))), Content.CONTROL, None, 0, False), self._under
                case _:
                    for stream in self._streams.values():
                        if (batch := stream.end()) is not None:
                            yield batch, self._under
                    yield Batch(m.encode(message), Content.CONTROL, None, 0, False), self._under
                    if isinstance(message, m.Close):
                        self._close()

    def _data(self, inner: bytes | memoryview, code: int) -> Iterator[tuple[Batch, Intended | None]]:
        if self.files is not None and code == 0:
            for batch, under in self.files.results(inner):
                yield batch, under or self._under
            return
        if self._echo is not None:
            self._unsettle(False, bytes(inner))
        stream = self._streams.get(code)
        if stream is None:  # stderr of a subsystem: text like any other
            stream = self._streams[code] = Stretch(
                code, (), detects=self._settings.detects, by_line=self._settings.by_line
            )
        if (fed := stream.feed(inner, self._typed)) is not None:
            yield fed, self._under

    @property
    def is_bulk(self) -> bool:
        """Whether what flows is content of files that the connection does not keep."""
        return self._start is not None and self._start.facts.name in BULK and not self._settings.keeps_files

    @property
    def is_holding(self) -> bool:
        """Whether something is held back that a pause may let go."""
        for stream in self._streams.values():  # noqa: SIM110 - asked after each piece
            if stream.is_holding:
                return True
        return False

    def masked(self, masked: Masked) -> None:
        """Count what masking did to the batch just yielded."""
        if masked.content is Content.CONTROL:
            return
        self._bytes += len(masked.frames)
        if self.files is not None:
            self.files.masked(masked, 5)
            return
        for name, number in masked.counts:
            self._masked[name] = self._masked.get(name, 0) + number

    # --- the end -----------------------------------------------------------------------------------------------------

    def _ended(self, name: str, body: bytes) -> bytes:
        """How it ended, as the client hears it: the text that may stand beside a signal is anything, and is left out. Raises `PeerMisbehaved`."""
        reader = m.Reader(body)
        if name == "exit-status":
            code = reader.u32()
            reader.end()
            self._ending = ("ok" if code == 0 else "error", f"exit {code}")
            return body
        signal, dumped = reader.text(), reader.byte()
        if not _SIGNALLED.fullmatch(signal):
            raise PeerMisbehaved(Misdeed.BAD_FIELD, "exit-signal")
        self._ending = ("error", f"signal {signal[:16]}")
        return m.string(signal.encode()) + bytes([bool(dumped)]) + m.string(b"") + m.string(b"")

    def _close(self) -> None:
        if self.is_over:
            return
        self.is_over = True
        if self._echo is not None:
            self._settle(self._echo)
            self._echo.end()
        if self.files is not None:
            self._outcomes += self.files.abandon()
        if self._under is not None:
            status, tag = self._ending or ("ok" if self.files is not None else "cut", "")
            self._outcomes.append(self._outcome(self._under, status, tag))

    def _outcome(self, under: Intended, status: str, tag: str) -> Outcome:
        return Outcome(
            intended=under,
            status=status,
            tag=tag,
            rows=0,
            bytes=self._bytes,
            error=tag if status == "error" else "",
            error_text="",
            masked=tuple(sorted(self._masked.items())),
            columns=(),
        )

    def outcomes(self) -> tuple[Outcome, ...]:
        """Operations that have ended since the last call."""
        ended = (*(self.files.outcomes() if self.files is not None else ()), *self._outcomes)
        self._outcomes.clear()
        return ended

    def outdated(self) -> bool:
        """No catalogue, so nothing outdates it."""
        return False

    @property
    def outstanding(self) -> int:
        """What the client waits for."""
        return self.files.outstanding if self.files is not None else int(self._state is State.RUNNING)

    @property
    def is_stalled(self) -> bool:
        """Whether the client's lane has something to do though nothing came: a path is resolved, or the decision is there."""
        waits = bool(self._later) and self._state is not State.ASKED
        return waits or (self.files is not None and (self.files.is_stalled or (self._ends and self.files.is_idle)))

    def abandon(self) -> tuple[Outcome, ...]:
        """The channel was cut: outcomes of everything that is still open."""
        if not self.is_over:
            self._ending = self._ending or ("unknown", "")
            self._close()
        return self.outcomes()


def _typed(line: Typed, *, by_line: bool) -> Batch:
    """A line for the recording, as a message. Where it was cut, what could be the beginning of a value is left out: its end is not there to judge it by."""
    text, name = line.text, UNSHOWN
    if line.cut:
        end = min(held_from(text), len(text) - MAX_HELD if by_line else len(text))
        text, name = text[: max(0, end)], CUT
    if not text:
        return Batch(m.encode(m.Request(WITHHELD, b"")), Content.CONTROL, None, 0, False)
    head = data_head(len(text), 0) if line.shown else m.request_head(name, len(text))
    return Batch(text, Content.STRETCH, None, 0, False, head)


__all__ = ["STARTS", "ChannelRelay", "ChannelSettings"]
