r"""Answers of HTTP services: heads, and bodies of the media types that can be looked through.

Theory of operation
-------------------
A `ReplyMasker` belongs to one answer. It is given the head, pieces of the body, and the end, and gives back what may be recorded and
sent. What it does with a body is one of these (`_Body`):

* **pass**: nothing is looked for, or the operator named the media type (`pass_types`);
* **text**: the detectors, over windows that overlap, so that no cut hides a value;
* **JSON**: as text where nothing has to be taken apart (no protected fields, no escapes, nothing found), else token by token,
  every string judged as it reads once decoded; protected fields by JSON Pointer;
* **XML**: read by expat, so that character references, CDATA and comments cannot take a value apart;
* anything else is refused: a body that must be masked and cannot be does not leave.

A value can be written so that the detectors do not see it and the reader does: `&#48;`, `\u0030`, `%30`, `=30`. Such spellings are
written out and looked at too (`spelled_out`); where that shows more than the plain look, the body is withheld.

A body is held back until it is whole or `MAX_HELD` bytes of it are here; so of most answers the length is known, and a body that turns
out to be unfit is refused with a status of its own, and not cut off half-way. **Not covered**: values inside of images, archives and
encrypted or base64-encoded data; by default such bodies are refused.
"""

from __future__ import annotations

import html
import re
import zlib
from collections.abc import Callable
from http import HTTPStatus
from typing import Final, cast

from ostiary.kernel.detect import Scanner
from ostiary.kernel.nets import Wanted, names_of
from ostiary.kernel.websocket import BINARY, CLOSE, TEXT, frame
from ostiary.masking.concealed import Concealer
from ostiary.masking.counts import Counts
from ostiary.masking.detectors import wanted
from ostiary.masking.documents import (
    MAX_TOKEN,
    ODD_NUMBER,
    UTF8_MARK,
    JsonMasker,
    Rules,
    Unmaskable,
    mask_tokens,
    mask_xml,
)
from ostiary.masking.events import Events
from ostiary.masking.spelled import SPELLED, spelled_out
from ostiary.model.connections import Look
from ostiary.model.nouns import Noun
from ostiary.model.proofs import HTTP_BODY, HTTP_HEAD, Content, Masked
from ostiary.model.results import ReplyEnd, ReplyHead, SocketMessage

MAX_HELD: Final = 256 * 1024
"""Bytes of a body that are held back before it is sent piece by piece."""
MAX_WHOLE: Final = 8 << 20
"""Bytes of a body that can only be masked whole (XML): more is refused."""
MAX_DECODED: Final = 256 << 20
"""Bytes that a compressed body may come to."""
MAX_RATIO: Final = 200
"""How much larger a compressed body may become. DEFLATE reaches 1,032; what people send stays under 100."""
OVERLAP: Final = 4096
"""Bytes that are looked at again with what follows: longer than anything that a detector finds, but for private keys."""
CONTEXT: Final = 64

_TEXT: Final = re.compile(
    r"text/.*|application/(?:.*\+)?json|application/(?:x-)?(?:ndjson|jsonlines|json-seq|problem)|application/(?:.*\+)?xml|"
    r"application/(?:x-www-form-urlencoded|javascript|ecmascript|graphql|graphql-response|yaml|x-yaml|toml|sql|csv|x-sh)|"
    r"multipart/.*|message/.*|image/svg\+xml"
)
_IMAGES: Final = {
    "image/png": (b"\x89PNG\r\n\x1a\n",),
    "image/jpeg": (b"\xff\xd8\xff",),
    "image/gif": (b"GIF87a", b"GIF89a"),
    "image/webp": (b"RIFF",),
    "image/x-icon": (b"\0\0\1\0",),
    "font/woff2": (b"wOF2",),
    "font/woff": (b"wOFF",),
}
"""Media types that pass if their bytes are what they say and the detectors find nothing in them."""
_CHARSETS: Final = re.compile(r"utf-?8|us-ascii|ascii|iso-8859-\d{1,2}|latin-?1|windows-125\d", re.IGNORECASE)
_WIDE: Final = (b"\xff\xfe", b"\xfe\xff", b"\0\0\xfe\xff")
_DIGESTS: Final = frozenset({
    b"content-md5", b"digest", b"repr-digest", b"content-digest", b"etag", b"last-modified", b"x-amz-crc32", b"x-amz-checksum-type",
    *(b"x-amz-checksum-" + each for each in (b"crc32", b"crc32c", b"crc64nvme", b"sha1", b"sha256", b"sha512", b"md5")),
})  # fmt: skip
"""What tells something of a body that was changed."""
_FIRST_LINES: Final = {status.value: b"HTTP/1.1 %d %b\r\n" % (status.value, status.phrase.encode()) for status in HTTPStatus}
"""A target's own words could hold anything, so they are not passed on: RFC 9112, 4."""
_LEADING: Final = frozenset({b"location", b"content-location", b"refresh", b"link"})
_PASSWORD: Final = re.compile(rb"(?i)([?&;#](?:access_|refresh_|id_|auth_|api_?)?(?:token|key|secret|password|signature|sig|code)=)[^&;#\s]+")
_ENCODED_PART: Final = re.compile(rb"(?im)^content-(?:transfer-encoding:[ \t]*+(?!7bit|8bit|binary)|encoding:)")
_BEFORE_JSON: Final = re.compile(rb"(?:\xef\xbb\xbf|[\x1e \t\r\n])*")
"""A mark of UTF-8, and what separates texts of a sequence: RFC 7464, 2.1."""
_RANGE: Final = re.compile(rb"[ \t]*bytes[ \t]+([0-9]{1,15})-")
MAX_HEADS: Final = 64
"""Heads of a service that are kept as they left."""
MAX_CLEAN: Final = 128
CLEAN: Final = 1024
_CLEAN: Final[set[tuple[bytes, int | Wanted]]] = set()
"""Values of header fields, up to so many bytes and so many of them, in which the built-in detectors of those bits found nothing: services say the same again and again."""

_REPLACED: Final = frozenset({b"accept-ranges", b"cache-control", b"expires", b"pragma", b"age"})
"""Where masking is on, an answer is one person's, and comes whole."""


class Left(Noun):
    """A head, as what it left, and what that hung on."""

    __slots__ = ("bits", "changed", "head", "masked", "rules", "unpacked")

    def __init__(self, head: ReplyHead, bits: int | Wanted, rules: Rules, changed: bool, unpacked: bool, masked: Masked) -> None:
        self.head: Final = head
        self.bits: Final = bits
        """What was looked for."""
        self.rules: Final = rules
        """What was protected."""
        self.changed: Final = changed
        """The body is another."""
        self.unpacked: Final = unpacked
        self.masked: Final = masked


class Released:
    """The last heads of one service's answers that left, and as what, where nothing was counted in them: they come again and again."""

    __slots__ = ("_known", "_last")

    def __init__(self) -> None:
        self._known: dict[int, Left] = {}
        self._last: Left | None = None
        """The one that was found or kept last."""

    def find(self, head: ReplyHead, bits: int | Wanted, rules: Rules, changed: bool, unpacked: bool) -> Masked | None:
        """As what this very head left, where the same was looked for and protected, and the body was as much another, and unpacked."""
        kept = self._last
        if kept is None or kept.head is not head:
            kept = self._known.get(id(head))
            if kept is None or kept.head is not head:
                return None
            self._last = kept
        same = (bits is kept.bits or bits == kept.bits) and rules is kept.rules and changed == kept.changed and unpacked == kept.unpacked
        return kept.masked if same else None

    def keep(self, left: Left) -> None:
        """Know it from now on, and forget the one that was kept first. The head is kept with it, so its identity is no other's."""
        if len(self._known) >= MAX_HEADS:
            del self._known[next(iter(self._known))]
        self._known[id(left.head)] = self._last = left


class ReplyMasker:
    """Masks one answer. `length` and `has_body` are known once the first `Masked` was handed out."""

    __slots__ = (
        "_all", "_bits", "_body", "_concealer", "_counts", "_detect", "_head", "_looked", "_passes", "_rules", "conceals", "has_body", "length",
        "released",
    )  # fmt: skip

    def __init__(self, detect: Look, rules: Rules, passes: frozenset[str], bits: int | Wanted | None = None) -> None:
        """`detect`: detectors; `rules`: protected fields; `passes`: media types that go through as they are; `bits`: `wanted(detect)`, if it is known."""
        self._detect = detect
        self._all = rules
        self._bits = wanted(detect) if bits is None else bits
        self._rules = rules
        self._passes = passes
        self._counts = Counts()
        self._head: ReplyHead | None = None
        self._body: _Body | None = None
        self.conceals: Callable[[], tuple[bytes, ...]] | None = None
        """The service's own credential, in its spellings, as soon as it was shown: no answer hands it out."""
        self._concealer: Concealer | None = None
        """None: there is nothing to conceal, or nobody has asked yet."""
        self._looked = False
        """It was asked whether there is."""
        self.released: Released | None = None
        """Heads of that service that left before, if they are kept."""
        self.length: int | None = None
        self.has_body = False

    def show(self, clear: frozenset[str]) -> None:
        """From now on classes and detectors in `clear` are not masked: the permit shows them. Without this nothing is shown."""
        if clear or self._rules is not self._all:
            self._bits = wanted(self._detect, clear)
            self._rules = self._all.hidden_from(clear)

    def mask(self, part: ReplyHead | bytes | SocketMessage | ReplyEnd) -> list[Masked]:
        """Take a part in; what may leave. Raises `Unmaskable`."""
        if not self._looked:
            self._looked = True
            if self.conceals is not None and (told := self.conceals()):
                self._concealer = Concealer(told)
        found = self._masked(part)
        concealer = self._concealer
        if concealer is None or not concealer.is_needed:
            return found
        made: list[Masked] = []
        for masked in found:
            streams = masked.content is HTTP_BODY
            shown = concealer.feed(masked.frames, final=False) if streams else concealer.whole(masked.frames)
            counts = masked.counts + concealer.taken()
            if shown or counts or not streams:
                made.append(Masked(shown, masked.content, masked.rows, counts))
        if isinstance(part, ReplyEnd) and (rest := concealer.feed(b"", final=True)):
            made.append(Masked(rest, HTTP_BODY, 0, concealer.taken()))
        return made

    def _looks(self) -> bool:
        """Whether anything is looked for."""
        return bool(self._bits) or self._rules.protects

    def _masked(self, part: ReplyHead | bytes | SocketMessage | ReplyEnd) -> list[Masked]:
        if isinstance(part, bytes):
            return self._give(part, False)
        if isinstance(part, ReplyHead):
            return self._begun(part)
        if type(part) is ReplyEnd:
            return self._give(b"", True)
        said = cast(SocketMessage, part)
        return [Masked(frame(said.opcode, self._message(said)), Content.SOCKET, 0, self._counts.taken())]

    def _begun(self, head: ReplyHead) -> list[Masked]:
        self._head, self.has_body, self.length = head, head.has_body, head.length
        body: _Body
        try:
            body = self._choose(head)
        except Unmaskable as exc:
            if head.length is not None:
                raise
            body = _Empty(exc)  # of a chunked body nobody knows yet whether there is any
        self._body = body
        return [self._release(not head.has_body and head.of_read)] if body is _PASS or body.passes or not head.has_body else []

    def _message(self, said: SocketMessage) -> bytes:
        """A WebSocket's message, as it may be seen."""
        data = said.data
        if not self._looks():
            return data
        if said.opcode == TEXT:
            return self._text(data)
        if said.opcode == BINARY:
            if "application/octet-stream" in self._passes:
                return data
            raise Unmaskable("a binary message of a WebSocket")
        if not scanned(data, self._bits, Counts())[1] and not hides(data, self._bits):
            return data
        if said.opcode == CLOSE:
            return data[:2]
        raise Unmaskable("a sensitive value in a ping of a WebSocket")

    def _text(self, data: bytes) -> bytes:
        """A message, an event or a line: JSON where it reads so, behind what may stand before a text of it; else text."""
        start = _BEFORE_JSON.match(data).end()  # type: ignore[union-attr]  # it matches nothing at the least
        told = data[start:]
        document = told[:1] in (b"{", b"[")
        if document or ODD_NUMBER.match(told) is not None:
            try:
                body = _Json(self._bits, self._rules, self._counts) if self._rules else _FlatJson(self._bits, self._counts)
                return data[:start] + (body.feed(told, final=True) or b"")
            except Unmaskable:
                if self._rules and document:
                    raise
        return _Text(self._bits, self._counts, self._rules, multipart=False).feed(data, final=True) or b""

    def _give(self, data: bytes, final: bool) -> list[Masked]:
        body = self._body
        if body is None:
            raise Unmaskable("a body before its head")
        given: list[Masked] = []
        out: bytes | None
        if body is _PASS:
            if data or self._counts.any():
                given.append(Masked(data, HTTP_BODY, 0, self._counts.taken()))
            return given
        out = body.feed(data, final=final)
        if out is None:
            return given
        if self._head is not None:
            if final:
                self.length = len(out)
            elif not body.passes:
                self.length = None
            given.append(self._release(body.changed or not final))
        if out or self._counts.any():
            given.append(Masked(out, HTTP_BODY, 0, self._counts.taken()))
        return given

    def _release(self, changed: bool) -> Masked:
        """The head; `changed`: what it says of the bytes of the body may no longer hold."""
        head = self._head
        if head is None:
            raise Unmaskable("a head twice")
        self._head = None
        bits, rules, unpacked = self._bits, self._rules, self._body is not _PASS and isinstance(self._body, _Unpacked)
        released = self.released
        if released is None or rules is not self._all or self._counts.any():
            return self._written(head, changed, unpacked)
        found = released.find(head, bits, rules, changed, unpacked)
        if found is None:
            found = self._written(head, changed, unpacked)
            if not found.counts:
                released.keep(Left(head, bits, rules, changed, unpacked, found))
        return found

    def _written(self, head: ReplyHead, changed: bool, unpacked: bool) -> Masked:
        """The head, masked. It hangs on nothing but what is given here, on what is looked for and protected, and on the kind of masker."""
        lines: list[bytes] = [_FIRST_LINES.get(head.status) or b"HTTP/1.1 %d Status\r\n" % head.status]
        masking = self._looks()
        for name, value in head.headers:
            lower = name.lower()
            if masking or unpacked:
                told = changed and lower in _DIGESTS and (head.has_body or not self._kept(lower))
                if told or (masking and lower in _REPLACED) or (unpacked and lower == b"content-encoding"):
                    continue
            lines.append(name)
            lines.append(b": ")
            lines.append(self._value(lower, value))
            lines.append(b"\r\n")
        if masking:
            lines.append(b"Cache-Control: private, no-store\r\nVary: Authorization\r\n")
        return Masked(b"".join(lines), HTTP_HEAD, 0, self._counts.taken())

    def _kept(self, name: bytes) -> bool:
        """Whether an answer without a body tells of it, though it is one of the digests of what GET would mask."""
        del name
        return False

    def _value(self, name: bytes, value: bytes) -> bytes:
        """A header's value, as it may be seen."""
        if name == b"sec-websocket-accept":  # ours
            return value
        if name in _LEADING:
            value = _PASSWORD.sub(rb"\1***", value)
        bits = self._bits
        if not bits or (value, bits) in _CLEAN:
            return value
        starred, found = scanned(value, bits, self._counts)
        if hides(value, bits, starred):
            return b"***"
        if not found and isinstance(bits, int) and len(value) <= MAX_CLEAN:
            if len(_CLEAN) >= CLEAN:
                _CLEAN.clear()
            _CLEAN.add((value, bits))
        return starred

    def _choose(self, head: ReplyHead) -> _Body:
        """What to do with the body. Raises `Unmaskable` where nothing can be done."""
        if not head.has_body or head.length == 0:
            return _PASS
        if not self._looks():
            return self._seen_through(head)
        kind, charset = _media_type(head)
        if kind in self._passes:
            return _PASS
        coding = _coding(head)
        if kind in _IMAGES and not coding:
            return _Guarded(self._bits, self._counts, _IMAGES[kind])
        if _TEXT.fullmatch(kind) is None:
            raise Unmaskable(f"a body of the type {kind or 'that nobody names'}")
        if charset and _CHARSETS.fullmatch(charset) is None:
            raise Unmaskable(f"text in the character set {charset}")
        body = self._reader(kind)
        return _Unpacked(body, coding) if coding else body

    def _seen_through(self, head: ReplyHead) -> _Body:
        """A body in which nothing is looked for but the service's own credential."""
        if self._concealer is None or not self._concealer.is_needed:
            return _PASS
        if head.status == 206:
            self._concealer.cut(_first_byte(head), head.length)
        packed = any(name.lower() == b"content-encoding" for name, _ in head.headers) and _media_type(head)[0] not in self._passes
        coding = _coding(head) if packed else ""
        return _Unpacked(_PASS, coding) if coding else _PASS

    def _reader(self, kind: str) -> _Body:
        if kind.endswith(("/xml", "+xml")) and kind != "application/xhtml+xml":
            return _Xml(self._bits, self._rules, self._counts)
        lines = "ndjson" in kind or "jsonlines" in kind or "json-seq" in kind
        if lines or kind.endswith(("/json", "+json")):
            flat = _Lines(self._bits, self._text) if lines else _FlatJson(self._bits, self._counts)
            return _Json(self._bits, self._rules, self._counts, lines=lines) if self._rules else flat
        if kind == "text/event-stream":
            return _Events(self._text)
        if self._rules and kind not in ("text/html", "text/plain", "text/css", "text/javascript"):
            raise Unmaskable(f"protected fields in a body of the type {kind}")
        text = _Text(self._bits, self._counts, self._rules, multipart=kind.startswith(("multipart/", "message/")))
        return _Sniffed(text, self._reader, self._rules, page=kind == "text/html") if self._rules else text


def _media_type(head: ReplyHead) -> tuple[str, str]:
    found = [value for name, value in head.headers if name.lower() == b"content-type"]
    if len(found) > 1:
        raise Unmaskable("more than one Content-Type")
    text = found[0].decode("latin-1") if found else ""
    kind, *parameters = [part.strip() for part in text.split(";")]
    charsets = {part.partition("=")[2].strip().strip("\"'") for part in parameters if part.lower().startswith("charset")}
    if len(charsets) > 1:
        raise Unmaskable("more than one character set")
    return kind.lower(), charsets.pop() if charsets else ""


def _first_byte(head: ReplyHead) -> int:
    """Where the part of a body begins that an answer is: RFC 9110, 14.4. -1: it does not say."""
    said = [value for name, value in head.headers if name.lower() == b"content-range"]
    found = _RANGE.match(said[0]) if len(said) == 1 else None
    return -1 if found is None else int(found[1])


def _coding(head: ReplyHead) -> str:
    codings = [
        part.strip().lower()
        for name, value in head.headers
        if name.lower() == b"content-encoding"
        for part in value.decode("latin-1").split(",")
    ]
    codings = [coding for coding in codings if coding not in ("", "identity")]
    if not codings:
        return ""
    if len(codings) > 1 or codings[0] not in ("gzip", "x-gzip", "deflate"):
        raise Unmaskable(f"a body encoded as {', '.join(codings)}")
    return codings[0]


class _Body:
    """How one body is looked through: `feed` returns what may leave, None while all is held back."""

    passes = False
    changed = False

    def feed(self, data: bytes, *, final: bool) -> bytes | None:
        """Take in more."""
        raise NotImplementedError


class _Pass(_Body):
    passes = True

    def feed(self, data: bytes, *, final: bool) -> bytes | None:
        del final
        return data


_PASS: Final = _Pass()


class _Empty(_Body):
    """A body that may not leave, if there is one."""

    def __init__(self, why: Unmaskable) -> None:
        self._why = why

    def feed(self, data: bytes, *, final: bool) -> bytes | None:
        if data:
            raise self._why
        return b"" if final else None


class _Unpacked(_Body):
    """A compressed body, unpacked within bounds: RFC 9110, 8.4.1."""

    changed = True

    def __init__(self, inner: _Body, coding: str) -> None:
        self._inner = inner
        # 47: gzip or zlib by its header. "deflate" without a header is not spoken.
        self._zlib = zlib.decompressobj(47 if coding != "deflate" else 15)
        self._packed = 0
        self._size = 0

    def feed(self, data: bytes, *, final: bool) -> bytes | None:
        self._packed += len(data)
        out: list[bytes] = []
        held = True
        while data:
            try:
                plain = self._zlib.decompress(data, MAX_HELD)
            except zlib.error:
                raise Unmaskable("a body that is not what its Content-Encoding says") from None
            data = self._zlib.unconsumed_tail
            self._size += len(plain)
            if (self._size > MAX_DECODED and not self._inner.passes) or self._size > MAX_HELD + MAX_RATIO * self._packed:
                raise Unmaskable("a body that grows beyond measure when it is unpacked")
            if self._zlib.unused_data:
                raise Unmaskable("bytes behind the end of a compressed body")
            given = self._inner.feed(plain, final=False)
            if given is not None:
                held = False
                out.append(given)
        if final:
            if self._packed and not self._zlib.eof:
                raise Unmaskable("a compressed body that ends too early")
            given = self._inner.feed(b"", final=True)
            return b"".join([*out, given or b""])
        return None if held else b"".join(out)


class _Guarded(_Body):
    """Bytes that are an image: they pass as they are, or not at all."""

    def __init__(self, bits: int | Wanted, counts: Counts, magic: tuple[bytes, ...]) -> None:
        self._bits = bits
        self._counts = counts
        self._magic = magic
        self._held = b""
        self._tail = b""
        self._begun = False

    def feed(self, data: bytes, *, final: bool) -> bytes | None:
        self._held += data
        if not final and len(self._held) < MAX_HELD:
            return None
        if not self._begun and self._held and not self._held.startswith(self._magic):
            raise Unmaskable("a body that is not what its Content-Type says")
        self._begun = True
        if self._bits and scanned(self._tail + self._held, self._bits, self._counts)[1]:
            raise Unmaskable("an image with a sensitive value in it")
        out, self._held = self._held, b""
        self._tail = out[-OVERLAP:]
        return out


class _Text(_Body):
    """The detectors, over windows that overlap."""

    def __init__(self, bits: int | Wanted, counts: Counts, rules: Rules, *, multipart: bool) -> None:
        self._bits = bits
        self._counts = counts
        self._rules = rules
        self._multipart = multipart
        self._held = b""
        self._before = b""

    def feed(self, data: bytes, *, final: bool) -> bytes | None:
        self._held += data
        if not final and len(self._held) < MAX_HELD:
            return None
        return self._window(final=final)

    def _window(self, *, final: bool) -> bytes:
        _check_text(self._before, self._held, multipart=self._multipart)
        whole = self._before + self._held
        if self._rules:
            for written in (whole, *spelled_out(whole)):
                self._rules.check_text(written)
        start = len(self._before)
        out, found = scanned(whole, self._bits, self._counts if final else Counts())
        check_spellings(whole, self._bits, out)
        end = len(whole)
        if not final:
            if b"-----BEGIN " in whole and b"PRIVATE KEY" in whole:
                raise Unmaskable("a private key in a body too large to be held")
            end = _quiet(whole, out, len(whole) - OVERLAP)
            Counts.add_found(self._counts, whole[:end], self._bits)
        self.changed = self.changed or found > 0
        self._before, self._held = whole[max(0, end - CONTEXT) : end], whole[end:]
        return out[start:end]


def _quiet(whole: bytes, out: bytes, at: int) -> int:
    """A place at or before `at` where no match goes on: nothing there was starred."""
    while at > 0 and (whole[at - 1] != out[at - 1] or whole[at] != out[at]):
        at -= 1
    return at


def _check_text(before: bytes, held: bytes, *, multipart: bool) -> None:
    """Refuse text that a reader may decode otherwise than byte by byte."""
    if not before and held.startswith(_WIDE):
        raise Unmaskable("text that is not UTF-8")
    if b"\0" in held:
        raise Unmaskable("text with NUL in it")
    if multipart and _ENCODED_PART.search(held) is not None:
        raise Unmaskable("a part with an encoding of its own")


class _Sniffed(_Body):
    """Text that may be a document under another name, where fields are protected: what begins like one is read as one.

    A caller can often choose the name (`Accept`, `?format=txt`); what the service writes is the same.
    """

    def __init__(self, text: _Text, reader: Callable[[str], _Body], rules: Rules, *, page: bool) -> None:
        self._text, self._reader, self._rules = text, reader, rules
        self._page = page
        """It says that it is HTML."""
        self._held = b""
        self._body: _Body | None = None

    def feed(self, data: bytes, *, final: bool) -> bytes | None:
        if self._body is None:
            self._held += data
            if not final and len(self._held) < MAX_HELD:
                return None
            whole, self._held = self._held, b""
            out = self._begin(whole, final=final)
        else:
            out = self._body.feed(data, final=final)
        self.changed = self._body is not None and self._body.changed
        return out

    def _begin(self, whole: bytes, *, final: bool) -> bytes | None:
        start = whole.removeprefix(b"\xef\xbb\xbf").lstrip()
        if self._rules.take_for_xml(start, page=self._page):
            self._body = self._reader("application/xml")
            return self._body.feed(whole, final=final)
        if start.startswith((b"{", b"[")):
            self._body = self._reader("application/json")
            try:
                return self._body.feed(whole, final=final)
            except Unmaskable:
                pass  # a line of a log may begin so; as text it is looked through for the fields' names
        self._body = self._text
        return self._text.feed(whole, final=final)


class _Json(_Body):
    """JSON by its fields: token by token. `lines`: texts one a line, each of which leaves as soon as it is here."""

    def __init__(self, bits: int | Wanted, rules: Rules, counts: Counts, *, lines: bool = False) -> None:
        self._bits = bits
        self._lines = lines
        self._held = b""
        self._before = b""
        self._masker = JsonMasker(bits, rules, counts, lines=lines)
        self._begun = False

    def feed(self, data: bytes, *, final: bool) -> bytes | None:
        self._held += data
        if not (final or self._begun or self._lines) and len(self._held) < MAX_HELD:
            return None
        whole, self._held = self._held, b""
        if not (whole or self._begun):
            return b""  # there is no body
        _check_json(whole, begins=not self._begun)
        self._begun = self.changed = True
        out = self._masker.feed(whole, final=final)
        self._before = check_tail(self._before, out, self._bits)
        return out


class _FlatJson(_Body):
    """JSON without protected fields: whole and quickly where nothing needs to be taken apart; else token by token."""

    def __init__(self, bits: int | Wanted, counts: Counts) -> None:
        self._bits = bits
        self._counts = counts
        self._held = b""
        self._before = b""
        self._begun = False

    def feed(self, data: bytes, *, final: bool) -> bytes | None:
        self._held += data
        if not final and len(self._held) < MAX_HELD:
            return None
        whole = self._held
        end = len(whole) if final else _quick_end(whole)
        if not final and end <= 0 and len(whole) <= MAX_TOKEN:
            return None
        out = self._masked(whole, end, final=final)
        self._before = check_tail(self._before, out, self._bits)
        return out

    def _masked(self, whole: bytes, end: int, *, final: bool) -> bytes:
        piece = whole[:end] if end > 0 else whole
        if not self._begun and piece.startswith(UTF8_MARK):
            self._begun, self.changed = True, True
            return UTF8_MARK + self._masked(whole[3:], max(0, end - 3), final=final)
        _check_json(piece, begins=not self._begun)
        self._begun = True
        plain = b"\\" not in piece and isinstance(self._bits, int) and ODD_NUMBER.search(piece) is None
        if end > 0 and plain and not scanned(piece, self._bits, Counts())[1]:
            self._held = whole[end:]
            return piece
        self.changed = True
        out, left = mask_tokens(piece + b"\n" if final else piece, self._bits, self._counts)
        self._held = left + whole[len(piece) :]
        if (final and self._held) or len(self._held) > MAX_TOKEN:
            raise Unmaskable("JSON with a string that does not end" if final else f"JSON with a string of more than {MAX_TOKEN >> 20} MiB")
        return out[:-1] if final else out


def _quick_end(whole: bytes) -> int:
    """Where a piece of JSON without escapes can be cut: between two tokens, as far behind as can be. Zero: it must be taken apart to know."""
    if b"\\" in whole:
        return 0
    quote = whole.rfind(b'"')
    if whole.count(b'"') % 2:
        return quote
    return max(quote, *(whole.rfind(mark, quote + 1) for mark in (b",", b":", b"{", b"}", b"[", b"]"))) + 1


def _check_json(piece: bytes, *, begins: bool) -> None:
    if b"\0" in piece or (begins and piece.startswith(_WIDE)):
        raise Unmaskable("JSON that is not UTF-8")


def check_tail(before: bytes, out: bytes, bits: int | Wanted) -> bytes:
    """Look for other spellings in what leaves, and a little before it; what is to be looked at again with the next."""
    whole = before + out
    if bits:
        check_spellings(whole, bits)
    return whole[-OVERLAP:]


class _Lines(_Body):
    """Lines, each of which leaves when it has ended: JSON where it reads so, else text."""

    changed = True

    def __init__(self, bits: int | Wanted, mask: Callable[[bytes], bytes]) -> None:
        self._bits = bits
        self._mask = mask
        self._held: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes, *, final: bool) -> bytes | None:
        end = len(data) if final else data.rfind(b"\n") + 1
        if not end and not final:
            self._held.append(data)
            self._size += len(data)
            if self._size > MAX_TOKEN:
                raise Unmaskable(f"a line of more than {MAX_TOKEN >> 20} MiB")
            return None
        whole = b"".join([*self._held, data[:end]])
        self._held, self._size = [data[end:]], len(data) - end
        _check_json(whole, begins=True)
        plain = b"\\" not in whole and isinstance(self._bits, int) and ODD_NUMBER.search(whole) is None
        if plain and not scanned(whole, self._bits, Counts())[1]:
            check_spellings(whole, self._bits, whole)
            return whole
        return b"".join(self._mask(line) if line else line for line in whole.splitlines(keepends=True))


class _Events(_Body):
    """Events, each of which leaves when it has ended."""

    changed = True

    def __init__(self, mask: Callable[[bytes], bytes]) -> None:
        self._events = Events(mask)

    def feed(self, data: bytes, *, final: bool) -> bytes | None:
        return self._events.feed(data, final=final) or (b"" if final else None)


class _Xml(_Body):
    """XML: only whole."""

    def __init__(self, bits: int | Wanted, rules: Rules, counts: Counts) -> None:
        self._bits = bits
        self._rules = rules
        self._counts = counts
        self._held = bytearray()

    def feed(self, data: bytes, *, final: bool) -> bytes | None:
        self._held += data
        if len(self._held) > MAX_WHOLE:
            raise Unmaskable(f"XML of more than {MAX_WHOLE >> 20} MiB")
        if not final:
            return None
        whole = bytes(self._held)
        out = mask_xml(whole, self._bits, self._rules, self._counts) if whole.strip() else whole
        if scanned(out, self._bits, Counts())[1]:
            raise Unmaskable("a sensitive value in the name of an element or an attribute")
        check_spellings(out + html.unescape(out.decode("utf-8", "replace")).encode(), self._bits)  # a reader of XML has one level less
        self.changed = out != whole
        return out


def scanned(data: bytes, bits: int | Wanted, counts: Counts) -> tuple[bytes, int]:
    """`data` with what the detectors find starred, and how much that was."""
    if not bits or not data:
        return data, 0
    out = bytearray(data)
    scanner = Scanner(data, out, bits)
    if not (found := scanner.scan(0, len(data), 0)):
        return data, 0
    for name, number in zip(names_of(bits), scanner.counts, strict=True):
        counts.add(name, number)
    return bytes(out), found


def check_spellings(data: bytes, bits: int | Wanted, starred: bytes | None = None) -> None:
    """Withhold text in which a value hides behind another spelling of its characters. `starred`: what the plain look left of it."""
    if hides(data, bits, starred):
        raise Unmaskable("a sensitive value in a spelling that cannot be masked")


def hides(data: bytes, bits: int | Wanted, starred: bytes | None = None) -> bool:
    """Whether some spelling shows a value that the plain look does not. What that finds is starred first: it must not make up for what it misses."""
    if SPELLED.search(data) is None:
        return False
    plain = scanned(data, bits, Counts())[0] if starred is None else starred
    return any(scanned(written, bits, Counts())[1] for written in spelled_out(plain))
