"""The device flow (RFC 8628) for listeners that show the code themselves: SSH's keyboard-interactive login.

A worker asks over the link. What it gets at the end is a gateway token for the one connection, minted and put on record as at the token
endpoint. The code is good for the connection that the person was shown, and at the token endpoint for nothing.
"""

from __future__ import annotations

from typing import Any, Final

from ostiary.api.deps import Desk
from ostiary.api.logins import Logins
from ostiary.api.words import COMMAND_LINE
from ostiary.identity.exchange import Wanted, exchange
from ostiary.model.errors import NotAdmitted, OstiaryError
from ostiary.model.identity import Said

TOPIC: Final = "device"


class Devices:
    """Answers the workers, once the API is there."""

    def __init__(self) -> None:
        self._desk: Desk | None = None
        self._logins: Logins | None = None

    def open(self, desk: Desk, logins: Logins) -> None:
        """From now on there is an API."""
        self._desk, self._logins = desk, logins

    async def hear(self, body: dict[str, Any]) -> dict[str, Any]:
        """Answer one question of a worker's. Raises `OstiaryError`, whose sentence is fit for whoever logs in."""
        desk, logins = self._desk, self._logins
        if desk is None or logins is None:
            raise OstiaryError("the gateway has just started; try again")
        connection, address = str(body["connection"]), str(body["address"])
        match body["do"]:
            case "begin":
                return logins.begin_device(f"an SSH login from {address} to {connection}", connection) or {}
            case "drop":
                logins.drop_device(str(body["code"]))
                return {}
            case _:
                found = logins.poll(str(body["code"]), COMMAND_LINE, connection)
                if isinstance(found, str):
                    return {"state": found}
        if found.subject is None or connection not in desk.deps.connections:
            raise OstiaryError("there is no such connection")
        said = Said(address=address, application=str(body["application"]))
        refused, minted = None, None
        try:
            wanted = Wanted(connections=frozenset((connection,)))
            minted = exchange(
                desk.deps.signer, found.subject, None, wanted, known=desk.deps.connections, now=desk.deps.clock()
            )
        except NotAdmitted as exc:
            refused = exc
        who = minted.identity if minted is not None else found.subject.identity
        named = frozenset((connection,))
        if not await desk.recorded("token.login", said, who, refused, named, detail="a device code shown by SSH"):
            raise OstiaryError("the login cannot be recorded, so it did not happen")
        if minted is None:
            raise OstiaryError("the login was not accepted")
        await desk.deps.saw(minted.identity)
        return {"state": "done", "token": minted.token}
