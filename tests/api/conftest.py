"""The API over one local issuer, with a record that can be made to fail."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry

from ostiary.api.app import Deps, create_app
from ostiary.api.events import TokenEvent
from ostiary.api.words import ACCESS_TOKEN, ASSERTION, GRANT, JWT
from ostiary.config import types as config
from ostiary.identity import records
from ostiary.identity.clients import Client, Clients
from ostiary.identity.gateway import GatewayTokens, TokenSigner
from ostiary.identity.issuers import issuer_from
from ostiary.identity.jose import sign_compact
from ostiary.identity.keys import load_or_create_token_key
from ostiary.identity.records import Records
from ostiary.identity.standing import REVOKED, Standing, stop_body
from ostiary.identity.verifier import Verifier
from ostiary.model.errors import LogFailed, Reason
from ostiary.model.identity import Kind
from ostiary.store import news
from ostiary.store.database import Database
from ostiary.store.news import NewsBoard
from ostiary.testing.issuer import LocalIssuer, new_key


@dataclass
class Door:
    """The API as a caller sees it."""

    idp: LocalIssuer
    folder: Path
    events: list[TokenEvent] = field(default_factory=list)
    log_down: bool = False

    clients: list[Client] = field(default_factory=list)
    more: dict[str, Any] = field(default_factory=dict)
    issuers: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.database = Database.open(self.folder / "control.db", [news.AREA, records.AREA])
        self.board = NewsBoard(self.database)
        self.records = Records(self.database, self.board)
        key = load_or_create_token_key(self.folder / "token.pem")
        self.standing = Standing()
        self.board.listen(self.standing.heard)
        gateway = GatewayTokens(key.ring(), issuer="https://gw1.example", audience="gw1")
        table = {
            "issuer": self.idp.issuer,
            "audience": ["ostiary", "gw"],
            "kind": "human",
            "algorithms": ["EdDSA", "RS256", "ES256"],
        }
        self.verifier = Verifier(
            [issuer_from(each) for each in (table, *self.issuers)], gateway=gateway, standing=self.standing
        )
        self.deps = Deps(
            verifier=self.verifier,
            signer=TokenSigner(key, issuer="https://gw1.example", audience="gw1", minutes=60),
            revoke=self._revoke,
            connections=frozenset({"orders-db", "hr-db"}),
            record=self._record,
            registry=CollectorRegistry(),
            records=self.records,
            clients=Clients(self.clients, issuer="https://gw1.example", audiences=frozenset({"https://gw1.example"})),
            base_url="https://gw1.example",
            **self.more,
        )
        self.app = create_app(self.deps)

    async def _revoke(self, token: str, until: int) -> None:
        await self.board.tell(REVOKED, token, stop_body(Reason.REVOKED_TOKEN, ""), until)

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


class Agent:
    """A client of the gateway's with a key of its own."""

    def __init__(self, folder: Path, name: str, kind: str = "agent", redirects: tuple[str, ...] = ()) -> None:
        self.name = name
        self.key = new_key("ES256")
        path = folder / f"{name.replace(':', '-')}.jwks.json"
        jwk = {**self.key.as_dict(private=False), "kid": "k", "alg": "ES256", "use": "sig"}
        path.write_text(json.dumps({"keys": [jwk]}))
        section = config.Client(id=name, kind=Kind(kind), jwks_file=str(path), redirect_uris=redirects)
        self.client = Client(section)

    def assertion(self, **over: Any) -> str:
        now = int(time.time())
        claims = {"iss": self.name, "sub": self.name, "aud": "https://gw1.example", "iat": now, "exp": now + 60}
        claims |= {"jti": secrets.token_hex(8), **over}
        return sign_compact({"alg": "ES256", "kid": "k"}, {k: v for k, v in claims.items() if v is not None}, self.key)

    def proof(self, **over: Any) -> dict[str, str]:
        return {"client_assertion": self.assertion(**over), "client_assertion_type": ASSERTION}


@pytest.fixture
def make_door(tmp_path: Path):
    """A door with clients, issuers and settings of the test's own."""
    with ExitStack() as stack:

        def make(*agents: Agent, **more: Any) -> Door:
            idp = stack.enter_context(LocalIssuer())
            issuers = more.pop("issuers", [])
            return Door(idp, tmp_path, clients=[agent.client for agent in agents], issuers=issuers, more=more)

        yield make
