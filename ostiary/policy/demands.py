"""What `@parameters` demands, read from its text.

MaxKeys?<=100; PutObject:ServerSideEncryption=aws:kms; ACL?!=public-read|public-read-write; Tags+=owner=ostiary.subject()
"""

from __future__ import annotations

import re
from typing import Final

from ostiary.model.duties import Demand
from ostiary.model.errors import ConfigError

MAX_DEMANDS: Final = 64
_DEMAND: Final = re.compile(
    r"(?:(?P<operation>[A-Za-z][A-Za-z0-9]{0,127}):)?(?P<path>[A-Za-z][A-Za-z0-9_-]{0,127}(?:/(?:\*|[A-Za-z][A-Za-z0-9_-]{0,127})){0,7})"
    r"(?P<there>\?)?\s*(?P<how><=|!=|\+=|=)\s*(?P<value>\S(?:.{0,510}\S)?)"
)
_TAG: Final = re.compile(r"[^=]{1,128}=.{0,256}")


def read(place: str, text: str | None) -> tuple[Demand, ...]:
    """The demands of an annotation, sorted; `ConfigError` for what is none."""
    if text is None:
        return ()
    parts = [part.strip() for part in text.split(";")]
    parts = [part for part in parts if part]
    if not parts or len(parts) > MAX_DEMANDS:
        raise ConfigError(place, f'@parameters holds from 1 to {MAX_DEMANDS} demands: @parameters("MaxKeys?<=100")')
    return tuple(sorted({_demand(place, part) for part in parts}))


def _demand(place: str, text: str) -> Demand:
    found = _DEMAND.fullmatch(text)
    if found is None:
        raise ConfigError(place, f"@parameters: `{text}` is no demand; write NAME=VALUE, NAME<=NUMBER, NAME!=A|B or NAME+=KEY=VALUE")
    how, value = found["how"], found["value"]
    if how == "<=" and not (value.isascii() and value.isdigit() and len(value) <= 15):
        raise ConfigError(place, f"@parameters: `{text}` wants a number behind <=")
    if how == "+=" and _TAG.fullmatch(value) is None:
        raise ConfigError(place, f"@parameters: `{text}` wants a tag behind +=: KEY=VALUE")
    return Demand(found["operation"] or "", tuple(found["path"].split("/")), found["there"] is not None, how, value)
