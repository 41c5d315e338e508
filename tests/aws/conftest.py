"""moto as AWS, started by the tests, and a gateway before it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from moto.server import ThreadedMotoServer

from ostiary.testing.peers import free_port
from tests.aws.account import WATCH, Account, account


@pytest.fixture(scope="session")
def moto() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=free_port(), verbose=False)
    server.start()
    server._server.app = WATCH.wrap(server._server.app)
    yield "http://{}:{}".format(*server.get_host_and_port())
    server.stop()


@pytest.fixture(scope="session")
def shared(moto: str) -> Iterator[Account]:
    """One gateway for the tests that change nothing of it."""
    with account(moto) as made:
        yield made


@pytest.fixture
def heard_heads(shared: Account) -> list[dict[str, str]]:
    """Headers of requests that reach moto while a test runs."""
    return WATCH.begin()[1]


@pytest.fixture
def heard(shared: Account) -> list[str]:
    """Requests that reach moto while a test runs."""
    return WATCH.begin()[0]
