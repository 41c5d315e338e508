"""A SAML login in the browser: the response is posted from elsewhere, and still finished only where it was begun."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from prometheus_client import CollectorRegistry

from ostiary.api.app import create_app
from ostiary.api.deps import Deps
from ostiary.config import types as config
from ostiary.identity.saml import SamlLogin
from ostiary.model.errors import Reason
from tests.api.test_logins import Browser, Program, consent_of, redeem
from tests.identity.saml_idp import ACS, BASE, ISSUER, SamlIdp, posted


@pytest.fixture
def world(door, tmp_path: Path):
    idp = SamlIdp(tmp_path)
    section = config.Saml(issuer=ISSUER, sso_url="https://idp.example.com/sso", cert_file=str(idp.file))
    login = SamlLogin(section, BASE)
    kept = {name: getattr(door.deps, name) for name in Deps.__dataclass_fields__}
    door.deps = Deps(**kept | {"logins": (login,), "registry": CollectorRegistry()})
    door.app = create_app(door.deps)
    return door, idp


def begun(door, browser: Browser, program: Program) -> tuple[str, str]:
    """The request id and the relay state that the browser is sent to the identity provider with."""
    import base64
    import re
    import zlib
    from urllib.parse import parse_qs, urlsplit

    to = browser.get(program.url()).headers["location"]
    query = parse_qs(urlsplit(to).query)
    request = zlib.decompress(base64.b64decode(query["SAMLRequest"][0]), wbits=-15).decode()
    return re.search(r' ID="([^"]+)"', request)[1], query["RelayState"][0]


def answered(door, response: str, state: str) -> httpx.Response:
    """The identity provider's page posts it: no cookie of ours comes with that."""
    return door.send("POST", "/saml/acs", data={"SAMLResponse": response, "RelayState": state})


def test_a_person_logs_in_and_the_token_says_so(world):
    door, idp = world
    browser, program = Browser(door), Program()
    request, state = begun(door, browser, program)
    to_resume = answered(door, posted(idp.signed(request)), state)
    assert to_resume.status_code == 303
    page = browser.get(to_resume.headers["location"])
    back = browser.post("/oauth/consent", consent=consent_of(page), answer="yes")
    code = dict(httpx.URL(back.headers["location"]).params)["code"]
    who = door.identity(redeem(door, program.form(code)).json()["access_token"])
    assert (who.issuer, who.subject, who.groups) == (ISSUER, "alice", {"staff"})


def test_it_is_finished_in_the_browser_that_began_it_and_once(world):
    door, idp = world
    mine, other = Browser(door), Browser(door)
    request, state = begun(door, mine, Program())
    to_resume = answered(door, posted(idp.signed(request)), state).headers["location"]
    assert other.get(to_resume).status_code == 400
    assert mine.get(to_resume).status_code == 400, "once"
    assert answered(door, posted(idp.signed(request)), state).status_code == 400
    assert answered(door, posted(idp.signed("_x")), "guessed").status_code == 400


def test_a_response_that_is_not_good_says_one_thing_and_is_on_record(world):
    door, idp = world
    _, state = begun(door, Browser(door), Program())
    refused = answered(door, posted(idp.signed("_another")), state)
    assert refused.status_code == 403
    assert "The login was not accepted." in refused.text
    assert door.events[-1].reason is Reason.BAD_TOKEN
    assert "InResponseTo" in door.events[-1].detail
    assert "InResponseTo" not in refused.text


def test_the_identity_provider_is_told_of_us(world):
    door, _ = world
    answer = door.send("GET", "/saml/metadata")
    assert ACS in answer.text
