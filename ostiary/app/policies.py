"""Policies as this gateway can hold them: Cedar's part is checked by Cedar, a condition on rows by PostgreSQL's grammar."""

from __future__ import annotations

from collections.abc import Mapping

from ostiary.policy.policies import Policies
from ostiary.protocols.postgres.rewriting.conditions import read


def read_policies(texts: Mapping[str, str]) -> Policies:
    """Parse, check and compile policy files: name to text. `ConfigError` names file, line and policy."""
    policies = Policies.load(texts)
    for policy in policies.by_id.values():
        if policy.filter:
            read(policy.place, policy.filter)
    return policies
