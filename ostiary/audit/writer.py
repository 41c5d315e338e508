"""The writer: entries go into the tail on the loop, and from there to the disk in a thread of its own.

Theory of operation. The loop's side appends to the ring (`ostiary.audit.tail`) and never touches the disk. The thread takes all that
the ring holds, writes it with one `pwritev`, syncs it with one `fdatasync`, and says how far it came: group commit. While there is nothing
else to do it needs no interpreter for that (`ostiary.audit.drain`); everything that is out of the ordinary is done here. What recordings were
given that those entries name is made durable before (`beside`, `ostiary.audit.redo`). Whoever
waits for the disk (`when_durable`) is called back on the loop, each on its own, so one that raises does not hold up the others.

Waking. A strict entry rings the thread's bell at once, when somebody comes to wait for it. A buffered one does not: it is safe in the ring, so
the bell rings `NAP_SECONDS` after the first such entry, by a timer of the loop, and what comes in meanwhile shares a write and a sync; or
when the ring is a quarter full. A thread that wakes up costs the loop more than itself: both want the interpreter.

Failing, in the order of gravity:

* *behind*: the ring is full but for the reserve. `append` raises `LogBusy`; `wait_room` waits for room. The reserve is for entries that
  close something (outcomes, ends of sessions), so what was let in can always be finished.
* *full*: the disk has no space. Nothing is lost, because the ring keeps what is not written. Everything new is refused after
  `PATIENCE_SECONDS`; the thread tries again ten times a second, and goes on by itself.
* *stalled*: the disk does not answer. Strict waiters are told so when their deadline passes: a timer on the loop, which does not
  hang on the disk. What needs no disk (buffered) is refused after `STALL_SECONDS`.
* *unsigned*: the sealer is gone. After `UNSIGNED_SECONDS` everything new is refused.
* *failed*: fdatasync said no. Final for this writer: what is on the disk is unknown until recovery has looked. Final
  too: another writer has opened the log (the fence is ahead of ours), or the file that is written is not the one in the folder any more. What
  keeps two writers apart is the lock; both are looked at every `FENCE_SECONDS` before a batch, the file also before anybody
  is told.

What was tried: a Condition for waking costs 3 µs a wait; a SimpleQueue's `get` is one C call, but wants the interpreter; an eventfd does not. Waking
the thread for each strict append costs a system call each; `Drain.rung` makes it one a batch. A nap in the thread costs a second wake-up for each operation whose outcome woke it.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import errno
import logging
import math
import socket
import struct
import threading
import time
from bisect import insort
from collections import deque
from collections.abc import Callable
from typing import Final

from ostiary.audit import inline
from ostiary.audit.drain import LOOK, TELL, UNSYNCED, UNWRITTEN, Drain
from ostiary.audit.redo import Redo
from ostiary.audit.tail import Tail
from ostiary.audit.wal import Segments, SyncFailed
from ostiary.model.errors import LogFailed
from ostiary.vault.payloads import Loose

NAP_SECONDS: Final = 0.02
"""How long buffered entries may be in memory alone, beyond the time that a sync takes: what a power cut can take."""
PATIENCE_SECONDS: Final = 0.1
"""How long a strict entry waits for the disk, and anything waits on a full one: `ARCHITECTURE.md`, Failing."""
STALL_SECONDS: Final = 2.0
"""How long buffered entries go on while the disk does not answer. The tail holds about this much at full load."""
UNSIGNED_SECONDS: Final = 30.0
FENCE_SECONDS: Final = 0.1
"""How often the thread looks whether another writer has opened the log, or somebody taken its file away."""
LAST_SEAL_SECONDS: Final = 3.0
"""How long closing waits for the sealer's last signature."""
_RETRY_SECONDS: Final = 0.1
_HOUSEKEEPING_SECONDS: Final = 0.25
_ANNOUNCE_ENTRIES: Final = 1024
_ANNOUNCE_SECONDS: Final = 0.1

MESSAGE: Final = struct.Struct("<cQQ")
"""Between writer and sealer, one a datagram: b"D" (durable size, fence), b"F" (the same, and: seal it now), b"S" (signed size, 0)."""

_log = logging.getLogger(__name__)

Durable = Callable[[LogFailed | None], None]
"""Called on the loop: None when the entry is on the disk, else why it is not known to be."""


class LogBusy(LogFailed):
    """The tail is full for now. `Writer.wait_room` waits for room; who does not wait, refuses."""


class Health(enum.StrEnum):
    """How the log is."""

    OK = "ok"
    FULL = "full"
    STALLED = "stalled"
    UNSIGNED = "unsigned"
    FAILED = "failed"
    CLOSED = "closed"


class Writer:
    """One origin's log, open for appending. Made by `ostiary.audit.log.open_log`; all methods belong to the loop's thread."""

    def __init__(
        self,
        tail: Tail,
        segments: Segments,
        *,
        patience: float = PATIENCE_SECONDS,
        stall: float = STALL_SECONDS,
        unsigned: float | None = None,
        redo: Redo | None = None,
        fence: int = 0,
        read_fence: Callable[[], int] = lambda: 0,
        on_clean: Callable[[], None] = lambda: None,
        on_closed: Callable[[], None] = lambda: None,
        on_failed: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.signed = 0
        """Size of the last tree that the sealer said it signed."""
        self._tail = tail
        self._segments = segments
        self._drain = Drain(tail, segments.place)
        self._redo = redo
        self._beside: deque[Loose] = deque()
        """What has to be on the disk before the entries that are appended next."""
        self._patience = patience
        self._stall = stall
        self._unsigned = math.inf if unsigned is None else unsigned
        self._fence = fence
        self._read_fence = read_fence
        self._fence_seen_at = 0.0
        self._on_clean = on_clean
        self._on_closed = on_closed
        self._on_failed = on_failed
        self._reserve = tail.size // 8
        self._plenty = tail.size // 4
        """Bytes in the ring that end a nap."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._run, name="audit-writer", daemon=True)
        self._nap: asyncio.TimerHandle | None = None
        """Rings for buffered entries."""
        self._closing = False
        self._full_since = 0.0
        self._unsigned_since = 0.0
        self._failure: LogFailed | None = None
        self._waiters: deque[_Waiter] = deque()
        self._alarm: asyncio.TimerHandle | None = None
        self._housekeeper: asyncio.TimerHandle | None = None
        self._sealer: socket.socket | None = None
        self._announced = 0
        self._announced_at = 0.0
        self._drops = 0

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start the thread; callbacks run on `loop`."""
        self._loop = loop
        self._thread.start()
        self._wake()
        self._housekeeper = loop.call_later(_HOUSEKEEPING_SECONDS, self._keep_house)

    # --- the loop's side ------------------------------------------------------------------------------------------------

    def append(self, entry: bytes, closing: bool = False) -> int:
        """Put an entry into the tail: it now survives a killed process. Returns its index in the log.

        `closing` marks what ends something that is on record already: it may use the reserve, and is taken while others are refused.
        Raises `LogBusy` when there is no room now, `LogFailed` when the log cannot be written. Never blocks.
        """
        if closing:
            if self._failure is not None:
                raise self._failure
            index = self._tail.append(entry)
        else:
            if self._drain.busy_since or self._full_since or self._failure is not None or self._unsigned_since:
                self._refuse()
            index = self._tail.append(entry, self._reserve)
        if index < 0:
            self._wake()
            raise LogBusy("the log's tail is full: the disk is slower than what comes in")
        if self._nap is None:
            if self._loop is not None:
                self._nap = self._loop.call_later(NAP_SECONDS, self._napped)
        elif self._tail.used() > self._plenty:
            self._wake()
        return index

    def append_all(self, entries: list[bytes]) -> int:
        """Append several entries, or none of them, and return the last one's index. Raises as `append` does."""
        if sum(map(len, entries)) + 8 * len(entries) + self._reserve > self._tail.room - self._tail.used():
            self._wake()
            raise LogBusy("the log's tail is full: the disk is slower than what comes in")
        index = -1
        for entry in entries:
            index = self.append(entry)
        return index

    def beside(self, loose: Loose | None) -> None:
        """Have what a recording was given on the disk before any entry that is appended from now on.

        A recording for which that fails is in trouble (`PayloadStream.trouble`): whoever waits for an entry that names it looks there.
        """
        if loose is not None:
            self._beside.append(loose)
            self._drain.beside = True

    def when_durable(self, index: int, done: Durable) -> None:
        """Call `done` on the loop once entry `index` is on the disk, or after the patience has passed, with the reason.

        Never before this returns. An entry whose wait was given up may still become durable later.
        """
        if index < self._drain.durable or self._failure is not None:
            self._the_loop.call_soon(_tell, done, None if index < self._drain.durable else self._failure)
            return
        waiter = _Waiter(index, done, time.monotonic() + self._patience)
        waiters = self._waiters
        if waiters and waiters[-1].index > index:
            insort(waiters, waiter)
        else:
            waiters.append(waiter)
        self._drain.waiting = True
        self._wake()
        if self._alarm is None:
            self._alarm = self._the_loop.call_later(self._patience, self._expire)
        # The thread may have come this far between the first look and now, and seen nobody waiting: `_wake` has a barrier.
        if index < self._drain.durable:
            self._the_loop.call_soon(self._release)

    async def wait_durable(self, index: int) -> None:
        """Wait until entry `index` is on the disk. Raises `LogFailed` after the patience has passed."""
        future: asyncio.Future[None] = self._the_loop.create_future()

        def done(problem: LogFailed | None) -> None:
            if not future.done():
                future.set_result(None) if problem is None else future.set_exception(problem)

        self.when_durable(index, done)
        await future

    async def wait_room(self, timeout: float = PATIENCE_SECONDS) -> None:  # noqa: ASYNC109 - a deadline is what this is
        """Wait until `append` has room again. Raises `LogFailed` when it has none in `timeout` seconds."""
        deadline = time.monotonic() + timeout
        enough = self._reserve + (self._tail.size >> 4)
        while self._tail.room - self._tail.used() < enough:
            if self._failure is not None:
                raise self._failure
            if time.monotonic() > deadline:
                raise LogFailed(self.why or "the log's tail is full: the disk is slower than what comes in")
            self._wake()
            await asyncio.sleep(0.002)

    async def flush(self, timeout: float = 10.0) -> None:  # noqa: ASYNC109 - a deadline is what this is
        """Wait until all that was appended so far is on the disk. Raises `LogFailed`, or `TimeoutError`."""
        goal = self._tail.head[1]
        async with asyncio.timeout(timeout):
            while self.durable < goal:
                if self._failure is not None:
                    raise self._failure
                self._wake()
                await asyncio.sleep(0.001)

    async def close(self, timeout: float = 10.0) -> None:  # noqa: ASYNC109 - a deadline is what this is
        """Take no more, bring everything to the disk and let go. What cannot be written stays in the tail for recovery."""
        if self._closing:
            return
        self._closing = True
        closed = LogFailed("the log is closed")
        failed, self._failure = self._failure, self._failure or closed
        deadline = time.monotonic() + timeout
        self._wake()
        while self._thread.is_alive() and time.monotonic() < deadline:  # noqa: ASYNC110 - a thread sets no Event
            await asyncio.sleep(0.001)
        ended = not self._thread.is_alive()
        clean = ended and failed is None and self._failure is closed and not self._tail.used()
        self._release()
        self._fail_waiters(self._failure)
        await self._last_seal(deadline)
        for handle in (self._alarm, self._housekeeper, self._nap):
            if handle is not None:
                handle.cancel()
        if ended and self._redo is not None:
            self._redo.close()
        if clean:
            self._segments.close()
            # Before the tail goes: an open log without its tail is what a machine that stopped leaves.
            self._on_clean()
        if ended:
            self._drain.close()
            self._tail.close(remove=clean)
        self._on_closed()

    async def _last_seal(self, deadline: float) -> None:
        if self._sealer is None:
            return
        self._announce(b"F")
        deadline = min(deadline, time.monotonic() + LAST_SEAL_SECONDS)
        while self.signed < self.durable and time.monotonic() < deadline:  # noqa: ASYNC110 - set by `_hear`
            await asyncio.sleep(0.002)
        self._the_loop.remove_reader(self._sealer.fileno())
        self._sealer.close()
        self._sealer = None

    def attach_sealer(self, link: socket.socket) -> None:
        """Tell the process at the other end of `link` (SOCK_SEQPACKET) what may be signed, and hear what was."""
        link.setblocking(False)
        self._sealer = link
        self._the_loop.add_reader(link.fileno(), self._hear)
        self._announce(b"D")

    def seal_now(self) -> None:
        """Ask for a checkpoint over all that is durable: at the end of a session, at shutdown."""
        self._announce(b"F")

    @property
    def durable(self) -> int:
        """How many entries are known to be on the disk: every index below this one."""
        return self._drain.durable

    @property
    def size(self) -> int:
        """Entries in the log, those in the tail included: the next index."""
        return self._tail.head[1]

    @property
    def health(self) -> Health:
        """How the log is right now, as far as it can be told without asking the disk."""
        now = time.monotonic()
        if self._failure is not None:
            return Health.CLOSED if self._closing else Health.FAILED
        if self._full_since:
            return Health.FULL
        if (busy := self._drain.busy_since) and now - busy > self._patience:
            return Health.STALLED
        if self._is_unsigned(now):
            return Health.UNSIGNED
        return Health.OK

    @property
    def why(self) -> str:
        """What is wrong, in a sentence an operator can act on; empty when nothing is."""
        match self.health:
            case Health.OK:
                return ""
            case Health.FULL:
                return "the disk that holds the audit log is full"
            case Health.STALLED:
                return "the disk that holds the audit log does not answer"
            case Health.UNSIGNED:
                return "the audit log is not being signed: the sealer does not answer"
            case Health.FAILED | Health.CLOSED:
                return str(self._failure)

    @property
    def _the_loop(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            raise LogFailed("the log's writer was not started")
        return self._loop

    def _refuse(self) -> None:
        """Raise if something has been wrong for too long."""
        if self._failure is not None:
            raise self._failure
        now = inline.clock() / 1e9
        full, busy = self._full_since, self._drain.busy_since
        if full and now - full > self._patience:
            raise LogFailed("the disk that holds the audit log is full")
        if busy and now - busy > self._stall:
            raise LogFailed("the disk that holds the audit log does not answer")
        if self._is_unsigned(now):
            raise LogFailed("the audit log is not being signed: the sealer does not answer")

    def _is_unsigned(self, now: float) -> bool:
        since = self._unsigned_since
        return since > 0 and now - since > self._unsigned

    def _wake(self) -> None:
        self._drain.ring(not self._closing)

    def _napped(self) -> None:
        self._nap = None
        if self._tail.used():
            self._wake()

    def _release(self) -> None:
        """Call everyone back whose entry is on the disk."""
        durable, waiters = self._drain.durable, self._waiters
        while waiters and waiters[0].index < durable:
            _tell(waiters.popleft().done, None)
        self._drain.waiting = bool(self._waiters)

    def _expire(self) -> None:
        """Tell those whose patience has passed. This is the deadline that does not hang on the disk."""
        self._alarm = None
        self._release()
        now = time.monotonic()
        waiters = self._waiters
        late = [waiter for waiter in waiters if waiter.deadline <= now]
        if late:
            self._waiters = waiters = deque(waiter for waiter in waiters if waiter.deadline > now)
            problem = LogFailed(self.why or "the record could not be made durable in time")
            for waiter in late:
                _tell(waiter.done, problem)
        self._drain.waiting = bool(waiters)
        if waiters:
            first = min(waiter.deadline for waiter in waiters)
            self._alarm = self._the_loop.call_later(max(0.001, first - now), self._expire)

    def _fail_waiters(self, problem: LogFailed) -> None:
        waiters, self._waiters = self._waiters, deque()
        for waiter in waiters:
            _tell(waiter.done, problem)

    def _keep_house(self) -> None:
        self._housekeeper = self._the_loop.call_later(_HOUSEKEEPING_SECONDS, self._keep_house)
        if self.durable > self._announced:
            self._announce(b"D")
        if self._unsigned < math.inf:
            if self.signed >= self.durable:
                self._unsigned_since = 0.0
            elif not self._unsigned_since:
                self._unsigned_since = time.monotonic()

    def _hear(self) -> None:
        """Read what the sealer signed."""
        if self._sealer is None:
            return
        with contextlib.suppress(BlockingIOError, ConnectionError):
            while data := self._sealer.recv(64):
                if len(data) == MESSAGE.size and data[:1] == b"S":
                    _, self.signed, _ = MESSAGE.unpack(data)
                    # Progress is what counts: a sealer that is behind but alive is no reason to stop.
                    self._unsigned_since = 0.0
            if not data:
                self._the_loop.remove_reader(self._sealer.fileno())

    def _announce(self, what: bytes) -> None:
        """Say how far the sealer may go. A full socket loses nothing: the next message says more."""
        link = self._sealer
        if link is None:
            return
        durable = self.durable
        with contextlib.suppress(OSError):
            link.send(MESSAGE.pack(what, durable, self._fence), socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
            self._announced = durable
            self._drain.tell_at = durable + _ANNOUNCE_ENTRIES
            self._announced_at = time.monotonic()

    # --- the thread's side ----------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while self._turn():
                pass
        except BaseException as problem:  # noqa: BLE001 - whatever ends the thread ends the log
            failure = problem if isinstance(problem, LogFailed) else LogFailed(f"the log's writer failed: {problem}")
            self._failure = failure
            self._drain.busy_since = 0.0
            _log.critical("audit log failed: %s", failure)
            if isinstance(problem, SyncFailed):
                self._on_failed(str(problem))
            with contextlib.suppress(RuntimeError):
                self._the_loop.call_soon_threadsafe(self._fail_waiters, failure)

    def _turn(self) -> bool:
        """Wait for something to do, and bring to the disk what the tail holds. False: closed, and nothing left."""
        drain = self._drain
        why = LOOK if self._closing else drain.wait()
        if why == LOOK:
            # First this, then the look at the ring: an entry that came before it is seen, and one that comes after it rings again.
            drain.rung = False
            if not self._tail.used():
                return not self._closing
            self._check_fence()
        try:
            if why == LOOK:
                why = self._bring()
            if why in {UNWRITTEN, UNSYNCED}:
                self._segments.fail(drain.error, in_sync=why == UNSYNCED)
        except OSError as problem:
            drain.busy_since = 0.0
            if problem.errno not in {errno.ENOSPC, errno.EDQUOT}:
                raise
            drain.careful = True
            if not self._full_since:
                self._full_since = time.monotonic()
                _log.error("audit log: the disk is full")
            if self._closing:
                raise
            time.sleep(_RETRY_SECONDS)
            drain.again()
            return True
        drain.busy_since = self._full_since = 0.0
        drain.careful = False
        if self._waiters:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                self._the_loop.call_soon_threadsafe(self._release)
        self._announce_some()
        return True

    def _bring(self) -> int:
        """Bring to the disk what the tail holds: what goes beside it, then the entries by the short way, or by the long one if that will not do."""
        self._drain.busy_since = time.monotonic()
        if self._beside:
            self._bring_beside()
        why = self._drain.bring()
        if why != LOOK:
            return why
        slices, position, index = self._tail.pending()
        try:
            # Looked at after the ring: what belongs to an entry was handed over before it.
            if self._beside:
                self._bring_beside()
            self._segments.write(slices, index)
            self._segments.check()
        finally:
            for piece in slices:
                piece.release()
        self._tail.drained(position, index)
        self._drain.durable = index
        return TELL

    def _bring_beside(self) -> None:
        pieces: list[Loose] = []
        self._drain.beside = False
        while self._beside:
            pieces.append(self._beside.popleft())
        if self._redo is None:
            raise LogFailed("the log's writer was given no place for recordings")
        self._redo.keep(pieces)

    def _check_fence(self) -> None:
        now = time.monotonic()
        if now - self._fence_seen_at < FENCE_SECONDS:
            return
        current = self._read_fence()
        if current > self._fence:
            raise LogFailed(f"another writer (number {current}) has opened the log; this one was number {self._fence}")
        self._segments.check()
        self._fence_seen_at = now
        self._drain.look_at = now + FENCE_SECONDS

    def _announce_some(self) -> None:
        news = self.durable - self._announced
        if news >= _ANNOUNCE_ENTRIES or (news and time.monotonic() - self._announced_at > _ANNOUNCE_SECONDS):
            self._announce(b"D")


class _Waiter:
    __slots__ = ("deadline", "done", "index")

    def __init__(self, index: int, done: Durable, deadline: float) -> None:
        self.index = index
        self.done = done
        self.deadline = deadline

    def __lt__(self, other: _Waiter) -> bool:
        return self.index < other.index


def _tell(done: Durable, problem: LogFailed | None) -> None:
    """Call one waiter back. One that raises must not keep the others waiting."""
    try:
        done(problem)
    except Exception:  # noqa: BLE001 - whatever it is, it is that waiter's alone
        _log.exception("audit log: a waiter's callback failed")
