"""AWS's own service models and endpoints, as botocore ships them: read from disk when a service is first asked for, and kept."""

from __future__ import annotations

import asyncio
import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError
from botocore.loaders import Loader
from botocore.regions import EndpointResolver

import ostiary.protocols.aws
from ostiary.model.connections import AwsConnection
from ostiary.protocols.aws.actions import Access
from ostiary.protocols.aws.models import Service


@lru_cache(maxsize=1)
def access() -> Access:
    """What is known of AWS's actions."""
    return Access(json.loads((Path(ostiary.protocols.aws.__file__).parent / "access.json").read_bytes()))


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
