"""A real person's login at a certified OpenID provider (npm `oidc-provider`), code flow with PKCE, is admitted."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import html
import re
import secrets
import shutil
import subprocess
import time
from pathlib import Path
from urllib.parse import parse_qs, urljoin, urlsplit

import httpx
import pytest

from ostiary.identity.issuers import issuer_from
from ostiary.identity.oidc import Login
from ostiary.identity.standing import Standing
from ostiary.identity.verifier import Verifier
from ostiary.model.errors import NotAdmitted, Reason

SCRIPT = Path(__file__).with_name("provider.mjs")
PACKAGE = "oidc-provider@9"


@pytest.fixture(scope="module")
def provider(tmp_path_factory):
    npm, node = shutil.which("npm"), shutil.which("node")
    if npm is None or node is None:
        pytest.skip("npm or node is not installed, and the provider is an npm package")
    folder = tmp_path_factory.mktemp("provider")
    install = [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefer-offline", PACKAGE]
    try:
        done = subprocess.run(install, cwd=folder, capture_output=True, text=True, timeout=90, check=False)
    except subprocess.TimeoutExpired:
        pytest.skip("npm did not install the provider within 90 s")
    if done.returncode != 0:
        pytest.skip(f"npm cannot install {PACKAGE}: no registry within reach")
    shutil.copy(SCRIPT, folder)
    with subprocess.Popen(
        [node, SCRIPT.name], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as running:
        assert running.stdout is not None
        yield running.stdout.readline().strip()
        running.terminate()


def through_the_pages(browser: httpx.Client, at: httpx.URL | str, user: str) -> dict[str, str]:
    """Go through the provider's pages as a browser would; what it sends back to the client."""
    answer = browser.get(at)
    for _ in range(20):
        if answer.is_redirect:
            at = urljoin(str(answer.url), answer.headers["location"])
            if urlsplit(at).path == "/cb":
                break
            answer = browser.get(at)
            continue
        assert answer.status_code == 200, answer.text
        action = re.search(r'<form[^>]*action="([^"]+)"', answer.text)
        assert action is not None, answer.text
        inputs = dict(re.findall(r'<input[^>]*name="(\w+)"[^>]*value="([^"]*)"', answer.text))
        filled = inputs | ({"login": user, "password": "any"} if inputs.get("prompt") == "login" else {})
        answer = browser.post(urljoin(str(answer.url), html.unescape(action[1])), data=filled)
    return {name: values[0] for name, values in parse_qs(urlsplit(str(at)).query).items()}


def log_in(issuer: str, client_id: str, user: str) -> str:
    """A login by a client of the test's own; the ID token."""
    verifier = secrets.token_urlsafe(48)
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    with httpx.Client(trust_env=False, timeout=20) as browser:
        at = httpx.URL(
            f"{issuer}/auth",
            params={
                "client_id": client_id,
                "response_type": "code",
                "redirect_uri": "http://127.0.0.1/cb",
                "scope": "openid profile email groups",
                "code_challenge": challenge,
                "code_challenge_method": "S256",
                "state": "s",
            },
        )
        form = {
            "grant_type": "authorization_code",
            "code": through_the_pages(browser, at, user)["code"],
            "client_id": client_id,
            "redirect_uri": "http://127.0.0.1/cb",
            "code_verifier": verifier,
        }
        return browser.post(f"{issuer}/token", data=form).json()["id_token"]


def verifier_for(provider: str, tmp_path: Path, **over: object) -> Verifier:
    table = {"issuer": provider, "audience": "ostiary", "kind": "human", "algorithms": ["RS256", "ES256"], **over}
    return Verifier([issuer_from(table)], gateway=None, standing=Standing())


@pytest.mark.parametrize("client", ["ostiary", "ostiary-es"])
def test_a_login_at_a_certified_provider_is_admitted(provider, tmp_path, client):
    token = log_in(provider, client, "ana")
    proved = asyncio.run(verifier_for(provider, tmp_path, audience=client).verify_token(token, time.time()))
    who = proved.identity
    assert (who.issuer, who.subject, who.name, who.email) == (provider, "ana", "Ana Souza", "ana@shop.example")
    assert who.groups == {"support"}


def test_a_login_for_another_application_is_refused(provider, tmp_path):
    token = log_in(provider, "other-app", "ana")
    with pytest.raises(NotAdmitted) as caught:
        asyncio.run(verifier_for(provider, tmp_path).verify_token(token, time.time()))
    assert caught.value.reason is Reason.WRONG_AUDIENCE


def test_our_own_login_goes_through_a_certified_provider_and_its_code_is_good_once(provider, tmp_path):
    table = {"issuer": provider, "audience": "ostiary", "kind": "human", "algorithms": ["RS256"]}
    issuer = issuer_from(table)
    tokens = verifier_for(provider, tmp_path).issuers[provider]
    login = Login(
        issuer, tokens, client_id="ostiary", client_secret=lambda: None, scopes=("openid", "profile", "email", "groups")
    )

    async def go() -> None:
        url, attempt = await login.begin("http://127.0.0.1/cb")
        with httpx.Client(trust_env=False, timeout=20) as browser:
            back = through_the_pages(browser, url, "ana")
        assert (back["state"], back["iss"]) == (attempt.state, provider)
        who = (await login.finish(attempt, back["code"], back["iss"], time.time())).proved.identity
        assert (who.subject, who.email, who.groups) == ("ana", "ana@shop.example", {"support"})
        with pytest.raises(NotAdmitted):
            await login.finish(attempt, back["code"], back["iss"], time.time())
        _, another = await login.begin("http://127.0.0.1/cb")
        with httpx.Client(trust_env=False, timeout=20) as browser:
            stolen = through_the_pages(browser, url, "ana")
        with pytest.raises(NotAdmitted):
            await login.finish(another, stolen["code"], None, time.time())

    asyncio.run(go())
