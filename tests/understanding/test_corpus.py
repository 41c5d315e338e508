"""Every attack on PostgreSQL that has statements, judged without a gateway around: refused, masked, or let through as it must be."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ostiary.model.operations import Action, Facts
from ostiary.protocols.postgres.operations import Understood

CORPUS = Path(__file__).resolve().parent.parent / "attacks" / "attacks.jsonl"
ITEMS = [
    item
    for item in map(json.loads, CORPUS.read_text().splitlines())
    if item["protocol"] == "postgresql" and any("sql" in s or "python" in s for s in item.get("steps") or ())
]
SHOWN = {"PGM-002", "PGM-003", "PGM-035", "PGM-036", "PGM-038", "PGM-039", "PGM-062", "PGM-063"}
"""Nothing to refuse: masking has the column's origin. (PGM-063 has no protected column at all.)"""


def _is_permitted(facts: Facts, profile: str) -> bool:
    """The corpus's profiles, as a function: `pg-base.cedar` and `pg-readonly.cedar` say the same."""
    if facts.objection is not None or facts.opaque or facts.unmask or facts.infer:
        return False
    for resource in facts.resources:
        writes = profile == "pg-base" and resource.kind == "relation" and resource.name != "public.victim"
        if resource.action not in {Action.CONNECT, Action.READ, Action.TRANSFER} and not (
            writes and resource.action is Action.WRITE
        ):
            return False
    return True


def _text(step: dict[str, Any]) -> bytes:
    if step["op"] == "q_generated":
        return str(eval(step["python"])).encode()
    return str(step["sql"]).encode("latin-1" if step["op"] == "q_latin1" else "utf-8")


@pytest.mark.parametrize("item", ITEMS, ids=[item["id"] for item in ITEMS])
def test_what_must_not_pass_does_not(run: Callable[[bytes], Understood], item: dict[str, Any]) -> None:
    texts = [_text(step) for step in item["steps"] if "sql" in step or "python" in step]
    judged = [run(text).facts for text in texts]
    permitted = [_is_permitted(facts, item["profile"]) for facts in judged]
    masked = any(shown is not None for facts in judged for shown in facts.shown)
    outcome = item["required_outcome"]
    if outcome.startswith("ALLOW") or item["id"] in SHOWN:
        assert all(permitted)
    elif outcome.startswith("DENY"):
        assert not all(permitted)
    elif outcome.startswith("NO-LEAK"):
        assert masked or not all(permitted)
