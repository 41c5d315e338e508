"""Names that both ends of the API use: RFC 8693, 3 and RFC 8707, 2. Imports nothing, so the client stays light."""

from __future__ import annotations

from typing import Final

GRANT: Final = "urn:ietf:params:oauth:grant-type:token-exchange"
ACCESS_TOKEN: Final = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105 - a name, not a token
JWT: Final = "urn:ietf:params:oauth:token-type:jwt"
ID_TOKEN: Final = "urn:ietf:params:oauth:token-type:id_token"  # noqa: S105 - a name, not a token
TOKEN_TYPES: Final = frozenset({ACCESS_TOKEN, JWT, ID_TOKEN})
CONNECTION_URN: Final = "urn:ostiary:connection:"
"""How `resource`, which must be a URI, names a connection."""
DELEGATION_TOKEN: Final = "urn:ostiary:token-type:delegation"  # noqa: S105 - a name, not a token
AWS_IDENTITY: Final = "urn:ostiary:token-type:aws-caller-identity"
"""A presigned `sts:GetCallerIdentity`, with the `nonce` that it is bound to in a parameter beside it."""
AWS_KEYS: Final = "urn:ostiary:token-type:aws-keys"
"""An access key, a secret and a session token for AWS's SDKs: no access token, so `token_type` is `N_A` (RFC 8693, 2.2.1)."""
JWT_BEARER: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"
CLIENT_CREDENTIALS: Final = "client_credentials"
CODE: Final = "authorization_code"
DEVICE_CODE: Final = "urn:ietf:params:oauth:grant-type:device_code"
ASSERTION: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
COMMAND_LINE: Final = "ostiary"
"""Client id of the `ostiary` command."""
