"""The queue of what is outstanding, beside one that the language has; and what a table of turns says, beside the table."""

from __future__ import annotations

from collections import deque

from hypothesis import given
from hypothesis import strategies as st

from ostiary.protocols.postgres import decode, encode, states
from ostiary.protocols.postgres import messages as m
from ostiary.protocols.postgres.conversation import Kind, Turn, Turns, opened

MANY = 64
"""Answered turns that a queue may hold on to."""


@given(st.lists(st.sampled_from(["ask", "ask", "ask", "answer", "answer", "drop"]), max_size=8 * MANY))
def test_turns_come_in_the_order_in_which_they_went(steps: list[str]) -> None:
    turns = Turns()
    model: deque[Turn] = deque()
    for step in steps:
        if step == "ask":
            turn = opened(Kind.EXECUTE)
            turns.append(turn)
            model.append(turn)
        elif step == "answer" and model:
            turns.popleft()
            model.popleft()
        elif step == "drop" and len(model) > 1:
            turns.drop_second()
            del model[1]
        assert len(turns) == len(model)
        assert turns.first() is (model[0] if model else None)
        assert turns.second() is (model[1] if len(model) > 1 else None)
    assert list(turns) == list(model)
    turns.clear()
    assert (len(turns), turns.first(), list(turns)) == (0, None, [])


def test_many_answered_turns_are_let_go_of() -> None:
    turns = Turns()
    for _ in range(10 * MANY):
        turns.append(opened(Kind.EXECUTE))
    for _ in range(9 * MANY):
        turns.popleft()
    assert len(turns) == MANY
    assert len(turns._turns) < 3 * MANY


def test_what_is_taken_is_what_the_table_takes() -> None:
    bodies = {
        m.Query: m.Query(b""), m.FunctionCall: m.FunctionCall(1, (), (), 0), m.Parse: m.Parse(b"", b"", ()), m.Bind: m.Bind(b"", b"", (), (), ()),
        m.Describe: m.Describe("S", b""), m.Execute: m.Execute(b"", 0), m.Close: m.Close("S", b""), m.CopyData: m.CopyData(b""),
        m.CopyDone: m.CopyDone(), m.CopyFail: m.CopyFail(b""), m.Sync: m.Sync(), m.Terminate: m.Terminate(), m.Flush: m.Flush(),
    }  # fmt: skip
    for phase, turns in states.TURNS.items():
        tags = {encode.encode(bodies[kind])[0]: what is states.Move.TAKE for kind, what in turns.items()}
        assert states.taken(phase) == bytes(tags.get(tag, False) for tag in range(256))


@given(st.binary(max_size=40), st.sampled_from([0, 1, 2, 0xFFFF]), st.lists(st.one_of(st.none(), st.binary(max_size=80)), max_size=4))
def test_fields_are_what_the_message_says(name: bytes, code: int, values: list[bytes | None]) -> None:
    name = name.replace(b"\0", b"")
    formats = (code & 1,) * min(code, 3)
    bind = m.Bind(name, name * 3, formats, tuple(values), formats)
    fields = decode.bind_fields(encode.encode(bind))
    assert bind == m.Bind(fields.portal, fields.statement, fields.parameter_formats, fields.parameters, fields.result_formats)
    parse = m.Parse(name, name * 3, tuple(range(code & 3)))
    said = decode.parse_fields(encode.encode(parse))
    assert parse == m.Parse(said.name, said.statement, said.parameter_types)
    assert decode.executed(encode.encode(m.Execute(name, -1))) == name
    assert decode.named(encode.encode(m.Describe("P", name)), "Describe") == name
