"""The detectors: what they promise to find, what they promise to leave alone, and the same at both speeds."""

from __future__ import annotations

import random
import uuid
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

KEY = "-----BEGIN RSA PRIVATE KEY-----\nMIIEow\nIBAAKC\n-----END RSA PRIVATE KEY-----"
JWT = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U"

FOUND = [
    ("card", "4111111111111111"),
    ("card", "4111-1111-1111-1111"),
    ("card", "4111 1111 1111 1111"),
    ("card", "378282246310005"),
    ("card", "3782 822463 10005"),
    ("card", "30569309025904"),
    ("card", "6011111111111117"),
    ("card", "3530111333300000"),
    ("card", "5555555555554444"),
    ("card", "2223003122003222"),
    ("card", "4222222222222"),
    ("card", "6304000000000000"),
    ("card", "2200123456789019"),
    ("card", "4111111111111111110"),
    ("email", "ana@example.com"),
    ("email", "a.b+tag@sub.example.co.uk"),
    ("email", "o'brien@example.ie"),
    ("email", "ana@xn--bcher-kva.xn--p1ai"),
    ("email", "jürgen@müller.example"),
    ("iban", "GB82WEST12345698765432"),
    ("iban", "GB82 WEST 1234 5698 7654 32"),
    ("iban", "gb82west12345698765432"),
    ("iban", "DE89370400440532013000"),
    ("iban", "NO9386011117947"),
    ("iban", "MT84MALT011000012345MTLCAST001S"),
    ("iban", "FR1420041010050500013M02606"),
    ("ssn", "078-05-1120"),
    ("ssn", "078 05 1120"),
    ("ssn", "899-99-9999"),
    ("secret", "AKIAIOSFODNN7EXAMPLE"),
    ("secret", "ASIAIOSFODNN7EXAMPLE"),
    ("secret", KEY),
    ("secret", KEY.replace("RSA ", "")),
    ("secret", KEY.replace("RSA ", "OPENSSH ")),
    ("secret", KEY.replace("\n", "\\n")),
    ("secret", JWT),
    ("secret", "ghp_" + "aB3d" * 9),
    ("secret", "github_pat_" + "aB3d" * 18),
    ("secret", "glpat-" + "aB3dE" * 4),
    ("secret", "xoxb-123456789012-1234567890123-" + "aB3d" * 6),
    ("secret", "sk-proj-" + "aB3d" * 10),
    ("secret", "sk_live_" + "aB3d" * 6),
    ("secret", "AIza" + "aB3d_" * 7),
    ("secret", "npm_" + "aB3d" * 9),
    ("secret", "pypi-AgEIcHlwaS5vcmc" + "aB3d" * 9),
    ("secret", "SG." + "aB3d" * 5 + "aB." + "aB3d" * 10 + "aB3"),
    ("secret", "ya29." + "aB3d" * 11),
    ("secret", "hvs." + "aB3d" * 11),
]

AROUND = [("", ""), ("call ", " now"), ('{"v": "', '"}'), ("(1,", ",2)"), ("{", ",x}"), ("\n", "\n"), ("<v>", "</v>")]

LEFT_ALONE = [
    str(uuid.UUID(int=0x12345678123412348123123456789012)),
    "2024-02-29 23:59:59.123456+00",
    "2024-02-29T23:59:59Z",
    "1700000000000",
    "1700000000000000",
    "+4915112345678",
    "+1 555 010 9999",
    "(555) 010-9999",
    "555-010-9999",
    "0.4532015112830366",
    "41111111.11111111",
    "10 20 30 40 50 60 70 80 90",
    "4,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1",
    "4111111111111112",
    "1234567890123456",
    "411111111111111111111111",
    "ffff4111111111111111ffffffff0000",
    "000-12-3456",
    "666-12-3456",
    "900-12-3456",
    "123-00-4567",
    "123-45-0000",
    "078-05 1120",
    "078051120",
    "1078-05-1120",
    "078-05-11200",
    "GB83WEST12345698765432",
    "GB82WEST123456987654321",
    "XX82WEST12345698765432",
    "user@localhost",
    "pkg@1.2.3",
    "a@10.0.0.1",
    "@example.com",
    "@@@@",
    "d41d8cd98f00b204e9800998ecf8427e",
    "da39a3ee5e6b4b0d3255bfef95601890afd80709",
    "https://example.com/a/very/long/path/that/is/no/token/at/all?x=1",
    "task-sk-short",
    "eyJ.short",
    "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",
    "----------------------------------------",
    "",
]


def stars(kernel: SimpleNamespace, text: str | bytes, names: tuple[str, ...] = ()) -> tuple[bytes, dict[str, int]]:
    raw = text.encode() if isinstance(text, str) else text
    out = bytearray(raw)
    bits = sum(1 << kernel.detect.NAMES.index(name) for name in names or kernel.detect.NAMES)
    scanner = kernel.detect.Scanner(raw, out, bits)
    scanner.scan(0, len(raw), 0)
    return bytes(out), {name: n for name, n in zip(kernel.detect.NAMES, scanner.counts, strict=True) if n}


@pytest.mark.parametrize(("name", "value"), FOUND)
def test_a_value_is_starred_wherever_it_stands_and_nothing_else_is(kernel, name, value):
    for before, after in AROUND:
        masked, counts = stars(kernel, before + value + after)
        assert masked == before.encode() + b"*" * len(value.encode()) + after.encode()
        assert counts == {name: 1}


@pytest.mark.parametrize(("name", "value"), FOUND)
def test_a_detector_that_is_off_sees_nothing(kernel, name, value):
    others = tuple(other for other in kernel.detect.NAMES if other != name)
    assert name not in stars(kernel, value, others)[1]


@pytest.mark.parametrize("text", LEFT_ALONE)
def test_what_only_looks_like_a_value_stays(kernel, text):
    assert stars(kernel, text) == (text.encode(), {})


def test_an_escape_before_an_address_stays_an_escape(kernel):
    assert stars(kernel, r"\nana@x.example")[0] == rb"\n" + b"*" * 13
    assert stars(kernel, r"\u00e9na@x.example")[0] == rb"\u00e9" + b"*" * 12
    assert stars(kernel, r"\\ana@x.example")[0] == rb"\\" + b"*" * 13


def test_no_star_takes_half_of_a_character(kernel):
    for text in ("\\éx@y.example", "é" * 100 + "@example.com", "a@" + "é" * 200 + ".com", "x@y." + "é" * 200):
        stars(kernel, text)[0].decode()


def test_an_aws_secret_key_is_known_by_what_stands_near_it(kernel):
    secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
    assert stars(kernel, f"aws_secret_access_key = {secret}")[1] == {"secret": 1}
    assert stars(kernel, f"AKIAIOSFODNN7EXAMPLE {secret}")[1] == {"secret": 2}
    assert stars(kernel, f"checksum {secret}")[1] == {}


def test_a_key_that_is_cut_off_is_starred_to_the_end_of_its_string(kernel):
    assert (
        stars(kernel, '{"k": "-----BEGIN PRIVATE KEY-----\\nabc", "n": 1}')[0] == b'{"k": "' + b"*" * 32 + b'", "n": 1}'
    )


def test_many_values_are_all_starred(kernel):
    text = " ".join(value for _, value in FOUND)
    masked, counts = stars(kernel, text)
    assert set(masked) <= set(b"* \n")
    assert sum(counts.values()) == len(FOUND)


def test_long_regions_are_leapt_through_and_nothing_is_missed(kernel):
    for filler in ("x", " ", "x_", "-", "ab1 "):
        for name, value in FOUND:
            text = filler * (20_000 // len(filler)) + " " + value + " " + filler * 100
            masked, counts = stars(kernel, text)
            assert counts == {name: 1}, filler
            assert value.encode() not in masked


def test_a_region_ends_where_it_is_said_to(kernel):
    raw = b"078-05-11204111111111111111"
    out = bytearray(raw)
    scanner = kernel.detect.Scanner(raw, out, 31)
    assert scanner.scan(0, 11, 0) == 1
    assert scanner.scan(11, 27, 0) == 1
    assert out == b"*" * 27
    with pytest.raises(IndexError):
        scanner.scan(0, 28, 0)


def test_uuids_and_random_hex_are_left_alone(kernel):
    dice = random.Random(5)
    text = "\n".join(str(uuid.UUID(int=dice.getrandbits(128), version=4)) for _ in range(2000))
    assert stars(kernel, text)[1] == {}
    text = "\n".join(f"{dice.getrandbits(256):064x}" for _ in range(500))
    assert stars(kernel, text)[1] == {}


pieces = st.one_of(
    st.sampled_from([value for _, value in FOUND]),
    st.sampled_from(LEFT_ALONE),
    st.text(st.sampled_from("0123456789-. @aAkKeEyJ\\\"u'"), max_size=30),
    st.sampled_from(["-----BEGIN ", "PRIVATE KEY", "-----END ", "eyJ", "AKIA", "@", ".", "\\", "\x80", "é"]),
)


@given(st.lists(pieces, max_size=12), st.integers(0, 31))
def test_both_speeds_agree(plain, built, parts, bits):
    raw = "".join(parts).encode()
    results = []
    for speed in (plain, built):
        out = bytearray(raw)
        scanner = speed.detect.Scanner(raw, out, bits)
        found = scanner.scan(0, len(raw), 0)
        results.append((bytes(out), list(scanner.counts), found))
    assert results[0] == results[1]


runs = st.lists(
    st.one_of(
        pieces,
        st.text(st.sampled_from("0123456789"), min_size=1, max_size=20),
        st.text(st.sampled_from("0123456789abDE -\\n."), max_size=40),
        st.sampled_from(["DE89", "de89 3704 0044 0532 0130 00", "078-05-", "1120", "4111 1111 ", "4111111111111", " ", "-", "\\", "\\n"]),
    ),
    max_size=8,
).map("".join)


@given(runs)
def test_no_run_is_passed_over_that_holds_a_number(plain, built, text):
    class Thorough(plain.detect.Scanner):
        def is_dull(self, at, start, stop):
            return False

    raw = text.encode()
    results = []
    for kind in (Thorough, plain.detect.Scanner, built.detect.Scanner):
        out = bytearray(raw)
        found = kind(raw, out, 31).scan(0, len(raw), 0)
        results.append((bytes(out), found))
    assert results[0] == results[1] == results[2]


def test_no_token_is_passed_over_for_its_first_two_letters(kernel):
    for prefix, _ in kernel.detect._TOKENS:
        raw = prefix + b"A1b2" * 14
        assert kernel.detect.Scanner(raw, bytearray(raw), 16).scan(0, len(raw), 0) == 1, prefix


@given(st.lists(pieces, max_size=12))
def test_text_stays_text(kernel, parts):
    stars(kernel, "".join(parts))[0].decode()


@given(st.binary(max_size=200), st.integers(0, 31))
def test_any_bytes_keep_their_length_and_raise_nothing(kernel, raw, bits):
    out = bytearray(raw)
    kernel.detect.Scanner(raw, out, bits).scan(0, len(raw), 0)
    assert len(out) == len(raw)
    assert all(new in (old, 42) for old, new in zip(raw, out, strict=True))


@given(st.integers(10**12, 10**19 - 1))
def test_a_number_is_a_card_number_only_with_the_right_check_digit(kernel, number):
    digits = str(number).encode()
    total = sum(sum(divmod(d * (1 + i % 2), 10)) for i, d in enumerate(int(c) for c in reversed(str(number))))
    if kernel.detect.is_card_number(digits):
        assert total % 10 == 0
