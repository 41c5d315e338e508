"""Protected fields and detectors in JSON and XML documents: what a reader would see is what is judged.

JSON is rewritten token by token (RFC 8259), so of a document of any size only one token is held. A string is decoded before it is
looked at, so an escape hides nothing; where it has to change it is written anew. XML is read by expat (no DTD of its own is accepted),
and the stretches of text that have to change are replaced in place.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from decimal import Decimal
from typing import Final
from xml.parsers import expat
from xml.sax.saxutils import escape

import msgspec

from ostiary.kernel.detect import Scanner
from ostiary.kernel.nets import Wanted, names_of
from ostiary.kernel.substitutes import Substitute
from ostiary.masking.counts import Counts
from ostiary.masking.plan import NO_MEANS, Means, text_substitute
from ostiary.model.connections import ProtectedField, Strategy
from ostiary.model.errors import OstiaryError

MAX_TOKEN: Final = 4 << 20
"""Bytes of one string: more is refused."""
MAX_DEPTH: Final = 256
UTF8_MARK: Final = b"\xef\xbb\xbf"
"""May stand before JSON, and readers pass over it: RFC 8259, 8.1."""
MAX_WHOLE_NUMBER: Final = Decimal(10) ** 40

_TOKEN: Final = re.compile(
    rb'[ \t\r\n\x1e]+|[{}\[\]:,]|"(?:[^"\\\x00-\x1f]++|\\(?:["\\/bfnrt]|u[0-9A-Fa-f]{4}))*+"|'
    rb"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?(?=[\s,\]}])|true|false|null"
)
_FLAT: Final = re.compile(
    rb'[ \t\r\n{}\[\]:,]++|"(?:[^"\\\x00-\x1f]++|\\(?:["\\/bfnrt]|u[0-9A-Fa-f]{4}))*+"|'
    rb"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?(?=[ \t\r\n,\]}:])|true|false|null"
)
ODD_NUMBER: Final = re.compile(rb"(?:^|[:,\[ \t\r\n\x1e\xbf])-?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+|(?<=\.0)0*(?=[ \t\r\n,\]}]|$))")
"""A number that may be a whole one in another spelling: `4.1e15`, `42.0`."""
_NUMBER_END: Final = re.compile(rb"-?[0-9][0-9.eE+-]*")
_PART: Final = re.compile(r"\*\*|\*|[^/]+")
_SPACE: Final = frozenset(b" \t\r\n\x1e")
_ELEMENT: Final = re.compile(rb"<(?:[A-Za-z_:\x80-\xff]|!--|!DOCTYPE[ \t\r\n]+(?!(?i:html)\b))")
"""XML that begins without saying so."""
_OF_PAGE: Final = re.compile(
    rb"(?i)<(?:!--|(?:html|head|body|title|meta|link|script|style|base|main|article|section|header|footer|nav|aside|div|span|p|a|b|i|em|strong|br|hr|img|svg|"
    rb"table|thead|tbody|tr|td|th|ul|ol|li|dl|h[1-6]|form|input|select|option|button|label|textarea|fieldset|iframe|template|noscript|pre|code|blockquote)\b)"
)
"""HTML that begins without saying so."""


class Unmaskable(OstiaryError):
    """A body must be masked and cannot be: it does not leave. The text says why, and quotes nothing of it."""


class Rule(msgspec.Struct, frozen=True):
    """One protected field, compiled."""

    parts: tuple[str, ...]
    """Keys on the way down, folded; `*`: any one, `**`: any number. Of XML the last may begin with `@`."""
    data_class: str
    strategy: Strategy
    substitute: Substitute | None
    """What makes partial masks, hashes and tokens."""


class Rules:
    """The protected fields of one connection."""

    __slots__ = ("_all", "_means", "_names", "json", "protects", "xml")

    def __init__(self, protect: Iterable[ProtectedField], means: Means = NO_MEANS) -> None:
        self._all = tuple(protect)
        self.protects = bool(self._all)
        """Whether there are any."""
        self._means = means
        self.json = tuple(_rule(field, 5, means) for field in self._all if field.place.startswith("json:"))
        self.xml = tuple(_rule(field, 4, means) for field in self._all if field.place.startswith("xml:"))

        self._names = _names_of(self.json)

    def __bool__(self) -> bool:
        return self.protects

    def check_text(self, text: bytes) -> None:
        """Refuse text that is no document and holds a protected field all the same, as JSON writes it: in a script, behind a prefix, in a call.

        Raises `Unmaskable`. It looks for the names alone: where a place ends in `*`, for the last name before it.
        """
        if self._names is not None and self._names.search(text) is not None:
            raise Unmaskable("a protected field in text that is no JSON")

    def take_for_xml(self, start: bytes, *, page: bool) -> bool:
        """Whether text that begins so is read as XML. Where fields of XML are protected, it need not say so; `page`: it says that it is HTML."""
        if start.startswith(b"<?xml"):
            return True
        return bool(self.xml) and _ELEMENT.match(start) is not None and not (page and _OF_PAGE.match(start) is not None)

    def hidden_from(self, clear: frozenset[str]) -> Rules:
        """Those whose class the reader may not see."""
        if not self._all or not any(field.data_class in clear for field in self._all):
            return self
        return Rules((field for field in self._all if field.data_class not in clear), self._means)


def _names_of(rules: tuple[Rule, ...]) -> re.Pattern[bytes] | None:
    r"""What finds the fields of these rules in any text: `"ssn":`, `'ssn' :`, `\"ssn\":`."""
    names = {next((part for part in reversed(rule.parts) if part not in ("*", "**")), "") for rule in rules} - {""}
    if not names:
        return None
    written = "|".join(re.escape(name) for name in sorted(names))
    return re.compile(rf"(?i)(?:\\*[\"']|&quot;|&#34;)(?:{written})(?:\\*[\"']|&quot;|&#34;)\s*:".encode())


def _rule(field: ProtectedField, start: int, means: Means) -> Rule:
    made = text_substitute(field.strategy, field.data_class, means)
    return Rule(parts_of(field.place[start:]), field.data_class, field.strategy, made)


def parts_of(place: str) -> tuple[str, ...]:
    """The parts of `/customers/*/ssn` (RFC 6901, with `*` and `**`) or of `//ssn`, `/a/b/@c` (a subset of XPath 1.0).

    All below a place, `/a/**`, is each thing right below it, whole.
    """
    written = place.replace("//", "/**/").strip("/").split("/")
    while written[-1] == "**":
        written[-1:] = [] if written[-2:-1] == ["**"] else ["*"]
    return tuple(part.replace("~1", "/").replace("~0", "~").casefold() for part in written)


States = frozenset[tuple[int, int]]


def _down(rules: tuple[Rule, ...], states: States, key: str) -> tuple[States, Rule | None]:
    """Where the rules stand below `key`, and the rule that names exactly that place, if one does."""
    following: set[tuple[int, int]] = set()
    hit: Rule | None = None
    waiting = list(states)
    key = key.casefold()
    while waiting:
        rule, at = waiting.pop()
        parts = rules[rule].parts
        if at >= len(parts):
            continue
        if parts[at] == "**":
            following.add((rule, at))
            waiting.append((rule, at + 1))
        elif parts[at] in ("*", key):
            if at + 1 == len(parts):
                hit = rules[rule]
            following.add((rule, at + 1))
    return frozenset(following), hit


def masked_text(text: str, rule: Rule) -> str | None:
    """What a rule leaves of a text; None: nothing."""
    match rule.strategy:
        case Strategy.NULL:
            return None
        case Strategy.PARTIAL | Strategy.HASH | Strategy.TOKEN:
            made = None if rule.substitute is None else rule.substitute.of(text.encode("utf-8", "surrogatepass"))
            return None if made is None else made.decode("utf-8", "replace")
        case Strategy.LAST4:
            return "*" * max(0, len(text) - 4) + text[-4:] if len(text) > 4 else "*" * len(text)
        case _:
            return "*" * len(text)


def starred(text: str, bits: int | Wanted, counts: Counts) -> str | None:
    """`text` with what the detectors find replaced, character by character; None: they find nothing."""
    raw = text.encode("utf-8", "surrogatepass")
    out = bytearray(raw)
    scanner = Scanner(raw, out, bits)
    if not bits or not raw or not scanner.scan(0, len(raw), 0):
        return None
    for name, number in zip(names_of(bits), scanner.counts, strict=True):
        counts.add(name, number)
    kept = bytes(new for old, new in zip(raw, out, strict=True) if old == new or old & 0xC0 != 0x80)
    return kept.decode("utf-8", "replace")


class _Level:
    """One array or object that is open."""

    __slots__ = ("forced", "index", "is_object", "key", "states", "wants")

    def __init__(self, states: States, forced: Rule | None, *, is_object: bool) -> None:
        self.states = states
        self.forced = forced
        self.is_object = is_object
        self.index = 0
        self.key = ""
        self.wants = "key or end" if is_object else "value or end"


class JsonMasker:
    """Rewrites one JSON text, or JSON texts one a line, as it comes."""

    def __init__(self, bits: int | Wanted, rules: Rules, counts: Counts, *, lines: bool = False) -> None:
        self._bits = bits
        self._rules = rules.json
        self._counts = counts
        self._lines = lines
        self._held = b""
        self._begun = False
        self._stack: list[_Level] = []
        self._wants = "value"
        self._root: States = frozenset((rule, 0) for rule in range(len(self._rules)))

    def feed(self, data: bytes, *, final: bool) -> bytes:
        """Take in more; give back what is masked. Raises `Unmaskable` for what is not JSON."""
        if self._held[:1] == b'"' and b'"' not in data and not final:
            self._held += data  # a string that does not end yet is not looked at again and again
            self._check_size()
            return b""
        data = self._held + data
        if not (self._begun or final) and UTF8_MARK.startswith(data):
            self._held = data
            return b""
        if final:
            data += b"\n"  # ends a number at the top, and is taken off again
        out: list[bytes] = []
        at, end = 0 if self._begun or not data.startswith(UTF8_MARK) else len(UTF8_MARK), len(data)
        out.append(data[:at])
        self._begun = True
        while at < end:
            found = _TOKEN.match(data, at)
            if found is None or (found.end() == end and not final and data[at] not in b'{}[]:," \t\r\n'):
                if final or not _may_go_on(data, at):
                    raise Unmaskable("a body that is not JSON")
                break
            token = found[0]
            at = found.end()
            out.append(self._space(token) if token[0] in _SPACE else self._token(token))
        self._held = data[at:]
        self._check_size()
        if final and (self._stack or (self._wants == "value" and not self._lines)):
            raise Unmaskable("a body that ends in the middle of JSON")
        whole = b"".join(out)
        return whole[:-1] if final else whole

    def _space(self, token: bytes) -> bytes:
        if b"\x1e" in token and (self._stack or not self._lines):  # RFC 7464: it begins a text of a sequence
            raise Unmaskable("a body that is not JSON")
        return token

    def _check_size(self) -> None:
        if len(self._held) > MAX_TOKEN:
            raise Unmaskable(f"JSON with a string of more than {MAX_TOKEN >> 20} MiB")

    def _token(self, token: bytes) -> bytes:
        level = self._stack[-1] if self._stack else None
        wants = self._wants if level is None else level.wants
        first = token[:1]
        if first in b"}]":
            return self._end(level, token, wants)
        if first == b",":
            if level is None or wants != "comma or end":
                raise Unmaskable("a body that is not JSON")
            level.index += 1
            level.wants = "key" if level.is_object else "value"
            return token
        if first == b":":
            if level is None or wants != "colon":
                raise Unmaskable("a body that is not JSON")
            level.wants = "value"
            return token
        if level is not None and wants in ("key", "key or end"):
            return self._key(level, token)
        if wants not in ("value", "value or end"):
            raise Unmaskable("a body that is not JSON")
        return self._value(level, token)

    def _end(self, level: _Level | None, token: bytes, wants: str) -> bytes:
        fits = level is not None and level.is_object == (token == b"}")
        if not fits or wants not in ("comma or end", "key or end", "value or end"):
            raise Unmaskable("a body that is not JSON")
        self._stack.pop()
        self._after()
        return token

    def _after(self) -> None:
        if self._stack:
            self._stack[-1].wants = "comma or end"
        else:
            self._wants = "value" if self._lines else "end"

    def _key(self, level: _Level, token: bytes) -> bytes:
        if token[:1] != b'"':
            raise Unmaskable("a body that is not JSON")
        level.key = _decoded(token)
        level.wants = "colon"
        shown = starred(level.key, self._bits, self._counts)
        return token if shown is None else msgspec.json.encode(shown)

    def _value(self, level: _Level | None, token: bytes) -> bytes:
        states, hit = (self._root, None) if level is None else self._below(level)
        if token in (b"{", b"["):
            if len(self._stack) >= MAX_DEPTH:
                raise Unmaskable(f"JSON nested more than {MAX_DEPTH} deep")
            self._stack.append(_Level(states, hit, is_object=token == b"{"))
            return token
        self._after()
        if hit is not None:
            return self._hidden(token, hit)
        if token[:1] == b'"':
            shown = starred(_decoded(token), self._bits, self._counts)
            return token if shown is None else msgspec.json.encode(shown)
        if token[:1] in b"-0123456789" and starred(plain_number(token), self._bits, self._counts) is not None:
            return b"null"
        return token

    def _below(self, level: _Level) -> tuple[States, Rule | None]:
        if level.forced is not None:
            return level.states, level.forced
        if not self._rules:
            return level.states, None
        return _down(self._rules, level.states, level.key if level.is_object else str(level.index))

    def _hidden(self, token: bytes, rule: Rule) -> bytes:
        if token == b"null":
            return token
        self._counts.add(rule.data_class)
        if token[:1] != b'"':
            return b"null"
        shown = masked_text(_decoded(token), rule)
        return b"null" if shown is None else msgspec.json.encode(shown)


def plain_number(token: bytes) -> str:
    """A number as a reader would write it, where it is a whole one of at most 40 digits; else as it stands."""
    text = token.decode()
    if token.isdigit() or not ("." in text or "e" in text or "E" in text):
        return text
    mantissa, _, exponent = text.lower().partition("e")
    if len(exponent) > 3 or len(mantissa) > 64:
        return text
    number = Decimal(text)
    return str(int(number)) if number == number.to_integral_value() and abs(number) < MAX_WHOLE_NUMBER else text


def mask_tokens(data: bytes, bits: int | Wanted, counts: Counts) -> tuple[bytes, bytes]:
    """(masked, what is left: a token that has not ended) of a piece of JSON that begins with a token, where no field is protected.

    Strings and numbers are judged one by one; how they are nested matters to no detector, so nothing of it is kept. Raises `Unmaskable`.
    """
    out: list[bytes] = []
    at, end = 0, len(data)
    while at < end:
        found = _FLAT.match(data, at)
        if found is None:
            if not _may_go_on(data, at):
                raise Unmaskable("a body that is not JSON")
            break
        token = found[0]
        at = found.end()
        first = token[0]
        if first == 0x22:
            shown = starred(_decoded(token), bits, counts)
            out.append(token if shown is None else msgspec.json.encode(shown))
        elif first in b"-0123456789" and starred(plain_number(token), bits, counts) is not None:
            out.append(b"null")
        else:
            out.append(token)
    return b"".join(out), data[at:]


def _decoded(token: bytes) -> str:
    if b"\\" not in token:
        try:
            return token[1:-1].decode()
        except UnicodeDecodeError:
            raise Unmaskable("JSON that is not UTF-8") from None
    try:
        return msgspec.json.decode(token, type=str)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise Unmaskable("JSON with a string that cannot be read") from None


def _may_go_on(data: bytes, at: int) -> bool:
    """Whether what begins at `at` may become a token once more is here."""
    first = data[at]
    if first == 0x22:
        return True
    rest = data[at : at + 64]
    if first in b"-0123456789":
        return _NUMBER_END.fullmatch(data, at) is not None
    return any(word.startswith(rest) for word in (b"true", b"false", b"null")) or first in _SPACE


# --- XML --------------------------------------------------------------------------------------------------------------


class _Run:
    """A stretch of text between two tags: all that a reader would join."""

    __slots__ = ("hidden", "pieces", "start")

    def __init__(self, start: int, hidden: Rule | None) -> None:
        self.start = start
        self.hidden = hidden
        self.pieces: list[str] = []


class _XmlReader:
    """Walks a document by expat and notes what has to be replaced: (start, end, new bytes)."""

    def __init__(self, data: bytes, bits: int | Wanted, rules: tuple[Rule, ...], counts: Counts) -> None:
        self._data = data
        self._bits = bits
        self._rules = rules
        self._counts = counts
        self._stack: list[tuple[States, Rule | None]] = [(frozenset((n, 0) for n in range(len(rules))), None)]
        self._run: _Run | None = None
        self.edits: list[tuple[int, int, bytes]] = []
        parser = expat.ParserCreate()
        self._parser = parser
        parser.buffer_text = False
        parser.ordered_attributes = True
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._text
        parser.CommentHandler = self._comment
        parser.ProcessingInstructionHandler = self._instruction
        parser.StartDoctypeDeclHandler = self._doctype

    def read(self) -> None:
        try:
            self._parser.Parse(self._data, True)
        except expat.ExpatError:
            raise Unmaskable("a body that is not XML") from None

    def _doctype(self, *_: object) -> None:
        raise Unmaskable("XML with a document type of its own")

    def _start(self, name: str, attributes: list[str]) -> None:
        at = self._parser.CurrentByteIndex
        self._finish(at)
        states, forced = self._stack[-1]
        below, hit = (states, forced) if forced is not None else _down(self._rules, states, name.rpartition(":")[2])
        if len(self._stack) > MAX_DEPTH:
            raise Unmaskable(f"XML nested more than {MAX_DEPTH} deep")
        self._stack.append((below, hit))
        if attributes:
            self._attributes(at, attributes, below, hit)

    def _attributes(self, at: int, attributes: list[str], states: States, forced: Rule | None) -> None:
        """Replace a start tag whose attributes have to change; it is written anew."""
        shown: list[str] = []
        changed = False
        for name, value in zip(attributes[::2], attributes[1::2], strict=True):
            hit = forced or _down(self._rules, states, "@" + name.rpartition(":")[2])[1]
            new = self._new(value, hit)
            changed = changed or new is not None
            shown += [name, value if new is None else new]
        if not changed:
            return
        end = _tag_end(self._data, at)
        tag = self._data[at + 1 : end].split(None, 1)[0].rstrip(b"/>")
        written = [
            b' %b="%b"' % (self._name(key), _escaped(text, {'"': "&quot;", "\t": "&#9;", "\n": "&#10;", "\r": "&#13;"}))
            for key, text in zip(shown[::2], shown[1::2], strict=True)
        ]
        close = b"/>" if self._data[end - 2 : end] == b"/>" else b">"
        self.edits.append((at, end, b"<%b%b%b" % (tag, b"".join(written), close)))

    def _name(self, text: str) -> bytes:
        """An attribute's name as the document writes it: only in UTF-8 is that known of one that is not ASCII."""
        name = text.encode()
        if not text.isascii() and name not in self._data:
            raise Unmaskable("XML with names that are neither ASCII nor UTF-8")
        return name

    def _new(self, text: str, hit: Rule | None) -> str | None:
        if hit is not None:
            if not text.strip():
                return None
            self._counts.add(hit.data_class)
            return masked_text(text, hit) or ""
        return starred(text, self._bits, self._counts)

    def _text(self, text: str) -> None:
        if self._run is None:
            self._run = _Run(self._parser.CurrentByteIndex, self._stack[-1][1])
        self._run.pieces.append(text)

    def _end(self, _: str) -> None:
        self._finish(self._parser.CurrentByteIndex)
        self._stack.pop()

    def _comment(self, text: str) -> None:
        self._check_aside(text)
        if starred(text, self._bits, Counts()) is not None:
            raise Unmaskable("a sensitive value in a comment")

    def _check_aside(self, text: str) -> None:
        """Refuse what stands beside a protected element's text, and may be it."""
        if self._stack[-1][1] is not None and text.strip():
            raise Unmaskable("a comment or a processing instruction in a protected element")

    def _instruction(self, target: str, text: str) -> None:
        self._check_aside(text)
        if starred(f"{target} {text}", self._bits, Counts()) is not None:
            raise Unmaskable("a sensitive value in a processing instruction")

    def _finish(self, at: int) -> None:
        run, self._run = self._run, None
        if run is None:
            return
        new = self._new("".join(run.pieces), run.hidden)
        if new is not None:
            start = run.start
            # A run that begins in CDATA is noted behind its mark: the mark goes too.
            if self._data[max(0, start - 9) : start] == b"<![CDATA[":
                start -= 9
            self.edits.append((start, at, _escaped(new, {"\r": "&#13;"})))


def _escaped(text: str, more: dict[str, str]) -> bytes:
    """Text for a document in whatever encoding of ASCII and more."""
    return escape(text, more).encode("ascii", "xmlcharrefreplace")


def _tag_end(data: bytes, at: int) -> int:
    """Where the start tag at `at` ends: behind the first `>` outside quotation marks."""
    quote = 0
    for place in range(at, len(data)):
        byte = data[place]
        if quote:
            quote = 0 if byte == quote else quote
        elif byte in (0x22, 0x27):
            quote = byte
        elif byte == 0x3E:
            return place + 1
    raise Unmaskable("a body that is not XML")


def mask_xml(data: bytes, bits: int | Wanted, rules: Rules, counts: Counts) -> bytes:
    """A whole document, masked. Raises `Unmaskable`."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in data:
        raise Unmaskable("XML that is not UTF-8")
    reader = _XmlReader(data, bits, rules.xml, counts)
    reader.read()
    if not reader.edits:
        return data
    out: list[bytes] = []
    at = 0
    for start, end, new in reader.edits:
        if start < at:
            raise Unmaskable("XML whose text cannot be told from its tags")
        out += [data[at:start], new]
        at = end
    return b"".join([*out, data[at:]])
