"""An AWS account as its sessions share it: what requests mean, and connections kept open to each of its endpoints."""

from __future__ import annotations

import time

import msgspec

from ostiary.driver.aws_models import AwsModels, check_calls
from ostiary.driver.http_target import HttpDestination
from ostiary.driver.targets import Resolve
from ostiary.model.connections import AwsConnection
from ostiary.protocols.aws.operations import Understanding
from ostiary.protocols.aws.replays import Replays
from ostiary.store.commons import Commons
from ostiary.store.once import SharedOnce
from ostiary.upstream.aws_credentials import Place


class AwsDestination(HttpDestination):
    """One account."""

    connection: AwsConnection

    def __init__(self, connection: AwsConnection, resolve: Resolve) -> None:
        super().__init__(connection, resolve)
        check_calls(connection)
        self.resolve = resolve
        self.models = AwsModels(connection)
        self.calls = Understanding(connection, self.models, Replays(time.time()))
        self._endpoints: dict[str, HttpDestination] = {}
        self._workers = 1

    def share(self, commons: Commons) -> None:
        """See `Destination.share`."""
        super().share(commons)
        self._workers = commons.workers
        if commons.is_shared:
            once = SharedOnce(commons.table("used"))
            name = self.connection.name
            self.calls.replays.share(lambda signature, until, now: once.use(f"aws {name} {signature}", until, now))

    def endpoint(self, host: str) -> HttpDestination:
        """The connections to one endpoint, which is one of AWS's, or the one that the operator named."""
        if self.connection.fixed:
            return self
        found = self._endpoints.get(host)
        if found is None:
            upstream = msgspec.structs.replace(self.connection.upstream, host=host, port=443)
            found = HttpDestination(msgspec.structs.replace(self.connection, upstream=upstream), self.resolve)
            found.divide(self._workers)
            self._endpoints[host] = found
        return found

    @property
    def place(self) -> Place:
        """Where roles are assumed."""
        upstream = self.connection.upstream
        host = upstream.host_header or upstream.host
        sts = f"{'http' if upstream.tls == 'disable' else 'https'}://{host}/", host
        return Place(self.connection.name, self.connection.regions[0], sts)

    async def close(self) -> None:
        """Close what lies idle."""
        await super().close()
        for each in self._endpoints.values():
            await each.close()
