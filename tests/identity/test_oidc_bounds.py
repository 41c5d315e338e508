"""What an issuer's token endpoint may answer, and what it is not asked with."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from ostiary.identity.issuers import issuer_from
from ostiary.identity.jwks import FetchFailed
from ostiary.identity.oidc import MAX_ANSWER, Attempt, Login, _post
from ostiary.model.errors import NotAdmitted, Reason
from ostiary.model.secrets import Secret, SecretRef
from ostiary.vault.references import resolve


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


def test_a_client_secret_that_cannot_be_read_is_a_refusal_and_says_nothing_of_the_person(tmp_path: Path) -> None:
    table = {"issuer": "https://idp.example", "audience": "ostiary", "jwks_url": "https://idp.example/jwks", "kind": "human", "algorithms": ["EdDSA"]}
    tokens: Any = None
    secret = partial(resolve, SecretRef("file", str(tmp_path / "gone")))
    login = Login(issuer_from(table), tokens, client_id="ostiary", client_secret=secret, scopes=())
    login._known, login._known_at = {"token_endpoint": "https://idp.example/token"}, time.monotonic()
    attempt = Attempt("state", "nonce", "verifier", "https://gw.example/oauth/callback")
    for ask in (lambda: login.finish(attempt, "code", None, 0.0), lambda: login.is_good_still(Secret("refresh"))):
        with pytest.raises(NotAdmitted) as refused:
            asyncio.run(ask())
        assert refused.value.reason is Reason.ISSUER_UNREACHABLE
        assert "gone: there is no such file" in refused.value.detail
