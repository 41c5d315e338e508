"""The hop itself: a batch in, `Masked` out. The only place where a `Masked` is made."""

from __future__ import annotations

from typing import Final, assert_never

from ostiary.kernel.copies import mask_copy_csv, mask_copy_text
from ostiary.kernel.detect import Scanner
from ostiary.kernel.nets import Wanted, names_of
from ostiary.kernel.rows import mask_copy_rows, mask_rows
from ostiary.masking.detectors import wanted
from ostiary.masking.messages import mask_message
from ostiary.masking.plan import JOIN
from ostiary.model.connections import Look
from ostiary.model.errors import Misdeed, PeerMisbehaved
from ostiary.model.proofs import Batch, Content, Masked, RowPlan, Treatment
from ostiary.model.results import CopyPlan

NOTHING: Final[tuple[tuple[str, int], ...]] = ()
_ALL_STARS: Final = bytes(byte if byte in b"\r\n" else ord("*") for byte in range(256))
_FILE: Final = Content.FILE
_CONTROL: Final = Content.CONTROL  # looked up once: most batches are

STRIPPED: Final = "message"
"""The name under which `Masked.counts` tells that an error or notice lost text."""

_ENCODINGS: Final = frozenset(
    {"UTF8", "UNICODE", "SQL_ASCII"}
    | {f"LATIN{i}" for i in range(1, 11)}
    | {f"WIN{page}" for page in (866, 874, 1250, 1251, 1252, 1253, 1254, 1255, 1256, 1257, 1258)}
    | {"KOI8R", "KOI8U", "ISO_8859_5", "ISO_8859_6", "ISO_8859_7", "ISO_8859_8"}
    | {"EUC_JP", "EUC_CN", "EUC_KR", "EUC_TW", "EUC_JIS_2004"}
)
"""Encodings in which a byte below 0x80 is always that ASCII character. In SJIS, BIG5, GBK, ... it may be half of another."""


def mask(clear: frozenset[str], batch: Batch, detect: Look) -> Masked:
    """Mask one batch: by column as its plan says, by content with the detectors `detect`.

    `clear` holds the data classes that the permit shows in clear; a detector's name in it switches that detector off. It may
    show more than the plan was made for, never less: a class that is in `clear` now is shown.

    Raises PeerMisbehaved when the target sends what cannot be masked: rows that were never described, or are not well formed.
    """
    if batch.content is _CONTROL or batch.content is _FILE:
        return Masked(batch.frames, batch.content, batch.rows, NOTHING)
    bits = wanted(detect, clear)
    match batch.content:
        case Content.MESSAGE:
            frame, found, stripped = mask_message(batch.frames, bits, strip=batch.strip)
            counts = [(name, number) for name, number in zip(names_of(bits), found, strict=True) if number]
            if stripped:
                counts.append((STRIPPED, 1))
            return Masked(frame, batch.content, batch.rows, tuple(sorted(counts)))
        case Content.STRETCH | Content.FILE:
            return _stretch(batch, bits)
        case Content.WITHHELD:
            frames = batch.frames
            if batch.data_class in clear:
                return _stretch(batch, bits)
            named = ((batch.data_class, 1),) if frames else ()
            return Masked(batch.head + frames.translate(_ALL_STARS), batch.content, batch.rows, named)
        case Content.ROWS | Content.COPY_BINARY | Content.COPY_TEXT:
            return _rows(clear, batch, bits)
        case Content.HTTP_HEAD | Content.HTTP_BODY | Content.SOCKET:
            raise PeerMisbehaved(Misdeed.OUT_OF_TURN, "HTTP in a session of another protocol")
        case _:
            assert_never(batch.content)


def _stretch(batch: Batch, bits: int | Wanted) -> Masked:
    """A part of a byte stream or file, masked in the light of what stands beside it. Lengths stay.

    A match that lies in the surroundings alone changes nothing here, and is not counted.
    """
    frames = batch.frames
    start, stop = batch.cut or (0, len(frames))
    if not 0 <= start <= stop <= len(frames):
        raise PeerMisbehaved(Misdeed.BAD_LENGTH, "a stretch")
    out = bytearray(frames)
    scanner = Scanner(frames, out, bits)
    leaving = frames[start:stop]
    if bits and scanner.scan(0, len(frames), 0):
        masked = bytes(out[start:stop])
        if masked != leaving:
            counts = tuple(
                (name, number) for name, number in zip(names_of(bits), scanner.counts, strict=True) if number
            )
            return Masked(batch.head + masked, batch.content, batch.rows, tuple(sorted(counts)))
    return Masked(batch.head + leaving, batch.content, batch.rows, ())


def _rows(clear: frozenset[str], batch: Batch, bits: int | Wanted) -> Masked:
    plan = batch.plan
    if plan is None:
        raise PeerMisbehaved(Misdeed.OUT_OF_TURN, "rows that were not described")
    if not plan.active:
        return Masked(batch.frames, batch.content, batch.rows, ())
    treatments = plan.treatments if clear.isdisjoint(plan.classes) else _shown(plan, clear)
    if batch.content is Content.ROWS:
        frames, counts = mask_rows(batch.frames, treatments, plan.families, bits, plan.substitutes)
    elif batch.content is Content.COPY_BINARY:
        frames, counts = mask_copy_rows(batch.frames, treatments, plan.families, bits, plan.substitutes)
    else:
        frames, counts = _copy(batch.frames, treatments, plan, bits)
    named = _named(plan, names_of(bits), counts) if any(counts) else ()
    return Masked(frames, batch.content, batch.rows, named)


def _copy(frames: bytes, treatments: bytes, plan: RowPlan, bits: int | Wanted) -> tuple[bytes, tuple[int, ...]]:
    copy = plan.copy
    if copy is None:
        raise PeerMisbehaved(Misdeed.OUT_OF_TURN, "COPY data in a format that was not foreseen")
    if copy.encoding.upper().replace("-", "") not in _ENCODINGS:
        raise PeerMisbehaved(Misdeed.BAD_TEXT, "COPY data in an encoding that cannot be masked")
    if copy.csv:
        return mask_copy_csv(
            frames,
            treatments,
            plan.families,
            bits,
            delimiter=copy.delimiter,
            quote=copy.quote,
            escape=copy.escape,
            null=copy.null,
            header=header_line(copy),
            substitutes=plan.substitutes,
        )
    return mask_copy_text(
        frames,
        treatments,
        plan.families,
        bits,
        delimiter=copy.delimiter,
        null=copy.null,
        header=header_line(copy),
        substitutes=plan.substitutes,
    )


def header_line(copy: CopyPlan) -> bytes:
    """The header line as PostgreSQL writes it (src/backend/commands/copyto.c), so that it is known and stays; empty: none."""
    if not copy.header:
        return b""
    names = [name.encode() for name in copy.names]
    write = _csv_name if copy.csv else _text_name
    return copy.delimiter.join(write(name, copy) for name in names) + b"\n"


def _text_name(name: bytes, copy: CopyPlan) -> bytes:
    name = name.replace(b"\\", b"\\\\").replace(copy.delimiter, b"\\" + copy.delimiter)
    for char, letter in ((b"\b", b"b"), (b"\f", b"f"), (b"\n", b"n"), (b"\r", b"r"), (b"\t", b"t"), (b"\v", b"v")):
        name = name if char == copy.delimiter else name.replace(char, b"\\" + letter)
    return name


def _csv_name(name: bytes, copy: CopyPlan) -> bytes:
    if name != copy.null and not any(mark in name for mark in (copy.delimiter, copy.quote, b"\n", b"\r")):
        return name
    if copy.escape != copy.quote:
        name = name.replace(copy.escape, copy.escape * 2)
    return copy.quote + name.replace(copy.quote, copy.escape + copy.quote) + copy.quote


def _shown(plan: RowPlan, clear: frozenset[str]) -> bytes:
    """The treatments, but for columns of classes that may be seen."""
    return bytes(
        Treatment.KEEP if name in clear else treatment
        for treatment, name in zip(plan.treatments, plan.classes, strict=True)
    )


def _named(plan: RowPlan, kinds: tuple[str, ...], counts: tuple[int, ...]) -> tuple[tuple[str, int], ...]:
    """Counts by data class and detector, sorted, without zeroes; `kinds`: what is counted besides the columns."""
    total: dict[str, int] = {}
    names = (*(name or "" for name in plan.classes), *kinds)
    for name, number in zip(names, counts, strict=True):
        if number:
            for each in name.split(JOIN):
                total[each] = total.get(each, 0) + number
    return tuple(sorted(total.items()))
