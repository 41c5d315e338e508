"""What it costs to read the head of a request: `python bench/micro_http_reading.py`.

Microseconds of CPU of this thread, the best of many runs, for one request of seven fields, as the gateway reads it and as h11 does.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "bench")]

import h11  # noqa: E402
from micro_masking import best  # noqa: E402

from ostiary.protocols.http.decode import read_request, request_framing  # noqa: E402

RUNS = 200
REQUEST = (
    b"GET /v1/orders/42?full=true HTTP/1.1\r\nHost: app\r\nUser-Agent: curl/7.88.1\r\nAccept: */*\r\nAccept-Encoding: gzip\r\n"
    b"Authorization: Bearer " + b"x" * 600 + b"\r\nX-Request-Id: 0123456789abcdef\r\nContent-Type: application/json\r\n\r\n"
)


def ours() -> None:
    """Head and framing."""
    head = read_request(REQUEST)
    if head is None or not request_framing(head).is_empty:
        raise RuntimeError("it is not read")


def theirs() -> None:
    """As far as h11's end of the message."""
    reader = h11.Connection(h11.SERVER)
    reader.receive_data(REQUEST)
    while not isinstance(reader.next_event(), h11.EndOfMessage):
        pass


def main() -> None:
    """Print one line a reader."""
    for name, read in (("ostiary", ours), ("h11", theirs)):

        def many(read: Callable[[], None] = read) -> None:
            for _ in range(RUNS):
                read()

        print(f"{name:10} {best(many, 2.0) * 1e6 / RUNS:8.2f} us")


if __name__ == "__main__":
    main()
