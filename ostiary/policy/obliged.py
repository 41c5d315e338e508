"""What permits demand of an operation beside letting it run, and what becomes of one that does not do it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ostiary.model.decisions import Grounds, Permit, Refusal
from ostiary.model.duties import Duties
from ostiary.model.identity import VerifiedIdentity
from ostiary.model.operations import Facts, Objection, Unjudgeable
from ostiary.policy.policies import Policies
from ostiary.policy.source import Policy

SAMPLES: Final = frozenset(
    f"pg_catalog.{each}"
    for each in ("pg_statistic", "pg_stats", "pg_statistic_ext_data", "pg_stats_ext", "pg_stats_ext_exprs")
)
"""Relations that hold samples of other relations' rows."""
ANYTHING: Final = "*"
NOTHING: Final = "false"


def duties_of(
    policies: Policies,
    satisfied: Sequence[str],
    relations: Sequence[tuple[str, tuple[str, ...]]],
    seen: tuple[VerifiedIdentity, str, bool],
) -> Duties | None:
    """What the satisfied permits demand. `relations`: each that is touched, with the permits that were satisfied for it.

    A condition on rows is about the relations for which its permit was satisfied. What may show rows of any relation (`seen`: by whom, on
    which connection, and whether something is opaque), shows none to whom some condition is about.
    """
    permits = [policies.by_id[name] for name in satisfied]
    rows = [each.rows for each in permits if each.rows is not None]
    timeouts = [each.timeout for each in permits if each.timeout is not None]
    read_only = any(each.read_only_transactions for each in permits)
    filters = {
        (relation, condition)
        for relation, names in relations
        for name in names
        if (condition := policies.by_id[name].filter)
    }
    who, connection, opaque = seen
    telling = {relation for relation, _ in relations if relation in SAMPLES} | ({ANYTHING} if opaque else set())
    if telling and any(_concerns(each, who, connection) for each in policies.by_id.values() if each.filter):
        filters |= {(relation, NOTHING) for relation in telling}
    if not (rows or timeouts or filters or read_only):
        return None
    return Duties(min(rows, default=None), tuple(sorted(filters)), read_only, min(timeouts, default=None))


def _concerns(policy: Policy, who: VerifiedIdentity, connection: str) -> bool:
    """Whether a permit may be about this identity on this connection, as far as its head says."""
    principal = policy.est["principal"].get("entity", {})
    if principal.get("type") == "Ostiary::Group" and principal.get("id") not in who.groups:
        return False
    resource = policy.est["resource"].get("entity", {})
    name = str(resource.get("id", ""))
    return resource.get("type") in {None, "Ostiary::Label"} or name.partition("/")[0] == connection


def demanded(duties: Duties) -> str:
    """Say it in words."""
    parts = [] if duties.rows is None else [f"cut at {duties.rows} rows"]
    parts += [f"only rows of {relation} where {condition}" for relation, condition in duties.filters]
    parts += ["in transactions that only read"] if duties.read_only else []
    parts += [] if duties.timeout is None else [f"for at most {duties.timeout} ms"]
    return "; ".join(parts)


def lessened(grounds: Grounds) -> str:
    """Say what of an operation its permits would have let through."""
    parts = [] if grounds.row_limit is None else [f"at most {grounds.row_limit} rows"]
    parts += [] if grounds.duties is None else [demanded(grounds.duties)]
    return "; ".join(parts)


def lifted(duties: Duties | None, facts: Facts) -> Objection | None:
    """Say which demand of the permit to connect an operation would lift; None: none of them."""
    if duties is None or not (duties.read_only or duties.timeout is not None):
        return None
    lifts = {"read_only", "timeout"} if facts.opaque else set(facts.lifts)
    kept = [name for name, held in (("read_only", duties.read_only), ("timeout", duties.timeout is not None)) if held]
    broken = [name for name in kept if name in lifts]
    if not broken:
        return None
    what = "transactions that only read" if broken[0] == "read_only" else f"a statement timeout of {duties.timeout} ms"
    because = "cannot be seen through, and may lift that" if facts.opaque else "would lift that"
    return Objection(
        Unjudgeable.NOT_REWRITTEN,
        f"this session is held to {what}, and the statement {because}",
        "Leave it as it is, or ask whoever keeps the policy.",
        "42501",
        None,
    )


def unobeyed(permit: Permit, objection: Objection) -> Refusal:
    """Refuse what was permitted on conditions that the gateway cannot hold it to."""
    grounds = permit.grounds
    because = ", ".join(grounds.because)
    message = f"{objection.message} (permitted by {because})" if because else objection.message
    refused = Grounds(grounds.because, grounds.policy, frozenset(), None, message, objection.hint)
    return Refusal(permit.who, permit.operation, refused)

