"""Signatures that were used: one that changes something is good once.

SDKs sign the second, and nothing that differs from call to call: two honest calls that say the same in one second have one signature. So
the second use is answered as what may pass (503), which SDKs try again, signed anew; somebody who replays cannot sign.
"""

from __future__ import annotations

import heapq
from typing import Final

from ostiary.protocols.aws.sigv4 import SKEW_SECONDS, NotSigned, Signed, signed_at

MAX_KEPT: Final = 500_000
"""Signatures that are remembered. Some 100 bytes each; more than a worker can serve in their lifetime."""


class Replays:
    """What one worker has seen. What was signed before it began may have been seen by the one before."""

    def __init__(self, began: float) -> None:
        self._began = began
        self._seen: set[str] = set()
        self._ends: list[tuple[float, str]] = []

    def use(self, signed: Signed, now: float) -> None:
        """Use a signature, the first and only time. Raises `NotSigned`."""
        while self._ends and self._ends[0][0] < now:
            self._seen.discard(heapq.heappop(self._ends)[1])
        if signed_at(signed) < int(self._began):
            raise NotSigned("SlowDown", "it was signed before the gateway began: sign it anew", 503)
        if signed.signature in self._seen:
            raise NotSigned("SlowDown", "this very request was sent before: sign each one anew", 503)
        if len(self._seen) >= MAX_KEPT:
            raise NotSigned("SlowDown", "too many requests at once", 503)
        life = SKEW_SECONDS if signed.expires is None else signed.expires
        self._seen.add(signed.signature)
        heapq.heappush(self._ends, (signed_at(signed) + life + 1, signed.signature))
