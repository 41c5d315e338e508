"""Who may answer, when it is enough, how often it counts, and how late it is: without a gateway round it."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import itertools
import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any
from urllib.parse import quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostiary.api.slack import NotSlack, SlackDoor
from ostiary.approvals import tables
from ostiary.approvals.desk import Desk
from ostiary.approvals.office import NotAnswered, Office
from ostiary.approvals.outlets import Outlets, signature, slack_message
from ostiary.approvals.rules import complete, is_involved
from ostiary.approvals.tables import Clock
from ostiary.approvals.words import GLASS, GRANTS, Asked, State, party
from ostiary.config.types import Approvals, Slack, Webhook
from ostiary.driver.spawn import spawn
from ostiary.model.errors import LogFailed
from ostiary.model.identity import Actor, Authentication, Initiator, Kind, VerifiedIdentity
from ostiary.model.secrets import Secret
from ostiary.store import news
from ostiary.store.database import Database, StoreFailed
from ostiary.store.link import Link
from ostiary.store.news import NewsBoard
from ostiary.vault.keys import KeyEncryptionKey
from ostiary.vault.ring import KeyRing
from tests.policy.policy_world import identity

KEY = KeyRing([(KeyEncryptionKey.from_bytes(b"k" * 32), "here")])
ANA = identity("staff")


def person(name: str, *groups: str, at: int = 10_000, **more: Any) -> VerifiedIdentity:
    who = identity(*groups, **({"subject": name, "name": name.title(), "email": f"{name}@example.com"} | more))
    return VerifiedIdentity(**{
        field: getattr(who, field) for field in who.__struct_fields__ if field != "auth"
    }, auth=Authentication("oidc", hashlib.sha256(name.encode()).hexdigest(), None, at))  # fmt: skip


class World:
    """An office over a real store, with a clock and a log that tests hold."""

    def __init__(self, folder, **settings: Any) -> None:
        self.wall, self.steady = 10_000.0, 500.0
        self.records: list[tuple[str, dict[str, Any]]] = []
        self.log_fails = False
        self.stopped: set[str] = set()
        self.folder = folder
        self.settings = Approvals(**settings)
        self.ids = (f"question-{n}" for n in itertools.count(1))

    async def __aenter__(self):
        self.database = Database.open(self.folder / "control.db", (news.AREA, tables.AREA))
        self.board = NewsBoard(self.database, clock=lambda: self.wall)
        await self.board.load()
        self.office = Office(
            self.database, self.board, settings=self.settings, keys=KEY, new_id=lambda: next(self.ids), record=self.record,
            stopped=lambda who: "stopped" if who.sub in self.stopped else "", notify=lambda *_: None,
            connections=frozenset({"orders-db"}), clock=Clock(lambda: self.wall, lambda: self.steady),
        )  # fmt: skip
        await self.office.load()
        return self

    async def __aexit__(self, *_):
        await self.database.close()

    async def record(self, what, said, who):
        if self.log_fails:
            raise LogFailed("the disk is full")
        self.records.append((what, said))

    def asked(self, number: str = "q1", *, digest: str = "d1", session: str = "", needed=(("dba", 1),), who=ANA) -> dict[str, Any]:
        import msgspec

        question = Asked(
            id=number, digest=digest, asker=party(who), connection="orders-db", session=session, worker="w boot", needed=needed,
            policies=("p",), message="", action="delete", name="DELETE", objects=(), head="DELETE", sealed=b"", said="",
        )  # fmt: skip
        return {"do": "ask", "question": msgspec.to_builtins(question)}

    async def ask(self, *args, **more):
        return await self.office.hear(self.asked(*args, **more))

    async def use(self, number: str = "q1"):
        return await self.office.hear({"do": "use", "id": number, "worker": "w boot"})

    async def answer(self, who, number: str = "q1", *, yes: bool = True, digest: str = "d1"):
        return await self.office.answer(who, number, yes=yes, digest=digest, reason="", way="test")


def run(coroutine):
    asyncio.run(coroutine)


DORA, DAN = person("dora", "dba"), person("dan", "dba")


def test_apr_012_of_two_who_use_one_approval_at_once_one_does(tmp_path) -> None:
    async def story():
        async with World(tmp_path) as world:
            await world.ask()
            await world.answer(DORA)
            done = await asyncio.gather(*(world.use() for _ in range(20)), return_exceptions=True)
            assert sum(isinstance(each, dict) for each in done) == 1
            assert all("for once" in str(each) for each in done if not isinstance(each, dict))
            # A request that is repeated takes it too, and only once: the next one is a question anew.
            await world.ask("q2", digest="d2")
            await world.answer(DORA, "q2", digest="d2")
            again = await asyncio.gather(*(world.ask(f"q{n}", digest="d2") for n in range(3, 9)), return_exceptions=True)
            assert sum(isinstance(each, dict) and bool(each.get("used")) for each in again) == 1

    run(story())


def test_apr_013_what_has_expired_stays_expired_whatever_the_clock_says(tmp_path) -> None:
    async def story():
        async with World(tmp_path, wait_seconds=60.0) as world:
            await world.ask()
            await world.answer(DORA)
            world.wall -= 3600  # the wall clock is set back, and sixty seconds pass
            world.steady += 61
            with pytest.raises(NotAnswered, match="expired"):
                await world.use()
            await world.ask("q2", digest="d2")
            await world.answer(DORA, "q2", digest="d2")
            seen = await world.database.transact(tables.latest)
        async with World(tmp_path, wait_seconds=60.0) as later:  # a new process, whose clock is an hour behind
            later.wall = seen - 3600
            later.office._clock = Clock(lambda: later.wall, lambda: later.steady)
            await later.office.load()
            assert later.office._clock.now() >= seen
            later.steady += 61
            with pytest.raises(NotAnswered, match="expired"):
                await later.use("q2")

    run(story())


def test_apr_014_an_approver_who_is_stopped_or_leaves_the_group_before_the_use_does_not_count(tmp_path) -> None:
    async def story():
        async with World(tmp_path) as world:
            for number, lose in (("q1", lambda: world.stopped.add("dora")), ("q2", None)):
                await world.ask(number, digest=number)
                await world.answer(DAN if lose is None else DORA, number, digest=number)
                if lose is None:
                    await world.office.saw(person("dan", "staff"))
                else:
                    lose()
                with pytest.raises(NotAnswered):
                    await world.use(number)
                with pytest.raises(NotAnswered):
                    await world.use(number)  # and it does not come back
            assert [what for what, _ in world.records if what == "lost"] == ["lost", "lost"]

    run(story())


def test_apr_014_a_token_that_was_kept_does_not_bring_back_a_group_that_was_lost(tmp_path) -> None:
    async def story():
        async with World(tmp_path) as world:
            await world.ask("q1", digest="q1")
            await world.answer(DAN, "q1", digest="q1")
            await world.office.saw(person("dan", "staff", at=10_001))
            await world.office.listed(DAN)  # shown late, and older all the same
            with pytest.raises(NotAnswered, match="no longer in the group"):
                await world.use("q1")
            await world.ask("q2", digest="q2")
            with pytest.raises(NotAnswered, match="newest login"):
                await world.answer(DAN, "q2", digest="q2")
            await world.office.saw(person("dan", "dba", at=10_002))
            await world.answer(person("dan", "dba", at=10_002), "q2", digest="q2")
            assert (await world.use("q2"))["used"]

    run(story())


@pytest.mark.parametrize("twin", [
    person("dora.b", "dba", issuer="https://saml.example", email="DORA@example.com"),
    person("dora@example.com", "dba", issuer="https://saml.example", email=None),
    person("Dora", "dba", issuer="https://saml.example", email=None),
], ids=["address", "address as subject", "subject"])  # fmt: skip
def test_one_person_of_two_issuers_is_one_person(tmp_path, twin) -> None:
    async def story():
        async with World(tmp_path) as world:
            await world.ask(needed=(("dba", 2),))
            await world.answer(DORA)
            with pytest.raises(NotAnswered, match="already"):
                await world.answer(twin)
            with pytest.raises(NotAnswered, match="nobody has approved"):
                await world.use()
            await world.ask("q2", digest="d2", who=DORA)
            with pytest.raises(NotAnswered, match="your own question"):
                await world.answer(twin, "q2", digest="d2")

    run(story())


def test_an_answer_that_cannot_be_recorded_does_not_count(tmp_path) -> None:
    async def story():
        async with World(tmp_path) as world:
            await world.ask()
            world.log_fails = True
            with pytest.raises(LogFailed):
                await world.answer(DORA)
            world.log_fails = False
            with pytest.raises(NotAnswered, match="nobody has approved"):
                await world.use()
            await world.answer(DORA)
            world.log_fails = True
            with pytest.raises(LogFailed):
                await world.use()
            world.log_fails = False
            with pytest.raises(NotAnswered, match="for once"):  # burnt, and nothing ran
                await world.use()

    run(story())


def test_apr_019_a_store_that_fails_answers_nothing(tmp_path) -> None:
    async def story():
        async with World(tmp_path) as world:
            await world.ask()
            await world.answer(DORA)
            await world.database.transact(lambda db: db.execute("DROP TABLE approval_answers"))
            with pytest.raises(StoreFailed):
                await world.use()

    run(story())


def test_apr_022_questions_are_counted_by_the_person_whoever_acts_for_them(tmp_path) -> None:
    async def story():
        async with World(tmp_path, max_open=1000, max_per_hour=50) as world:
            async def one(n: int):
                chain = (Actor("i", f"agent-{n}", Kind.AGENT, "agent"),)
                return await world.ask(f"q{n}", digest=f"d{n}", who=identity("staff", acting=chain))

            done = await asyncio.gather(*(one(n) for n in range(400)), return_exceptions=True)
            assert sum(isinstance(each, dict) for each in done) == 50
            world.steady += 3601
            assert (await one(1000))["id"] == "q1000"

    run(story())


def test_one_no_is_enough_and_is_final(tmp_path) -> None:
    async def story():
        async with World(tmp_path) as world:
            await world.ask(needed=(("dba", 2),))
            await world.answer(DORA)
            assert (await world.answer(DAN, yes=False))["state"] == "denied"
            with pytest.raises(NotAnswered, match="denied"):
                await world.answer(person("eve", "dba"))
            with pytest.raises(NotAnswered):
                await world.use()

    run(story())


def test_questions_of_a_session_die_with_it_and_those_of_requests_do_not(tmp_path) -> None:
    async def story():
        async with World(tmp_path) as world:
            for number, session in (("q1", "s1"), ("q2", "s2"), ("q3", "")):
                await world.ask(number, digest=number, session=session)
                await world.answer(DORA, number, digest=number)
            await world.office.hear({"do": "leave", "session": "s1"})
            await world.office.hear({"do": "leave", "session": ""})
            await world.office.hear({"do": "begin", "worker": "w next-boot"})
            for number, state in (("q1", State.ORPHANED), ("q2", State.ORPHANED), ("q3", State.APPROVED)):
                assert await world.office.hear({"do": "look", "id": number}) == {"state": state.value}

    run(story())


# --- rules ---


@given(st.lists(st.frozensets(st.sampled_from(["a", "b", "c"])), max_size=5), st.integers(0, 2), st.integers(0, 2))
def test_a_quorum_is_complete_if_and_only_if_somebody_else_can_take_every_place(people, a, b) -> None:
    needed = tuple((group, count) for group, count in (("a", a), ("b", b)) if count)
    places = [group for group, count in needed for _ in range(count)]
    found = any(
        all(place in person for place, person in zip(places, chosen, strict=True))
        for chosen in itertools.permutations(people, len(places))
    )
    assert complete(needed, people) == (found and bool(places))


@pytest.mark.parametrize(
    ("started", "involved"),
    [
        (Initiator("dora", "", proved=True), True),
        (Initiator("U-1", "Dora", proved=False), True),
        (Initiator("U-1", "DORA@example.com", proved=True), True),
        (Initiator("U-1", "Dan", proved=True), False),
    ],
)
def test_whoever_started_a_run_does_not_approve_what_it_asks(started, involved) -> None:
    run_ = identity(subject="ci", kind=Kind.WORKLOAD, name="ci", email=None, initiator=started)
    assert is_involved(party(run_), DORA) is involved


# --- Slack ---


SECRET = Secret("8f742231b10e8888abcd99yyyzzz85a5")


def click(action: str = "approve", *, at: int = 1000, user: str = "U1", secret: str = SECRET.reveal()) -> tuple[bytes, str, str]:
    payload = {"user": {"id": user}, "actions": [{"action_id": action, "value": "question-1 digest"}]}
    body = b"payload=" + quote_plus(json.dumps(payload)).encode()
    mac = hmac.new(secret.encode(), f"v0:{at}:".encode() + body, hashlib.sha256).hexdigest()
    return body, str(at), f"v0={mac}"


def door() -> SlackDoor:
    return SlackDoor(SECRET, lambda user, at: DORA if user == "U1" else None)


def test_apr_011_a_click_is_believed_with_slacks_own_signature() -> None:
    assert door().click(*click(), 1000 + 299).yes
    assert not door().click(*click("deny"), 1000).yes


@pytest.mark.parametrize(
    ("forged", "now"),
    [
        (click(secret="another"), 1000),
        (click(), 1000 + 301),
        (click(), 1000 - 301),
        ((click()[0].replace(b"approve", b"deny"), *click()[1:]), 1000),
        ((click()[0], "1001", click()[2]), 1000),
        ((click()[0], "1e3", click()[2]), 1000),
        ((click()[0], "1" * 5000, click()[2]), 1000),
        ((click()[0], "1000", ""), 1000),
        ((click()[0], "1000", "v0=" + "\u00e9"), 1000),
        (click(user="U2"), 1000),
        (click("delete"), 1000),
    ],
)
def test_apr_011_a_click_that_slack_did_not_just_send_is_refused(forged, now) -> None:
    with pytest.raises(NotSlack):
        door().click(*forged, now)


def test_apr_011_a_click_is_heard_once() -> None:
    once = door()
    once.click(*click(), 1000)
    with pytest.raises(NotSlack, match="before"):
        once.click(*click(), 1001)


def test_buttons_stand_only_beside_a_question_that_is_shown_whole() -> None:
    said = {"id": "q", "digest": "d", "who": "Ana <!channel>", "connection": "db", "name": "DELETE", "head": "DELETE FROM t WHERE id = ?"}
    statement = slack_message("asked", said | {"kind": "operation"}, "https://gw/v1/approvals/q")
    assert not [block for block in statement["blocks"] if block["type"] == "actions"]
    assert "<!channel>" not in json.dumps(statement)
    grant = slack_message("asked", said | {"kind": "grant"}, "https://gw/v1/approvals/q")
    assert [block for block in grant["blocks"] if block["type"] == "actions"]


# --- webhooks ---


def test_a_webhook_is_signed_tried_again_and_holds_nothing_that_the_detectors_find(tmp_path) -> None:
    heard: list[tuple[str, bytes]] = []
    refused = [503]

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            self.send_response(refused.pop() if refused else 200)
            self.end_headers()
            heard.append((self.headers["Ostiary-Signature"], body))

        def log_message(self, *_: Any) -> None:
            return

    server = HTTPServer(("127.0.0.1", 0), Hook)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    secret = tmp_path / "hook"
    secret.write_text("whsec")
    secret.chmod(0o600)
    hook = Webhook(f"http://127.0.0.1:{server.server_port}/hook", f"file:{secret}")

    async def story():
        from ostiary.masking import scrub

        outlets = Outlets(Approvals(webhooks=(hook,)), scrub=scrub, spawn=spawn, page="https://gw")
        outlets.tell("asked", {"id": "q1", "reason": "card 4111 1111 1111 1111"})
        async with asyncio.timeout(30):
            while len(heard) < 2:  # noqa: ASYNC110 - it comes from a thread
                await asyncio.sleep(0.01)
        await outlets.close()

    try:
        run(story())
    finally:
        server.shutdown()
        server.server_close()
    at = int(heard[-1][0].partition(",")[0].removeprefix("t="))
    assert heard[-1][0] == signature(Secret("whsec"), at, heard[-1][1])
    said = json.loads(heard[-1][1])
    assert (said["event"], said["link"]) == ("asked", "https://gw/v1/approvals/q1")
    assert b"4111" not in heard[-1][1]
    assert Slack.__struct_fields__


def test_one_grant_and_one_broken_glass_at_a_time_so_that_taking_back_leaves_nothing(tmp_path) -> None:
    ona = person("ona", "oncall")
    agent = person("ona", "oncall", acting=(Actor("https://idp.example", "agent-1", Kind.AGENT, "coder"),))

    async def asked(world, who=ona):
        number = (await world.office.request(who, "orders-db", 5, "a ticket"))["id"]
        return number, (await world.office.show(DORA, number))["digest"]

    async def story():
        async with World(tmp_path, grant_groups=("dba",), break_glass_groups=("oncall",), review_groups=("dba",)) as world:
            number, digest = await asked(world)
            await world.answer(DORA, number, digest=digest)
            with pytest.raises(NotAnswered, match=f"already, as {number}: revoke it first"):
                await asked(world)
            await asked(world, agent)  # another chain is somebody else
            await world.office.revoke(ona, number, "")
            await asked(world)
            glass = await world.office.break_glass(ona, "orders-db", "it burns")
            with pytest.raises(NotAnswered, match=f"already, as {glass['id']}"):
                await world.office.break_glass(ona, "orders-db", "it burns still")
            world.wall += 3600 * 24
            world.steady += 3600 * 24
            with pytest.raises(NotAnswered, match="reviewed"):
                await world.office.break_glass(person("ona", "oncall", at=int(world.wall)), "orders-db", "it burns again")

    run(story())


@pytest.mark.parametrize("topic", [GRANTS, GLASS])
def test_a_worker_ends_what_a_grant_takes_the_place_of(topic: str) -> None:
    over: list[str] = []
    desk = Desk(Link.__new__(Link), keys=KEY, worker="w", new_id=str, scrub=str, spawn=lambda *_: None, page="")
    desk.listen(over.append)

    def heard(seq: int, number: str | None, key: str = "ana") -> None:
        desk.heard(news.News(seq, topic, key, None if number is None else {"id": number, "groups": []}, 1 << 40))

    heard(1, "a")
    heard(2, "b", "bob")
    heard(3, "a")  # told once more after a link was down
    assert over == []
    heard(4, "c")
    assert over == ["a"]
    heard(5, None)
    assert over == ["a", "c"]
