"""A forwarded connection on a channel of its own: RFC 4254, 7.2 (`direct-tcpip`, `forwarded-tcpip`) and OpenSSH's for sockets.

Local and dynamic forwards are the first kind: the client asks, the target connects. A remote forward is a listener on the target (RFC 4254, 7.1),
an operation of its own that lasts until it is cancelled, and one more for each connection that comes in there. Who that is nobody
knows, so both are `opaque` on the end point: policy has to permit them by name, and a permit for local forwards is none. So are an agent and a display of the client's
that programs on the target may reach, and each connection to one.

What flows through one is not looked into: it is counted, and policy has to permit `transfer` on exactly that end point. The name is
resolved by the target, which connects; so policy sees the name that the client asked for, in one spelling. An address that is not
written as addresses are (`0x7f.1`, `2130706433`) is no name, and is refused.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator
from typing import Final

from ostiary.model.catalogue import Snapshot
from ostiary.model.commands import Order
from ostiary.model.decisions import Permit, Refusal
from ostiary.model.errors import Misdeed, PeerMisbehaved
from ostiary.model.operations import Operation, Unjudgeable
from ostiary.model.proofs import Batch, Content, Denied, Intended, Masked, Outcome
from ostiary.protocols.relay import Ask, Streamed
from ostiary.protocols.ssh import messages as m
from ostiary.protocols.ssh import operations
from ostiary.protocols.ssh.alone import Alone
from ostiary.protocols.ssh.operations import Ground
from ostiary.protocols.ssh.paths import canonical

AGENT: Final = "auth-agent-req@openssh.com"
DISPLAY: Final = "x11-req"
BACK: Final = {AGENT: "agent", "auth-agent@openssh.com": "agent", DISPLAY: "display", "x11": "display"}
"""What leads back to something of the client's own, and the end point that it is for policy."""
LISTENERS: Final = frozenset({"tcpip-forward", "streamlocal-forward@openssh.com", AGENT, DISPLAY})
INBOUND: Final = frozenset({"forwarded-tcpip", "forwarded-streamlocal@openssh.com", "auth-agent@openssh.com", "x11"})
"""Opened by the target, for whoever came to a listener."""
KINDS: Final = frozenset({"direct-tcpip", "direct-streamlocal@openssh.com", *LISTENERS, *INBOUND})
NEVER: Final = {
    "tun@openssh.com": "tunnels",
}
"""Asked for, on record, and refused: nothing on a target reaches back into what a client did not name."""
ANYWHERE: Final = "*"
"""Every address of the target: what an empty one means to a listener (RFC 4254, 7.1)."""
_NAME: Final = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9_]([A-Za-z0-9_-]{0,62})(\.[A-Za-z0-9_][A-Za-z0-9_-]{0,62})*\.?")
_LIKE_A_NUMBER: Final = re.compile(r"(0[xX][0-9a-fA-F]*|[0-9]+)(\.(0[xX][0-9a-fA-F]*|[0-9]+))*\.?")


def endpoint(host: str, port: int, *, listens: bool = False) -> str | None:
    """Write where a forward leads in one way, or None where it is no host and port. A listener may leave both to the target."""
    if not (0 if listens else 1) <= port <= 65535:
        return None
    if listens and host in {"", ANYWHERE}:
        return f"{ANYWHERE}:{port}"
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    try:
        address = ipaddress.ip_address(bare)
    except ValueError:
        if not _NAME.fullmatch(host) or _LIKE_A_NUMBER.fullmatch(host):
            return None
        return f"{host.lower().rstrip('.')}:{port}"
    mapped = getattr(address, "ipv4_mapped", None)
    if getattr(address, "scope_id", None):
        return None
    return f"{mapped or address}:{port}"


class ForwardRelay(Alone):
    """See `ostiary.protocols.relay.Relay`. The first message is a request named after the channel's type."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._start: Operation | None = None
        self._decision: Permit | Refusal | None = None
        self._under: Intended | None = None
        self._wire: list[bytes] = []
        self._refused = False
        self._out = 0
        self._in = 0
        self.came = 0
        """Connections that came to it, if it is a listener."""
        self._outcomes: list[Outcome] = []
        self.is_over = False
        self.has_terminal = False

    def asks(self, data: bytes, snapshot: Snapshot) -> Iterator[Ask]:
        """Take in messages of the client's; the first is the question."""
        del snapshot
        for message in m.decode(data):
            match message:
                case m.Request(name, body) if self._start is None and (name in KINDS or name in NEVER):
                    self._start = self._judged(name, body, m.encode(message))
                    yield Ask(self._start, takes_effect=True)
                case m.Data(inner) if self._under is not None:
                    self._in += len(inner)
                    self._wire.append(m.encode(message))
                case m.Eof() | m.Close() if self._start is not None:
                    self._wire.append(m.encode(message))
                case _:
                    raise PeerMisbehaved(Misdeed.OUT_OF_TURN, type(message).__name__)

    def _judged(self, kind: str, body: bytes, wire: bytes) -> Operation:
        reader = m.Reader(body)
        name = kind.partition("@")[0]
        if kind in NEVER:
            said = reader.text()
            return self._refuse(name, said, f"{NEVER[kind]} are not spoken here")
        if kind in BACK:
            return self._back(kind, reader, wire)
        place: str | None
        origin = ""
        is_remote = kind in LISTENERS or kind in INBOUND
        if name.endswith("tcpip") or kind == "tcpip-forward":
            host, port = reader.text(), reader.u32()
            if kind not in LISTENERS:
                origin = f"{reader.text()}:{reader.u32()}"  # where it comes from, as the peer says
            place = endpoint(host, port, listens=is_remote)
            said = f"{host}:{port}"
        else:
            said = reader.text()
            place = said if "\0" not in said and said == canonical(said, "/", None) else None
        reader.end()
        if place is None:
            return self._refuse(name, said, "the end point is no host and port, and no path")
        if not is_remote:
            return operations.forward(name, place, wire)
        return operations.remote(name, place, origin, wire, creates=kind == "streamlocal-forward@openssh.com")

    @staticmethod
    def _back(kind: str, reader: m.Reader, wire: bytes) -> Operation:
        """An agent or a display: RFC 4254, 6.3, and OpenSSH, PROTOCOL.agent. A display's cookie is for its two ends alone."""
        origin = ""
        if kind == DISPLAY:
            reader.string(), reader.string(), reader.u32()
        elif kind == "x11":
            origin = f"{reader.text()}:{reader.u32()}"
        reader.end()
        place = BACK[kind]
        return operations.remote(kind.partition("@")[0], place, origin, wire, creates=False, why=f"programs on the target use the client's {place}")

    @staticmethod
    def _refuse(name: str, said: str, why: str) -> Operation:
        return operations.refused(name, said.encode(), Unjudgeable.UNSUPPORTED, why, b"")

    def state(self) -> bytes:
        """Nothing changes what an end point means."""
        return b""

    def notice(self, text: str, hint: str) -> Batch:
        """Nothing can be said on a channel that is not open yet: the client waits for it to open."""
        del text, hint
        return Batch(b"", Content.CONTROL, None, 0, False)

    def decided(self, ask: Ask, decision: Permit | Refusal) -> bool:
        """Heed the decision."""
        del ask
        self._decision = decision
        return True

    def order(self, proofs: tuple[Intended | Denied, ...]) -> Order:
        """Open it under its proof; then bytes."""
        for proof in proofs:
            if isinstance(proof, Intended) and self._start is not None:
                self._under = proof
                self._wire.insert(0, self._start.wire)
            else:
                self._refused = self.is_over = True
        wire, self._wire = b"".join(self._wire), []
        return Order(tuple(p for p in proofs if isinstance(p, Intended)), wire if self._under is not None else b"")

    def streamed(self) -> Iterable[Streamed]:
        """Content of a forward is counted, not kept."""
        return ()

    def answers(self) -> Iterable[Batch]:
        """A refusal closes the channel before it was opened."""
        if not self._refused:
            return ()
        self._refused = False
        return (Batch(m.encode(m.Close()), Content.CONTROL, None, 0, False),)

    def results(self, data: bytes) -> Iterator[tuple[Batch, Intended | None]]:
        """Take in messages of the target's."""
        for message in m.decode(data):
            if isinstance(message, m.Request):
                raise PeerMisbehaved(Misdeed.OUT_OF_TURN, message.name)
            if isinstance(message, m.Data):
                self._out += len(message.data)
            yield Batch(m.encode(message), Content.CONTROL, None, 0, False), self._under
            if isinstance(message, m.Close):
                self._close("ok")

    def masked(self, masked: Masked) -> None:
        """Nothing is looked into."""

    def _close(self, status: str) -> None:
        if self.is_over or self._under is None:
            return
        self.is_over = True
        self._outcomes.append(
            Outcome(
                intended=self._under,
                status=status,
                tag=self._tag(),
                rows=0,
                bytes=self._out,
                error="",
                error_text="",
                masked=(),
                columns=(),
            )
        )

    def _tag(self) -> str:
        if self.listens:
            return f"{self.came} connections came"
        return f"{self._in} bytes there, {self._out} back"

    @property
    def listens(self) -> bool:
        """Whether it is a listener, on which nothing flows."""
        return self._start is not None and self._start.facts.name in {each.partition("@")[0] for each in LISTENERS}

    def outcomes(self) -> tuple[Outcome, ...]:
        """How it ended."""
        ended, self._outcomes = tuple(self._outcomes), []
        return ended

    def outdated(self) -> bool:
        """No catalogue."""
        return False

    @property
    def is_bulk(self) -> bool:
        """What flows is not kept."""
        return True

    @property
    def is_holding(self) -> bool:
        """Nothing is held back."""
        return False

    @property
    def is_stalled(self) -> bool:
        """It waits for nothing of its own."""
        return False

    def abandon(self) -> tuple[Outcome, ...]:
        """It was cut."""
        self._close("cut")
        return self.outcomes()
