"""Text that stood on a screen is said, however it was put there."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ostiary.recording.screen import CREDIT, FIRST_CREDIT, MAX_COLUMNS, MAX_ROWS, Screen
from tests.recording.test_drawing import pieces


def said(*parts: bytes, columns: int = 40, rows: int = 5, plain: bool = False) -> list[str]:
    lines: list[str] = []
    screen = Screen(columns, rows, lines.append, plain=plain)
    for part in parts:
        screen.feed(part)
    screen.end()
    return lines


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"treasure", id="as it is"),
        pytest.param(b"tre\x1b[31masu\x1b[0mre", id="in colours"),
        pytest.param(b"treas\x1b[6C\x1b[6Dure", id="moved and moved back"),
        pytest.param(b"\x1b[1;6Hure\x1b[1;1Htreas", id="its end first"),
        pytest.param(b"".join(b"\x1b[1;%dH%c" % (at, char) for at, char in reversed([*enumerate(b"treasure", 1)])), id="letter by letter, backwards"),
        pytest.param(b"tre\x1b]0;title\x07asure", id="around a title"),
        pytest.param("tre\u200basu\u2060re".encode(), id="around what nobody sees"),
        pytest.param(b"xxxasure\r\x1b[3Xtre", id="over something erased"),
        pytest.param(b"treXXasure\x1b[1;4H\x1b[2P", id="with something taken out"),
        pytest.param(b"treasureXX\x1b[2D\x1b[K", id="with an end that was erased"),
        pytest.param(b"tresure\x1b[1;4H\x1b[@a", id="with something put in"),
        pytest.param(b"\x1b[?1049htreasure\x1b[?1049l", id="on the other screen"),
        pytest.param(b"treasure\x1b[2J", id="and erased"),
        pytest.param(b"treasure\rXXXXXXXX", id="and overwritten"),
        pytest.param(b"treasure\x1bc", id="and reset"),
        pytest.param(b"treasure" + b"\n" * 50, id="and scrolled away"),
        pytest.param(b"\x1b[2;3r\x1b[2Htreasure\x1b[5M\x1b[3L\x1b[2S\x1b[2T", id="in a region that scrolled"),
        pytest.param(b"\x1b[8mtreasure", id="concealed"),
        pytest.param(b"\x1b[36Gtreasure", id="across the margin"),
        pytest.param(b"\x1b[5;36Htreasure", id="across the last margin"),
        pytest.param(b"\x1b[?7ltreasure", id="without wrapping"),
    ],
)
def test_a_word_is_found_however_it_was_written(data: bytes) -> None:
    for parts in ([data], [bytes([each]) for each in data]):
        assert any("treasure" in line.split() for line in said(*parts)), said(*parts)


def test_a_line_is_said_when_the_cursor_leaves_it_and_once() -> None:
    lines: list[str] = []
    screen = Screen(80, 24, lines.append)
    screen.feed(b"$ ls\r\nfile\r\n$ ")
    assert lines == ["$ ls", "file"]
    screen.settle()
    assert lines == ["$ ls", "file"], "the line that is being written is not settled"
    screen.end()
    assert lines == ["$ ls", "file", "$"]


def test_wide_characters_and_marks_stand_where_a_terminal_puts_them() -> None:
    assert said("日本x\x1b[1;3Hyy".encode()) == ["日本x", "日yyx"]
    assert said("e\u0301x".encode()) == ["e\u0301x"]
    assert said("日".encode() * 30, columns=40, rows=5) == ["日" * 30]
    assert max(map(len, said(b"\x1b[?7l" + "日".encode() * 30, columns=5, rows=1))) == 3, "no line is wider than the screen"


def test_a_plain_stream_has_lines() -> None:
    assert said(b"one\ntwo\nthree" + b"x" * 1500, plain=True, columns=MAX_COLUMNS) == ["one", "two", "three" + "x" * 1500]


@settings(max_examples=40)
@given(pieces, st.integers(0, 2**32), st.integers(0, 2**32), st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 3000)), max_size=3))
def test_whatever_comes_and_however_large_the_screen_was_said_to_be_it_is_bounded(
    parts: list[bytes], columns: int, rows: int, sizes: list[tuple[int, int]]
) -> None:
    lines: list[str] = []
    screen = Screen(columns, rows, lines.append)
    for part in parts:
        screen.feed(part)
        for size in sizes:
            screen.resize(*size)
        assert len(screen._rows) <= MAX_ROWS
        assert all(len(row.cells) <= MAX_COLUMNS for row in screen._rows)
        assert 0 <= screen._y < screen._count
        assert 0 <= screen._x <= screen._columns
        assert len(screen._rows) == screen._count
    screen.end()
    assert sum(map(len, lines)) <= 9 * (FIRST_CREDIT + CREDIT * sum(map(len, parts)))


def test_what_overwrites_itself_for_ever_is_not_said_for_ever() -> None:
    lines: list[str] = []
    screen = Screen(1000, 24, lines.append)
    screen.feed(b"x" * 1000)
    noise = b"\ra\rb" * 20_000
    screen.feed(noise)
    assert screen.is_partial
    assert sum(map(len, lines)) <= FIRST_CREDIT + CREDIT * (1000 + len(noise))
