"""What a session asks of the world. `await` one inside the path to get its typed reply; the driver carries it out.

A command is an awaitable generic in its reply, so the path has no event loop in it and a test drives a whole session
as a list of "hears this, must ask that" (`ostiary.testing.Playbook`).
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Generic, Self, TypeVar

import msgspec

from ostiary.model.catalogue import Snapshot
from ostiary.model.decisions import NeedsApproval, Permit, Refusal
from ostiary.model.identity import VerifiedIdentity
from ostiary.model.proofs import Denied, Intended, Masked, Outcome, Recorded

Reply = TypeVar("Reply")


class Command(Generic[Reply]):
    """Something the session asks of the world."""

    __slots__ = ()

    def __await__(self) -> Generator[Self, Reply, Reply]:
        return (yield self)
