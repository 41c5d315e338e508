"""`python -m bench.national`: of random numbers in the form of each national id, how many pass for one.

The form is that of `docs/masking.md`: digits alone where an id may be written so, else with its marks; letters where they stand. What is
counted is what the detector itself says: its pattern, and its check digits.
"""

from __future__ import annotations

import argparse
import random
import string
from typing import Final

import re2

from ostiary.kernel.national import RULES

FORMS: Final = {
    "at_svnr": "0" * 10, "au_tfn": "0" * 9, "be_rrn": "0" * 11, "br_cpf": "0" * 11, "ca_sin": "000-000-000", "ch_ahv": "7560000000000",
    "cn_id": "0" * 18, "cz_rc": "000000/0000", "de_steuer_id": "0" * 11, "dk_cpr": "000000-0000", "es_dni": "00000000A",
    "fi_hetu": "000000-000A", "fr_nir": "0" * 15, "ie_pps": "0000000A", "in_aadhaar": "0" * 12, "it_codice_fiscale": "AAAAAA00A00A000A",
    "jp_my_number": "0" * 12, "kr_rrn": "000000-0000000", "nl_bsn": "0" * 9, "no_fnr": "0" * 11, "pl_pesel": "0" * 11,
    "se_personnummer": "0" * 10, "sg_nric": "S0000000A", "tr_tckn": "0" * 11, "uk_nino": "AA000000A", "us_itin": "900-00-0000", "za_id": "0" * 13,
}  # fmt: skip
"""`0` stands for any digit, `A` for any letter."""


def passing(name: str, count: int, dice: random.Random) -> int:
    """How many of `count` random texts of its form the detector takes."""
    _, pattern, check = RULES[name]
    compiled = re2.compile(pattern)
    found = 0
    for _ in range(count):
        text = "".join({"0": dice.choice(string.digits), "A": dice.choice(string.ascii_uppercase)}.get(mark, mark) for mark in FORMS[name])
        found += compiled.fullmatch(text) is not None and check(text.encode())
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.national", description=__doc__)
    parser.add_argument("--count", type=int, default=200_000)
    options = parser.parse_args()
    dice = random.Random(1)
    for name in sorted(RULES):
        found = passing(name, options.count, dice)
        print(f"{name:20}{FORMS[name]:20}" + (f"1 in {options.count / found:,.0f}" if found else f"none of {options.count:,}"))


if __name__ == "__main__":
    main()
