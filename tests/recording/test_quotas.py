"""What may be recorded is counted before it is written, exactly, also over a restart; and at a limit nothing is dropped."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from ostiary.model.events import PayloadKind
from ostiary.vault.keys import KeyEncryptionKey
from ostiary.vault.payload_format import QuotaReached
from ostiary.vault.payloads import PayloadStream
from ostiary.vault.quotas import BLOCK, DAY_MS, FIRST, Limits, Quotas

KEK = KeyEncryptionKey.from_bytes(b"k" * 32)
TODAY = 20_000
NOON = TODAY * DAY_MS + DAY_MS // 2
MIB = 1 << 20


def session(n: int, day: int = TODAY) -> str:
    return str(uuid.UUID(int=(day * DAY_MS + n) << 80 | 7 << 76 | 2 << 62 | n))


class World:
    """A state folder, and recordings in it."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.folder = state / "audit/worker-1/2026/payloads"
        self.folder.mkdir(parents=True)

    def quotas(self, now_ms: int = NOON, **limits: int) -> Quotas:
        made = Quotas(Limits(**{"session": 16 * MIB, **limits}), self.state)
        made.start(now_ms)
        return made

    def begin(self, quotas: Quotas, name: str, whose: str = "ana") -> PayloadStream:
        return PayloadStream.create(self.folder / f"{name}.osp", name, KEK, allowance=quotas.allow(name, whose))


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def fill(stream: PayloadStream, size: int) -> int:
    """Append until it is refused, or `size` bytes are in; returns how many are."""
    done = 0
    while done < size:
        try:
            stream.append(PayloadKind.RESULT, "", 0, bytes(10_000))
        except QuotaReached:
            break
        done += 10_000
    return done


def fill_up(world: World, quotas: Quotas) -> None:
    """Record until no recording may begin."""
    for n in range(10, 90):
        stream = world.begin(quotas, session(n))
        fill(stream, MIB)
        stream.close()


def test_a_session_ends_at_its_limit_with_everything_before_it_kept(world: World) -> None:
    quotas = world.quotas(session=MIB)
    stream = world.begin(quotas, session(1))
    kept = fill(stream, 2 * MIB)
    assert MIB - 20_000 < kept < MIB
    size = stream.close().bytes
    assert size == stream.path.stat().st_size <= MIB
    assert quotas.stored == size
    fill(world.begin(quotas, session(2)), 500_000)


def test_the_store_has_a_limit_for_all_together_and_what_is_pruned_makes_room(world: World) -> None:
    quotas = world.quotas(store=2 * MIB)
    first, second = world.begin(quotas, session(1)), world.begin(quotas, session(2), "bob")
    kept = fill(first, 4 * MIB) + fill(second, 4 * MIB)
    assert 2 * MIB - BLOCK - 40_000 < kept < 2 * MIB
    first.close(), second.close()
    assert sum(path.stat().st_size for path in world.folder.iterdir()) == quotas.stored <= 2 * MIB
    with pytest.raises(QuotaReached, match=r"recordings\.store_bytes"):
        fill_up(world, quotas)
    first.path.unlink()
    quotas.found(quotas.look(quotas.begin_look()))
    world.begin(quotas, session(99)).close()


def test_an_identity_has_a_limit_a_day_and_others_are_not_touched_by_it(world: World) -> None:
    quotas = world.quotas(identity_day=MIB)
    kept = fill(world.begin(quotas, session(1)), MIB // 2) + fill(world.begin(quotas, session(2)), MIB)
    assert kept < MIB
    with pytest.raises(QuotaReached, match="identity_day_bytes"):
        world.begin(quotas, session(3))
    assert not (world.folder / f"{session(3)}.osp").exists()
    assert fill(world.begin(quotas, session(4), "bob"), MIB // 2) >= MIB // 2
    assert fill(world.begin(quotas, session(5, TODAY + 1)), MIB // 2) >= MIB // 2, "another day"


def test_what_a_killed_process_recorded_counts_for_the_one_after_it(world: World) -> None:
    quotas = world.quotas(identity_day=MIB, day=2 * MIB)
    stream = world.begin(quotas, session(1))
    fill(stream, MIB - FIRST)
    again = world.quotas(identity_day=MIB, day=2 * MIB)  # the first one never ended it
    with pytest.raises(QuotaReached, match="identity_day_bytes"):
        world.begin(again, session(2))
    fill(world.begin(again, session(3), "bob"), MIB)
    with pytest.raises(QuotaReached, match=r"recordings\.day_bytes"):
        world.begin(again, session(4), "eve")
    later = world.quotas(NOON + DAY_MS, identity_day=MIB, day=2 * MIB)
    world.begin(later, session(5, TODAY + 1))
    assert len(list(world.state.glob("recorded-by-*"))) == 1, "no day's notes outlive it"


def test_a_clock_that_goes_back_gives_nothing_twice(world: World) -> None:
    quotas = world.quotas(day=MIB)
    fill(world.begin(quotas, session(1)), MIB)
    with pytest.raises(QuotaReached):
        world.begin(quotas, session(2, TODAY - 1))


def test_a_day_that_is_over_still_binds_what_began_on_it(world: World) -> None:
    quotas = world.quotas(day=MIB)
    stream = world.begin(quotas, session(1))
    kept = fill(stream, MIB // 2)
    fill(world.begin(quotas, session(2, TODAY + 1)), MIB // 4)
    kept += fill(stream, 2 * MIB)
    assert kept < MIB


def test_what_ends_while_it_is_counted_is_counted_once(world: World) -> None:
    quotas = world.quotas(store=64 * MIB)
    open_, ends = world.begin(quotas, session(1)), world.begin(quotas, session(2))
    fill(open_, 100_000)
    without = quotas.begin_look()
    fill(ends, 200_000)
    ends.close()
    begins = world.begin(quotas, session(3))
    begins.close()
    found = quotas.look(without)
    quotas.found(found)
    open_.close()
    assert quotas.stored == sum(path.stat().st_size for path in world.folder.iterdir())
