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
from collections.abc import Iterator
from http import HTTPStatus
from typing import Final
from urllib.parse import unquote_to_bytes

from ostiary.kernel.detect import NAMES, Scanner
from ostiary.kernel.websocket import BINARY, CLOSE, TEXT, frame
from ostiary.masking.detectors import wanted
from ostiary.masking.documents import Counts, JsonMasker, Rules, Unmaskable, mask_xml
from ostiary.model.proofs import Content, Masked
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
_REASONS: Final = {status.value: status.phrase.encode() for status in HTTPStatus}
"""A target's own words could hold anything, so they are not passed on: RFC 9112, 4."""
_PASSWORD: Final = re.compile(rb"(?i)([?&;#](?:access_|refresh_|id_|auth_|api_?)?(?:token|key|secret|password|signature|sig|code)=)[^&;#\s]+")
_ENCODED_PART: Final = re.compile(rb"(?im)^content-(?:transfer-encoding:[ \t]*(?!7bit|8bit|binary)|encoding:)")
_REFERENCE: Final = re.compile(rb"&#|&[a-z]", re.IGNORECASE)
_ESCAPE: Final = re.compile(rb"\\(?:u\{?0*([0-7][0-9A-Fa-f])\}?|x([0-7][0-9A-Fa-f])|([0-7]{2,3}))")
_QUOTED: Final = re.compile(rb"=([2-7][0-9A-F])|=\r?\n")


_REPLACED: Final = frozenset({b"accept-ranges", b"cache-control", b"expires", b"pragma", b"age"})
"""Where masking is on, an answer is one person's, and comes whole."""


class ReplyMasker:
    """Masks one answer. `length` and `has_body` are known once the first `Masked` was handed out."""

    __slots__ = ("_all", "_bits", "_body", "_counts", "_detect", "_head", "_passes", "_rules", "has_body", "length")

    def __init__(self, detect: frozenset[str], rules: Rules, passes: frozenset[str]) -> None:
        """`detect`: detectors; `rules`: protected fields; `passes`: media types that go through as they are."""
        self._detect = detect
        self._all = rules
        self._bits = wanted(detect)
        self._rules = rules
        self._passes = passes
        self._counts = Counts()
        self._head: ReplyHead | None = None
        self._body: _Body | None = None
        self.length: int | None = None
        self.has_body = False

    def show(self, clear: frozenset[str]) -> None:
        """From now on classes and detectors in `clear` are not masked: the permit shows them. Without this nothing is shown."""
        self._bits = wanted(self._detect - clear)
        self._rules = self._all.hidden_from(clear)

    def mask(self, part: ReplyHead | bytes | SocketMessage | ReplyEnd) -> Iterator[Masked]:
        """Take a part in; yield what may leave. Raises `Unmaskable`."""
        match part:
            case SocketMessage():
                yield Masked(frame(part.opcode, self._message(part)), Content.SOCKET, 0, self._counts.taken())
            case ReplyHead():
                self._head, self.has_body, self.length = part, part.has_body, part.length
                self._body = self._choose(part)
                if not part.has_body or self._body.passes:
                    yield self._release(changed=False)
            case ReplyEnd():
                yield from self._give(b"", final=True)
            case _:
                yield from self._give(part, final=False)

    def _message(self, said: SocketMessage) -> bytes:
        """A WebSocket's message, as it may be seen."""
        data = said.data
        if not (self._bits or self._rules):
            return data
        if said.opcode == TEXT:
            return self._text(data)
        if said.opcode == BINARY:
            if "application/octet-stream" in self._passes:
                return data
            raise Unmaskable("a binary message of a WebSocket")
        if not scanned(data, self._bits, Counts())[1]:
            return data
        if said.opcode == CLOSE:
            return data[:2]
        raise Unmaskable("a sensitive value in a ping of a WebSocket")

    def _text(self, data: bytes) -> bytes:
        if data.lstrip()[:1] in (b"{", b"["):
            try:
                return _Json(self._bits, self._rules, self._counts).feed(data, final=True) or b""
            except Unmaskable:
                if self._rules:
                    raise
        return _Text(self._bits, self._counts, multipart=False).feed(data, final=True) or b""

    def _give(self, data: bytes, *, final: bool) -> Iterator[Masked]:
        if self._body is None:
            raise Unmaskable("a body before its head")
        out = self._body.feed(data, final=final)
        if out is None:
            return
        if self._head is not None:
            if final:
                self.length = len(out)
            elif not self._body.passes:
                self.length = None
            yield self._release(changed=self._body.changed or not final)
        if out or self._counts:
            yield Masked(out, Content.HTTP_BODY, 0, self._counts.taken())

    def _release(self, *, changed: bool) -> Masked:
        """The head; `changed`: what it says of the bytes of the body may no longer hold."""
        head = self._head
        if head is None:
            raise Unmaskable("a head twice")
        self._head = None
        lines = [b"HTTP/1.1 %d %b\r\n" % (head.status, _REASONS.get(head.status, b"Status"))]
        masking = bool(self._bits or self._rules)
        for name, value in head.headers:
            lower = name.lower()
            if masking and ((changed and lower in _DIGESTS) or lower in _REPLACED):
                continue
            if lower == b"content-encoding" and isinstance(self._body, _Unpacked):
                continue
            lines.append(b"%b: %b\r\n" % (name, self._value(lower, value)))
        if masking:
            lines.append(b"Cache-Control: private, no-store\r\nVary: Authorization\r\n")
        return Masked(b"".join(lines), Content.HTTP_HEAD, 0, self._counts.taken())

    def _value(self, name: bytes, value: bytes) -> bytes:
        """A header's value, as it may be seen."""
        if name == b"sec-websocket-accept":  # ours
            return value
        if name in (b"location", b"content-location", b"refresh", b"link"):
            value = _PASSWORD.sub(rb"\1***", value)
        if not self._bits:
            return value
        out, found = scanned(value, self._bits, self._counts)
        if found:
            return out
        written = unquote_to_bytes(value) if b"%" in value else value
        if written is not value and scanned(written, self._bits, self._counts)[1]:
            return b"***"
        return value

    def _choose(self, head: ReplyHead) -> _Body:
        """What to do with the body. Raises `Unmaskable` where nothing can be done."""
        if not head.has_body or not (self._bits or self._rules):
            return _Pass()
        kind, charset = _media_type(head)
        if kind in self._passes:
            return _Pass()
        coding = _coding(head)
        if kind in _IMAGES and not coding:
            return _Guarded(self._bits, self._counts, _IMAGES[kind])
        if _TEXT.fullmatch(kind) is None and not (not kind and head.length == 0):
            raise Unmaskable(f"a body of the type {kind or 'that nobody names'}")
        if charset and _CHARSETS.fullmatch(charset) is None:
            raise Unmaskable(f"text in the character set {charset}")
        body = self._reader(kind)
        return _Unpacked(body, coding) if coding else body

    def _reader(self, kind: str) -> _Body:
        if kind.endswith(("/xml", "+xml")) and kind != "application/xhtml+xml":
            return _Xml(self._bits, self._rules, self._counts)
        if kind.endswith(("/json", "+json")):
            return _Json(self._bits, self._rules, self._counts)
        if self._rules and ("ndjson" in kind or "jsonlines" in kind):
            return _Json(self._bits, self._rules, self._counts, lines=True)
        if self._rules and kind not in ("text/html", "text/plain", "text/css", "text/javascript"):
            raise Unmaskable(f"protected fields in a body of the type {kind}")
        return _Text(self._bits, self._counts, multipart=kind.startswith(("multipart/", "message/")))


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
            if self._size > MAX_DECODED or self._size > MAX_HELD + MAX_RATIO * self._packed:
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

    def __init__(self, bits: int, counts: Counts, magic: tuple[bytes, ...]) -> None:
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

    def __init__(self, bits: int, counts: Counts, *, multipart: bool) -> None:
        self._bits = bits
        self._counts = counts
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
        start = len(self._before)
        out, found = scanned(whole, self._bits, self._counts if final else Counts())
        check_spellings(whole, self._bits, found)
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


class _Json(_Body):
    """JSON: whole and quickly where nothing needs to be taken apart; else token by token."""

    def __init__(self, bits: int, rules: Rules, counts: Counts, *, lines: bool = False) -> None:
        self._bits = bits
        self._counts = counts
        self._rules = rules
        self._lines = lines
        self._held = b""
        self._masker: JsonMasker | None = None

    def feed(self, data: bytes, *, final: bool) -> bytes | None:
        if self._masker is not None:
            return self._masker.feed(data, final=final)
        self._held += data
        if not final and len(self._held) < MAX_HELD:
            return None
        whole, self._held = self._held, b""
        if whole.startswith(_WIDE) or b"\0" in whole:
            raise Unmaskable("JSON that is not UTF-8")
        if final and not self._rules and b"\\" not in whole:
            out, found = scanned(whole, self._bits, Counts())
            del out
            if not found:
                check_spellings(whole, self._bits, 0)
                return whole
        self.changed = True
        self._masker = JsonMasker(self._bits, self._rules, self._counts, lines=self._lines)
        return self._masker.feed(whole, final=final)


class _Xml(_Body):
    """XML: only whole."""

    def __init__(self, bits: int, rules: Rules, counts: Counts) -> None:
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
        self.changed = out != whole
        return out


def scanned(data: bytes, bits: int, counts: Counts) -> tuple[bytes, int]:
    """`data` with what the detectors find starred, and how much that was."""
    if not bits or not data:
        return data, 0
    out = bytearray(data)
    scanner = Scanner(data, out, bits)
    found = scanner.scan(0, len(data), 0)
    if not found:
        return data, 0
    for name, number in zip(NAMES, scanner.counts, strict=True):
        counts.add(name, number)
    return bytes(out), found


def check_spellings(data: bytes, bits: int, found: int) -> None:
    """Withhold text in which a value hides behind another spelling of its characters."""
    for written in spelled_out(data):
        if scanned(written, bits, Counts())[1] > found:
            raise Unmaskable("a sensitive value in a spelling that cannot be masked")


def spelled_out(data: bytes) -> Iterator[bytes]:
    """`data` with character references, percent signs, backslash and quoted-printable escapes written out, each where there are any."""
    if _REFERENCE.search(data) is not None:
        yield html.unescape(data.decode("utf-8", "replace")).encode()
    if b"%" in data:
        yield unquote_to_bytes(data)
    if b"\\" in data and _ESCAPE.search(data) is not None:
        yield _ESCAPE.sub(_escaped, data)
    if b"=" in data and _QUOTED.search(data) is not None:
        yield _QUOTED.sub(lambda m: bytes([int(m[1], 16)]) if m[1] else b"", data)


def _escaped(found: re.Match[bytes]) -> bytes:
    if found[3]:
        return bytes([int(found[3], 8) & 0x7F])
    return bytes([int(found[1] or found[2], 16)])
