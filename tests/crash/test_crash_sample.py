"""At whatever system call it ends, nothing that happened is missing from the log, and the log verifies. A sample: `make crash` does all.

The points are the same in each run: they, and what each cut leaves, hang on fixed seeds and the number of the point alone.
"""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

from tests.crash.faults import FAULTS, suffer
from tests.crash.powercut import Image, recorded
from tests.crash.workload import House, Plan, judge, read_back

SPAN = 100
"""Points to choose from: fewer than any run of the plan has, however its threads take turns."""


@pytest.fixture
def memory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in memory, where syncing costs nothing."""
    import tempfile

    folder = Path(tempfile.mkdtemp(prefix="ostiary-crash-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_at_any_call_loses_nothing(memory: Path, fault: str) -> None:
    dice = random.Random(fault)
    House(memory / "pattern").build()
    shutil.copytree(memory / "pattern", memory / "dry")
    _, calls = suffer(House(memory / "dry"), Plan(), -1, "none")
    assert calls > SPAN
    for at in dice.sample(range(SPAN), 8):
        house = House(memory / "run")
        shutil.copytree(memory / "pattern", house.folder)
        patience = 0.1 if fault in {"stall", "enospc"} else 2.0
        happened, _ = suffer(house, Plan(patience=patience), at, fault)
        judge(read_back(house), happened)
        shutil.rmtree(house.folder)


def test_a_power_cut_behind_any_call_loses_nothing_that_happened(memory: Path) -> None:
    house = House(memory / "pattern")
    house.build()
    shutil.copytree(house.state, memory / "base")
    events = recorded(house, Plan())
    image = Image(memory / "base")
    assert len(events) > SPAN
    cuts = set(random.Random(7).sample(range(SPAN), 20))
    for number, event in enumerate(events):
        image.play(house.state, event)
        if number in cuts:
            cut = House(memory / "cut")
            cut.tail.mkdir(parents=True)
            image.cut(cut.state, random.Random(number))
            judge(read_back(cut), image.happened, power_cut=True)
            shutil.rmtree(cut.folder)
