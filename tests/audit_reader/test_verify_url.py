"""A log is verified over HTTP as in its folder: what a server leaves out, changes or makes up is found, and it cannot drown the caller."""

from __future__ import annotations

import contextlib
import functools
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ostiary.audit.mirror import NotFetched, mirror
from ostiary.audit.verify import Policy
from ostiary.cli.main import main
from tests.audit_reader.makelog import Log, small_log


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing."""


class Endless(Quiet):
    """Answers tiles without an end."""

    def do_GET(self) -> None:
        if "/tile/" not in self.path:
            super().do_GET()
            return
        self.send_response(200)
        self.end_headers()
        with contextlib.suppress(OSError):
            while True:
                self.wfile.write(bytes(1 << 20))


@contextlib.contextmanager
def published(folder: Path, handler: type[Quiet] = Quiet) -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(handler, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return small_log(tmp_path / "log", sessions=30, operations=20)


def verified(log: Log, *options: str) -> int:
    with published(log.base / "log") as url:
        return main(["audit", "verify", url, "--policy", str(log.base / "policy"), *options])


def test_a_whole_log_is_whole_over_http(log: Log, capsys: pytest.CaptureFixture[str]) -> None:
    assert verified(log) == 0
    assert "WHOLE" in capsys.readouterr().out


def test_a_changed_bundle_is_named_over_http(log: Log, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = log.base / "log" / "tile" / "entries" / "000"
    data = bytearray(bundle.read_bytes())
    data[50] ^= 1
    bundle.write_bytes(bytes(data))
    assert verified(log) == 1
    assert "first bad entry: 0" in capsys.readouterr().out


def test_what_is_missing_is_incomplete_and_what_is_forged_is_not(log: Log, capsys: pytest.CaptureFixture[str]) -> None:
    (log.base / "log" / "tile" / "entries" / "000").unlink()
    assert verified(log) == 2
    (log.base / "log" / "checkpoints").unlink()
    assert verified(log) == 2
    assert "404" in capsys.readouterr().err
    note = (log.base / "log" / "checkpoint").read_text()
    (log.base / "log" / "checkpoint").write_text(note.replace("\n1", "\n2", 1) if "\n1" in note else note.replace("\n", "\n9", 1))
    assert verified(log) == 1


def test_no_key_is_taken_from_where_the_log_is(log: Log, capsys: pytest.CaptureFixture[str]) -> None:
    with published(log.base / "log") as url:
        assert main(["audit", "verify", url]) == 64
        assert main(["audit", "verify", f"{url}/nowhere", "--policy", str(log.base / "policy")]) == 2
    assert "proves nothing" in capsys.readouterr().err


def test_a_server_that_never_ends_is_cut_off(log: Log, tmp_path: Path) -> None:
    policy = Policy.parse((log.base / "policy").read_text())
    with published(log.base / "log", Endless) as url, pytest.raises(NotFetched, match="longer than it can be"):
        mirror(url, tmp_path / "copy", policy)


def test_a_list_that_has_grown_since_is_cut_where_the_checkpoint_is(log: Log, tmp_path: Path) -> None:
    policy = Policy.parse((log.base / "policy").read_text())
    older = (log.base / "log" / "checkpoints").read_text()
    first = older[: older.index("\n\n")] + older[older.index("\n\n") : older.index("\n", older.index("\u2014")) + 1]
    (log.base / "log" / "checkpoint").write_text(first)
    with published(log.base / "log") as url:
        mirror(url, tmp_path / "copy", policy)
    assert (tmp_path / "copy" / "checkpoints").read_text() == first
