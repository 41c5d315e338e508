"""What the path asks of every relay, and an SSH channel has nothing to say to: there are no transactions on it."""

from __future__ import annotations

from ostiary.model.catalogue import Snapshot
from ostiary.model.decisions import Permit
from ostiary.model.duties import Duties
from ostiary.model.operations import Facts, Objection, Operation
from ostiary.model.proofs import Batch, Intended
from ostiary.protocols.relay import Ask, Relay, as_it_stands


class Alone(Relay):
    """Nothing in the channel changes what an operation means, and none stands inside another."""

    @property
    def is_complete(self) -> bool:
        """What was decided goes out together."""
        return False

    @property
    def is_inside(self) -> bool:
        """There are no transactions."""
        return False

    def means(self, ask: Ask, snapshot: Snapshot) -> Facts:
        """What it meant before."""
        del snapshot
        return ask.operation.facts

    def obey(self, permit: Permit, duties: Duties, snapshot: Snapshot) -> Operation | Objection:
        """There are no rows here."""
        del snapshot
        return as_it_stands(permit, duties)

    def settle(self) -> bool:
        """Look at what a terminal is about, now that it is on its way; whether something is to be noted."""
        return False

    def noted(self) -> list[tuple[Intended, Batch]]:
        """What is to be put on record of a client's terminal, since the last call: nothing where there is none."""
        return []

    def flowed(self) -> int:
        """No rows."""
        return 0

    def changed(self) -> int:
        """None either."""
        return 0

    def place(self) -> None:
        """There are none to count."""
        return
