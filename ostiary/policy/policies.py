"""The policies in force: checked against the schema, compiled once, with the decisions already made.

A `Policies` is made for one configuration and one set of policy texts, and replaced whole when either changes, so the
decisions that it remembers can never be those of another policy. Two generations of a dictionary bound the memory: a hit
is one look-up and writes nothing; when the young generation is full it becomes the old one, whose survivors come back as
they are asked for.
"""

from __future__ import annotations

import hashlib
import pkgutil
from collections.abc import Mapping
from typing import Final

import cedarpy
import msgspec

from ostiary.model.decisions import Grounds
from ostiary.model.errors import ConfigError
from ostiary.model.identity import Said
from ostiary.model.nouns import Noun
from ostiary.model.operations import Action
from ostiary.policy.slicing import About, Slicer, compiled
from ostiary.policy.source import BY_NAME, Policy, read

WHOLE_SETS: Final = 100
"""Policies up to which all are asked each time. With more, Cedar's own time grows with those that cannot apply."""

GENERATION: Final = 16_384
"""Decisions in one generation; two are kept. A decision takes some 500 bytes."""


def _schema_text() -> str:
    data = pkgutil.get_data("ostiary.policy", "ostiary.cedarschema")
    if data is None:
        raise RuntimeError("ostiary.cedarschema is missing from the installed package")
    return data.decode()


SCHEMA_TEXT: Final = _schema_text()
"""Package data, loaded as the package's code is."""
SCHEMA: Final = cedarpy.Schema.from_str(SCHEMA_TEXT)

Key = tuple[bytes, bytes, str, int, Said | None, frozenset[str]]


class Verdict(Noun):
    """A decision without whom and what it was about: what the cache holds."""

    __slots__ = ("approvers", "grounds", "permitted")

    def __init__(self, *, permitted: bool, grounds: Grounds, approvers: tuple[tuple[str, int], ...]) -> None:
        self.permitted: Final = permitted
        self.grounds: Final = grounds
        self.approvers: Final = approvers
        """Of a refusal that an approval would lift; else empty."""


class Policies:
    """A checked and compiled set of policies. Build it with `load`."""

    __slots__ = (
        "_old",
        "_sets",
        "_slicer",
        "_watching",
        "_young",
        "by_id",
        "digest",
        "observes",
        "reads_client",
        "reads_clock",
        "unmasks",
    )

    def __init__(self, policies: Mapping[str, Policy]) -> None:
        self.by_id = dict(policies)
        kept = msgspec.json.encode([SCHEMA_TEXT, sorted((each.id, each.text) for each in policies.values())])
        self.digest = hashlib.sha256(kept).hexdigest()
        """Hex SHA-256 over schema and policies."""
        self.reads_clock = any(each.reads_clock for each in policies.values())
        self.reads_client = any(each.reads_client for each in policies.values())
        """Whether any policy looks at the client's address, or at what it says."""
        enforced = {each.id: each for each in policies.values() if not each.observes}
        watchers = {each.id: each for each in policies.values() if each.observes}
        self.observes = bool(watchers)
        """Whether any permit only observes."""
        self.unmasks = any(each.permits and Action.UNMASK in each.names for each in enforced.values())
        """Whether any policy could permit `unmask` at all."""
        self._slicer = Slicer(enforced)
        self._sets = _by_action(enforced) if len(enforced) <= WHOLE_SETS else {}
        self._watching = _by_action(watchers)
        self._young: dict[Key, Verdict] = {}
        self._old: dict[Key, Verdict] = {}

    @classmethod
    def load(cls, texts: Mapping[str, str]) -> Policies:
        """Parse, check and compile policy files: name to text. `ConfigError` names file, line and policy."""
        found: dict[str, Policy] = {}
        for name, text in texts.items():
            for policy in read(name, text):
                if policy.id in found:
                    first = found[policy.id].place
                    raise ConfigError(policy.place, f"has the same @id as the one at {first}; give each its own")
                found[policy.id] = policy
        _validate(found)
        return cls(found)

    def __len__(self) -> int:
        return len(self.by_id)

    def compiled(self, action: Action, about: About) -> cedarpy.PolicySet:
        """Return the policies that have a say on `action`: all that do more than observe, less permits that do not name what must be named.

        Where there are many, less those too whose heads are about somebody else or another connection.
        """
        return self._sets[action] if self._sets else self._slicer.compiled(action, about)

    def watching(self, action: Action) -> cedarpy.PolicySet:
        """Return the permits that only observe `action`."""
        return self._watching[action]

    def lookup(self, key: Key) -> Verdict | None:
        """Return the verdict already reached for `key`, if it is remembered."""
        found = self._young.get(key)
        if found is None and (found := self._old.get(key)) is not None:
            self.remember(key, found)
        return found

    def remember(self, key: Key, verdict: Verdict) -> None:
        """Keep `verdict` for the next time."""
        if len(self._young) >= GENERATION:
            self._old, self._young = self._young, {}
        self._young[key] = verdict

    def forget(self) -> None:
        """Drop what was remembered: a measurement of what deciding costs begins so."""
        self._young, self._old = {}, {}

    def mentions(self) -> dict[tuple[str, str], str]:
        """Return the entities that policies name, (type, id), each with the id of one policy that names it."""
        return {entity: policy.id for policy in self.by_id.values() for entity in policy.mentions}


def _by_action(policies: Mapping[str, Policy]) -> dict[Action, cedarpy.PolicySet]:
    sets = dict.fromkeys(Action, compiled(policies))
    for action in BY_NAME:
        sets[action] = compiled(
            {each.id: each for each in policies.values() if not each.permits or action in each.names}
        )
    return sets


def _validate(policies: Mapping[str, Policy]) -> None:
    """Check all against the schema at once; only where that fails, one by one, to say which."""
    if cedarpy.validate_policies("\n".join(each.text for each in policies.values()), SCHEMA).validation_passed:
        return
    for policy in policies.values():
        result = cedarpy.validate_policies(policy.text, SCHEMA)
        if not result.validation_passed:
            # The root of the trouble first: "no applicable action" only follows from a misspelt one.
            faults = [each.error.replace("for policy `policy0`, ", "") for each in result.errors]
            faults.sort(key=lambda fault: (not fault.startswith("unrecognized"), fault))
            more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
            raise ConfigError(policy.place, f"does not fit the schema: {faults[0]}{more}")
    raise ConfigError("policy", "the policies do not fit the schema together")
