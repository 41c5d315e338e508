"""A person logs in at their own issuer, says yes to one client, and nobody else gets anything of it."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import hashlib
import html
import json
import re
import secrets
import time
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx
import pytest
from prometheus_client import CollectorRegistry

from ostiary.api.app import create_app
from ostiary.api.deps import Deps
from ostiary.api.logins import MAX_WRONG, PENDING_SECONDS
from ostiary.api.words import CODE, COMMAND_LINE, DEVICE_CODE
from ostiary.identity.clients import Clients
from ostiary.identity.dpop import KeyProofs, make_proof
from ostiary.identity.issuers import issuer_from
from ostiary.identity.jwks import cache_for
from ostiary.identity.oidc import Login
from ostiary.identity.tokens import IssuerTokens
from ostiary.model.errors import LogFailed, NotAdmitted, Reason
from ostiary.testing.issuer import LocalIssuer, new_key
from tests.api.conftest import Agent, Door

BACK = "http://127.0.0.1:51234/callback"
READ = [{"type": "ostiary", "connections": ["orders-db"], "actions": ["connect", "read"]}]


@pytest.fixture
def world(make_door, tmp_path: Path):
    """A door at which Ana can log in, and an agent that may ask her in the browser."""
    coder = Agent(tmp_path, "agent:coder", redirects=("https://agent.example/cb",))
    door = make_door(coder)
    table = {"issuer": door.idp.issuer, "audience": "our-client", "kind": "human", "algorithms": ["EdDSA"]}
    issuer = issuer_from(table)
    tokens = IssuerTokens(issuer, cache_for(issuer))
    login = Login(issuer, tokens, client_id="our-client", client_secret=lambda: None, scopes=("openid",))
    door.more["logins"] = (login,)
    fresh = Door.__new__(Door)
    fresh.__dict__.update(door.__dict__)
    kept = {name: getattr(door.deps, name) for name in Deps.__dataclass_fields__}
    door.deps = Deps(**kept | {"logins": (login,), "registry": CollectorRegistry()})
    door.app = create_app(door.deps)
    return door, coder


@pytest.fixture
def two_issuers(world):
    """The same door, at which people of another issuer can log in too."""
    door, _ = world
    with LocalIssuer() as other:
        issuer = issuer_from({"issuer": other.issuer, "audience": "our-client", "kind": "human", "algorithms": ["EdDSA"]})
        second = Login(issuer, IssuerTokens(issuer, cache_for(issuer)), client_id="our-client", client_secret=lambda: None, scopes=("openid",))
        door.deps = dataclasses.replace(door.deps, logins=(*door.deps.logins, second), registry=CollectorRegistry())
        door.app = create_app(door.deps)
        yield door, other


class Browser:
    """A browser: follows redirects between the gateway and the issuer, and keeps cookies."""

    def __init__(self, door: Door) -> None:
        self.door = door
        self.cookies = httpx.Cookies()

    def get(self, url: str) -> httpx.Response:
        parts = urlsplit(url)
        if parts.netloc in ("", "gw1.example"):
            path = parts.path + (f"?{parts.query}" if parts.query else "")
            return self._keep(self.door.send("GET", path, headers=self._cookie()))
        return httpx.get(url, follow_redirects=False, trust_env=False)

    def post(self, path: str, **form) -> httpx.Response:
        return self._keep(self.door.send("POST", path, data=form, headers=self._cookie()))

    def follow(self, response: httpx.Response) -> httpx.Response:
        """As far as a page, or an address that is neither the gateway's nor the issuer's."""
        while response.is_redirect:
            to = response.headers["location"]
            if urlsplit(to).netloc not in ("", "gw1.example", urlsplit(self.door.idp.issuer).netloc):
                return response
            response = self.get(to)
        return response

    def _cookie(self) -> dict[str, str]:
        return {"cookie": "; ".join(f"{k}={v}" for k, v in self.cookies.items())} if len(self.cookies) else {}

    def _keep(self, response: httpx.Response) -> httpx.Response:
        found = re.match(r"__Host-ostiary_login=([^;]+)", response.headers.get("set-cookie", ""))
        if found:
            self.cookies = httpx.Cookies({"__Host-ostiary_login": found[1]})
        return response


class Program:
    """A client that asks for a login: PKCE and state of its own."""

    def __init__(self, client: str = COMMAND_LINE, redirect_uri: str = BACK, **more: str) -> None:
        self.client, self.redirect_uri = client, redirect_uri
        self.verifier, self.state = secrets.token_urlsafe(48), secrets.token_urlsafe(8)
        digest = hashlib.sha256(self.verifier.encode()).digest()
        self.query = {
            "response_type": "code",
            "client_id": client,
            "redirect_uri": redirect_uri,
            "state": self.state,
            "code_challenge": base64.urlsafe_b64encode(digest).rstrip(b"=").decode(),
            "code_challenge_method": "S256",
            **more,
        }

    def url(self, **over: str | None) -> str:
        return "/oauth/authorize?" + urlencode({k: v for k, v in (self.query | over).items() if v is not None})

    def form(self, good: str, **over: str) -> dict[str, str]:
        mine = {"grant_type": CODE, "code": good, "client_id": self.client, "redirect_uri": self.redirect_uri}
        return mine | {"code_verifier": self.verifier} | over


def consent_of(page: httpx.Response) -> str:
    assert page.status_code == 200, page.text
    return re.search(r'name="consent" value="([^"]+)"', page.text)[1]


def logged_in(door: Door, program: Program, answer: str = "yes") -> dict[str, str]:
    browser = Browser(door)
    page = browser.follow(browser.get(program.url()))
    back = browser.post("/oauth/consent", consent=consent_of(page), answer=answer)
    assert back.is_redirect, back.text
    assert back.headers["location"].startswith(program.redirect_uri)
    found = {name: values[0] for name, values in parse_qs(urlsplit(back.headers["location"]).query).items()}
    assert found["state"] == program.state
    assert found["iss"] == "https://gw1.example"
    return found


def redeem(door: Door, form: dict[str, str], **more) -> httpx.Response:
    return door.send("POST", "/oauth/token", data=form, **more)


def test_who_may_be_of_several_issuers_is_asked_which_and_goes_to_that_one(two_issuers):
    door, other = two_issuers
    browser, program = Browser(door), Program()
    page = browser.get(program.url())
    assert (page.status_code, page.text.count("<li>")) == (200, 2)
    address = html.unescape(re.search(rf'href="([^"]+)">{re.escape(other.issuer)}<', page.text)[1])
    for chosen in (address, program.url(issuer=other.issuer)):
        to = browser.get(chosen)
        assert to.headers["location"].startswith(other.issuer + "/")
    assert browser.get(program.url(issuer="https://nobody.example")).status_code == 400


def test_the_command_line_gets_the_persons_own_token(world):
    door, _ = world
    program = Program()
    code = logged_in(door, program)["code"]
    answer = redeem(door, program.form(code))
    assert answer.status_code == 200, answer.text
    who = door.identity(answer.json()["access_token"])
    assert (who.subject, who.name, who.acting) == ("ana", "Ana Souza", ())
    assert [event.action for event in door.events] == ["login", "consent", "token.login"]


def test_an_agent_gets_what_the_person_was_shown_and_no_more(world):
    door, coder = world
    program = Program(coder.name, "https://agent.example/cb", authorization_details=json.dumps(READ), expires_in="600")
    browser = Browser(door)
    page = browser.follow(browser.get(program.url()))
    for word in ("Ana Souza", "agent:coder", "orders-db", "connect, read", "10 minutes"):
        assert word in page.text
    program = Program(coder.name, "https://agent.example/cb", authorization_details=json.dumps(READ), expires_in="600")
    code = logged_in(door, program)["code"]
    assert redeem(door, program.form(code)).json()["error"] == "invalid_client", "an agent proves itself"
    answer = redeem(door, program.form(code) | coder.proof())
    who = door.identity(answer.json()["access_token"])
    assert (who.subject, [a.sub for a in who.acting]) == ("ana", ["agent:coder"])
    assert (who.mandate.connections, who.mandate.actions) == (("orders-db",), ("connect", "read"))
    token = door.token()
    listed = door.send("GET", "/v1/delegations", headers={"authorization": f"Bearer {token}"}).json()["delegations"]
    assert [one["to_sub"] for one in listed] == ["agent:coder"]


def test_an_agent_that_says_not_what_it_needs_is_sent_back(world):
    door, coder = world
    program = Program(coder.name, "https://agent.example/cb")
    back = Browser(door).get(program.url())
    assert "error=invalid_authorization_details" in back.headers["location"]


def test_a_no_is_a_no(world):
    door, _ = world
    found = logged_in(door, Program(), answer="no")
    assert found["error"] == "access_denied"
    assert "code" not in found
    assert door.events[-1].reason is Reason.NOT_PERMITTED


@pytest.mark.parametrize(
    "over",
    [
        {"code_verifier": "x" * 43},
        {"code_verifier": ""},
        {"redirect_uri": "http://127.0.0.1:9/other"},
        {"redirect_uri": ""},
        {"client_id": "agent:coder"},
        {"client_id": ""},
        {"code": "guessed"},
    ],
)
def test_a_code_is_good_only_with_its_verifier_client_and_address(world, over):
    door, _ = world
    program = Program()
    code = logged_in(door, program)["code"]
    assert "access_token" not in redeem(door, program.form(code, **over)).json()


def test_a_code_is_good_once_and_for_a_minute(world):
    door, _ = world
    program = Program()
    code = logged_in(door, program)["code"]
    assert redeem(door, program.form(code)).status_code == 200
    assert redeem(door, program.form(code)).json()["error"] == "invalid_grant"
    code = logged_in(door, program)["code"]
    object.__setattr__(door.deps, "clock", lambda: time.time() + 61)
    assert redeem(door, program.form(code)).json()["error"] == "invalid_grant"


@pytest.mark.parametrize(
    "over",
    [
        {"code_challenge": None},
        {"code_challenge": "short"},
        {"code_challenge_method": "plain"},
        {"code_challenge_method": None},
        {"response_type": "token"},
        {"scope": "admin"},
        {"authorization_details": "{}"},
        {"expires_in": "-1"},
    ],
)
def test_a_request_that_is_not_whole_goes_back_with_an_error(world, over):
    door, _ = world
    back = Browser(door).get(Program().url(**over))
    assert back.is_redirect
    assert "error=" in back.headers["location"]


@pytest.mark.parametrize(
    "over",
    [
        {"redirect_uri": "https://evil.example/cb"},
        {"redirect_uri": "http://127.0.0.1.evil.example/cb"},
        {"redirect_uri": "http://localhost:1/cb"},
        {"redirect_uri": "http://user@127.0.0.1/cb"},
        {"redirect_uri": "http://127.0.0.1:1/cb#f"},
        {"redirect_uri": "javascript:alert(1)"},
        {"redirect_uri": "http://[::1%25; frame-ancestors *]:1/cb"},
        {"redirect_uri": "http://[::1%; script-src *]/cb"},
        {"redirect_uri": "http://127.0.0.1;script-src/cb"},
        {"redirect_uri": "http://127.0.0.1:1 *;/cb"},
        {"redirect_uri": "http://127.0.0.1:1/cb\r\nx: y"},
        {"redirect_uri": "http://127.0.0.1:\t1/cb"},
        {"redirect_uri": "http://127.0.0.1:99999/cb"},
        {"redirect_uri": "http://127.0.0.1:1/cb\\@evil.example"},
        {"redirect_uri": "http://2130706433:1/cb"},
        {"redirect_uri": "http://[::ffff:127.0.0.1]:1/cb"},
        {"redirect_uri": "http://10.0.0.1:1/cb"},
        {"redirect_uri": None},
        {"client_id": "nobody"},
        {"client_id": "agent:coder"},
        {"client_id": "agent:coder", "redirect_uri": "https://agent.example/cb/../other"},
    ],
)
def test_nobody_is_sent_to_an_address_that_is_not_the_clients(world, over):
    door, _ = world
    answer = Browser(door).get(Program().url(**over))
    assert answer.status_code == 400
    assert "location" not in answer.headers


@pytest.mark.parametrize("back", [BACK, "http://[::1]:1/cb", "http://127.8.9.1", "http://127.0.0.1/a;b=c"])
def test_the_page_that_asks_is_framed_by_nobody_and_its_policy_says_no_more_than_ours(world, back):
    door, _ = world
    browser = Browser(door)
    page = browser.follow(browser.get(Program(redirect_uri=back).url()))
    consent_of(page)
    assert page.headers["x-frame-options"] == "DENY"
    said = [each.split() for each in page.headers["content-security-policy"].split(";")]
    parts = urlsplit(back)
    assert [(each[0], each[1:]) for each in said if each[0] != "style-src"] == [
        ("default-src", ["'none'"]), ("form-action", ["'self'", f"{parts.scheme}://{parts.netloc}"]), ("frame-ancestors", ["'none'"]),
        ("base-uri", ["'none'"]),
    ]  # fmt: skip


def test_the_page_for_a_devices_code_lets_its_form_lead_to_the_issuer(world):
    """Chromium holds redirects behind a form to `form-action`, and where the issuer sends a person on to is not known."""
    door, _ = world
    said = Browser(door).get("/device").headers["content-security-policy"]
    assert "form-action" not in said
    assert "default-src 'none'" in said
    assert "frame-ancestors 'none'" in said


def test_no_other_host_of_the_domain_can_have_set_the_cookie_of_a_login(world):
    """Who plants their own cookie, and sends the person on with their own login, would have them finish it."""
    door, _ = world
    mine = Browser(door)
    to_issuer = mine.get(Program().url())
    (shown,) = to_issuer.headers.get_list("set-cookie")
    said = {part.strip().lower() for part in shown.split(";")[1:]}
    assert shown.startswith("__Host-")
    assert {"secure", "httponly", "path=/", "samesite=lax"} <= said
    assert not any(part.startswith("domain") for part in said)
    back = httpx.get(to_issuer.headers["location"], follow_redirects=False, trust_env=False).headers["location"]
    planted = Browser(door)
    planted.cookies = httpx.Cookies({"ostiary_login": mine.cookies["__Host-ostiary_login"]})
    assert planted.get(back).status_code == 400


def test_a_response_that_leaves_out_the_issuer_is_refused_where_issuers_name_it(world):
    """RFC 9207, 2.4: another issuer's response must not be taken for this one's (mix-up)."""
    door, _ = world
    address = "/.well-known/openid-configuration"
    found = json.loads(door.idp.respond(address)[1]) | {"authorization_response_iss_parameter_supported": True}
    door.idp.documents[address] = json.dumps(found).encode()
    for named, status in ((None, 403), ("https://evil.example", 403), (door.idp.issuer, 200)):
        browser = Browser(door)
        to_issuer = browser.get(Program().url()).headers["location"]
        back = httpx.get(to_issuer, follow_redirects=False, trust_env=False).headers["location"]
        back = back.partition("&iss=")[0]
        assert browser.get(back + ("" if named is None else f"&{urlencode({'iss': named})}")).status_code == status
    assert [event.reason for event in door.events if event.action == "login"] == [Reason.BAD_TOKEN, Reason.BAD_TOKEN, None]


def test_a_login_is_finished_in_the_browser_that_began_it(world):
    door, _ = world
    mine, other = Browser(door), Browser(door)
    to_issuer = mine.get(Program().url())
    back = httpx.get(to_issuer.headers["location"], follow_redirects=False, trust_env=False).headers["location"]
    assert other.get(back).status_code == 400
    page = mine.follow(mine.get(Program().url()))
    token = consent_of(page)
    assert other.post("/oauth/consent", consent=token, answer="yes").status_code == 400
    assert mine.post("/oauth/consent", consent=token, answer="yes").status_code == 400, "one try"


def test_a_login_that_cannot_be_begun_is_on_record(world):
    door, _ = world
    (login,) = door.deps.logins
    login.issuer = "http://127.0.0.1:1"
    assert Browser(door).get(Program().url()).status_code == 503
    assert (door.events[-1].action, door.events[-1].reason) == ("login", Reason.ISSUER_UNREACHABLE)


def test_a_login_whose_person_cannot_be_let_in_again_on_record_did_not_happen(world):
    door, _ = world

    async def returned(_: object) -> None:
        raise LogFailed("disk full")

    object.__setattr__(door.deps, "returned", returned)
    page = Browser(door)
    page = page.follow(page.get(Program().url()))
    assert (page.status_code, "did not happen" in page.text) == (503, True)


def test_a_state_is_good_once(world):
    door, _ = world
    browser = Browser(door)
    to_issuer = browser.get(Program().url())
    back = httpx.get(to_issuer.headers["location"], follow_redirects=False, trust_env=False).headers["location"]
    assert browser.get(back).status_code == 200
    assert browser.get(back).status_code == 400
    assert browser.get("/oauth/callback?state=guessed&code=c").status_code == 400


@pytest.mark.parametrize(
    "over",
    [{"nonce": "another"}, {"nonce": None}, {"aud": "other-app"}, {"exp": 1}, {"iss": "https://evil"}, {"sub": ""}],
)
def test_an_id_token_of_another_login_is_refused_and_on_record(world, over):
    door, _ = world
    door.idp.over = over
    browser = Browser(door)
    page = browser.follow(browser.get(Program().url()))
    assert page.status_code == 403
    assert door.events[-1].reason is not None
    assert 'name="consent"' not in page.text


def test_the_response_of_another_issuer_is_refused(world):
    door, _ = world
    browser = Browser(door)
    to_issuer = browser.get(Program().url())
    back = httpx.get(to_issuer.headers["location"], follow_redirects=False, trust_env=False).headers["location"]
    mixed = re.sub(r"iss=[^&]+", "iss=https%3A%2F%2Fevil.example", back)
    assert browser.get(mixed).status_code == 403
    assert door.events[-1].reason is Reason.BAD_TOKEN


def test_pages_hold_no_script_no_frame_and_nothing_unescaped(world):
    door, _ = world
    door.idp.person = {"sub": "eve", "name": "<script>alert(1)</script>"}
    browser = Browser(door)
    page = browser.follow(browser.get(Program().url()))
    assert "<script" not in page.text
    assert "&lt;script&gt;" in page.text
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert page.headers["cache-control"] == "no-store"


# --- the device flow ---


def begun(door: Door, client: str = COMMAND_LINE, **form) -> dict:
    answer = door.send("POST", "/oauth/device_authorization", data={"client_id": client, **form})
    assert answer.status_code == 200, answer.text
    return answer.json()


def polled(door: Door, device: dict, client: str = COMMAND_LINE, **form) -> dict:
    data = {"grant_type": DEVICE_CODE, "device_code": device["device_code"], "client_id": client, **form}
    return door.send("POST", "/oauth/token", data=data).json()


def test_a_device_gets_a_token_when_the_person_typed_its_code_and_said_yes(world):
    door, _ = world
    device = begun(door)
    assert polled(door, device)["error"] == "authorization_pending"
    assert polled(door, device)["error"] == "slow_down"
    browser = Browser(door)
    shown = browser.get("/device?user_code=" + device["user_code"])
    assert device["user_code"] in shown.text
    page = browser.follow(browser.post("/device", user_code=device["user_code"].lower()))
    assert "Say yes only if the device that asks is before you" in page.text
    assert browser.post("/oauth/consent", consent=consent_of(page), answer="yes").status_code == 200
    assert door.identity(polled(door, device)["access_token"]).subject == "ana"
    assert polled(door, device)["error"] == "invalid_grant", "once"


def test_the_token_of_a_code_ends_when_somebody_shows_the_code_again(world):
    door, _ = world
    program = Program()
    code = logged_in(door, program)["code"]
    token = redeem(door, program.form(code)).json()["access_token"]
    assert door.identity(token).subject == "ana"
    assert redeem(door, program.form(code, code_verifier="x" * 43)).json()["error"] == "invalid_grant"
    with pytest.raises(NotAdmitted) as ended:
        door.identity(token)
    assert ended.value.reason is Reason.REVOKED_TOKEN
    assert "was used before" in door.events[-1].detail


def test_a_network_that_guesses_at_device_codes_is_not_heard_for_a_while(world):
    door, _ = world
    device = begun(door)
    browser = Browser(door)
    guesses = [browser.post("/device", user_code=f"BBBB-{a}{b}BB").status_code for a in "BCDF" for b in "BCDF"]
    assert guesses == [400] * MAX_WRONG + [429] * (16 - MAX_WRONG)
    assert browser.post("/device", user_code=device["user_code"]).status_code == 429
    now = time.time()
    object.__setattr__(door.deps, "clock", lambda: now + PENDING_SECONDS + 1)
    assert browser.post("/device", user_code=begun(door)["user_code"]).is_redirect


def test_a_device_that_is_refused_or_too_late_gets_nothing(world):
    door, _ = world
    device, late = begun(door), begun(door)
    browser = Browser(door)
    page = browser.follow(browser.post("/device", user_code=device["user_code"]))
    browser.post("/oauth/consent", consent=consent_of(page), answer="no")
    assert polled(door, device)["error"] == "access_denied"
    now = time.time()
    object.__setattr__(door.deps, "clock", lambda: now + 601)
    assert browser.post("/device", user_code=late["user_code"]).status_code == 400


def test_a_device_gets_nothing_by_a_consent_that_is_not_on_record(world):
    door, _ = world
    device = begun(door)
    browser = Browser(door)
    page = browser.follow(browser.post("/device", user_code=device["user_code"]))
    door.log_down = True
    assert browser.post("/oauth/consent", consent=consent_of(page), answer="yes").status_code == 403
    door.log_down = False
    assert polled(door, device)["error"] == "authorization_pending"


def test_an_agent_gets_nothing_by_a_consent_that_is_not_on_record(world):
    door, coder = world
    device = begun(door, coder.name, authorization_details=json.dumps(READ))
    browser = Browser(door)
    page = browser.follow(browser.post("/device", user_code=device["user_code"]))
    door.log_down = True
    told = browser.post("/oauth/consent", consent=consent_of(page), answer="yes")
    assert (told.status_code, "cannot be granted" in told.text) == (403, True)
    door.log_down = False
    assert polled(door, device, coder.name, **coder.proof())["error"] == "authorization_pending"


def test_a_device_login_belongs_to_whoever_typed_its_code_last_and_came_back_first(world):
    door, _ = world
    device = begun(door)
    first, last = Browser(door), Browser(door)
    back = [httpx.get(each.post("/device", user_code=device["user_code"]).headers["location"], trust_env=False).headers["location"] for each in (first, last)]
    door.idp.person = {"sub": "eve", "name": "Eve"}
    assert first.get(back[0]).status_code == 400, "another browser has it now"
    door.idp.person = {"sub": "ana", "name": "Ana Souza"}
    page = last.get(httpx.get(last.post("/device", user_code=device["user_code"]).headers["location"], trust_env=False).headers["location"])
    assert first.post("/device", user_code=device["user_code"]).status_code == 400, "somebody has come back"
    assert first.post("/oauth/consent", consent=consent_of(page), answer="yes").status_code == 400
    assert polled(door, device)["error"] == "authorization_pending"


@pytest.fixture
def under_way(world):
    """The logins of a door, and one that a browser began."""
    door, _ = world
    logins = next(r.endpoint.__self__ for r in door.app.routes if getattr(r, "path", "") == "/oauth/callback")
    browser = Browser(door)
    url = browser.get(Program().url()).headers["location"]
    (pending,) = logins._by_state.values()
    return door, logins, browser, url, pending


def test_nobody_comes_back_to_a_login_that_has_its_person(under_way):
    _door, logins, browser, url, pending = under_way
    back = httpx.get(url, follow_redirects=False, trust_env=False).headers["location"]
    pending.person = object()
    assert browser.get(back).status_code == 400
    assert not logins._by_consent


def test_of_two_who_come_back_at_once_one_is_the_person_and_the_other_is_on_record(under_way, monkeypatch):
    door, _logins, browser, url, pending = under_way
    back = httpx.get(url, follow_redirects=False, trust_env=False).headers["location"]
    other = object()
    finish = type(pending.login).finish

    async def meanwhile(self, *args):
        found = await finish(self, *args)
        pending.person = other
        return found

    monkeypatch.setattr(type(pending.login), "finish", meanwhile)
    assert browser.get(back).status_code == 403
    assert pending.person is other
    assert (door.events[-1].action, door.events[-1].reason) == ("login", Reason.NOT_PERMITTED)


def test_the_page_that_was_shown_last_is_the_one_that_is_answered(under_way):
    _door, _logins, browser, url, pending = under_way
    page = browser.follow(httpx.get(url, follow_redirects=False, trust_env=False))
    asked = consent_of(page)
    pending.consent = "another"
    assert browser.post("/oauth/consent", consent=asked, answer="yes").status_code == 400


def test_a_device_code_that_a_listener_shows_is_good_for_its_connection_and_nothing_else(under_way):
    door, logins, _, _, _ = under_way
    for connection in ("orders-db", ""):
        device = logins.begin_device("an SSH login", connection)
        assert polled(door, device)["error"] == "invalid_grant", "not at the token endpoint"
        assert logins.poll(device["device_code"], COMMAND_LINE, "another") == "invalid_grant"
        assert logins.poll(device["device_code"], COMMAND_LINE, connection) == "authorization_pending"
    assert logins.poll(begun(door)["device_code"], COMMAND_LINE, "orders-db") == "invalid_grant"


def test_a_device_code_is_its_own_clients(world):
    door, coder = world
    device = begun(door)
    assert "access_token" not in polled(door, device, coder.name, **coder.proof())
    assert Browser(door).post("/device", user_code="AAAA-AAAA").status_code == 400
    assert door.send("POST", "/oauth/device_authorization", data={"client_id": "nobody"}).status_code == 401


# --- clients, assertions, binding ---


def test_a_client_proves_itself_with_its_key(world):
    door, coder = world
    answer = redeem(door, {"grant_type": "client_credentials", **coder.proof()})
    who = door.identity(answer.json()["access_token"])
    assert (who.issuer, who.subject, who.kind.value) == ("https://gw1.example", "agent:coder", "agent")


@pytest.mark.parametrize(
    "over",
    [
        {"aud": "https://elsewhere.example"},
        {"aud": ["https://gw1.example", "https://elsewhere.example"]},
        {"iss": "agent:other"},
        {"sub": "agent:other"},
        {"jti": None},
        {"exp": 1},
        {"exp": int(time.time()) + 86_400},
        {"nbf": int(time.time()) + 600},
    ],
)
def test_an_assertion_that_is_not_for_us_proves_nothing(world, over):
    door, coder = world
    answer = redeem(door, {"grant_type": "client_credentials", **coder.proof(**over)})
    assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")


def test_an_assertion_is_good_once_and_only_with_its_key(world, tmp_path):
    door, coder = world
    proof = coder.proof()
    assert redeem(door, {"grant_type": "client_credentials", **proof}).status_code == 200
    assert redeem(door, {"grant_type": "client_credentials", **proof}).status_code == 401
    (tmp_path / "thief").mkdir()
    thief = Agent(tmp_path / "thief", "agent:coder")
    assert redeem(door, {"grant_type": "client_credentials", **thief.proof()}).status_code == 401


def test_an_assertion_that_may_have_been_used_before_a_restart_proves_nothing(world):
    _, coder = world
    clients = Clients([coder.client], issuer="https://gw1.example", audiences=frozenset({"https://gw1.example"}), since=1400)
    for good in ({"iat": 1400, "exp": 1450}, {"iat": None, "exp": 1700}):
        assert asyncio.run(clients.authenticate(coder.assertion(**good), 1410.0)).identity.subject == "agent:coder"
    for old in ({"iat": 1399, "exp": 1450}, {"iat": None, "exp": 1699}):
        with pytest.raises(NotAdmitted, match="before the gateway's start"):
            asyncio.run(clients.authenticate(coder.assertion(**old), 1410.0))


def test_a_proof_that_may_have_been_used_before_a_restart_proves_nothing():
    holder, fresh = Holder(), KeyProofs(since=1000)
    assert fresh.read(holder.proof(at=1000), "POST", "https://gw1.example/v1/token", None, 1001)
    with pytest.raises(NotAdmitted, match="start"):
        fresh.read(holder.proof(at=999), "POST", "https://gw1.example/v1/token", None, 1001)


def test_a_client_that_names_itself_otherwise_than_its_assertion_proves_nothing(world):
    door, coder = world
    for name in ("agent:other", COMMAND_LINE, "Agent:coder"):
        answer = redeem(door, {"grant_type": "client_credentials", "client_id": name, **coder.proof()})
        assert answer.json()["error"] == "invalid_client"
    assert redeem(door, {"grant_type": "client_credentials", "client_id": "agent:coder", **coder.proof()}).status_code == 200


def test_an_issuers_token_is_an_assertion_too(world):
    door, _ = world
    form = {"grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer", "assertion": door.idp.mint()}
    assert door.identity(redeem(door, form).json()["access_token"]).subject == "ana"
    form["assertion"] = door.idp.mint(exp=1)
    assert redeem(door, form).json()["error"] == "invalid_grant"


class Holder:
    """Whoever holds a key that tokens are bound to."""

    def __init__(self) -> None:
        self.key = new_key("ES256")
        self.public = {k: v for k, v in self.key.as_dict(private=False).items() if k in ("kty", "crv", "x", "y")}

    def proof(self, method: str = "POST", target: str = "https://gw1.example/v1/token", token=None, at=None) -> str:
        return make_proof(self.key, "ES256", self.public, method, target, token, at or time.time())


def test_a_bound_token_is_good_only_with_proof_of_its_key(world):
    door, _ = world
    holder, thief = Holder(), Holder()
    form = {"subject_token": door.idp.mint(), "grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer"}
    form = {"grant_type": form["grant_type"], "assertion": form["subject_token"]}
    answer = door.send("POST", "/v1/token", data=form, headers={"dpop": holder.proof()})
    assert answer.json()["token_type"] == "DPoP"
    token = answer.json()["access_token"]
    with pytest.raises(NotAdmitted, match="bound to a key"):
        door.identity(token)

    def whoami(authorization: str, proof: str | None) -> int:
        headers = {"authorization": authorization} | ({"dpop": proof} if proof else {})
        return door.send("GET", "/v1/whoami", headers=headers).status_code

    here = ("GET", "https://gw1.example/v1/whoami")
    good = holder.proof(*here, token)
    assert whoami(f"DPoP {token}", good) == 200
    assert whoami(f"DPoP {token}", good) == 401, "a proof is good once"
    assert whoami(f"Bearer {token}", None) == 401
    for bad in (
        None,
        thief.proof(*here, token),
        holder.proof(*here),
        holder.proof(*here, "another"),
        holder.proof("POST", here[1], token),
        holder.proof("GET", "https://gw1.example/v1/delegations", token),
        holder.proof("GET", "https://evil.example/v1/whoami", token),
        holder.proof(*here, token, at=time.time() - 120),
        holder.proof(*here, token, at=time.time() + 60),
    ):
        assert whoami(f"DPoP {token}", bad) == 401
    # What is made from it stays bound to it.
    exchanged = door.send(
        "POST",
        "/v1/token",
        data={
            "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
            "subject_token": token,
            "subject_token_type": "urn:ietf:params:oauth:token-type:access_token",
        },
    )
    assert "access_token" not in exchanged.json()


def test_proofs_that_go_with_no_good_token_are_not_remembered(world):
    """Anybody can make proofs: else a stranger fills the memory in which they are found again, and nobody's is taken any more."""
    from ostiary.model.identity import Claims, Said
    from ostiary.model.secrets import Secret

    door, _ = world
    proofs, stranger = door.verifier.proofs, Holder()
    for shown in ("x.y.z", door.idp.mint(exp=1), door.token()):
        password = f"{shown}~{stranger.proof('CONNECT', 'ostiary:orders-db', shown)}"
        claims = Claims(connection="orders-db", token=Secret(password), said=Said(address="x"))
        try:
            asyncio.run(door.verifier.verify(claims, time.time()))
        except NotAdmitted:
            assert len(proofs) == 0
        door.send("GET", "/v1/whoami", headers={"authorization": f"DPoP {shown}", "dpop": stranger.proof("GET", "https://gw1.example/v1/whoami", shown)})
    remembered = len(proofs)
    form = {"grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer", "assertion": "x.y.z"}
    assert door.send("POST", "/v1/token", data=form, headers={"dpop": stranger.proof()}).status_code == 400
    assert len(proofs) == remembered <= 2


def test_a_bound_token_opens_a_session_with_a_proof_behind_it(world):
    from ostiary.model.identity import Claims, Said
    from ostiary.model.secrets import Secret

    door, _ = world
    holder = Holder()
    form = {"grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer", "assertion": door.idp.mint()}
    token = door.send("POST", "/v1/token", data=form, headers={"dpop": holder.proof()}).json()["access_token"]

    def admitted(password: str):
        claims = Claims(connection="orders-db", token=Secret(password), said=Said(address="x"))
        return asyncio.run(door.verifier.verify(claims, time.time()))

    good = f"{token}~{holder.proof('CONNECT', 'ostiary:orders-db', token)}"
    assert admitted(good).auth.key is not None
    for bad in (
        token,
        good,
        f"{token}~",
        f"{token}~{token}",
        f"{token}~{holder.proof('CONNECT', 'ostiary:hr-db', token)}",
        f"{token}~{Holder().proof('CONNECT', 'ostiary:orders-db', token)}",
    ):
        with pytest.raises(NotAdmitted):
            admitted(bad)


def test_introspection_tells_clients_alone_and_only_of_tokens_that_are_good(world):
    door, coder = world
    token = door.token()

    def asked(shown: str, **proof):
        return door.send("POST", "/oauth/introspect", data={"token": shown, **proof})

    assert asked(token).status_code == 401
    found = asked(token, **coder.proof()).json()
    assert (found["active"], found["sub"]) == (True, "ana")
    door.send("POST", "/v1/revoke", data={"token": token})
    for dead in (token, "x.y.z", door.idp.mint()):
        assert asked(dead, **coder.proof()).json() == {"active": False}


def test_the_metadata_names_what_is_there(world):
    door, _ = world
    for path in ("/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"):
        found = door.send("GET", path).json()
        assert found["issuer"] == "https://gw1.example"
        for name in ("token", "revocation", "introspection", "device_authorization"):
            where = urlsplit(found[f"{name}_endpoint"]).path
            assert door.send("POST", where, data={"x": "y"}).status_code in (400, 401)
        assert door.send("GET", urlsplit(found["jwks_uri"]).path).json()["keys"]
