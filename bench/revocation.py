"""How long a revocation takes to reach every live session: `python -m bench.revocation [SESSIONS] [ROUNDS]`.

Each round opens sessions, spread over their own tokens, isolates the person through the API, and takes the time from sending that request to
the moment each client's socket has heard its session end. What is printed is the slowest session of each round, and the answer's own time.
"""

from __future__ import annotations

import select
import statistics
import sys
import time

import httpx

from ostiary.testing.gateway import Gateway, gateway, target
from ostiary.testing.peers import postgres_cluster

PERMIT = '@id("all") permit (principal, action, resource);'


def round_of(gate: Gateway, api: httpx.Client, admin: str, sessions: int) -> tuple[list[float], float]:
    """Milliseconds until each session ended, and until the API had answered."""
    clients = [gate.connect("db", token=gate.token("ana")) for _ in range(sessions)]
    for client in clients:
        client.sock.setblocking(False)
    body = {"issuer": gate.mint.issuer, "subject": "ana"}
    headers = {"authorization": f"Bearer {admin}"}
    began = time.perf_counter()
    request = api.build_request("POST", "/v1/stops", json=body | {"reason": "measured"}, headers=headers)
    assert api.send(request).status_code == 200
    answered = time.perf_counter() - began
    waiting = {client.sock.fileno(): client for client in clients}
    ended: list[float] = []
    while waiting:
        for fd in select.select(list(waiting), [], [], 10)[0]:
            ended.append((time.perf_counter() - began) * 1000)
            waiting.pop(fd).close()
    assert api.post("/v1/stops/release", json=body, headers=headers).status_code == 200
    time.sleep(0.2)
    return ended, answered * 1000


def main() -> None:
    """Measure, and print."""
    sessions = int(sys.argv[1]) if len(sys.argv) > 1 else 50
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 10
    with (
        postgres_cluster() as peer,
        gateway(
            connections={"db": target(peer)}, policy=PERMIT, sections={"admin": {"groups": ["security"]}}
        ) as gate,
        httpx.Client(base_url=f"http://127.0.0.1:{gate.api_port}", trust_env=False, timeout=30) as api,
    ):
        form = {
            "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
            "subject_token": gate.token("sam", groups=["security"]),
            "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        }
        admin = api.post("/v1/token", data=form).json()["access_token"]
        worst, answers = [], []
        for _ in range(rounds):
            ended, answered = round_of(gate, api, admin, sessions)
            worst.append(max(ended))
            answers.append(answered)
    print(f"{sessions} sessions, {rounds} rounds")
    print(f"slowest session ended after (ms): median {statistics.median(worst):.1f}, worst {max(worst):.1f}")
    print(f"the API had answered after (ms): median {statistics.median(answers):.1f}, worst {max(answers):.1f}")


if __name__ == "__main__":
    main()
