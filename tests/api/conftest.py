"""The API over one local issuer, with a record that can be made to fail."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry

from ostiary.api.app import Deps, create_app
from ostiary.api.events import TokenEvent
from ostiary.api.words import ACCESS_TOKEN, GRANT, JWT
from ostiary.identity.gateway import GatewayTokens, TokenSigner
from ostiary.identity.issuers import issuer_from
from ostiary.identity.keys import load_or_create_token_key
from ostiary.identity.standing import REVOKED, Standing, stop_body
from ostiary.identity.verifier import Verifier
from ostiary.model.errors import LogFailed, Reason
from ostiary.store.news import News
from ostiary.testing.issuer import LocalIssuer


@dataclass
class Door:
    """The API as a caller sees it."""

    idp: LocalIssuer
    folder: Path
    events: list[TokenEvent] = field(default_factory=list)
    log_down: bool = False

    def __post_init__(self) -> None:
        key = load_or_create_token_key(self.folder / "token.pem")
        self.standing = Standing()
        gateway = GatewayTokens(key.ring(), issuer="https://gw1.example", audience="gw1")
        table = {
            "issuer": self.idp.issuer,
            "audience": ["ostiary", "gw"],
            "kind": "human",
            "algorithms": ["EdDSA", "RS256", "ES256"],
        }
        self.verifier = Verifier([issuer_from(table)], gateway=gateway, standing=self.standing)
        self.deps = Deps(
            verifier=self.verifier,
            signer=TokenSigner(key, issuer="https://gw1.example", audience="gw1", minutes=60),
            revoke=self._revoke,
            connections=frozenset({"orders-db", "hr-db"}),
            record=self._record,
            registry=CollectorRegistry(),
        )
        self.app = create_app(self.deps)

    async def _revoke(self, token: str, until: int) -> None:
        self.standing.heard(News(1, REVOKED, token, stop_body(Reason.REVOKED_TOKEN, ""), until))

    async def _record(self, event: TokenEvent) -> None:
        if self.log_down:
            raise LogFailed("disk full")
        self.events.append(event)

    def send(self, method: str, path: str, **more: Any) -> httpx.Response:
        async def go() -> httpx.Response:
            transport = httpx.ASGITransport(app=self.app)
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
                return await client.request(method, path, **more)

        return asyncio.run(go())

    def exchange(self, token: str | None, **form: Any) -> httpx.Response:
        data = {
            "grant_type": GRANT,
            "subject_token": token,
            "subject_token_type": JWT,
            **form,
        }
        return self.send("POST", "/v1/token", data={k: v for k, v in data.items() if v is not None})

    def token(self, subject: str | None = None, **form: Any) -> str:
        answer = self.exchange(subject or self.idp.mint(), **form)
        assert answer.status_code == 200, answer.text
        assert answer.json()["issued_token_type"] == ACCESS_TOKEN
        return answer.json()["access_token"]

    def identity(self, token: str):
        return asyncio.run(self.verifier.verify_token(token, time.time())).identity


@pytest.fixture
def door(tmp_path: Path):
    with LocalIssuer() as idp:
        yield Door(idp, tmp_path)
