"""Settings that a target says in each login are read once, and mean what reading them each time gives."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ostiary.protocols.postgres import decode, encode
from ostiary.protocols.postgres import messages as m
from ostiary.upstream.settings import MAX_RUN, MAX_RUNS, KnownSettings

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
END = encode.READY["I"]


def wire(*settings: tuple[str, str]) -> bytes:
    return b"".join(encode.encode(m.ParameterStatus(*each)) for each in settings)


def one_by_one(data: bytes) -> dict[str, str]:
    buf, found = bytearray(data), {}
    while isinstance(message := decode.next_backend(buf), m.ParameterStatus):
        found[message.name] = message.value
    return found


@given(st.lists(st.tuples(TEXT, TEXT), max_size=6), st.lists(st.tuples(TEXT, TEXT), max_size=6))
def test_a_run_that_is_known_says_what_its_messages_say(first, second):
    known = KnownSettings()
    known.learn(bytearray(wire(*first) + END))
    for settings in (first, second):
        buf = bytearray(wire(*settings) + END)
        run = known.at(buf)
        if run is not None:
            taken = bytes(buf[: len(run.wire)])
            assert dict(run.values) == one_by_one(taken + END)
            assert run.messages == len(run.values)


def test_a_run_that_differs_by_a_byte_is_another():
    known = KnownSettings()
    settings = (("client_encoding", "UTF8"), ("TimeZone", "UTC"))
    told = bytearray(wire(*settings) + END)
    assert known.learn(told)
    run = known.at(told)
    assert run is not None
    assert run.values == dict(settings)
    for at in range(len(run.wire)):
        other = bytearray(told)
        other[at] ^= 1
        assert known.at(other) is None
    for at in range(len(run.wire)):
        assert known.at(told[:at]) is None


def test_what_names_the_session_is_no_part_of_a_run_and_one_name_twice_makes_none():
    known = KnownSettings()
    assert not known.learn(bytearray(wire(("application_name", "ostiary: ana 1"), ("TimeZone", "UTC")) + END))
    twice = bytearray(wire(("a", "1"), ("a", "2")) + END)
    assert known.learn(twice)
    assert known.at(twice) is None


def test_what_is_kept_is_bounded():
    known = KnownSettings()
    long = bytearray(wire(*((f"name{number}", "x" * 100) for number in range(MAX_RUN // 50))) + END)
    known.learn(long)
    assert known.at(long) is None
    for number in range(2 * MAX_RUNS):
        known.learn(bytearray(wire((f"name{number}", "x")) + END))
    assert len(known._runs) == MAX_RUNS
