"""The table: attacks and controls beside the corpus's, by what they try."""

from __future__ import annotations

from typing import Final

from tests.attacks.more import Case
from tests.attacks.more_acts import BEHIND, CODE, SESSION, SPELT
from tests.attacks.more_controls import CONTROLS, LARGE
from tests.attacks.more_seen import COPIED, FOUND, INFERRED, SHOWN

CASES: Final[list[Case]] = [
    *SPELT, *CODE, *BEHIND, *SESSION, *SHOWN, *COPIED, *INFERRED, *FOUND, *CONTROLS, *LARGE,
]  # fmt: skip
