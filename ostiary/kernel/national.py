"""National ids: how each is written, and what its check digits say. All are off unless a connection names them.

A pattern finds a candidate in its group; the bytes around it are only there so that an id is no part of a longer number or word. What
follows from the rules of each is checked in `is_…`; where the rules hold no check digit, that is said, and dates and ranges are all
that is checked. Numbers in the examples of the tests are those that the issuers publish, or are made by the rule.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Final

from ostiary.kernel.nets import Net

_MARKS: Final = re.compile(rb"[^0-9A-Za-z]")


def _digits(found: bytes) -> list[int]:
    """The digits of a candidate, without what stands between them."""
    return [byte - 48 for byte in found if 48 <= byte <= 57]


def _weighted(digits: Sequence[int], weights: Sequence[int]) -> int:
    return sum(digit * weight for digit, weight in zip(digits, weights, strict=False))


def _luhn(digits: Sequence[int]) -> bool:
    """ISO/IEC 7812-1, annex B."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        total += digit if place % 2 == 0 else (2 * digit - 9 if digit > 4 else 2 * digit)
    return total % 10 == 0


def _is_day(month: int, day: int) -> bool:
    """Whether some year has that day."""
    return 1 <= month <= 12 and 1 <= day <= (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)[month - 1]


def _two(digits: Sequence[int], at: int) -> int:
    return 10 * digits[at] + digits[at + 1]


# --- one function a number ------------------------------------------------------------------------------------------


def is_at_svnr(found: bytes) -> bool:
    """Austria, social insurance number: `nnnp ddmmyy`; p is the weighted sum of the others mod 11 (ASVG § 31 (4) 1; SV-Träger)."""
    d = _digits(found)
    check = _weighted(d, (3, 7, 9, 0, 5, 8, 4, 2, 1, 6)) % 11
    return d[0] != 0 and check == d[3] and (_is_day(_two(d, 6), _two(d, 4)) or 13 <= _two(d, 6) <= 15)


def is_au_tfn(found: bytes) -> bool:
    """Australia, tax file number: nine digits, weighted sum divisible by 11 (Australian Taxation Office)."""
    return _weighted(_digits(found), (1, 4, 3, 7, 5, 8, 6, 9, 10)) % 11 == 0


def is_be_rrn(found: bytes) -> bool:
    """Belgium, national register number: `yymmdd nnn cc`; 97 less the rest by 97, with a 2 in front since 2000 (KB 3 April 1984)."""
    d = _digits(found)
    number = int("".join(map(str, d[:9])))
    month = _two(d, 2) % 20
    born = (month == 0 and _two(d, 2) < 60) or _two(d, 4) == 0 or _is_day(month, _two(d, 4))
    return born and 97 - _two(d, 9) in (number % 97, (2_000_000_000 + number) % 97)


def is_br_cpf(found: bytes) -> bool:
    """Brazil, CPF: nine digits and two check digits mod 11 (Receita Federal, IN RFB 1548/2015); eleven of the same are none."""
    d = _digits(found)
    first = -_weighted(d, range(10, 1, -1)) % 11 % 10
    second = -_weighted(d[:10], range(11, 1, -1)) % 11 % 10
    return len(set(d)) > 1 and d[9:] == [first, second]


def is_ca_sin(found: bytes) -> bool:
    """Canada, social insurance number: nine digits in threes, Luhn; none begins with 8 (Employment and Social Development Canada)."""
    d = _digits(found)
    return d[0] != 8 and any(d) and _luhn(d)


def is_ch_ahv(found: bytes) -> bool:
    """Switzerland, AHV number: `756.nnnn.nnnn.nc`, the check digit as in EAN-13 (BSV, AHVN13)."""
    return _weighted(_digits(found), (1, 3) * 6 + (1,)) % 10 == 0


def is_cn_id(found: bytes) -> bool:
    """China, resident identity number: 17 digits and a check character, ISO 7064 MOD 11-2 (GB 11643-1999)."""
    d = _digits(found[:17])
    check = (12 - _weighted(d, [2**place % 11 for place in range(17, 0, -1)]) % 11) % 11
    year = 100 * _two(d, 6) + _two(d, 8)
    born = 1800 <= year < 2100 and _is_day(_two(d, 10), _two(d, 12))
    return born and found[17:].upper() == b"0123456789X"[check : check + 1]


def is_cz_rc(found: bytes) -> bool:
    """Czechia and Slovakia, birth number since 1954: `yymmdd/nnnc`, divisible by 11; months of women are 50 more (133/2000 Sb., § 13)."""
    d = _digits(found)
    return int("".join(map(str, d))) % 11 == 0 and any(
        _is_day(_two(d, 2) - more, _two(d, 4)) for more in (0, 20, 50, 70)
    )


def is_de_steuer_id(found: bytes) -> bool:
    """Germany, tax id: ten digits, one of which comes twice or thrice, and ISO 7064 MOD 11,10 (§ 139b AO; StIdV § 1; BZSt)."""
    d = _digits(found)
    counts = sorted((d[:10].count(digit) for digit in set(d[:10])), reverse=True)
    product = 10
    for digit in d[:10]:
        total = (digit + product) % 10 or 10
        product = 2 * total % 11
    return d[0] != 0 and counts[0] in (2, 3) and counts[1] == 1 and (11 - product) % 10 == d[10]


def is_dk_cpr(found: bytes) -> bool:
    """Denmark, CPR number: `ddmmyy-nnnn`. Since 2007 some have no check digit, so the date is all that is checked (CPR-kontoret)."""
    d = _digits(found)
    return _is_day(_two(d, 2), _two(d, 0))


def is_es_dni(found: bytes) -> bool:
    """Spain, DNI and NIE: eight digits and a letter by their rest mod 23; X, Y, Z of a NIE are 0, 1, 2 (RD 1553/2005; Orden INT/2058/2008)."""
    written = _MARKS.sub(b"", found).upper()
    number = int(written[:-1].translate(bytes.maketrans(b"XYZ", b"012")))
    return b"TRWAGMYFPDXBNJZSQVHLCKE"[number % 23] == written[-1]


def is_fi_hetu(found: bytes) -> bool:
    """Finland, personal identity code: `ddmmyyXnnnc`, check character by the rest mod 31 (VNa 128/2010; Digital and Population Data Services Agency)."""
    d = _digits(found[:6] + found[7:10])
    check = b"0123456789ABCDEFHJKLMNPRSTUVWXY"[int(found[:6] + found[7:10]) % 31]
    return _is_day(_two(d, 2), _two(d, 0)) and found[10:].upper() == bytes([check])


def is_fr_nir(found: bytes) -> bool:
    """France, NIR (social security number): 13 characters and 97 less their rest by 97; 2A is 19, 2B is 18 (décret 82-103; INSEE)."""
    written = _MARKS.sub(b"", found).upper()
    month = int(written[3:5])
    number = int(written[:13].replace(b"2A", b"19").replace(b"2B", b"18"))
    return (1 <= month <= 12 or 20 <= month <= 42 or month >= 50) and 97 - number % 97 == int(written[13:])


def is_ie_pps(found: bytes) -> bool:
    """Ireland, PPS number: seven digits and a check letter by their weighted sum mod 23; a second letter weighs 9 (Dept. of Social Protection)."""
    written = found.upper()
    second = written[8] - 64 if len(written) == 9 and written[8] != 87 else 0
    total = _weighted(_digits(written[:7]), range(8, 1, -1)) + 9 * second
    return b"WABCDEFGHIJKLMNOPQRSTUV"[total % 23] == written[7]


_VERHOEFF_P: Final = (1, 5, 7, 6, 2, 8, 3, 0, 9, 4)
"""The permutation that a digit goes through once a place."""


def _verhoeff(digits: Sequence[int]) -> bool:
    """Verhoeff's check (J. Verhoeff, Error Detecting Decimal Codes, 1969): multiplication in the dihedral group of ten elements."""
    state = 0
    for place, digit in enumerate(reversed(digits)):
        moved = digit
        for _ in range(place % 8):
            moved = _VERHOEFF_P[moved]
        state = _dihedral(state, moved)
    return state == 0


def _dihedral(a: int, b: int) -> int:
    """The product of two symmetries of a pentagon: 0 to 4 turn it, 5 to 9 turn it over."""
    turn = (a + b) % 5 if a < 5 else (a - b) % 5
    return turn + 5 * ((a < 5) != (b < 5))


def is_in_aadhaar(found: bytes) -> bool:
    """India, Aadhaar: twelve digits, the first from 2, Verhoeff's check digit last (UIDAI)."""
    return _verhoeff(_digits(found))


_ODD: Final = (1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23)
"""What a letter counts in an odd place; a digit counts what A to J do."""


def is_it_codice_fiscale(found: bytes) -> bool:
    """Italy, codice fiscale: sixteen characters, the last by the others' weights mod 26 (DM 23 December 1976; DM 345/2001)."""
    written = found.upper()
    total = 0
    for place, byte in enumerate(written[:15]):
        value = byte - 48 if byte < 65 else byte - 65
        total += _ODD[value] if place % 2 == 0 else value
    return written[15] - 65 == total % 26


def is_jp_my_number(found: bytes) -> bool:
    """Japan, Individual Number: eleven digits and a check digit mod 11 (Ordinance of the MIC 85/2014, art. 5)."""
    d = _digits(found)
    rest = _weighted(d[10::-1], (2, 3, 4, 5, 6, 7, 2, 3, 4, 5, 6)) % 11
    return d[11] == (0 if rest <= 1 else 11 - rest)


def is_kr_rrn(found: bytes) -> bool:
    """Korea, resident registration number: `yymmdd-nnnnnnn`. Since October 2020 it has no check digit: the date is all that is checked."""
    d = _digits(found)
    return _is_day(_two(d, 2), _two(d, 4))


def is_nl_bsn(found: bytes) -> bool:
    """Netherlands, BSN: nine digits; the last counts less in a weighted sum that 11 divides (Wabb; RvIG, "elfproef")."""
    d = _digits(found)
    return any(d) and (_weighted(d, range(9, 1, -1)) - d[8]) % 11 == 0


def is_no_fnr(found: bytes) -> bool:
    """Norway, birth number and D number: `ddmmyy nnn kk`, two check digits mod 11 (Skatteetaten).

    Days of a D number are 40 more, months of numbers made up for tests 40 or 80.
    """
    d = _digits(found)
    born = _is_day(_two(d, 2) % 40, _two(d, 0) % 40)
    first = -_weighted(d, (3, 7, 6, 1, 8, 9, 4, 5, 2)) % 11
    second = -_weighted(d, (5, 4, 3, 2, 7, 6, 5, 4, 3, 2)) % 11
    return born and d[9:] == [first, second]


def is_pl_pesel(found: bytes) -> bool:
    """Poland, PESEL: `yymmdd nnnn c`, weighted sum divisible by 10; the century is added to the month (Ustawa 24.9.2010)."""
    d = _digits(found)
    return _weighted(d, (1, 3, 7, 9, 1, 3, 7, 9, 1, 3, 1)) % 10 == 0 and _is_day(_two(d, 2) % 20, _two(d, 4))


def is_se_personnummer(found: bytes) -> bool:
    """Sweden, personal and coordination number: `yymmdd-nnnc`, Luhn; days of a coordination number are 60 more (Folkbokföringslagen § 18)."""
    d = _digits(found)[-10:]
    return _is_day(_two(d, 2), _two(d, 4) % 60) and _luhn(d)


def is_sg_nric(found: bytes) -> bool:
    """Singapore, NRIC and FIN: a letter, seven digits and a check letter mod 11 (ICA)."""
    written = found.upper()
    letters, more = _SERIES[written[:1]]
    rest = (_weighted(_digits(written), (2, 7, 6, 5, 4, 3, 2)) + more) % 11
    return letters[rest] == written[8]


_SERIES: Final = {
    b"S": (b"JZIHGFEDCBA", 0), b"T": (b"JZIHGFEDCBA", 4), b"F": (b"XWUTRQPNMLK", 0), b"G": (b"XWUTRQPNMLK", 4),
    b"M": (b"XWUTRQPNJLK", 3),
}  # fmt: skip
"""By first letter: check letters by the rest, and what is added to the sum."""


def is_tr_tckn(found: bytes) -> bool:
    """Turkey, identity number: nine digits and two check digits mod 10 (Law 5490 on population services)."""
    d = _digits(found)
    return d[9] == (7 * sum(d[0:9:2]) - sum(d[1:8:2])) % 10 and d[10] == sum(d[:10]) % 10


def is_uk_nino(found: bytes) -> bool:
    """United Kingdom, National Insurance number: no check digit; which letters and prefixes are given out (HMRC, NIM39110)."""
    return found[:2].upper() not in {b"BG", b"GB", b"KN", b"NK", b"NT", b"TN", b"ZZ"}


def is_us_itin(found: bytes) -> bool:
    """United States, ITIN: `9nn-nn-nnnn`, no check digit; which groups are given out stands in the pattern (IRM 3.21.263)."""
    return found[3:4] == found[6:7]


def is_za_id(found: bytes) -> bool:
    """South Africa, identity number: `yymmdd ssss c a z`, Luhn (Identification Act 68 of 1997; Department of Home Affairs)."""
    d = _digits(found)
    return _is_day(_two(d, 2), _two(d, 4)) and _luhn(d)


_DIGITS: Final = (r"(?:^|[^0-9])", r"(?:[^0-9]|$)")
"""What stands beside a number: no other digit."""
_WORDS: Final = (r"(?:^|[^0-9A-Za-z]|\\[bfnrt])", r"(?:[^0-9A-Za-z]|$)")
"""What stands beside an id that begins with a letter: no letter or digit; but an escape of JSON may."""
_MIXED: Final = (r"(?:^|[^0-9])", r"(?:[^0-9A-Za-z]|$)")

Rule = tuple[tuple[str, str], str, Callable[[bytes], bool]]
RULES: Final[dict[str, Rule]] = {
    "at_svnr": (_DIGITS, r"[1-9][0-9]{3} ?[0-9]{6}", is_at_svnr),
    "au_tfn": (_DIGITS, r"[0-9]{3}[ -]?[0-9]{3}[ -]?[0-9]{3}", is_au_tfn),
    "be_rrn": (_DIGITS, r"[0-9]{2}[. ]?[0-9]{2}[. ]?[0-9]{2}[- ]?[0-9]{3}[. ]?[0-9]{2}", is_be_rrn),
    "br_cpf": (_DIGITS, r"[0-9]{3}\.?[0-9]{3}\.?[0-9]{3}-?[0-9]{2}", is_br_cpf),
    "ca_sin": (_DIGITS, r"[0-9]{3}[ -][0-9]{3}[ -][0-9]{3}", is_ca_sin),
    "ch_ahv": (_DIGITS, r"756[. ]?[0-9]{4}[. ]?[0-9]{4}[. ]?[0-9]{2}", is_ch_ahv),
    "cn_id": (_MIXED, r"[1-9][0-9]{16}[0-9Xx]", is_cn_id),
    "cz_rc": (_DIGITS, r"[0-9]{6}/[0-9]{4}", is_cz_rc),
    "de_steuer_id": (_DIGITS, r"[1-9][0-9] ?[0-9]{3} ?[0-9]{3} ?[0-9]{3}", is_de_steuer_id),
    "dk_cpr": (_DIGITS, r"[0-3][0-9][01][0-9]{3}-[0-9]{4}", is_dk_cpr),
    "es_dni": (_MIXED, r"(?:[XYZxyz][ -]?)?[0-9]{7,8}[ -]?[A-HJ-NP-TV-Za-hj-np-tv-z]", is_es_dni),
    "fi_hetu": (_MIXED, r"[0-3][0-9][01][0-9]{3}[-+A-FU-Ya-fu-y][0-9]{3}[0-9A-FHJ-NPR-Ya-fhj-npr-y]", is_fi_hetu),
    "fr_nir": (_DIGITS, r"[1-478] ?[0-9]{2} ?[0-9]{2} ?(?:[0-9]{2}|2[ABab]) ?[0-9]{3} ?[0-9]{3} ?[0-9]{2}", is_fr_nir),
    "ie_pps": (_MIXED, r"[0-9]{7}[A-Wa-w][A-IWa-iw]?", is_ie_pps),
    "in_aadhaar": (_DIGITS, r"[2-9][0-9]{3}[ -]?[0-9]{4}[ -]?[0-9]{4}", is_in_aadhaar),
    "it_codice_fiscale": (
        _WORDS,
        r"[A-Za-z]{6}[0-9L-NP-Vl-np-v]{2}[A-EHLMPR-Ta-ehlmpr-t][0-9L-NP-Vl-np-v]{2}[A-Za-z][0-9L-NP-Vl-np-v]{3}[A-Za-z]",
        is_it_codice_fiscale,
    ),
    "jp_my_number": (_DIGITS, r"[0-9]{4}[ -]?[0-9]{4}[ -]?[0-9]{4}", is_jp_my_number),
    "kr_rrn": (_DIGITS, r"[0-9]{2}[01][0-9][0-3][0-9]-[1-8][0-9]{6}", is_kr_rrn),
    "nl_bsn": (_DIGITS, r"[0-9]{4}\.?[0-9]{2}\.?[0-9]{3}", is_nl_bsn),
    "no_fnr": (_DIGITS, r"[0-7][0-9][0-9]{4} ?[0-9]{5}", is_no_fnr),
    "pl_pesel": (_DIGITS, r"[0-9]{11}", is_pl_pesel),
    "se_personnummer": (_DIGITS, r"(?:19|20)?[0-9]{2}[01][0-9]{3}[-+]?[0-9]{4}", is_se_personnummer),
    "sg_nric": (_WORDS, r"[STFGMstfgm][0-9]{7}[A-Za-z]", is_sg_nric),
    "tr_tckn": (_DIGITS, r"[1-9][0-9]{10}", is_tr_tckn),
    "uk_nino": (
        _WORDS, r"[A-CEGHJ-PR-TW-Za-ceghj-pr-tw-z][A-CEGHJ-NPR-TW-Za-ceghj-npr-tw-z] ?(?:[0-9]{2} ?){3}[A-Da-d]", is_uk_nino
    ),
    "us_itin": (_DIGITS, r"9[0-9]{2}[- ](?:5[0-9]|6[0-5]|7[0-9]|8[0-8]|9[0-24-9])[- ][0-9]{4}", is_us_itin),
    "za_id": (_DIGITS, r"[0-9]{2}[01][0-9][0-3][0-9] ?[0-9]{4} ?[0-9]{3}", is_za_id),
}  # fmt: skip
"""By name: what stands beside it, what it looks like, and its check."""

NATIONAL: Final = tuple(sorted(RULES))


def national(name: str) -> Net:
    """The detector of that name; its data class is called the same."""
    (before, behind), body, check = RULES[name]
    return Net(f"{before}({body}){behind}", name, check)
