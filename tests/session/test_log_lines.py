"""Lines of diagnostics for people are as structlog's own renderer writes them."""

from __future__ import annotations

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from ostiary.app.logs import Lines

SHOWN = st.characters().filter(str.isprintable)
VALUES = st.text(SHOWN, max_size=20) | st.integers() | st.none() | st.lists(st.text(max_size=5), max_size=3)
WHOLE = {"timestamp": "2026-11-27T06:17:33.059480Z", "level": "info", "event": "session"}


@given(
    st.sampled_from(["info", "warning", "error", "critical", "debug"]),
    st.text(max_size=40),
    st.dictionaries(st.text("abcxyz_", min_size=1, max_size=8), VALUES, max_size=5),
)
def test_a_line_is_what_structlog_writes(level, event, said):
    found = said | WHOLE | {"level": level, "event": event}
    assert Lines()(None, level, dict(found)) == structlog.dev.ConsoleRenderer(colors=False)(None, level, dict(found))


@pytest.mark.parametrize("value", ["\x1b]0;title\x07", "\x9b31m", "a\x08b", "\u202eabc", "\udcff"])
def test_a_value_moves_no_cursor(value):
    line = Lines()(None, "info", WHOLE | {"who": value})
    assert line.isprintable()
    assert repr(value) in line


@pytest.mark.parametrize(
    "more", [{"exception": "Traceback"}, {"stack": "Stack"}, {"logger": "x"}, {"event": 7}, {"exc_info": ValueError("x")}]
)
def test_what_is_unusual_is_structlogs_own(more):
    found = WHOLE | more
    assert Lines()(None, "info", dict(found)) == structlog.dev.ConsoleRenderer(colors=False)(None, "info", dict(found))
