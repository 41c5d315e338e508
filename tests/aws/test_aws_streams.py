"""Content that streams: whatever it is said to be, what goes out is one request, as long as its head says."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import socket
import threading
import zlib
from collections.abc import Iterator

import pytest

from ostiary.protocols.aws.sigv4 import signing_key
from tests.approvals.world import until
from tests.aws.account import Account, account
from tests.aws.wire import Reply, send, signed

HOST = "s3.amazonaws.com"
OTHER = b"DELETE /prod/victim HTTP/1.1\r\nHost: s3.local\r\n\r\n"
BIG = 5 << 20
"""More than is held before a request is decided."""


class Sink:
    """Takes requests, and holds every byte of them against the lengths that they say."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.bodies: list[tuple[int, int]] = []
        """(bytes that a head announces, bytes that came)."""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            sock, _ = self._listener.accept()
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        held = b""
        with sock, contextlib.suppress(OSError):
            while True:
                while b"\r\n\r\n" not in held:
                    if not (data := sock.recv(65536)):
                        return
                    held += data
                head, _, held = held.partition(b"\r\n\r\n")
                self.lines.append(head.partition(b"\r\n")[0])
                length = next((int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0)
                came = bytearray(held)
                while len(came) < length and (data := sock.recv(1 << 20)):
                    came += data
                self.bodies.append((length, len(came)))
                held = bytes(came[length:])
                sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")


@pytest.fixture(scope="module")
def sunk() -> Iterator[tuple[Account, Sink]]:
    sink = Sink()
    with account(f"http://127.0.0.1:{sink.port}", detect=[]) as made:
        yield made, sink


def chunked(made: Account, said: int, pieces: list[bytes], path: str) -> Reply:
    """A PUT whose chunks are signed, and that says how long it is."""
    headers = [["x-amz-content-sha256", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"], ["x-amz-decoded-content-length", str(said)]]
    request = signed(made, "PUT", path, host=HOST, headers=headers)
    at, previous = request.headers["X-Amz-Date"], request.headers["Authorization"].rpartition("=")[2]
    key = signing_key(made.granted().secret, at[:8], "us-east-1", "s3")
    body = b""
    for piece in [*pieces, b""]:
        hashes = [hashlib.sha256(b"").hexdigest(), hashlib.sha256(piece).hexdigest()]
        text = "\n".join(["AWS4-HMAC-SHA256-PAYLOAD", at, f"{at[:8]}/us-east-1/s3/aws4_request", previous, *hashes])
        previous = hmac.digest(key, text.encode(), "sha256").hex()
        body += b"%x;chunk-signature=%b\r\n%b\r\n" % (len(piece), previous.encode(), piece)
    return send(made, request, host=HOST, body=body)


def trailed(made: Account, said: int, content: bytes, name: str, checksum: bytes, path: str) -> Reply:
    """A PUT with a checksum behind it."""
    body = b"%x\r\n%b\r\n0\r\n%b:%b\r\n\r\n" % (len(content), content, name.encode(), checksum)
    headers = [
        ["x-amz-content-sha256", "STREAMING-UNSIGNED-PAYLOAD-TRAILER"], ["x-amz-trailer", name], ["x-amz-decoded-content-length", str(said)],
    ]  # fmt: skip
    return send(made, signed(made, "PUT", path, host=HOST, headers=headers, body=body), host=HOST)


def nothing_stands_behind(made: Account, sink: Sink) -> None:
    """One more honest request: every request that came was as long as it said, and nobody else's came between."""
    send(made, signed(made, "GET", "/mine/honest", host=HOST), host=HOST)
    assert all(came <= length for length, came in sink.bodies), sink.bodies
    assert not [line for line in sink.lines if b"/prod/" in line], sink.lines


@pytest.mark.parametrize("said", [0, 4, BIG - 1, BIG + 49])
def test_signed_chunks_that_are_more_than_they_say(sunk: tuple[Account, Sink], said: int) -> None:
    made, sink = sunk
    pieces = [b"good" + OTHER, *[b"x" * (1 << 20)] * 5]
    with contextlib.suppress(OSError):
        assert chunked(made, said, pieces, f"/mine/signed{said}").status == 400
    nothing_stands_behind(made, sink)


@pytest.mark.parametrize("said", [0, 4, BIG - 1, BIG + 1])
def test_content_before_a_trailer_that_is_not_as_long_as_it_says(sunk: tuple[Account, Sink], said: int) -> None:
    made, sink = sunk
    content = b"good" + OTHER + b"x" * (BIG - 4 - len(OTHER))
    crc = base64.b64encode(zlib.crc32(content).to_bytes(4, "big"))
    with contextlib.suppress(OSError):
        assert trailed(made, said, content, "x-amz-checksum-crc32", crc, f"/mine/trailed{said}").status == 400
    nothing_stands_behind(made, sink)


CHECKSUMS = [(f"x-amz-checksum-{kind}", size) for kind, size in (("crc32", 8), ("crc32c", 8), ("crc64nvme", 12), ("sha1", 28), ("sha256", 44))]


@pytest.mark.parametrize("length", [1, 13, 100, 128])
@pytest.mark.parametrize(("name", "size"), CHECKSUMS)
def test_a_checksum_that_is_not_as_long_as_one_of_its_kind(sunk: tuple[Account, Sink], name: str, size: int, length: int) -> None:
    made, sink = sunk
    assert length != size
    with contextlib.suppress(OSError):
        assert trailed(made, BIG, b"y" * BIG, name, b"A" * length, f"/mine/{name}{length}").status == 400
    nothing_stands_behind(made, sink)


def test_what_is_as_long_as_it_says_goes_out_whole(sunk: tuple[Account, Sink]) -> None:
    made, sink = sunk
    assert trailed(made, BIG, b"y" * BIG, "x-amz-checksum-crc64nvme", b"A" * 12, "/mine/whole").status == 200
    assert sink.bodies[-1][0] == sink.bodies[-1][1] > BIG
    assert chunked(made, BIG, [b"x" * (1 << 20)] * 5, "/mine/whole-chunks").status == 200
    assert sink.bodies[-1] == (BIG, BIG)
    nothing_stands_behind(made, sink)


def test_the_clients_fault_is_not_told_of_the_service(sunk: tuple[Account, Sink]) -> None:
    made, _ = sunk
    before = len(made.records("outcome"))
    reply: Reply | None = None
    with contextlib.suppress(OSError):  # it may hang up while the client still sends
        reply = trailed(made, BIG, b"y" * BIG, "x-amz-checksum-crc32", b"AAAAAAA=", "/mine/false")
    assert reply is None or (reply.status == 400 and b"malformed" in reply.body)
    assert until(lambda: [entry["result"]["error"] for entry in made.records("outcome")[before:]] == ["BAD_FIELD"])
