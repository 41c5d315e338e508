"""State is whole or not there, is kept by one process at a time, and is never guessed at."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys

import pytest

from ostiary.store.database import Area, Database, StoreFailed

FIRST = Area("fruit", (("CREATE TABLE fruit (name TEXT PRIMARY KEY, weight INTEGER NOT NULL) STRICT",),))
SECOND = Area("fruit", (*FIRST.steps, ("ALTER TABLE fruit ADD COLUMN colour TEXT", "UPDATE fruit SET colour = 'red'")))


def run(path, areas, *works):
    async def go():
        database = Database.open(path, areas)
        try:
            return [await database.transact(work) for work in works]
        finally:
            await database.close()

    return asyncio.run(go())


def put(name, weight=1):
    return lambda connection: (
        connection.execute("INSERT INTO fruit (name, weight) VALUES (?, ?)", (name, weight)).rowcount
    )


def names(connection):
    return [name for (name,) in connection.execute("SELECT name FROM fruit ORDER BY name")]


def test_what_was_committed_is_there_after_a_new_start(tmp_path):
    run(tmp_path / "db", [FIRST], put("apple"))
    assert run(tmp_path / "db", [FIRST], names) == [["apple"]]


def test_the_file_is_for_this_user_alone(tmp_path):
    run(tmp_path / "db", [FIRST], put("apple"))
    assert {path.name: path.stat().st_mode & 0o077 for path in tmp_path.iterdir()} == {"db": 0, "db.lock": 0}


def test_a_transaction_that_raises_leaves_nothing(tmp_path):
    async def go():
        database = Database.open(tmp_path / "db", [FIRST])

        def half(connection):
            put("apple")(connection)
            raise ValueError("no")

        with pytest.raises(ValueError, match="no"):
            await database.transact(half)
        with pytest.raises(StoreFailed, match="UNIQUE"):
            await database.transact(lambda connection: [put("pear")(connection), put("pear")(connection)])
        assert await database.transact(names) == []
        await database.close()

    asyncio.run(go())


def test_a_killed_process_leaves_whole_transactions(tmp_path):
    script = """
import asyncio, sys
from ostiary.store.database import Database
from tests.store.test_database import FIRST, put
async def go():
    database = Database.open(__import__("pathlib").Path(sys.argv[1]), [FIRST])
    for number in range(10_000):
        await database.transact(lambda c, n=number: [put(f"a{n}")(c), put(f"b{n}")(c)])
        print(number, flush=True)
asyncio.run(go())
"""
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "db")],
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": "."},
    )
    for _ in range(20):
        done = int(process.stdout.readline())
    process.send_signal(signal.SIGKILL)
    process.communicate()
    (found,) = run(tmp_path / "db", [FIRST], names)
    for number in range(done + 1):
        assert {f"a{number}", f"b{number}"} <= set(found)
    assert len([name for name in found if name[0] == "a"]) == len([name for name in found if name[0] == "b"])


def test_tables_move_up_with_what_is_in_them(tmp_path):
    run(tmp_path / "db", [FIRST], put("apple"))
    colours = run(tmp_path / "db", [SECOND], lambda c: c.execute("SELECT name, colour FROM fruit").fetchall())
    assert colours == [[("apple", "red")]]


def test_a_step_that_fails_leaves_the_tables_as_they_were(tmp_path):
    run(tmp_path / "db", [FIRST], put("apple"))
    broken = Area("fruit", (*FIRST.steps, ("ALTER TABLE fruit ADD COLUMN taste TEXT", "UPDATE nonsense SET a = 1")))
    with pytest.raises(StoreFailed, match="nonsense"):
        run(tmp_path / "db", [broken])
    assert run(tmp_path / "db", [FIRST], names) == [["apple"]]


def test_state_of_a_newer_version_is_refused(tmp_path):
    run(tmp_path / "db", [SECOND])
    with pytest.raises(StoreFailed, match="newer version"):
        run(tmp_path / "db", [FIRST])


def test_a_second_gateway_on_the_same_state_is_refused(tmp_path):
    async def go():
        database = Database.open(tmp_path / "db", [FIRST])
        with pytest.raises(StoreFailed, match="in use"):
            Database.open(tmp_path / "db", [FIRST])
        await database.close()

    asyncio.run(go())


def test_a_damaged_file_is_refused(tmp_path):
    run(tmp_path / "db", [FIRST], *[put(f"apple{n}") for n in range(50)])
    data = bytearray((tmp_path / "db").read_bytes())
    data[4096:] = os.urandom(len(data) - 4096)
    (tmp_path / "db").write_bytes(data)
    with pytest.raises(StoreFailed, match=r"damaged|cannot be used"):
        run(tmp_path / "db", [FIRST])
    (tmp_path / "db").write_bytes(b"not a database at all" * 1000)
    with pytest.raises(StoreFailed, match="cannot be used"):
        run(tmp_path / "db", [FIRST])


def test_more_than_a_thousand_that_wait_are_refused(tmp_path):
    async def go():
        database = Database.open(tmp_path / "db", [FIRST])
        asked = [database.transact(put(f"a{n}")) for n in range(1100)]
        results = await asyncio.gather(*asked, return_exceptions=True)
        refused = [each for each in results if isinstance(each, StoreFailed)]
        assert len(refused) == 1100 - 1024
        assert len(await database.transact(names)) == 1024
        await database.close()

    asyncio.run(go())


def test_after_closing_nothing_is_changed(tmp_path):
    async def go():
        database = Database.open(tmp_path / "db", [FIRST])
        await database.close()
        with pytest.raises(StoreFailed):
            await database.transact(put("apple"))

    asyncio.run(go())
    with sqlite3.connect(tmp_path / "db") as connection:
        assert names(connection) == []
