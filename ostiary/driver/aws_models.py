"""AWS's own service models and endpoints, as botocore ships them: read from disk when a service is first asked for, and kept."""

from __future__ import annotations

import asyncio
import contextlib
import json
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError
from botocore.loaders import Loader
from botocore.regions import EndpointResolver

import ostiary.protocols.aws
from ostiary.model.connections import AwsConnection
from ostiary.model.errors import ConfigError
from ostiary.protocols.aws.actions import VENDING, Access
from ostiary.protocols.aws.models import Service


@lru_cache(maxsize=1)
def access() -> Access:
    """What is known of AWS's actions."""
    return Access(json.loads((Path(ostiary.protocols.aws.__file__).parent / "access.json").read_bytes()))


def check_calls(connection: AwsConnection) -> None:
    """Raise `ConfigError` for a call that the configuration names and AWS does not have: a field of its answer would stay in clear."""
    key = f"connections.{connection.name}"
    fields = {place: f'{key}.protect."{place} {field.place}"' for place, field in connection.hidden if field.place.startswith(("json:/", "xml:/"))}
    for name, where in (fields | dict.fromkeys(connection.danger_hands_out - VENDING, f"{key}.danger_hands_out")).items():
        prefix, _, operation = name.partition(":")
        known = _operations(prefix)
        if operation not in known:
            if not known:
                raise ConfigError(where, f"AWS has no service {prefix}")
            near = get_close_matches(operation, known, 1)
            raise ConfigError(where, f"AWS has no call {name}" + (f"; did you mean {prefix}:{near[0]}?" if near else ""))


def _operations(prefix: str) -> list[str]:
    """All operations of the services with that IAM prefix."""
    loader, known = Loader(), access()
    found: list[str] = []
    for name in known.services:
        if known.prefix(name) == prefix:
            with contextlib.suppress(BotoCoreError):
                found += loader.load_service_model(name, "service-2")["operations"]
    return found


class AwsModels:
    """The models that one connection's requests are read by. One event loop's."""

    def __init__(self, connection: AwsConnection) -> None:
        self.access = access()
        self._connection = connection
        self._loader = Loader()
        self._services: dict[str, Service] = {}
        self._endpoints: EndpointResolver | None = None

    def has(self, services: list[str]) -> bool:
        """Whether they are loaded."""
        return all(name in self._services for name in services) and self._endpoints is not None

    async def load(self, services: list[str]) -> None:
        """Load what is missing, beside the loop."""
        missing = [name for name in services if name not in self._services]
        for name, service in await asyncio.to_thread(self._read, missing):
            self._services[name] = service
        if self._endpoints is None:
            self._endpoints = await asyncio.to_thread(lambda: EndpointResolver(self._loader.load_data("endpoints")))

    def _read(self, names: list[str]) -> list[tuple[str, Service]]:
        return [(name, Service(name, self._model(name))) for name in names]

    def _model(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self._loader.load_service_model(name, "service-2")
        return found

    def loaded(self, service: str) -> Service:
        """The model of botocore's service of that name."""
        return self._services[service]

    def host(self, service: str, region: str) -> str | None:
        """The host that serves it there; None: it is not there."""
        if self._connection.fixed:
            return self._connection.upstream.host_header
        if self._endpoints is None:
            return None
        try:
            found = self._endpoints.construct_endpoint(self.access.services[service][2], region, partition_name=self._connection.partition)
        except BotoCoreError:
            return None
        return None if found is None else str(found["hostname"])
