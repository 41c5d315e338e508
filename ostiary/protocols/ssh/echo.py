r"""Which of what is typed on a terminal may be on record: passwords are typed while the echo is off, and a gateway cannot ask whether it is.

Theory of operation
-------------------
What is seen is whether the screen answers. A line that is typed is held in memory, and is given out (for the record) when the target has
echoed it:

* typed while nothing was outstanding: the very next characters that come must be its own, one after another
  (the prompt may be drawn anew before them, as line editors do);
* typed ahead (before the target said anything, too), or pasted with lines before it: it must come as a whole, an end of line behind it.

Echoes in colours, after a backspace, and with other things behind them are echoes, too. All of a line is kept or none. Keys (controls,
cursor keys) need no echo; answers of the client's terminal to questions, which may hold its clipboard, are never kept.

A line that was not echoed is *withheld*: that something was typed is on record, and nothing of what or how much. One exception: at a prompt that
ends as a shell's does (`$ `, `# ` or `% `), or as one at which lines were echoed before (`>` too), and asks for no password, it is a shell whose echo
somebody switched off; such a line is kept, marked as not shown, so that `stty -echo` hides no command. The ugly side: a program in raw mode that does not show what is
typed (an editor's commands) is withheld as well, and a shell without any prompt can hide its commands from the input that is kept, though not
what they print.

Bounds: `MAX_LINE` bytes of a line, `MAX_LINES` lines that wait, and `MAX_WAITED` characters that one typed ahead waits for; beyond them, lines are withheld. Of a longer line at
a shell's prompt the beginning is kept, marked as cut. With more than `MAX_KEYS` controls in one piece nothing is withheld of the line that stands at the prompt, and everything
of what is typed ahead of the next one. This stands in
the data path: output costs something only while a line waits for its echo, and a character at a time only until the first one that is not its own.
"""

from __future__ import annotations

import codecs
import re
from collections import deque
from typing import Final

import msgspec

from ostiary.kernel.terminal import CONTROL, CSI, TEXT, Parser

MAX_LINE: Final = 4096
MAX_LINES: Final = 16
MAX_WAITED: Final = 16 * 1024
"""Characters that come while a line that was typed ahead is waited for."""
MAX_KEYS: Final = 256
"""Controls in one piece of input; with more it is no typing, and what stands behind its first line is withheld."""
_MAX_PROMPT: Final = 256
_TAIL: Final = 1024
"""Bytes of output that are looked at for a prompt while nothing is waited for."""
_CONTROLS: Final = re.compile(rb"[\x00-\x1f\x7f]")
_END: Final = re.compile(rb"[\r\n\x03\x04\x1a\x1c]")
_MARKS: Final = frozenset("$#>%")
_SHELLS: Final = ("$ ", "# ", "% ")
"""Ends of prompts that nothing but shells has: what asks for a password ends in a colon."""
_SECRET: Final = re.compile(r"pass|pin\b|secret|token|code\b|otp|kennwort|contrase|mot de passe", re.IGNORECASE)
_ENDS: Final = frozenset("\r\n\x03\x04\x1a\x1c")
"""Keys that end a line: Enter, and Ctrl-C, -D, -Z and -\\."""
_ANSWERS: Final = frozenset("RcntyIO")
"""Finals of what a client's terminal says by itself: where the cursor is, what it is, whether it has the focus."""


class Typed(msgspec.Struct, frozen=True):
    """A line of input as it is settled. `shown`: it was echoed. Without `text` it is withheld. `cut`: it is the beginning of a longer one."""

    text: bytes
    shown: bool
    cut: bool = False


class _Line:
    """What is typed up to Enter."""

    __slots__ = ("ahead", "at", "blank", "complete", "cut", "expected", "failed", "prompt", "raw", "redrawn", "since")

    def __init__(self, prompt: str, since: int, *, ahead: bool) -> None:
        self.raw = bytearray()
        self.expected: list[str] = []
        """What the echo must be: characters, `\\b` for each that is rubbed out, `\\n` for Enter."""
        self.at = 0
        """How many of them have come."""
        self.prompt = prompt
        self.ahead = ahead
        self.since = since
        """Of one typed ahead: where in what comes its echo may begin."""
        self.complete = False
        self.cut = False
        """It is longer than may be kept."""
        self.failed = False
        self.blank = False
        """A blank came that is not its own: at the margin, a line editor sends one and goes back."""
        self.redrawn = -1
        """Characters of the prompt that have come again; -1: it is not drawn anew."""

    @property
    def waits(self) -> bool:
        """Whether its next character has to be the next that comes."""
        return not self.ahead and not self.failed and self.at < len(self.expected)

    def redraws(self, char: str) -> str:
        """What of what came is not the prompt that is drawn anew; behind the prompt, so is the line."""
        if self.redrawn < 0:
            return char
        if self.redrawn < len(self.prompt) and self.prompt[self.redrawn] == char:
            self.redrawn += 1
            if self.redrawn == len(self.prompt):
                self.redrawn = -1
                self.at = 0
            return ""
        looked, self.redrawn = self.prompt[: self.redrawn], -1
        return looked + char

    @property
    def is_echoed(self) -> bool:
        """Whether all of it has come."""
        return not self.failed and self.at == len(self.expected)


class Echo:
    """One terminal's input, against what comes back."""

    def __init__(self) -> None:
        self._keys = Parser()
        self._screen = Parser()
        self._bytes = codecs.getincrementaldecoder("utf-8")("replace")
        self._lines: deque[_Line] = deque()
        self._prompt = ""
        self._marks: set[str] = set()
        self._settled: list[Typed] = []
        self._has_begun = False
        """The target has said something."""
        self._came_at = 0
        """Characters that came in all, up to the beginning of `_came`."""
        self._fresh: list[str] = []
        self._came = ""
        """What came while a line that was typed ahead waits."""
        self._rubbed = False
        self._was_return = False
        self._is_single_shift = False
        """ESC O came: the next character names a key."""

    @property
    def has_settled(self) -> bool:
        """Whether lines were settled since `settled` was called."""
        return bool(self._settled)

    @property
    def is_waiting(self) -> bool:
        """Whether a whole line was typed, and waits for what comes."""
        return bool(self._lines) and self._lines[0].complete

    def settled(self) -> list[Typed]:
        """Return the lines that were settled since the last call."""
        found, self._settled = self._settled, []
        return found

    # --- typed -------------------------------------------------------------------------------------------------------

    def typed(self, data: bytes) -> None:
        """The client sent this."""
        if len(_CONTROLS.findall(data)) > MAX_KEYS:
            self._flooded(data)
        else:
            self._take(data)
        self._settle()

    def _flooded(self, data: bytes) -> None:
        """Nobody types so many keys at once: of the first line as much as may be kept is read, and the others are withheld."""
        end = _END.search(data)
        first = data if end is None else data[: end.end()]
        self._take(first[:MAX_LINE])
        if len(first) > MAX_LINE:
            self._cut(self._line())
            self._take(b"" if end is None else end[0])
        if len(data) > len(first):
            others = self._line()
            others.complete = others.failed = True

    def _take(self, data: bytes) -> None:
        first, *more = self._bytes.decode(data).split("\x7f")
        self._pressed(first)
        for piece in more:
            self._key("\x7f", "\b")
            self._pressed(piece)

    def _pressed(self, keys: str) -> None:
        for kind, text, last in self._keys.read(keys):
            if kind == TEXT:
                shifted = int(self._is_single_shift)
                self._is_single_shift = False
                self._key(text, text[shifted:])
            elif kind == CONTROL:
                self._control(text)
            elif kind == CSI:
                self._key("" if last in _ANSWERS else f"\x1b[{text}{last}", "")
            else:
                self._key(f"\x1b{last}", "")
                self._is_single_shift = last == "O"

    def _control(self, char: str) -> None:
        if char in _ENDS:
            line = self._line()
            line.raw += char.encode()
            line.complete = True
            if char in "\r\n":
                line.expected.append("\n")
        else:
            self._key(char, "\b" if char == "\b" else "")

    def _key(self, raw: str, expected: str) -> None:
        line = self._line()
        room = MAX_LINE - len(line.raw)
        key = raw.encode()
        if line.cut or len(key) > room:
            self._cut(line, key[:room] if raw == expected else b"")
            return
        line.raw += key
        line.expected += expected

    @staticmethod
    def _cut(line: _Line, last: bytes = b"") -> None:
        """It is longer than is held: what comes of it after `last` is not."""
        if not line.cut:
            line.raw += last.decode(errors="ignore").encode()
        line.cut = line.failed = True

    def _line(self) -> _Line:
        if not self._lines or self._lines[-1].complete:
            if len(self._lines) >= MAX_LINES:
                self._give_up(self._lines[0])
            ahead = bool(self._lines) or not self._has_begun
            self._lines.append(_Line(self._prompt, self._came_at + len(self._came), ahead=ahead))
        return self._lines[-1]

    # --- seen --------------------------------------------------------------------------------------------------------

    def seen(self, data: bytes) -> None:
        """The target sent this, before any of it was masked."""
        self._has_begun = self._has_begun or bool(data)
        if not any(line.waits or (line.ahead and not line.failed) for line in self._lines):
            data = self._tail(data)
        for kind, text, _ in self._screen.feed(data):
            if kind == TEXT:
                self._drawn(text)
                self._prompt = (self._prompt + text)[-_MAX_PROMPT:]
            elif kind == CONTROL and text in "\r\n\b":
                self._drawn(text)
                self._prompt = self._prompt[:-1] if text == "\b" else ""
        self._came += "".join(self._fresh)
        self._fresh.clear()
        self._settle()

    def _tail(self, data: bytes) -> bytes:
        """What of output has to be looked at while nothing is waited for: the line that it ends with."""
        start = max(data.rfind(b"\n"), len(data) - _TAIL)
        if start <= 0:
            return data
        self._screen = Parser()
        self._prompt = ""
        return data[start:]

    def _drawn(self, text: str) -> None:
        if not self._lines:
            return
        first = self._lines[0]
        for char in text:
            if not first.waits:
                self._was_return = self._rubbed = False
                break
            self._compare(first, char)
        if self._lines[-1].ahead:
            self._fresh.append(text)

    def _compare(self, line: _Line, char: str) -> None:
        """The next character against the line that waits for its own."""
        if char == "\r":
            self._was_return = True
            return
        if self._was_return:
            self._was_return = False
            if char != "\n":  # back to the margin: the line is drawn anew, or goes on in the next row
                line.redrawn, line.blank = 0, False
        if char == " " and self._rubbed:
            self._rubbed = False
            return  # what rubs a character out: back, a space over it, back
        self._rubbed = char == "\b"
        for own in line.redraws(char):
            self._match(line, own)

    @staticmethod
    def _match(line: _Line, char: str) -> None:
        while char != "\b" and line.at < len(line.expected) and line.expected[line.at] == "\b":
            line.at += 1  # there was nothing to rub out
        wanted = line.expected[line.at] if line.at < len(line.expected) else None
        if line.blank:
            line.failed = True
        elif wanted == char:
            line.at += 1
        elif wanted is not None and char != "\b":
            line.failed, line.blank = char != " ", True

    # --- settling ----------------------------------------------------------------------------------------------------

    def _look(self, line: _Line) -> None:
        """Look for the echo of a line that was typed ahead, as a whole."""
        came = self._came[max(0, line.since - self._came_at) :].replace("\r\n", "\n").replace(" \r", "").replace("\r", "")
        if line.complete and (not line.expected or "".join(line.expected) in came):
            line.at = len(line.expected)
        else:
            line.failed = len(came) > MAX_WAITED or (line.complete and "\b" in line.expected)

    def _settle(self) -> None:
        """Settle, in order, what can be: what was typed before a line that was echoed, and was not, never will be."""
        if not self._lines:
            return
        for line in self._lines:
            if line.ahead and not line.failed and not (line.complete and line.is_echoed):
                self._look(line)
        echoed = [at for at, line in enumerate(self._lines) if line.complete and line.is_echoed]
        for at in range(echoed[-1] if echoed else 0):
            self._lines[at].failed = self._lines[at].failed or not self._lines[at].is_echoed
        while self._lines and self._lines[0].complete and (self._lines[0].failed or self._lines[0].is_echoed):
            self._done(self._lines.popleft())
        self._forget()

    def _forget(self) -> None:
        """Keep no more of what came than a line may wait for."""
        ahead = [line.since for line in self._lines if line.ahead]
        keep = min(ahead) - self._came_at if ahead else len(self._came)
        keep = max(keep, len(self._came) - 2 * MAX_WAITED)
        if keep > 0:
            self._came_at += keep
            self._came = self._came[keep:]

    def _give_up(self, line: _Line) -> None:
        self._lines.remove(line)
        line.failed = line.failed or not line.is_echoed
        self._done(line)

    def _done(self, line: _Line) -> None:
        prompt = line.prompt.rstrip()
        mark = prompt[-1:]
        if not line.failed:
            if mark in _MARKS and line.expected:
                self._marks.add(mark)
            self._keep(Typed(bytes(line.raw), shown=True))
        elif (
            (mark in self._marks or line.prompt.endswith(_SHELLS))
            and not line.ahead and not _SECRET.search(prompt)
        ):
            self._keep(Typed(bytes(line.raw), shown=False, cut=line.cut))
        else:
            self._keep(Typed(b"", shown=False))

    def _keep(self, typed: Typed) -> None:
        """Hand a line out; of many at once, those of a kind together."""
        last = self._settled[-1] if len(self._settled) >= MAX_LINES else None
        if last is not None and (last.shown, last.cut, bool(last.text)) == (typed.shown, typed.cut, bool(typed.text)):
            self._settled[-1] = Typed(last.text + typed.text, shown=last.shown, cut=last.cut)
        else:
            self._settled.append(typed)

    def end(self) -> None:
        """Nothing follows: settle what is left."""
        while self._lines:
            self._give_up(self._lines[0])
