"""Which service, region and bucket a `Host` names; what names another than the signature's scope is refused."""

from __future__ import annotations

import re
from typing import Final

from ostiary.protocols.aws.models import Unreadable
from ostiary.protocols.http.messages import RequestHead, values
from ostiary.protocols.http.paths import authority_of

_AWS: Final = re.compile(r"(?:(?P<before>.+)\.)?(?P<zone>amazonaws\.com|amazonaws\.com\.cn|api\.aws)")
_REGION: Final = re.compile(r"[a-z]{2}(?:-[a-z]+)+-[0-9]")
_S3: Final = re.compile(r"(?:(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])\.)?s3(?:\.dualstack)?(?:[.-](?P<region>[a-z]{2}(?:-[a-z]+)+-[0-9]))?")


def read_host(head: RequestHead, own: frozenset[str], service: str, region: str, endpoints: frozenset[str]) -> str:
    """The bucket that `Host` names, empty: none. `endpoints`: prefixes by which the service is called. Raises `Unreadable`."""
    named = values(head.headers, b"host")
    place = authority_of(named[0]) if len(named) == 1 else None
    if place is None:
        raise Unreadable("InvalidRequest", "a request has exactly one Host")
    host = place[0].decode("ascii")
    if host in own:
        return ""
    for name in own:
        if service == "s3" and host.endswith("." + name):
            return host[: -len(name) - 1]
    found = _AWS.fullmatch(host)
    if found is None or not found["before"]:
        raise Unreadable("InvalidRequest", "Host names neither this gateway nor AWS")
    before = found["before"]
    if service == "s3":
        virtual = _S3.fullmatch(before)
        if virtual is None or (virtual["region"] or region) != region:
            raise Unreadable("InvalidRequest", "Host is of another service or region than the signature")
        return virtual["bucket"] or ""
    first, _, last = before.rpartition(".")
    prefix, zone = (first, last) if first and _REGION.fullmatch(last) else (before, region)
    if prefix not in endpoints or zone != region:
        raise Unreadable("InvalidRequest", "Host is of another service or region than the signature")
    return ""
