"""Logging in on both sides, as conversations: what is heard, what is said."""

from __future__ import annotations

import base64
import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostiary.model.errors import Misdeed, NotAdmitted, OstiaryError, PeerMisbehaved, Reason, Unsupported
from ostiary.model.secrets import Secret
from ostiary.protocols.postgres import decode, encode, login
from ostiary.protocols.postgres import messages as m
from ostiary.protocols.postgres.scram import MAX_ITERATIONS, Derivation, KeyCache, Keys, Scram, prepared

TOKEN = "eyJ.token"
SSL = encode.SSL_REQUEST
GSS = encode.GSSENC_REQUEST


def hello(version=m.PROTOCOL_3_0, **parameters):
    given_ = {"user": "ana", "database": "orders-db"} | parameters
    return encode.encode(m.StartupMessage(version, tuple(given_.items())))


def password(text=TOKEN):
    return encode.encode(m.PasswordMessage(text.encode()))


def server(**rest):
    return login.ServerLogin(**({"address": "10.0.0.1:5", "offers_tls": True, "allows_clear": False} | rest))


# --- towards the client -----------------------------------------------------------------------------------------------


def test_a_client_logs_in_over_tls():
    door = server()
    assert door.receive(GSS) == login.Reply(b"N")
    assert door.receive(SSL) == login.StartTls(b"S")
    door.secured()
    assert door.receive(hello(application_name="psql")) == login.Reply(encode.CLEARTEXT_PASSWORD)
    step = door.receive(password())
    assert isinstance(step, login.Present)
    assert step.claims.connection == "orders-db"
    assert step.claims.token.reveal() == TOKEN
    assert step.claims.said.user == "ana"
    assert step.claims.said.application == "psql"
    assert step.claims.said.address == "10.0.0.1:5"
    assert step.parameters == {"application_name": "psql", "client_encoding": "UTF8"}
    assert step.version == m.PROTOCOL_3_0
    assert step.refused is None
    assert TOKEN not in repr(step)


def test_every_message_may_come_byte_by_byte():
    door = server(allows_clear=True)
    for wire, kind in ((hello(), login.Reply), (password(), login.Present)):
        assert all(door.receive(wire[i : i + 1]) is None for i in range(len(wire) - 1))
        assert isinstance(door.receive(wire[-1:]), kind)


def test_on_loopback_no_tls_is_needed():
    door = server(allows_clear=True, offers_tls=False)
    assert door.receive(SSL) == login.Reply(b"N")
    assert isinstance(door.receive(hello()), login.Reply)


def test_elsewhere_no_token_is_asked_for_in_clear():
    with pytest.raises(NotAdmitted) as caught:
        server().receive(hello())
    assert caught.value.reason is Reason.NEEDS_TLS
    assert caught.value.hint


@pytest.mark.parametrize("behind", [b"\0", SSL, hello()])
@pytest.mark.parametrize("first", [SSL, GSS, hello()])
def test_nothing_stands_behind_a_login_message(first, behind):
    with pytest.raises(PeerMisbehaved) as caught:
        server(allows_clear=True).receive(first + behind)
    assert caught.value.why is Misdeed.TOO_EARLY


def test_nothing_is_said_before_the_login_is_answered():
    door = server(allows_clear=True)
    door.receive(hello())
    door.receive(password())
    with pytest.raises(PeerMisbehaved) as caught:
        door.receive(encode.encode(m.Query(b"select 1")))
    assert caught.value.why is Misdeed.TOO_EARLY


def test_nothing_stands_behind_the_password():
    door = server(allows_clear=True)
    door.receive(hello())
    with pytest.raises(PeerMisbehaved):
        door.receive(password() + encode.encode(m.Query(b"select 1")))


@pytest.mark.parametrize("again", [SSL, GSS])
def test_encryption_is_asked_for_once_and_not_inside_tls(again):
    door = server()
    door.receive(again)
    with pytest.raises(PeerMisbehaved):
        door.receive(again)
    door = server()
    door.receive(SSL)
    door.secured()
    with pytest.raises(PeerMisbehaved):
        door.receive(again)
    with pytest.raises(PeerMisbehaved):
        server(is_secured=True).receive(again)


def test_a_cancel_request_is_handed_on():
    door = server()
    request = m.CancelRequest(5, b"k" * 32)
    assert door.receive(encode.encode(request)) == login.Cancel(request)


@pytest.mark.parametrize(("asked", "spoken"), [((3 << 16) | 9999, m.PROTOCOL_3_2), (m.PROTOCOL_3_2, m.PROTOCOL_3_2)])
def test_newer_protocols_are_talked_down(asked, spoken):
    door = server(allows_clear=True)
    step = door.receive(hello(asked, **{"_pq_.test": "x"}))
    buf = bytearray(step.data)
    assert decode.next_backend(buf) == m.NegotiateProtocolVersion(spoken, ("_pq_.test",))
    assert decode.next_backend(buf) == m.AuthenticationCleartextPassword()
    assert door.receive(password()).version == spoken


def test_the_user_stands_for_a_database_that_is_not_named():
    door = server(allows_clear=True)
    door.receive(hello(database=""))
    assert door.receive(password()).claims.connection == "ana"


@pytest.mark.parametrize(
    "wrong",
    [
        {"search_path": "evil"},
        {"role": "postgres"},
        {"options": "-c search_path=evil"},
        {"options": "-csearch_path=evil"},
        {"options": "--search-path=evil"},
        {"options": "-c"},
        {"options": "-F"},
        {"options": "-c standard_conforming_strings=off"},
        {"options": "-c DateStyle=ISO -c session_authorization=x"},
        {"options": "\\-c search_path=x"},
        {"replication": "database"},
        {"replication": "true"},
        {"client_encoding": "LATIN1"},
        {"client_encoding": "SJIS"},
        {"client_encoding": "UTF8'; drop"},
        {"application_name": "x\x1b[2J"},
        {"application_name": "x" * 257},
        {"User": "x"},
    ],
)
def test_what_nobody_looks_at_is_not_set_at_startup(wrong):
    door = server(allows_clear=True)
    door.receive(hello(**wrong))
    # Who asked comes first: the refusal goes on record under a name.
    present = door.receive(password())
    assert isinstance(present.refused, Unsupported)
    assert present.parameters == {}
    assert "\x1b" not in str(present.refused)


@pytest.mark.parametrize("spelling", ["UTF8", "utf-8", "'utf-8'", "Unicode", "utf_8"])
def test_drivers_spell_utf8_in_many_ways(spelling):
    assert login.startup_settings({"client_encoding": spelling}) == {"client_encoding": "UTF8"}


def test_who_asks_for_no_conversion_gets_utf8():
    assert login.startup_settings({"client_encoding": "sql_ascii"}) == {"client_encoding": "UTF8"}


def test_options_may_set_what_may_be_set_plainly():
    given_ = {"options": "-c intervalstyle=postgres_verbose --TimeZone=UTC", "timezone": "PST8PDT", "replication": "0"}
    assert login.startup_settings(given_) == {
        "IntervalStyle": "postgres_verbose",
        "TimeZone": "PST8PDT",
        "client_encoding": "UTF8",
    }


def test_options_are_split_as_the_server_splits_them():
    assert login.split_options("-c DateStyle=ISO,\\ MDY\t-c\nx=\\\\") == [("DateStyle", "ISO, MDY"), ("x", "\\")]
    assert login.split_options("") == []
    assert login.split_options(" \t ") == []


@pytest.mark.parametrize("wire", [encode.TERMINATE, encode.encode(m.Query(b"")), b"p\0\1\0\0"])
def test_only_a_password_answers_the_question_for_one(wire):
    door = server(allows_clear=True)
    door.receive(hello())
    with pytest.raises(PeerMisbehaved):
        door.receive(wire)


def test_no_password_is_no_token():
    door = server(allows_clear=True)
    door.receive(hello())
    with pytest.raises(NotAdmitted) as caught:
        door.receive(password(""))
    assert caught.value.reason is Reason.NO_TOKEN


def test_a_welcome_is_what_libpq_waits_for():
    buf = bytearray(login.welcome([("server_version", "15.1"), ("TimeZone", "UTC")], 7, b"k" * 32))
    said = []
    while buf:
        said.append(decode.next_backend(buf))
    assert said == [
        m.AuthenticationOk(),
        m.ParameterStatus("server_version", "15.1"),
        m.ParameterStatus("TimeZone", "UTC"),
        m.BackendKeyData(7, b"k" * 32),
        m.ReadyForQuery("I"),
    ]


@given(st.binary(max_size=80), st.booleans())
def test_any_bytes_of_a_login_end_in_a_step_or_an_error_of_ours(wire, started):
    door = server(allows_clear=True)
    if started:
        door.receive(hello())
    try:
        door.receive(wire)
    except OstiaryError:
        return


# --- towards the target -----------------------------------------------------------------------------------------------

PASSWORD = "pencil-s3cret"
NONCE = "rOprNGfwEbeRWgbNEkqO"


class Server:
    """A SCRAM server in memory: RFC 5802, 3, written from the formulas."""

    def __init__(self, secret=PASSWORD, iterations=4096, salt=b"0123456789abcdef"):
        self.salt, self.iterations = salt, iterations
        salted = hashlib.pbkdf2_hmac("sha256", secret.encode(), salt, min(iterations, 4096))
        self.stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
        self.server_key = hmac.digest(salted, b"Server Key", "sha256")

    def challenge(self, first, nonce_tail="3rfcNHYJY1ZVvWVs7j"):
        self.gs2, _, self.bare = first.partition(b",,")
        nonce = self.bare.partition(b"r=")[2].decode() + nonce_tail
        self.said = f"r={nonce},s={base64.b64encode(self.salt).decode()},i={self.iterations}".encode()
        return self.said

    def final(self, last):
        without, _, proof = last.rpartition(b",p=")
        auth = b",".join((self.bare, self.said, without))
        signature = hmac.digest(self.stored, auth, "sha256")
        key = bytes(a ^ b for a, b in zip(base64.b64decode(proof), signature, strict=True))
        assert hashlib.sha256(key).digest() == self.stored, "the client's proof is wrong"
        self.bound = base64.b64decode(without.split(b",")[0][2:])
        return b"v=" + base64.b64encode(hmac.digest(self.server_key, auth, "sha256"))


def client(secret=PASSWORD, *, clear_allowed=False, binding=None, cache=None, user="svc"):
    return login.ClientLogin(
        user=user,
        database="shop",
        password=None if secret is None else Secret(secret),
        settings={"application_name": "ostiary"},
        nonce=NONCE,
        clear_allowed=clear_allowed,
        binding=binding,
        cache=cache or KeyCache(),
    )


def said(data):
    return decode.next_frontend(bytearray(data))


def begin(us, mechanisms=("SCRAM-SHA-256",)):
    first = decode.sasl_initial_response(said(us.receive(m.AuthenticationSASL(mechanisms))))
    return first.mechanism, first.data


def prove(us, them, first):
    work = us.receive(m.AuthenticationSASLContinue(them.challenge(first)))
    data = us.derived(work.run()) if isinstance(work, Derivation) else work
    return them.final(said(data).data)


def finish(us):
    for message in (
        m.ParameterStatus("server_version", "15.1"),
        m.NoticeResponse(()),
        m.BackendKeyData(9, b"abcd"),
        m.ReadyForQuery("I"),
    ):
        assert us.receive(message) == b""
    return us.done


def test_the_gateway_asks_for_3_0_with_its_settings():
    packet = decode.next_startup(bytearray(client().start()))
    assert packet.version == m.PROTOCOL_3_0
    assert packet.parameters == (("user", "svc"), ("database", "shop"), ("application_name", "ostiary"))


def test_a_scram_login_whole():
    us, them = client(), Server()
    mechanism, first = begin(us)
    assert (mechanism, first[:4]) == ("SCRAM-SHA-256", b"n,,n")
    assert us.receive(m.AuthenticationSASLFinal(prove(us, them, first))) == b""
    assert us.receive(m.AuthenticationOk()) == b""
    assert us.done is None
    done = finish(us)
    assert done.parameters == {"server_version": "15.1"}
    assert (done.process_id, done.secret_key) == (9, b"abcd")


def test_keys_are_cached_once_they_proved_right():
    cache = KeyCache()
    for cached in (False, True):
        us, them = client(cache=cache), Server()
        _, first = begin(us)
        step = us.receive(m.AuthenticationSASLContinue(them.challenge(first)))
        assert isinstance(step, bytes) is cached
        data = step if isinstance(step, bytes) else us.derived(step.run())
        us.receive(m.AuthenticationSASLFinal(them.final(said(data).data)))


def test_the_cache_is_bounded_and_forgets_the_oldest():
    cache = KeyCache(2)
    work = [Derivation(Secret(str(i)), b"salt", 1) for i in range(3)]
    for one in work:
        cache.keep(one, Keys(b"", b""))
    assert [cache.find(one) is None for one in work] == [True, False, False]


@pytest.mark.parametrize(
    ("mechanisms", "binding", "chosen", "gs2"),
    [
        (("SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"), b"h" * 32, "SCRAM-SHA-256-PLUS", b"p=tls-server-end-point"),
        (("SCRAM-SHA-256",), b"h" * 32, "SCRAM-SHA-256", b"y"),
        (("SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"), None, "SCRAM-SHA-256", b"n"),
    ],
)
def test_the_channel_is_bound_where_it_can_be(mechanisms, binding, chosen, gs2):
    us, them = client(binding=binding), Server()
    mechanism, first = begin(us, mechanisms)
    assert mechanism == chosen
    us.receive(m.AuthenticationSASLFinal(prove(us, them, first)))
    assert them.gs2 == gs2
    assert them.bound == gs2 + b",," + (binding if chosen.endswith("PLUS") else b"")


def test_a_target_that_does_not_prove_itself_is_not_logged_in_to():
    for prove_first in (False, True):
        us, them = client(), Server()
        _, first = begin(us)
        if prove_first:
            prove(us, them, first)
        with pytest.raises(PeerMisbehaved) as caught:
            us.receive(m.AuthenticationOk())
        assert caught.value.why is Misdeed.BAD_PROOF


@pytest.mark.parametrize("final", [b"v=" + base64.b64encode(b"x" * 32), b"v=AA==", b"v=!", b"", b"v=", b"x=1"])
def test_a_wrong_server_signature_is_found_out(final):
    us, them = client(), Server()
    _, first = begin(us)
    prove(us, them, first)
    with pytest.raises(PeerMisbehaved):
        us.receive(m.AuthenticationSASLFinal(final))


def test_a_target_that_knows_another_password_is_found_out():
    us, them = client(), Server("another")
    _, first = begin(us)
    with pytest.raises(AssertionError, match="proof is wrong"):
        prove(us, them, first)
    with pytest.raises(NotAdmitted) as caught:
        us.receive(m.AuthenticationSASLFinal(b"e=invalid-proof"))
    assert caught.value.reason is Reason.TARGET_REFUSED


@pytest.mark.parametrize(
    ("challenge", "why"),
    [
        (f"r={NONCE}x,s=c2FsdA==,i={MAX_ITERATIONS + 1}", Misdeed.TOO_COSTLY),
        (f"r={NONCE}x,s=c2FsdA==,i=10000000", Misdeed.TOO_COSTLY),
        (f"r={NONCE}x,s=c2FsdA==,i={'9' * 500}", Misdeed.TOO_COSTLY),
        (f"r={NONCE}x,s=c2FsdA==,i=0", Misdeed.BAD_FIELD),
        (f"r={NONCE}x,s=c2FsdA==,i=-1", Misdeed.BAD_FIELD),
        (f"r={NONCE}x,s=c2FsdA==,i=+4096", Misdeed.BAD_FIELD),
        (f"r={NONCE},s=c2FsdA==,i=4096", Misdeed.BAD_PROOF),
        ("r=somebodyelse,s=c2FsdA==,i=4096", Misdeed.BAD_PROOF),
        (f"r={NONCE}{'x' * 600},s=c2FsdA==,i=4096", Misdeed.BAD_PROOF),
        (f"r={NONCE}x,s=,i=4096", Misdeed.BAD_FIELD),
        (f"r={NONCE}x,s=%%%,i=4096", Misdeed.BAD_FIELD),
        (f"r={NONCE}x,s={base64.b64encode(b's' * 257).decode()},i=4096", Misdeed.BAD_LENGTH),
        (f"m=x,r={NONCE}x,s=c2FsdA==,i=4096", Misdeed.BAD_FIELD),
        (f"r={NONCE}x,s=c2FsdA==,i=4096,x=1", Misdeed.BAD_FIELD),
        (f"r={NONCE}\x7f,s=c2FsdA==,i=4096", Misdeed.BAD_FIELD),
        (f"r={NONCE}é,s=c2FsdA==,i=4096", Misdeed.BAD_TEXT),
        ("r=" + "x" * 3000, Misdeed.BAD_LENGTH),
    ],
)
def test_a_hostile_challenge_is_refused(challenge, why):
    us = client()
    begin(us)
    with pytest.raises(PeerMisbehaved) as caught:
        us.receive(m.AuthenticationSASLContinue(challenge.encode()))
    assert caught.value.why is why


@given(st.binary(max_size=80), st.binary(max_size=80))
def test_any_sasl_bytes_are_read_or_misbehaviour(challenge, final):
    scram = Scram("SCRAM-SHA-256", Secret(PASSWORD), NONCE, None)
    for step, data in ((scram.challenge, challenge), (scram.check_server, final)):
        try:
            step(data)
        except (PeerMisbehaved, NotAdmitted):
            continue


def test_the_example_of_rfc_7677_comes_out():
    scram = Scram("SCRAM-SHA-256", Secret("pencil"), NONCE, None)
    scram._bare = b"n=user,r=" + NONCE.encode()
    work = scram.challenge(b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096")
    assert scram.proof(work.run()).endswith(b",p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=")
    scram.check_server(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=")


def test_md5_is_answered_with_user_and_salt():
    us = client(user="svc")
    answer = decode.password_message(said(us.receive(m.AuthenticationMD5Password(b"salt")))).password
    inner = hashlib.md5((PASSWORD + "svc").encode()).hexdigest().encode()
    assert answer == b"md5" + hashlib.md5(inner + b"salt").hexdigest().encode()
    us.receive(m.AuthenticationOk())
    assert finish(us)


def test_a_password_goes_out_in_clear_only_where_that_is_allowed():
    us = client(clear_allowed=True)
    assert decode.password_message(said(us.receive(m.AuthenticationCleartextPassword()))).password == PASSWORD.encode()
    with pytest.raises(NotAdmitted) as caught:
        client().receive(m.AuthenticationCleartextPassword())
    assert caught.value.reason is Reason.TARGET_REFUSED


def test_a_target_that_asks_for_nothing_is_let_be():
    us = client(None)
    us.receive(m.AuthenticationOk())
    assert finish(us)


@pytest.mark.parametrize(
    "messages",
    [
        [m.AuthenticationSASL(("SCRAM-SHA-256",)), m.AuthenticationCleartextPassword()],
        [m.AuthenticationSASL(("SCRAM-SHA-256",)), m.AuthenticationMD5Password(b"salt")],
        [m.AuthenticationSASL(("SCRAM-SHA-256",)), m.AuthenticationSASLFinal(b"v=x")],
        [m.AuthenticationMD5Password(b"salt"), m.AuthenticationCleartextPassword()],
        [m.AuthenticationSASLContinue(b"r=x")],
        [m.ReadyForQuery("I")],
        [m.BackendKeyData(1, b"abcd")],
        [m.NegotiateProtocolVersion(m.PROTOCOL_3_0, ())],
        [m.AuthenticationOk(), m.AuthenticationOk()],
        [m.AuthenticationOk(), m.CommandComplete("SELECT 1")],
    ],
)
def test_a_target_that_speaks_out_of_turn_is_cut(messages):
    us = client(clear_allowed=True)
    with pytest.raises(PeerMisbehaved):
        for message in messages:
            us.receive(message)


def test_endless_notices_are_cut():
    us = client()
    with pytest.raises(PeerMisbehaved) as caught:
        for _ in range(login.MAX_LOGIN_MESSAGES + 1):
            us.receive(m.NoticeResponse(()))
    assert caught.value.why is Misdeed.TOO_COSTLY


@pytest.mark.parametrize(
    "message",
    [m.AuthenticationOther(7, b""), m.AuthenticationSASL(("OAUTHBEARER",)), m.AuthenticationSASL(())],
)
def test_other_ways_of_proving_are_not_spoken(message):
    with pytest.raises(NotAdmitted) as caught:
        client().receive(message)
    assert caught.value.reason is Reason.TARGET_REFUSED


def test_a_target_that_says_the_password_back_does_not_get_it_through():
    us = client()
    text = f'password "{PASSWORD}" is wrong\x1b[2J'.encode()
    with pytest.raises(NotAdmitted) as caught:
        us.receive(m.ErrorResponse((("C", b"28P01"), ("M", text))))
    assert PASSWORD not in str(caught.value)
    assert "\x1b" not in str(caught.value)
    assert "28P01" in str(caught.value)


def test_nothing_of_a_login_shows_the_password():
    us, them = client(), Server()
    _, first = begin(us)
    work = us.receive(m.AuthenticationSASLContinue(them.challenge(first)))
    keys = work.run()
    for thing in (us, us._scram, work, keys, us._cache):
        assert PASSWORD not in repr(thing)
    assert repr(keys) == "Keys(…)"


@pytest.mark.parametrize(
    ("typed", "used"),
    [
        ("pencil", "pencil"),
        ("I\u00adX", "IX"),
        ("\u00aa", "a"),
        ("\u2168", "IX"),
        ("a\u00a0b", "a b"),
        ("x\u0007", "x\u0007"),
        ("\u0627\u0031", "\u0627\u0031"),
        ("", ""),
        ("é", "é"),
        ("e\u0301", "é"),
    ],
)
def test_passwords_are_prepared_as_postgresql_does(typed, used):
    assert prepared(typed) == used.encode()


def test_every_reason_can_be_told_in_this_protocol():
    from ostiary.protocols.postgres.refusals import SQLSTATES

    assert set(SQLSTATES) >= set(Reason)
