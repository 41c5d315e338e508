"""A real person's login at a certified OpenID provider (npm `oidc-provider`), code flow with PKCE, is admitted."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import html
import re
import secrets
import time
from pathlib import Path
from urllib.parse import parse_qs, urljoin, urlsplit

import httpx
import pytest

from ostiary.api.words import COMMAND_LINE
from ostiary.identity.issuers import issuer_from
from ostiary.identity.oidc import Login
from ostiary.identity.standing import Standing
from ostiary.identity.verifier import Verifier
from ostiary.model.errors import NotAdmitted, Reason
from ostiary.testing.gateway import ISSUER, Gateway, gateway, target
from ostiary.testing.pgclient import ServerError


def through_the_pages(
    browser: httpx.Client, at: httpx.URL | str, user: str, ends: tuple[str, ...] = ("/cb",)
) -> dict[str, str]:
    """Go through the provider's pages as a browser would; what it sends back to the client."""
    answer = browser.get(at)
    for _ in range(20):
        if answer.is_redirect:
            at = urljoin(str(answer.url), answer.headers["location"])
            if urlsplit(at).path in ends:
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


# --- who has left ---


class Person:
    """Ana, who logs in at the gateway through the provider."""

    def __init__(self, gate: Gateway, name: str) -> None:
        self.gate, self.name = gate, name
        self.api = f"http://127.0.0.1:{gate.api_port}"

    def log_in(self) -> str:
        verifier = secrets.token_urlsafe(48)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        asked = {"response_type": "code", "client_id": COMMAND_LINE, "redirect_uri": "http://127.0.0.1:9/cb", "state": "s"}
        pkce = {"code_challenge": challenge, "code_challenge_method": "S256"}
        with httpx.Client(trust_env=False, timeout=20) as browser:
            at = httpx.URL(f"{self.api}/oauth/authorize", params=asked | pkce)
            back = through_the_pages(browser, at, self.name, ("/oauth/callback",))
            page = browser.get(f"{self.api}/oauth/callback", params=back)
            consent = re.search(r'name="consent" value="([^"]+)"', page.text)
            assert consent is not None, page.text
            said = browser.post(f"{self.api}/oauth/consent", data={"consent": consent[1], "answer": "yes"})
            (code,) = parse_qs(urlsplit(said.headers["location"]).query)["code"]
            form = {"grant_type": "authorization_code", "code": code, "code_verifier": verifier}
            given = browser.post(f"{self.api}/oauth/token", data=form | {k: asked[k] for k in ("client_id", "redirect_uri")})
        return str(given.json()["access_token"])


def test_who_has_left_at_the_provider_is_out_with_all_that_hangs_on_them_until_they_are_back(provider, postgres):
    table = {
        "issuer": provider, "audience": "ostiary", "discovery": True, "kind": "human", "algorithms": ["RS256"],
        "login_client_id": "ostiary", "login_check_seconds": 0.3,
    }  # fmt: skip
    policy = "permit (principal, action, resource);"
    with gateway(connections={"db": target(postgres)}, policy=policy, tables={"issuers": [table]}) as gate:
        ana, eve = Person(gate, "ana"), Person(gate, "eve")
        token, other = ana.log_in(), eve.log_in()
        details = '[{"type": "ostiary", "connections": ["db"], "actions": ["read"]}]'
        asked = {"to": "coder", "to_issuer": ISSUER, "authorization_details": details, "seconds": "7200"}
        bearer = {"authorization": f"Bearer {token}"}
        given = httpx.post(f"{ana.api}/v1/delegations", data=asked, headers=bearer, trust_env=False)
        assert given.status_code == 201, given.text
        with gate.connect("db", token=token) as hers, gate.connect("db", token=other) as theirs:
            httpx.post(f"{provider}/test/gone/ana", trust_env=False)
            try:
                told = hers.read_reply()
                assert told.closed
                assert "does not vouch" in told.errors[0]["M"]
                with pytest.raises(ServerError):
                    gate.connect("db", token=token)
                assert not theirs.query("SELECT 1").errors
            finally:
                httpx.post(f"{provider}/test/back/ana", trust_env=False)
        fresh = ana.log_in()
        with gate.connect("db", token=fresh) as again:
            assert not again.query("SELECT 1").errors
        bearer = {"authorization": f"Bearer {fresh}"}
        (held,) = httpx.get(f"{ana.api}/v1/delegations", headers=bearer, trust_env=False).json()["delegations"]
        assert (held["state"], "does not vouch" in held["why"]) == ("ended", True)
        said = [each["login"]["detail"] for each in gate.entries() if each["kind"] == "login" and "person." in each["login"].get("detail", "")]
        assert ["person.lost" in said[0], "ended 1 delegations" in said[0], "person.returned" in said[1]] == [True] * 3
        assert (Path(gate.state) / "control.db").stat().st_mode & 0o077 == 0
