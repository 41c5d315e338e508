"""Signatures that were used: one that changes something is good once.

SDKs sign the second, and nothing that differs from call to call: two honest calls that say the same in one second have one signature. So
the second use is answered as what may pass (503), which SDKs try again, signed anew; somebody who replays cannot sign.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from typing import Final

from ostiary.protocols.aws.sigv4 import SKEW_SECONDS, NotSigned, Signed, signed_at

AHEAD: Final = 5
"""Seconds that the date of a change may lie ahead of the gateway's clock. For as long after the gateway began nothing is changed: what the
one before it let in may bear a date of now."""
MAX_KEPT: Final = 500_000
"""Signatures that are remembered. Some 100 bytes each; more than a worker can serve in their lifetime."""


Once = Callable[[str, float, float], bool]
"""Whether this is the first use of a signature in any worker: the signature, until when that is remembered, and now."""


class Replays:
    """What the workers have seen. What was signed before this one began may have been seen by the one before."""

    def __init__(self, began: float) -> None:
        self._began = began
        self._once: Once | None = None
        self._latest = 0.0
        """The latest time that was told: what is forgotten by it is too old by it."""
        self._seen: set[str] = set()
        self._ends: list[tuple[float, str]] = []

    def share(self, once: Once) -> None:
        """Have uses remembered where all workers see them."""
        self._once = once

    def forget_before(self) -> None:
        """There was no worker before this one."""
        self._began = -math.inf

    def use(self, signed: Signed, now: float) -> None:
        """Use a signature, the first and only time. Raises `NotSigned`."""
        self._latest = max(self._latest, now)
        at, life = signed_at(signed), SKEW_SECONDS if signed.expires is None else signed.expires
        while self._ends and self._ends[0][0] < self._latest:
            self._seen.discard(heapq.heappop(self._ends)[1])
        if at + life + 1 < self._latest:
            raise NotSigned("SlowDown", "its signature is too old by now: sign it anew", 503)
        if at > now + AHEAD:
            raise NotSigned("RequestTimeTooSkewed", "the signature is of the future: set the clock")
        if at <= self._began + AHEAD:
            raise NotSigned("SlowDown", "it may have been signed before the gateway began: sign it anew", 503)
        if self._once is not None:
            if not self._once(signed.signature, at + life + 1, self._latest):
                raise NotSigned("SlowDown", "this very request was sent before, or too many at once: sign each one anew", 503)
            return
        if signed.signature in self._seen:
            raise NotSigned("SlowDown", "this very request was sent before: sign each one anew", 503)
        if len(self._seen) >= MAX_KEPT:
            raise NotSigned("SlowDown", "too many requests at once", 503)
        self._seen.add(signed.signature)
        heapq.heappush(self._ends, (at + life + 1, signed.signature))
