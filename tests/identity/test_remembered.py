"""Tokens that were verified before: their signature is not computed again, and everything that can have changed is looked at."""

from __future__ import annotations

import asyncio
import pickle

import pytest

from ostiary.identity import jose
from ostiary.identity import verifier as verifying
from ostiary.identity.exchange import Wanted, exchange
from ostiary.identity.standing import STOPPED, actor_key, stop_body
from ostiary.model.errors import NotAdmitted, Reason
from ostiary.model.identity import Claims, Said
from ostiary.model.secrets import Secret
from ostiary.store.news import News

FRESH = 301.0
"""Seconds after which an issuer's keys are asked for anew."""


@pytest.fixture
def signatures(monkeypatch):
    """The messages whose signatures were computed."""
    seen: list[bytes] = []
    computed = jose.verify_signature

    def counting(alg, message, signature, key):
        seen.append(message)
        return computed(alg, message, signature, key)

    monkeypatch.setattr(jose, "verify_signature", counting)
    return seen


def told(house, story):
    """Run a story with a verifier whose key set is `house`'s."""
    asyncio.run(story(house.verifier(keys_fresh_seconds=FRESH - 1, keys_stale_seconds=FRESH + 100)))


async def refused(verifier, token, now, **more) -> Reason:
    with pytest.raises(NotAdmitted) as caught:
        await verifier.verify_token(token, now, **more)
    return caught.value.reason


def own_token(house, parent, **wanted) -> str:
    return exchange(house.signer, parent, None, Wanted(**wanted), known=frozenset({"orders", "other"}), now=house.now).token


def test_the_signature_of_the_same_token_is_computed_once(house, signatures):
    async def story(verifier):
        token, other = house.idp.mint(), house.idp.mint()
        first = await verifier.verify_token(token, house.now)
        assert await verifier.verify_token(token, house.now) == first
        assert len(signatures) == 1
        await verifier.verify_token(other, house.now)
        own = own_token(house, first)
        mine = await verifier.verify_token(own, house.now)
        assert await verifier.verify_token(own, house.now) == mine
        assert len(signatures) == 3

    told(house, story)


def test_a_token_that_differs_in_its_signature_alone_is_another(house, signatures):
    async def story(verifier):
        token = house.idp.mint()
        await verifier.verify_token(token, house.now)
        head, _, signature = token.rpartition(".")
        other = f"{head}.{'A' if signature[0] != 'A' else 'B'}{signature[1:]}"
        for _ in range(2):
            assert await refused(verifier, other, house.now) is Reason.BAD_TOKEN
        assert len(signatures) == 3  # what was refused is not remembered

    told(house, story)


@pytest.mark.parametrize("own", [False, True])
def test_it_expires_and_has_not_begun_when_the_clock_says_so(house, own):
    async def story(verifier):
        now = house.now
        token = house.idp.mint()
        proved = await verifier.verify_token(token, now)
        if own:
            token = own_token(house, proved)
            proved = await verifier.verify_token(token, now)
        assert await refused(verifier, token, proved.identity.expires) is Reason.EXPIRED_TOKEN
        assert await refused(verifier, token, now - 3600) is Reason.BAD_TOKEN
        assert await verifier.verify_token(token, now) == proved

    told(house, story)


def test_when_somebody_logged_in_is_said_as_it_would_be_without_remembering(house):
    async def story(verifier):
        now = house.now
        for over in ({"iat": int(now) + 20}, {"iat": None}, {"auth_time": int(now) + 10}, {}):
            token = house.idp.mint(**over)
            for later in (0, 5, 30, 40):
                fresh = house.verifier()
                assert await verifier.verify_token(token, now + later) == await fresh.verify_token(token, now + later)

    told(house, story)


def test_revocation_a_stop_and_silence_of_the_control_process_are_seen_at_once(house):
    async def story(verifier):
        token = house.idp.mint()
        who = (await verifier.verify_token(token, house.now)).identity
        house.revoke(who.auth.token, int(house.now) + 3600)
        assert await refused(verifier, token, house.now) is Reason.REVOKED_TOKEN
        again = house.idp.mint()
        await verifier.verify_token(again, house.now)
        key = actor_key(who.issuer, who.subject)
        house.standing.heard(News(2, STOPPED, key, stop_body(Reason.STOPPED_ACTOR, ""), int(house.now) + 3600))
        assert await refused(verifier, again, house.now) is Reason.STOPPED_ACTOR
        house.standing.heard(News(3, STOPPED, key, None, int(house.now) + 3600))
        await verifier.verify_token(again, house.now)
        house.standing._is_current = lambda: False
        assert await refused(verifier, again, house.now) is Reason.CONTROL_UNREACHABLE

    told(house, story)


def test_a_key_that_the_issuer_has_withdrawn_verifies_nothing_any_more(house):
    async def story(verifier):
        token = house.idp.mint()
        await verifier.verify_token(token, house.now)
        house.idp.rotate(keep_old=False)
        house.ticks[0] += FRESH
        assert await refused(verifier, token, house.now) is Reason.BAD_TOKEN

    told(house, story)


def test_another_key_of_the_same_name_is_another_key(house, signatures):
    async def story(verifier):
        token = house.idp.mint()
        await verifier.verify_token(token, house.now)
        house.idp.add_key(house.idp.kid, house.idp.algorithm)
        house.ticks[0] += FRESH
        assert await refused(verifier, token, house.now) is Reason.BAD_TOKEN
        assert len(signatures) == 2

    told(house, story)


def test_keys_that_are_fetched_anew_have_the_signature_computed_anew(house, signatures):
    async def story(verifier):
        token = house.idp.mint()
        await verifier.verify_token(token, house.now)
        house.ticks[0] += FRESH
        await verifier.verify_token(token, house.now)
        await verifier.verify_token(token, house.now)
        assert len(signatures) == 2

    told(house, story)


def test_an_issuer_that_cannot_be_reached_for_too_long_lets_nobody_in(house):
    async def story(verifier):
        token = house.idp.mint()
        await verifier.verify_token(token, house.now)
        house.idp.down = True
        house.ticks[0] += FRESH
        await verifier.verify_token(token, house.now)
        house.ticks[0] += 200
        assert await refused(verifier, token, house.now) is Reason.ISSUER_UNREACHABLE

    told(house, story)


def test_for_which_connection_it_is_is_asked_each_time(house):
    async def story(verifier):
        parent = await verifier.verify_token(house.idp.mint(), house.now)
        token = own_token(house, parent, connections=frozenset({"orders"}))

        async def show(connection):
            claims = Claims(connection=connection, token=Secret(token), said=Said(address="127.0.0.1:1"))
            return await verifier.verify(claims, house.now)

        assert (await show("orders")).audience == {"orders"}
        with pytest.raises(NotAdmitted) as caught:
            await show("other")
        assert caught.value.reason is Reason.WRONG_AUDIENCE

    told(house, story)


def test_the_key_that_it_is_bound_to_is_asked_for_each_time(house):
    async def story(verifier):
        thumbprint = jose.encode_base64url(bytes(range(32)))
        token = house.idp.mint(cnf={"jkt": thumbprint})
        assert await refused(verifier, token, house.now) is Reason.BAD_TOKEN
        await verifier.verify_token(token, house.now, key=thumbprint)
        assert await refused(verifier, token, house.now) is Reason.BAD_TOKEN
        assert await refused(verifier, token, house.now, key=jose.encode_base64url(bytes(32))) is Reason.BAD_TOKEN

    told(house, story)


def test_what_is_remembered_can_be_shown_nowhere_and_is_bounded(house, monkeypatch):
    monkeypatch.setattr(verifying, "MAX_REMEMBERED", 3)

    async def story(verifier):
        tokens = [house.idp.mint() for _ in range(5)]
        for token in tokens:
            await verifier.verify_token(token, house.now)
        held = list(verifier._remembered.values())
        assert len(held) == 3
        kept = pickle.dumps([(each.jws, each.proved) for each in held])
        for token in tokens:
            assert token.partition(".")[2].encode() not in kept
            assert jose.decode_base64url(token.rpartition(".")[2]) not in kept

    told(house, story)
