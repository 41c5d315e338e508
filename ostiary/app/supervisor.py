"""`ostiary serve`: starts the data-plane workers and the control process, and watches them.

Theory of operation
-------------------
Each child is this same program, started afresh (`python -m ostiary.app.child`), with a socket to its parent. The child says
`ready` and what it listens on; it ends in good order when it gets SIGTERM, or when the socket says that the parent has gone, so
that no child outlives a killed supervisor. A child that dies is started again, after a pause that grows while it keeps dying: sessions of a
worker that died are closed in the log by its recovery. If the control process dies, sessions go on. So do those of the other workers if one
dies; the kernel gives what comes to those that listen, and the gateway says that one is missing, here and in its metrics.

What the children start with is read once (`ostiary.app.orders`). SIGHUP has the policies read again, and taken by all workers or none.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import resource
import select
import signal
import sys
import time
from pathlib import Path
from typing import Final

import msgspec

from ostiary.app.children import Child, ChildFailed
from ostiary.app.common import commons_of, listeners, witness_file, writer_of
from ostiary.app.orders import Leave, Orders, Prepare, Take, written
from ostiary.app.retired import unfinished, writers
from ostiary.audit.cosignature import WitnessPolicy
from ostiary.audit.keys import Origin, ensure_origin, instance_id, origins, write_policy
from ostiary.audit.operator import WRITER as OPERATOR
from ostiary.audit.sealer import check_witnesses
from ostiary.config.load import policy_texts
from ostiary.config.types import Config
from ostiary.identity.keys import load_or_create_token_key
from ostiary.identity.ssh import ensure_keys
from ostiary.listener.accept import bind
from ostiary.model.errors import ConfigError, OstiaryError
from ostiary.store.commons import make_memory

CONTROL: Final = "control"
DRAIN_SECONDS: Final = 15.0
"""How long a child may take to end in good order; then it is killed, and recovery does the rest."""
START_SECONDS: Final = 60.0
"""How long a child may take to be ready: recovery of a long log is what takes time."""
PREPARE_SECONDS: Final = 60.0
"""How long workers may take to load policies anew; then nobody takes them."""
_PAUSES: Final = (0.1, 0.5, 2.0, 5.0, 10.0)


class _Stopped(Exception):
    """A signal asked us to end."""


def serve(config: Config) -> int:
    """Run the gateway until SIGTERM or SIGINT. Exit code 0: it ended in good order.

    Raises `ChildFailed` when a part does not start at all.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # for all that it starts, too: none of them leaves its memory on a disk
    state = Path(config.gateway.state_dir)
    instance_id(state)
    _probe_addresses(config)
    _prepare_logs(config)
    load_or_create_token_key(state / "keys" / "token.key")
    if config.listen.ssh is not None:
        ensure_keys(state / "keys")
    load_or_create_token_key(state / "keys" / "actor.key")
    supervisor = Supervisor(config)
    try:
        supervisor.run()
    finally:
        supervisor.close()
    return 0


class Supervisor:
    """The children, and the signals that come."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._orders = Orders(config.path, _content(config), policy_texts(config))
        """With the policies in force."""
        self._memory = make_memory() if config.gateway.workers > 1 else -1
        self._commons = commons_of(config, self._memory, 0)
        numbers = range(1, config.gateway.workers + 1)
        self._children = [*(Child("worker", number, config.gateway.workers) for number in numbers), Child(CONTROL)]
        self._reloads = 0
        self._asked_to_reload = False
        self._wake, wake_write = os.pipe()
        self._wake_write = wake_write
        os.set_blocking(wake_write, False)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        for name in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(name, lambda *_: None)

    def run(self) -> None:
        """Start them and watch them, until a signal ends it all."""
        with contextlib.suppress(_Stopped):
            if unfinished(self._config):
                self._retire()
            for child in self._children:
                self._start(child)
            self._wait_ready(self._children)
            listens = {key: value for child in self._children for key, value in (child.listens or {}).items()}
            where = ", ".join(f"{what} on {address}" for what, address in listens.items())
            print(f"ready: {where}", flush=True)  # noqa: T201 - what starts us waits for this line
            while True:
                self._watch()

    def close(self) -> None:
        """End the children in good order."""
        _end(self._children)
        signal.set_wakeup_fd(-1)
        for fd in (self._wake, self._wake_write, self._memory):
            if fd >= 0:
                os.close(fd)

    def _start(self, child: Child) -> None:
        fd = written(msgspec.msgpack.encode(msgspec.structs.replace(self._orders, worker=child.number)))
        try:
            child.start(fd, self._memory)
        finally:
            os.close(fd)

    def _retire(self) -> None:
        """Bring the logs of workers that are no more into order."""
        child = Child("retired")
        self._children.append(child)
        self._start(child)
        self._wait_ready([child])
        child.wait()
        self._children.remove(child)

    # --- what happens ---

    def _readable(self, seconds: float) -> list[Child]:
        """Wait for something to happen; the children that said something, or ended. Heeds signals on the way."""
        links = {child.link.fileno(): child for child in self._children if child.link is not None}
        readable, _, _ = select.select([self._wake, *links], [], [], seconds)
        if self._wake in readable:
            for number in os.read(self._wake, 64):
                if number in (signal.SIGTERM, signal.SIGINT):
                    raise _Stopped
                self._asked_to_reload |= number == signal.SIGHUP
        return [links[fd] for fd in readable if fd != self._wake]

    def _wait_ready(self, children: list[Child]) -> None:
        deadline = time.monotonic() + START_SECONDS
        while any(child.listens is None for child in children):
            left = deadline - time.monotonic()
            if left <= 0:
                raise ChildFailed("the gateway did not get ready in time; what it waits for is in its diagnostics above")
            for child in self._readable(left):
                if not child.hear():
                    child.ended()
                    raise ChildFailed(f"the {child.called} process did not start; what it said stands above")

    def _watch(self) -> None:
        """Heed what happens next, and start again what died."""
        self._hear(0.5)
        if self._asked_to_reload:
            self._asked_to_reload = False
            self._reload()
        for child in self._children:
            if child.link is None and time.monotonic() >= child.start_at:
                _make_origins(self._config)
                self._start(child)

    def _hear(self, seconds: float) -> None:
        for child in self._readable(seconds):
            if child.hear():
                continue
            child.ended()
            child.start_at = time.monotonic() + _PAUSES[min(child.deaths, len(_PAUSES) - 1)]
            child.deaths += 1
            if child.number:
                self._commons.outdate()
            _say(f"the {child.called} process died; starting it again")

    # --- policies anew ---

    def _reload(self) -> None:
        """Have every worker load the policies as they are now; where all of them have the same, all take them, else none."""
        self._reloads += 1
        workers = [child for child in self._children if child.number]
        try:
            texts = policy_texts(self._config)
            why = self._prepare(workers, texts)
        except OstiaryError as exc:
            why = str(exc)
        if not why:
            self._orders = msgspec.structs.replace(self._orders, policies=texts)
        for child in workers:
            child.say(Leave(self._reloads, why) if why else Take(self._reloads))

    def _prepare(self, workers: list[Child], texts: dict[str, str]) -> str:
        """Why these policies cannot be taken by all; empty: they can. A worker that dies meanwhile is started with what is in force then."""
        fd = written(msgspec.json.encode(texts))
        try:
            asked = [child for child in workers if child.say(Prepare(self._reloads), fd)]
        finally:
            os.close(fd)
        deadline = time.monotonic() + PREPARE_SECONDS
        while waiting := [child for child in asked if child.link is not None and not child.has_prepared(self._reloads)]:
            if (left := deadline - time.monotonic()) <= 0:
                return f"the {waiting[0].called} process did not load them in time"
            self._hear(left)
        told = [child.prepared for child in asked if child.has_prepared(self._reloads)]
        faults = [each.fault for each in told if each is not None and each.fault]
        if faults:
            return faults[0]
        if len({each.digest for each in told if each is not None}) > 1:
            return "the workers read different things in them"
        return ""


def _say(text: str) -> None:
    print(f"ostiary: {text}", file=sys.stderr, flush=True)  # noqa: T201 - the operator's terminal


def _content(config: Config) -> bytes:
    """The configuration as it was read. Raises `ConfigError` where the file was changed since."""
    try:
        content = Path(config.path).read_bytes()
    except OSError as exc:
        raise ConfigError(config.path, f"cannot be read ({exc.strerror})") from None
    if hashlib.sha256(content).hexdigest() != config.digest:
        raise ConfigError(config.path, "was changed just now; start again")
    return content


def _probe_addresses(config: Config) -> None:
    """See that nobody listens where several workers will: they would share the address with any process of this user."""
    if config.gateway.workers > 1:
        for each in listeners(config).values():
            bind(each.host, each.port, shared=False).close()


def _prepare_logs(config: Config) -> None:
    """Make what origins are missing, and see that none was rolled back."""
    state, name = Path(config.gateway.state_dir), config.gateway.name
    written = _make_origins(config)
    others = [origin for writer in (OPERATOR, *writers(config)) for origin in origins(state, name, writer)[-1:]]
    for origin in {each.name: each for each in [*written, *others]}.values():
        _check_witnesses(origin, config)


def _make_origins(config: Config) -> list[Origin]:
    """Make what a new year, a failed sync or a rotation asks for.

    It reads the root key: no process that parses what strangers send ever does.
    """
    state = Path(config.gateway.state_dir)
    written = [*map(writer_of, range(1, config.gateway.workers + 1)), CONTROL, *unfinished(config)]
    return [ensure_origin(state, config.gateway.name, writer) for writer in written]


def _check_witnesses(origin: Origin, config: Config) -> None:
    """Ask the witnesses, before anything is served, whether the log is all that they know of it. Raises `ChildFailed`."""
    witnesses = witness_file(config)
    if witnesses is None:
        return
    text = witnesses.read_text(encoding="utf-8")
    write_policy(Path(config.gateway.state_dir), WitnessPolicy.parse(text).lines)
    if check_witnesses(origin, witnesses):
        raise ChildFailed(
            f"a witness knows more of {origin.name} than the disk, as said above: the log was rolled back or forked. "
            "Restore the newest copy; if there is none, begin a new log with `ostiary audit rotate`"
        )


def _end(children: list[Child]) -> None:
    for child in children:
        child.stop()
    deadline = time.monotonic() + DRAIN_SECONDS
    for child in children:
        child.finish(deadline)
