"""What is kept from one message to the next changes nothing of how the next is read, judged or masked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ostiary.masking.documents import Rules
from ostiary.masking.http import Released, ReplyMasker
from ostiary.model.connections import (
    CredentialKind,
    Durability,
    HttpConnection,
    HttpCredential,
    HttpUpstream,
    Recording,
)
from ostiary.model.errors import PeerMisbehaved
from ostiary.model.operations import Operation
from ostiary.model.proofs import Content, Masked
from ostiary.model.results import ReplyEnd, ReplyHead
from ostiary.protocols.http.decode import read_request, read_response
from ostiary.protocols.http.messages import Heads, RequestHead
from ostiary.protocols.http.operations import Understanding
from ostiary.protocols.http.relay import HttpRelay

FIELDS = st.lists(
    st.sampled_from([b"Host: app", b"Host: other", b"X-A: 1", b"X-A: 078-05-1120", b"ETag: a", b"Content-Length: 3", b"Connection: close", b"bad"]),
    max_size=3,
).map(lambda lines: b"".join(line + b"\r\n" for line in lines))
TAILS = st.sampled_from([b"", b"x", b"\r\n", b"GET / HTTP/1.1\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n"])
REQUESTS = st.tuples(st.sampled_from([b"GET /a HTTP/1.1\r\n", b"GET /a HTTP/1.0\r\n", b"HEAD /b HTTP/1.1\r\n", b"G"]), FIELDS, TAILS)
ANSWERS = st.tuples(st.sampled_from([b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 Fine\r\n", b"HTTP/1.0 404 No\r\n", b"HTTP/1.1 204 \r\n", b"H"]), FIELDS, TAILS)


def unless_refused(read: Callable[..., Any], *given: Any) -> Any:
    """What a reader makes of it; None: it refused it, or it was not whole."""
    try:
        return read(*given)
    except PeerMisbehaved:
        return None


@given(st.lists(REQUESTS, max_size=5))
def test_a_request_is_read_the_same_whatever_was_read_before_it(said: list[tuple[bytes, bytes, bytes]]) -> None:
    last: RequestHead | None = None
    for line, fields, tail in said:
        data = line + fields + b"\r\n" + tail
        alone = unless_refused(read_request, data)
        behind = unless_refused(read_request, bytearray(data), last)
        assert (alone is None) == (behind is None)
        if alone is not None and behind is not None:
            assert [alone.method, alone.target, alone.minor, alone.headers, alone.raw] == [
                behind.method, behind.target, behind.minor, behind.headers, behind.raw,
            ]  # fmt: skip
            assert alone.fields.options == behind.fields.options
        last = behind or last


@given(st.lists(ANSWERS, max_size=8))
def test_an_answer_is_read_the_same_whatever_was_read_before_it(said: list[tuple[bytes, bytes, bytes]]) -> None:
    known = Heads()
    for line, fields, tail in said:
        data = line + fields + b"\r\n" + tail
        alone = unless_refused(read_response, data)
        behind = unless_refused(read_response, data, known)
        assert (alone is None) == (behind is None)
        if alone is not None and behind is not None:
            assert [alone.size, alone.status, alone.minor, alone.headers] == [behind.size, behind.status, behind.minor, behind.headers]
            assert alone.persists == behind.persists


HEADS = [
    ReplyHead(status, (*headers, *kind), has_body=body, length=3 if body else None, of_read=read)
    for status in (200, 404)
    for kind in ((), ((b"Content-Type", b"text/plain"),))
    for headers in (((b"X-A", b"1"),), ((b"X-A", b"078-05-1120"), (b"ETag", b"a")), ((b"Location", b"/a?token=secret"), (b"Age", b"3")))
    for body in (True, False)
    for read in (True, False)
]
NOTHING = Rules(())


def left(masker: ReplyMasker, head: ReplyHead, body: bytes, clear: frozenset[str]) -> list[Masked]:
    masker.show(clear)
    found = masker.mask(head)
    if head.has_body:
        found += masker.mask(body)
    return found + masker.mask(ReplyEnd())


@given(
    st.lists(
        st.tuples(
            st.sampled_from(HEADS), st.sampled_from([b"abc", b"078-05-1120"]), st.sampled_from([frozenset(), frozenset({"ssn"})]),
            st.sampled_from([frozenset(), frozenset({"ssn"}), frozenset({"ssn", "email"})]),
        ),
        max_size=8,
    )
)  # fmt: skip
def test_an_answer_leaves_the_same_whatever_left_before_it(said: list[tuple[ReplyHead, bytes, frozenset[str], frozenset[str]]]) -> None:
    released = Released()
    for head, body, clear, detect in said:
        if detect - clear and head.has_body and head.headers[-1][0] != b"Content-Type":
            continue  # nobody says what it is: it does not leave
        alone, behind = ReplyMasker(detect, NOTHING, frozenset()), ReplyMasker(detect, NOTHING, frozenset())
        behind.released = released
        assert left(behind, head, body, clear) == left(alone, head, body, clear)


def test_counts_of_a_body_go_on_record_with_a_head_that_is_known() -> None:
    released, head = Released(), ReplyHead(200, ((b"Content-Type", b"text/plain"),), has_body=True, length=11, of_read=True)
    for body, counts in ((b"078-05-1120", 1), (b"plain words", 0), (b"078-05-1120", 1)):
        masker = ReplyMasker(frozenset({"ssn"}), NOTHING, frozenset())
        masker.released = released
        found = left(masker, head, body, frozenset())
        assert [each.content for each in found] == [Content.HTTP_HEAD, Content.HTTP_BODY]
        assert sum(number for each in found for _, number in each.counts) == counts


def service(prefix: str) -> HttpConnection:
    return HttpConnection(
        name="app",
        upstream=HttpUpstream(
            host="10.0.0.1", port=443, tls="verify-full", ca_file=None, cert_file=None, key_file=None, connect_timeout=1.0,
            host_header="app", base_path="", reply_seconds=1.0, max_connections=1,
            credential=HttpCredential(kind=CredentialKind.NONE, secret=None, header="", user="", token_url="", scope=""),
        ),
        labels=(), durability=Durability.STRICT, recording=Recording.FULL, detect=frozenset(), max_sessions=1, hosts=frozenset(), prefix=prefix,
        routes=(), only_routes=False, protect=(), pass_types=frozenset(), pass_headers=frozenset(), max_request_bytes=1 << 20,
        approval_seconds=0.0, actor_headers=False,
    )  # fmt: skip


def asked(head: RequestHead, understanding: Understanding) -> Operation:
    return HttpRelay(head, understanding).operation()


def test_what_was_judged_for_one_service_is_not_taken_for_another() -> None:
    head = read_request(b"GET /a/b HTTP/1.1\r\nHost: app\r\nAuthorization: Bearer x\r\n\r\n")
    assert head is not None
    one, other = (Understanding(service(prefix)) for prefix in ("/a", "/a/b"))
    first, second, again = asked(head, one), asked(head, other), asked(head, one)
    assert first == again
    assert first.wire.startswith(b"GET /b HTTP/1.1\r\n")
    assert second.wire.startswith(b"GET / HTTP/1.1\r\n")
    assert b"Bearer" not in first.statement
