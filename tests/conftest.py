"""What every test can lean on: where the repository is, hypothesis's two profiles, one real PostgreSQL a run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from ostiary.testing.peers import Peer, postgres_cluster

ROOT = Path(__file__).resolve().parent.parent

# Decoders are fuzzed in every run, within its time; `HYPOTHESIS_PROFILE=long` digs deeper. No deadline: the machine is shared.
settings.register_profile("house", deadline=None, max_examples=100, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("long", deadline=None, max_examples=5000, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "house"))


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture(scope="session")
def postgres() -> Iterator[Peer]:
    """One real PostgreSQL for all tests of this process that only need one: `trust`, superuser `postgres`."""
    with postgres_cluster() as peer:
        yield peer
