"""Where a child process of the gateway begins: `python -m ostiary.app.child NAME LINK ORDERS COMMONS`, each a descriptor. Started by the supervisor only."""

from __future__ import annotations

import asyncio
import gc
import importlib
import socket
import sys
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import msgspec

from ostiary.app.common import commons_of
from ostiary.app.logs import set_up
from ostiary.app.orders import Orders, Post, read
from ostiary.config.types import Config
from ostiary.model.errors import OstiaryError

GC_THRESHOLD: Final = 20_000
"""Objects made before the collector looks at them: the line makes some thirty a message, and nearly none in cycles."""

Main = Callable[[Config, Post, asyncio.Event], Awaitable[None]]

MAINS: Final[Mapping[str, str]] = {"worker": "ostiary.app.worker", "control": "ostiary.app.control", "retired": "ostiary.app.retired"}
"""Modules whose `run` a child is. Each child loads its own alone: loading is most of what its start takes."""


def main(argv: list[str]) -> int:
    """Run one child. Exit code 0: it ended in good order; 1: it could not start, or cannot go on."""
    name, fd, orders_fd, commons_fd = argv[0], *map(int, argv[1:])
    orders = msgspec.msgpack.decode(read(orders_fd), type=Orders)
    config = orders.settings()
    called = f"{name}-{orders.worker}" if orders.worker and config.gateway.workers > 1 else name
    set_up(config, called)
    main_of: Main = importlib.import_module(MAINS[name]).run
    with socket.socket(fileno=fd) as link:
        post = Post(orders, commons_of(config, commons_fd, orders.worker), link, _settle)
        try:
            with asyncio.Runner(loop_factory=_loop()) as runner:
                runner.run(_run(main_of, config, post, link))
        except OstiaryError as exc:
            print(f"ostiary {called}: {exc}", file=sys.stderr, flush=True)  # noqa: T201 - the operator's terminal
            return 1
        except OSError as exc:
            print(f"ostiary {called}: {exc.strerror or exc}", file=sys.stderr, flush=True)  # noqa: T201
            return 1
    return 0


def _settle() -> None:
    """What was made up to here lives as long as the process: the collector need not look at it again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD)


def _loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Take uvloop where it is installed: about half the cost of a round trip. Plain asyncio works too."""
    try:
        import uvloop  # noqa: PLC0415 - optional
    except ImportError:
        return None
    return uvloop.new_event_loop


async def _run(run: Main, config: Config, post: Post, link: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    link.setblocking(False)

    def heard() -> None:
        if not post.heed():
            loop.remove_reader(link)
            stop.set()

    loop.add_reader(link, heard)
    await run(config, post, stop)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
