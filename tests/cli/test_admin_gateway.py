"""`ostiary accounts` and `ostiary isolate` against a running gateway: what they say is what has happened."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from ostiary.testing import pgclient as pg
from ostiary.testing.gateway import Gateway, Mint, gateway, target
from ostiary.testing.peers import Peer
from tests.identity.test_story import SCIM, Agent, Api

POLICY = "permit (principal, action, resource);"
CI = "https://ci.test"
KEEP = "import sys; from ostiary.cli.held import keep; from ostiary.model.secrets import Secret; keep(sys.argv[1], Secret(sys.stdin.read()), 600)"


class World:
    def __init__(self, gate: Gateway, ci: Mint, coder: Agent) -> None:
        self.gate, self.ci, self.coder = gate, ci, coder
        self.url = f"http://127.0.0.1:{gate.api_port}"

    def log_in(self, *groups: str) -> None:
        """As `ostiary login` would."""
        form = {"grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer", "assertion": self.gate.token("sam", groups=list(groups))}
        token = httpx.post(f"{self.url}/v1/token", data=form, trust_env=False).json()["access_token"]
        subprocess.run([sys.executable, "-c", KEEP, self.url], env=self.gate.environment, input=token, text=True, check=True)

    def say(self, *arguments: str, code: int = 0) -> Any:
        done = self.gate.run(*arguments)
        assert done.returncode == code, done.stderr
        if "-o" in arguments and code == 0:
            return json.loads(done.stdout)
        return done.stdout + done.stderr

    def job(self, **claims: object) -> str:
        ordinary = self.ci.claims("repo:shop/deploy", repository="shop/deploy", run_id="8123", groups=[])
        return self.ci.token({name: value for name, value in (ordinary | claims).items() if name != "email"})

    def use(self, account: str) -> httpx.Response:
        form = {"grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer", "assertion": self.job(), "account": account}
        return httpx.post(f"{self.url}/v1/token", data=form, trust_env=False)


@pytest.fixture(scope="module")
def world(postgres: Peer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("admin")
    ci, coder = Mint(CI), Agent(folder, "agent:coder")
    (folder / "ci.json").write_text(json.dumps(ci.jwks()))
    jobs = {"issuer": CI, "audience": "ostiary", "kind": "workload", "algorithms": ["EdDSA"], "jwks_file": str(folder / "ci.json")}
    postgres.psql("create table if not exists admin_orders (id int)")
    with gateway(
        connections={"db": target(postgres)}, policy=POLICY, secrets_by_name={"scim": SCIM},
        sections={"admin": {"groups": ["security"]}, "scim": {"issuer": "https://idp.test", "token": "file:@HOME@/secrets/scim"}},
        tables={"issuers": [jobs | {"task_claim": "run_id"}], "clients": [{"id": coder.name, "jwks_file": str(coder.file)}]},
    ) as gate:  # fmt: skip
        yield World(gate, ci, coder)
    postgres.psql("drop table admin_orders")


def test_an_account_is_made_listed_used_and_ended(world: World) -> None:
    world.log_in("security")
    made = ("accounts", "create", "svc-deploy", "--owner", "carl", "--owner-issuer", "https://idp.test", "--issuer", CI)
    more = ("--require", "repository=shop/deploy", "--days", "30", "--connection", "db")
    said = world.say(*made, *more, "-o", "json")
    assert (said["name"], said["state"], said["conditions"]) == ("svc-deploy", "open", {"repository": "shop/deploy"})
    assert "svc-deploy" in world.say("accounts", "list")
    (listed,) = world.say("accounts", "list", "-o", "json")
    assert (listed["owner_sub"], listed["connections"]) == ("carl", ["db"])
    token = world.use("svc-deploy").json()["access_token"]
    session = world.gate.connect("db", token=token)
    assert "has ended" in world.say("accounts", "end", "svc-deploy", "--reason", "no longer needed")
    told = session.read_reply()
    session.close()
    assert told.closed
    assert world.use("svc-deploy").status_code == 400
    assert world.say("accounts", "list", "-o", "json")[0]["state"] == "ended"
    assert "svc-deploy" in world.say(*made, *more, code=1)
    assert "CLAIM=VALUE" in world.say(*made[:3], *made[3:], "--require", "repository", "--days", "30", code=64)


def test_who_is_no_administrator_is_told_and_nothing_happens(world: World) -> None:
    world.log_in("staff")
    for line in (
        ("accounts", "list"), ("isolate", "ana", "--issuer", "https://idp.test", "--reason", "x"),
        ("accounts", "create", "svc-x", "--owner", "c", "--owner-issuer", CI, "--issuer", CI, "--require", "a=b", "--days", "1"),
    ):  # fmt: skip
        assert "[admin]" in world.say(*line, code=77)
    with world.gate.connect("db") as session:
        assert not session.query("select 1").is_refused


def test_whoever_is_isolated_is_out_and_what_they_touched_is_listed(world: World) -> None:
    world.log_in("security")
    session = world.gate.connect("db", token=world.gate.token("ana"))
    assert not session.query("select id from admin_orders").is_refused
    assert "--issuer" in world.say("isolate", "ana", "--reason", "a look", code=64)
    assert "say why" in world.say("isolate", "ana", "--issuer", "https://idp.test", code=64)
    found = world.say("isolate", "ana", "--issuer", "https://idp.test", "--reason", "a look", "-o", "json")
    assert [each["object"] for each in found["touched"] if "orders" in each["object"]] == ["public.admin_orders"]
    told = session.read_reply()
    session.close()
    assert told.closed
    with pytest.raises(pg.ServerError, match="stopped"):
        world.gate.connect("db", token=world.gate.token("ana"))
    released = world.say("isolate", "ana", "--issuer", "https://idp.test", "--release", "-o", "json")
    assert released == {"issuer": "https://idp.test", "subject": "ana"}
    with world.gate.connect("db", token=world.gate.token("ana")) as again:
        assert not again.query("select 1").is_refused
    assert "nobody" in world.say("isolate", "ana", "--issuer", "https://idp.test", "--release", code=1)


def test_a_client_of_the_gateways_own_is_isolated_by_its_name_alone(world: World) -> None:
    """Its issuer is the gateway: with the identity provider's beside its name, nobody would be stopped, and the command would say so of them."""
    world.log_in("security")
    api = Api(world.gate)
    ana = api.token(world.gate.token("ana"))
    given = api.delegate(ana, world.coder.name, 3600, connections=["db"], actions=["connect", "read"])
    kind = "urn:ostiary:token-type:delegation"
    token = api.token(given.json()["delegation"], subject_token_type=kind, **world.coder.proof(api.url))
    session = world.gate.connect("db", token=token)
    found = world.say("isolate", world.coder.name, "--reason", "it went wild", "-o", "json")
    assert (found["issuer"], len(found["delegations"])) == (api.url, 1)
    told = session.read_reply()
    session.close()
    api.close()
    assert told.closed
    with world.gate.connect("db", token=ana) as hers:
        assert not hers.query("select 1").is_refused


def test_a_contractor_leaves_and_a_job_tries_what_was_theirs(world: World) -> None:
    """The record names the job and never the contractor; the use is refused, and on record as what it is."""
    world.log_in("security")
    world.say(
        "accounts", "create", "svc-contract", "--owner", "connie", "--owner-issuer", "https://idp.test", "--issuer", CI,
        "--require", "repository=shop/deploy", "--days", "30", "--connection", "db",
    )  # fmt: skip
    api = Api(world.gate)
    user = {"schemas": ["urn:ietf:params:scim:schemas:core:2.0:User"], "userName": "connie", "externalId": "connie"}
    connie = api.scim("POST", "/Users", user).json()["id"]
    live = world.gate.connect("db", token=world.use("svc-contract").json()["access_token"])
    assert not live.query("select id from admin_orders").is_refused
    gone = {"Operations": [{"op": "replace", "path": "active", "value": False}]}
    assert api.scim("PATCH", f"/Users/{connie}", gone).status_code == 200
    api.close()
    told = live.read_reply()
    live.close()
    assert told.closed

    fresh = world.job(run_id="9001", jti="another")
    form = {"grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer", "assertion": fresh, "account": "svc-contract"}
    assert httpx.post(f"{world.url}/v1/token", data=form, trust_env=False).json()["error"] == "invalid_grant"
    (entry,) = [each for each in world.gate.entries() if each["kind"] == "login" and each["login"].get("reason") == "LOST_OWNER"]
    assert (entry["who"]["iss"], entry["who"]["sub"]) == (CI, "repo:shop/deploy")
    assert "svc-contract" in entry["login"]["detail"]
    found = world.gate.run("audit", "search", "--person", "repo:shop/deploy", "--limit", "500", "-o", "json").stdout
    assert "LOST_OWNER" in found
    assert not any(json.loads(line).get("who", {}).get("sub") == "connie" for line in found.splitlines())
    assert "connie" not in world.gate.run("audit", "search", "--person", "connie", "-o", "json").stdout
