"""What an issuer's token endpoint may answer: no more of it is held than is wanted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest

from ostiary.identity.jwks import FetchFailed
from ostiary.identity.oidc import MAX_ANSWER, _post


class Endless(httpx.AsyncByteStream):
    """A body that goes on until nobody reads it any more, and knows how much was read."""

    def __init__(self) -> None:
        self.given = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while self.given < 100 * MAX_ANSWER:
            self.given += 4096
            yield b" " * 4096


def post(response: httpx.Response) -> tuple[int, bytes]:
    async def go() -> tuple[int, bytes]:
        async with httpx.AsyncClient(transport=httpx.MockTransport(lambda _: response)) as client:
            return await _post(client, "https://idp.example/token", {"grant_type": "authorization_code"})

    return asyncio.run(go())


def test_an_answer_without_an_end_is_cut_where_it_is_too_large() -> None:
    body = Endless()
    with pytest.raises(FetchFailed, match="too large"):
        post(httpx.Response(200, stream=body))
    assert body.given <= MAX_ANSWER + 4096


def test_an_answer_that_would_have_to_be_unpacked_is_refused() -> None:
    body = Endless()
    with pytest.raises(FetchFailed, match="encodings"):
        post(httpx.Response(200, headers={"content-encoding": "gzip"}, stream=body))
    assert body.given == 0


def test_a_small_answer_comes_whole_whatever_its_status() -> None:
    body = httpx.ByteStream(b'{"error":"invalid_grant"}')
    assert post(httpx.Response(400, stream=body)) == (400, b'{"error":"invalid_grant"}')
