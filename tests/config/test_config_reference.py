"""Every setting is documented, and the page is the types'."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from ostiary.config import reference
from ostiary.config.types import TARGETS, Listener, Section

PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"
ALL = dict(reference.sections())


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text() == reference.page(), "run: python -m ostiary.config.reference > docs/configuration.md"


@pytest.mark.parametrize("header", list(ALL))
def test_every_setting_is_documented(header: str) -> None:
    kind = ALL[header]
    words = reference.docs(kind)
    for field in msgspec.structs.fields(kind):
        assert words.get(field.name), f"{header} {field.encode_name} has no docstring"


def test_every_section_is_on_the_page() -> None:
    seen = set(ALL.values())
    for kind in Section.__subclasses__():
        if kind.__name__ not in {"File", "Listen", "Listener", "Target"}:
            assert kind in seen
    assert {*TARGETS.values(), *Listener.__subclasses__()} <= seen
