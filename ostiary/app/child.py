"""Where a child process of the gateway begins: `python -m ostiary.app.child NAME CONFIG FD`. Started by the supervisor only."""

from __future__ import annotations

import asyncio
import gc
import json
import socket
import sys
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from ostiary.app import control, worker
from ostiary.app.logs import set_up
from ostiary.config.load import load
from ostiary.config.types import Config
from ostiary.model.errors import OstiaryError

GC_THRESHOLD: Final = 20_000
"""Objects made before the collector looks at them: the line makes some thirty a message, and nearly none in cycles."""

Ready = Callable[[Mapping[str, str]], None]
Main = Callable[[Config, Ready, asyncio.Event], Awaitable[None]]

MAINS: Final[Mapping[str, Main]] = {"worker": worker.run, "control": control.run}


def main(argv: list[str]) -> int:
    """Run one child. Exit code 0: it ended in good order; 1: it could not start, or cannot go on."""
    name, path, fd = argv
    config = load(path)
    set_up(config, name)
    with socket.socket(fileno=int(fd)) as link:
        try:
            with asyncio.Runner(loop_factory=_loop()) as runner:
                runner.run(_run(MAINS[name], config, link))
        except OstiaryError as exc:
            print(f"ostiary {name}: {exc}", file=sys.stderr, flush=True)  # noqa: T201 - the operator's terminal
            return 1
        except OSError as exc:
            print(f"ostiary {name}: {exc.strerror or exc}", file=sys.stderr, flush=True)  # noqa: T201
            return 1
    return 0


def _loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Take uvloop where it is installed: about half the cost of a round trip. Plain asyncio works too."""
    try:
        import uvloop  # noqa: PLC0415 - optional
    except ImportError:
        return None
    return uvloop.new_event_loop


async def _run(run: Main, config: Config, link: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    link.setblocking(False)

    def heard() -> None:
        # The supervisor says nothing: when its end can be read, it has gone.
        loop.remove_reader(link)
        stop.set()

    def ready(listens: Mapping[str, str]) -> None:
        link.send(json.dumps(dict(listens)).encode() + b"\n")
        # What was made up to here lives as long as the process: the collector need not look at it again.
        gc.collect()
        gc.freeze()
        gc.set_threshold(GC_THRESHOLD)

    loop.add_reader(link, heard)
    await run(config, ready, stop)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
