"""Each item of the corpus about the trail and about faults has a test that is named after it."""

from __future__ import annotations

import json
import re
from pathlib import Path

from ostiary.audit.keys import ensure_origin, init_state

TESTS = Path(__file__).parents[1]


def test_every_item_about_the_trail_and_about_faults_has_a_test_of_its_name() -> None:
    items = [json.loads(line) for line in (TESTS / "attacks/attacks.jsonl").read_text().splitlines()]
    wanted = {item["id"].lower().replace("-", "_") for item in items if item["protocol"] in {"audit", "fault"}}
    assert len(wanted) > 30
    tests = (name for path in TESTS.rglob("test_*.py") for name in re.findall(r"^ *(?:async )?def (test_\w+)", path.read_text(), re.MULTILINE))
    named = {name for test in tests for name in re.findall(r"(?:aud|flt)_[0-9]{3}", test)}
    assert not wanted - named


def test_aud_020_a_log_that_is_made_anew_is_another_log(tmp_path: Path) -> None:
    names = []
    for folder in ("first", "again"):
        init_state(tmp_path / folder, "gw1")
        names.append(ensure_origin(tmp_path / folder, "gw1", "worker-1", 2026).name)
    first, again = names
    assert first.startswith("gw1-")
    assert first != again, "a witness would take one for the other, smaller than it was"
