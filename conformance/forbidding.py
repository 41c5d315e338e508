"""False positives: the suites of drivers under a policy that forbids only what they do not do. None of its forbids may match.

What is counted is on record, not in the suites: an entry names the policies that refused an operation. So a refusal that a test expects
or swallows counts as well, and what the gateway refuses whatever policy says (`SET client_encoding`) does not.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

POLICY: Final = Path(__file__).resolve().parent / "forbidding.cedar"
SUITES: Final = ("asyncpg", "psycopg", "sqlalchemy")
HEADING: Final = "## Under a policy that forbids"


@dataclass(slots=True)
class Count:
    """What one suite's run left on record."""

    judged: int = 0
    """Operations that policy was asked about."""
    refused: list[tuple[str, str]] = field(default_factory=list)
    """(policy, what it refused) of each refusal by a forbid."""
    others: int = 0
    """Operations that were refused before policy was asked, as under a policy that permits everything."""


def forbids(policy: str) -> frozenset[str]:
    """The ids of the forbids of a policy file."""
    return frozenset(re.findall(r'@id\("([^"]+)"\)\s*(?:@\w+\("[^"]*"\)\s*)*forbid\b', policy))


def count(entries: Iterable[Mapping[str, Any]], named: frozenset[str]) -> Count:
    """What entries of the log say."""
    found = Count()
    for entry in entries:
        decision = entry.get("decision")
        if decision is None or "op" not in entry:
            continue
        if "objection" in decision:
            found.others += 1
            continue
        found.judged += 1
        by = sorted(named.intersection(decision.get("policies", ())))
        if decision["verdict"] == "deny" and by:
            found.refused.append((by[0], str(entry.get("op", {}).get("name", ""))))
    return found


def section(rows: Mapping[str, tuple[int, int, Count]]) -> str:
    """The part of the page; a row: tests, how many passed, and what is on record."""
    lines = [
        HEADING,
        "",
        "The suites of drivers through the gateway under [forbidding.cedar](forbidding.cedar), which permits everything and forbids what they",
        'do not do. A refusal by one of its policies would be a false positive. Made by `make conformance ARGS="--policy forbidding"`.',
        "",
        "| suite | tests | passed | operations judged | refused by a forbid | refused before policy was asked |",
        "|---|---|---|---|---|---|",
    ]
    for suite, (tests, passed, found) in sorted(rows.items()):
        lines.append(f"| {suite} | {tests} | {passed} | {found.judged} | {len(found.refused)} | {found.others} |")
    refused = Counter((suite, *each) for suite, (_, _, found) in rows.items() for each in found.refused)
    if refused:
        lines += ["", "| suite | policy | what it refused | times |", "|---|---|---|---|"]
        lines += [
            f"| {suite} | `{policy}` | {name} | {times} |" for (suite, policy, name), times in sorted(refused.items())
        ]
    return "\n".join(lines) + "\n"


def merged(page: str, part: str) -> str:
    """The page with this part at its end, in place of the one that it had."""
    return page.partition(HEADING)[0].rstrip("\n") + "\n\n" + part


def kept(page: str) -> str:
    """The part of a page; empty: it has none."""
    _, heading, rest = page.partition(HEADING)
    return heading + rest
