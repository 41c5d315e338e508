"""Who is asked about again, and what an issuer's no ends: with the real records, and an issuer that answers as it is told."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from ostiary.identity import records
from ostiary.identity.oidc import Provided
from ostiary.identity.records import Records, ServiceAccount
from ostiary.identity.tokens import Proved
from ostiary.identity.vouching import LOGIN_SECONDS, Vouching, keys_needed
from ostiary.model.errors import LogFailed, NotAdmitted, Reason
from ostiary.model.secrets import Secret
from ostiary.store import news
from ostiary.store.database import Database
from ostiary.store.news import NewsBoard
from ostiary.vault.keys import KeyEncryptionKey
from ostiary.vault.ring import KeyRing
from tests.policy.policy_world import identity

IDP = "https://idp.example.com"


class World:
    """The records, an issuer, and a clock."""

    def __init__(self, folder: Path) -> None:
        self.database = Database.open(folder / "control.db", [news.AREA, records.AREA])
        self.records = Records(self.database, NewsBoard(self.database))
        self.issuer = IDP
        self.asked: list[str] = []
        self.answer: Callable[[Secret], Awaitable[Secret | None]] = self._yes
        self.told: list[str] = []
        self.now = 1_800_000_000.0
        self.vouching = self.with_key(b"k" * 32)

    def with_key(self, *keys: bytes) -> Vouching:
        login: Any = self
        kek = KeyRing([(KeyEncryptionKey.from_bytes(key), "here") for key in keys])
        return Vouching(self.records, {IDP: (login, 60.0)}, kek, self._told, lambda: self.now)

    async def _told(self, what: str, whom: tuple[str, str], detail: str) -> None:
        self.told.append(f"{what} {whom[1]} {detail}")

    async def is_good_still(self, refresh: Secret) -> Secret | None:
        self.asked.append(refresh.reveal())
        return await self.answer(refresh)

    async def _yes(self, refresh: Secret) -> Secret:
        return Secret(refresh.reveal() + "+")

    async def no(self, _: Secret) -> None:
        return None

    async def comes_back(self, refresh: str | None = "r") -> None:
        proved = Proved(identity=identity(subject="ana"), may_act=None, own=False, is_delegation=False)
        await self.vouching.returned(Provided(proved, None if refresh is None else Secret(refresh)))

    async def look(self, later: float = 61.0) -> None:
        self.now += later
        await self.vouching.look()

    @property
    def stopped(self) -> str | None:
        return self.records.stopped_by(IDP, "ana")


@pytest.fixture
def run(tmp_path: Path):
    def go(story: Callable[[World], Awaitable[None]]) -> None:
        async def whole() -> None:
            world = World(tmp_path)
            try:
                await story(world)
            finally:
                await world.database.close()

        asyncio.run(whole())

    return go


def test_each_refresh_token_is_used_once_and_stands_nowhere_in_clear(run, tmp_path) -> None:
    async def story(world: World) -> None:
        await world.comes_back("secret-refresh")
        await world.look(1)
        assert world.asked == []
        await world.look()
        await world.look()
        assert world.asked == ["secret-refresh", "secret-refresh+"]
        assert b"secret-refresh" not in b"".join(path.read_bytes() for path in tmp_path.glob("control.db*"))

    run(story)


def test_an_issuer_that_cannot_be_asked_ends_nothing_and_is_asked_again(run) -> None:
    async def down(_: Secret) -> None:
        raise NotAdmitted(Reason.ISSUER_UNREACHABLE, "down")

    async def story(world: World) -> None:
        await world.comes_back()
        world.answer = down
        await world.look()
        assert world.stopped is None
        world.answer = world.no
        await world.look(1)
        assert world.stopped == "issuer"

    run(story)


def test_a_no_ends_the_accounts_and_the_next_login_lets_in_again_without_them(run) -> None:
    async def story(world: World) -> None:
        now = int(world.now)
        await world.records.add_account(
            ServiceAccount(
                name="svc", owner_iss=IDP, owner_sub="ana", issuer=IDP, conditions={}, connections=[], created=now, expires=now + 10**6
            )
        )
        await world.comes_back()
        world.answer = world.no
        await world.look()
        assert "ended 0 delegations and 1 accounts" in world.told[0]
        await world.comes_back(None)
        assert world.stopped is None
        (account,) = await world.records.accounts()
        assert (account.reason, world.told[1].split()[0]) == ("LOST_OWNER", "person.returned")

    run(story)


def test_nobody_stands_again_whose_return_cannot_be_recorded(run) -> None:
    async def story(world: World) -> None:
        async def log_down(*_: object) -> None:
            raise LogFailed("disk full")

        await world.comes_back()
        world.answer = world.no
        await world.look()
        world.vouching._told = log_down
        with pytest.raises(LogFailed):
            await world.comes_back()
        assert world.stopped == "issuer"

    run(story)


def test_a_login_lifts_no_isolation_and_a_no_takes_no_isolations_place(run) -> None:
    async def story(world: World) -> None:
        await world.comes_back()
        await world.records.stop(IDP, "ana", Reason.STOPPED_ACTOR, "stolen laptop", int(world.now))
        world.answer = world.no
        await world.look()
        assert (world.stopped, world.told) == ("", [])
        await world.comes_back()
        assert world.stopped == ""

    run(story)


def test_a_no_about_the_login_before_the_last_one_says_nothing(run) -> None:
    async def story(world: World) -> None:
        async def no_while_they_log_in(_: Secret) -> None:
            await world.comes_back("newer")

        await world.comes_back("older")
        world.answer = no_while_they_log_in
        await world.look()
        assert world.stopped is None
        world.answer = world._yes
        await world.look()
        assert world.asked == ["older", "newer"]

    run(story)


def test_nobody_is_asked_about_on_whom_nothing_hangs(run) -> None:
    async def story(world: World) -> None:
        await world.comes_back()
        await world.look(LOGIN_SECONDS + 1)
        assert world.asked == []

    run(story)


def test_a_token_under_another_key_is_dropped_with_a_warning_and_not_sent(run) -> None:
    async def story(world: World) -> None:
        await world.comes_back()
        world.vouching = world.with_key(b"x" * 32)
        with capture_logs() as said:
            await world.look()
        assert (world.asked, world.stopped) == ([], None)
        assert [(each["log_level"], each["subject"]) for each in said] == [("warning", "ana")]

    run(story)


def test_whom_an_issuer_is_asked_about_is_asked_about_after_a_rotation_too(run) -> None:
    async def story(world: World) -> None:
        await world.comes_back()
        world.vouching = world.with_key(b"k" * 32, b"n" * 32)  # a new key behind the one in use
        await world.look()
        assert world.asked == ["r"]
        world.vouching = world.with_key(b"n" * 32)  # what is asked once is under the new one: the old one can go
        await world.look()
        assert world.asked == ["r", "r+"]
        assert await world.database.transact(keys_needed) == {KeyEncryptionKey.from_bytes(b"n" * 32).id: 1}

    run(story)
