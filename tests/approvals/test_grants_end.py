"""A connection that was granted for a time: whatever protocol, its sessions end with the grant, or when somebody takes it back."""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import pytest

from ostiary.approvals.desk import Granted
from ostiary.driver.leases import Leases
from ostiary.model.errors import NotAdmitted, Reason
from ostiary.testing.gateway import Gateway, gateway, target
from ostiary.testing.peers import free_port, postgres_cluster
from ostiary.testing.pgclient import Closed, PgClient, ServerError
from ostiary.testing.sshd import sshd
from tests.approvals.world import SETTINGS, Person, events, until
from tests.http.conftest import Service
from tests.ssh.conftest import BY_PASSWORD

pytestmark = pytest.mark.timeout(120)

POLICY = """
@id("all") permit (principal, action, resource);
@id("everything-is-granted") @approval("dba") forbid (principal, action == Ostiary::Action::"connect", resource)
unless { context.approved_by.contains("dba") };
"""


@dataclass
class World:
    gate: Gateway
    ssh: int
    http: int

    def held(self, connection: str, name: str = "ana") -> str:
        """Have `name` granted the connection; the grant's id."""
        asked = {"connection": connection, "minutes": 5, "reason": "a ticket"}
        number: str = Person(self.gate, name).post("/v1/grants", asked).json()["id"]
        dora = Person(self.gate, "dora", "dba")
        assert dora.approve(dora.show(number)).json()["state"] == "approved"
        return number


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    service, ssh, http = Service(), free_port(), free_port()
    service.start()
    with postgres_cluster() as peer, sshd() as server:
        web = {"type": "http", "address": f"127.0.0.1:{service.port}", "tls": "disable", "hosts": ["app"]}
        sections: dict[str, dict[str, object]] = {
            "listen.ssh": {"address": f"127.0.0.1:{ssh}"}, "listen.http": {"address": f"127.0.0.1:{http}"}, **SETTINGS,
        }  # fmt: skip
        connections = {"vault": target(peer), "box": server.target(), "app": web}
        with gateway(connections=connections, policy=POLICY, sections=sections) as gate:
            yield World(gate, ssh, http)


def is_cut(client: PgClient) -> str:
    """What the client is told as it is cut off."""
    client.sock.settimeout(10)
    told = client.read_message().error_fields()
    with pytest.raises((Closed, OSError)):
        client.read_message()
    return f"{told['C']} {told['M']}"


def test_a_grant_taken_back_ends_its_postgresql_sessions_and_lets_nobody_in(world: World) -> None:
    number = world.held("vault")
    with world.gate.connect("vault") as client:
        assert client.query("SELECT 1").tags == ["SELECT 1"]
        done = Person(world.gate, "dora", "dba").post(f"/v1/grants/{number}/revoke", {"reason": "the ticket is closed"})
        assert done.status_code == 200, done.text
        assert "taken back" in is_cut(client)
    with pytest.raises(ServerError):
        world.gate.connect("vault")
    (revoked,) = [each for each in events(world.gate, "revoked") if each["approval"]["id"] == number]
    assert revoked["who"]["sub"] == "dora"
    began = [each for each in world.gate.entries() if each["kind"] == "session.start"]
    assert (began[-1]["decision"]["approval"], began[-1]["decision"]["approved_by"]) == (number, ["dba"])
    ended = [each for each in world.gate.entries() if each["kind"] == "session.end"]
    assert ended[-1]["result"]["status"] == "GRANT_REVOKED"


def test_of_two_grants_asked_for_at_once_the_later_ends_the_sessions_of_the_former(world: World) -> None:
    ana, dora = Person(world.gate, "ina"), Person(world.gate, "dora", "dba")
    numbers = [ana.post("/v1/grants", {"connection": "vault", "minutes": 5, "reason": "a ticket"}).json()["id"] for _ in range(2)]
    token = world.gate.token("ina")
    assert dora.approve(dora.show(numbers[0])).json()["state"] == "approved"
    with world.gate.connect("vault", token=token) as first:
        assert first.query("SELECT 1").tags == ["SELECT 1"]
        assert ana.post("/v1/grants", {"connection": "vault", "minutes": 5, "reason": "more"}).status_code != 200
        assert dora.approve(dora.show(numbers[1])).json()["state"] == "approved"
        assert "taken back" in is_cut(first)
    assert dora.post(f"/v1/grants/{numbers[0]}/revoke", {}).status_code == 404
    with world.gate.connect("vault", token=token) as second:
        assert second.query("SELECT 1").tags == ["SELECT 1"]
        assert dora.post(f"/v1/grants/{numbers[1]}/revoke", {}).status_code == 200
        assert "taken back" in is_cut(second)


def test_whoever_was_granted_it_gives_it_back_from_a_terminal(world: World) -> None:
    number = world.held("vault", "bob")
    token = world.gate.home / "bob.jwt"
    token.touch(mode=0o600)
    token.write_text(world.gate.token("bob"))
    with world.gate.connect("vault", token=world.gate.token("bob")) as client:
        done = world.gate.run("approvals", "revoke", number, "--from", f"file:{token}")
        assert done.returncode == 0, done
        assert "taken back" in is_cut(client)
    again = world.gate.run("approvals", "revoke", number, "--from", f"file:{token}")
    assert again.returncode == 1
    assert "nothing is in force" in again.stderr


def test_nobody_else_takes_a_grant_back_or_learns_of_it(world: World) -> None:
    number = world.held("vault", "carl")
    for who in (Person(world.gate, "mallory", "staff"), Person(world.gate, "eve")):
        assert who.post(f"/v1/grants/{number}/revoke", {}).status_code == 404
    agent = Person(world.gate, "dora", "dba", act={"sub": "coder-7"})
    assert agent.post(f"/v1/grants/{number}/revoke", {}).status_code == 403
    with world.gate.connect("vault", token=world.gate.token("carl")) as client:
        assert client.query("SELECT 1").tags == ["SELECT 1"]


def test_a_grant_taken_back_ends_its_ssh_sessions(world: World) -> None:
    number = world.held("box")
    command = ["sshpass", "-e", "ssh", *BY_PASSWORD, "-p", str(world.ssh), "box@127.0.0.1", "echo begun; sleep 60"]
    environment = {"PATH": "/usr/bin:/bin", "SSHPASS": world.gate.token("ana"), "HOME": str(world.gate.home)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as client:
        assert client.stdout is not None
        assert client.stdout.readline() == b"begun\n"
        assert Person(world.gate, "ana").post(f"/v1/grants/{number}/revoke", {}).status_code == 200
        assert client.wait(20) != 0
    refused = subprocess.run(command, env=environment, capture_output=True, timeout=30, check=False)
    assert b"begun" not in refused.stdout


def test_a_grant_taken_back_ends_its_http_sessions(world: World) -> None:
    number, token = world.held("app"), world.gate.token("ana")

    def ask() -> int:
        headers = {"host": "app", "authorization": f"Bearer {token}"}
        return httpx.get(f"http://127.0.0.1:{world.http}/", headers=headers, timeout=30).status_code

    assert until(ask) == 200
    assert Person(world.gate, "ana").post(f"/v1/grants/{number}/revoke", {}).status_code == 200
    assert until(lambda: ask() == 403)


def test_a_granted_question_does_not_expire_on_record_while_its_grant_is_in_force(world: World) -> None:
    number = world.held("vault", "dan")
    (kept,) = [each for each in Person(world.gate, "dan").questions("used") if each["id"] == number]
    assert kept["kind"] == "grant"


def test_a_session_is_cut_at_the_hard_end_of_its_grant_and_not_before() -> None:
    async def run() -> None:
        leases, cuts = Leases(), asyncio.Queue[tuple[str, NotAdmitted]]()
        now = time.time()

        def lease(name: str, expires: float, held: Granted | None) -> None:
            leases.take(expires, held, lambda why: cuts.put_nowait((name, why)))

        lease("granted", now + 3600, Granted("g", frozenset({"dba"}), int(now)))
        lease("later", now + 3600, Granted("h", frozenset({"dba"}), int(now) + 3600))
        lease("expired", now, None)
        ended = {(name, why.reason) for name, why in [await cuts.get(), await cuts.get()]}
        assert ended == {("granted", Reason.GRANT_OVER), ("expired", Reason.EXPIRED_TOKEN)}
        leases.taken_back("h")
        assert cuts.get_nowait()[0] == "later"
        assert cuts.empty()

    asyncio.run(run())


def test_a_session_that_is_over_is_cut_by_nothing() -> None:
    async def run() -> None:
        leases, cuts = Leases(), []
        lease = leases.take(time.time(), Granted("g", frozenset(), int(time.time())), cuts.append)
        lease.close()
        leases.taken_back("g")
        await asyncio.sleep(0.01)
        assert cuts == []

    asyncio.run(run())
