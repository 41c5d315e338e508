"""A log is verified over HTTP as in its folder: what a server leaves out, changes or makes up is found, and it cannot drown the caller."""

from __future__ import annotations

import contextlib
import functools
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ostiary.audit import mirror as mirror_module
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


class Garbage(Quiet):
    """Says no status that HTTP knows."""

    def do_GET(self) -> None:
        self.wfile.write(b"\x00\x01garbage\r\n\r\n")
        self.close_connection = True


class Cut(Quiet):
    """Ends in the middle of a chunk."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.write(b"ff\r\nnot as much")
        self.close_connection = True


@pytest.mark.parametrize("handler", [Garbage, Cut])
def test_an_answer_that_is_no_http_is_incomplete(log: Log, handler: type[Quiet], capsys: pytest.CaptureFixture[str]) -> None:
    with published(log.base / "log", handler) as url:
        assert main(["audit", "verify", url, "--policy", str(log.base / "policy")]) == 2
    assert "cannot be fetched" in capsys.readouterr().err


def test_a_checkpoint_with_a_strange_signature_line_raises_nothing(log: Log) -> None:
    with (log.base / "log" / "checkpoint").open("a") as file:
        file.write("\u2014 a\x0bb AAAA\n")
    assert verified(log) == 1


def test_a_url_that_is_none_is_told(log: Log) -> None:
    assert main(["audit", "verify", "http://[/", "--policy", str(log.base / "policy")]) == 2


def test_what_may_be_pruned_and_for_how_long_holds_for_a_url_too(log: Log, capsys: pytest.CaptureFixture[str]) -> None:
    (log.base / "log" / "tile" / "entries" / "000").unlink()
    assert verified(log) == 2
    assert verified(log, "--min-index", "256") == 0
    assert verified(log, "--min-index", "256", "--keep-days", "30") == 1
    assert "no entry says that they were pruned" in capsys.readouterr().out


def test_tree_only_is_tree_only_over_http(log: Log) -> None:
    (log.base / "log" / "checkpoints").unlink()
    assert verified(log, "--tree-only") == 0
    assert verified(log, "--min-index", "1") == 2


def test_the_list_of_checkpoints_is_never_held_whole(log: Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    get = mirror_module._get
    monkeypatch.setattr(mirror_module, "_get", lambda base, name, most: asked.append(name) or get(base, name, most))
    with published(log.base / "log") as url:
        mirror(url, tmp_path / "copy", Policy.parse((log.base / "policy").read_text()))
    assert "checkpoint" in asked
    assert "checkpoints" not in asked
