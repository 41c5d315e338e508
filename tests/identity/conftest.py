"""A gateway's identity side with one local issuer, on temporary files and a clock of the test's own."""

from __future__ import annotations

import shutil
import subprocess
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from ostiary.identity.gateway import GatewayTokens, TokenSigner
from ostiary.identity.issuers import Issuer, issuer_from
from ostiary.identity.keys import load_or_create_token_key, load_token_ring
from ostiary.identity.standing import REVOKED, Standing, stop_body
from ostiary.identity.verifier import Verifier
from ostiary.model.errors import Reason
from ostiary.store.news import News
from ostiary.testing import npm
from ostiary.testing.issuer import LocalIssuer

GATEWAY = "https://gw1.example"


@dataclass
class House:
    """Everything that verifies and mints, for one issuer."""

    idp: LocalIssuer
    folder: Path
    ticks: list[float] = field(default_factory=lambda: [1000.0])

    def __post_init__(self) -> None:
        path = self.folder / "keys" / "token.pem"
        self.key = load_or_create_token_key(path)
        self.standing = Standing()
        self.gateway = GatewayTokens(load_token_ring(path), issuer=GATEWAY, audience="gw1")
        self.signer = TokenSigner(self.key, issuer=GATEWAY, audience="gw1", minutes=60)

    def issuer(self, **over: object) -> Issuer:
        table = {
            "issuer": self.idp.issuer,
            "audience": "ostiary",
            "kind": "human",
            "algorithms": [self.idp.algorithm],
            **over,
        }
        return issuer_from(table)

    def verifier(self, *issuers: Issuer, **over: object) -> Verifier:
        return Verifier(
            issuers or (self.issuer(**over),),
            gateway=self.gateway,
            standing=self.standing,
            clock=lambda: self.ticks[0],
        )

    def revoke(self, token: str, until: int) -> None:
        self.standing.heard(News(1, REVOKED, token, stop_body(Reason.REVOKED_TOKEN, ""), until))

    @property
    def now(self) -> float:
        return time.time()


@pytest.fixture
def make_house(tmp_path: Path):
    """A house whose issuer signs with the algorithm given."""
    with ExitStack() as stack:
        yield lambda algorithm="EdDSA": House(stack.enter_context(LocalIssuer(algorithm)), tmp_path)


@pytest.fixture
def house(make_house):
    return make_house()


SCRIPT = Path(__file__).with_name("provider.mjs")
PACKAGE = "oidc-provider@9.13.3"


@pytest.fixture(scope="module")
def provider(tmp_path_factory):
    """A certified OpenID provider, and where it is."""
    folder = tmp_path_factory.mktemp("provider")
    try:
        node = npm.install(folder, PACKAGE)
    except npm.NoRegistry as why:
        pytest.skip(str(why))
    shutil.copy(SCRIPT, folder)
    with subprocess.Popen(
        [node, SCRIPT.name], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as running:
        assert running.stdout is not None
        yield running.stdout.readline().strip()
        running.terminate()
