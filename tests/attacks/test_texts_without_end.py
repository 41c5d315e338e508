"""What somebody else writes is read in time that grows with its length, and not with the ways to read it."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostiary.policy.decide import _pattern
from ostiary.protocols.postgres.understand.settings import LENGTH, LIFTED

WORST = {
    "a limit behind blanks": "from ostiary.protocols.postgres.understand.settings import LIFTED; LIFTED.fullmatch(' ' * 100_000 + '1')",
    "a limit in front of blanks": "from ostiary.protocols.postgres.understand.settings import LENGTH; LENGTH.fullmatch('1' + ' ' * 1_000_000 + 'x')",
    "a character set said often": "from ostiary.protocols.http.operations import _CHARSET; _CHARSET.findall(b'charset' * 300_000)",
    "a mandate of many stars": "from ostiary.policy.decide import _pattern; _pattern('*a' * 60 + '*b').fullmatch('a' * 10_000)",
}


@pytest.mark.parametrize("program", WORST.values(), ids=WORST)
def test_the_worst_text_is_read_at_once(program: str) -> None:
    """Each of these went on for minutes at the least: the time is a bound that no machine comes near."""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


@given(st.text("ab*", max_size=8), st.text("ab", max_size=12))
def test_a_star_of_a_mandate_is_any_run_of_characters(pattern: str, name: str) -> None:
    assert bool(_pattern(pattern).fullmatch(name)) == bool(re.fullmatch(pattern.replace("*", ".*"), name))


@pytest.mark.parametrize(
    ("value", "is_length", "is_lifted"),
    [
        ("5s", True, False), (" 10 min ", True, False), ("+1.5 h", True, False), ("0", True, True), (" 0 ms ", True, True), ("0.0", True, True),
        ("", False, True), ("-0", False, True), ("x", False, True), ("1 year", False, False), ("1 s x", False, False), ("0.0 s\n", True, True),
    ],
)  # fmt: skip
def test_a_limit_is_a_length_or_lifted(value: str, is_length: bool, is_lifted: bool) -> None:
    assert (bool(LENGTH.fullmatch(value)), bool(LIFTED.fullmatch(value))) == (is_length, is_lifted)
