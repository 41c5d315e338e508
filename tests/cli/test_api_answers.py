"""Every command that asks the gateway's API ends in the same way where the API says the same."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from ostiary.cli.codes import ExitCode
from ostiary.cli.held import keep
from ostiary.cli.main import main
from ostiary.model.secrets import Secret
from ostiary.testing.peers import free_port

COMMANDS = {
    "approvals": ["approvals", "list"],
    "whoami": ["whoami"],
    "logout": ["logout"],
    "delegate": ["delegate", "list"],
    "end-job": ["end-job"],
    "token": ["token", "db"],
    "certificate": ["ssh-config", "db"],
    "aws": ["token", "db", "--from", "aws"],
}


class Api:
    """Answers everything with the one thing that it is told to."""

    def __init__(self) -> None:
        self.answer: tuple[int, bytes] = (500, b"")
        api = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.rfile.read(int(self.headers.get("content-length", 0)))
                status, body = api.answer
                self.send_response(status)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_POST = do_GET  # noqa: N815 - the name that http.server looks for

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "keyring.backends.null.Keyring")


@pytest.fixture(scope="module")
def api() -> Iterator[Api]:
    stub = Api()
    thread = threading.Thread(target=stub.server.serve_forever, daemon=True)
    thread.start()
    yield stub
    stub.server.shutdown()
    stub.server.server_close()


def ends(command: str, url: str) -> int:
    keep(url, Secret("t"), 600)
    return main([*COMMANDS[command], "--api", url])


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("status", "said", "code"),
    [
        (401, {"error": "the token was not accepted"}, ExitCode.NOT_ADMITTED),
        (403, {"error": "that is for others"}, ExitCode.NOT_ADMITTED),
        (400, {"error": "invalid_grant", "error_description": "the token is not good"}, ExitCode.NOT_ADMITTED),
        (404, {"error": "there is no such thing"}, ExitCode.NO),
        (503, {"error": "try again"}, ExitCode.UNAVAILABLE),
        (404, {}, ExitCode.UNAVAILABLE),
    ],
)
def test_what_the_api_says_decides_what_a_command_ends_with(
    api: Api, capsys: pytest.CaptureFixture[str], command: str, status: int, said: dict[str, str], code: ExitCode
) -> None:
    api.answer = (status, json.dumps(said).encode())
    assert ends(command, api.url) == code
    told = capsys.readouterr().err
    assert (told.count("\n"), "Traceback" in told) == (1, False)
    assert said.get("error_description", said.get("error", f"{status}")) in told


@pytest.mark.parametrize("command", COMMANDS)
def test_where_nobody_answers_a_command_says_so(api: Api, capsys: pytest.CaptureFixture[str], command: str) -> None:
    nowhere = f"http://127.0.0.1:{free_port()}"
    assert ends(command, nowhere) == ExitCode.UNAVAILABLE
    assert "cannot be reached" in capsys.readouterr().err
