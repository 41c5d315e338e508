"""Whose turn it is, and how no is said."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostiary.model.errors import Misdeed, NotAdmitted, PeerMisbehaved, Reason, Unsupported
from ostiary.model.operations import Objection, Unjudgeable
from ostiary.protocols.postgres import decode, refusals, states
from ostiary.protocols.postgres import messages as m
from ostiary.protocols.postgres.states import State

QUERY = m.Query(b"")
PARSE = m.Parse(b"", b"", ())
SYNC = m.Sync()
DATA = m.CopyData(b"")
DONE = m.CopyDone()
FAIL = m.CopyFail(b"")
ERROR = m.ErrorResponse(())
COPY_IN = m.CopyInResponse(0, ())


def walk(state, *messages):
    for message in messages:
        state = states.turn(state, message)
    return state


def test_a_session_from_first_byte_to_last():
    state = walk(State.BEFORE_STARTUP, m.GSSENCRequest(), m.SSLRequest(), m.StartupMessage(196608, ()))
    assert walk(state, m.AuthenticationData(b""), m.AuthenticationOk()) is State.READY
    assert walk(State.READY, QUERY, QUERY) is State.READY
    assert walk(State.READY, PARSE, m.Bind(b"", b"", (), (), ())) is State.EXTENDED
    assert walk(State.READY, PARSE, m.Execute(b"", 0), SYNC, m.Terminate()) is State.TERMINATED


def test_after_a_refusal_a_pipeline_is_dropped_up_to_its_sync():
    state = walk(State.READY, PARSE, states.Refused())
    assert state is State.SKIPPING
    for message in (PARSE, QUERY, DATA, DONE, m.Flush(), m.FunctionCall(1, (), (), 0)):
        assert states.is_dropped(state, message)
        assert states.turn(state, message) is state
    assert not states.is_dropped(state, SYNC)
    assert walk(state, SYNC) is State.DROPPING
    assert walk(state, SYNC, QUERY) is State.READY
    assert walk(state, m.Terminate()) is State.TERMINATED


def test_an_error_of_the_target_leaves_the_skipping_to_the_target():
    state = walk(State.READY, PARSE, ERROR)
    assert state is State.FAILED
    assert not states.is_dropped(state, PARSE)
    assert states.is_dropped(state, DATA)
    assert walk(state, PARSE, DATA, DONE) is State.FAILED
    assert walk(state, SYNC, PARSE) is State.EXTENDED


def test_copy_in_ends_by_done_fail_or_error():
    copying = walk(State.READY, QUERY, COPY_IN)
    assert copying is State.COPY_IN
    assert walk(copying, DATA, DATA, m.Flush(), SYNC) is State.COPY_IN
    assert not states.is_dropped(copying, SYNC)
    assert walk(copying, DONE) is State.READY
    assert walk(copying, FAIL) is State.READY
    assert walk(copying, ERROR) is State.DROPPING


def test_what_was_under_way_when_a_copy_failed_is_dropped():
    state = walk(State.READY, QUERY, COPY_IN, DATA, ERROR)
    assert states.is_dropped(state, DATA)
    assert states.is_dropped(state, DONE)
    assert walk(state, DATA, DONE) is State.READY
    assert walk(state, QUERY) is State.READY
    assert not states.is_dropped(state, QUERY)


@pytest.mark.parametrize("stray", [DATA, DONE, FAIL])
def test_copy_messages_without_a_copy_are_out_of_turn(stray):
    for state in (State.READY, State.EXTENDED):
        with pytest.raises(PeerMisbehaved) as caught:
            states.turn(state, stray)
        assert caught.value.why is Misdeed.OUT_OF_TURN


@pytest.mark.parametrize("message", [QUERY, PARSE, m.StartupMessage(0, ()), m.AuthenticationData(b"")])
def test_nothing_else_is_said_while_copying_or_after_the_end(message):
    for state in (State.COPY_IN, State.TERMINATED):
        with pytest.raises(PeerMisbehaved):
            states.turn(state, message)


def test_every_turn_that_is_dropped_is_in_the_table():
    assert all(kind in states.TURNS[state] for state, kind in states.DROPPED)
    assert set(states.TURNS) == set(State)


# --- refusals ---------------------------------------------------------------------------------------------------------


def read(wire):
    message = decode.backend(wire)
    assert isinstance(message, m.Report)
    return {code: text.decode() for code, text in message.fields}


def test_an_objection_keeps_the_parsers_sqlstate_and_position():
    why = Objection(Unjudgeable.UNPARSABLE, 'syntax error at or near "x"', "", "42601", 8)
    fields = read(refusals.objection(why))
    assert fields == {"S": "ERROR", "V": "ERROR", "C": "42601", "M": 'syntax error at or near "x"', "P": "8"}


@pytest.mark.parametrize("reason", list(Reason))
def test_every_reason_not_to_be_let_in_has_words_and_a_sqlstate(reason):
    fields = read(refusals.not_admitted(NotAdmitted(reason, "because", "do this")))
    assert fields["V"] == "FATAL"
    assert fields["M"] == f"{reason.value}: because"
    assert fields["H"] == "do this"
    assert len(fields["C"]) == 5


def test_last_words_tell_nothing_that_is_not_ours_to_tell():
    assert read(refusals.goodbye(PeerMisbehaved(Misdeed.OUT_OF_TURN, "Query")))["C"] == "08P01"
    assert read(refusals.goodbye(Unsupported("x", "y")))["H"] == "y"
    assert "s3cret" not in str(read(refusals.goodbye(ValueError("s3cret"))))


@given(st.text(max_size=60))
def test_a_refusal_cannot_write_to_a_terminal(text):
    shown = read(refusals.error_response(text, detail=text, hint=text))
    for value in shown.values():
        assert all(c.isprintable() or c == "\u00a0" or c.isspace() for c in value)
        assert not set(value) & set("\x00\x07\x1b\r\n\x9b\u202e\u2066\u2028")


def test_a_refusal_is_bounded():
    assert len(refusals.error_response("x" * 10**6)) < 5000
    assert len(refusals.error_response("\x1b" * 10**6)) < 20000


def test_the_poison_is_whole_messages():
    assert decode.frontend(refusals.POISON_QUERY) == m.Query(refusals.POISON_TEXT)
    assert decode.frontend(refusals.POISON_PARSE).name
