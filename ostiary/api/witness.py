"""The HTTP side of a witness: `POST <prefix>/add-checkpoint`, C2SP tlog-witness. It holds no state and decides nothing."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from ostiary.audit.witness import MAX_REQUEST, Witness


def witness_app(witness: Witness) -> Starlette:
    """A witness as an ASGI application."""

    async def add_checkpoint(request: Request) -> Response:
        body = b""
        async for part in request.stream():
            body += part
            if len(body) > MAX_REQUEST:
                return PlainTextResponse("the request is too long\n", 413)
        answer = await run_in_threadpool(witness.add_checkpoint, body)
        return Response(answer.body, answer.status, headers={"Content-Type": answer.type})

    async def vkey(_: Request) -> Response:
        return PlainTextResponse(f"{witness.vkey}\n")

    return Starlette(
        routes=[
            Route("/add-checkpoint", add_checkpoint, methods=["POST"]),
            Route("/vkey", vkey, methods=["GET"]),
        ]
    )
