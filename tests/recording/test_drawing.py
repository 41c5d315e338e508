"""What reaches the terminal of somebody who looks at a recording: drawing, whatever the recording holds."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostiary.recording.drawing import CLEAR, FORMAT, Drawing

# Written anew, and not taken from the code: what a terminal may be told.
_NUMBER = r"[0-9]{0,4}"
PERMITTED = re.compile(
    r"(?:[^\x00-\x1f\x7f-\x9f]"
    r"|[\b\t\n\r]"
    r"|\x1b[78DEM]"
    rf"|\x1b\[{_NUMBER}[@A-GIKLMPSTXZ`abde]"
    r"|\x1b\[[0-2]?J"
    r"|\x1b\[[su]"
    rf"|\x1b\[(?:{_NUMBER};)?{_NUMBER}[Hfr]"
    r"|\x1b\[[0-9:;]*m"
    r"|\x1b\[(?:4|\?6|\?7|\?25|\?47|\?1047|\?1049)[hl])*",
)
HOSTILE = [
    "\x1b]0;title\x07", "\x1b]52;c;aGk=\x07", "\x1b]8;;http://evil\x1b\\", "\x1b[6n", "\x1b[c", "\x1b[>c", "\x1b[?1000h", "\x1b[?2004h", "\x1b[20t",
    "\x1b[58;5;8m", "\x1b[38;8;5;38;5;8m", "\x1b[58;2;1;8;8;8m", "\x1b[38:5;8m", "\x1b[58:5:8m",
    "\x1b[3J", "\x1b[8m", "\x1b[1;8;2m", "\x1b[38;5;8m", "\x1b[38;2;1;2;3m", "\x1b[4:3m", "\x1bPq#0!10~\x1b\\", "\x1b_x\x1b\\", "\x1b^x\x1b\\", "\x1bX",
    "\x1b(0lqk\x1b(B", "\x0e", "\x0f", "\x07", "\x05", "\x1bc", "\x1b[!p", "\x1b[?1h", "\x1b=", "\x1b[>4;2m", "\x1b[=1u", "\x1b[>1u", "\x1b[5i", "\x1b[4i",
    "\x9b31m", "\x9d0;x\x9c", "\x90x\x9c", "\u202eabc", "\u2066", "\U000e0041", "\x1b[99999999999b", "\x1b[1;2;3;4;5T", "\x1b[" + "1;" * 200 + "m",
    "\x1b#8", "\x1b%G", "\x1bZ", "\x1b[2 q", "\x1b[?25l", "\x1b[?1049h", "\x1b[0c", "\x1b[x", "\x1b[1\n2H", "\x1b[12;40H", "\x1bN", "\x1bO", "\x1b[g", "\x1bH",
]  # fmt: skip
pieces = st.lists(
    st.one_of(
        st.sampled_from(HOSTILE).map(str.encode),
        st.binary(max_size=20),
        st.lists(st.sampled_from(["38", "48", "58", "038", "2", "5", "8", "08", "", "1", "38:5", "58:5:8", "38:2", "0:8", "264"]), max_size=8).map(
            lambda parts: b"\x1b[" + ";".join(parts).encode() + b"m"
        ),
        st.text("\x1b\x9b[]?0123456789;:mhlHJKPX_^ncqt\\\x07\x18() >=!$\"'", max_size=20).map(str.encode),
    ),
    max_size=20,
)


def styles(text: str, known: set[int]) -> list[int]:
    """The styles that a terminal carries out which knows these beginnings of colours; colons are semicolons to it."""
    numbers = [int(each or 0) for each in re.split("[:;]", text)]
    found: list[int] = []
    while numbers:
        first = numbers.pop(0)
        if first in known and numbers and numbers[0] in {2, 5}:
            del numbers[: 4 if numbers[0] == 2 else 2]
        else:
            found.append(first)
    return found


def drawn(*parts: bytes) -> str:
    drawing = Drawing()
    return "".join(map(drawing.feed, parts))


@given(pieces)
def test_only_what_is_permitted_comes_out(parts: list[bytes]) -> None:
    out = drawn(*parts)
    assert PERMITTED.fullmatch(out), repr(out)
    assert not FORMAT.search(out)
    for style in re.findall(r"\x1b\[([0-9:;]*)m", out):
        for known in ({38, 48}, {38, 48, 58}):
            assert 8 not in styles(style, known), repr(style)


@given(pieces, st.lists(st.integers(0, 400), max_size=8))
def test_however_it_is_cut_the_same_is_drawn(parts: list[bytes], cuts: list[int]) -> None:
    data = b"".join(parts)
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    assert drawn(*(data[a:b] for a, b in pairwise(places))) == drawn(data)


@pytest.mark.parametrize("text", HOSTILE)
def test_what_hostile_output_says_to_the_terminal_is_gone(text: str) -> None:
    out = drawn(b"a" + text.encode() + b"\r\nb")
    assert PERMITTED.fullmatch(out)
    assert (out[0], out[-1]) == ("a", "b"), "what stands around it is drawn"


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"\x1b[1;31mred\x1b[0m", "\x1b[1;31mred\x1b[0m"),
        (b"\x1b[38;5;8mgrey", "\x1b[38;5;8mgrey"),
        (b"\x1b[1;8;2mx", "\x1b[1;2mx"),
        (b"\x1b[08mx", "x"),
        (b"\x1b[58;5;8mx", "x"),
        (b"\x1b[58;2;1;8;8;1mx", "\x1b[1mx"),
        (b"\x1b[58:5:8;4:3mx", "\x1b[4:3mx"),
        (b"\x1b[38;8;5;38;5;8mx", "\x1b[5;38;5;8mx"),
        (b"\x1b[038;5;38;5;8mx", "\x1b[38;5;38;5mx"),
        (b"\x1b[38:5;38;5;8mx", "\x1b[38;5;8mx"),
        (b"\x1b[38:2::1:2:3;48:5:8;0:8;38;5mx", "\x1b[38;2;1;2;3;48;5;8mx"),
        (b"\x1b[;31;264mx", "\x1b[;31mx"),
        (b"\x1b[2J\x1b[H\x1b[5;6r\x1b[?25l", "\x1b[2J\x1b[H\x1b[5;6r\x1b[?25l"),
        (b"\x1b(0lqk\x1b(Blqk", "\u250c\u2500\u2510lqk"),
        (b"\x1b)0\x0elq\x0flq", "\u250c\u2500lq"),
        (b"\x1b[99999999A", "\x1b[9999A"),
        (b"\x1bcx", f"{CLEAR}x"),
        (b"\x1b[?1000;25h", "\x1b[?25h"),
        ("gr\u00fc\u00dfe \u65e5\u672c \U0001f468\u200d\U0001f469".encode(), "gr\u00fc\u00dfe \u65e5\u672c \U0001f468\u200d\U0001f469"),
        (b"\xff\xc3", "\ufffd"),
    ],
)
def test_drawing_passes_as_it_is(data: bytes, expected: str) -> None:
    assert drawn(data) == expected


@pytest.mark.parametrize("begin", [b"\x1b]0;", b"\x1bP", b"\x1b_", b"\xc2\x9d", b"\x1b]52;c;"])
def test_a_string_that_never_ends_hides_no_more_than_its_line(begin: bytes) -> None:
    assert drawn(begin + b"hidden\r\nseen") == "\r\nseen"
    assert drawn(begin + b"x" * 200_000 + b"seen").endswith("seen")
    assert len(drawn(begin + b"x" * 200_000)) > 100_000


def test_a_sequence_that_never_ends_takes_no_memory() -> None:
    drawing = Drawing()
    for _ in range(100):
        drawing.feed(b"\x1b[" + b"1;" * 10_000)
    assert len(drawing._parser._parameters) <= 64
    assert drawing.feed(b"mx") == "x"
