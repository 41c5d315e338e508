"""The demo as a newcomer meets it: a process of its own, with and without a terminal."""

from __future__ import annotations

import contextlib
import io
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ostiary.demo.screen import Screen
from ostiary.demo.tour import Tour
from ostiary.demo.world import DemoFailed
from ostiary.testing.peers import process_family

PATIENCE = 60.0


def environment(**more: str) -> dict[str, str]:
    kept = {
        name: value for name, value in os.environ.items() if name in {"PATH", "TMPDIR", "OSTIARY_PURE", "PYTHONPATH"}
    }
    return kept | {"LC_ALL": "C.UTF-8", "TERM": "xterm", "PYTHONDONTWRITEBYTECODE": "1"} | more


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "ostiary.demo", *arguments]


def alive(pids: list[int]) -> list[int]:
    found = []
    for pid in pids:
        with contextlib.suppress(OSError):
            if ") Z " not in Path(f"/proc/{pid}/stat").read_text():
                found.append(pid)
    return found


def folders(text: str) -> list[Path]:
    return [Path(name) for name in set(re.findall(r"/\S*/ostiary-demo-\w+", text))]


class Terminal:
    """A demo that believes it is being watched."""

    def __init__(self, root: Path, *arguments: str) -> None:
        ours, theirs = pty.openpty()
        self.process = subprocess.Popen(
            command(*arguments), cwd=root, env=environment(), stdin=theirs, stdout=theirs, stderr=theirs,
            start_new_session=True,
        )  # fmt: skip
        os.close(theirs)
        self._ours = ours
        self.text = ""

    def read_until(self, words: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while words not in self.text:
            ready, _, _ = select.select([self._ours], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"it did not say {words!r}:\n{self.text}"
            try:
                data = os.read(self._ours, 65_536)
            except OSError:  # the other side is closed
                data = b""
            assert data, f"it ended without saying {words!r}:\n{self.text}"
            self.text += data.decode(errors="replace").replace("\r\n", "\n")

    def close(self) -> None:
        os.close(self._ours)
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(PATIENCE)


@pytest.fixture
def terminal(root: Path) -> Iterator[Terminal]:
    shown = Terminal(root)
    yield shown
    shown.close()


def test_without_a_terminal_it_shows_each_step_and_ends_well(root: Path) -> None:
    done = subprocess.run(
        command(), cwd=root, env=environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert not done.stderr
    assert "\x1b" not in done.stdout, "no colour where nobody looks"
    assert "✗" not in done.stdout
    assert done.stdout.count("✓") >= 15
    for number, words in enumerate(
        ["Ana Souza → Ana's coding agent", "************1111", "Refused by policy", "WHOLE", "first bad entry"], 1
    ):
        _, _, rest = done.stdout.partition(f"\n{number}  ")
        step, _, _ = rest.partition(f"\n{number + 1}  ")
        assert words in step, f"step {number} shows no {words!r}"
    for line in re.findall(r"starting .*", done.stdout):
        assert line.endswith(" s"), line


def test_on_a_terminal_it_stays_up_with_a_line_to_try_and_a_killed_demo_leaves_nothing(terminal: Terminal) -> None:
    terminal.read_until("Ctrl-C ends it")
    assert "\x1b[1m" in terminal.text
    line = next(line for line in terminal.text.splitlines() if line.startswith("PGPASSWORD="))
    asked = subprocess.run(
        ["/bin/sh", "-c", f"{line} -At -c 'SELECT city, card FROM customers WHERE id = 1'"],
        env=environment(), capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert asked.stdout == "Porto|************1111\n", asked.stderr
    family = process_family(terminal.process.pid)
    assert len(family) > 5
    left = folders(terminal.text)
    assert left
    assert all(folder.is_dir() for folder in left)
    terminal.process.kill()
    deadline = time.monotonic() + PATIENCE
    while alive(family) or any(folder.exists() for folder in left):
        assert time.monotonic() < deadline, (alive(family), left)
        time.sleep(0.1)


def test_interrupted_while_it_starts_it_leaves_nothing(terminal: Terminal) -> None:
    terminal.read_until("starting the gateway")
    family = process_family(terminal.process.pid)
    terminal.process.send_signal(signal.SIGINT)
    assert terminal.process.wait(PATIENCE) == 130
    assert not alive(family)


def test_a_step_that_does_not_do_what_it_claims_is_a_failure(root: Path) -> None:
    # Without a PATH there is no `cat`, so psql gets no password.
    done = subprocess.run(
        command("--once"), cwd=root, env=environment(PATH="/nonexistent"), stdin=subprocess.DEVNULL, capture_output=True,
        text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stdout
    assert "✗ psql got its three rows" in done.stdout
    assert "did not do what it claims" in done.stdout
    assert "2  A masked column" not in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


class Watched(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("variables", "coloured"),
    [({}, True), ({"NO_COLOR": "1"}, False), ({"NO_COLOR": ""}, True), ({"TERM": "dumb"}, False)],
)
def test_colour_is_for_terminals_that_want_it(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], coloured: bool
) -> None:
    for name in ("NO_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    out = Watched()
    Screen(out).title("x")
    assert ("\x1b" in out.getvalue()) is coloured


def test_what_a_command_wrote_cannot_drive_the_terminal() -> None:
    out = Watched()
    Screen(out).output("a\x1b[2Jb\rc")
    assert "\x1b" not in out.getvalue()
    assert "\r" not in out.getvalue()


def test_a_claim_that_does_not_hold_is_shown_and_raised() -> None:
    class Plain(Watched):
        encoding = "ascii"

    out = Plain()
    tour = Tour.__new__(Tour)
    tour._screen = Screen(out)
    with pytest.raises(DemoFailed, match="the sky is green"):
        tour._see("the sky is green", holds=False)
    assert "NOT:" in out.getvalue()
