"""National ids: published examples are found, and what breaks the rule is not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostiary.kernel.national import NATIONAL, RULES, national
from ostiary.kernel.nets import Wanted

# Those that the issuers publish as examples or give out for tests, or that are made by the rule.
EXAMPLES: list[tuple[str, tuple[str, ...], str]] = [
    # (detector, examples, how one of its characters is changed so that it is none any more: place and character)
    ("at_svnr", ("1237 010180", "1237010180"), "3:8"),
    ("au_tfn", ("123 456 782", "865414088"), "8:1"),
    ("be_rrn", ("85.07.30-033.28", "17073003384"), "9:4"),
    ("br_cpf", ("111.444.777-35", "390.533.447-05", "39053344705"), "0:2"),
    ("ca_sin", ("046 454 286", "046-454-286"), "0:8"),
    ("ch_ahv", ("756.9217.0769.85", "7569217076985"), "-1:6"),
    ("cn_id", ("11010519491231002X", "11010519491231002x", "440524188001010014"), "-1:3"),
    ("cz_rc", ("736028/5163",), "-1:4"),
    ("de_steuer_id", ("86095742719", "47 036 892 816", "65929970489", "57549285017", "25768131411"), "1:0"),
    ("dk_cpr", ("070761-4285",), "2:1"),
    ("es_dni", ("12345678Z", "99999999R", "X1234567L", "Z8327649K", "12345678-z"), "1:9"),
    ("fi_hetu", ("131052-308T", "131052A308T"), "-1:V"),
    ("fr_nir", ("2 55 08 14 168 025 38", "184127645108946", "1 84 12 2A 451 089 33"), "-1:1"),
    ("ie_pps", ("1234567T", "1234567FA", "6433435F"), "0:2"),
    ("in_aadhaar", ("9999 4105 7058", "999971658847"), "-1:1"),
    ("it_codice_fiscale", ("RSSMRA85T10A562S", "mrtmtt25d09f205z"), "-1:A"),
    ("jp_my_number", ("123456789018", "1234-5678-9018"), "-1:9"),
    ("kr_rrn", ("880101-1234568",), "2:2"),
    ("nl_bsn", ("111222333", "1234.56.782"), "0:2"),
    ("no_fnr", ("15108695088", "13097248022", "290296 00013"), "-1:9"),
    ("pl_pesel", ("44051401359", "02070803628"), "-1:5"),
    ("se_personnummer", ("811218-9876", "19640823-3234", "6408233234", "701063-2391"), "-1:1"),
    ("sg_nric", ("S1234567D", "T0123456G", "F1234567N", "G1234567X"), "-1:A"),
    ("tr_tckn", ("10000000146",), "-1:5"),
    ("uk_nino", ("AB123456C", "ab 12 34 56 c"), "0:D"),
    ("us_itin", ("912-70-1234", "900 92 1234"), "3:/"),
    ("za_id", ("8001015009087",), "-1:8"),
]


def found(name: str, text: str) -> list[str]:
    raw = text.encode()
    wanted = Wanted(0, [national(name)])
    candidates = wanted.candidates(raw)
    seen = [] if candidates is None else candidates.within(0, len(raw))
    return [raw[left:right].decode() for _, left, right in seen]


def test_there_is_an_example_of_each() -> None:
    assert tuple(name for name, _, _ in EXAMPLES) == NATIONAL


@pytest.mark.parametrize(("name", "examples", "change"), EXAMPLES, ids=[name for name, _, _ in EXAMPLES])
def test_examples_are_found_alone_and_amid_text(name: str, examples: tuple[str, ...], change: str) -> None:
    del change
    for example in examples:
        assert found(name, example) == [example]
        assert found(name, f"of {example}; and") == [example]
        assert found(name, f"{example}\n{example}") == [example, example]
        assert found(name, f'{{"a":"\\n{example}"}}') == [example]


@pytest.mark.parametrize(("name", "examples", "change"), EXAMPLES, ids=[name for name, _, _ in EXAMPLES])
def test_what_breaks_the_rule_is_none(name: str, examples: tuple[str, ...], change: str) -> None:
    example = examples[0]
    place, character = int(change.partition(":")[0]) % len(example), change.partition(":")[2]
    broken = example[:place] + character + example[place + 1 :]
    assert broken != example
    assert found(name, broken) == []
    assert found(name, example.replace(example[-1], "")) == []
    assert found(name, f"9{example}9") == []


def test_nine_of_ten_numbers_of_the_same_length_are_none() -> None:
    for name, most in (("nl_bsn", 1 / 10), ("br_cpf", 1 / 60), ("de_steuer_id", 1 / 20), ("fr_nir", 1 / 60), ("pl_pesel", 1 / 20)):
        length = {"nl_bsn": 9, "br_cpf": 11, "de_steuer_id": 11, "fr_nir": 15, "pl_pesel": 11}[name]
        numbers = [str(10 ** (length - 1) + 7919 * 10 ** (length - 9) * n + n)[:length] for n in range(2_000)]
        assert sum(bool(found(name, number)) for number in numbers) <= most * len(numbers)


@pytest.mark.parametrize("name", NATIONAL)
@given(st.data())
def test_whatever_looks_like_one_is_one_or_is_none(name: str, data: st.DataObject) -> None:
    _, pattern, check = RULES[name]
    assert check(data.draw(st.from_regex(pattern.encode(), fullmatch=True))) in {True, False}


def test_a_french_department_has_a_letter_behind_a_two_alone() -> None:
    assert found("fr_nir", "1 85 01 3A 123 456 78") == []
