"""The service's own credential leaves in no answer: in no spelling, no part of it, packed or not, rotated or not."""

from __future__ import annotations

import asyncio
import gzip
import html
import json
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))
from conftest import World, world

from ostiary.masking.concealed import MIN_EDGE, Concealer, spellings
from ostiary.masking.documents import Rules, Unmaskable
from ostiary.masking.http import ReplyMasker
from ostiary.model.connections import CredentialKind, HttpCredential
from ostiary.model.results import ReplyEnd, ReplyHead
from ostiary.model.secrets import Secret, SecretRef
from ostiary.testing.endpoint import Endpoint, served
from ostiary.upstream.http_credentials import Shown

NONE = Rules(())
KEY = b"s3cret/key+of=the&target"


def told(body: bytes, *headers: tuple[bytes, bytes], status: int = 200, detect: frozenset[str] = frozenset(), passes: frozenset[str] = frozenset(), cut: int = 0) -> tuple[bytes, dict[str, int]]:
    """(what a client sees, counts)."""
    masker = ReplyMasker(detect, NONE, passes)
    masker.conceals = lambda: (KEY,)
    masker.show(frozenset())
    pieces = [body[at : at + cut] for at in range(0, len(body), cut)] if cut else [body]
    counts: dict[str, int] = {}
    out = b""
    for part in (ReplyHead(status, headers, has_body=True, length=len(body), of_read=True), *pieces, ReplyEnd()):
        for each in masker.mask(part):
            out += each.frames
            for name, number in each.counts:
                counts[name] = counts.get(name, 0) + number
    return out, counts

@given(st.lists(st.sampled_from([b"s3cret-key", b"s3cret-", b"key", b"s", b"\n", b"x", b"s3cret%2Dkey"]), max_size=12), st.integers(1, 9))
def test_what_echoes_the_credential_hands_out_none_of_it_however_it_is_cut(pieces: list[bytes], cut: int) -> None:
    said = b"".join(pieces)
    concealer = Concealer((b"s3cret-key", b"short"))
    out = b"".join(concealer.feed(said[at : at + cut], final=False) for at in range(0, len(said), cut)) + concealer.feed(b"", final=True)
    assert out == said.replace(b"s3cret-key", b"*" * 10)
    assert len(out) == len(said)


def test_a_head_or_a_body_that_shows_the_credential_is_told_without_it_though_nothing_is_masked() -> None:
    masker = ReplyMasker(frozenset(), NONE, frozenset())
    masker.conceals = lambda: (b"s3cret/key",)
    masker.show(frozenset())
    head = ReplyHead(302, ((b"Location", b"https://x/?t=s3cret%2Fkey"), (b"X-Key", b"s3cret/key")), has_body=True, length=21, of_read=True)
    parts = [each for part in (head, b"you sent s3cre", b"t/key.", b"", ReplyEnd()) for each in masker.mask(part)]
    out = b"".join(each.frames for each in parts)
    assert b"s3cret" not in out
    assert out.endswith(b"you sent **********.")
    assert sum(number for each in parts for name, number in each.counts if name == "credential") == 3


WRITTEN = [
    KEY, quote(KEY.decode(), safe="").encode(), quote(KEY.decode(), safe="/").encode(), quote(KEY.decode(), safe="").lower().encode(),
    json.dumps(KEY.decode()).replace("/", "\\/").encode(), b"s3cret\\/key+of=the\\u0026target", b"s3cret/key\\u002Bof=the\\u0026target",
    b"s3cret/key+of\\u003dthe\\u0026target", html.escape(KEY.decode()).encode(),
]  # fmt: skip


@pytest.mark.parametrize("written", WRITTEN)
@pytest.mark.parametrize("cut", [0, 1, 5])
def test_it_is_found_as_services_write_it(written: bytes, cut: int) -> None:
    out, counts = told(b"you sent " + written + b" to us", cut=cut)
    assert b"cret" not in out
    assert b"target" not in out
    assert counts == {"credential": 1}


def test_a_secret_of_letters_and_digits_has_one_spelling() -> None:
    assert spellings(b"s3cretOfTheTarget") == {b"s3cretOfTheTarget"}


@pytest.mark.parametrize(("coding", "pack"), [(b"gzip", gzip.compress), (b"deflate", zlib.compress)])
@pytest.mark.parametrize("cut", [0, 3])
def test_a_packed_answer_is_looked_through_though_nothing_is_masked(coding: bytes, pack: object, cut: int) -> None:
    packed = pack(b"you sent " + KEY)  # type: ignore[operator]
    out, counts = told(packed, (b"Content-Encoding", coding), (b"Content-MD5", b"x"), (b"ETag", b'"a"'), cut=cut)
    assert out.endswith(b"you sent " + b"*" * len(KEY))
    assert counts == {"credential": 1}
    assert b"Content-Encoding" not in out
    assert b"Content-MD5" not in out


def test_one_that_cannot_be_unpacked_is_withheld_but_where_the_operator_lets_its_type_through() -> None:
    for coding in (b"br", b"zstd", b"gzip, gzip"):
        with pytest.raises(Unmaskable):
            told(b"\x1b", (b"Content-Encoding", coding), (b"Content-Type", b"text/plain"))
        assert told(b"\x1b", (b"Content-Encoding", coding), (b"Content-Type", b"text/plain"), passes=frozenset({"text/plain"}))[0].endswith(b"\x1b")


def test_a_large_packed_answer_has_no_end_where_nothing_of_it_is_held() -> None:
    noise = bytes(range(256)) * 4096
    size = 300 * len(noise)
    packer = zlib.compressobj(1, zlib.DEFLATED, 31)
    masker = ReplyMasker(frozenset(), NONE, frozenset())
    masker.conceals = lambda: (KEY,)
    masker.show(frozenset())
    seen = 0
    head = ReplyHead(200, ((b"Content-Encoding", b"gzip"),), has_body=True, length=None, of_read=True)
    pieces = (packer.compress(noise) for _ in range(300))
    for part in (head, *pieces, packer.flush(), ReplyEnd()):
        seen += sum(len(each.frames) for each in masker.mask(part))
    assert seen > size


ECHO = b"line one, and then: " + KEY + b" is what came"


def part_of(first: int, size: int) -> bytes:
    said = ECHO[first : first + size]
    place = b"bytes %d-%d/%d" % (first, first + size - 1, len(ECHO))
    try:
        return told(said, (b"Content-Range", place), (b"Content-Type", b"text/plain"), status=206)[0].partition(b"Content-Type: text/plain\r\n")[2]
    except Unmaskable:
        return b""


@given(st.integers(0, len(ECHO) - 1), st.integers(1, len(ECHO)))
def test_parts_of_an_answer_show_no_more_of_it_than_chance_would(first: int, size: int) -> None:
    shown = part_of(first, size)
    longest = max((n for n in range(len(KEY) + 1) for at in range(len(KEY) - n + 1) if KEY[at : at + n] in shown), default=0)
    assert longest < MIN_EDGE


def test_the_first_byte_of_an_answer_can_be_asked_for_and_what_is_of_no_secret_comes_as_it_is() -> None:
    assert part_of(0, 1) == ECHO[:1]
    assert part_of(0, 12) == ECHO[:12]
    assert part_of(len(ECHO) - 8, 8) == ECHO[-8:]


def test_counts_of_detectors_are_kept_where_a_piece_is_held_back() -> None:
    out, counts = told(b"ssn 078-05-1120" + b" " * 300_000 + KEY[:5], (b"Content-Type", b"text/plain"), detect=frozenset({"ssn"}))
    assert out.endswith(KEY[:5])
    assert counts == {"ssn": 1}
    masker = ReplyMasker(frozenset({"ssn"}), NONE, frozenset())
    masker.conceals = lambda: (b"078-05-****-key",)
    masker.show(frozenset())
    head = ReplyHead(200, ((b"Content-Type", b"text/event-stream"),), has_body=True, length=None, of_read=True)
    parts = [each for part in (head, b"data: 078-05-1120\n\n", ReplyEnd()) for each in masker.mask(part)]
    assert sum(number for each in parts for name, number in each.counts if name == "ssn") == 1


class Issuer(Endpoint):
    """Gives another token each time."""

    given = 0

    def do_POST(self) -> None:  # noqa: N802 - the name that http.server calls
        type(self).given += 1
        body = json.dumps({"access_token": f"token-number-{self.given}", "expires_in": 1}).encode()
        self.say(200, body)


@pytest.fixture
def token_url() -> Iterator[str]:
    with served(Issuer) as url:
        yield f"{url}/token"


def test_a_token_that_was_replaced_is_concealed_as_long_as_it_may_be_good(token_url: str) -> None:
    held = HttpCredential(kind=CredentialKind.CLIENT_CREDENTIALS, secret=SecretRef("file", "/x"), header="", user="me", token_url=token_url, scope="")
    shown = Shown(held, lambda _: Secret("s3cret-of-the-client"))

    async def fetch_twice() -> list[bytes]:
        first = await shown.fetch()
        shown._until = -1.0
        return [first, await shown.fetch()]

    lines = asyncio.run(fetch_twice())
    tokens = [line.strip().rpartition(b" ")[2] for line in lines]
    assert len(set(tokens)) == 2
    assert set(tokens) <= set(shown.told())


def test_a_secret_that_was_rotated_is_concealed_for_a_while_and_no_endless_row_of_them() -> None:
    values = iter(f"secret-number-{n}" for n in range(100))
    held = HttpCredential(kind=CredentialKind.BEARER, secret=SecretRef("file", "/x"), header="", user="", token_url="", scope="")
    shown = Shown(held, lambda _: Secret(next(values)))
    for number in range(20):
        shown._until = -1.0
        shown.ready()
        assert f"secret-number-{number}".encode() in shown.told()
        assert not number or f"secret-number-{number - 1}".encode() in shown.told()
    assert len(shown.told()) < 12


@pytest.fixture(scope="module")
def shown() -> Iterator[World]:
    """A service that is shown a credential, and echoes its requests; nothing is masked."""
    with world(detect=[], credential={"kind": "bearer", "secret": "file:secrets/key"}) as made:
        yield made


def test_a_service_that_echoes_what_it_was_shown_is_asked_for_nothing_that_would_hide_it(shown: World) -> None:
    answer = shown.ask("GET", "/echo", Accept_Encoding="gzip, br, zstd", Range="bytes=0-3,8-11")
    told = dict(answer.json()["headers"])
    assert told["Accept-Encoding"] == "identity"
    assert "Range" not in told
    assert set(told["Authorization"].removeprefix("Bearer ")) == {"*"}
    assert b"s3cret-of-the-target" in shown.service.heard
    assert dict(shown.ask("GET", "/echo", Range="bytes=0-3").json()["headers"])["Range"] == "bytes=0-3", "one part at a time can be had"


def test_an_echo_that_comes_packed_all_the_same_is_unpacked(shown: World) -> None:
    packed = gzip.compress(b"you sent s3cret-of-the-target")
    shown.service.says = [b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(packed) + packed]
    answer = shown.ask("GET", "/packed", Accept_Encoding="gzip")
    shown.service.says = []
    assert answer.body == b"you sent " + b"*" * 20
    assert "content-encoding" not in dict(answer.headers)
