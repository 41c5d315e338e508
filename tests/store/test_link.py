"""What the control process tells, every worker hears: in order, once it is durable, also when it was away."""

from __future__ import annotations

import asyncio

import pytest

from ostiary.model.errors import OstiaryError
from ostiary.store.link import LinkDown
from ostiary.store.news import FOREVER, NewsBoard
from tests.store.conftest import until, worker


def seen(heard):
    return [(news.topic, news.key, news.body) for news in heard]


def test_news_reaches_every_worker(control, tmp_path):
    async def go():
        async with control() as c, worker(tmp_path) as (_, one), worker(tmp_path) as (_, other):
            await c.board.tell("revoked", "a", {"x": 1}, FOREVER)
            await c.board.tell("answers", "b", {}, FOREVER)
            await until(lambda: len(one) == len(other) == 2)
            assert seen(one) == seen(other) == [("revoked", "a", {"x": 1}), ("answers", "b", {})]

    asyncio.run(go())


def test_a_worker_that_was_away_hears_what_it_missed(control, tmp_path):
    async def go():
        async with control() as c, worker(tmp_path) as (link, heard):
            await c.board.tell("revoked", "a", {}, FOREVER)
            await until(lambda: heard)
            await c.server.close()
            await until(lambda: not link.is_current)
            c.server._server = None
            await c.board.tell("revoked", "b", {}, FOREVER)
            await c.board.tell("revoked", "a", None, FOREVER)
            await c.server.start(tmp_path)
            await until(lambda: link.is_current)
            assert seen(heard)[1:] == [("revoked", "b", {}), ("revoked", "a", None)]

    asyncio.run(go())


def test_news_outlives_the_control_process(control, tmp_path):
    async def go():
        async with control() as c:
            await c.board.tell("revoked", "a", {"why": "left"}, FOREVER)
            await c.board.tell("revoked", "b", {}, FOREVER)
            await c.board.tell("revoked", "b", None, FOREVER)
        async with control() as c, worker(tmp_path) as (_, heard):
            assert c.board.lookup("revoked", "a").body == {"why": "left"}
            assert c.board.lookup("revoked", "b") is None
            assert ("revoked", "a", {"why": "left"}) in seen(heard)
            assert [news.key for news in c.board.all("revoked")] == ["a"]

    asyncio.run(go())


def test_what_is_over_is_forgotten(control, tmp_path):
    async def go():
        async with control() as c:
            await c.board.tell("revoked", "a", {}, 1000)
            await c.board.tell("revoked", "b", {}, 3000)
            later = NewsBoard(c.database, clock=lambda: 2000)
            await later.load()
            assert [news.key for news in later.since(0)] == ["b"]

    asyncio.run(go())


def test_nobody_hears_what_is_not_durable(control, tmp_path):
    async def go():
        async with control() as c, worker(tmp_path) as (_, heard):

            def fails(connection):
                raise ValueError("the change beside it")

            with pytest.raises(ValueError, match="beside"):
                await c.board.tell_all([("revoked", "a", {}, FOREVER)], fails)
            await c.board.tell("revoked", "b", {}, FOREVER)
            await until(lambda: heard)
            assert seen(heard) == [("revoked", "b", {})]
            assert c.board.lookup("revoked", "a") is None

    asyncio.run(go())


def test_a_question_gets_its_reply_and_a_refusal_is_a_sentence(control, tmp_path):
    async def double(body):
        return {"twice": body["n"] * 2}

    async def refuse(body):
        raise OstiaryError("not today")

    async def go():
        async with control({"double": double, "refuse": refuse}), worker(tmp_path) as (link, _):
            replies = await asyncio.gather(*[link.ask("double", {"n": n}) for n in range(50)])
            assert [reply["twice"] for reply in replies] == [2 * n for n in range(50)]
            with pytest.raises(LinkDown, match="not today"):
                await link.ask("refuse", {})
            with pytest.raises(LinkDown, match="nobody answers"):
                await link.ask("unknown", {})

    asyncio.run(go())


def test_a_question_whose_line_broke_fails_at_once(control, tmp_path):
    async def never(body):
        await asyncio.Event().wait()

    async def go():
        async with control({"never": never}) as c, worker(tmp_path) as (link, _):
            asked = asyncio.ensure_future(link.ask("never", {}, seconds=60))
            await asyncio.sleep(0)
            await c.server.close()
            with pytest.raises(LinkDown, match="went away"):
                await asked
            with pytest.raises(LinkDown, match="cannot be reached"):
                await link.ask("never", {})

    asyncio.run(go())


def test_a_worker_without_its_line_is_not_current(control, tmp_path):
    async def go():
        async with control() as c, worker(tmp_path) as (link, _):
            assert link.is_current
            await c.server.close()
            await until(lambda: not link.is_current)

    asyncio.run(go())


@pytest.mark.parametrize(
    "nonsense", [b"hello\n", b'{"type":"reply","number":1,"body":{}}\n', b"x" * (1 << 20) + b"xx", b"{}\n"]
)
def test_nonsense_on_the_line_ends_it(control, tmp_path, nonsense):
    async def go():
        async with control():
            reader, writer = await asyncio.open_unix_connection(str(tmp_path / "control.sock"))
            writer.write(nonsense)
            with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                await writer.drain()
                await reader.readexactly(1)
            writer.close()

    asyncio.run(go())


def test_a_state_folder_may_be_deeper_than_a_socket_address_is_long(control, tmp_path):
    deep = tmp_path
    for _ in range(8):
        deep /= "a-folder-with-a-long-name"
    deep.mkdir(parents=True)

    async def go():
        c = control()
        c.folder = deep
        async with c, worker(deep) as (_, heard):
            await c.board.tell("revoked", "a", {}, FOREVER)
            await until(lambda: heard)

    asyncio.run(go())
