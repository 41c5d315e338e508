"""AWS before two workers: keys, approvals, stops and signatures that were used mean the same whichever of them a call comes to."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from botocore.exceptions import ClientError

from ostiary.api.client import exchange
from ostiary.model.secrets import Secret
from ostiary.protocols.aws.replays import AHEAD
from ostiary.testing.waiting import until
from tests.approvals.world import Person
from tests.aws.account import WATCH, Account, account
from tests.aws.test_aws_gateway import APPROVALS, next_second, refused
from tests.aws.wire import Reply, send, signed

WORKERS = ("worker-1", "worker-2")
MOST = 64
"""Connections that are tried until one came to each worker: the kernel chooses, by the client's port."""
MARKS = itertools.count()


@contextlib.contextmanager
def both(moto: str, seconds: float) -> Iterator[Account]:
    """Two workers; a delete is asked for, and its answer waited for so long."""
    with account(moto, APPROVALS, workers=2, approval_seconds=seconds) as made:
        made.direct("s3").create_bucket(Bucket="both")
        takes_changes()
        yield made


@pytest.fixture(scope="module")
def two(moto: str) -> Iterator[Account]:
    """Nobody waits for the answer: who asked comes again."""
    with both(moto, 0.0) as made:
        yield made


@pytest.fixture(scope="module")
def held(moto: str) -> Iterator[Account]:
    """Deletes wait for a yes."""
    with both(moto, 60.0) as made:
        yield made


def takes_changes() -> None:
    """Wait for the first seconds of both workers to be over: what was signed until then may be known to one that was before."""
    time.sleep(AHEAD + 2)


def worker(entry: dict[str, Any]) -> str:
    """In whose log an entry is."""
    return str(entry["gw"]).partition("/")[2]


def asked(made: Account, client: Any) -> dict[str, Any]:
    """The intent of a read by this client."""
    mark = f"mark-{next(MARKS)}"
    client.list_objects_v2(Bucket="both", Prefix=mark)
    (found,) = [each for each in made.records("intent") if mark in str(each)]
    return found


def on_both(made: Account, subject: str) -> dict[str, Any]:
    """A client of S3 on each worker, with the same keys, on a connection that it keeps."""
    found: dict[str, Any] = {}
    for _ in range(MOST):
        client = made.client("s3", subject=subject)
        found.setdefault(worker(asked(made, client)), client)
        if len(found) == len(WORKERS):
            break
    assert sorted(found) == list(WORKERS)
    return found


def sessions(made: Account, subject: str) -> dict[str, str]:
    """Whose session is whose log's."""
    return {worker(each): each["session"] for each in made.records("session.start") if each["who"]["sub"] == subject}


def test_signed_calls_come_to_both_workers_and_each_is_signed_anew_and_on_record(two: Account) -> None:
    clients = on_both(two, "ana")
    for name, client in clients.items():
        lines, heads = WATCH.begin()
        found = asked(two, client)
        assert (worker(found), found["op"]["name"], found["session"]) == (name, "s3:ListObjectsV2", sessions(two, "ana")[name])
        assert len(lines) == 1
        assert "AKIAGATEWAY" in heads[0]["Authorization"]
    until(lambda: all(any(each["ref"] == one["id"] for each in two.records("outcome")) for one in two.records("intent")))


def test_a_call_that_was_approved_runs_once_on_whichever_worker_it_is_repeated(two: Account) -> None:
    for first, again in (WORKERS, WORKERS[::-1]):
        bucket = f"doomed-by-{first}"
        two.direct("s3").create_bucket(Bucket=bucket)
        clients = on_both(two, "dot")
        told = refused(clients[first].delete_bucket, Bucket=bucket)
        assert told["Code"] == "ApprovalPending"
        next_second()
        assert refused(clients[again].delete_bucket, Bucket=bucket)["Message"] == told["Message"], "it is one question"
        dora = Person(two.gateway, "dora", "dba")
        (question,) = [each for each in dora.questions() if each["id"] in told["Message"]]
        assert dora.approve(question).status_code == 200
        next_second()
        clients[again].delete_bucket(Bucket=bucket)
        assert bucket not in {each["Name"] for each in two.direct("s3").list_buckets()["Buckets"]}
        for client in clients.values():
            next_second()
            anew = refused(client.delete_bucket, Bucket=bucket)
            assert anew["Code"] == "ApprovalPending"
            assert question["id"] not in anew["Message"], "a yes is used once, in all workers"
        (intent,) = [each for each in two.records("intent") if each["decision"].get("approval") == question["id"]]
        assert worker(intent) == again


def test_a_call_that_waits_on_either_worker_hears_the_answer(held: Account) -> None:
    clients = on_both(held, "wes")
    dora = Person(held.gateway, "dora", "dba")
    with ThreadPoolExecutor(1) as beside:
        for name, client in clients.items():
            bucket = f"waited-for-by-{name}"
            held.direct("s3").create_bucket(Bucket=bucket)
            call = beside.submit(client.delete_bucket, Bucket=bucket)
            assert dora.approve(dora.wait_question()).status_code == 200
            assert call.result(60)["ResponseMetadata"]["HTTPStatusCode"] == 204
            assert bucket not in {each["Name"] for each in held.direct("s3").list_buckets()["Buckets"]}


def test_a_signature_that_changed_something_is_good_in_no_worker_again(two: Account) -> None:
    host, path = "s3.amazonaws.com", "/signed-once"

    def put(request: Any) -> Reply:
        return send(two, request, host=host, path=path)

    request = signed(two, "PUT", path, host=host, subject="ray")
    assert put(request).status == 200
    lines, _ = WATCH.begin()
    for _ in range(MOST):
        assert put(request).status == 503
        if {worker(each) for each in two.records("deny") if each["who"]["sub"] == "ray"} == set(WORKERS):
            break
    assert {worker(each) for each in two.records("deny") if each["who"]["sub"] == "ray"} == set(WORKERS)
    assert lines == []


def operator(made: Account, what: str, body: dict[str, str]) -> None:
    """Have an administrator do it."""
    api = f"http://127.0.0.1:{made.gateway.api_port}"
    admin = exchange(api, Secret(made.gateway.token("sam", groups=["security"]))).token.reveal()
    done = httpx.post(f"{api}{what}", json=body, headers={"authorization": f"Bearer {admin}"}, trust_env=False)
    assert done.status_code == 200, done.text


def ends(made: Account, session: str) -> list[tuple[str, str]]:
    return [(worker(each), each["result"]["status"]) for each in made.records("session.end") if each["session"] == session]


@pytest.mark.parametrize("where", WORKERS)
def test_an_operator_ends_the_session_that_was_meant_and_no_other_on_whichever_worker_it_lives(two: Account, where: str) -> None:
    subject = f"edna-{where}"
    clients, open_sessions = on_both(two, subject), sessions(two, subject)
    operator(two, "/v1/sessions/end", {"session": open_sessions[where], "reason": "a look"})
    until(lambda: ends(two, open_sessions[where]))
    assert ends(two, open_sessions[where]) == [(where, "ENDED_BY_OPERATOR")]
    (other,) = set(WORKERS) - {where}
    assert asked(two, clients[other])["session"] == open_sessions[other]
    assert ends(two, open_sessions[other]) == []


def test_whoever_is_stopped_calls_aws_over_no_worker_any_more(two: Account) -> None:
    clients, open_sessions = on_both(two, "wilma"), sessions(two, "wilma")
    operator(two, "/v1/stops", {"issuer": two.gateway.mint.issuer, "subject": "wilma", "reason": "it went wild"})
    for name, session in open_sessions.items():
        until(lambda session=session: ends(two, session))
        assert ends(two, session) == [(name, "STOPPED_ACTOR")]
    lines, _ = WATCH.begin()
    for client in (*clients.values(), *(two.client("s3", subject="wilma") for _ in range(6))):
        with pytest.raises(ClientError):
            client.list_buckets()
    assert lines == []
