"""Checks of what masks are made with, for whatever kind of target they are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from ostiary.config.types import Class, OwnDetector
from ostiary.model.connections import DataClass, Detector, Look, Strategy
from ostiary.model.errors import ConfigError
from ostiary.model.patterns import checked
from ostiary.model.secrets import SecretRef

DETECTORS: Final = frozenset({"card", "email", "iban", "ssn", "secret"})
"""Built-in names that `detect` takes; `tests/config` holds that masking has a detector for each, and no other."""
NATIONAL: Final = frozenset({
    "at_svnr", "au_tfn", "be_rrn", "br_cpf", "ca_sin", "ch_ahv", "cn_id", "cz_rc", "de_steuer_id", "dk_cpr", "es_dni", "fi_hetu",
    "fr_nir", "ie_pps", "in_aadhaar", "it_codice_fiscale", "jp_my_number", "kr_rrn", "nl_bsn", "no_fnr", "pl_pesel",
    "se_personnummer", "sg_nric", "tr_tckn", "uk_nino", "us_itin", "za_id",
})  # fmt: skip
"""National ids that it takes as well."""
MAX_OWN: Final = 32
"""Detectors of an operator's own on one connection: each is looked for in all that comes back."""

KEYED: Final = frozenset({Strategy.HASH, Strategy.TOKEN})

Refer = Callable[[str, str], SecretRef]
"""Parses a reference to a secret: where it is written, and what is written."""


def mask_key(key: str, written: str | None, masks: Iterable[Strategy], refer: Refer) -> SecretRef | None:
    """Where the key of hashes and tokens is kept. Raises `ConfigError` where one of the masks needs it, and it is not written."""
    if written is not None:
        return refer(f"{key}.mask_key", written)
    keyed = [each for each in masks if each in KEYED]
    if keyed:
        raise ConfigError(
            f"{key}.mask_key", f'is needed for mask = "{keyed[0].value}": write where its key is kept, file:/path or env:NAME'
        )
    return None


def data_classes(classes: Mapping[str, Class]) -> tuple[DataClass, ...]:
    """What is written of data classes, by name."""
    return tuple(DataClass(name, each.first, each.last, each.infer) for name, each in sorted(classes.items()))


def detectors(key: str, named: Iterable[str], own: Mapping[str, OwnDetector]) -> Look:
    """What is looked for on a connection. Raises `ConfigError` for a name or a pattern that is none."""
    found: set[str | Detector] = set()
    for index, name in enumerate(named):
        if name in own:
            continue
        if name not in DETECTORS | NATIONAL:
            known = ", ".join([*sorted(DETECTORS), *sorted(NATIONAL)])
            raise ConfigError(f"{key}.detect[{index}]", f"no such detector; known: {known}")
        found.add(name)
    if len(own) > MAX_OWN:
        raise ConfigError(f"{key}.detectors", f"are {len(own)}; at most {MAX_OWN} are allowed")
    for name, each in own.items():
        place = f"{key}.detectors.{name}"
        if name in DETECTORS | NATIONAL:
            raise ConfigError(place, "is the name of a detector that is there already; choose another")
        try:
            checked(each.pattern)
        except ValueError as exc:
            raise ConfigError(f"{place}.pattern", str(exc)) from None
        found.add(Detector(each.pattern, each.cls or name))
    return frozenset(found)
