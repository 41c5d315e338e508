"""A key of one command's own, to which its token is bound: whoever copies the token has nothing. RFC 9449."""

# ruff: noqa: PLC0415 - imports wait until a command needs them

from __future__ import annotations

import time

ALGORITHM = "ES256"


class Binding:
    """The key, which never leaves this process, and proofs of it."""

    def __init__(self) -> None:
        from joserfc.jwk import ECKey

        self._key = ECKey.generate_key("P-256", private=True)

    def for_exchange(self, api_url: str) -> str:
        """A proof for the token endpoint: the token that comes is bound to the key."""
        return self._proof("POST", f"{api_url.rstrip('/')}/v1/token", None)

    def for_connection(self, token: str, connection: str) -> str:
        """The token with the proof behind it, as a password: good for one login, within a minute."""
        return f"{token}~{self._proof('CONNECT', f'ostiary:{connection}', token)}"

    def _proof(self, method: str, target: str, token: str | None) -> str:
        from ostiary.identity.dpop import make_proof

        return make_proof(self._key, ALGORITHM, self._key.as_dict(private=False), method, target, token, time.time())
