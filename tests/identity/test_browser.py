"""A real browser (Debian's Chromium) at the pages: what scripts, cookies and content policies do to a login shows only there."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from ostiary.cli.loopback import Ear
from ostiary.testing.gateway import Gateway, gateway, target
from tests.identity.test_story import Agent

POLICY = "permit (principal, action, resource);"


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    found = shutil.which("chromium")
    if found is None:
        pytest.skip("chromium is not installed: apt-get install chromium")
    with sync_playwright() as engine:
        # As root Chromium runs only without its sandbox; the pages are the test's own.
        browser = engine.chromium.launch(executable_path=found, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


def log_in(page: Page, at: str, name: str) -> None:
    """Through the provider's pages, as far as ours."""
    page.goto(at)
    if page.locator("input[name=login]").count():
        page.fill("input[name=login]", name)
        page.fill("input[name=password]", "any")
        page.click("button[type=submit]")
    if page.locator("button[autofocus], button[type=submit]").filter(has_text="Continue").count():
        page.get_by_text("Continue").click()
    expect(page.get_by_role("heading")).to_contain_text("May it")


def redeem(gate: Gateway, code: str, redirect: str, verifier: str, **more: str) -> dict[str, str]:
    form = {"grant_type": "authorization_code", "code": code, "redirect_uri": redirect, "code_verifier": verifier}
    url = f"http://127.0.0.1:{gate.api_port}/oauth/token"
    found: dict[str, str] = httpx.post(url, data=form | more, trust_env=False).json()
    return found


def test_a_person_logs_in_and_gives_an_agent_less_than_they_have(provider: str, postgres, chromium: Browser, tmp_path: Path) -> None:
    coder = Agent(tmp_path, "agent:coder")
    issuer = {
        "issuer": provider, "audience": "ostiary", "discovery": True, "algorithms": ["RS256"], "login_client_id": "ostiary",
        "login_scopes": ["openid", "profile", "groups"],
    }  # fmt: skip
    with Ear() as ear:
        client = {"id": coder.name, "name": "Coding agent", "jwks_file": str(coder.file), "redirect_uris": [ear.url]}
        tables = {"issuers": [issuer], "clients": [client]}
        with gateway(connections={"shop": target(postgres)}, policy=POLICY, tables=tables) as gate:
            page = chromium.new_page()
            errors: list[str] = []
            page.on("console", lambda said: errors.append(said.text) if said.type == "error" else None)
            _command_line(gate, page)
            _delegation(gate, page, ear, coder)
            ours = [each for each in errors if "favicon" not in each and f":{gate.api_port}" in each]
            assert not ours


def _command_line(gate: Gateway, page: Page) -> None:
    """`ostiary login`, with the browser that a person has."""
    command = [sys.executable, "-m", "ostiary.cli.main", "login", "--no-browser", "-c", str(gate.config)]
    with subprocess.Popen(command, env=gate.environment, stderr=subprocess.PIPE, text=True) as running:
        assert running.stderr is not None
        where = re.search(r"go to (\S+)", running.stderr.readline())
        assert where is not None
        log_in(page, where[1], "ana")
        expect(page.locator("dl")).to_contain_text("Ana Souza (ana at")
        page.click("button[value=yes]")
        page.wait_for_url("http://127.0.0.1:*/callback*")
        assert running.wait(30) == 0, running.stderr.read()
    said = gate.run("whoami", "-c", str(gate.config))
    assert "Ana Souza" in said.stdout, said.stderr
    assert gate.run("logout", "-c", str(gate.config)).returncode == 0
    assert gate.run("whoami", "-c", str(gate.config)).returncode != 0


def _delegation(gate: Gateway, page: Page, ear: Ear, coder: Agent) -> None:
    """An agent asks; the page says for what; a no gives nothing, a yes a token that says both."""
    details = [{"type": "ostiary", "connections": ["shop"], "actions": ["read"], "effects": {"calls": 5}}]
    for answer in ("no", "yes"):
        verifier, state = secrets.token_urlsafe(48), secrets.token_urlsafe(8)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        asked = {"response_type": "code", "client_id": coder.name, "redirect_uri": ear.url, "state": state}
        asked |= {"code_challenge": challenge, "code_challenge_method": "S256", "authorization_details": json.dumps(details)}
        log_in(page, f"http://127.0.0.1:{gate.api_port}/oauth/authorize?{urlencode(asked)}", "ana")
        for shown in ("Coding agent (agent:coder)", "shop", "read", "5 calls", "60 minutes"):
            expect(page.locator("dl")).to_contain_text(shown)
        page.click(f"button[value={answer}]")
        page.wait_for_url(f"{ear.url}*")
        heard = ear.wait(10, state)
        assert ("code" in heard, parse_qs(urlsplit(page.url).query)["state"]) == (answer == "yes", [state])
    api = f"http://127.0.0.1:{gate.api_port}"
    given = redeem(gate, heard["code"], ear.url, verifier, client_id=coder.name, **coder.proof(api))
    with gate.connect("shop", token=given["access_token"]) as client:
        assert not client.query("SELECT 1").errors
        assert client.query("CREATE TABLE nobody_may (id int)").is_refused
    start = [each for each in gate.entries() if each["kind"] == "session.start"][-1]
    assert (start["who"]["name"], [each["sub"] for each in start["who"]["act"]]) == ("Ana Souza", [coder.name])
