"""A session of HTTP whose recording is full ends: the next request begins another, instead of being refused for as long as somebody asks."""

from __future__ import annotations

from tests.http.conftest import world

MIB = 1 << 20
SIZE = 300_000


def test_a_session_whose_recording_is_full_makes_way_for_the_next() -> None:
    with world(sections={"recordings": {"session_bytes": MIB}}) as made:
        made.service.says = [b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n" % SIZE, b"x" * SIZE]
        answers = [made.ask("GET", "/wide") for _ in range(6)]
        whole = [answer.status == 200 and len(answer.body) == SIZE for answer in answers]
        assert whole == [True, True, True, False, True, True]
        (ended,) = made.records("session.end")
        assert ended["result"]["status"] == "RECORDINGS_FULL"
        assert len(made.records("session.start")) == 2
