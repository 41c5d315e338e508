"""Message in, facts out: what a text means for policy, as the rest of the protocol folder uses it.

The work is done in `understand/`; this is its door.
"""

from __future__ import annotations

from ostiary.protocols.postgres.understand.findings import objection_facts
from ostiary.protocols.postgres.understand.ground import ProtectedColumns
from ostiary.protocols.postgres.understand.judge import FactsCache, Understood, World, study, understand
from ostiary.protocols.postgres.understand.view import Effect, View

__all__ = [
    "Effect",
    "FactsCache",
    "ProtectedColumns",
    "Understood",
    "View",
    "World",
    "objection_facts",
    "study",
    "understand",
]
