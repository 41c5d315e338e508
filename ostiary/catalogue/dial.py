"""The side connection to a target, over which its catalogue is read."""

from __future__ import annotations

import ssl
from typing import Final

import asyncpg

from ostiary.model.connections import Connection, Upstream
from ostiary.model.secrets import Secret

APPLICATION: Final = "ostiary-catalogue"
SETTINGS: Final = {
    "application_name": APPLICATION,
    "default_transaction_read_only": "on",
    "statement_timeout": "30s",
    "lock_timeout": "5s",
}


async def connect(connection: Connection, password: Secret | None) -> asyncpg.Connection:
    """Log in with the connection's own role. Raises what asyncpg raises."""
    upstream = connection.upstream
    return await asyncpg.connect(
        host=upstream.host,
        port=upstream.port,
        database=upstream.database,
        user=upstream.user,
        password=password.reveal() if password is not None else "",  # None: asyncpg would look around for one
        ssl=_context(upstream),
        timeout=upstream.connect_timeout,
        command_timeout=30,
        statement_cache_size=0,
        server_settings=SETTINGS,
    )


def _context(upstream: Upstream) -> ssl.SSLContext | bool:
    if upstream.tls == "disable":
        return False
    context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=upstream.ca_file)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = upstream.tls == "verify-full"
    if upstream.cert_file is not None:
        context.load_cert_chain(upstream.cert_file, upstream.key_file)
    return context
