"""SAML in a real browser, with an identity provider of somebody else's: pysaml2 builds the answers, xmlsec1 signs them, Chromium carries them."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import re
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlencode

import httpx
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from playwright.sync_api import Browser, Page, expect, sync_playwright

from ostiary.cli.loopback import Ear
from ostiary.testing.gateway import Gateway, gateway, target
from ostiary.testing.peers import free_port
from tests.identity.saml_idp import new_certificate
from tests.identity.test_browser import redeem
from tests.identity.test_story import Agent

POLICY = """
@id("staff") permit (principal in Ostiary::Group::"staff", action, resource);
"""
expect.set_options(timeout=30_000)
SERVER = Path(__file__).with_name("saml_server.py")


class World(NamedTuple):
    gate: Gateway
    browser: Browser
    ear: Ear
    coder: Agent
    provider: str


@pytest.fixture(scope="module")
def world(postgres, tmp_path_factory) -> Iterator[World]:
    chromium = shutil.which("chromium")
    if chromium is None or shutil.which("xmlsec1") is None:
        pytest.skip("chromium or xmlsec1 is not installed: apt-get install chromium xmlsec1")
    folder: Path = tmp_path_factory.mktemp("saml-idp")
    key, certificate = new_certificate("localhost")
    (folder / "idp.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    (folder / "idp.key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    port = free_port()
    coder = Agent(folder, "agent:coder")
    provider = f"http://localhost:{port}"  # another site than ours, so that a browser treats what it posts as another's
    saml = {
        "issuer": f"{provider}/metadata", "sso_url": f"{provider}/sso", "cert_file": str(folder / "idp.pem"),
        "name_attribute": "urn:oid:2.16.840.1.113730.3.1.241", "email_attribute": "urn:oid:0.9.2342.19200300.100.1.3",
        "groups_attribute": "urn:oid:1.3.6.1.4.1.5923.1.1.1.1",
    }  # fmt: skip
    with Ear() as ear:
        client = {"id": coder.name, "name": "Coding agent", "jwks_file": str(coder.file), "redirect_uris": [ear.url]}
        with gateway(connections={"shop": target(postgres)}, policy=POLICY, tables={"saml": [saml], "clients": [client]}) as gate:
            metadata = httpx.get(f"http://127.0.0.1:{gate.api_port}/saml/metadata", trust_env=False)
            (folder / "sp.xml").write_bytes(metadata.content)
            command = [sys.executable, str(SERVER), str(folder), str(port)]
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running, sync_playwright() as engine:
                assert running.stdout is not None
                assert running.stdout.readline().strip() == "ready"
                # As root Chromium runs only without its sandbox; the pages are the test's own.
                browser = engine.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
                yield World(gate, browser, ear, coder, provider)
                browser.close()
                running.terminate()


@pytest.fixture
def page(world: World) -> Iterator[Page]:
    """A browser without cookies, which must not be told off by our own content policy."""
    context = world.browser.new_context()
    made = context.new_page()
    errors: list[str] = []
    made.on("console", lambda said: errors.append(said.text) if said.type == "error" else None)
    yield made
    context.close()
    assert not [each for each in errors if "favicon" not in each and f":{world.gate.api_port}" in each]


def sign_in(page: Page, name: str) -> None:
    """Through the provider's page, whose script posts the answer, up to ours."""
    expect(page.get_by_role("heading")).to_have_text("Sign in")
    page.fill("input[name=who]", name)
    page.click("button")
    expect(page.get_by_role("heading")).to_contain_text("May it")


@contextlib.contextmanager
def command(world: World, *more: str) -> Iterator[subprocess.Popen[str]]:
    """`ostiary login`, which is not waited for where the test has failed."""
    line = [sys.executable, "-m", "ostiary.cli.main", "login", *more, "-c", str(world.gate.config)]
    with subprocess.Popen(line, env=world.gate.environment, stderr=subprocess.PIPE, text=True) as running:
        try:
            yield running
        finally:
            running.kill()


def entries(world: World, kind: str) -> list[dict]:
    return [entry for entry in world.gate.entries() if entry["kind"] == kind]


def test_a_person_logs_in_by_the_command_line(world: World, page: Page) -> None:
    with command(world, "--no-browser") as running:
        assert running.stderr is not None
        where = re.search(r"go to (\S+)", running.stderr.readline())
        assert where is not None
        page.goto(where[1])
        sign_in(page, "ana")
        expect(page.locator("dl")).to_contain_text(f"Ana (ana at {world.provider}/metadata)")
        page.click("button[value=yes]")
        page.wait_for_url("http://127.0.0.1:*/callback*")
        assert running.wait(30) == 0, running.stderr.read()
    said = json.loads(world.gate.run("whoami", "-o", "json").stdout)
    assert (said["subject"], said["issuer"], sorted(said["groups"])) == ("ana", f"{world.provider}/metadata", ["member", "staff"])
    connected = world.gate.run("connect", "shop", "--", "psql", "-X", "-A", "-t", "-c", "SELECT 7")
    assert connected.stdout.strip() == "7", connected.stderr
    start = entries(world, "session.start")[-1]
    assert (start["who"]["iss"], start["who"]["sub"], start["who"]["name"]) == (f"{world.provider}/metadata", "ana", "Ana")
    assert world.gate.run("logout").returncode == 0
    assert world.gate.run("whoami").returncode != 0


def test_a_person_logs_a_device_in(world: World, page: Page) -> None:
    with command(world, "--device") as running:
        assert running.stderr is not None
        told = re.search(r"open (\S+) in a browser and type (\S+)", running.stderr.readline())
        assert told is not None
        page.goto(told[1])
        page.fill("input[name=user_code]", "BBBB-BBBB")
        page.click("button")
        expect(page.locator("main")).to_contain_text("There is no such code")
        page.goto(told[1])
        page.fill("input[name=user_code]", told[2].lower())
        page.click("button")
        sign_in(page, "bob")
        expect(page.locator("main")).to_contain_text("Say yes only if the device that asks is before you")
        page.click("button[value=yes]")
        expect(page.get_by_role("heading")).to_have_text("Done")
        assert running.wait(30) == 0, running.stderr.read()
    assert json.loads(world.gate.run("whoami", "-o", "json").stdout)["subject"] == "bob"
    assert world.gate.run("logout").returncode == 0


def authorize(world: World, verifier: str, state: str) -> str:
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    details = [{"type": "ostiary", "connections": ["shop"], "actions": ["connect", "read"]}]
    asked = {"response_type": "code", "client_id": world.coder.name, "redirect_uri": world.ear.url, "state": state}
    asked |= {"code_challenge": challenge, "code_challenge_method": "S256", "authorization_details": json.dumps(details)}
    return f"http://127.0.0.1:{world.gate.api_port}/oauth/authorize?{urlencode(asked)}"


@pytest.mark.parametrize("answer", ["no", "yes"])
def test_a_person_lets_an_agent_act_for_them_or_not(world: World, page: Page, answer: str) -> None:
    verifier, state = secrets.token_urlsafe(48), secrets.token_urlsafe(8)
    page.goto(authorize(world, verifier, state))
    sign_in(page, "ana")
    for shown in ("Coding agent (agent:coder)", "shop", "connect, read", "60 minutes"):
        expect(page.locator("dl")).to_contain_text(shown)
    page.click(f"button[value={answer}]")
    page.wait_for_url(f"{world.ear.url}*")
    heard = world.ear.wait(10, state)
    if answer == "no":
        assert (heard["error"], "code" in heard) == ("access_denied", False)
        return
    proof = world.coder.proof(f"http://127.0.0.1:{world.gate.api_port}")
    given = redeem(world.gate, heard["code"], world.ear.url, verifier, client_id=world.coder.name, **proof)
    with world.gate.connect("shop", token=given["access_token"]) as session:
        assert not session.query("select 1").is_refused
    start = entries(world, "session.start")[-1]
    assert (start["who"]["sub"], [each["sub"] for each in start["who"]["act"]]) == ("ana", [world.coder.name])


def test_an_answer_of_the_provider_finishes_a_login_only_in_the_browser_that_began_it(world: World, page: Page) -> None:
    """Whoever sends somebody the answer to a login of their own would have them act as another: it ends at our door."""
    page.goto(authorize(world, secrets.token_urlsafe(48), "s"))
    expect(page.get_by_role("heading")).to_have_text("Sign in")
    form = {each: page.locator(f"input[name={each}]").input_value() for each in ("SAMLRequest", "RelayState")}
    answered = httpx.post(f"{world.provider}/login", data=form | {"who": "mallory"}, trust_env=False).text
    other = world.browser.new_context()
    try:
        theirs = other.new_page()
        theirs.set_content(answered)  # the form that the provider made posts itself
        expect(theirs.locator("main")).to_contain_text("was not begun in this browser")
    finally:
        other.close()
    # It is used up all the same: the browser that began cannot be finished with it any more.
    page.set_content(answered)
    expect(page.locator("main")).to_contain_text("was not begun in this browser")


def test_a_provider_that_is_not_the_one_configured_lets_nobody_in(world: World, page: Page, tmp_path: Path) -> None:
    """The same software, the same name, another key."""
    key, certificate = new_certificate("localhost")
    (tmp_path / "idp.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    (tmp_path / "idp.key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    metadata = httpx.get(f"http://127.0.0.1:{world.gate.api_port}/saml/metadata", trust_env=False)
    (tmp_path / "sp.xml").write_bytes(metadata.content)
    port = free_port()
    line = [sys.executable, str(SERVER), str(tmp_path), str(port), world.provider]
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        assert running.stdout.readline().strip() == "ready"
        page.goto(authorize(world, secrets.token_urlsafe(48), "s"))
        form = {each: page.locator(f"input[name={each}]").input_value() for each in ("SAMLRequest", "RelayState")}
        answered = httpx.post(f"http://localhost:{port}/login", data=form | {"who": "ana"}, trust_env=False).text
        running.terminate()
    page.set_content(answered)
    expect(page.locator("main")).to_contain_text("The login was not accepted")
    refused = [entry["login"] for entry in entries(world, "login") if entry["login"].get("reason") == "BAD_TOKEN"]
    assert "signature does not hold" in refused[-1]["detail"]
