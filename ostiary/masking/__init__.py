"""Masking: batches in, `Masked` out. Data classes by column, detectors by content.

The promise is in `docs/architecture.md`, "Nothing sensitive leaves by a side door"; what a mask leaves of a value is in
`model.connections.Strategy`. Detectors are a second line for data that nobody has classified: whoever may write SQL can
reverse or encode a value and walk past them.
"""

from ostiary.masking.detectors import DETECTORS, scrub
from ostiary.masking.mask import mask
from ostiary.masking.plan import plan_copy, plan_rows

__all__ = ["DETECTORS", "mask", "plan_copy", "plan_rows", "scrub"]
