"""Every item of the corpus for PostgreSQL that has machine steps, one test each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.attacks.lab import labs
from tests.attacks.runner import Lab, items

pytestmark = pytest.mark.timeout(180)

ITEMS = items("postgresql")


@pytest.fixture(scope="module")
def profiles(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Lab]]:
    with labs(ITEMS) as by_profile:
        yield by_profile


@pytest.mark.parametrize("item", ITEMS, ids=lambda item: item["id"])
def test_the_required_outcome_holds(item: dict[str, Any], profiles: dict[str, Lab]) -> None:
    lab = profiles[item["profile"]]
    start = lab.log_position()
    played = lab.play(item)
    lab.judge(item, played, lab.heard_since(start))
