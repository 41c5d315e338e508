"""A command line as a POSIX shell reads it: simple commands, their words and redirections, and what cannot be seen through.

XCU 2 (Shell Command Language) says how text becomes words. What is read here is the part of it whose meaning hangs on the
text alone: words with quotes and backslashes, pipelines, lists, redirections to names. Everything that the shell computes when
it runs (expansions, substitutions, here-documents, patterns, compound commands, assignments that change how commands are found)
is *opaque*: reading ends there, and policy must permit the whole text by name. So there is no text that this reads as one thing
and dash, bash, ksh or zsh as another and harmless thing; a shell that is no POSIX shell (csh, fish) is out of what is promised,
and said to be in `README.md`.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable
from typing import Final

import msgspec

from ostiary.model.operations import Unjudgeable

MAX_TEXT: Final = 131_072
"""Characters of a command: Linux' MAX_ARG_STRLEN, beyond which `sh -c` could not be started with it."""
MAX_COMMANDS: Final = 256
MAX_WORDS: Final = 4096


def names(text: str) -> frozenset[str]:
    """A set of words, written as one text."""
    return frozenset(text.split())


_KEYWORDS: Final = names(
    "if then else elif fi do done case esac while until for select function time coproc in [[ ]] { } repeat foreach end"
    " nocorrect noglob"
)
_ASSIGNMENT: Final = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(\+?=|\[)")
_HARMLESS_VARIABLE: Final = re.compile(r"LANG|LANGUAGE|LC_[A-Z]+|TZ|TERM|COLUMNS|LINES")
_HARMLESS_VALUE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.,@:+-]*(/[A-Za-z0-9][A-Za-z0-9_+-]*)*|")
"""Names of locales, zones and terminals; no path that a program would look into."""
_LOCALE: Final = re.compile(r"(LANG|LC_[A-Z]+)\+?=(.*)", re.DOTALL)
_PLAIN_LOCALE: Final = re.compile(r"|C|POSIX|.*\.(utf8|UTF-8)(@[a-z]+)?|C\..*", re.IGNORECASE)
_METACHARACTERS: Final = frozenset(" \t\n;&|<>()")
_OPERATORS: Final[tuple[str, ...]] = (
    "<<<",
    "<<-",
    "&>>",
    "&&",
    "||",
    ";;",
    ">>",
    "<<",
    "<&",
    ">&",
    "<>",
    ">|",
    "&>",
    "|&",
    *";&|<>()\n",
)
_PLAIN_AFTER_DOLLAR: Final = frozenset(" \t\n;&|<>)/,.:%]}")
"""What makes a dollar sign one, to every shell; behind anything else some shell looks for a name (zsh: `$=x`, `$~x`, `$+x`, letters of any language),
also where a backslash and a newline stand between."""
_NUMERIC_PATTERN: Final = re.compile(r"<[0-9]*-[0-9]*>")
"""zsh: files whose names hold a number."""


class Access(enum.Enum):
    """What a redirection does with the file that it names."""

    READ = "read"
    WRITE = "write"


class Redirection(msgspec.Struct, frozen=True):
    """`< name`, `> name` and their kin."""

    access: Access
    name: str


class Simple(msgspec.Struct, frozen=True):
    """One simple command: XCU 2.9.1."""

    words: tuple[str, ...]
    """Program and arguments after quote removal; a word that began with an unquoted `~` keeps it, any other begins `./~`."""
    redirections: tuple[Redirection, ...]
    joined: str
    """The operator before it: ``, `|`, `&&`, `||`, `;` or `&`."""


class Line(msgspec.Struct, frozen=True):
    """What was read of a command's text."""

    commands: tuple[Simple, ...]
    opaque: tuple[str, ...]
    """What could not be seen through, one phrase each; then `commands` ends before it."""
    objection: Unjudgeable | None
    """The text is no command at all."""


class _Opaque(Exception):
    """Something that the shell computes."""


class _Broken(Exception):
    """The text is no shell text."""


def recodes(text: str, variables: Iterable[str]) -> bool:
    """Whether a shell may read the text in another encoding, in which a byte of a letter is a quotation mark or backslash's other half.

    `variables`: what is sent along, as `NAME=value`.
    """
    if text.isascii():
        return False
    found = [match for each in variables if (match := _LOCALE.fullmatch(each))]
    return any(not _PLAIN_LOCALE.fullmatch(match[2]) for match in found)


def read(text: str, variables: Iterable[str] = ()) -> Line:
    """Read a command's text. Never raises. `variables`: the environment that is sent along, as `NAME=value`."""
    if "\0" in text:
        return Line((), (), Unjudgeable.BAD_TEXT)
    if len(text) > MAX_TEXT:
        return Line((), (), Unjudgeable.OVERSIZE)
    if recodes(text, variables):
        return Line((), ("text in another encoding",), None)
    reader = _Reader(text)
    try:
        reader.run()
    except _Opaque as exc:
        return Line(tuple(reader.commands), (str(exc),), None)
    except _Broken:
        return Line(tuple(reader.commands), (), Unjudgeable.UNPARSABLE)
    if len(reader.commands) > MAX_COMMANDS or reader.count > MAX_WORDS:
        return Line((), (), Unjudgeable.TOO_COMPLEX)
    return Line(tuple(reader.commands), (), None)


class _Word(msgspec.Struct):
    text: str
    quoted_from: int
    """Index in `text` of the first character that was quoted; len(text) if none was."""


class _Reader:
    """Token recognition (XCU 2.3) and the part of the grammar (2.10) that has no compound commands."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self.commands: list[Simple] = []
        self.count = 0
        self._words: list[str] = []
        self._redirections: list[Redirection] = []
        self._joined = ""
        self._negated = False
        self._assigned = False

    def run(self) -> None:
        while self._at < len(self._text):
            char = self._text[self._at]
            if char in " \t":
                self._at += 1
            elif self._text.startswith("\\\n", self._at):
                self._at += 2
            elif char == "#":
                end = self._text.find("\n", self._at)
                self._at = len(self._text) if end < 0 else end
            elif (operator := self._operator()) is not None:
                self._heed(operator)
            else:
                self._take(self._word())
        self._end()
        if self._joined in {"|", "&&", "||"}:
            raise _Broken

    def _operator(self) -> str | None:
        for operator in _OPERATORS:
            if self._text.startswith(operator, self._at):
                return operator
        return None

    def _heed(self, operator: str) -> None:
        if _NUMERIC_PATTERN.match(self._text, self._at):
            raise _Opaque("a pattern that zsh expands")
        self._at += len(operator)
        if operator in {"(", ")"}:
            raise _Opaque("a subshell or function")
        if operator in {"<<", "<<-", "<<<"}:
            raise _Opaque("a here-document")
        if operator[0] in "<>" or operator in {"&>", "&>>"}:
            self._redirect(operator)
            return
        if operator == ";;":
            raise _Broken
        join = {"\n": ";", "|&": "|"}.get(operator, operator)
        empty = not self._words and not self._redirections and not self._assigned
        if operator == "\n" and empty:
            return  # a newline may follow any operator: XCU 2.10, `linebreak`
        if empty:
            raise _Broken
        self._end()
        self._joined = join

    def _end(self) -> None:
        if self._words or self._redirections:
            self.commands.append(Simple(tuple(self._words), tuple(self._redirections), self._joined))
            self._joined = ""
        elif self._assigned:
            self._joined = ""
        elif self._negated:
            raise _Broken
        self._words, self._redirections, self._negated, self._assigned = [], [], False, False

    def _redirect(self, operator: str) -> None:
        while self._at < len(self._text) and self._text[self._at] in " \t":
            self._at += 1
        if self._at >= len(self._text) or self._text[self._at] in _METACHARACTERS:
            if self._text.startswith(("<(", ">("), self._at) or self._text[self._at : self._at + 1] == "(":
                raise _Opaque("a process substitution")
            raise _Broken
        if self._text[self._at] == "!":
            raise _Opaque("a redirection that zsh reads otherwise (>!)")
        name = self._word().text
        if operator in {"<&", ">&"} and re.fullmatch(r"[0-9]+-?|-", name):
            return
        if operator == "<&":
            raise _Opaque("a file descriptor that is computed")
        if re.match(r"/+dev/+(tcp|udp)/", name):
            raise _Opaque("a network connection by redirection")
        if operator in {"<", "<>"}:
            self._redirections.append(Redirection(Access.READ, name))
        if operator != "<":
            self._redirections.append(Redirection(Access.WRITE, name))

    def _take(self, word: _Word) -> None:
        self.count += 1
        bare = word.quoted_from >= len(word.text)
        follows = self._text[self._at : self._at + 1]
        if bare and word.text.isascii() and word.text.isdigit() and follows in {"<", ">"}:
            return  # an IO_NUMBER
        if not self._words:
            if bare and word.text == "!":
                if self._negated:
                    raise _Opaque("a command that is negated twice")
                self._negated = True
                return
            if bare and word.text in _KEYWORDS:
                raise _Opaque(f"a compound command ({word.text})")
            found = _ASSIGNMENT.match(word.text)
            if found is not None and found.end() <= word.quoted_from:
                value = word.text[found.end() :]
                is_harmless = _HARMLESS_VARIABLE.fullmatch(found[1]) and _HARMLESS_VALUE.fullmatch(value)
                if not is_harmless or found[2] == "[" or recodes(self._text, [word.text]):
                    raise _Opaque("an assignment")
                self._assigned = True
                return
        self._words.append(word.text)

    # --- one word: XCU 2.2 (quoting) -----------------------------------------------------------------------------

    def _word(self) -> _Word:
        text, start = self._text, self._at
        out: list[str] = []
        quoted_from = -1
        size = 0
        while self._at < len(text) and text[self._at] not in _METACHARACTERS:
            char = text[self._at]
            if char in "'\"\\":
                piece = self._quoted(char)
                if text.startswith("\\\n", self._at - 2) and not piece and char == "\\":
                    continue
                quoted_from = size if quoted_from < 0 else quoted_from
            else:
                piece = self._bare(char, is_first=self._at == start)
            out.append(piece)
            size += len(piece)
        word = "".join(out)
        if word.startswith("~") and text[start] != "~":
            word = f"./{word}"  # a quoted tilde is a name
        return _Word(word, len(word) if quoted_from < 0 else quoted_from)

    def _quoted(self, char: str) -> str:
        text = self._text
        if char == "\\":
            self._at += 2
            if self._at > len(text):
                self._at = len(text)
                return "\\"
            after = text[self._at - 1]
            return "" if after == "\n" else after
        if char == "'":
            end = text.find("'", self._at + 1)
            if end < 0:
                raise _Broken
            piece = text[self._at + 1 : end]
            self._at = end + 1
            return piece
        return self._double_quoted()

    def _double_quoted(self) -> str:
        text = self._text
        out: list[str] = []
        self._at += 1
        while True:
            if self._at >= len(text):
                raise _Broken
            char = text[self._at]
            self._at += 1
            if char == '"':
                return "".join(out)
            if char == "\\" and self._at < len(text) and text[self._at] in '$`"\\\n':
                out.append("" if text[self._at] == "\n" else text[self._at])
                self._at += 1
            elif char == "`":
                raise _Opaque("a command substitution")
            elif char == "$" and text[self._at : self._at + 1] not in {"", "'", '"', *_PLAIN_AFTER_DOLLAR}:
                raise _Opaque("an expansion")
            else:
                out.append(char)

    def _bare(self, char: str, *, is_first: bool) -> str:
        text = self._text
        self._at += 1
        after = text[self._at : self._at + 1]
        if char == "`":
            raise _Opaque("a command substitution")
        if char == "$":
            if after and after not in _PLAIN_AFTER_DOLLAR:
                raise _Opaque("an expansion")
            return char
        alone = is_first and (not after or after in _METACHARACTERS)
        if char in "*?" or (char == "[" and not alone):
            raise _Opaque("a pattern that the shell expands")
        if char == "{" and not alone and not (is_first and after == "}"):
            raise _Opaque("a brace expansion")
        if char == "=" and is_first:
            raise _Opaque("an expansion (zsh reads =NAME as a path)")
        if char == "~":
            if is_first and after and after not in _METACHARACTERS and after != "/":
                raise _Opaque("another account's home")
            if not is_first and text[self._at - 2] in "=:":
                raise _Opaque("a home in the middle of a word")
        return char
