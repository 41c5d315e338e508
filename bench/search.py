"""How long a search of a large log takes: `python -m bench.search --entries 1000000 --folder FOLDER [--rounds 5]`.

Makes a log of that many entries (the gateway's own encoder and recordings: sessions of persons, some through agents, of tasks,
on forty connections with two thousand tables), builds the index in a process of its own as `ostiary audit index rebuild` does, and
times each question as `ostiary audit search` asks it: opening the index, bringing it up to date, looking, reading the entries.
Rare and frequent terms are asked alike. `--values` reads the recordings too, and asks who touched a value. The folder is kept, and used again where it is there; ten million entries take some 30 GB.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import struct
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import google_crc32c

from ostiary.audit import index, search
from ostiary.audit.entries import Encoder, SessionEntries, SessionFacts
from ostiary.audit.journal import parameter_bytes
from ostiary.audit.search import Query
from ostiary.audit.touched import Touched
from ostiary.audit.wal import SEGMENT_BYTES
from ostiary.model.connections import Durability, Recording
from ostiary.model.decisions import Grounds, Permit, Refusal
from ostiary.model.events import PayloadKind
from ostiary.model.identity import Actor, Authentication, Kind, Said, VerifiedIdentity
from ostiary.model.operations import Action, Facts, Operation, Parameters, Resource, plain_facts
from ostiary.model.proofs import Intended, Outcome
from ostiary.recording.contents import contents
from ostiary.vault.keys import KeyEncryptionKey, create_key_file, load_key_file
from ostiary.vault.payload_reading import read_stream
from ostiary.vault.payloads import PayloadStream

PERSONS: Final = 5_000
AGENTS: Final = 200
CONNECTIONS: Final = 40
TABLES: Final = 2_000
OPERATIONS: Final = 20
"""Of one session, on average."""
START_NS: Final = 1_767_225_600 * 10**9
"""2026-01-01."""
YEAR_NS: Final = 365 * 86_400 * 10**9
POLICY: Final = "5e" * 32
PERMIT: Final = Grounds(("support-reads", "staff"), POLICY, frozenset(), None, "", "")
REFUSE: Final = Grounds(("no-deletes-in-production",), POLICY, frozenset(), None, "Deletes in production need a DBA.", "")
SHAPES: Final = (
    (Action.READ, "SELECT", "SELECT id, note, status FROM {t} WHERE id = $1"),
    (Action.READ, "SELECT", "SELECT c.name, sum(o.total) FROM {t} o JOIN customers c ON c.id = o.customer WHERE o.day > $1 GROUP BY 1"),
    (Action.WRITE, "UPDATE", "UPDATE {t} SET status = $2, changed = now() WHERE id = $1"),
    (Action.WRITE, "INSERT", "INSERT INTO {t} (customer, note) VALUES ($1, $2)"),
    (Action.DELETE, "DELETE", "DELETE FROM {t} WHERE id = $1"),
)  # fmt: skip


class Segments:
    """The WAL's frames, cut into segments as the writer cuts them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "wal"
        self._folder.mkdir(parents=True)
        self._room = 0
        self._held: list[bytes] = []
        self.count = 0

    def add(self, entry: bytes) -> None:
        if self._room < len(entry) + 8:
            self.flush()
            self._path = self._folder / f"{self.count:020d}.wal"
            self._room = SEGMENT_BYTES
        self._held.append(struct.pack("<II", len(entry), google_crc32c.value(entry)) + entry)
        self._room -= len(entry) + 8
        self.count += 1
        if len(self._held) >= 4096:
            self.flush()

    def flush(self) -> None:
        if self._held:
            with self._path.open("ab") as file:
                file.write(b"".join(self._held))
            self._held.clear()


class World:
    """Who does what to which tables."""

    def __init__(self, folder: Path, entries: int) -> None:
        self._dice = random.Random(7)
        self._folder = folder / "audit/worker-1/2026"
        self._wanted = entries
        self._step = YEAR_NS // entries
        self._encoder = Encoder("bench/worker-1", str(uuid.UUID(int=7)), str)
        self._out = Segments(self._folder)
        self._now = START_NS
        (folder / "keys").mkdir(mode=0o700)
        (self._folder / "payloads").mkdir()
        self._key: KeyEncryptionKey = create_key_file(folder / "keys/kek-1.key")
        self._facts = [facts(table, shape) for table in range(TABLES) for shape in range(len(SHAPES))]

    def make(self, told: Callable[[int], None]) -> int:
        while self._out.count < self._wanted:
            self._session()
            told(self._out.count)
        self._out.flush()
        return self._out.count

    def _id(self) -> str:
        self._now += self._step
        stamp = self._now // 1_000_000
        return str(uuid.UUID(int=stamp << 80 | 7 << 76 | self._dice.getrandbits(76) & ~(3 << 62) | 2 << 62))

    def _session(self) -> None:
        dice = self._dice
        who, task = identity(int(PERSONS * dice.random() ** 2), int(AGENTS * dice.random() * 2), self._out.count // 300)
        session, connection = self._id(), int(CONNECTIONS * dice.random() ** 2)
        said = Said(address=f"10.1.{dice.randrange(256)}.{dice.randrange(256)}:40001", application="psql", ticket=task)
        entries = SessionEntries(
            self._encoder,
            SessionFacts(
                identity=who, said=said, session=session, connection=f"db-{connection}", type="postgresql",
                address=f"db-{connection}.internal:5432", database="shop", account="svc",
                durability=Durability.STRICT, recording=Recording.FULL,
            ),
        )  # fmt: skip
        stream = PayloadStream.create(self._folder / f"payloads/{session}.osp", session, self._key)
        start, count = self._id(), 0
        self._out.add(entries.start(start, self._now, self._now - START_NS, policy=POLICY, grounds=PERMIT))
        for _ in range(dice.randrange(1, 2 * OPERATIONS)):
            count += 1
            self._operation(who, entries, stream)
        end = self._id()
        head = stream.close()
        self._out.add(entries.end(start, end, self._now, self._now - START_NS, status="ended", operations=count, recording=head))

    def _operation(self, who: VerifiedIdentity, entries: SessionEntries, stream: PayloadStream) -> None:
        dice = self._dice
        found = self._facts[int(len(self._facts) * dice.random() ** 1.5)]
        row = int(100_000_000 * dice.random() ** 1.5)
        values = (str(row).encode(), f"note {row % 977}".encode())
        operation = Operation(found, f"{found.head} /* whole */".encode(), Parameters((), values), b"")
        entry_id = self._id()
        stmt, params = stream.write(
            [
                (PayloadKind.STATEMENT, entry_id, 0, operation.statement),
                (PayloadKind.PARAMS, entry_id, 0, parameter_bytes(Parameters((), values))),
            ]
        )
        if found.action is Action.DELETE:
            self._out.add(entries.deny(Refusal(who, operation, REFUSE), entry_id, self._now, self._now - START_NS, stmt, params))
            return
        permit = Permit(who, operation, PERMIT)
        self._out.add(entries.intent(permit, entry_id, self._now, self._now - START_NS, stmt, params))
        stream.append(PayloadKind.RESULT, entry_id, 0, result(row))
        outcome = Outcome(
            intended=Intended(permit, entry_id, self._now - START_NS), status="ok", tag="SELECT 1", rows=1, bytes=80,
            error="", error_text="", masked=(), columns=(("id", 23), ("note", 25), ("status", 25)),
        )  # fmt: skip
        self._out.add(entries.outcome(outcome, self._id(), self._now, self._now - START_NS))


def result(row: int) -> bytes:
    """A description, one row, and its completion."""
    described = b"".join(
        name + b"\0" + struct.pack("!IhIhih", 0, 0, oid, -1, -1, 0) for name, oid in ((b"id", 23), (b"note", 25), (b"status", 25))
    )
    values = (str(row).encode(), f"note {row % 977}".encode(), b"open")
    cells = b"".join(struct.pack("!i", len(value)) + value for value in values)
    frames = ((b"T", b"\0\3" + described), (b"D", b"\0\3" + cells), (b"C", b"SELECT 1\0"))
    return b"".join(tag + struct.pack("!I", len(body) + 4) + body for tag, body in frames)


def facts(table: int, shape: int) -> Facts:
    action, name, text = SHAPES[shape]
    relation = f"public.orders_{table}"
    return plain_facts(
        action=action, name=name, resources=(Resource("relation", relation, action, ("id", "note"), ()),),
        head=text.format(t=relation),
    )  # fmt: skip


def identity(person: int, agent: int, task: int) -> tuple[VerifiedIdentity, str]:
    acting = (Actor("https://idp.example", f"agent:{agent}", Kind.AGENT, f"Agent {agent}"),) if agent < AGENTS else ()
    run = f"run-{task}"
    return VerifiedIdentity(
        issuer="https://idp.example", subject=f"user-{person}", kind=Kind.HUMAN, name=f"Person {person}", email=None,
        groups=frozenset({"staff", f"team-{person % 50}"}), acting=acting, initiator=None, task=run, mandate=None,
        auth=Authentication("oidc", "0" * 64, None, 0), expires=2_000_000_000, audience=frozenset(), digest=bytes(32),
    ), run  # fmt: skip


def questions(entries: int) -> Iterator[tuple[str, Query]]:
    """What is asked: each field once where few entries have it, and once where very many do."""
    yield "newest 100", Query()
    yield "person, frequent", Query(person="user-0")
    yield "person, rare", Query(person="user-4999")
    yield "actor, frequent", Query(actor="agent:0")
    yield "actor, any", Query(actor="agent:*")
    yield "task", Query(task=f"run-{entries // 600}")
    yield "object, frequent", Query(object="public.orders_0")
    yield "object, rare", Query(object="public.orders_1999")
    yield "object, beginning", Query(object="public.orders_1*")
    yield "action, frequent", Query(action="read")
    yield "verdict deny", Query(verdict="deny")
    yield "verdict deny, rare object", Query(verdict="deny", object="public.orders_1999")
    yield "two frequent", Query(person="user-0", action="write")
    yield "three frequent", Query(person="user-0", action="write", connection="db-0")
    yield "never together", Query(person="user-0", actor="agent:199", object="public.orders_1998")
    yield "one day", Query(since="2026-06-01", until="2026-06-02")
    yield "frequent, a day long ago", Query(person="user-0", since="2026-01-02", until="2026-01-03")
    yield "rare, a day long ago", Query(person="user-4999", since="2026-01-02", until="2026-01-03")
    yield "text, frequent", Query(text="select")
    yield "text, rare", Query(text="orders_1999")
    yield "text, two words", Query(text="orders_77 update")
    yield "text, beginning", Query(text="orders_19*")
    yield "text frequent, person frequent", Query(text="select", person="user-0")
    yield "text frequent, day long ago", Query(text="select", since="2026-01-02", until="2026-01-03")
    yield "nothing fits", Query(person="nobody")


def questions_of_values() -> Iterator[tuple[str, Query]]:
    """Values that many operations touched, and such that hardly any did."""
    yield "value, frequent", Query(value="note 0")
    yield "value, frequent, and a person", Query(value="note 0", person="user-4999")
    yield "value, rare", Query(value="77")
    yield "row", Query(row="public.orders_0/77")
    yield "value, nobody's", Query(value="no such value")


def looking(folder: Path, told: Callable[[int, int], None]) -> Touched:
    """What reads the recordings of such a log."""
    key = load_key_file(folder / "keys/kek-1.key")
    return Touched(bytes(32), lambda path, _spoken: contents(read_stream(path, key), lambda _value: False), progress=told)


def main() -> None:
    """Make the log where it is not there, build the index, ask, print."""
    options = argparse.ArgumentParser(description="Times searches of a large log.")
    options.add_argument("--entries", type=int, default=1_000_000)
    options.add_argument("--folder", type=Path, required=True)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--rebuild", action="store_true", help="build the index anew even where it is there")
    options.add_argument("--values", action="store_true", help="read the recordings, and ask for values too")
    options.add_argument("--json", type=Path)
    given = options.parse_args()
    figures: dict[str, Any] = {"entries": given.entries}
    if not (given.folder / "made").exists():
        began = time.perf_counter()
        World(given.folder, given.entries).make(teller("made", given.entries))
        (given.folder / "made").touch()
        print(f"made in {time.perf_counter() - began:.0f} s")
    if given.rebuild or not (given.folder / index.FILE).exists():
        began = time.perf_counter()
        count = index.rebuild(given.folder, teller("read", 0))
        figures["rebuild_seconds"] = took = time.perf_counter() - began
        print(f"index of {count} entries in {took:.0f} s, {count / took:.0f} entries a second")
    asked = list(questions(given.entries))
    touched = None
    if given.values:
        touched = looking(given.folder, teller("recordings read", 0))
        began = time.perf_counter()
        with closing(index.open_index(given.folder)) as db:
            count = touched.catch_up(db, given.folder)
        figures["recordings"], figures["recordings_seconds"] = count, time.perf_counter() - began
        print(f"{count} recordings in {figures['recordings_seconds']:.0f} s")
        asked += questions_of_values()
    figures["index_bytes"] = (given.folder / index.FILE).stat().st_size
    figures["log_bytes"] = sum(path.stat().st_size for path in given.folder.glob("audit/*/*/wal/*"))
    print(f"log {figures['log_bytes'] / 1e9:.2f} GB, index {figures['index_bytes'] / 1e9:.2f} GB")
    figures["milliseconds"] = {title: timed(given.folder, title, query, given.rounds, touched) for title, query in asked}
    if given.json:
        given.json.write_text(json.dumps(figures, indent=1))


def timed(folder: Path, title: str, query: Query, rounds: int, touched: Touched | None) -> list[float]:
    """Milliseconds of the first time, the median and the slowest."""
    took: list[float] = []
    found = 0
    for _ in range(rounds):
        began = time.perf_counter()
        found = sum(1 for _ in search.search(folder, query, touched))
        took.append((time.perf_counter() - began) * 1000)
    print(f"{title:34} {found:4} found  first {took[0]:8.1f}  median {statistics.median(took):8.1f} ms", flush=True)
    return [took[0], statistics.median(took), max(took)]


def teller(what: str, total: int) -> Callable[..., None]:
    """Say how far it is, every few seconds."""
    last = time.monotonic()

    def tell(done: int, of: int = total) -> None:
        nonlocal last
        if time.monotonic() - last > 5:
            last = time.monotonic()
            print(f"  {what} {done:,} of {of:,}", file=sys.stderr, flush=True)

    return tell


if __name__ == "__main__":
    main()
