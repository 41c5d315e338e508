"""What permits demand of an operation beside letting it run, and what becomes of one that does not do it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from ostiary.model.decisions import Grounds, NeedsApproval, Permit, Refusal
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
    things: Sequence[tuple[str, str, tuple[str, ...]]],
    seen: tuple[VerifiedIdentity, str, bool],
) -> Duties | None:
    """What the satisfied permits demand. `things`: each that is touched, (kind, name), with the permits that were satisfied for it.

    A condition on rows is about the relations for which its permit was satisfied. What may show rows of any relation (`seen`: by whom, on
    which connection, and whether something is opaque), shows none to whom some condition or replacement is about.
    """
    relations = [(name, names) for kind, name, names in things if kind == "relation"]
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
    instead = {
        replaced
        for kind, name, names in things
        for each in names
        if (replaced := policies.by_id[each].instead) is not None and replaced[:2] == (kind, name)
    }
    who, connection, opaque = seen
    telling = {relation for relation, _ in relations if relation in SAMPLES} | ({ANYTHING} if opaque else set())
    if telling and any(_concerns(each, who, connection) for each in policies.by_id.values() if each.filter or each.instead):
        filters |= {(relation, NOTHING) for relation in telling}
    parameters = {demand for each in permits for demand in each.parameters}
    if not (rows or timeouts or filters or instead or read_only or parameters):
        return None
    return Duties(
        min(rows, default=None), tuple(sorted(filters)), tuple(sorted(instead)), read_only, min(timeouts, default=None),
        tuple(sorted(parameters)),
    )  # fmt: skip


def still(permit: Permit, before: Duties | None) -> Permit:
    """The permit of what was rewritten: what took something's place stays a demand, and is on record."""
    if before is None or not before.instead:
        return permit
    now = permit.grounds.duties or Duties(None, (), (), read_only=False, timeout=None, parameters=())
    duties = msgspec.structs.replace(now, instead=tuple(sorted({*now.instead, *before.instead})))
    return Permit(permit.who, permit.operation, msgspec.structs.replace(permit.grounds, duties=duties))


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
    parts += [f"{other} in the place of {kind} {name}" for kind, name, other in duties.instead]
    parts += ["in transactions that only read"] if duties.read_only else []
    parts += [f"with {each.text}" for each in duties.parameters]
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


def gathered(permit: Permit) -> Objection | None:
    """Say that one value of an operation holds more rows than its permits let through; None: none does."""
    limit, facts = permit.grounds.row_limit, permit.operation.facts
    if limit is None or facts.rows == 0 or (facts.gathers is not None and facts.gathers <= limit):
        return None
    return Objection(
        Unjudgeable.NOT_REWRITTEN,
        f"policy allows {limit} rows, and this statement puts more together in one value",
        f"Let it gather rows of a subquery in FROM with a LIMIT of at most {limit}.",
        "42501",
        None,
    )


def unobeyed(permit: Permit | NeedsApproval, objection: Objection) -> Refusal:
    """Refuse what was permitted on conditions that the gateway cannot hold it to."""
    grounds = permit.grounds
    because = ", ".join(grounds.because)
    message = f"{objection.message} (permitted by {because})" if because else objection.message
    refused = Grounds(grounds.because, grounds.policy, frozenset(), None, message, objection.hint)
    return Refusal(permit.who, permit.operation, refused)

