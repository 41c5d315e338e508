"""A signature that changes something is good once, however late its body comes, whatever its date is, and across a restart."""

from __future__ import annotations

import datetime as dt
import os
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostiary.identity.aws_keys import is_first, load_or_create
from ostiary.model.secrets import Secret
from ostiary.protocols.aws.replays import AHEAD, Replays
from ostiary.protocols.aws.sigv4 import SKEW_SECONDS, NotSigned, Signed, check_time
from tests.aws.account import WATCH, Account, account
from tests.aws.wire import ask, send, signed

BEGAN = 1_700_000_000.4


def made(at: float, expires: int | None = None, signature: str = "a") -> Signed:
    when = dt.datetime.fromtimestamp(int(at), dt.UTC).strftime("%Y%m%dT%H%M%SZ")
    return Signed("k", when[:8], "us-east-1", "s3", (b"host",), signature, when, expires, Secret("t"), b"")


def takes(replays: Replays, signed: Signed, now: float) -> bool:
    """Whether a request with that signature, whose head came at `now`, would run."""
    try:
        check_time(signed, now)
        replays.use(signed, now)
    except NotSigned:
        return False
    return True


def test_a_body_that_is_finished_late_finds_its_signature_still_known() -> None:
    replays, at = Replays(BEGAN), BEGAN + 100
    signed = made(at)
    assert takes(replays, signed, at + 1)
    assert takes(replays, made(at + SKEW_SECONDS, signature="b"), at + SKEW_SECONDS + 3), "another write, by which the first is forgotten"
    assert not takes(replays, signed, at + SKEW_SECONDS - 1), "its head came before that"


@pytest.mark.parametrize("ahead", [AHEAD + 2, 60, SKEW_SECONDS - 1])
def test_a_date_of_the_future_changes_nothing(ahead: int) -> None:
    assert not takes(Replays(BEGAN), made(BEGAN + 100 + ahead), BEGAN + 100)


USES = st.lists(
    st.tuples(st.floats(-SKEW_SECONDS, SKEW_SECONDS), st.sampled_from([None, 60, 86_400]), st.floats(0, 2 * SKEW_SECONDS), st.sampled_from("abc")),
    max_size=30,
)


@given(USES, st.integers(0, 30))
def test_no_signature_is_taken_twice_whatever_the_order_and_whenever_the_gateway_begins_again(
    uses: list[tuple[float, int | None, float, str]], restart: int
) -> None:
    """`uses`: (date less BEGAN, life, when its head came, less BEGAN, signature). The clock may be told out of order, as bodies end so."""
    replays, taken, last = Replays(BEGAN), [], 0.0
    for number, (at, life, now, name) in enumerate(uses):
        if number == restart:
            replays = Replays(BEGAN + last)
        signed = made(BEGAN + at, life, f"{name}{int(at)}{life}")
        when = BEGAN + (max(now, last) if number == restart else now)
        if number < restart or when >= BEGAN + last:
            last = max(last, now)
            if takes(replays, signed, when):
                taken.append((signed.signature, signed.at))
    assert len(taken) == len(set(taken))


def test_a_change_that_is_dated_ahead_is_refused_and_on_record(shared: Account, heard: list[str]) -> None:
    when = dt.datetime.now(dt.UTC) + dt.timedelta(minutes=2)
    before = len(shared.records("deny"))
    reply = ask(shared, "PUT", "/dated-ahead", host="s3.amazonaws.com", when=when)
    assert reply.status == 403
    assert b"RequestTimeTooSkewed" in reply.body
    assert len(shared.records("deny")) == before + 1
    assert heard == []
    ask(shared, "GET", "/plain/read-ahead", host="s3.amazonaws.com", when=when)
    assert heard == ["GET /plain/read-ahead"], "reading twice is no harm"


def test_a_change_that_was_sent_is_not_taken_by_the_gateway_that_begins_after(moto: str) -> None:
    with account(moto) as made:
        request = signed(made, "PUT", "/before-and-after", host="s3.amazonaws.com")
        assert send(made, request, host="s3.amazonaws.com").status == 200, "the first of all takes changes at once"
        made.gateway.stop()
        made.gateway.start()
        heard, _ = WATCH.begin()
        assert send(made, request, host="s3.amazonaws.com").status == 503
        assert heard == []


def test_a_key_that_was_not_made_just_now_may_have_served_before(tmp_path: Path) -> None:
    """Nobody vouches for a key of an older gateway, of a backup, or of another folder."""
    key = tmp_path / "keys" / "aws.key"
    load_or_create(key)
    old = key.read_bytes()
    assert [is_first(key), is_first(key)] == [True, False]
    load_or_create(key)
    assert not is_first(key), "a gateway that begins again makes no key"
    key.unlink()
    load_or_create(key)
    marks = sorted(key.parent.glob("aws.key.*"))
    key.write_bytes(old)
    assert not is_first(key), "it is another key than the new one"
    for mark in marks:
        mark.unlink()
    key.unlink()
    load_or_create(key)
    (mark,) = key.parent.glob("aws.key.*")
    os.utime(mark, (time.time() - 3600, time.time() - 3600))
    assert not is_first(key), "it was made an hour ago"
    assert sorted(key.parent.iterdir()) == [key]
