"""The whole story through a real gateway: who did it, through whom, within what, and how it ends."""

from __future__ import annotations

import hashlib
import json
import secrets
import time
from pathlib import Path

import httpx
import pytest

from ostiary.identity.jose import sign_compact
from ostiary.testing.gateway import Gateway, gateway, target
from ostiary.testing.issuer import new_key
from ostiary.testing.peers import Peer
from ostiary.testing.pgclient import ServerError

POLICY = """
@id("staff") permit (principal in Ostiary::Group::"staff", action, resource);
@id("agents-need-a-mandate") @message("An agent brings a delegation that says what it is for.")
forbid (principal, action, resource) when { context.kinds.contains("agent") } unless { context has mandate };
"""
SCIM = "s" * 40


class Agent:
    """An agent with a key of its own, known to the gateway by its public half."""

    def __init__(self, home: Path, name: str) -> None:
        self.name, self.key = name, new_key("ES256")
        jwk = {**self.key.as_dict(private=False), "kid": "k", "alg": "ES256", "use": "sig"}
        self.file = home / f"{hashlib.sha256(name.encode()).hexdigest()[:8]}.jwks.json"
        self.file.write_text(json.dumps({"keys": [jwk]}))

    def proof(self, url: str) -> dict[str, str]:
        now = int(time.time())
        claims = {"iss": self.name, "sub": self.name, "aud": url, "iat": now, "exp": now + 60}
        token = sign_compact({"alg": "ES256", "kid": "k"}, claims | {"jti": secrets.token_hex(8)}, self.key)
        kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
        return {"client_assertion": token, "client_assertion_type": kind}


class Api:
    """The gateway's API, over its socket."""

    def __init__(self, gate: Gateway) -> None:
        self.url = f"http://127.0.0.1:{gate.api_port}"
        self._client = httpx.Client(base_url=self.url, trust_env=False, timeout=30)

    def close(self) -> None:
        self._client.close()

    def exchange(self, token: str, **form: str) -> httpx.Response:
        asked = {
            "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
            "subject_token": token,
            "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        }
        return self._client.post("/v1/token", data=asked | form)

    def token(self, token: str, **form: str) -> str:
        answer = self.exchange(token, **form)
        assert answer.status_code == 200, answer.text
        return answer.json()["access_token"]

    def delegate(self, token: str, to: str, seconds: int, **bounds: list[str]) -> httpx.Response:
        details = json.dumps([{"type": "ostiary", **bounds}])
        form = {"to": to, "seconds": str(seconds), "authorization_details": details, "ticket": "OPS-42"}
        return self._client.post("/v1/delegations", data=form, headers={"authorization": f"Bearer {token}"})

    def scim(self, method: str, path: str, body: dict) -> httpx.Response:
        headers = {"authorization": f"Bearer {SCIM}"}
        return self._client.request(method, f"/scim/v2{path}", json=body, headers=headers)


@pytest.fixture(scope="module")
def world(postgres: Peer, tmp_path_factory):
    home = tmp_path_factory.mktemp("agents")
    coder, helper = Agent(home, "agent:coder"), Agent(home, "agent:helper")
    for name in ("story_orders", "story_items", "story_salaries"):
        postgres.psql(f"create table if not exists {name}(id int); truncate {name}; insert into {name} values (1)")
    # PostgreSQL's own log as an operator would have it: in front of each line stands who it was.
    for setting in ("log_min_messages = log", "log_line_prefix = '%a | '", "log_statement = 'all'"):
        postgres.psql(f"alter system set {setting}")
    postgres.psql("select pg_reload_conf()")
    clients = [{"id": agent.name, "jwks_file": str(agent.file)} for agent in (coder, helper)]
    with gateway(
        connections={"shop": target(postgres)},
        policy=POLICY,
        sections={
            "scim": {"issuer": "https://idp.test", "token": "file:@HOME@/secrets/scim"},
            "admin": {"groups": ["security"]},
        },
        tables={"clients": clients},
        secrets_by_name={"scim": SCIM},
    ) as gate:
        api = Api(gate)
        yield gate, api, coder, helper, postgres
        api.close()
    postgres.psql("drop table story_orders, story_items, story_salaries")
    postgres.psql("alter system reset all")
    postgres.psql("select pg_reload_conf()")


def refused(session, statement: str) -> str:
    reply = session.query(statement)
    assert reply.is_refused
    return " ".join(reply.errors[0].values())


def test_ana_her_agent_and_the_end_of_it(world):
    gate, api, coder, helper, postgres = world
    user = {"schemas": ["urn:ietf:params:scim:schemas:core:2.0:User"], "userName": "ana", "externalId": "ana"}
    ana_id = api.scim("POST", "/Users", user).json()["id"]
    ana = api.token(gate.token("ana", name="Ana Souza"))
    bounds = {"connections": ["shop"], "actions": ["connect", "read"]}
    bounds["resources"] = ["public.story_orders", "public.story_items"]

    # Ana delegates: one hour, read-only, two tables.
    given = api.delegate(ana, "agent:coder", 3600, **bounds)
    assert given.status_code == 201, given.text
    delegation = given.json()["delegation"]
    kind = "urn:ostiary:token-type:delegation"
    token = api.token(delegation, subject_token_type=kind, **coder.proof(api.url))

    # The agent queries: within what it was given, and not beyond it, and the refusal says what is missing.
    session = gate.connect("shop", token=token)
    assert not session.query("select id from story_orders, story_items as i(other)").is_refused
    for statement, missing in (
        ("select id from story_salaries", "does not allow read on public.story_salaries"),
        ("delete from story_orders", "does not allow the action delete"),
    ):
        assert missing in refused(session, statement)
    shown = postgres.psql("select application_name from pg_stat_activity where application_name like 'ostiary:%'")
    assert "agent:coder for Ana Souza" in shown
    own_log = (postgres.data.parent / "log").read_text()
    (line,) = [each for each in own_log.splitlines() if "select id from story_orders, story_items" in each]
    assert "agent:coder for Ana Souza" in line.partition(" | ")[0]

    # A sub-agent that wants more is refused; it gets less, and the chain is whole.
    wide = api.delegate(token, "agent:helper", 600, connections=["shop"], actions=["connect", "read", "delete"])
    assert wide.status_code == 403
    assert "wider in actions" in wide.text
    less = api.delegate(token, "agent:helper", 600, **bounds | {"resources": ["public.story_items"]})
    sub_token = api.token(less.json()["delegation"], subject_token_type=kind, **helper.proof(api.url))
    sub_session = gate.connect("shop", token=sub_token)
    assert not sub_session.query("select id from story_items").is_refused
    assert "does not allow read" in refused(sub_session, "select id from story_orders")

    # An agent on its own, without anybody's delegation, is not let in.
    alone = api.exchange("", grant_type="client_credentials", **coder.proof(api.url)).json()["access_token"]
    with pytest.raises(ServerError, match="An agent brings a delegation"):
        gate.connect("shop", token=alone)

    # Ana is disabled: both sessions end, and nobody comes in for her any more.
    gone = {"schemas": [], "Operations": [{"op": "replace", "path": "active", "value": False}]}
    assert api.scim("PATCH", f"/Users/{ana_id}", gone).status_code == 200
    for each in (session, sub_session):
        told = each.read_reply()
        each.close()
        assert told.closed
        assert "is disabled" in told.errors[0]["M"]
    assert "access_token" not in api.exchange(delegation, subject_token_type=kind, **coder.proof(api.url)).json()
    with pytest.raises(ServerError):
        gate.connect("shop", token=gate.token("ana"))

    check_record(gate)


def check_record(gate: Gateway) -> None:
    """Each step is found by Ana's name, with the whole chain, the reason of the end, the ticket, and one task."""
    found = gate.run("audit", "search", "--person", "ana", "--limit", "500", "-o", "json").stdout
    entries = [json.loads(line) for line in found.splitlines()]
    chains = {
        tuple(actor["sub"] for actor in entry["who"].get("act", [])) for entry in entries if entry["kind"] == "intent"
    }
    assert {("agent:coder",), ("agent:helper", "agent:coder")} <= chains
    kinds = {entry["kind"] for entry in entries}
    assert {"login", "session.start", "intent", "deny"} <= kinds
    starts = [entry for entry in entries if entry["kind"] == "session.start"]
    assert {entry["client"]["said"]["ticket"] for entry in starts} == {"OPS-42"}
    asked = [entry for entry in entries if entry["kind"] in ("intent", "deny")]
    assert {entry["client"]["said"]["ticket"] for entry in asked} == {"OPS-42"}, "what a session is for stands in every event of it that says who"
    ends = [entry for entry in gate.entries() if entry["kind"] == "session.end"]
    assert [entry["result"]["status"] for entry in ends].count("LOST_OWNER") == 2
    task = next(entry["task"] for entry in starts if len(entry["who"]["act"]) == 1)
    line = gate.run("audit", "timeline", "--task", task, "-o", "json")
    assert line.returncode == 0, line.stderr
    steps = [json.loads(each) for each in line.stdout.splitlines()]
    assert [entry["t"] for entry in steps] == sorted(entry["t"] for entry in steps)
    assert {"session.start", "intent", "deny"} <= {entry["kind"] for entry in steps}
    assert gate.run("audit", "timeline", "--task", "no-such-task").returncode == 1
