"""Every system call of the log's writer, recovery and sealer, made to fail in turn; and power cuts behind each: `make crash`.

ROUNDS (1 if it is not set) runs each plan so often, with other dice. `-rP` shows how many points each was.
"""

from __future__ import annotations

import os
import random
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash.faults import FAULTS, suffer
from tests.crash.powercut import Image, recorded
from tests.crash.workload import House, Plan, judge, read_back

ROUNDS = int(os.environ.get("ROUNDS", "1"))
PLANS = {
    "two sessions": Plan(sessions=2, operations=3),
    "one long session": Plan(sessions=1, operations=10, seal_every=3),
    "four at once": Plan(sessions=4, operations=2, seal_every=1),
    "after a crash": Plan(sessions=1, operations=2),
}
CUTS_EACH = 12
"""Different choices of what an unsynced write left, behind each call."""


@pytest.fixture
def memory() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="ostiary-crash-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def pattern(folder: Path, name: str, dice: random.Random) -> House:
    """The folder that each run begins with: a new one, or one that a crash left."""
    house = House(folder / "pattern")
    house.build()
    if name == "after a crash":
        suffer(house, Plan(sessions=2, operations=3), dice.randrange(40, 120), "kill")
    return house


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("turn", range(ROUNDS))
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", PLANS)
def test_a_fault_at_every_call_in_turn_loses_nothing(
    memory: Path, name: str, fault: str, turn: int
) -> None:
    dice = random.Random(f"{name} {fault} {turn}")
    first = pattern(memory, name, dice)
    house = House(memory / "run")
    plan = Plan(**{**vars(PLANS[name]), "patience": 0.1 if fault in {"stall", "enospc"} else 2.0})
    at = points = 0
    while True:
        shutil.copytree(first.folder, house.folder)
        happened, calls = suffer(house, plan, at, fault)
        judge(read_back(house), happened)
        shutil.rmtree(house.folder)
        points += 1
        if calls and calls <= at:
            break  # the run was over before its turn came
        at += 1
    print(f"points {points}")


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("turn", range(ROUNDS))
@pytest.mark.parametrize("name", PLANS)
def test_a_power_cut_behind_every_call_loses_nothing_that_happened(
    memory: Path, name: str, turn: int
) -> None:
    dice = random.Random(f"{name} {turn}")
    house = pattern(memory, name, dice)
    shutil.copytree(house.state, memory / "base")
    events = recorded(house, Plan(**vars(PLANS[name])))
    image = Image(memory / "base")
    points = 0
    for event in events:
        image.play(house.state, event)
        for _ in range(CUTS_EACH):
            cut = House(memory / "cut")
            cut.tail.mkdir(parents=True)
            image.cut(cut.state, dice)
            judge(read_back(cut), image.happened, power_cut=True)
            shutil.rmtree(cut.folder)
            points += 1
    print(f"points {points}")
