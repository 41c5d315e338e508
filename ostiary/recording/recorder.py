"""The hop between masking and the client: what is sent is in the recording first.

When `Recorder.record` returns, the batch is with the kernel: it survives a killed process. Nothing is held back to
fill a chunk, for that would delay the client or lose what it has seen. The only place where `Recorded` is minted.
"""

from __future__ import annotations

from typing import Final

from ostiary.model.events import PayloadKind
from ostiary.model.proofs import Masked, Recorded
from ostiary.vault.payloads import PayloadStream

_RESULT: Final = PayloadKind.RESULT


class Recorder:
    """One session's recorder: over a stream where the connection records in full, over none with `events`."""

    def __init__(self, stream: PayloadStream | None) -> None:
        self.stream = stream

    def record(self, masked: Masked, t_us: int, entry_id: str) -> Recorded:
        """Store a batch and hand back the right to send it.

        `t_us` is in microseconds since the session began; `entry_id` names the operation's intent, or is empty for
        what no operation asked for. Raises `StreamFailed`, `DiskFull`, `QuotaReached`: nothing is sent then.
        """
        if self.stream is not None and masked.frames:
            self.stream.append(_RESULT, entry_id, t_us, masked.frames)
        return Recorded(masked.frames)
