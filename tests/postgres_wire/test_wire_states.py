"""The table of turns: what is not in it is refused."""

from __future__ import annotations

import pytest

from ostiary.model.errors import Misdeed, PeerMisbehaved
from ostiary.protocols.postgres import messages as m
from ostiary.protocols.postgres.states import TURNS, Move, Phase, move

WORK = [
    m.Query(b"SELECT 1"), m.Parse(b"", b"", ()), m.Bind(b"", b"", (), (), ()), m.Describe("S", b""), m.Execute(b"", 0),
    m.Close("S", b""), m.FunctionCall(1, (), (), 0),
]  # fmt: skip
COPY = [m.CopyData(b"1\n"), m.CopyDone(), m.CopyFail(b"no")]


@pytest.mark.parametrize("message", WORK, ids=lambda each: type(each).__name__)
def test_work_is_taken_when_open_dropped_when_skipping_and_out_of_turn_in_copy(message):
    assert move(Phase.OPEN, message) is Move.TAKE
    assert move(Phase.SKIPPING, message) is Move.DROP
    with pytest.raises(PeerMisbehaved) as caught:
        move(Phase.COPYING, message)
    assert caught.value.why is Misdeed.OUT_OF_TURN


@pytest.mark.parametrize("message", COPY, ids=lambda each: type(each).__name__)
def test_copy_messages_count_only_during_copy(message):
    assert move(Phase.COPYING, message) is Move.TAKE
    assert move(Phase.OPEN, message) is Move.DROP
    assert move(Phase.SKIPPING, message) is Move.DROP


@pytest.mark.parametrize("phase", Phase)
def test_sync_and_terminate_are_always_heard(phase):
    assert move(phase, m.Sync()) is Move.TAKE
    assert move(phase, m.Terminate()) is Move.TAKE


@pytest.mark.parametrize("phase", Phase)
def test_a_login_message_is_never_in_turn_again(phase):
    with pytest.raises(PeerMisbehaved):
        move(phase, m.AuthenticationData(b""))


def test_every_phase_has_a_row():
    assert set(TURNS) == set(Phase)
