"""The control process: the HTTP API. It mints tokens, and keeps a log of its own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from prometheus_client import CollectorRegistry

from ostiary.api.app import Deps, create_app, server
from ostiary.api.events import TokenEvent
from ostiary.app.common import AUDIENCE, on_signals, open_own_log, verifier
from ostiary.app.worker import no_core_dumps
from ostiary.config.types import Config
from ostiary.driver.spawn import spawn
from ostiary.identity.gateway import TokenSigner
from ostiary.identity.keys import load_or_create_token_key
from ostiary.identity.standing import REVOKED, Standing, stop_body
from ostiary.listener.accept import bind
from ostiary.model.errors import Reason
from ostiary.store import news
from ostiary.store.database import Database
from ostiary.store.link import LinkServer
from ostiary.store.news import NewsBoard

WRITER: Final = "control"
AREAS: Final = (news.AREA,)
"""What is kept between two starts."""


async def run(config: Config, ready: Callable[[Mapping[str, str]], None], stop: asyncio.Event) -> None:
    """Serve the API until `stop`."""
    no_core_dumps()
    state = Path(config.gateway.state_dir)
    log, sealing = open_own_log(config, WRITER)
    database = Database.open(state / "control.db", AREAS)
    board = NewsBoard(database)
    await board.load()
    standing = Standing()
    for told in board.since(0):
        standing.heard(told)
    board.listen(standing.heard)
    link = LinkServer(board, {}, spawn)
    await link.start(state)
    key = load_or_create_token_key(state / "keys" / "token.key")

    async def record(event: TokenEvent) -> None:
        entry = log.encoder.login(
            log.ids.next(), time.time_ns(), time.monotonic_ns(),
            said=event.said, connection=" ".join(event.connections), who=event.who,
            reason="" if event.reason is None else event.reason.name, detail=f"{event.action} {event.detail}".strip(),
        )  # fmt: skip
        await log.writer.wait_durable(log.writer.append(entry))

    async def revoke(token: str, until: int) -> None:
        await board.tell(REVOKED, token, stop_body(Reason.REVOKED_TOKEN, ""), until)

    app = create_app(
        Deps(
            verifier=verifier(config, standing),
            signer=TokenSigner(key, issuer=config.api.base_url, audience=AUDIENCE, minutes=config.tokens.minutes),
            revoke=revoke,
            connections=frozenset(config.connections),
            record=record,
            registry=CollectorRegistry(),
        )
    )
    tls = config.api
    http = server(
        app,
        host=tls.host,
        port=tls.port,
        tls_cert=None if tls.tls_cert is None else str(tls.tls_cert),
        tls_key=None if tls.tls_key is None else str(tls.tls_key),
    )
    http.install_signal_handlers = lambda: None  # type: ignore[attr-defined]  # ours are below
    sock = bind(tls.host, tls.port, shared=False)
    host, port = sock.getsockname()[:2]
    serving = spawn(http.serve(sockets=[sock]), "api")
    on_signals(stop, lambda: None)
    while not http.started and not serving.done():  # noqa: ASYNC110 - uvicorn sets a flag, and no event
        await asyncio.sleep(0.01)
    if http.started:
        ready({"api": f"{host}:{port}"})
        await stop.wait()
    http.should_exit = True
    await serving
    await link.close()
    await database.close()
    await sealing.close()
