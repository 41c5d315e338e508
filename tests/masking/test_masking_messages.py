"""Errors, notices, notifications and settings: no value by the side door."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostiary.masking import DETECTORS, mask
from ostiary.model.errors import PeerMisbehaved
from ostiary.model.proofs import Batch, Content

SSN = "078-05-1120"


def report(tag: str, **fields: str) -> bytes:
    body = b"".join(k.encode() + v.encode() + b"\0" for k, v in fields.items()) + b"\0"
    return tag.encode() + struct.pack("!I", len(body) + 4) + body


def fields_of(frame: bytes) -> dict[str, str]:
    assert len(frame) == 1 + int.from_bytes(frame[1:5], "big")
    assert frame.endswith(b"\0\0")
    return {part[:1].decode(): part[1:].decode() for part in frame[5:-2].split(b"\0")}


def masked(frame: bytes, *, strip: bool = False, detect: frozenset[str] = DETECTORS):
    return mask(frozenset(), Batch(frame, Content.MESSAGE, None, 0, strip=strip), detect)


def stripped(message: str, **more: str) -> str:
    frame = report("E", S="ERROR", C=more.pop("C", "22P02"), M=message, **more)
    return fields_of(masked(frame, strip=True, detect=frozenset()).frames)["M"]


@pytest.mark.parametrize("tag", ["E", "N"])
def test_detectors_look_at_every_text_field(tag):
    frame = report(tag, S="ERROR", C="23505", M=f"m {SSN}", D=f"d {SSN}", H=f"h {SSN}", W=f"w {SSN}", q=f"q {SSN}")
    out = masked(frame)
    assert SSN.encode() not in out.frames
    assert out.counts == (("ssn", 5),)
    assert fields_of(out.frames)["D"] == "d ***********"


def test_codes_and_positions_are_never_touched():
    frame = report("E", S="ERROR", V="ERROR", C="23505", P="12", F="a@b.example", L="1", R="r", M="m")
    assert masked(frame).frames is frame


def test_a_statement_on_a_protected_column_loses_detail_hint_context_and_internal_query():
    frame = report(
        "E", S="ERROR", V="ERROR", C="23505", M="x", D="d", H="h", W="w", q="q", p="3", P="7", s="sch", t="tab", n="con"
    )
    out = masked(frame, strip=True)
    assert set(fields_of(out.frames)) == set("SVCMPstn")
    assert out.counts == (("message", 1),)


@pytest.mark.parametrize(
    ("message", "left"),
    [
        (f'invalid input syntax for type integer: "{SSN}"', 'invalid input syntax for type integer: "***"'),
        ('value "a" b" is out of range for type "x"', 'value "***"'),
        ("ungültige Eingabesyntax: »geheim«", 'ungültige Eingabesyntax: "***"'),
        ("syntaxe invalide : « secret »", 'syntaxe invalide : "***"'),
        ("it is 'secret' now", 'it is "***" now'),
        (
            'invalid byte sequence for encoding "UTF8": 0xe4 0x62 0x63',
            'invalid byte sequence for encoding "***": 0x** 0x** 0x**',
        ),
        ("requested character too large for encoding: 1114112", "requested character too large for encoding: *******"),
        ("integer out of range", "integer out of range"),
        ('one " alone', 'one "***" alone'),
    ],
)
def test_what_a_message_quotes_goes(message, left):
    assert stripped(message) == left


def test_names_that_the_error_itself_holds_stay():
    text = 'duplicate key value violates unique constraint "customers_pkey2"'
    assert stripped(text, n="customers_pkey2") == text
    text = 'insert or update on table "orders" violates foreign key constraint "fk"'
    assert stripped(text, t="orders", n="fk") == text
    assert stripped('table "orders" and "guess"', t="orders") == 'table "***"'


@pytest.mark.parametrize("code", ["P0001", "P0004", "00000"])
def test_what_a_function_raised_is_withheld(code):
    assert "secret" not in stripped("secret unquoted", C=code)


@pytest.mark.parametrize("file", ["pl_exec.c", "plpy_elog.c", "plperl.c", "pltcl.c"])
def test_what_a_procedural_language_raised_is_withheld_whatever_its_code_and_so_are_the_names_that_it_gave(file):
    frame = report("E", S="ERROR", C="23505", M="secret unquoted", c="secret", t="orders", F=file)
    shown = masked(frame, strip=True).frames
    assert b"secret" not in shown
    assert b"23505" in shown


def test_a_notification_that_may_hold_a_protected_value_loses_its_payload():
    body = struct.pack("!I", 77) + b"chan\0secret\0"
    shown = masked(b"A" + struct.pack("!I", len(body) + 4) + body, strip=True).frames
    assert shown.startswith(b"A" + struct.pack("!I", len(shown) - 1) + body[:9])
    assert b"secret" not in shown
    assert shown.count(b"\0", 9) == 2
    body = struct.pack("!I", 77) + b"chan\0\0"
    frame = b"A" + struct.pack("!I", len(body) + 4) + body
    assert masked(frame, strip=True).frames is frame


def test_notifications_and_settings_are_looked_at():
    body = struct.pack("!I", 77) + b"chan\0pay 078-05-1120\0"
    frame = b"A" + struct.pack("!I", len(body) + 4) + body
    assert masked(frame).frames == frame.replace(SSN.encode(), b"*" * 11)
    body = b"application_name\0ana@example.com\0"
    frame = b"S" + struct.pack("!I", len(body) + 4) + body
    assert masked(frame).frames == frame.replace(b"ana@example.com", b"*" * 15)
    assert masked(frame, detect=frozenset({"ssn"})).frames is frame


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"E\0\0\0\x04",
        b"E\0\0\0\x06Mx",
        b"E\0\0\0\x07Mx\0",
        report("E", M="x") + b"Z",
        report("Z", M="x"),
        b"A\0\0\0\x06a\0",
        b"S\0\0\0\x06a\0",
        b"S\0\0\0\x0aa\0b\0c\0",
        b"E\0\0\0\x06\0\0",
    ],
)
def test_a_malformed_message_is_the_targets_misdeed(frame):
    with pytest.raises(PeerMisbehaved):
        masked(frame)


@given(st.sampled_from("ENASZ"), st.binary(max_size=80), st.booleans())
def test_any_message_is_masked_or_a_misdeed(tag, body, strip):
    frame = tag.encode() + struct.pack("!I", len(body) + 4) + body
    try:
        out = masked(frame, strip=strip)
    except PeerMisbehaved:
        return
    assert len(out.frames) == 1 + int.from_bytes(out.frames[1:5], "big")
    assert SSN.encode() not in out.frames


@given(st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=40))
def test_no_quoted_value_survives_stripping(value):
    assert (
        stripped(f'invalid input syntax for type integer: "{value}"') == 'invalid input syntax for type integer: "***"'
    )
