"""SFTP inside a channel: every request that names a path is judged, by the path that the target itself resolves it to.

Theory of operation
-------------------
A path that a client writes says little: `..` and symbolic links lead elsewhere. So before a request is judged, the gateway asks the
target where the path leads (REALPATH, a question without effects, under the permit of the subsystem). Requests that work on a
link itself (LSTAT, REMOVE, RENAME, SYMLINK, READLINK, …) have the folder resolved, and the last component kept. Policy sees the
canonical path, and *that path* is what goes to the target, between two more such questions (`swapped.py`): somebody else may swap a folder
for a link meanwhile. Who does so and undoes it within the microseconds between two requests is not seen: `SECURITY.md` says so.

A handle belongs to the OPEN that was permitted, as a portal does in PostgreSQL: READ and WRITE on it need no decision of their own.
FSETSTAT does, on the path that was judged when it was opened: owner, mode and times are more than content.
Numbers of requests are the gateway's own towards the target, so its questions and the client's never meet. Requests are taken in
order; while one waits for its path, those behind it wait too.

Where the connection says so, contents that are text are masked, by reading a little more than the client asked for, on either side (`looking.py`): the detectors see what
stands beside, and the client gets the part that it wanted. So it does not matter in which order, or how finely, a file is read. Where it says that such a file is refused, the part in which
something was found leaves masked, and every READ behind it is refused: a server cannot be asked what a file holds before it is read.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterator
from typing import Final

import msgspec

from ostiary.model.decisions import Permit, Refusal
from ostiary.model.errors import Misdeed, PeerMisbehaved
from ostiary.model.operations import Action, Operation, Unjudgeable
from ostiary.model.proofs import Batch, Content, Denied, Intended, Masked, Outcome
from ostiary.protocols.ssh import operations, refusals, sftp
from ostiary.protocols.ssh.looking import FAR, LOOK, Looking
from ostiary.protocols.ssh.messages import Reader, data_head, string, u32
from ostiary.protocols.ssh.operations import Ground
from ostiary.protocols.ssh.paths import canonical
from ostiary.protocols.ssh.results import held_from
from ostiary.protocols.ssh.sftp import Asking, Kind, Response
from ostiary.protocols.ssh.swapped import EMPTY, Watch, is_watched

DEFAULT_READ: Final = 64 * 1024
"""Bytes that a server reads at once where it does not say (`limits@openssh.com`): OpenSSH before 8.5."""
STATVFS: Final = 11 * 8
"""OpenSSH, PROTOCOL 4.4: what an answer to statvfs and fstatvfs holds, and nothing else of the extensions but limits is answered by more than a status."""
MAX_OUTSTANDING: Final = 4096
MAX_HANDLES: Final = 1024

_ON_THE_LINK: Final = frozenset(
    {Kind.LSTAT, Kind.REMOVE, Kind.RMDIR, Kind.RENAME, Kind.READLINK, Kind.MKDIR, Kind.SYMLINK}
)
_READS: Final = frozenset({Kind.LSTAT, Kind.STAT, Kind.OPENDIR, Kind.READLINK, Kind.REALPATH})


class _File:
    """What was opened: an OPEN or OPENDIR that the target granted."""

    __slots__ = ("at", "bytes", "clean", "digest", "intended", "looking", "masked", "path", "reads", "writes")

    def __init__(self, intended: Intended, path: str, *, reads: bool, writes: bool) -> None:
        self.intended = intended
        self.path = path
        """What was judged."""
        self.reads = reads
        self.writes = writes
        self.bytes = 0
        self.at = 0
        """Where the next byte is expected, for the digest."""
        self.clean = True
        """Read or written from the beginning to here, once and in order."""
        self.digest = hashlib.sha256()
        self.masked: dict[str, int] = {}
        self.looking = Looking()

    def count(self, offset: int, data: bytes | memoryview) -> None:
        self.clean = self.clean and offset == self.at
        self.at = offset + len(data)
        self.bytes += len(data)
        if self.clean:
            self.digest.update(data)


class _Waiting(msgspec.Struct, frozen=True):
    """A request that the target has not answered yet."""

    asking: Asking
    intended: Intended | None
    file: _File | None = None
    before: int = 0
    """READ: bytes asked for in front of what the client wanted."""
    wanted: int = 0
    watch: Watch | None = None
    opened: Response | None = None
    """FSETSTAT of the gateway's own, that empties a file: the handle that the client waits for."""


class _Taken(msgspec.Struct):
    """A request in hand: judged, or in no need of it."""

    asking: Asking
    operation: Operation | None
    file: _File | None = None
    """What its handle stood for when it was judged."""


class Files:
    """One SFTP conversation."""

    def __init__(self, ground: Ground, *, detects: bool, keeps: bool, links: bool, refuses: bool = False) -> None:
        """`keeps`: what is written goes into the recording. `links`: the target reads the two paths of SYMLINK as OpenSSH does.

        `refuses`: a file in which the detectors find something is not read on.
        """
        self._links = links
        self._ground = ground
        self._detects = detects
        self._keeps = keeps
        self._refuses = refuses
        self._from_client = bytearray()
        self._from_target = bytearray()
        self._queue: deque[Asking] = deque()
        self._taken: list[_Taken] = []
        self._resolving: list[int] = []
        """Numbers of the questions that the first request in the queue waits for."""
        self._resolved: dict[int, bytes | None] = {}
        self._waiting: dict[int, _Waiting | None] = {}
        """By the gateway's number; None: a question of its own."""
        self._handles: dict[bytes, _File] = {}
        self._number = 0
        self._watched: dict[int, tuple[_Waiting, Watch, bytes]] = {}
        """By the number of a question: what it is asked about, and the answer that it must have."""
        self._held: dict[int, _Waiting] = {}
        """By its watch: requests whose answers are held."""
        self._begun = False
        self._ready = False
        self._max_read = DEFAULT_READ
        self._outcomes: list[Outcome] = []
        self._answers: list[bytes] = []
        self._kept: list[tuple[Intended, bytes]] = []
        self._reading: tuple[_File, int, int] | None = None
        self._wire: list[bytes] = []
        self._judged: dict[int, Asking] = {}
        """By the request as it came: the same with the paths that policy saw."""

    @property
    def outstanding(self) -> int:
        """Requests that were not answered, or not yet taken."""
        return len(self._waiting) + len(self._queue)

    @property
    def is_idle(self) -> bool:
        """Whether the target has everything that the client asked for, and has answered it."""
        return not (self._waiting or self._queue or self._watched or self._held or self._wire)

    @property
    def is_stalled(self) -> bool:
        """Whether there is something to send, or to take from the queue, though nothing more has come from the client."""
        return bool(self._wire) or (self._is_open and all(number in self._resolved for number in self._resolving))

    @property
    def _is_open(self) -> bool:
        """Whether the next request may be taken: nothing is asked of a target that has not said what it speaks."""
        return bool(self._queue) and (self._ready or self._queue[0].kind is Kind.INIT)

    # --- from the client ---------------------------------------------------------------------------------------------

    def asks(self, data: bytes) -> Iterator[Operation]:
        """Take in bytes; yield what must be decided, in order. The answer comes to `order`."""
        self._from_client += data
        for raw in sftp.cut(self._from_client):
            self._enqueue(raw)
        while self._is_open:
            asking = self._queue[0]
            judged = bool(asking.paths) and not _asks_home(asking)
            if judged and not self._is_resolved(asking):
                return
            self._queue.popleft()
            file = self._changing(asking)
            operation = self._operation(asking) if judged else None
            if file is not None:
                operation = operations.file(
                    "fsetstat", ((file.path, Action.WRITE),), self._ground, sftp.write_request(asking, 0),
                    details=sftp.details(asking),
                )  # fmt: skip
            self._resolving = []
            self._taken.append(_Taken(asking, operation, file))
            if operation is not None:
                yield operation

    def _changing(self, asking: Asking) -> _File | None:
        """The file that an FSETSTAT would change, if its handle is good for that."""
        file = self._handles.get(asking.handle) if asking.kind is Kind.FSETSTAT else None
        return file if file is not None and file.writes else None

    def _enqueue(self, raw: bytes) -> None:
        asking = sftp.read_request(raw)
        if asking is None:
            number = int.from_bytes(raw[1:5], "big") if len(raw) >= 5 else 0
            self._answers.append(sftp.status(number, sftp.OP_UNSUPPORTED, "ostiary: not spoken here"))
            return
        if (asking.kind is Kind.INIT) == self._begun:
            raise PeerMisbehaved(Misdeed.OUT_OF_TURN, asking.kind.name)
        self._begun = True
        if asking.kind is Kind.INIT and asking.id < sftp.VERSION:
            raise PeerMisbehaved(Misdeed.BAD_FIELD, "an SFTP version before 3")
        if asking.kind is Kind.EXTENDED and not asking.extension:
            self._answers.append(
                sftp.status(asking.id, sftp.OP_UNSUPPORTED, "ostiary: this extension is not spoken here")
            )
            return
        if len(self._queue) + len(self._waiting) > MAX_OUTSTANDING:
            raise PeerMisbehaved(Misdeed.TOO_COSTLY, "too many SFTP requests at once")
        self._queue.append(asking)

    # --- where paths lead --------------------------------------------------------------------------------------------

    def _is_resolved(self, asking: Asking) -> bool:
        if not self._resolving:
            self._resolving = [self._ask_where(path) for path in self._questions(asking)]
        return all(number in self._resolved for number in self._resolving)

    def _questions(self, asking: Asking) -> list[bytes]:
        """What has to be resolved: the path, or the folder that it stands in."""
        paths = list(asking.paths)
        if asking.kind is Kind.SYMLINK:
            # The folder of the link, and where the text leads from there: `..` in it means what the folders are.
            target, link = paths
            return [_folder(link), target if target.startswith(b"/") else _folder(link) + b"/" + target]
        if self._keeps_last(asking):
            return [_folder(path) for path in paths]
        return paths

    @staticmethod
    def _keeps_last(asking: Asking) -> bool:
        if asking.kind is Kind.EXTENDED:
            return asking.extension != "statvfs@openssh.com"
        exclusive = asking.kind is Kind.OPEN and asking.flags & sftp.CREAT_FLAG and asking.flags & sftp.EXCL_FLAG
        return asking.kind in _ON_THE_LINK or bool(exclusive)

    def _ask_where(self, path: bytes) -> int:
        number = self._next()
        self._waiting[number] = None
        self._wire.append(sftp.packet(Kind.REALPATH, u32(number), string(path)))
        return number

    def _operation(self, asking: Asking) -> Operation:
        """Judge a request whose paths are known, or say why that cannot be done."""
        found = [self._resolved.pop(number) for number in self._resolving]
        name = _name(asking)
        raw = sftp.write_request(asking, 0)
        if asking.kind is Kind.SYMLINK and not self._links:
            return self._no(name, raw, Unjudgeable.UNSUPPORTED, "the target may read the two paths of a link in either order")
        texts: list[str] = []
        sources = [asking.paths[1], b"/"] if asking.kind is Kind.SYMLINK else list(asking.paths)
        for path, where in zip(sources, found, strict=True):
            if where is None:
                return self._no(name, raw, Unjudgeable.UNKNOWN_OBJECT, "there is no such folder")
            try:
                text = where.decode()
                last = _last(path).decode() if self._keeps_last(asking) else ""
            except UnicodeDecodeError:
                return self._no(name, raw, Unjudgeable.BAD_TEXT, "a file name that is not UTF-8 cannot be judged")
            if not text.startswith("/"):
                return self._no(name, raw, Unjudgeable.UNSUPPORTED, "the target does not say where the path leads")
            texts.append(_join(text, last))
        touches, sent = self._touches(asking, texts)
        if touches is None:
            return self._no(name, raw, Unjudgeable.BAD_TEXT, "a file name that is not UTF-8 cannot be judged")
        judged = msgspec.structs.replace(asking, paths=tuple(path.encode() for path in sent))
        self._judged[id(asking)] = judged
        return operations.file(
            name, touches, self._ground, sftp.write_request(judged, 0), moves=asking.kind is Kind.OPEN,
            details=sftp.details(asking),
        )  # fmt: skip

    def _no(self, name: str, raw: bytes, why: Unjudgeable, message: str) -> Operation:
        return operations.refused(name, raw, why, message, b"")

    def _touches(self, asking: Asking, paths: list[str]) -> tuple[tuple[tuple[str, Action], ...] | None, list[str]]:
        """What happens to which path, and the paths as they go to the target."""
        first = paths[0]
        extension = asking.extension
        if asking.kind is Kind.OPEN:
            return _opened(first, asking.flags), paths
        if asking.kind in _READS or extension == "statvfs@openssh.com":
            return ((first, Action.READ),), paths
        if asking.kind in {Kind.REMOVE, Kind.RMDIR}:
            return ((first, Action.DELETE),), paths
        if asking.kind is Kind.RENAME or extension == "posix-rename@openssh.com":
            return ((first, Action.READ), (first, Action.DELETE), (paths[1], Action.WRITE)), paths
        if extension == "hardlink@openssh.com":
            # A second name for the same file: whoever may use the new name may do all that the old one allows.
            return ((first, Action.READ), (first, Action.WRITE), (paths[1], Action.WRITE)), paths
        if asking.kind is Kind.SYMLINK:
            try:
                target = asking.paths[0].decode()
            except UnicodeDecodeError:
                return None, []
            leads = paths[1]
            return ((first, Action.WRITE), (leads, Action.READ), (leads, Action.WRITE)), [target, first]
        return ((first, Action.WRITE),), paths  # MKDIR, SETSTAT, lsetstat

    # --- to the target -----------------------------------------------------------------------------------------------

    def order(self, decided: deque[tuple[Permit | Refusal, Intended | Denied]]) -> bytes:
        """Everything taken since the last call, for the target: what was decided only under its proof."""
        for taken in self._taken:
            if taken.operation is None:
                self._pass(taken.asking)
                continue
            judged = self._judged.pop(id(taken.asking), taken.asking)
            decision, proof = decided.popleft()
            if isinstance(proof, Intended) and isinstance(decision, Permit):
                if taken.file is not self._changing(taken.asking):  # it was closed ahead of this, and may stand for another now
                    self._answers.append(sftp.status(taken.asking.id, sftp.FAILURE, "ostiary: no such handle"))
                    self._outcomes.append(_outcome(proof, "error", error=str(sftp.FAILURE)))
                    continue
                self._send_watched(judged, proof)
            elif isinstance(decision, Refusal):
                self._answers.append(refusals.file(decision, taken.asking.id))
        self._taken.clear()
        wire = b"".join(self._wire)
        self._wire.clear()
        return wire

    def _send(self, asking: Asking, waiting: _Waiting) -> None:
        number = self._next()
        self._waiting[number] = waiting
        self._wire.append(sftp.write_request(asking, number))

    def _send_watched(self, asking: Asking, intended: Intended) -> None:
        """Send it between two questions where its paths lead, if it moves or changes anything."""
        if not is_watched(asking):
            self._send(asking, _Waiting(asking, intended))
            return
        places = [_folder(path) if self._keeps_last(asking) else path for path in asking.paths]
        if asking.kind is Kind.SYMLINK:
            places = [_folder(asking.paths[1])]
        watch = Watch(asking, 2 * len(places))
        waiting = _Waiting(asking, intended, watch=watch)
        self._held[id(watch)] = waiting
        self._watch(waiting, watch, places)
        self._send(msgspec.structs.replace(asking, flags=asking.flags & ~sftp.TRUNC_FLAG) if watch.empties else asking, waiting)
        self._watch(waiting, watch, places)

    def _watch(self, waiting: _Waiting, watch: Watch, places: list[bytes]) -> None:
        for place in places:
            number = self._next()
            self._watched[number] = (waiting, watch, place)
            self._wire.append(sftp.packet(Kind.REALPATH, u32(number), string(place)))

    def _pass(self, asking: Asking) -> None:
        """Send on what needs no decision of its own: it works on a handle, or asks nothing of a file."""
        if asking.kind is Kind.INIT:
            self._waiting[-1] = _Waiting(asking, None)
            self._wire.append(sftp.write_request(asking, 0))
            return
        if asking.extension == sftp.LIMITS or _asks_home(asking):
            self._send(asking, _Waiting(asking, None))
            return
        file = self._handles.get(asking.handle)
        fits = file is not None and (
            (asking.kind is Kind.READ and file.reads)
            or (asking.kind is Kind.WRITE and file.writes)
            or asking.kind not in {Kind.READ, Kind.WRITE, Kind.FSETSTAT}
        )
        if file is None or not fits:
            self._answers.append(
                sftp.status(asking.id, sftp.FAILURE, "ostiary: no such handle, or not opened for that")
            )
        elif asking.kind is Kind.READ and self._refuses and file.masked:
            self._answers.append(sftp.status(asking.id, sftp.PERMISSION_DENIED, f"ostiary: it holds {_found(file)}, which may not leave"))
        elif asking.kind is Kind.READ:
            self._read(asking, file)
        else:
            if asking.kind is Kind.WRITE:
                file.count(asking.offset, asking.tail)
                if self._keeps:
                    self._kept.append((file.intended, asking.tail))
            if asking.kind is Kind.CLOSE:
                del self._handles[asking.handle]
            self._send(asking, _Waiting(asking, None, file))

    def _read(self, asking: Asking, file: _File, front: int = LOOK) -> None:
        """Ask for a little more than the client did, so that the detectors see what stands beside."""
        look, front = (LOOK, front) if self._detects else (0, 0)
        wanted = min(asking.length, self._max_read - front - look)
        before = min(asking.offset, front)
        if not before and not look and wanted == asking.length:
            self._send(asking, _Waiting(asking, None, file, 0, wanted))
            return
        wider = msgspec.structs.replace(asking, offset=asking.offset - before, length=before + wanted + look)
        self._send(wider, _Waiting(asking, None, file, before, wanted))

    def streamed(self) -> Iterator[tuple[Intended, bytes]]:
        """What of the last order's bytes is content of a file, and under which intent."""
        kept, self._kept = self._kept, []
        yield from kept

    def answers(self) -> bytes:
        """Packets of the gateway's own for the client."""
        answers, self._answers = b"".join(self._answers), []
        return answers

    # --- from the target ---------------------------------------------------------------------------------------------

    def results(self, data: bytes | memoryview) -> Iterator[tuple[Batch, Intended | None]]:
        """Take in bytes of the target; yield what masking must see, each with the intent that it answers."""
        for raw in sftp.cut_through(self._from_target, data):
            answer = sftp.read_answer(raw)
            if answer.kind is Kind.VERSION:
                yield self._version(answer), None
                continue
            if answer.id in self._watched:
                asked, watch, place = self._watched.pop(answer.id)
                watch.found(_where(answer), place)
                yield from self._settle(asked, watch)
                continue
            if answer.id not in self._waiting:
                raise PeerMisbehaved(Misdeed.OUT_OF_TURN, "an SFTP answer to nothing")
            waiting = self._waiting.pop(answer.id)
            if waiting is None:
                self._resolved[answer.id] = _where(answer)
                continue
            if waiting.watch is not None:
                waiting.watch.answer = answer
                yield from self._settle(waiting, waiting.watch)
                continue
            if waiting.opened is not None:
                answer, waiting = self._emptied(answer, waiting, waiting.opened)
            under = waiting.intended or (waiting.file.intended if waiting.file is not None else None)
            for batch in self._answered(answer, waiting):
                yield batch, under

    def _settle(self, waiting: _Waiting, watch: Watch) -> Iterator[tuple[Batch, Intended | None]]:
        """The answer goes on once it is known that the paths led where they were judged to. Raises `PeerMisbehaved` where they did not."""
        answer = watch.answer
        if not watch.is_settled or answer is None:
            return
        del self._held[id(watch)]
        is_done = answer.kind is not Kind.STATUS or sftp.read_status(answer.body)[0] == sftp.OK
        if is_done and not watch.led:
            if waiting.intended is not None:
                self._outcomes.append(_outcome(waiting.intended, "error", tag="the path led elsewhere", error=str(sftp.PERMISSION_DENIED)))
            raise PeerMisbehaved(Misdeed.BAD_FIELD, "a path that leads elsewhere by the time it is used")
        if watch.empties and answer.kind is Kind.HANDLE:
            asking = Asking(kind=Kind.FSETSTAT, id=0, handle=Reader(answer.body).string(), tail=EMPTY)
            self._send(asking, _Waiting(waiting.asking, waiting.intended, opened=answer))
            return
        for batch in self._answered(answer, waiting):
            yield batch, waiting.intended

    @staticmethod
    def _emptied(answer: Response, waiting: _Waiting, opened: Response) -> tuple[Response, _Waiting]:
        """The file that was opened is empty now: the client gets its handle, or hears why not."""
        is_empty = answer.kind is Kind.STATUS and sftp.read_status(answer.body)[0] == sftp.OK
        return (opened if is_empty else answer), msgspec.structs.replace(waiting, opened=None)

    def _version(self, answer: Response) -> Batch:
        if self._ready or self._waiting.pop(-1, None) is None or answer.id != sftp.VERSION:
            raise PeerMisbehaved(Misdeed.OUT_OF_TURN, "VERSION")
        self._ready = True
        offered = [
            string(name) + string(value)
            for name, value in sftp.read_version(answer.body)
            if name.decode("latin-1") in sftp.EXTENSIONS
        ]
        return _control(sftp.packet(Kind.VERSION, u32(sftp.VERSION), *offered))

    def _answered(self, answer: Response, waiting: _Waiting) -> Iterator[Batch]:
        client = u32(waiting.asking.id)
        match answer.kind:
            case Kind.STATUS:
                yield from self._status(answer, waiting)
            case Kind.HANDLE if waiting.asking.kind in {Kind.OPEN, Kind.OPENDIR} and waiting.intended is not None:
                yield self._opened(answer, waiting, waiting.intended)
            case Kind.DATA if waiting.asking.kind is Kind.READ and waiting.file is not None and answer.content is not None:
                yield from self._data(answer.content, waiting, waiting.file)
            case Kind.NAME if waiting.asking.kind in {Kind.READDIR, Kind.REALPATH, Kind.READLINK}:
                self._end(waiting, "ok")
                yield from _names(answer, client)
            case Kind.ATTRS if waiting.asking.kind in {Kind.STAT, Kind.LSTAT, Kind.FSTAT}:
                self._end(waiting, "ok")
                yield _control(sftp.packet(Kind.ATTRS, client, sftp.read_attributes(answer.body)))
            case Kind.EXTENDED_REPLY if waiting.asking.kind is Kind.EXTENDED:
                self._end(waiting, "ok")
                yield _control(sftp.packet(Kind.EXTENDED_REPLY, client, self._limited(answer.body, waiting.asking)))
            case _:
                raise PeerMisbehaved(Misdeed.OUT_OF_TURN, f"SFTP {answer.kind.name} to {waiting.asking.kind.name}")

    def _status(self, answer: Response, waiting: _Waiting) -> Iterator[Batch]:
        code, text = sftp.read_status(answer.body)
        if waiting.asking.kind is Kind.CLOSE and waiting.file is not None:
            self._close(waiting.file, "ok" if code == sftp.OK else "error")
        else:
            self._end(waiting, "ok" if code in {sftp.OK, sftp.EOF} else "error", code)
        body = u32(waiting.asking.id) + u32(code) + u32(len(text))
        head = u32(1 + len(body) + len(text) + 6) + bytes([Kind.STATUS]) + body
        yield _stretch(head, text, 6)
        yield _raw(string(b"en"))

    def _opened(self, answer: Response, waiting: _Waiting, intended: Intended) -> Batch:
        reader = Reader(answer.body)
        handle = reader.string()
        reader.end()
        if len(handle) > sftp.MAX_HANDLE or handle in self._handles or len(self._handles) >= MAX_HANDLES:
            raise PeerMisbehaved(Misdeed.BAD_FIELD, "a handle")
        flags = waiting.asking.flags
        self._handles[handle] = _File(
            intended, waiting.asking.paths[0].decode(),
            reads=bool(flags & sftp.READ_FLAG), writes=bool(flags & (sftp.WRITE_FLAG | sftp.APPEND_FLAG)),
        )  # fmt: skip
        return _control(sftp.packet(Kind.HANDLE, u32(waiting.asking.id), answer.body))

    def _data(self, content: memoryview, waiting: _Waiting, file: _File) -> Iterator[Batch]:
        start = min(waiting.before, len(content))
        stop = min(start + waiting.wanted, len(content))
        if start == stop:
            yield _control(sftp.status(waiting.asking.id, sftp.EOF, "End of file"))
            return
        data = bytes(content) if self._detects else b""
        looks = self._detects and _is_text(data)
        front = b""
        if looks:
            at = waiting.asking.offset - waiting.before
            known = file.looking.in_front(at, data, start)
            if known is None:
                self._read(waiting.asking, file, FAR)
                return
            front = known
            if start < (end := held_from(data)) < stop == len(data):
                stop = end  # it may go on, so what could be the beginning of a value waits until the client asks for it
            if at + stop > LOOK:  # where the window of the next piece begins
                file.looking.saw(at + stop - LOOK, (front + data)[: len(front) + stop - LOOK])
            yield self._piece(front + data, waiting, file, (len(front) + start, len(front) + stop), looks=True)
        else:
            yield self._piece(content, waiting, file, (start, stop), looks=False)

    def _piece(self, data: bytes | memoryview, waiting: _Waiting, file: _File, part: tuple[int, int], *, looks: bool) -> Batch:
        """The part of what was read that the client gets."""
        start, stop = part
        client, size = u32(waiting.asking.id), stop - start
        head = u32(1 + 4 + 4 + size) + bytes([Kind.DATA]) + client + u32(size)
        self._reading = (file, waiting.asking.offset, len(head))
        head = data_head(len(head) + size, 0) + head
        if not looks:
            return Batch(b"".join((head, data[start:stop])), Content.FILE, None, 0, False)
        return Batch(bytes(data), Content.STRETCH, None, 0, False, head, part)

    def masked(self, masked: Masked, head: int) -> None:
        """Count what leaves of a file. `head`: how much of the frames is framing of the channel."""
        if self._reading is None:
            return
        file, offset, size = self._reading
        self._reading = None
        file.count(offset, memoryview(masked.frames)[head + size :])
        for name, number in masked.counts:
            file.masked[name] = file.masked.get(name, 0) + number

    def _limited(self, body: bytes, asking: Asking) -> bytes:
        """OpenSSH, PROTOCOL 4.8: leave room for what is read beside."""
        if asking.extension != sftp.LIMITS:
            if len(body) != STATVFS:
                raise PeerMisbehaved(Misdeed.BAD_LENGTH, asking.extension)
            return body
        reader = Reader(body)
        packet, read, write, handles = reader.u64(), reader.u64(), reader.u64(), reader.u64()
        reader.end()
        self._max_read = max(DEFAULT_READ, min(read or DEFAULT_READ, sftp.MAX_PACKET - 1024))
        room = self._max_read - (2 * LOOK if self._detects else 0)
        shown = (packet, room, write, min(handles or MAX_HANDLES, MAX_HANDLES))
        return b"".join(value.to_bytes(8, "big") for value in shown)

    # --- outcomes ----------------------------------------------------------------------------------------------------

    def _end(self, waiting: _Waiting, status: str, code: int = 0) -> None:
        if waiting.intended is not None:
            error = "" if status == "ok" else str(code)
            self._outcomes.append(_outcome(waiting.intended, status, error=error))

    def _close(self, file: _File, status: str) -> None:
        digest = f"sha256 {file.digest.hexdigest()}" if file.clean else "not in order"
        moved = f"{file.bytes} bytes, {digest}" if file.reads or file.writes else ""
        masked = tuple(sorted(file.masked.items()))
        error = ""
        if self._refuses and masked:
            status, error = "error", f"refused: it holds {_found(file)}"
        self._outcomes.append(_outcome(file.intended, status, tag=moved, size=file.bytes, masked=masked, error=error))

    def outcomes(self) -> list[Outcome]:
        """Operations that ended since the last call."""
        ended, self._outcomes = self._outcomes, []
        return ended

    def abandon(self) -> list[Outcome]:
        """The channel is over: what is still open ends here, files with what had gone of them."""
        answered = [each for each in self._held.values() if each.watch is not None and each.watch.answer is not None]
        for waiting in (*self._waiting.values(), *answered):
            if waiting is not None and waiting.intended is not None:
                self._outcomes.append(_outcome(waiting.intended, "unknown"))
        self._held.clear()
        closing = {id(w.file): w.file for w in self._waiting.values() if w is not None and w.file is not None}
        still = {id(file): file for file in self._handles.values()} | closing
        for file in still.values():
            if file.intended.entry not in {w.intended.entry for w in self._waiting.values() if w and w.intended}:
                self._close(file, "cut")
        self._waiting.clear()
        self._handles.clear()
        return self.outcomes()

    def _next(self) -> int:
        self._number = (self._number + 1) & 0x7FFFFFFF
        return self._number


def _found(file: _File) -> str:
    """What the detectors found in it."""
    return ", ".join(sorted(file.masked))


def _is_text(data: bytes) -> bool:
    """Whether a stretch of a file is UTF-8 text: anything else is no text that a person reads, and a star in it would break it."""
    if b"\0" in data:
        return False
    for start in range(4):  # the stretch may begin and end in the middle of a character
        try:
            data[start:].decode()
        except UnicodeDecodeError as exc:
            if exc.start + start >= len(data) - 3:
                return True
        else:
            return True
    return False


def _folder(path: bytes) -> bytes:
    """The folder that the last component stands in; the path itself where that component leads up."""
    bare = path.rstrip(b"/")
    folder, slash, last = bare.rpartition(b"/")
    if last in {b".", b"..", b""}:
        return bare or b"/"
    return (folder or b"/") if slash else b"."


def _last(path: bytes) -> bytes:
    last = path.rstrip(b"/").rpartition(b"/")[2]
    return b"" if last in {b".", b".."} else last


def _join(folder: str, last: str) -> str:
    path = f"{folder.rstrip('/')}/{last}" if last else folder
    return canonical(path, "/", None)


def _asks_home(asking: Asking) -> bool:
    """Where it starts: what every client asks first, and what tells nothing of any file."""
    return asking.kind is Kind.REALPATH and asking.paths[0] in {b".", b""}


def _name(asking: Asking) -> str:
    if asking.kind is Kind.EXTENDED:
        return asking.extension.partition("@")[0].replace("hardlink", "link")
    return asking.kind.name.lower()


def _opened(path: str, flags: int) -> tuple[tuple[str, Action], ...]:
    changes = flags & ~sftp.READ_FLAG
    found: list[tuple[str, Action]] = []
    if flags & sftp.READ_FLAG or not changes:
        found.append((path, Action.READ))
    if changes:
        found.append((path, Action.WRITE))
    return tuple(found)


def _where(answer: Response) -> bytes | None:
    if answer.kind is not Kind.NAME:
        return None
    names = sftp.read_names(answer.body)
    return names[0][0] if len(names) == 1 else None


def _outcome(
    intended: Intended,
    status: str,
    *,
    tag: str = "",
    size: int = 0,
    error: str = "",
    masked: tuple[tuple[str, int], ...] = (),
) -> Outcome:
    return Outcome(
        intended=intended,
        status=status,
        tag=tag,
        rows=0,
        bytes=size,
        error=error,
        error_text="",
        masked=masked,
        columns=(),
    )


def _control(packet: bytes) -> Batch:
    return Batch(data_head(len(packet), 0) + packet, Content.CONTROL, None, 0, False)


def _raw(data: bytes) -> Batch:
    """A piece of a packet whose length was said before."""
    return Batch(data, Content.CONTROL, None, 0, False)


def _stretch(head: bytes, text: bytes, behind: int) -> Batch:
    """The front of a packet and a text in it that the detectors look at; `behind` bytes are to follow."""
    framed = data_head(len(head) + len(text) + behind, 0) + head
    return Batch(text, Content.STRETCH, None, 0, False, framed)


def _names(answer: Response, client: bytes) -> Iterator[Batch]:
    names = sftp.read_names(answer.body)
    pieces: list[Batch] = []
    for name, long, attributes in names:
        pieces.append(Batch(name, Content.STRETCH, None, 0, False, u32(len(name))))
        pieces.append(Batch(long, Content.STRETCH, None, 0, False, u32(len(long))))
        pieces.append(_raw(attributes))
    size = sum(len(piece.head) + len(piece.frames) for piece in pieces)
    head = u32(1 + 4 + 4 + size) + bytes([Kind.NAME]) + client + u32(len(names))
    yield _raw(data_head(len(head) + size, 0) + head)
    yield from pieces
