"""What workers share in memory: tallies, tables, notes, and what is built of them. Each `Commons` here stands for a process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from ostiary.alerts import till
from ostiary.alerts.budgets import Budgets
from ostiary.alerts.till import Till
from ostiary.config.types import Budget as Section
from ostiary.identity import habits
from ostiary.identity.dpop import KeyProof, KeyProofs
from ostiary.identity.habits import Habits, SharedMemory
from ostiary.model.commands import Hold, Take
from ostiary.model.decisions import Permit, Refusal
from ostiary.model.errors import NotAdmitted
from ostiary.model.identity import Said, VerifiedIdentity
from ostiary.model.restraints import Restraint
from ostiary.protocols.aws.replays import Replays
from ostiary.store import commons as module
from ostiary.store import numbers, once
from ostiary.store.commons import WAYS, Commons, CommonsBusy, Notes, key_of, make_memory
from ostiary.store.numbers import Numbers, forget
from ostiary.store.once import SharedOnce
from tests.alerts.test_restraints import permit
from tests.aws.test_aws_once import made, takes
from tests.policy.policy_world import connection, identity

TABLES = {"purses": (till.BODY, 1 << 10), "used": (once.BODY, WAYS), "habits": (habits.BODY, WAYS), "numbers": (numbers.BODY, WAYS)}
NAMES = ("generation db", "sessions db")


@pytest.fixture
def memory() -> Iterator[int]:
    fd = make_memory()
    yield fd
    os.close(fd)


def process(fd: int, number: int) -> Commons:
    return Commons(fd, 2, number, NAMES, TABLES, ("web",))


def test_a_tally_is_the_sum_of_all_workers_and_forgets_what_a_worker_that_died_had_counted(memory: int) -> None:
    one, other, above = (process(memory, number) for number in (1, 2, 0))
    for each, times in ((one, 3), (other, 2)):
        for _ in range(times):
            assert each.tally("sessions db").enter(5)
    assert not one.tally("sessions db").enter(5)
    assert not other.tally("sessions db").enter(5)
    process(memory, 1).begin()
    assert [each.tally("sessions db").total for each in (one, other, above)] == [2, 2, 2]


def test_what_only_grows_grows_when_a_worker_dies_and_when_it_begins(memory: int) -> None:
    worker, above = process(memory, 1), process(memory, 0)
    seen = [above.tally("generation db").total]
    for change in (above.outdate, worker.begin, lambda: worker.tally("generation db").add(1)):
        change()
        seen.append(above.tally("generation db").total)
    assert seen == [0, 1, 2, 3]
    assert above.tally("sessions db").total == 0


def test_who_cannot_have_the_lock_is_refused_and_a_process_that_dies_lets_go_of_it(
    memory: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PATIENCE_SECONDS", 0.05)
    holds = "import fcntl,sys,time; fcntl.lockf(int(sys.argv[1]), fcntl.LOCK_EX); print('held', flush=True); time.sleep(600)"
    held = subprocess.Popen([sys.executable, "-c", holds, str(memory)], pass_fds=[memory], stdout=subprocess.PIPE)
    assert held.stdout is not None
    held.stdout.readline()
    here = process(memory, 1)
    assert not here.tally("sessions db").enter(5)
    with pytest.raises(CommonsBusy):
        Habits(dict.fromkeys(habits.SIGNS, "flag"), memory=SharedMemory(here.table("habits"))).notice(identity(), Said(address="10.0.0.1:5"), 1.0)
    assert SharedOnce(here.table("used")).use("a", 10, 0) is False
    budget = Restraint(Budgets((Section(name="b", of="rows", most=9, per="day"),), Path("/nowhere/b.json"), Till(here.table("purses"))).purses(identity(), connection(), 1))
    with pytest.raises(NotAdmitted, match="not known now"):
        Till(here.table("purses")).hold(Hold(budget, permit(), 1))
    held.kill()
    held.wait()
    held.stdout.close()
    assert here.tally("sessions db").enter(5)


def restraint(commons: Commons, file: Path, **settings: object) -> tuple[Till, Restraint]:
    held = Till(commons.table("purses"), clock=lambda: 86_400 * 20_000)
    section = Section(**{"name": "b", "of": "operations", "most": 3, "per": "day"} | settings)  # type: ignore[arg-type]
    return held, Restraint(Budgets((section,), file, held, commons.number).purses(identity(), connection(), 1))


def test_a_purse_is_one_for_all_workers_in_each_window(memory: int, tmp_path: Path) -> None:
    both = [restraint(process(memory, number), tmp_path / "b.json") for number in (1, 2)]
    day = 86_400 * 20_000

    def spend(now: int) -> list[type]:
        return [type(both[n % 2][0].hold(Hold(both[n % 2][1], permit(), now))) for n in range(5)]

    assert spend(day) == [Permit] * 3 + [Refusal] * 2
    assert spend(day - 86_400) == [Refusal] * 5
    assert spend(day + 86_400) == [Permit] * 3 + [Refusal] * 2


def test_what_leaves_is_counted_in_all_workers_and_what_is_too_much_leaves_none(memory: int, tmp_path: Path) -> None:
    both = [restraint(process(memory, number), tmp_path / "b.json", of="rows", most=10) for number in (1, 2)]
    for till_, held in both:
        till_.take(Take(held, 5, 0))
    for till_, held in both:
        with pytest.raises(NotAdmitted):
            till_.take(Take(held, 1, 0))


def test_where_there_is_no_room_for_a_purse_nothing_is_spent(memory: int, tmp_path: Path) -> None:
    small = Commons(memory, 2, 1, (), {"purses": (till.BODY, WAYS)})
    held = Till(small.table("purses"), clock=lambda: 86_400.0 * 20_000)
    budgets = Budgets((Section(name="b", of="operations", most=3, per="day"),), tmp_path / "b.json", held)
    with pytest.raises(NotAdmitted, match="too many"):
        for number in range(WAYS * 400):  # a page of memory holds fewer
            purse = Restraint(budgets.purses(identity(subject=f"s{number}"), connection(), 1))
            held.hold(Hold(purse, permit(), 86_400 * 20_000))


def test_what_is_used_in_one_worker_is_used_in_all_until_it_is_too_old(memory: int) -> None:
    proofs = [KeyProofs(SharedOnce(process(memory, number).table("used"))) for number in (1, 2)]
    proof = KeyProof("key", "jti", 160.0)
    proofs[0].spend(proof, 100.0)
    for each in (*proofs, KeyProofs(SharedOnce(process(memory, 1).table("used")))):
        with pytest.raises(NotAdmitted, match="used before"):
            each.spend(proof, 100.0)
    proofs[1].spend(proof, 161.0)


def test_a_signature_of_aws_is_good_once_in_all_workers(memory: int) -> None:
    both = [Replays(0.0), Replays(0.0)]
    for number, each in enumerate(both, 1):
        each.share(SharedOnce(process(memory, number).table("used")).use)
    now = 1_800_000_000.0
    assert [takes(each, made(now), now) for each in (*both, *both)] == [True, False, False, False]
    assert takes(both[1], made(now, signature="b"), now)


def shown(token: str) -> VerifiedIdentity:
    who = identity()
    return msgspec.structs.replace(who, auth=msgspec.structs.replace(who.auth, token=token))


def test_a_credential_that_was_seen_by_one_worker_is_known_to_the_other(memory: int) -> None:
    flags = dict.fromkeys(habits.SIGNS, "flag")
    both = [Habits(flags, memory=SharedMemory(process(memory, number).table("habits"))) for number in (1, 2)]
    assert both[0].notice(identity(), Said(address="10.0.0.1:5"), 1000.0) == []
    (sign,) = both[1].notice(identity(), Said(address="192.0.2.1:5"), 1010.0)
    assert (sign.name, "10.0.0.0/24 10 s before" in sign.detail) == ("another_network", True)
    assert both[0].notice(identity(), Said(address="192.0.2.1:5"), 1020.0) == []
    for number in range(1000):  # whatever is older makes room
        assert both[0].notice(shown(f"t{number}"), Said(address="10.0.0.1:5"), 2000.0 + number) == []


def test_notes_are_read_by_all_workers_for_as_long_as_they_matter(memory: int) -> None:
    one, other = (process(memory, number).notes("web") for number in (1, 2))
    one.write({b"first": 10.0, b"second": 20.0})
    other.write({b"third": 15.0})
    assert [sorted(each.read(5.0)) for each in (one, other)] == [[b"first", b"second", b"third"]] * 2
    assert sorted(other.read(12.0)) == [b"second", b"third"]
    one.write({b"fourth": 30.0})
    assert sorted(other.read(5.0)) == [b"fourth", b"third"]
    with pytest.raises(ValueError, match="too much"):
        one.write({bytes(module.MAX_NOTE + 1): 1.0})
    assert isinstance(one, Notes)


def test_the_number_of_a_session_is_known_to_all_workers_until_it_or_its_worker_is_over(memory: int) -> None:
    one, other, elsewhere = Numbers("db"), Numbers("db"), Numbers("other")
    for each, number in ((one, 1), (other, 2), (elsewhere, 2)):
        each.share(process(memory, number).table("numbers"), number)
    there = [number.to_bytes(4, "big") for number in range(1000)]
    one.add(there[1], b"aaaa")
    assert (one[there[1]], other[there[1]], elsewhere.get(there[1])) == (b"aaaa", b"aaaa", None)
    other.add(there[1], b"bbbb")  # the target gave the process id anew before the other session's end was seen
    one.remove(there[1], b"aaaa")
    assert (one[there[1]], other[there[1]]) == (b"bbbb", b"bbbb")
    other.remove(there[1], b"bbbb")
    assert (one.get(there[1]), other.get(there[1])) == (None, None)
    for each in there:
        one.add(each, each)
    known = [other.get(each) for each in there]
    assert [one[each] for each in there] == there
    assert all(told in (None, each) for each, told in zip(there, known, strict=True))
    assert 0 < known.count(None) < len(there), "where there is no room nothing is told"
    forget(process(memory, 2).table("numbers"), 2)
    assert [other.get(each) for each in there] == known
    forget(process(memory, 1).table("numbers"), 1)
    assert [other.get(each) for each in there] == [None] * len(there)


def test_no_key_stands_for_two_things() -> None:
    assert len({key_of("ab", "c"), key_of("a", "bc"), key_of("abc"), key_of("a", "b", "c")}) == 4
