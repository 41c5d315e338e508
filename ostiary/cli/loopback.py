"""A page on loopback that hears the answer of a login in the browser (RFC 8252, 7.3): one answer, and it is gone."""

from __future__ import annotations

import hmac
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

from ostiary.cli.codes import CommandFailed, ExitCode

_PAGE = b"<!doctype html><title>Ostiary</title><p>You can close this page and go back to your terminal.</p>"


class Ear:
    """Listens on a free port of 127.0.0.1."""

    def __init__(self) -> None:
        self._heard: list[dict[str, str]] = []
        self._some = threading.Condition()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def url(self) -> str:
        """Where the browser is to be sent."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/callback"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()

    def wait(self, seconds: float, state: str) -> dict[str, str]:
        """The first answer with this `state`; others, which anybody on this machine can send, are not heard."""

        def ours() -> dict[str, str] | None:
            sent = state.encode()
            return next((h for h in self._heard if hmac.compare_digest(h.get("state", "").encode(), sent)), None)

        with self._some:
            if not self._some.wait_for(lambda: ours() is not None, seconds):
                raise CommandFailed(ExitCode.NOT_ADMITTED, "nobody logged in in time")
            return ours() or {}

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        ear = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                if parts.path != "/callback":
                    self.send_error(404)
                    return
                found = {name: values[0] for name, values in parse_qs(parts.query).items() if len(values) == 1}
                self.send_response(200)
                self.send_header("content-type", "text/html; charset=utf-8")
                self.send_header("content-length", str(len(_PAGE)))
                self.send_header("cache-control", "no-store")
                self.end_headers()
                self.wfile.write(_PAGE)
                with ear._some:
                    if len(ear._heard) < 100:
                        ear._heard.append(found)
                    ear._some.notify_all()

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it so
                """Keep quiet: the path holds the code."""

        return Handler
