"""What a permit demands beside letting an operation run: how much may come back, which rows, with which parameters, under which settings."""

from __future__ import annotations

import msgspec


class Demand(msgspec.Struct, frozen=True, order=True):
    """What a permit demands of one parameter of a call."""

    operation: str
    """The operation that it is about; empty: every one that the permit lets through."""
    path: tuple[str, ...]
    """Names of the API's model, from the call down; `*`: each of a list."""
    if_there: bool
    """It is about operations that have such a parameter; others are left alone. False: they are refused."""
    how: str
    """`=` it is that; `<=` it is at most that; `!=` it is none of those, else it is taken away; `+=` it holds that tag."""
    value: str

    @property
    def text(self) -> str:
        """As a policy says it."""
        place = (self.operation + ":" if self.operation else "") + "/".join(self.path)
        return f"{place}{'?' if self.if_there else ''}{self.how}{self.value}"


class Duties(msgspec.Struct, frozen=True):
    """Demands of all permits that were satisfied; of several, all hold."""

    rows: int | None
    """Rows that one statement may return at most."""
    filters: tuple[tuple[str, str], ...]
    """(relation, condition in the protocol's own language), sorted: of that relation only such rows may be seen."""
    instead: tuple[tuple[str, str, str], ...]
    """(`relation` or `function`, name, the other's name), sorted: where a statement names the one, it gets the other."""
    read_only: bool
    """The target is told that this session's transactions only read. Demanded of the permit to connect."""
    timeout: int | None
    """Milliseconds that a statement may take at the target. Demanded of the permit to connect."""
    parameters: tuple[Demand, ...]
    """What the parameters of an API call must be, sorted."""
