"""Which key-encryption keys are here, which is in use, and what happens to what is under one that is not."""

from __future__ import annotations

import asyncio
import base64
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ostiary.approvals import tables
from ostiary.approvals.words import Asked, party
from ostiary.audit.keys import init_state
from ostiary.cli.main import main
from ostiary.identity import records
from ostiary.identity.oidc import Provided
from ostiary.identity.records import Records
from ostiary.identity.tokens import Proved
from ostiary.identity.vouching import Vouching
from ostiary.model.errors import ConfigError
from ostiary.model.secrets import Secret, SecretRef
from ostiary.store import news
from ostiary.store.database import Database
from ostiary.store.news import NewsBoard
from ostiary.vault.keys import KEY_BYTES, KeyEncryptionKey, NoSuchKey, WrongKey, create_key_file, load_key
from ostiary.vault.ring import KeyRing, load_ring, next_key_file
from tests.crash.workload import House, Plan, work
from tests.policy.policy_world import identity

ONE, TWO = KeyEncryptionKey.from_bytes(b"1" * 32), KeyEncryptionKey.from_bytes(b"2" * 32)
SECRET = bytes(range(32))


@pytest.mark.parametrize("written", [SECRET.hex(), SECRET.hex().upper() + "\n", base64.b64encode(SECRET).decode()])
def test_a_key_is_read_from_the_environment_and_from_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: str) -> None:
    monkeypatch.setenv("OSTIARY_TEST_KEK", written)
    path = tmp_path / "kek"
    path.write_text(written)
    path.chmod(0o600)
    raw = tmp_path / "raw"
    raw.write_bytes(SECRET)
    raw.chmod(0o600)
    found = [load_key(SecretRef("env", "OSTIARY_TEST_KEK")), load_key(SecretRef("file", str(path))), load_key(SecretRef("file", str(raw)))]
    assert {key.id for key in found} == {KeyEncryptionKey.from_bytes(SECRET).id}


@pytest.mark.parametrize("written", ["ab" * 31, "ab" * 33, "zz" * 32, base64.b64encode(SECRET[:-1]).decode(), "correct horse"])
def test_what_is_no_key_is_refused_without_repeating_it(monkeypatch: pytest.MonkeyPatch, written: str) -> None:
    monkeypatch.setenv("OSTIARY_TEST_KEK", written)
    with pytest.raises(ConfigError, match="no key-encryption key") as caught:
        load_key(SecretRef("env", "OSTIARY_TEST_KEK"))
    assert written not in str(caught.value)


def test_the_last_key_wraps_and_all_of_them_unwrap() -> None:
    old = ONE.wrap(b"d" * 32, b"x")
    ring = KeyRing([(ONE, "one"), (TWO, "two")])
    assert ring.current is TWO
    assert [ring.unwrap(wrapped, b"x") for wrapped in (old, ring.wrap(b"e" * 32, b"x"))] == [b"d" * 32, b"e" * 32]
    with pytest.raises(WrongKey):
        KeyRing([(TWO, "two")]).unwrap(old, b"x")
    with pytest.raises(NoSuchKey, match=ONE.id):
        KeyRing([(TWO, "two")]).find(ONE.id)
    again = KeyRing([(ONE, "file"), (TWO, "two"), (ONE, "env:KEK")])
    assert (again.current, again.places[ONE.id]) == (ONE, "env:KEK")


def test_files_come_in_the_order_of_their_numbers_and_references_behind_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = tmp_path / "keys"
    keys.mkdir()
    with pytest.raises(ConfigError, match=r"restore kek-1\.key"):
        load_ring(tmp_path)
    made = {n: create_key_file(keys / f"kek-{n}.key").id for n in (1, 2, 10)}
    (keys / "kek-old.key").write_text("not one of them")
    assert load_ring(tmp_path).current.id == made[10]
    assert next_key_file(keys).name == "kek-11.key"
    monkeypatch.setenv("OSTIARY_TEST_KEK", SECRET.hex())
    assert list(load_ring(tmp_path, ["env:OSTIARY_TEST_KEK"]).by_id) == [*made.values(), KeyEncryptionKey.from_bytes(SECRET).id]


# --- rotation, by the commands -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pattern(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sessions of a log, under the key that `ostiary init` made."""
    house = House(tmp_path_factory.mktemp("ring") / "home")
    house.build()
    asyncio.run(work(house, Plan(sessions=2, operations=2)))
    (house.folder / "p.cedar").write_text("permit (principal, action, resource);")
    return house.folder


@pytest.fixture
def home(pattern: Path, tmp_path: Path) -> Path:
    shutil.copytree(pattern, tmp_path / "home")
    return tmp_path / "home"


def config(home: Path, *keys: str) -> str:
    named = f"[recordings]\nkeys = {json.dumps(keys)}\n" if keys else ""
    path = home / "ostiary.toml"
    path.write_text(
        f'[gateway]\nname = "gw1"\nstate_dir = "state"\n[audit]\ntail_dir = "tail"\n{named}[policy]\nfiles = ["p.cedar"]\n'
        '[listen.postgresql]\naddress = "127.0.0.1:0"\n'
    )
    return str(path)


def sessions(home: Path) -> list[str]:
    return sorted(path.stem for path in home.glob("state/audit/w0/*/payloads/*.osp"))


def shown(home: Path, capsys: pytest.CaptureFixture[str], *keys: str, code: int = 0) -> list[tuple[str, int]]:
    return [(row["for"], row["recordings"]) for row in every(home, capsys, *keys, code=code)]


def every(home: Path, capsys: pytest.CaptureFixture[str], *keys: str, code: int = 0) -> list[dict[str, Any]]:
    capsys.readouterr()
    assert main(["audit", "keys", "-o", "json", "-c", config(home, *keys)]) == code
    return json.loads(capsys.readouterr().out)["keys"]


def replays(home: Path, session: str, *keys: str) -> bool:
    return main(["sessions", "replay", session, "-c", config(home, *keys)]) == 0


def verifies(home: Path) -> bool:
    return main(["audit", "verify", "-c", config(home)]) == 0


def test_a_new_key_for_new_recordings_leaves_the_old_ones_readable(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert shown(home, capsys) == [("new recordings", 2)]
    assert main(["audit", "rewrap", "--new-only", "-c", config(home)]) == 0
    asyncio.run(work(House(home), Plan(sessions=1, operations=1)))
    assert all(replays(home, session) for session in sessions(home))
    assert verifies(home)
    assert "created" in logged(home, capsys)


def test_a_key_that_is_gone_is_named_and_the_log_verifies_without_it(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", "rewrap", "--new-only", "-c", config(home)]) == 0
    (home / "state/keys/kek-1.key").unlink()
    assert shown(home, capsys, code=1) == [("new recordings", 0), ("MISSING", 2)]
    assert not replays(home, sessions(home)[0])
    said = capsys.readouterr().err
    assert "is not here" in said
    assert "the log verifies without it" in said
    assert main(["audit", "rewrap", "-c", config(home)]) == 1
    assert "which is not here" in capsys.readouterr().out
    assert verifies(home)


def test_recordings_move_under_a_key_of_the_configuration_and_the_file_can_go(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OSTIARY_TEST_KEK", SECRET.hex())
    named = "env:OSTIARY_TEST_KEK"
    assert shown(home, capsys, named) == [("reading", 2), ("new recordings", 0)]
    assert main(["audit", "rewrap", "--new-only", "-c", config(home, named)]) == 64
    assert main(["audit", "rewrap", "-c", config(home, named)]) == 0
    assert [path.name for path in home.glob("state/keys/kek-*.key")] == ["kek-1.key"], "no key is made beside the one that is named"
    (home / "state/keys/kek-1.key").unlink()
    assert shown(home, capsys, named) == [("new recordings", 2)]
    assert all(replays(home, session, named) for session in sessions(home))
    assert SECRET.hex() not in logged(home, capsys)
    monkeypatch.delenv("OSTIARY_TEST_KEK")
    assert main(["audit", "keys", "-c", config(home, named)]) != 0
    assert "environment variable is not set" in capsys.readouterr().err


def test_what_is_redacted_after_a_rotation_needs_no_key_and_comes_back_by_none(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = sessions(home)
    assert main(["audit", "rewrap", "-c", config(home)]) == 0
    assert main(["audit", "redact", first, "--reason", "asked for", "-c", config(home)]) == 0
    assert shown(home, capsys) == [("reading", 0), ("new recordings", 1)]
    assert main(["audit", "rewrap", "-c", config(home)]) == 0
    assert not replays(home, first)
    assert "destroyed" in capsys.readouterr().err
    assert replays(home, second)
    assert verifies(home)


def test_a_damaged_recording_is_named_and_holds_up_no_other(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = sessions(home)
    (path,) = home.glob(f"state/audit/w0/*/payloads/{first}.osp")
    path.write_bytes(path.read_bytes()[:50])
    capsys.readouterr()
    assert main(["audit", "keys", "-c", config(home)]) == 1
    assert "too short" in capsys.readouterr().out
    assert main(["audit", "rewrap", "-c", config(home)]) == 1
    assert "too short" in capsys.readouterr().out
    assert replays(home, second)


def test_a_key_that_logins_and_open_questions_need_is_shown_as_needed(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = load_ring(home / "state").current
    assert main(["audit", "rewrap", "-c", config(home)]) == 0
    with waiting(home, old):  # also while the gateway runs
        rows = every(home, capsys)
        assert [(row["for"], row["recordings"], row["logins"], row["questions"]) for row in rows] == [("reading", 0, 1, 1), ("new recordings", 2, 0, 0)]
    (home / "state/keys/kek-1.key").unlink()
    (fresh, gone) = every(home, capsys, code=1)
    assert (fresh["logins"], gone["key"], gone["for"], gone["logins"]) == (0, old.id, "MISSING", 1)
    assert main(["audit", "keys", "-c", config(home)]) == 1
    assert "1 questions that wait for approval can be read with none of these keys" in capsys.readouterr().out


@contextmanager
def waiting(home: Path, key: KeyEncryptionKey) -> Iterator[None]:
    """A login whose issuer is asked again, and a question that waits, both under this key."""
    ana = identity(subject="ana")
    asked = Asked(
        id="q1", digest="d1", asker=party(ana), connection="db", session="", worker="w", needed=(("dba", 1),), policies=(), message="",
        action="delete", name="DELETE", objects=(), head="", sealed=key.wrap(b"{}", b"d1"), said="",
    )  # fmt: skip

    async def keep() -> Database:
        database = Database.open(home / "state/control.db", [news.AREA, records.AREA, tables.AREA])
        login: Any = None
        people = Records(database, NewsBoard(database))
        vouching = Vouching(people, {ana.issuer: (login, 60.0)}, KeyRing([(key, "")]), login)
        await vouching.returned(Provided(Proved(identity=ana, may_act=None, own=False, is_delegation=False), Secret("refresh")))
        await database.transact(lambda db: tables.insert(db, asked, "operation", "ana", 1, 1 << 40))
        return database

    database = asyncio.run(keep())
    yield
    asyncio.run(database.close())


def logged(home: Path, capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    assert main(["audit", "search", "--kind", "key", "-o", "json", "-c", config(home)]) == 0
    return capsys.readouterr().out


def test_a_state_folder_begins_with_one_key_in_use(tmp_path: Path) -> None:
    init_state(tmp_path / "state", "gw1")
    ring = load_ring(tmp_path / "state")
    assert list(ring.by_id) == [ring.current.id]
    assert (tmp_path / "state/keys/kek-1.key").stat().st_size == KEY_BYTES
