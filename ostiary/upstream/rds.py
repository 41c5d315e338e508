"""What the gateway logs in to a database with: a password, or a token that IAM believes (Amazon RDS, "IAM database authentication").

A token is a signed URL for `rds-db:connect`, which the database takes as password over TLS. It is made anew for each session; where a role is
assumed for it, that bears the name of who acts, so CloudTrail shows them.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Final

from ostiary.model.connections import PostgresConnection
from ostiary.model.identity import VerifiedIdentity
from ostiary.model.secrets import Secret, SecretRef
from ostiary.protocols.aws.sigv4 import presign
from ostiary.upstream.aws_credentials import AwsShown, Place

TOKEN_SECONDS: Final = 900
"""As long as RDS takes one."""


async def password_of(
    connection: PostgresConnection, resolve: Callable[[SecretRef], Secret], who: VerifiedIdentity | None = None, session: str = "-"
) -> Secret | None:
    """What to log in with, read or signed anew. `who`: for whom the session is; None: the gateway itself. Raises `NotAdmitted`."""
    upstream = connection.upstream
    iam = upstream.rds_iam
    if iam is None:
        return None if upstream.password is None else resolve(upstream.password)
    place = Place(connection.name, iam.region, (iam.sts + "/", iam.sts.partition("://")[2]))
    shown = AwsShown(iam.credential, place, resolve, who, session)
    if shown.ready() is None:
        await shown.fetch()
    at = dt.datetime.now(dt.UTC).strftime("%Y%m%dT%H%M%SZ")
    asked = (("Action", "connect"), ("DBUser", upstream.user))
    host = f"{upstream.host}:{upstream.port}"
    return Secret(presign(host, asked, keys=shown.keys, region=iam.region, service="rds-db", at=at, seconds=TOKEN_SECONDS))
