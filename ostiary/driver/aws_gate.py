"""AWS's listener: HTTP's, but who it is and where it goes stand in the signature of each request, and answers speak as AWS does.

A session is a set of gateway keys. Its session token says whose they are and for which connection; the signature is verified before
anything is decided, by the relay, for it may hang on the body.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import time
from typing import cast

from ostiary.config.types import AwsListener
from ostiary.driver.admission import Begun, Reception
from ostiary.driver.aws_target import AwsDestination
from ostiary.driver.http_exchange import Session
from ostiary.driver.http_gate import HttpGate
from ostiary.driver.http_pool import Pool
from ostiary.driver.http_session import HttpSession
from ostiary.driver.http_target import HttpDestination
from ostiary.identity.aws_keys import AwsKeys
from ostiary.masking.aws import AwsReplyMasker
from ostiary.masking.http import ReplyMasker
from ostiary.model.connections import ProtectedField
from ostiary.model.errors import NotAdmitted, Reason
from ostiary.model.identity import VerifiedIdentity
from ostiary.model.secrets import Secret
from ostiary.protocols.aws import errors, sigv4
from ostiary.protocols.aws.masks import fields, reads_as
from ostiary.protocols.aws.operations import Arrival
from ostiary.protocols.aws.relay import AwsRelay
from ostiary.protocols.aws.sigv4 import plain_name
from ostiary.protocols.http.messages import RequestHead
from ostiary.protocols.http.refusals import Said
from ostiary.protocols.http.relay import HttpRelay
from ostiary.upstream.aws_credentials import AwsShown


class AwsSession(HttpSession):
    """Gateway keys on a connection."""

    destination: AwsDestination

    def __init__(self, begun: Begun, destination: AwsDestination, reception: Reception) -> None:
        super().__init__(begun, destination, None, asyncio.get_running_loop().time(), reception.desk, reception.counting)
        self._shown = AwsShown(
            destination.connection.aws_credential, destination.place, destination.resolve, self.who, self.id
        )
        self._agent = _agent(self.who, self.id)

    def masker(self, relay: HttpRelay) -> ReplyMasker:
        """What masks the answer, once the call is known."""
        asking, connection = cast(AwsRelay, relay).asking, self.destination.connection

        def hidden() -> tuple[tuple[ProtectedField, ...], str]:
            if relay.under is None:
                return (), "content"  # the answer is the gateway's own
            return fields(asking.name, asking.call, asking.service, connection), reads_as(asking.call, asking.service)

        return AwsReplyMasker(connection.detect, connection.pass_types, hidden)

    def pool(self, relay: HttpRelay) -> Pool:
        """The connections to that endpoint."""
        return self.service(relay).pool

    def service(self, relay: HttpRelay) -> HttpDestination:
        """The endpoint of the service that is called."""
        return self.destination.endpoint(cast(AwsRelay, relay).asking.host)

    def ready(self) -> bytes | None:
        """Whether the keys to sign with are here."""
        return self._shown.ready()

    async def fetch(self) -> bytes:
        """Fetch them."""
        return await self._shown.fetch()

    def lines(self, relay: HttpRelay, shown: bytes) -> bytes:
        """Sign what was judged, as it goes out."""
        del shown
        sent = cast(AwsRelay, relay).sent
        if sent is None:
            raise AssertionError("what was not judged is not sent")
        method, path, query, headers, payload = sent
        signed = cast(AwsRelay, relay).asking.signed
        made = sigv4.sign(
            method=method, path=path, query=query, headers=headers, payload=payload, keys=self._shown.keys, region=signed.region,
            service=signed.service, at=dt.datetime.now(dt.UTC).strftime("%Y%m%dT%H%M%SZ"),
        )  # fmt: skip
        return b"".join(b"%b: %b\r\n" % header for header in [*made, (b"user-agent", self._agent)])


class AwsGate(HttpGate):
    """One AWS listener."""

    key = "listen.aws"
    offers_http2 = False
    """The `aws` command and the SDKs speak HTTP/1.1 to an endpoint of one's own."""

    def __init__(
        self, reception: Reception, settings: AwsListener, destinations: list[AwsDestination], keys: AwsKeys, *, first: bool
    ) -> None:
        """`first`: no worker served with these keys before, so nothing that they signed was ever let in."""
        super().__init__(reception, settings, [], None)
        self._accounts = {each.connection.name: each for each in destinations}
        self._keys = keys
        for each in destinations if first else ():
            each.calls.replays.forget_before()
        self._own = frozenset(name.decode() for name in self._names)

    def destination(self, head: RequestHead) -> HttpDestination:
        """The account that the keys of a request are for. Raises `NotAdmitted`."""
        found = self._accounts.get(self._opened(head)[0])
        if found is None:
            raise NotAdmitted(Reason.NO_SUCH_CONNECTION, "of the keys", "`ostiary connections list` names them")
        return found

    def _opened(self, head: RequestHead) -> tuple[str, Secret, Secret, sigv4.Signed, sigv4.AwsTarget]:
        """(connection, gateway token, secret key, signature, target) of a request. Raises `NotAdmitted`."""
        try:
            target = sigv4.read_target(head.target)
            signed = sigv4.read_signature(head.headers, target)
        except sigv4.NotSigned as exc:
            reason = Reason.NO_TOKEN if exc.code == "MissingAuthenticationToken" else Reason.MALFORMED
            raise NotAdmitted(reason, str(exc)) from None
        return (*self._keys.open(signed.token.reveal(), signed.access_key), signed, target)

    def token(self, head: RequestHead) -> Secret:
        """The gateway token in the session token."""
        return self._opened(head)[1]

    def is_ready(self, head: RequestHead) -> bool:
        """Whether the models of the service are loaded."""
        connection, _, _, signed, _ = self._opened(head)
        calls = self._accounts[connection].calls
        return calls.models.has(calls.services(signed))

    async def prepare(self, head: RequestHead, destination: HttpDestination) -> None:
        """Load them."""
        calls = cast(AwsDestination, destination).calls
        await calls.models.load(calls.services(self._opened(head)[3]))

    def opened(self, begun: Begun, destination: HttpDestination) -> HttpSession:
        """A session that has begun."""
        return AwsSession(begun, cast(AwsDestination, destination), self._reception)

    def relay(self, head: RequestHead, session: Session, fault: str) -> HttpRelay:
        """What reads a request. Where it goes was read from it, so there is no fault that is not seen here again."""
        del fault
        _, _, secret, signed, target = self._opened(head)
        account = cast(AwsSession, session)
        arrival = Arrival(signed, target, secret, self._own, time.time(), account.who)
        return AwsRelay(head, account.destination.calls.asking(arrival))

    def failed(self, head: RequestHead | None, why: Exception) -> Said:
        """The answer to what came in no session."""
        return errors.failed("s3" if head is None else errors.format_of(head), why)


def _agent(who: VerifiedIdentity, session: str) -> bytes:
    """`User-Agent`: CloudTrail shows it, also where no role names the person."""
    actor = who.acting[0].sub if who.acting else who.subject
    return f"ostiary session/{session} actor/{plain_name(actor)} subject/{plain_name(who.subject)}".encode()
