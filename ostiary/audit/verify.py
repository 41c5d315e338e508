"""Verify an audit log offline: one file, the standard library and Ed25519, no code shared with the writer.

Theory of operation
-------------------
What is read is `docs/log-format.md`, and nothing else is known of the writer. One pass over the entries, in order, does
everything, and holds a tile a level, the operations and sessions that are open, and the blobs that they name:

1. The key comes from outside: a policy file (C2SP tlog-policy), a vkey, or the root that certified the origin. The key that
   merely lies in the directory proves nothing against whoever can write there; it is taken only when asked for.
2. Every note in `log/checkpoints` is checked: signature, growth, and its root against the root that the entries have
   at that size. Since all roots come from one sequence of leaves, that *is* consistency (RFC 6962, 2.1.2) between all.
3. Every entry bundle and every hash tile, partial ones too, must hold exactly what the entries say.
4. Every entry is parsed strictly and encoded again (RFC 8785): other bytes are other evidence. Ids are unique, clocks
   go forward within a boot, each outcome closes one open intent, each session's end its start.
5. Where the write-ahead log stands beside, it must agree. Where payloads do, every blob and every head that an entry
   names must be found in the session's file.
6. What was pruned is on record in the operator's log, and the first entry that is kept old enough to go: so was all before it.
   Of a gateway whose logs lie in one folder, each that the policy names is there.

What is not checked here: whether the log was rolled back as a whole to an older state that was once signed (only a
witness knows: `quorum` in the policy), and what is inside payloads (that takes the key: `ostiary.vault.payload_reading`).

Exit codes: 0 whole; 1 tampered; 2 incomplete (something is missing, unfinished, or could not be checked).
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import datetime as dt
import hashlib
import json
import os
import re
import struct
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

MAX_ENTRY: Final = 16_384
MAX_NOTE: Final = 16_384
MAX_PROBLEMS: Final = 50
MAX_BLOBS_HELD: Final = 200_000
MAX_SEALED: Final = 65_552
MAX_PADDING: Final = 1 << 30  # zeros behind the end of a WAL, sixteen segments of them; a file of holes could be read for hours
HOLE: Final = bytes(16)  # what a lost write leaves at least, before one that was kept; 2^-128 by chance in a ciphertext
CHECKSUM_BUDGET: Final = 32 << 20
"""Bytes of WAL whose CRC-32C is computed without being asked: Python does about 15 MB/s."""
TILE: Final = 256
KINDS: Final = frozenset(
    {"session.start", "session.end", "intent", "outcome", "deny", "approval", "mask", "config", "key", "login"}
    | {"replay", "redact", "recover", "anchor", "gap"}
)
_CHECKPOINT: Final = re.compile(
    r"([^\n+ ]+)\n(0|[1-9][0-9]{0,17})\n([A-Za-z0-9+/]{43}=)\n\n((?:\u2014 [^\n ]+ [A-Za-z0-9+/=]+\n)+)"
)
_UUID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_UUID7: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
_TIME: Final = re.compile(r"[0-9]{4}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-6][0-9]\.[0-9]{6}Z")
_HEX64: Final = re.compile(r"[0-9a-f]{64}")
_FRAME: Final = struct.Struct("<II")


class Untrusted(Exception):
    """There is no key to check against, or the policy cannot be read."""


class Fault(Exception):
    """Something is wrong with what is read; `tampered` False: it is missing or cut. `index`: the entry that it is, if it is one."""

    def __init__(self, what: str, *, tampered: bool = True, index: int | None = None, where: str = "log") -> None:
        super().__init__(what)
        self.tampered, self.index, self.where = tampered, index, where


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong. `index`: the first entry that cannot be relied on for it, if one can be named."""

    index: int | None
    where: str
    what: str
    tampered: bool


@dataclass(slots=True)
class Report:
    """What was found out about one origin."""

    directory: str
    origin: str = ""
    key: str = ""
    size: int = 0
    root: str = ""
    status: str = "whole"
    problems: list[Problem] = field(default_factory=list)
    more_problems: int = 0
    notes: list[str] = field(default_factory=list)
    entries: dict[str, int] = field(default_factory=dict)
    checkpoints: int = 0
    cosignatures: list[str] = field(default_factory=list)
    blobs: int = 0
    heads: int = 0
    open_intents: list[int] = field(default_factory=list)
    open_sessions: list[int] = field(default_factory=list)
    gaps: list[int] = field(default_factory=list)
    pruned: int = 0
    kept_from: str = ""
    prunes: list[dict[str, Any]] = field(default_factory=list)
    unsigned: int = 0
    first_time: str = ""
    last_time: str = ""

    @property
    def exit_code(self) -> int:
        """0 whole, 1 tampered, 2 incomplete."""
        return {"whole": 0, "tampered": 1, "incomplete": 2}[self.status]

    @property
    def first_bad(self) -> int | None:
        """The lowest index that a sign of tampering names; without one, of what is missing."""
        named = [(not p.tampered, p.index) for p in self.problems if p.index is not None]
        return min(named)[1] if named else None

    def known_bad(self, low: int, high: int) -> int:
        """The lowest index from `low` below `high` that is known to be bad, or else `low`."""
        known = (p.index for p in self.problems if p.tampered and p.index is not None and low <= p.index < high)
        return min(known, default=low)

    def problem(self, index: int | None, where: str, what: str, *, tampered: bool = True) -> None:
        """Write down a problem; the status gets no better by it."""
        if tampered:
            self.status = "tampered"
        elif self.status == "whole":
            self.status = "incomplete"
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(Problem(index, where, what, tampered))
        else:
            self.more_problems += 1


# --- keys, notes, policies (C2SP signed-note, tlog-checkpoint, tlog-cosignature, tlog-policy) ------------------------


@dataclass(frozen=True, slots=True)
class Key:
    """A verifier key: `<name>+<key id, 8 hex>+<base64(type, 32 bytes)>`."""

    name: str
    id: bytes
    type: int
    public: Ed25519PublicKey

    @classmethod
    def parse(cls, text: str, wanted: int = 1) -> Key:
        """Read a vkey of a type (1: Ed25519, 4: Ed25519 cosignatures); raises `Untrusted`."""
        parts = text.strip().split("+", 2)
        raw = _base64(parts[2]) if len(parts) == 3 else None
        if raw is None or len(raw) != 33 or raw[0] != wanted or not parts[0]:
            raise Untrusted("not a verifier key: expected <name>+<8 hex digits>+<base64>")
        expected = hashlib.sha256(parts[0].encode() + b"\n" + raw).digest()[:4]
        if parts[1] != expected.hex():
            raise Untrusted(f"the key id of {parts[0]} does not fit the key")
        return cls(parts[0], expected, raw[0], Ed25519PublicKey.from_public_bytes(raw[1:]))


@dataclass(slots=True)
class Policy:
    """Who must have signed: logs by origin, witnesses by name, groups, and the quorum (a name; `none` or empty: nobody)."""

    logs: dict[str, Key]
    witnesses: dict[str, Key] = field(default_factory=dict)
    groups: dict[str, tuple[int, tuple[str, ...]]] = field(default_factory=dict)
    quorum: str = ""

    @classmethod
    def parse(cls, text: str) -> Policy:
        """Read a tlog-policy; raises `Untrusted` naming the line."""
        policy = cls({})
        members: set[str] = set()
        for number, line in enumerate(text.split("\n"), 1):
            words = [word for word in re.split("[ \t]+", line) if word]
            if not words or words[0].startswith("#"):
                continue
            try:
                if re.search(r"[\x00-\x08\x0a-\x1f\x7f]", line):
                    raise Untrusted("a control character")  # noqa: TRY301 - the line is added below
                policy._add(words, members)
            except (Untrusted, ValueError) as exc:
                raise Untrusted(f"policy, line {number}: {exc}") from None
        if not policy.quorum:
            raise Untrusted("policy, last line: it has no quorum")
        return policy

    def _add(self, words: list[str], members: set[str]) -> None:
        taken = {"none", *self.witnesses, *self.groups}
        match words:
            case ["log", vkey] | ["log", vkey, _]:
                key = Key.parse(vkey, 1)
                if key.name in self.logs:
                    raise Untrusted("a log has one key")
                self.logs[key.name] = key
            case ["witness", name, vkey] | ["witness", name, vkey, _] if name not in taken:
                self.witnesses[name] = Key.parse(vkey, 4)
            case ["group", name, need, *names] if names and name not in taken:
                if not set(names) <= taken - {"none"} - members or len(set(names)) < len(names):
                    raise Untrusted("a member is unknown, or a member elsewhere")
                count = {"any": 1, "all": len(names)}.get(need) or int(need)
                if not 1 <= count <= len(names):
                    raise Untrusted("a group cannot be satisfied")
                members.update(names)
                self.groups[name] = (count, tuple(names))
            case ["quorum", name] if not self.quorum and name in taken:
                self.quorum = name
            case _:
                raise Untrusted("not understood, or said twice")

    def is_satisfied(self, name: str, signed: frozenset[str]) -> bool:
        """Whether these witnesses make up the quorum. Groups name only what stands before them, so this ends."""
        if name in {"", "none"} or name in self.witnesses:
            return name not in self.witnesses or name in signed
        need, members = self.groups[name]
        return sum(self.is_satisfied(member, signed) for member in members) >= need


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A parsed note: what it says, its very text, and its signatures as (key name, key id and signature)."""

    origin: str
    size: int
    root: bytes
    text: bytes
    signatures: tuple[tuple[str, bytes], ...]

    @classmethod
    def parse(cls, note: bytes, where: str = "log/checkpoint") -> Checkpoint:
        """Read a note strictly: every byte of it has to mean something."""
        try:
            match = _CHECKPOINT.fullmatch(note.decode())
        except UnicodeDecodeError:
            match = None
        root = _base64(match[3]) if match else None
        if match is None or root is None:
            raise Fault("not a checkpoint: origin, size, root, an empty line, signatures", where=where)
        signatures: list[tuple[str, bytes]] = []
        for line in match[4].split("\n")[:-1]:
            _, name, text = line.split(" ")
            raw = _base64(text)
            if raw is None or len(raw) < 5:
                raise Fault("a signature line is malformed", where=where)
            signatures.append((name, raw))
        return cls(match[1], int(match[2]), root, note[: note.index(b"\n\n") + 1], tuple(signatures))

    def check(self, key: Key) -> None:
        """Raise `Fault` unless `key` signed it, under its own name."""
        if self.origin != key.name:
            raise Fault(f"the origin is {self.origin}, not {key.name}", where="log/checkpoint")
        found = [raw for name, raw in self.signatures if name == key.name and raw[:4] == key.id]
        if len(found) != 1 or not _is_signed(key, found[0][4:], self.text):
            raise Fault("the log's signature does not verify with the key that is trusted", where="log/checkpoint")

    def witnesses(self, policy: Policy) -> frozenset[str]:
        """Which of the policy's witnesses cosigned (tlog-cosignature, "Format")."""

        def is_good(key: Key, name: str, raw: bytes) -> bool:
            message = b"cosignature/v1\ntime %d\n" % int.from_bytes(raw[4:12], "big") + self.text
            return name == key.name and raw[:4] == key.id and len(raw) == 76 and _is_signed(key, raw[12:], message)

        return frozenset(label for label, key in policy.witnesses.items() if any(is_good(key, *each) for each in self.signatures))


def certified_policy(origin_note: bytes, root: Key) -> Policy:
    """The policy that a root's certificate of an origin amounts to; raises `Untrusted`."""
    text, gap, lines = origin_note.partition(b"\n\n")
    fields = text.decode(errors="replace").split("\n")
    words = lines.decode(errors="replace").rstrip("\n").split(" ")
    raw = _base64(words[2]) if len(words) == 3 else None
    if not gap or len(fields) != 4 or fields[0] != "ostiary-origin/v1" or raw is None or words[1] != root.name:
        raise Untrusted("the origin's certificate is malformed")
    if raw[:4] != root.id or not _is_signed(root, raw[4:], text + b"\n"):
        raise Untrusted("the origin's certificate was not signed by the root that is trusted")
    key = Key.parse(fields[2])
    if key.name != fields[1]:
        raise Untrusted("the origin's certificate names another key")
    return Policy({key.name: key})


def _is_signed(key: Key, signature: bytes, message: bytes) -> bool:
    with contextlib.suppress(InvalidSignature):
        key.public.verify(signature, message)
        return True
    return False


def _base64(text: str) -> bytes | None:
    """Decode RFC 4648 base64 of which there is only one spelling; None for any other."""
    with contextlib.suppress(ValueError):
        raw = base64.b64decode(text, validate=True)
        return raw if base64.b64encode(raw).decode() == text else None
    return None


def _notes(file: BinaryIO) -> Iterator[tuple[bytes, bool]]:
    """The notes of `checkpoints`, one after another, each with whether it stands there whole."""
    note, lines, signed = b"", 0, False
    while line := file.readline(MAX_NOTE + 1):
        is_signature = line.startswith("\u2014 ".encode())
        if signed and not is_signature:
            yield note, True
            note, lines, signed = b"", 0, False
        note += line
        lines += 1
        signed = lines > 4 and is_signature
        if len(note) > MAX_NOTE:
            raise Fault("a checkpoint is longer than any can be", where="log/checkpoints")
    if note:
        yield note, signed and note.endswith(b"\n")


# --- the tree (RFC 6962, 2.1; C2SP tlog-tiles) -----------------------------------------------------------------------


def _node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


def tile_path(number: int) -> str:
    """`x001/x234/067` for 1234067."""
    text = f"{number % 1000:03d}"
    while number := number // 1000:
        text = f"x{number % 1000:03d}/{text}"
    return text


class _Tree:
    """The Merkle tree as it grows: the roots of its perfect subtrees, and the tile under way on each level."""

    def __init__(self, on_tile: Callable[[int, int, list[bytes]], None]) -> None:
        self.size = 0
        self._range: list[tuple[int, bytes]] = []
        self._tiles: list[list[bytes]] = [[]]
        self._numbers: list[int] = [0]
        self._on_tile = on_tile

    def append(self, leaf: bytes) -> None:
        height = 0
        while self._range and self._range[-1][0] == height:
            leaf_left = self._range.pop()[1]
            if height % 8 == 0:
                self._tile(height // 8, leaf)
            leaf = _node(leaf_left, leaf)
            height += 1
        if height % 8 == 0:
            self._tile(height // 8, leaf)
        self._range.append((height, leaf))
        self.size += 1

    def _tile(self, level: int, node: bytes) -> None:
        """`node` is a perfect subtree of height 8 * level: the next hash of that level's tile."""
        if level == len(self._tiles):
            self._tiles.append([])
            self._numbers.append(0)
        tile = self._tiles[level]
        tile.append(node)
        if len(tile) == TILE:
            self._on_tile(level, self._numbers[level], tile)
            self._tiles[level] = []
            self._numbers[level] += 1

    def finish(self) -> None:
        """Hand over the partial tiles."""
        for level, tile in enumerate(self._tiles):
            if tile:
                self._on_tile(level, self._numbers[level], tile)

    def root(self) -> bytes:
        if not self._range:
            return hashlib.sha256(b"").digest()
        _, node = self._range[-1]
        for _, left in reversed(self._range[:-1]):
            node = _node(left, node)
        return node


# --- entries (RFC 8785) ----------------------------------------------------------------------------------------------


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names: list[Any] = [name for name, _ in pairs]
    if not "".join(names).isascii():
        names = [name.encode("utf-16-be", "surrogatepass") for name in names]  # JCS sorts by UTF-16 code units
    if names != sorted(set(names)):
        raise ValueError("members are repeated or out of order")
    return dict(pairs)


def _no_float(text: str) -> float:
    raise ValueError(f"{text} is not an integer")


def _integer(text: str) -> int:
    number = int(text)
    if not -(1 << 53) < number < 1 << 53:
        raise ValueError("an integer is 2^53 or more")
    return number


_decoder: Final = json.JSONDecoder(object_pairs_hook=_pairs, parse_float=_no_float, parse_constant=_no_float, parse_int=_integer)
_encoder: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), check_circular=False)


def parse_entry(data: bytes) -> dict[str, Any]:
    """Parse one entry strictly; raises `ValueError` unless its bytes are the canonical form of what they say."""
    if len(data) > MAX_ENTRY:
        raise ValueError(f"it is larger than {MAX_ENTRY} bytes")
    try:
        entry = _decoder.decode(data.decode())
        again = _encoder.encode(entry).encode()
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if again != data:
        raise ValueError("its bytes are not canonical (RFC 8785)")
    if not isinstance(entry, dict):
        raise ValueError("it is no object")  # noqa: TRY004 - one error for whatever an entry is not
    return entry


class _Story:
    """What the entries say, one after another: ids, clocks, what is open, what payloads they name."""

    def __init__(self, report: Report, payloads: _Payloads | None, min_index: int) -> None:
        self._report = report
        self._payloads = payloads
        self._min_index = min_index
        self._last_id = ""
        self.suspects: dict[str, int] = {}
        """Ids not above all before them, with their index: a clock that was set back, or a repetition."""
        self._boots: dict[str, int] = {}
        self.intents: dict[str, tuple[int, str]] = {}
        self.sessions: dict[str, tuple[int, str]] = {}
        self._sessions_open: Counter[str] = Counter()

    def tell(self, index: int, entry: dict[str, Any]) -> None:
        """Take in one entry."""
        entry_id, kind, boot, mono, when = (entry.get(name) for name in ("id", "kind", "boot", "mono", "t"))
        wrong = self._shape(entry, entry_id, kind, boot, mono, when)
        if wrong:
            self._report.problem(index, f"entry {index}", wrong)
            return
        assert isinstance(entry_id, str) and isinstance(boot, str) and isinstance(mono, int)  # noqa: S101, PT018
        last_mono = self._boots.get(boot, mono)
        if mono < last_mono:
            self._report.problem(index, f"entry {index}", "its clock does not go forward within its boot")
        self._boots[boot] = mono
        if entry_id > self._last_id:
            self._last_id = entry_id
        else:
            self.suspects[entry_id] = index
        self._report.entries[str(kind)] = self._report.entries.get(str(kind), 0) + 1
        self._report.first_time = self._report.first_time or str(when)
        self._report.last_time = str(when)
        if index == self._min_index:
            self._report.kept_from = str(when)
        self._pair(index, entry, entry_id, str(kind))
        self._blobs(index, entry)

    def _shape(self, entry: dict[str, Any], entry_id: Any, kind: Any, boot: Any, mono: Any, when: Any) -> str:
        if entry.get("v") != 1 or not isinstance(kind, str) or kind not in KINDS:
            return "its version or kind is missing or unknown"
        if not (isinstance(entry_id, str) and _UUID7.fullmatch(entry_id)):
            return "its id is not a UUIDv7"
        if not (isinstance(boot, str) and isinstance(mono, int) and not isinstance(mono, bool)):
            return "its boot or clock is missing"
        if not (isinstance(when, str) and _TIME.fullmatch(when)):
            return "its time is malformed"
        return ""

    def _pair(self, index: int, entry: dict[str, Any], entry_id: str, kind: str) -> None:
        session = named if isinstance(named := entry.get("session"), str) else ""
        if kind == "gap":
            self._report.gaps.append(index)
        elif kind == "redact" and isinstance(said := entry.get("redact"), dict) and isinstance(said.get("below"), int):
            self._report.prunes.append(said | {"t": entry["t"]})
        elif kind == "intent":
            self.intents[entry_id] = (index, session)
            self._sessions_open[session] += 1
        elif kind == "session.start":
            self.sessions[entry_id] = (index, session)
        elif kind in {"outcome", "session.end"}:
            known = self.intents if kind == "outcome" else self.sessions
            opened = known.pop(str(entry.get("ref")), None)
            if opened is None:
                if self._min_index == 0:
                    self._report.problem(index, f"entry {index}", f"this {kind} closes nothing that is open")
                return
            if opened[1] != session:
                self._report.problem(index, f"entry {index}", f"this {kind} is of another session than what it closes")
            if kind == "outcome":
                self._sessions_open[opened[1]] -= 1
            elif self._sessions_open.pop(session, 0) > 0:
                self._report.problem(index, f"entry {index}", "operations of the session have no outcome", tampered=False)

    def _blobs(self, index: int, entry: dict[str, Any]) -> None:
        session = entry.get("session")
        if self._payloads is None or not isinstance(session, str):
            return
        parts = [part for name in ("stmt", "params") if isinstance(part := entry.get(name), dict)]
        for part in [*parts, *(part["asked"] for part in parts if isinstance(part.get("asked"), dict))]:
            if "blob" in part:
                self._payloads.expect_blob(session, part["blob"], index)
        if entry["kind"] in {"outcome", "session.end"} and isinstance(recording := entry.get("recording"), dict):
            self._payloads.expect_head(session, recording, index, final=entry["kind"] == "session.end")
        if entry["kind"] == "session.end":
            self._payloads.settle(session)


# --- payload streams -------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Wanted:
    """What entries said of one session's stream, and where they said it first."""

    blobs: dict[bytes, int] = field(default_factory=dict)
    heads: dict[int, tuple[str, int, int]] = field(default_factory=dict)
    """By number of chunks: (hex head, bytes, index)."""
    end: tuple[int, int] = (-1, -1)
    """How many chunks it has in all, and which entry says so; -1: none does."""


class _Payloads:
    """Looks up what entries name in the sessions' files: each file is walked once, when its session has ended."""

    def __init__(self, folder: Path, report: Report) -> None:
        self._folder = folder
        self._report = report
        self._wanted: dict[str, _Wanted] = {}
        self._held = 0

    def expect_blob(self, session: str, blob: Any, index: int) -> None:
        if not (isinstance(blob, str) and _HEX64.fullmatch(blob)):
            self._report.problem(index, f"entry {index}", "a blob is not the hex of a SHA-256")
            return
        wanted = self._wanted.setdefault(session, _Wanted())
        before = len(wanted.blobs)
        wanted.blobs.setdefault(bytes.fromhex(blob), index)
        self._held += len(wanted.blobs) - before
        if self._held > MAX_BLOBS_HELD:
            self.settle_all()

    def expect_head(self, session: str, recording: dict[str, Any], index: int, *, final: bool) -> None:
        chunks, size, head = recording.get("chunks"), recording.get("bytes"), recording.get("head")
        if not (isinstance(chunks, int) and isinstance(size, int) and isinstance(head, str) and _HEX64.fullmatch(head)):
            self._report.problem(index, f"entry {index}", "its recording is malformed")
            return
        wanted = self._wanted.setdefault(session, _Wanted())
        wanted.heads[chunks] = (head, size, index)
        wanted.end = (chunks, index) if final else wanted.end

    def settle_all(self) -> None:
        """Look up everything that is wanted now."""
        for session in list(self._wanted):
            self.settle(session)

    def settle(self, session: str) -> None:
        """Look up what was wanted of one session, and forget it."""
        if (wanted := self._wanted.pop(session, None)) is None:
            return
        self._held -= len(wanted.blobs)
        where = f"payloads/{session}.osp"
        named = [*wanted.blobs.values(), *(index for _, _, index in wanted.heads.values())]
        self._report.blobs += len(wanted.blobs)
        self._report.heads += len(wanted.heads)
        if not _UUID.fullmatch(session):
            self._report.problem(min(named), f"entry {min(named)}", "its session is not a UUID")
            return
        try:
            with _open(self._folder / f"{session}.osp") as file:
                short = self._walk(file, session, wanted, where)
        except (OSError, Fault) as exc:
            what = "the payloads that entries name are not there" if isinstance(exc, FileNotFoundError) else str(exc)
            self._report.problem(min(named), where, what, tampered=isinstance(exc, Fault) and exc.tampered)
            return
        if (first := min([*wanted.blobs.values(), *(index for _, _, index in wanted.heads.values())], default=None)) is not None:
            what = f"{len(wanted.blobs)} payloads" if wanted.blobs else "an end"
            self._report.problem(first, where, f"{what} that entries name {'are' if wanted.blobs else 'is'} not in it", tampered=not short)

    def _walk(self, file: BinaryIO, session: str, wanted: _Wanted, where: str) -> bool:
        """Strike off what is found; returns whether the file ends before it should."""
        raw_session = bytes.fromhex(session.replace("-", ""))
        header = file.read(94)
        if len(header) < 94:
            raise Fault("its header is cut", tampered=False)
        if header[:10] != b"OSTIARYP\x01\x00" or header[10:26] != raw_session:
            raise Fault("its header is not that of this session's stream")
        head = hashlib.sha256(b"ostiary payloads v1\n" + raw_session).digest()
        furthest = max(wanted.heads, default=0)
        chunks, size, words, digest = 0, 94, b"", hashlib.sha256()
        self._strike_head(wanted, 0, head, size, where)
        torn = False
        for word, sealed in _sealed_chunks(file):
            if torn := not sealed:
                break
            digest.update(sealed)
            words += word
            chunks += 1
            size += 4 + len(sealed)
            if word[3] & 0x80:
                continue
            blob = digest.digest()
            wanted.blobs.pop(blob, None)
            head = hashlib.sha256(head + words + blob).digest()
            words, digest = b"", hashlib.sha256()
            self._strike_head(wanted, chunks, head, size, where)
        if 0 <= wanted.end[0] < chunks:
            self._report.problem(wanted.end[1], where, f"it goes on behind the end that entry {wanted.end[1]} names")
        if torn or words:
            self._report.notes.append(f"{where} ends in a chunk that was never finished, or has a hole from there on")
        return torn or bool(words) or chunks < furthest

    def _strike_head(self, wanted: _Wanted, chunks: int, head: bytes, size: int, where: str) -> None:
        said = wanted.heads.pop(chunks, None)
        if said is not None and (said[0] != head.hex() or said[1] != size):
            self._report.problem(said[2], where, f"its first {chunks} chunks are not the ones that entry {said[2]} names")


def _sealed_chunks(file: BinaryIO) -> Iterator[tuple[bytes, bytes]]:
    """(length word, ciphertext and tag); empty bytes at last where the file ends in the middle, or a power cut left a hole."""
    while word := file.read(4):
        length = int.from_bytes(word, "little") & 0x7FFFFFFF
        sector = 512 - (file.tell() - len(word)) % 512  # what is left of it: it came to the disk with the chunk, or is as it was before
        if 16 < length <= MAX_SEALED:
            sealed = file.read(length)
            if len(sealed) == length and HOLE not in sealed:
                yield word, sealed
                continue
        elif len(word) == 4 and (word + file.read(len(HOLE)))[:sector].strip(b"\0"):
            raise Fault(f"a chunk in it cannot be {length} bytes long")
        yield word, b""
        return


# --- the write-ahead log ---------------------------------------------------------------------------------------------


def _crc_of(crc: int) -> int:
    for _ in range(8):
        crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)  # Castagnoli, reflected: RFC 3720, B.4
    return crc


_CRC: Final = [_crc_of(byte) for byte in range(256)]


def crc32c(data: bytes) -> int:
    """CRC-32C, slowly."""
    crc, table = 0xFFFFFFFF, _CRC
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


class _Wal:
    """The WAL beside the log, read in step with the entries."""

    def __init__(self, folder: Path, size: int, report: Report, *, checksums: bool) -> None:
        self._report = report
        self._size = size
        names = sorted(name for name in _names(folder) if re.fullmatch(r"[0-9]{20}\.wal", name))
        self._segments = [(int(name[:20]), folder / name) for name in names]
        self._first = self._segments[0][0] if self._segments else 0
        self._checksums = checksums or sum(path.stat().st_size for _, path in self._segments) <= CHECKSUM_BUDGET
        self._frames = self._read()
        self._over = not self._segments
        if not self._checksums:
            report.notes.append("wal: checksums of signed entries were not computed (their bytes were compared)")

    def compare(self, index: int, entry: bytes) -> None:
        """The WAL must hold the same entry at this index, unless its older segments are gone."""
        if self._over or index < self._first:
            return
        frame = self._next(index)
        if frame is None:
            if not self._over:
                self._report.problem(index, "wal", "it ends before the signed entries do", tampered=False)
            self._over = True
        elif frame != entry:
            self._report.problem(index, "wal", f"entry {index} is another one than in the log")

    def rest(self) -> None:
        """What stands there beyond the last checkpoint is counted, and has to be well-formed."""
        index = max(self._size, self._first)
        while not self._over and (frame := self._next(index)) is not None:
            try:
                parse_entry(frame)
            except ValueError as exc:
                self._report.problem(index, "wal", f"entry {index}, which is not signed yet: {exc}")
            index += 1
            self._report.unsigned += 1

    def _next(self, index: int) -> bytes | None:
        try:
            return next(self._frames, None)
        except Fault as exc:
            self._over = True
            if index < self._size or exc.tampered:
                self._report.problem(index, "wal", str(exc))
            else:
                self._report.notes.append(f"wal, after entry {index}: {exc}")
            return None

    def _read(self) -> Iterator[bytes]:
        index = self._first
        for number, (first, path) in enumerate(self._segments):
            if first != index:
                raise Fault(f"{path.name} does not follow the segment before it")
            last = number == len(self._segments) - 1
            with _open(path) as file:
                while (frame := self._frame(file, index, last=last)) is not None:
                    yield frame
                    index += 1

    def _frame(self, file: BinaryIO, index: int, *, last: bool) -> bytes | None:
        head = file.read(8)
        if not head or (last and not head.strip(b"\0")):
            zeros = len(head)
            while rest := file.read(1 << 20):
                if rest.strip(b"\0") or (zeros := zeros + len(rest)) > MAX_PADDING:
                    raise Fault("something stands behind its end, or more room than a segment has")
            return None
        length, crc = _FRAME.unpack(head) if len(head) == 8 else (0, 0)
        entry = file.read(length) if 1 <= length <= MAX_ENTRY else b""
        if not entry or len(entry) < length:
            raise Fault(f"the frame of entry {index} is cut or malformed", tampered=not last)
        if (self._checksums or index >= self._size) and crc32c(entry) != crc:
            raise Fault(f"the checksum of entry {index} is wrong", tampered=not last)
        return entry


# --- one log ---------------------------------------------------------------------------------------------------------


class _Log:
    """The published files of one origin, checked against one another."""

    def __init__(self, log: Path, report: Report, min_index: int, *, tree_only: bool) -> None:
        self._log = log
        self._report = report
        self.min_index = min_index
        self._listed = log / ("checkpoint" if tree_only else "checkpoints")
        self._beyond = 0
        self.size = 0
        self.tree = _Tree(self._tile)

    def newest(self, policy: Policy) -> Key | None:
        """Read the newest checkpoint, and settle how far the log goes; None where nothing more can be said."""
        try:
            newest = Checkpoint.parse(_head(self._log / "checkpoint", MAX_NOTE))
        except FileNotFoundError:
            self._report.problem(None, "log/checkpoint", "there is none", tampered=False)
            return None
        self._report.origin = newest.origin
        key = policy.logs.get(newest.origin)
        if key is None:
            self._report.problem(0, "log/checkpoint", f"no trusted key for {newest.origin}", tampered=False)
            return None
        self._report.key = f"{key.name}+{key.id.hex()}"
        newest.check(key)
        last: list[bytes] = []
        with _open(self._listed) as file:
            for note, whole in _notes(file):
                if whole:
                    last = [*last[-1:], note]
                else:
                    self._report.notes.append("log/checkpoints ends in a note that was cut short and never published")
        ends = [Checkpoint.parse(note, "log/checkpoints") for note in last]
        if newest.text not in [end.text for end in ends]:
            raise Fault("it is not among the last two of log/checkpoints", where="log/checkpoint")
        newest = ends[-1] if ends[-1].size > newest.size else newest
        self._report.size = self.size = newest.size
        self._report.root = base64.b64encode(newest.root).decode()
        self._report.cosignatures = sorted(newest.witnesses(policy))
        if not policy.is_satisfied(policy.quorum, frozenset(self._report.cosignatures)):
            self._report.problem(None, "log/checkpoint", "too few witnesses of the policy cosigned it", tampered=False)
        return key

    def checkpoints(self, key: Key) -> Iterator[Checkpoint]:
        """Every checkpoint ever published, oldest first, signature and growth checked."""
        before = -1
        with _open(self._listed) as file:
            for number, (note, whole) in enumerate(_notes(file)):
                if not whole:
                    return
                try:
                    checkpoint = Checkpoint.parse(note)
                    checkpoint.check(key)
                    if checkpoint.size <= before:
                        raise Fault("it is not larger than the one before")  # noqa: TRY301
                except Fault as exc:
                    self._report.problem(max(before, 0), f"log/checkpoints, note {number}", str(exc))
                    return
                before = checkpoint.size
                self._report.checkpoints += 1
                yield checkpoint

    def entries(self) -> Iterator[tuple[int, bytes | None, bytes]]:
        """(index, entry, leaf hash) up to the size; an entry that was pruned is None, its hash comes from the tile."""
        for number in range((self.size + TILE - 1) // TILE):
            count = min(TILE, self.size - number * TILE)
            hashes = self._read("0", number, count)
            bundle = self._read("entries", number, count)
            start = number * TILE
            if bundle is None and hashes is not None and start + count <= self.min_index:
                self._report.pruned = start + count
                yield from ((start + i, None, hashes[32 * i : 32 * i + 32]) for i in range(count))
                continue
            if bundle is None:
                raise Fault(f"the bundle with entry {start} is missing", tampered=False, index=start)
            at = 0
            ends = [0]
            for i in range(count):
                length = int.from_bytes(bundle[at : at + 2], "big")
                entry = bundle[at + 2 : at + 2 + length]
                at += 2 + length
                if at > len(bundle) or not entry:
                    raise Fault(f"the bundle of entry {start + i} is cut or malformed", index=start + i)
                ends.append(at)
                leaf = hashlib.sha256(b"\x00" + entry).digest()
                if hashes is not None and hashes[32 * i : 32 * i + 32] != leaf:
                    self._report.problem(start + i, f"entry {start + i}", "it does not hash to what its tile holds")
                yield start + i, entry, leaf
            self._others("entries", number, bundle, ends)

    def _path(self, level: str, number: int) -> Path:
        return self._log / "tile" / level / tile_path(number)

    def _read(self, level: str, number: int, count: int) -> bytes | None:
        """A tile or bundle with at least `count` members: the full file if it is there, else a partial one."""
        path = self._path(level, number)
        widths = sorted(int(name) for name in _names(Path(f"{path}.p")) if name.isdecimal() and int(name) >= count)
        for candidate in [path, *(Path(f"{path}.p") / str(width) for width in widths)]:
            if candidate.is_file():
                return _head(candidate, TILE * (MAX_ENTRY + 2) + 1)
        return None

    def _tile(self, level: int, number: int, hashes: list[bytes]) -> None:
        """A tile as the entries make it is complete, or as complete as it gets: its files must say the same."""
        data = b"".join(hashes)
        here = f"tile/{level}/{tile_path(number)}"
        if self._read(str(level), number, len(hashes)) is None:
            self._report.problem(number * TILE ** (level + 1), here, "the tile is missing", tampered=False)
        self._others(str(level), number, data, list(range(0, len(data) + 1, 32)))

    def _others(self, level: str, number: int, data: bytes, ends: list[int]) -> None:
        """All files of one tile or bundle, full and partial: `ends` says where the first n members end in `data`."""
        path = self._path(level, number)
        known = len(ends) - 1
        for width, file in [(str(TILE), path), *((name, Path(f"{path}.p") / name) for name in _names(Path(f"{path}.p")))]:
            if not width.isdecimal() or not file.is_file():
                continue
            stored = _head(file, len(data) + 1)
            wanted = data[: ends[min(int(width), known)]]
            if int(width) > known:
                self._beyond += 1
                stored = stored[: len(wanted)]
            if stored != wanted:
                where = str(file.relative_to(self._log))
                span = 1 if level == "entries" else TILE ** int(level)
                low = (number * TILE + _first_difference(stored, wanted, ends)) * span
                self._report.problem(self._report.known_bad(low, low + span), where, "it is not what the entries say")

    def beyond(self) -> int:
        """How many tiles and bundles reach beyond the last checkpoint. Names that mean nothing are told."""
        count = self._beyond
        for folder, _, names in os.walk(self._log / "tile"):
            for name in names:
                where = (Path(folder) / name).relative_to(self._log / "tile").as_posix()
                match = re.fullmatch(r"(entries|[0-5])/((?:x[0-9]{3}/)*[0-9]{3})(?:\.p/([0-9]{1,3}))?", where)
                if match is not None:
                    number = int(match[2].replace("x", "").replace("/", ""))
                    count += number * TILE ** (1 if match[1] == "entries" else int(match[1]) + 1) >= self.size
                elif not name.startswith(".tmp-"):
                    self._report.notes.append(f"tile/{where} means nothing")
        return count


def _first_difference(stored: bytes, wanted: bytes, ends: list[int]) -> int:
    """The first member of a tile or bundle in which two byte strings differ."""
    at = next((i for i, (one, other) in enumerate(zip(stored, wanted, strict=False)) if one != other), min(len(stored), len(wanted)))
    return min(sum(end <= at for end in ends) - 1, len(ends) - 2)


def _open(path: Path) -> BinaryIO:
    """Open a file to read it. What is no file, a pipe or a device that somebody put there, might never end. Raises `OSError`."""
    if path.exists() and not path.is_file():
        raise OSError(0, "it is no file", str(path))
    return path.open("rb")


def _head(path: Path, most: int) -> bytes:
    with _open(path) as file:
        return file.read(most)


def _names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()] if folder.is_dir() else []


def verify(
    directory: str | Path, policy: Policy, *, min_index: int = 0, live: bool = False, checksums: bool = False,
    tree_only: bool = False, progress: Callable[[int, int], None] | None = None,
) -> Report:  # fmt: skip
    """Verify one origin: its folder, or the published `log` folder alone.

    `min_index`: entries below it may have been pruned (their level 0 tiles are kept). `live`: a gateway is writing to
    it, so operations, sessions and entries under way at the end are expected. `checksums`: also compute every CRC of
    a large WAL. `tree_only`: a log of somebody else, with entries of any form and no list of checkpoints. `progress` hears (entries done, entries in all). Never raises for what it reads.
    """
    base = Path(directory)
    log = base if (base / "checkpoint").is_file() and not (base / "log").is_dir() else base / "log"
    report = Report(str(base))
    try:
        beside = log.parent if log != base and not tree_only else None
        _verify(_Log(log, report, min_index, tree_only=tree_only), beside, policy, report, checksums, progress, tree_only)
    except Fault as exc:
        where = exc.where if exc.index is None else f"entry {exc.index}"
        report.problem(exc.index if report.size else 0, where, str(exc), tampered=exc.tampered)
    except OSError as exc:
        report.problem(None, str(exc.filename or "log"), f"cannot be read: {exc.strerror}", tampered=False)
    _conclude(report, live=live)
    return report


def _verify(
    log: _Log, beside: Path | None, policy: Policy, report: Report, checksums: bool,
    progress: Callable[[int, int], None] | None, tree_only: bool,
) -> None:  # fmt: skip
    if (key := log.newest(policy)) is None:
        return
    wal = payloads = None
    if beside is not None:
        payloads = _Payloads(beside / "payloads", report)
        if (beside / "wal").is_dir():
            wal = _Wal(beside / "wal", log.size, report, checksums=checksums)
    else:
        report.notes.append("only the published log was checked: neither WAL nor payloads stand beside it")
    story = _Story(report, payloads, log.min_index)
    published = log.checkpoints(key)
    due = next(published, None)
    agreed = 0
    for index, entry, leaf in log.entries() if log.size else [(-1, None, b"")]:
        if index >= 0:
            log.tree.append(leaf)
        if entry is not None and not tree_only:
            _entry(index, entry, story, wal, report)
        while due is not None and due.size <= log.tree.size:
            if due.size == log.tree.size and due.root != log.tree.root():
                low = report.known_bad(agreed, due.size)
                report.problem(low, f"the checkpoint of size {due.size}", "its root is not that of the entries")
                due = None
                break
            agreed = due.size
            due = next(published, None)
        if progress is not None and index % TILE == TILE - 1:
            progress(index + 1, log.size)
    log.tree.finish()
    for _ in published:  # what is left after a wrong root still has to be signed
        pass
    if story.suspects:
        _repetitions(log, story.suspects, report)
    if wal is not None:
        wal.rest()
    if payloads is not None:
        payloads.settle_all()
    report.open_intents = sorted(index for index, _ in story.intents.values())
    report.open_sessions = sorted(index for index, _ in story.sessions.values())
    if log.beyond():
        report.unsigned = max(report.unsigned, 1)


def _entry(index: int, data: bytes, story: _Story, wal: _Wal | None, report: Report) -> None:
    if wal is not None:
        wal.compare(index, data)
    try:
        story.tell(index, parse_entry(data))
    except ValueError as exc:
        report.problem(index, f"entry {index}", str(exc))


def _repetitions(log: _Log, suspects: dict[str, int], report: Report) -> None:
    """A second pass, only where an id is not above all before it: see if it was there before."""
    for index, entry, _ in log.entries():
        entry_id = None
        with contextlib.suppress(ValueError):
            entry_id = parse_entry(entry or b"").get("id")
        if isinstance(entry_id, str) and (again := suspects.get(entry_id, -1)) > index:
            report.problem(again, f"entry {again}", f"its id is that of entry {index}")


def _conclude(report: Report, *, live: bool) -> None:
    """What is unfinished at the end is expected of a log that is being written, and a gap in any other."""
    unfinished = [(report.open_intents, "operations have no outcome"), (report.open_sessions, "sessions have no end")]
    told = [(indices[0], f"{len(indices)} {what}") for indices, what in unfinished if indices]
    told += [(report.size, "something stands beyond the last checkpoint, under no signature")] * bool(report.unsigned)
    for index, what in told:
        if live:
            report.notes.append(f"under way: {what} yet")
        else:
            report.problem(index, "log", what, tampered=False)
    if report.gaps:
        report.problem(report.gaps[0], f"entry {report.gaps[0]}", "the log says that entries may be missing here", tampered=False)


def _retained(report: Report, said: dict[str, Any], keep_days: int) -> None:
    """Hold what was pruned against its record, and against how long this verifier wants entries to be kept."""
    if not report.pruned or not (said or keep_days):
        return
    days, when, where = said.get("keep_days"), str(said.get("t")), f"entries below {report.pruned}"
    if not isinstance(days, int) or not 0 < days <= 36_500:
        report.problem(0, where, "they are gone, and no entry says that they were pruned")
        return
    try:
        since = dt.datetime.fromisoformat(when) - dt.datetime.fromisoformat(report.kept_from)
    except ValueError:
        since = dt.timedelta()  # the calendar has no such time
    if since < dt.timedelta(days=days):
        report.problem(0, where, f"they were pruned on {when} though not all of them can have been {days} days old")
    if days < keep_days:
        report.problem(0, where, f"they were pruned on {when} after {days} days, and have to be kept for {keep_days}")
    report.notes.append(f"{where} were pruned on {when}, after {days} days")


# --- the command -----------------------------------------------------------------------------------------------------


def find_origins(directory: str | Path) -> list[Path]:
    """The origins at or below a folder: one for an origin's own folder or a published log."""
    base = Path(directory)
    if (base / "checkpoint").is_file() or (base / "log").is_dir():
        return [base]
    return sorted(path.parent for depth in ("*", "*/*", "*/*/*") for path in base.glob(f"{depth}/log") if path.is_dir())


def _name(origin: Path) -> str:
    """What a log calls itself in its newest checkpoint; empty where it has none that can be read."""
    for path in (origin / "log/checkpoint", origin / "checkpoint"):
        with contextlib.suppress(OSError):
            return _head(path, MAX_NOTE).split(b"\n")[0].decode(errors="replace")
    return ""


def _orders(report: Report) -> list[dict[str, Any]]:
    """The prunes that a log may order: the operator's alone, by the name that was signed, and of the same gateway's logs."""
    gateway, _, writer = report.origin.partition("/")
    trusted = writer.startswith("operator/") and report.status != "tampered"
    return [each for each in report.prunes if trusted and str(each.get("origin")).startswith(f"{gateway}/")]


def _gone(listed: str, reports: list[Report]) -> Iterator[Report]:
    """Each log that a policy names, of a gateway whose logs were found here, and that is not there."""
    found = {name for report in reports for name in (report.origin, _name(Path(report.directory)))}
    for name in Policy.parse(Path(listed).read_text(encoding="utf-8")).logs:
        if name not in found and name.partition("/")[0] in {each.partition("/")[0] for each in found}:
            yield Report(name, name, status="incomplete", problems=[Problem(None, "log", "the policy names it, and it is not there", tampered=False)])


def policy_for(origin: Path, args: argparse.Namespace) -> Policy:
    """The keys that the caller trusts for one origin; raises `Untrusted`."""
    try:
        if args.policy:
            return Policy.parse(Path(args.policy).read_text(encoding="utf-8"))
        if args.vkey:
            key = Key.parse(args.vkey)
            return Policy({key.name: key})
        folder = origin if (origin / "log").is_dir() else origin.parent
        if args.root:
            return certified_policy(_head(folder / "origin", MAX_NOTE), Key.parse(Path(args.root).read_text(encoding="utf-8")))
        if args.trust_on_first_use:
            return Policy.parse((folder / "policy").read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as exc:
        raise Untrusted(f"cannot be read: {exc}") from None
    raise Untrusted(
        "no key to trust was given: a key that merely lies in the directory proves nothing. "
        "Use --policy FILE (or --vkey, or --root FILE), or --trust-on-first-use to take it from the directory once"
    )


def render(report: Report) -> str:
    """A report for people."""
    counts = ", ".join(f"{count} {kind}" for kind, count in sorted(report.entries.items()))
    lines = [
        f"{report.status.upper()}  {report.origin or report.directory}",
        f"  size {report.size}, root {report.root or '-'}, {report.checkpoints} checkpoints, key {report.key or '-'}",
        f"  {counts or 'no entries'}; {report.blobs} payloads and {report.heads} stream heads looked up",
    ]
    if report.status == "tampered" and report.first_bad is not None:
        lines.append(f"  first bad entry: {report.first_bad}")
    lines += [f"  {'TAMPERED' if p.tampered else 'INCOMPLETE'}  {p.where}: {p.what}" for p in report.problems]
    lines += [f"  and {report.more_problems} more"] if report.more_problems else []
    lines += [f"  note: {note}" for note in report.notes]
    return "\n".join(line.encode("unicode_escape").decode() if not line.isprintable() else line for line in lines)


def main(argv: list[str] | None = None) -> int:
    """`ostiary audit verify`; returns the exit code."""
    parser = argparse.ArgumentParser(prog="ostiary audit verify", description="Verify an audit log offline.")
    parser.add_argument("directory", help="an origin, a published log, or a folder with origins below it")
    parser.add_argument("--policy", help="tlog-policy file with the logs' keys")
    parser.add_argument("--expect", help="tlog-policy file that names the logs which have to be there; --policy does so itself")
    parser.add_argument("--vkey", help="the log's key itself")
    parser.add_argument("--root", help="file with the vkey of the root that certified the origins")
    parser.add_argument("--trust-on-first-use", action="store_true", help="take the key from the directory")
    parser.add_argument("--min-index", type=int, default=0, help="entries below it may have been pruned")
    parser.add_argument("--keep-days", type=int, default=0, help="how long entries have to be kept: nothing younger may be pruned")
    parser.add_argument("--live", action="store_true", help="a gateway is writing: what is under way is expected")
    parser.add_argument("--checksums", action="store_true", help="compute every checksum of a large WAL")
    parser.add_argument("--tree-only", action="store_true", help="somebody else's log: signature, tiles, root")
    parser.add_argument("--output", choices=("text", "json"), default="text")
    args = parser.parse_args(argv)
    reports: list[Report] = []
    prunes: list[dict[str, Any]] = []
    # The operator's log first: it says what was pruned from the others.
    for origin in sorted(find_origins(args.directory), key=lambda path: _name(path).split("/")[1:2] != ["operator"]):
        try:
            policy = policy_for(origin, args)
        except Untrusted as exc:
            reports.append(Report(str(origin), status="incomplete", problems=[Problem(None, "key", str(exc), tampered=False)]))
            continue
        said = max((each for each in prunes if each.get("origin") == _name(origin)), key=lambda each: each["below"], default={})
        report = verify(origin, policy, min_index=max(args.min_index, said.get("below", 0)), live=args.live, checksums=args.checksums, tree_only=args.tree_only)
        _retained(report, said, args.keep_days)
        prunes += _orders(report)
        reports.append(report)
    if (listed := args.policy or args.expect) and find_origins(args.directory) != [Path(args.directory)]:
        with contextlib.suppress(Untrusted, OSError, UnicodeDecodeError):  # which was said of each log already
            reports += list(_gone(listed, reports))
    as_json = json.dumps([{**asdict(r), "first_bad": r.first_bad} for r in reports]) if args.output == "json" else ""
    sys.stdout.write((as_json or "\n".join(render(r) for r in reports) or "there is no log") + "\n")
    codes = {r.exit_code for r in reports}
    return 1 if 1 in codes else 2 if 2 in codes or not codes else 0


if __name__ == "__main__":
    sys.exit(main())
