"""Waiting for what another process, or thread, brings about: looked for until it is there, and a failure that says what was not."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final, TypeVar

Found = TypeVar("Found")

PATIENCE_SECONDS: Final = 60.0
"""What shared machines take at their slowest; whoever waits for it in vain is wrong, not slow."""
PAUSE_SECONDS: Final = 0.02


def until(look: Callable[[], Found], what: str = "it did not come", seconds: float = PATIENCE_SECONDS) -> Found:
    """Look again and again; what is found, once it is true. `AssertionError` with `what` if it never is."""
    ends = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < ends, what
        time.sleep(PAUSE_SECONDS)
    return found


async def wait_until(look: Callable[[], Found], what: str = "it did not come", seconds: float = PATIENCE_SECONDS) -> Found:
    """The same on an event loop, which goes on meanwhile."""
    ends = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < ends, what
        await asyncio.sleep(PAUSE_SECONDS)
    return found
