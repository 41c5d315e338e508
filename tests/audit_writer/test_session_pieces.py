"""What sessions have in common is encoded once, and each session's entries are what they would be by themselves."""

from __future__ import annotations

import msgspec
import pytest

from ostiary.audit.entries import _MAX_CACHED, _MAX_CLAIMS, _MAX_PEOPLE, Encoder, SessionEntries
from ostiary.model.identity import Said
from tests.audit_writer.conftest import GROUNDS, identity, session_facts

ID = "01930000-0000-7000-8000-0123456789ab"


def scrub(text: str) -> str:
    return text.replace("secret", "******")


def begun(encoder: Encoder, facts, grounds=GROUNDS) -> bytes:
    return SessionEntries(encoder, facts).start(ID, 1_795_000_000_000_000_000, 5, policy="cd" * 32, grounds=grounds)


@pytest.mark.parametrize("application", ["psql", "", "secret of é", "\udcff", "x" * _MAX_CLAIMS + "secret"])
def test_a_session_begins_with_the_same_entry_whoever_came_before(application):
    shared = Encoder("gw1", "boot", scrub)
    people = [identity(), msgspec.structs.replace(identity(), subject="bob", name="Bob"), identity()]
    for port in (1, 2):
        for who in people:
            for name in ("orders-db", "other"):
                said = Said(address=f"127.0.0.1:{port}", user="bob", application=application, purpose="", ticket="T-1")
                facts = session_facts(identity=who, said=said, connection=name)
                for grounds in (GROUNDS, msgspec.structs.replace(GROUNDS, because=("another",))):
                    entry = begun(shared, facts, grounds)
                    assert entry == begun(Encoder("gw1", "boot", scrub), facts, grounds)
                    assert b"secret" not in entry


def test_what_is_kept_of_them_is_bounded():
    encoder = Encoder("gw1", "boot", scrub)
    for number in range(_MAX_PEOPLE + 10):
        said = Said(address="127.0.0.1:1", user=f"user {number}")
        begun(encoder, session_facts(identity=msgspec.structs.replace(identity(), subject=f"s{number}"), said=said))
    assert len(encoder._people) == _MAX_PEOPLE
    assert len(encoder._claims) <= _MAX_CACHED
