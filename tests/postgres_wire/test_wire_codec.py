"""Decoders have three outcomes, whatever the bytes are; encoders are their inverse."""

from __future__ import annotations

import pytest
import vectors
from hypothesis import given
from hypothesis import strategies as st

from ostiary.model.errors import Misdeed, PeerMisbehaved, Unsupported
from ostiary.protocols.postgres import decode, encode
from ostiary.protocols.postgres import messages as m

DECODERS = [
    pytest.param(decode.next_startup, vectors.UNTAGGED, id="startup"),
    pytest.param(decode.next_frontend, vectors.FRONTEND, id="frontend"),
    pytest.param(decode.next_backend, vectors.BACKEND, id="backend"),
]


def untagged(body):
    return (len(body) + 4).to_bytes(4, "big") + body


@pytest.mark.parametrize(("take", "known"), DECODERS)
def test_every_vector_is_read_whole_and_written_back(take, known):
    for wire, message in known:
        buf = bytearray(wire)
        assert take(buf) == message
        assert not buf
        assert encode.encode(message) == wire


@pytest.mark.parametrize(("take", "known"), DECODERS)
def test_every_vector_is_read_byte_by_byte(take, known):
    for wire, message in known:
        buf = bytearray()
        for byte in wire[:-1]:
            buf.append(byte)
            assert take(buf) is None
        buf.append(wire[-1])
        assert take(buf) == message


@pytest.mark.parametrize(("take", "known"), DECODERS)
def test_a_tail_is_left_alone(take, known):
    for wire, message in known:
        buf = bytearray(wire + b"tail")
        assert take(buf) == message
        assert buf == b"tail"


@pytest.mark.parametrize(("one", "known"), [(decode.frontend, vectors.FRONTEND), (decode.backend, vectors.BACKEND)])
def test_a_body_that_is_cut_or_has_more_is_never_read_as_the_same_message(one, known):
    for wire, message in known:
        for body in [wire[5:cut] for cut in range(5, len(wire))] + [wire[5:] + b"\0", wire[5:] + b"x"]:
            other = encode.frame(wire[:1], body)
            try:
                assert one(other) != message
            except PeerMisbehaved:
                continue
            assert encode.encode(one(other)) == other


@given(st.binary(max_size=120))
def test_any_bytes_before_startup_are_a_packet_or_misbehaviour(wire):
    buf = bytearray(wire)
    try:
        message = decode.next_startup(buf)
    except (PeerMisbehaved, Unsupported):
        return
    if message is None:
        assert buf == wire
    else:
        assert encode.encode(message) + buf == wire


@given(st.sampled_from(sorted(b"BCDEFHPQSXcdfpy")), st.binary(max_size=60))
def test_any_body_of_a_client_is_a_message_or_misbehaviour(tag, body):
    wire = encode.frame(bytes([tag]), body)
    try:
        message = decode.next_frontend(bytearray(wire))
    except PeerMisbehaved:
        return
    assert encode.encode(message) == wire


@given(st.sampled_from(sorted(b"123ACDEGHIKNRSTVWZcdnstv")), st.binary(max_size=60))
def test_any_body_of_a_server_is_a_message_or_misbehaviour(tag, body):
    wire = encode.frame(bytes([tag]), body)
    try:
        message = decode.next_backend(bytearray(wire))
    except PeerMisbehaved:
        return
    assert encode.encode(message) == wire


@given(st.binary(max_size=60), st.booleans())
def test_any_bytes_are_a_message_more_or_misbehaviour(wire, from_client):
    take = decode.next_frontend if from_client else decode.next_backend
    buf = bytearray(wire)
    try:
        message = take(buf)
    except PeerMisbehaved:
        return
    assert message is not None or buf == wire


@given(vectors.untagged_messages)
def test_what_is_written_before_startup_is_read_back(message):
    assert decode.next_startup(bytearray(encode.encode(message))) == message


@given(vectors.frontend_messages)
def test_what_is_written_for_a_client_is_read_back(message):
    assert decode.next_frontend(bytearray(encode.encode(message))) == message


@given(vectors.backend_messages)
def test_what_is_written_for_a_server_is_read_back(message):
    assert decode.next_backend(bytearray(encode.encode(message))) == message


@pytest.mark.parametrize(
    ("wire", "why"),
    [
        (b"Q\0\0\0\x05x", Misdeed.BAD_FIELD),
        (b"Q\0\0\0\x08a\0b\0", Misdeed.TRAILING_BYTES),
        (b"Q\0\0\0\4", Misdeed.BAD_FIELD),
        (b"y\0\0\0\4", Misdeed.UNKNOWN_TAG),
        (b"S\0\0\0\5x", Misdeed.TRAILING_BYTES),
        (b"D\0\0\0\x06X\0", Misdeed.BAD_FIELD),
        (b"P\0\0\0\x08\0\0\xff\xff", Misdeed.BAD_LENGTH),
        (b"B\0\0\0\x0c\0\0\0\0\xff\xff\0\0", Misdeed.BAD_LENGTH),
        (b"B\0\0\0\x10\0\0\0\0\0\1\xff\xff\xff\xfe\0\0", Misdeed.BAD_LENGTH),
        (b"B\0\0\0\x0e\0\0\0\1\0\2\0\0\0\0", Misdeed.BAD_FIELD),
        (b"E\0\0\0\x08\0\0\0\0", Misdeed.BAD_LENGTH),
    ],
)
def test_what_a_client_must_not_say_is_named(wire, why):
    with pytest.raises(PeerMisbehaved) as caught:
        decode.next_frontend(bytearray(wire))
    assert caught.value.why is why


@pytest.mark.parametrize(
    ("packet", "why"),
    [
        (b"\0\0\0\x07\0\3\0", Misdeed.BAD_LENGTH),
        (b"\0\0\x27\x15\0\3\0\0", Misdeed.BAD_LENGTH),
        (b"\x16\3\1\2\0\1\0\1\xfc", Misdeed.BAD_LENGTH),
        (untagged(b"\0\3\0\0"), Misdeed.BAD_FIELD),
        (untagged(b"\0\3\0\0user\0a"), Misdeed.BAD_FIELD),
        (untagged(b"\0\3\0\0user\0a\0"), Misdeed.BAD_FIELD),
        (untagged(b"\0\3\0\0user\0a\0\0x"), Misdeed.TRAILING_BYTES),
        (untagged(b"\0\3\0\0u\0\xff\0\0"), Misdeed.BAD_TEXT),
        (untagged(b"\0\3\0\0u\0a\0u\0b\0\0"), Misdeed.BAD_FIELD),
        (untagged(b"\x04\xd2\x16\x2fx"), Misdeed.TRAILING_BYTES),
        (untagged(b"\x04\xd2\x16\x2e\0\0\0\1abc"), Misdeed.BAD_LENGTH),
        (untagged(b"\x04\xd2\x16\x2e\0\0\0\1" + b"k" * 257), Misdeed.BAD_LENGTH),
    ],
)
def test_what_a_startup_packet_must_not_be_is_named(packet, why):
    with pytest.raises(PeerMisbehaved) as caught:
        decode.next_startup(bytearray(packet))
    assert caught.value.why is why


@pytest.mark.parametrize("version", [b"\0\2\0\0", b"\0\4\0\0", b"\x04\xd2\x16\x31", b"\0\0\0\0"])
def test_other_protocols_are_not_spoken_and_said_so(version):
    with pytest.raises(Unsupported) as caught:
        decode.next_startup(bytearray(b"\0\0\0\x09" + version + b"\0"))
    assert caught.value.hint


def test_messages_do_not_show_what_they_hold():
    secret = b"hunter2"
    for message in [
        m.AuthenticationData(secret),
        m.PasswordMessage(secret),
        m.SASLResponse(secret),
        m.SASLInitialResponse("SCRAM-SHA-256", secret),
        m.Query(secret),
        m.Bind(b"", b"", (), (secret,), ()),
        m.CopyData(secret),
        m.DataRow(secret),
        m.CancelRequest(1, secret),
        m.BackendKeyData(1, secret),
        m.ErrorResponse((("M", secret),)),
    ]:
        assert "hunter2" not in repr(message)


def test_what_does_not_fit_the_wire_is_our_own_bug():
    with pytest.raises(ValueError, match="NUL"):
        encode.encode(m.Query(b"a\0b"))
    with pytest.raises(ValueError, match="fit"):
        encode.encode(m.ParameterDescription((0,) * 65536))
    assert decode.frontend(encode.encode(m.Bind(b"", b"", (), (None,) * 65535, ()))) is not None


def test_passwords_are_read_in_their_context():
    assert decode.password_message(m.AuthenticationData(b"pw\0")).password == b"pw"
    said = decode.sasl_initial_response(m.AuthenticationData(b"SCRAM-SHA-256\0\0\0\0\1x"))
    assert (said.mechanism, said.data) == ("SCRAM-SHA-256", b"x")
    assert decode.sasl_response(m.AuthenticationData(b"y")).data == b"y"
    for bad in (b"pw", b"pw\0x", b"\0\0"):
        with pytest.raises(PeerMisbehaved):
            decode.password_message(m.AuthenticationData(bad))
