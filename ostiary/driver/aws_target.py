"""An AWS account as its sessions share it: what requests mean, and connections kept open to each of its endpoints."""

from __future__ import annotations

import time

import msgspec

from ostiary.driver.aws_models import AwsModels
from ostiary.driver.http_target import HttpDestination
from ostiary.driver.targets import Resolve
from ostiary.model.connections import AwsConnection
from ostiary.protocols.aws.operations import Understanding
from ostiary.protocols.aws.replays import Replays


class AwsDestination(HttpDestination):
    """One account."""

    connection: AwsConnection

    def __init__(self, connection: AwsConnection, resolve: Resolve) -> None:
        super().__init__(connection, resolve)
        self.resolve = resolve
        self.models = AwsModels(connection)
        self.calls = Understanding(connection, self.models, Replays(time.time()))
        self._endpoints: dict[str, HttpDestination] = {}

    def endpoint(self, host: str) -> HttpDestination:
        """The connections to one endpoint, which is one of AWS's, or the one that the operator named."""
        if self.connection.fixed:
            return self
        found = self._endpoints.get(host)
        if found is None:
            upstream = msgspec.structs.replace(self.connection.upstream, host=host, port=443)
            found = HttpDestination(msgspec.structs.replace(self.connection, upstream=upstream), self.resolve)
            self._endpoints[host] = found
        return found

    @property
    def sts(self) -> tuple[str, str]:
        """(URL, host header) where roles are assumed."""
        upstream = self.connection.upstream
        host = upstream.host_header or upstream.host
        return f"{'http' if upstream.tls == 'disable' else 'https'}://{host}/", host

    async def close(self) -> None:
        """Close what lies idle."""
        await super().close()
        for each in self._endpoints.values():
            await each.close()
