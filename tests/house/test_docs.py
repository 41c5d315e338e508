"""Docs that can be checked are checked."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.house.trees import ROOT, tracked

LINK = re.compile(r"(?<!!)\[[^\]\n]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#{1,6}\s+(.*?)\s*#*$", re.MULTILINE)
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def pages() -> list[Path]:
    return sorted(set(tracked("*.md")))


def anchors(page: Path) -> set[str]:
    """Anchors as forges make them: lower case, punctuation dropped, spaces to hyphens."""
    text = FENCE.sub("", page.read_text())
    return {re.sub(r"[^\w\- ]", "", re.sub(r"`", "", h)).lower().replace(" ", "-") for h in HEADING.findall(text)}


@pytest.mark.parametrize("page", pages(), ids=lambda p: p.relative_to(ROOT).as_posix())
def test_every_relative_link_resolves(page: Path) -> None:
    broken = []
    for target in LINK.findall(FENCE.sub("", page.read_text())):
        if re.match(r"[a-z][a-z0-9+.-]*:", target):
            continue
        name, _, anchor = target.partition("#")
        where = (page.parent / name).resolve() if name else page
        is_there = where.exists() and (not anchor or where.suffix != ".md" or anchor in anchors(where))
        if not is_there:
            broken.append(target)
    assert not broken, f"{page.relative_to(ROOT)}: {broken}"


def test_every_file_that_the_docs_name_exists() -> None:
    """`ostiary/…/x.py` in backquotes, in the pages that map the code to its reasons."""
    missing = []
    for name in ("ARCHITECTURE.md", "SECURITY.md", "CONTRIBUTING.md"):
        text = (ROOT / name).read_text()
        named = re.findall(r"`((?:ostiary|tests|bench|conformance|scripts|fuzz)/[\w./-]+\.\w+)`", text)
        missing += [f"{name}: {path}" for path in named if not (ROOT / path).exists()]
    assert not missing, missing


def test_every_package_stands_in_the_map() -> None:
    there = {path.parent.name for path in (ROOT / "ostiary").glob("*/__init__.py")}
    named = set(re.findall(r"^  (\w+)/ ", (ROOT / "ARCHITECTURE.md").read_text(), re.MULTILINE))
    assert there == named


def test_every_decision_says_what_it_costs() -> None:
    for page in sorted((ROOT / "docs" / "decisions").glob("[0-9]*.md")):
        text = page.read_text()
        for heading in ("## Context", "## Decision", "## Consequences"):
            assert heading in text, f"{page.name} lacks {heading}"
        assert "Negative" in text, f"{page.name} names no negative consequence"


def test_decisions_are_numbered_one_after_the_other() -> None:
    pages = sorted((ROOT / "docs" / "decisions").glob("[0-9]*.md"))
    assert [int(page.name[:4]) for page in pages] == list(range(1, len(pages) + 1))
    for page in pages:
        assert page.read_text().startswith(f"# {int(page.name[:4])}. "), f"{page.name} has another number in its title"


def test_the_lock_file_names_no_machine() -> None:
    text = (ROOT / "requirements.lock").read_text()
    assert "://" not in text
    assert "--find-links" not in text
    assert "--index-url" not in text
    pins = [line for line in text.splitlines() if re.match(r"^[a-z0-9]", line)]
    assert pins
    assert all("==" in line for line in pins), "every requirement is pinned"
    assert text.count("--hash=sha256:") >= len(pins), "every requirement has its hashes"
