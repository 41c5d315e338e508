"""Login with a browser, from vanilla `ssh`: keyboard-interactive shows a page and a code, and waits for the person."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

import asyncssh
import httpx
import pytest

from tests.ssh.conftest import Lab

PATIENCE = 60.0


class Terminal(asyncssh.SSHClient):
    """Answers what keyboard-interactive asks, as a person does who confirms the code, or says no, or does nothing."""

    def __init__(self, answer: str) -> None:
        self.answer = answer
        self.seen: list[str] = []

    def kbdint_auth_requested(self) -> str:
        return ""

    async def kbdint_challenge_received(self, name: str, instructions: str, lang: str, prompts: Any) -> list[str]:
        del name, lang
        self.seen += [instructions, *(text for text, _ in prompts)]
        found = re.search(r"Open (\S+) and type (\S+)", instructions)
        assert found is not None, instructions
        if self.answer in {"yes", "no"}:
            await asyncio.to_thread(confirm, found[1], found[2], self.answer, self.seen)
        return ["" if self.answer in {"yes", "no"} else self.answer]


def confirm(page: str, code: str, answer: str, seen: list[str]) -> None:
    """A browser, on any machine: type the code, log in at the issuer, answer the question."""
    with httpx.Client(follow_redirects=True, trust_env=False) as browser:
        asked = browser.post(page, data={"user_code": code})
        seen.append(asked.text)
        consent = re.search(r'name="consent" value="([^"]+)"', asked.text)
        assert consent is not None, asked.text
        browser.post(page.removesuffix("/device") + "/oauth/consent", data={"consent": consent[1], "answer": answer})


async def connect(lab: Lab, terminal: Terminal, user: str = "web") -> asyncssh.SSHClientConnection:
    return await asyncssh.connect(
        "127.0.0.1", lab.port, known_hosts=None, username=user, client_factory=lambda: terminal, client_keys=None, config=None, agent_path=None
    )  # fmt: skip


def test_a_person_logs_in_with_a_browser_and_the_record_says_how(lab: Lab) -> None:
    terminal = Terminal("yes")

    async def act() -> None:
        async with await connect(lab, terminal) as connection:
            assert (await connection.run("echo in")).stdout == "in\n"

    asyncio.run(asyncio.wait_for(act(), PATIENCE))
    assert any("an SSH login from 127.0.0.1:" in each and "to web" in each for each in terminal.seen)
    assert "password" in terminal.seen[1]
    start = lab.last("session.start")
    assert start["who"]["sub"] == "ana"
    issued = [e for e in lab.entries("login") if "a device code shown by SSH" in json.dumps(e)]
    assert issued[-1]["who"]["sub"] == "ana"


@pytest.mark.parametrize("answer", ["no", "not a token"])
def test_who_says_no_or_pastes_nonsense_is_not_let_in(lab: Lab, answer: str) -> None:
    before = len(lab.entries("session.start"))
    with pytest.raises((asyncssh.PermissionDenied, asyncssh.ConnectionLost, asyncssh.DisconnectError)):
        asyncio.run(asyncio.wait_for(connect(lab, Terminal(answer)), PATIENCE))
    assert len(lab.entries("session.start")) == before
    refused = [e["login"] for e in lab.entries("login") if e["login"]["status"] == "denied" and e["login"].get("connection") == "web"]
    assert refused[-1]["reason"] == ("NO_TOKEN" if answer == "no" else "BAD_TOKEN")


def test_a_code_ends_with_the_connection_that_showed_it(lab: Lab) -> None:
    shown: list[str] = []

    class Leaves(Terminal):
        async def kbdint_challenge_received(self, name: str, instructions: str, lang: str, prompts: Any) -> list[str]:
            shown.append(instructions)
            raise asyncssh.PermissionDenied("away")

    with pytest.raises((asyncssh.Error, OSError)):
        asyncio.run(asyncio.wait_for(connect(lab, Leaves("")), PATIENCE))
    found = re.search(r"Open (\S+) and type (\S+)", shown[0])
    assert found is not None
    for _ in range(100):
        page = httpx.post(found[1], data={"user_code": found[2]}, trust_env=False)
        if page.status_code == 400:
            return
    raise AssertionError("the code is still good")
