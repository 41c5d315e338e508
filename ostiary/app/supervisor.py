"""`ostiary serve`: starts the data-plane worker and the control process, and watches them.

Theory of operation
-------------------
Each child is this same program, started afresh (`python -m ostiary.app.child NAME`), with a socket to its parent. The child says
`ready` and what it listens on; it ends in good order when it gets SIGTERM, or when the socket says that the parent has gone, so
that no child outlives a killed supervisor. A child that dies is started again, after a pause that grows while it keeps dying: sessions of a
worker that died are closed in the log by its recovery. If the control process dies, sessions go on.
"""

from __future__ import annotations

import json
import os
import resource
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from ostiary.app.common import witness_file
from ostiary.audit.cosignature import WitnessPolicy
from ostiary.audit.keys import Origin, ensure_origin, instance_id, origins, write_policy
from ostiary.audit.operator import WRITER as OPERATOR
from ostiary.audit.sealer import check_witnesses
from ostiary.config.types import Config
from ostiary.identity.keys import load_or_create_token_key
from ostiary.identity.ssh import ensure_keys
from ostiary.model.errors import OstiaryError

CHILDREN: Final = ("worker", "control")
WRITERS: Final = ("worker-1", "control")
"""Each child's log."""
DRAIN_SECONDS: Final = 15.0
"""How long a child may take to end in good order; then it is killed, and recovery does the rest."""
START_SECONDS: Final = 60.0
"""How long a child may take to be ready: recovery of a long log is what takes time."""
_PAUSES: Final = (0.1, 0.5, 2.0, 5.0, 10.0)


class ChildFailed(OstiaryError):
    """A part of the gateway did not start. Its own words are on stderr already."""


class _Child:
    def __init__(self, name: str, config: Config) -> None:
        self.name = name
        self._config = config
        self.deaths = 0
        self.start_at = 0.0
        self.process: subprocess.Popen[bytes] | None = None
        self.link: socket.socket | None = None
        self.said = b""
        self.listens: dict[str, str] | None = None

    def start(self) -> None:
        ours, theirs = socket.socketpair()
        command = [sys.executable, "-m", "ostiary.app.child", self.name, self._config.path, str(theirs.fileno())]
        # A session of its own: Ctrl-C in a terminal reaches the supervisor alone, which then ends its children in order.
        self.process = subprocess.Popen(command, pass_fds=[theirs.fileno()], start_new_session=True)  # noqa: S603 - ourselves
        theirs.close()
        self.link = ours
        self.said = b""
        self.listens = None

    def hear(self) -> bool:
        """Read what it says; False once it has closed its end."""
        assert self.link is not None  # noqa: S101 - it was started
        try:
            data = self.link.recv(65_536)
        except OSError:
            data = b""
        self.said += data
        if b"\n" in self.said and self.listens is None:
            self.listens = json.loads(self.said.split(b"\n", 1)[0])
        return bool(data)

    def ended(self) -> None:
        assert self.link is not None  # noqa: S101 - it was started
        self.link.close()
        self.link = None
        if self.process is not None:
            self.process.wait()

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()

    def kill(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()


class _Stopped(Exception):
    """A signal asked us to end."""


def serve(config: Config) -> int:
    """Run the gateway until SIGTERM or SIGINT. Exit code 0: it ended in good order.

    Raises `ChildFailed` when a part does not start at all.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # for all that it starts, too: none of them leaves its memory on a disk
    state = Path(config.gateway.state_dir)
    instance_id(state)
    _prepare_logs(config)
    load_or_create_token_key(state / "keys" / "token.key")
    if config.listen.ssh is not None:
        ensure_keys(state / "keys")
    load_or_create_token_key(state / "keys" / "actor.key")
    children = [_Child(name, config) for name in CHILDREN]
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    for name in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(name, lambda *_: None)
    try:
        for child in children:
            child.start()
        _wait_ready(children, wake_read)
        listens = {key: value for child in children for key, value in (child.listens or {}).items()}
        where = ", ".join(f"{what} on {address}" for what, address in listens.items())
        print(f"ready: {where}", flush=True)  # noqa: T201 - what starts us waits for this line
        _watch(children, wake_read, config)
    except _Stopped:
        pass
    finally:
        _end(children)
        signal.set_wakeup_fd(-1)
        os.close(wake_read)
        os.close(wake_write)
    return 0


def _prepare_logs(config: Config) -> None:
    """Make what origins are missing, and see that none was rolled back."""
    state = Path(config.gateway.state_dir)
    for origin in [*_make_origins(config), *origins(state, config.gateway.name, OPERATOR)[-1:]]:
        _check_witnesses(origin, config)


def _make_origins(config: Config) -> list[Origin]:
    """Make what a new year, a failed sync or a rotation asks for.

    It reads the root key: no process that parses what strangers send ever does.
    """
    state = Path(config.gateway.state_dir)
    return [ensure_origin(state, config.gateway.name, writer) for writer in WRITERS]


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


def _signals(wake: int, children: list[_Child]) -> None:
    """Heed the signals that came: end, or hand SIGHUP on."""
    for number in os.read(wake, 64):
        if number in (signal.SIGTERM, signal.SIGINT):
            raise _Stopped
        if number == signal.SIGHUP:
            for child in children:
                if child.process is not None and child.process.poll() is None:
                    child.process.send_signal(signal.SIGHUP)


def _readable(children: list[_Child], wake: int, seconds: float) -> list[_Child]:
    """Wait for something to happen; the children that said something, or ended. Heeds signals on the way."""
    links = {child.link.fileno(): child for child in children if child.link is not None}
    readable, _, _ = select.select([wake, *links], [], [], seconds)
    if wake in readable:
        _signals(wake, children)
    return [links[fd] for fd in readable if fd != wake]


def _wait_ready(children: list[_Child], wake: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while any(child.listens is None for child in children):
        left = deadline - time.monotonic()
        if left <= 0:
            raise ChildFailed("the gateway did not get ready in time; what it waits for is in its diagnostics above")
        for child in _readable(children, wake, left):
            if not child.hear():
                child.ended()
                raise ChildFailed(f"the {child.name} process did not start; what it said stands above")


def _watch(children: list[_Child], wake: int, config: Config) -> None:
    """Start again what dies, until a signal ends it all."""
    while True:
        for child in _readable(children, wake, 0.5):
            if not child.hear():
                child.ended()
                pause = _PAUSES[min(child.deaths, len(_PAUSES) - 1)]
                child.deaths += 1
                child.start_at = time.monotonic() + pause
                print(f"ostiary: the {child.name} process died; starting it again", file=sys.stderr, flush=True)  # noqa: T201
        for child in children:
            if child.link is None and time.monotonic() >= child.start_at:
                _make_origins(config)
                child.start()


def _end(children: list[_Child]) -> None:
    for child in children:
        child.stop()
    deadline = time.monotonic() + DRAIN_SECONDS
    for child in children:
        if child.process is None:
            continue
        try:
            child.process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            child.kill()
            child.process.wait()
        if child.link is not None:
            child.link.close()
