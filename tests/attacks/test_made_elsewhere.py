"""What somebody does to the target by another way, a session that begins afterwards knows: nothing that is seconds old is believed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ostiary.testing.gateway import Gateway
from ostiary.testing.peers import Peer
from tests.attacks.lab import guarded, target_with
from tests.attacks.runner import SENTINEL

pytestmark = pytest.mark.timeout(180)

WIPES = "CREATE OR REPLACE FUNCTION wiping() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN DELETE FROM victim; RETURN NEW; END'"
DONE: dict[str, tuple[str, str]] = {
    # what is done directly, and what is then tried through the gateway
    "a trigger": (f"{WIPES}; CREATE TRIGGER t AFTER INSERT ON other FOR EACH ROW EXECUTE FUNCTION wiping()", "INSERT INTO other VALUES (1)"),
    "a rule": ("CREATE RULE r AS ON INSERT TO other DO ALSO DELETE FROM victim", "INSERT INTO other VALUES (1)"),
    "a default": ("ALTER TABLE other ADD COLUMN x int DEFAULT 1; ALTER TABLE other ALTER x SET DEFAULT wipe()", "INSERT INTO other (id) VALUES (1)"),
    "a function in the place of PostgreSQL's": ("CREATE FUNCTION upper(int) RETURNS int LANGUAGE sql AS 'SELECT wipe()'", "SELECT upper(1)"),
    "an operator": ("CREATE FUNCTION o(int, text) RETURNS int LANGUAGE sql AS 'SELECT wipe()'; CREATE OPERATOR ~ (LEFTARG = int, RIGHTARG = text, FUNCTION = o)", "SELECT 1 ~ 'a'::text"),
    "a cascade": ("CREATE UNIQUE INDEX u ON other (id); INSERT INTO other SELECT id FROM victim; ALTER TABLE victim ADD FOREIGN KEY (id) REFERENCES other (id) ON UPDATE CASCADE", "UPDATE other SET id = id + 100"),
    "a table that becomes a view": ("DROP TABLE other; CREATE VIEW other AS SELECT id, name, secret FROM victim", "INSERT INTO other VALUES (9, 'a', 'b')"),
    "a view that shows more": ("CREATE OR REPLACE VIEW shown AS SELECT id, secret AS name FROM victim", "SELECT reverse(name), left(name, 5), right(name, 6) FROM shown"),
    "a table made anew": ("DROP TABLE victim CASCADE; CREATE TABLE victim(secret text, name text, id int); INSERT INTO victim SELECT '078-05-1120', 'n', i FROM generate_series(1, 5) i", "SELECT reverse(secret) FROM victim"),
}  # fmt: skip
KNOWN = {
    "a new table": ("CREATE TABLE later(id int); INSERT INTO later VALUES (7)", "SELECT id FROM later"),
    "a new column": ("ALTER TABLE other ADD COLUMN y int; INSERT INTO other VALUES (8)", "SELECT id, y FROM other WHERE id = 8"),
    "a new type": ("CREATE TYPE mood AS ENUM ('sad')", "SELECT 'sad'::mood"),
}
"""What is there all the same is not refused."""
NAMES = {name: f"made-{number}" for number, name in enumerate((*DONE, *KNOWN))}


@pytest.fixture(scope="module")
def peer() -> Iterator[Peer]:
    with target_with([{"id": name, "setup": "CREATE VIEW shown AS SELECT id, name FROM victim"} for name in NAMES.values()]) as running:
        yield running


@pytest.fixture(scope="module")
def gate(peer: Peer) -> Iterator[Gateway]:
    with guarded(peer, NAMES.values()) as running:
        yield running


def tried(gate: Gateway, peer: Peer, name: str, done: str, sql: str) -> bytes:
    """What a new session gets that asks right after it was done; one from before keeps the catalogue at hand."""
    with gate.connect(NAMES[name]) as before:
        assert before.query("SELECT id FROM other").tags
        peer.psql(done, NAMES[name])
        with gate.connect(NAMES[name]) as client:
            client.query(sql)
            return bytes(client.received)


@pytest.mark.parametrize("name", DONE)
def test_what_was_done_elsewhere_is_known_to_whoever_comes_after(name: str, gate: Gateway, peer: Peer) -> None:
    received = tried(gate, peer, name, *DONE[name])
    assert peer.psql("SELECT count(*) FROM victim", NAMES[name]) == "5"
    assert SENTINEL[::-1].encode() not in received
    assert SENTINEL[-6:].encode() not in received


@pytest.mark.parametrize("name", KNOWN)
def test_what_was_made_elsewhere_is_there_for_whoever_comes_after(name: str, gate: Gateway, peer: Peer) -> None:
    received = tried(gate, peer, name, *KNOWN[name])
    assert b"does not exist" not in received
    assert b"SELECT 1\0" in received
