"""Whoever is stopped while the gateway still dials the target for them gets no session."""

from __future__ import annotations

import threading
import time

import httpx

from ostiary.testing.pgclient import Closed, ServerError
from tests.attacks.lab import guarded, target_with


def test_a_token_that_is_revoked_while_its_session_opens_opens_none() -> None:
    with target_with([{"id": "fault"}]) as peer, guarded(peer, ["fault"]) as gate:
        with gate.connect("fault") as warm:  # the catalogue has been read
            assert warm.query("SELECT 1").rows
        token = gate.token("rita")
        refused: list[BaseException] = []

        def enter() -> None:
            try:
                gate.connect("fault", token=token).sock.close()
            except (ServerError, Closed, OSError) as exc:
                refused.append(exc)

        peer.freeze()
        try:
            client = threading.Thread(target=enter)
            client.start()
            deadline = time.monotonic() + 60
            while not any(e["kind"] == "session.start" and e["who"]["sub"] == "rita" for e in gate.entries()):
                assert time.monotonic() < deadline
                time.sleep(0.02)
            revoked = httpx.post(f"http://127.0.0.1:{gate.api_port}/v1/revoke", data={"token": token})
            assert revoked.status_code == 200
        finally:
            peer.thaw()
        client.join(60)
        assert len(refused) == 1, "it was let in"
        gate.stop()
        ends = [e["result"]["status"] for e in gate.entries() if e["kind"] == "session.end" and e["who"]["sub"] == "rita"]
        assert ends == ["REVOKED_TOKEN"]
        assert not any(e["kind"] == "intent" and e["who"]["sub"] == "rita" for e in gate.entries())


