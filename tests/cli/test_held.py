"""What `ostiary login` keeps is for one user alone, for one gateway alone, and gone when it is forgotten."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from ostiary.cli.codes import CommandFailed, ExitCode
from ostiary.cli.held import forget, held, keep
from ostiary.model.secrets import Secret

URL = "https://gw1.example"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.delenv("OSTIARY_KEYRING", raising=False)
    return tmp_path / "state" / "ostiary"


@pytest.fixture
def ring(monkeypatch: pytest.MonkeyPatch) -> dict[tuple[str, str], str]:
    """The desktop's keyring, as its package has it, in memory."""
    kept: dict[tuple[str, str], str] = {}
    module = SimpleNamespace(
        set_password=lambda service, name, text: kept.__setitem__((service, name), text),
        get_password=lambda service, name: kept.get((service, name)),
        delete_password=lambda service, name: kept.__delitem__((service, name)),
    )
    monkeypatch.setitem(sys.modules, "keyring", module)
    monkeypatch.setenv("OSTIARY_KEYRING", "1")
    return kept


def shown(url: str = URL) -> str | None:
    found = held(url)
    return None if found is None else found.reveal()


def test_a_token_is_kept_in_a_file_that_nobody_else_reads_until_it_expires(home: Path) -> None:
    keep(URL, Secret("t"), 600)
    (file,) = home.iterdir()
    assert (file.stat().st_mode & 0o777, home.stat().st_mode & 0o777) == (0o600, 0o700)
    assert (shown(), shown("https://gw2.example")) == ("t", None)
    keep(URL, Secret("newer"), 600)
    assert shown() == "newer"
    keep(URL, Secret("over"), 0)
    assert shown() is None
    forget(URL)
    assert list(home.iterdir()) == []


def test_a_file_that_others_can_read_is_not_believed(home: Path) -> None:
    keep(URL, Secret("t"), 600)
    (file,) = home.iterdir()
    file.chmod(0o644)
    with pytest.raises(CommandFailed, match="chmod 600") as refused:
        held(URL)
    assert refused.value.code is ExitCode.STORAGE


def test_what_the_keyring_keeps_lies_in_no_file(home: Path, ring: dict[tuple[str, str], str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OSTIARY_KEYRING")
    keep(URL, Secret("in the file"), 600)
    monkeypatch.setenv("OSTIARY_KEYRING", "1")
    keep(URL, Secret("in the ring"), 600)
    assert list(home.iterdir()) == [], "the one that was kept before is nobody's any more"
    assert (shown(), list(ring)) == ("in the ring", [("ostiary", URL)])
    forget(URL)
    assert (shown(), ring) == (None, {})
