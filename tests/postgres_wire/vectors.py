"""Every message there is, written out by hand from "Message Formats", and hypothesis strategies that make more."""

from __future__ import annotations

from hypothesis import strategies as st

from ostiary.protocols.postgres import messages as m

UNTAGGED = [
    (b"\0\0\0\x08\x04\xd2\x16\x2f", m.SSLRequest()),
    (b"\0\0\0\x08\x04\xd2\x16\x30", m.GSSENCRequest()),
    (b"\0\0\0\x10\x04\xd2\x16\x2e\0\0\0\x07abcd", m.CancelRequest(7, b"abcd")),
    (b"\0\0\0\x2c\x04\xd2\x16\x2e\0\0\0\x07" + b"k" * 32, m.CancelRequest(7, b"k" * 32)),
    (b"\0\0\0\x09\0\3\0\0\0", m.StartupMessage(196608, ())),
    (
        b"\0\0\0\x1f\0\3\0\2user\0ana\0database\0d\xc3\xa9\0\0",
        m.StartupMessage(196610, (("user", "ana"), ("database", "dé"))),
    ),
]

FRONTEND = [
    (b"p\0\0\0\x07ab\0", m.AuthenticationData(b"ab\0")),
    (b"Q\0\0\0\x0dselect 1\0", m.Query(b"select 1")),
    (b"Q\0\0\0\x05\0", m.Query(b"")),
    (b"P\0\0\0\x13s\0select\0\0\1\0\0\0\x17", m.Parse(b"s", b"select", (23,))),
    (b"P\0\0\0\x08\0\0\0\0", m.Parse(b"", b"", ())),
    (
        b"B\0\0\0\x19p\0s\0\0\1\0\1\0\2\0\0\0\1x\xff\xff\xff\xff\0\0",
        m.Bind(b"p", b"s", (1,), (b"x", None), ()),
    ),
    (b"B\0\0\0\x0c\0\0\0\0\0\0\0\0", m.Bind(b"", b"", (), (), ())),
    (b"D\0\0\0\x07Ss\0", m.Describe("S", b"s")),
    (b"D\0\0\0\x06P\0", m.Describe("P", b"")),
    (b"E\0\0\0\x0ap\0\0\0\0\5", m.Execute(b"p", 5)),
    (b"E\0\0\0\x09\0\xff\xff\xff\xff", m.Execute(b"", -1)),
    (b"C\0\0\0\x07Pp\0", m.Close("P", b"p")),
    (b"H\0\0\0\4", m.Flush()),
    (b"S\0\0\0\4", m.Sync()),
    (b"F\0\0\0\x15\0\0\3\xe8\0\1\0\1\0\1\0\0\0\1z\0\0", m.FunctionCall(1000, (1,), (b"z",), 0)),
    (b"d\0\0\0\x04", m.CopyData(b"")),
    (b"d\0\0\0\x07a\0b", m.CopyData(b"a\0b")),
    (b"c\0\0\0\4", m.CopyDone()),
    (b"f\0\0\0\x07no\0", m.CopyFail(b"no")),
    (b"X\0\0\0\4", m.Terminate()),
]

BACKEND = [
    (b"R\0\0\0\x08\0\0\0\0", m.AuthenticationOk()),
    (b"R\0\0\0\x08\0\0\0\2", m.AuthenticationOther(2, b"")),
    (b"R\0\0\0\x08\0\0\0\3", m.AuthenticationCleartextPassword()),
    (b"R\0\0\0\x0c\0\0\0\5abcd", m.AuthenticationMD5Password(b"abcd")),
    (b"R\0\0\0\x0b\0\0\0\x0br=a", m.AuthenticationSASLContinue(b"r=a")),
    (b"R\0\0\0\x0b\0\0\0\x0cv=a", m.AuthenticationSASLFinal(b"v=a")),
    (b"K\0\0\0\x0c\0\0\0\x09abcd", m.BackendKeyData(9, b"abcd")),
    (b"v\0\0\0\x12\0\3\0\2\0\0\0\1_pq_x\0", m.NegotiateProtocolVersion(196610, ("_pq_x",))),
    (b"S\0\0\0\x0bname\0v\0", m.ParameterStatus("name", "v")),
    (
        b"T\0\0\0\x1a\0\1a\0\0\0\0\1\0\2\0\0\0\x17\0\4\xff\xff\xff\xff\0\1",
        m.RowDescription((m.Field(b"a", 1, 2, 23, 4, -1, 1),)),
    ),
    (b"T\0\0\0\x06\0\0", m.RowDescription(())),
    (b"t\0\0\0\x0a\0\1\0\0\0\x17", m.ParameterDescription((23,))),
    (b"D\0\0\0\x0f\0\2\0\0\0\1x\xff\xff\xff\xff", m.DataRow(b"\0\2\0\0\0\1x\xff\xff\xff\xff")),
    (b"N\0\0\0\x05\0", m.NoticeResponse(())),
    (b"A\0\0\0\x0c\0\0\0\1c\0p\0", m.NotificationResponse(1, b"c", b"p")),
    (b"C\0\0\0\x0dSELECT 1\0", m.CommandComplete("SELECT 1")),
    (b"G\0\0\0\x09\0\0\1\0\0", m.CopyInResponse(0, (0,))),
    (b"H\0\0\0\x09\1\0\1\0\1", m.CopyOutResponse(1, (1,))),
    (b"W\0\0\0\x07\0\0\0", m.CopyBothResponse(0, ())),
    (b"d\0\0\0\x05x", m.CopyData(b"x")),
    (b"c\0\0\0\4", m.CopyDone()),
    (b"V\0\0\0\x08\xff\xff\xff\xff", m.FunctionCallResponse(None)),
    (b"V\0\0\0\x09\0\0\0\1x", m.FunctionCallResponse(b"x")),
    (b"Z\0\0\0\5T", m.ReadyForQuery("T")),
    (b"1\0\0\0\4", m.ParseComplete()),
    (b"2\0\0\0\4", m.BindComplete()),
    (b"3\0\0\0\4", m.CloseComplete()),
    (b"I\0\0\0\4", m.EmptyQueryResponse()),
    (b"n\0\0\0\4", m.NoData()),
    (b"s\0\0\0\4", m.PortalSuspended()),
]


def _sized(tag: bytes, body: bytes) -> bytes:
    return tag + (len(body) + 4).to_bytes(4, "big") + body


BACKEND += [
    (
        _sized(b"R", b"\0\0\0\x0aSCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0"),
        m.AuthenticationSASL(("SCRAM-SHA-256-PLUS", "SCRAM-SHA-256")),
    ),
    (_sized(b"E", b"SERROR\0Mbad\xff\0\0"), m.ErrorResponse((("S", b"ERROR"), ("M", b"bad\xff")))),
]

# --- strategies -------------------------------------------------------------------------------------------------------

name = st.binary(max_size=12).filter(lambda b: 0 not in b)
text = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8)
some_text = text.filter(bool)
oid = st.integers(0, 2**32 - 1)
formats = st.lists(st.integers(0, 1), max_size=3).map(tuple)
values = st.lists(st.none() | st.binary(max_size=8), max_size=4).map(tuple)
kind = st.sampled_from("SP")
fields = st.lists(st.tuples(st.sampled_from("SVCMDHPW"), name), max_size=4).map(tuple)
column = st.builds(
    m.Field,
    name,
    oid,
    st.integers(-32768, 32767),
    oid,
    st.integers(-32768, 32767),
    st.integers(-(2**31), 2**31 - 1),
    st.integers(0, 1),
)

untagged_messages = st.one_of(
    st.just(m.SSLRequest()),
    st.just(m.GSSENCRequest()),
    st.builds(m.CancelRequest, oid, st.binary(min_size=4, max_size=256)),
    st.builds(
        m.StartupMessage,
        st.integers(0, 65535).map(lambda minor: 3 << 16 | minor),
        st.dictionaries(some_text, text, max_size=4).map(lambda d: tuple(d.items())),
    ),
)

frontend_messages = st.one_of(
    st.builds(m.AuthenticationData, st.binary(max_size=20)),
    st.builds(m.Query, name),
    st.builds(m.Parse, name, name, st.lists(oid, max_size=4).map(tuple)),
    st.builds(m.Bind, name, name, formats, values, formats),
    st.builds(m.Describe, kind, name),
    st.builds(m.Execute, name, st.integers(-(2**31), 2**31 - 1)),
    st.builds(m.Close, kind, name),
    st.builds(m.FunctionCall, oid, formats, values, st.integers(0, 1)),
    st.builds(m.CopyData, st.binary(max_size=20)),
    st.builds(m.CopyFail, name),
    st.sampled_from([m.Flush(), m.Sync(), m.CopyDone(), m.Terminate()]),
)

backend_messages = st.one_of(
    st.builds(m.AuthenticationMD5Password, st.binary(min_size=4, max_size=4)),
    st.builds(m.AuthenticationSASL, st.lists(some_text, max_size=3).map(tuple)),
    st.builds(m.AuthenticationSASLContinue, st.binary(max_size=20)),
    st.builds(m.AuthenticationSASLFinal, st.binary(max_size=20)),
    st.builds(m.BackendKeyData, oid, st.binary(min_size=4, max_size=256)),
    st.builds(m.NegotiateProtocolVersion, oid, st.lists(text, max_size=3).map(tuple)),
    st.builds(m.ParameterStatus, text, text),
    st.builds(m.RowDescription, st.lists(column, max_size=3).map(tuple)),
    st.builds(m.ParameterDescription, st.lists(oid, max_size=4).map(tuple)),
    st.builds(m.ErrorResponse, fields),
    st.builds(m.NoticeResponse, fields),
    st.builds(m.NotificationResponse, oid, name, name),
    st.builds(m.CommandComplete, text),
    st.builds(m.CopyInResponse, st.integers(0, 1), formats),
    st.builds(m.CopyOutResponse, st.integers(0, 1), formats),
    st.builds(m.FunctionCallResponse, st.none() | st.binary(max_size=8)),
    st.sampled_from([m.ReadyForQuery(s) for s in "ITE"]),
)
