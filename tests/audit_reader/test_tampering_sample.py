"""Whatever is done to whichever file of a log is found and named. A sample: `make tamper` does all of it."""

from __future__ import annotations

import itertools

import pytest

from tests.audit_reader.tampering import Target
from tests.crash.workload import Plan

BYTES_APART = 331
CHANGES_APART = 7


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Target:
    return Target(tmp_path_factory.mktemp("tampering") / "log", Plan(sessions=1, operations=3, seal_every=2))


def test_bytes_changed_and_files_cut_are_found_and_named(target: Target) -> None:
    changes = list(itertools.islice(target.every_byte(), 0, None, BYTES_APART))
    assert {change.path for change in changes} >= {path for path in target.files() if path.stat().st_size > BYTES_APART}
    assert [fault for change in changes if (fault := target.fault(change))] == []


def test_things_moved_left_out_doubled_and_replaced_are_found_and_named(target: Target) -> None:
    changes = list(itertools.islice(target.every_structure(), 0, None, CHANGES_APART))
    assert len(changes) > 50
    assert [fault for change in changes if (fault := target.fault(change))] == []
