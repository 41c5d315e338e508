"""A small HTTP service that answers whole, for what a gateway asks of others: tokens, metadata."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Endpoint(BaseHTTPRequestHandler):
    """One request. A test says in `do_GET` and its like what comes back."""

    def say(self, status: int, body: bytes) -> None:
        """Answer, with the body's length in bytes."""
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing on stderr."""


@contextlib.contextmanager
def served(endpoint: type[Endpoint]) -> Iterator[str]:
    """Serve it on loopback; yields its URL, without a slash at the end."""
    with ThreadingHTTPServer(("127.0.0.1", 0), endpoint) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
