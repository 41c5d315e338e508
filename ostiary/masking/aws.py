"""Answers of AWS: as those of any HTTP service, but that the call says what is secret, and content of objects is of any type.

An object whose type says nothing (`binary/octet-stream`, S3's own default) is looked through if it is text. What is not, and may not pass by
the operator's word (`pass_types`), does not leave while anything is looked for; nor does a part of an object, since a value could be asked
for in halves. No answer of a service is in CBOR, as no call is; the gateway's own refusals of such calls are texts in it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from ostiary.kernel.nets import Wanted
from ostiary.masking.counts import Counts
from ostiary.masking.documents import Rules, Unmaskable
from ostiary.masking.http import MAX_HELD, ReplyMasker, _Body, _coding, _media_type, _Text, _Unpacked
from ostiary.model.connections import Look, ProtectedField
from ostiary.model.proofs import Masked
from ostiary.model.results import ReplyEnd, ReplyHead, SocketMessage

WHOLE: Final = "body:"
"""The place of a body that is one value."""
HEAD: Final = "head:"
"""How the place of a header begins."""
_UNSAID: Final = frozenset({"", "binary/octet-stream", "application/octet-stream", "application/x-directory"})
_JSON: Final = "application/x-amz-json"
_ALL: Final = re.compile(rb"bytes 0-([0-9]{1,15})/([0-9]{1,15})")


def _is_whole(head: ReplyHead) -> bool:
    """Whether a part is all that there is, since whoever asked for it asked for more: RFC 9110, 14.4."""
    said = [value for name, value in head.headers if name.lower() == b"content-range"]
    found = _ALL.fullmatch(said[0]) if len(said) == 1 else None
    return found is not None and head.length == int(found[2]) == int(found[1]) + 1


class AwsReplyMasker(ReplyMasker):
    """Masks one answer."""

    def __init__(
        self, detect: Look, passes: frozenset[str], hidden: Callable[[], tuple[tuple[ProtectedField, ...], str]]
    ) -> None:
        """`hidden`: the protected fields, and how the answer is read (`json`, `xml`, `content`), once the call is known."""
        super().__init__(detect, Rules(()), passes)
        self._hidden = hidden
        self._clear: frozenset[str] = frozenset()
        self._form = "content"
        self._withheld = False

    def show(self, clear: frozenset[str]) -> None:
        """See `ReplyMasker.show`."""
        super().show(clear)
        self._clear = clear

    def mask(self, part: ReplyHead | bytes | SocketMessage | ReplyEnd) -> list[Masked]:
        """See `ReplyMasker.mask`."""
        if isinstance(part, ReplyHead):
            protected, self._form = self._hidden()
            whole = [each for each in protected if each.place == WHOLE]
            self._withheld = any(each.data_class not in self._clear for each in whole) and part.status < 400
            self._rules = Rules(each for each in protected if each.place != WHOLE and not each.place.startswith(HEAD)).hidden_from(self._clear)
            part = self._shown_head(part, [each for each in protected if each.place.startswith(HEAD) and each.data_class not in self._clear])
        return super().mask(part)

    def _shown_head(self, head: ReplyHead, hidden: list[ProtectedField]) -> ReplyHead:
        """A head without the headers that are protected: what is in them may be written in any coding."""
        names = {each.place.removeprefix(HEAD).lower().encode(): each.data_class for each in hidden}
        kept = tuple([header for header in head.headers if header[0].lower() not in names])
        for name, _ in head.headers:
            if name.lower() in names:
                self._counts.add(names[name.lower()])
        return head if len(kept) == len(head.headers) else head.with_headers(kept)

    def _kept(self, name: bytes) -> bool:
        return name == b"last-modified"  # the `aws` command reads it before it copies anything

    def _choose(self, head: ReplyHead) -> _Body:
        kind, _ = _media_type(head)
        looks = head.has_body and bool(self._bits or self._rules)
        coding = _coding(head) if looks else ""
        if self._withheld and head.has_body and head.length != 0:
            raise Unmaskable("a body that AWS's model calls sensitive as a whole")
        if looks and (self._form != "content" or kind.startswith(_JSON)):
            body = self._reader("application/xml" if self._form == "xml" and not kind.startswith(_JSON) else "application/json")
            return _Unpacked(body, coding) if coding else body
        if looks and kind not in self._passes and self._rules and not kind.endswith(("json", "xml")):
            raise Unmaskable(f"protected fields in content of the type {kind or 'that nobody names'}")
        own = any(name.lower() == b"smithy-protocol" for name, _ in head.headers) and self._form == "content"
        if looks and (kind in _UNSAID or own) and kind not in self._passes:
            loose = _Loose(self._bits, self._counts)
            body = _Unpacked(loose, coding) if coding else loose
        else:
            body = super()._choose(head)
        if head.status == 206 and not body.passes and not _is_whole(head):
            raise Unmaskable("a part of what must be looked through whole; ask for all of it")
        return body


class _Loose(_Body):
    """Bytes whose type nobody said: text is looked through as text; anything else does not leave."""

    def __init__(self, bits: int | Wanted, counts: Counts) -> None:
        self._text = _Text(bits, counts, Rules(()), multipart=False)
        self._held = b""
        self._begun = False

    def feed(self, data: bytes, *, final: bool) -> bytes | None:
        if not self._begun:
            self._held += data
            if not final and len(self._held) < MAX_HELD:
                return None
            data, self._held, self._begun = self._held, b"", True
        if b"\0" in data or data.startswith((b"\x1f\x8b", b"PK\x03\x04", b"%PDF")):
            raise Unmaskable("a body that is no text, and whose type nobody said")
        out = self._text.feed(data, final=final)
        self.changed = self._text.changed
        return out
