"""Entries: what happened, as canonical JSON. `docs/log-format.md`, 3 is the law; this file is its writer.

Theory of operation. An entry is canonical JSON, so its members stand in a fixed order, and most of them do not change while
a session lives, or while a statement repeats. So an entry is not *serialised*: it is pieces that were serialised once, laid one behind
the other with the numbers between them (`Draft`). Three caches hold them:

* a session's own members (`auth`, `client`, `target`, `who`, …) are in its `SessionEntries`; what sessions of one person, on one target, by one
  program have in common is in the `Encoder`, so that a session begins with few of them to make;
* what a statement's facts and the decision's grounds say (`op`, `decision`, `stmt.head`) is in the `Encoder`, shared by all
  sessions and bounded. The key is the *identity* of the two objects, which the cache keeps alive, so it cannot be confused;
* result columns and command tags, likewise bounded.

All free text passes `scrub` on its way into a piece: once for each piece, not once for each entry.

What is too large is refused by raising `EntryTooLarge`, before anything runs. Three kinds must never be refused, because they
record what already happened or what was said no to: `deny`, `outcome` and `login`. They have a stated short form (`omitted`).
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeVar

import msgspec

from ostiary.audit.drafts import ROOM, Draft
from ostiary.audit.jcs import Json, quoted, text, written
from ostiary.model.connections import Connection, Durability, Recording
from ostiary.model.decisions import Grounds, Permit, Refusal
from ostiary.model.duties import Duties
from ostiary.model.errors import LogFailed
from ostiary.model.events import NOTHING_KEPT, Kept, PayloadRef, StreamHead
from ostiary.model.identity import Actor, Said, VerifiedIdentity
from ostiary.model.nouns import Noun
from ostiary.model.operations import MAX_HEAD, Facts, Operation, Resource
from ostiary.model.proofs import Outcome

MAX_ENTRY: Final = ROOM
"""Bytes of one entry. C2SP tlog-tiles allows 65,535."""
MAX_RESULT_TEXT: Final = 1024
"""Bytes of the target's message in an outcome."""
_MAX_SESSION: Final = 10 * 1024
"""Bytes of a session's constant members: more would leave no room for what it does."""
_MAX_CACHED: Final = 4096
"""Pieces kept of each sort."""
_MAX_PEOPLE: Final = 512
"""Identities kept encoded: one may have a thousand groups."""
_MAX_CLAIMS: Final = 512
"""Characters of what a client says of itself, up to which it is kept encoded."""
_MAX_TAG: Final = 64
"""Bytes of a command tag or SQLSTATE in an outcome's short form: PostgreSQL's own tags end at 64 (COMPLETION_TAG_BUFSIZE)."""

_MOST: Final = MAX_ENTRY
_INTENT: Final = b'","kind":"intent","mono":'
_DENY: Final = b'","kind":"deny","mono":'
_OUTCOME: Final = b'","kind":"outcome","mono":'
_REF: Final = b',"ref":"'
_RESULT: Final = b'","result":{"bytes":'
_ROWS: Final = b',"rows":'
_US: Final = b',"us":'
_CUT: Final = b',"cut":true'
_COUNT: Final = b'"count":'
_LEN: Final = b',"len":'
_PARAMS: Final = b',"params":{'
_CLOSE: Final = b"}"
_T: Final = b'},"t":"'

Scrub = Callable[[str], str]
"""Replaces what the detectors find in free text. Called with any string; must not raise."""


class EntryTooLarge(LogFailed):
    """The entry would pass MAX_ENTRY. Nothing is cut silently: whatever it records does not happen."""


class SessionFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What stays the same in every entry of one session."""

    identity: VerifiedIdentity
    said: Said
    session: str
    """UUIDv7."""
    connection: str
    type: str
    address: str
    """`host:port` of the target."""
    database: str
    account: str
    durability: Durability
    recording: Recording


def session_facts(identity: VerifiedIdentity, said: Said, connection: Connection, session: str) -> SessionFacts:
    """Read off a connection what its sessions' entries say."""
    upstream = connection.upstream
    return SessionFacts(
        identity=identity,
        said=said,
        session=session,
        connection=connection.name,
        type=connection.type,
        address=f"{upstream.host}:{upstream.port}",
        database=connection.place,
        account=connection.account,
        durability=connection.durability,
        recording=connection.recording,
    )


class Encoder:
    """Makes the entries of one process: knows its gateway, its boot, and how to keep secrets out of leaves."""

    def __init__(self, gw: str, boot: str, scrub: Scrub) -> None:
        self.gw = gw
        self.boot = boot
        self._scrub = scrub
        self._second = -1_000_000
        """Microseconds since 1970 at which `_stamp` begins to hold."""
        self._stamp = b""
        self._asked: dict[tuple[int, int], _Asked] = {}
        self._latest: _Asked | None = None
        """What was looked up last: mostly it is that again. As are these two."""
        self._latest_columns: tuple[tuple[str, int], ...] = ()
        self._latest_tag = ""
        self._columns_encoded = b',"columns":[]'
        self._tag_encoded = b""
        self._columns: dict[tuple[tuple[str, int], ...], bytes] = {}
        self._statuses: dict[str, bytes] = {}
        self._tags: dict[str, bytes] = {}
        self._people: dict[int, tuple[VerifiedIdentity, str, str]] = {}
        self._targets: dict[tuple[str, str, str, str, str], str] = {}
        self._claims: dict[tuple[str, str, str, str], str] = {}
        self._admitted: dict[int, tuple[Grounds, str]] = {}
        self.draft = Draft()

    # --- pieces ---------------------------------------------------------------------------------------------------------

    def stamp(self, t: int) -> str:
        """Write nanoseconds since 1970 as the 27 characters of RFC 3339 in UTC with microseconds."""
        micros = self._micros(t)
        return f"{self._stamp.decode()}{micros:06d}Z"

    def lay_stamp(self, t: int) -> None:
        """Lay what `stamp` writes into the draft, but for its `Z`."""
        micros = self._micros(t)
        self.draft.lay(self._stamp)
        self.draft.digits(micros, 6)

    def _micros(self, t: int) -> int:
        """Microseconds behind the second that `_stamp` is."""
        micros = t // 1000 - self._second
        if micros < 0 or micros >= 1_000_000:
            second = t // 1_000_000_000
            self._stamp = time.strftime("%Y-%m-%dT%H:%M:%S.", time.gmtime(second)).encode()
            self._second = second * 1_000_000
            micros = t // 1000 - self._second
        return micros

    def free(self, value: str) -> Json:
        """Shape free text for an entry: scrubbed first, then kept losslessly."""
        return text(self._scrub(value))

    def asked(self, facts: Facts, grounds: Grounds, verdict: str) -> _Asked:
        """Look up, or make, what an intent or a denial says of a statement and of the decision about it."""
        found = self._latest
        if found is not None and found.facts is facts and found.grounds is grounds and found.verdict == verdict:
            return found
        key = (id(facts), id(grounds))
        found = self._asked.get(key)
        if found is None or found.verdict != verdict:
            found = _Asked(
                facts,
                grounds,
                verdict,
                decision=f'"decision":{written(_decision(facts, grounds, verdict, self.free))}'.encode(),
                op=f',"op":{written(_op(facts, self.free))}'.encode(),
                head=f'"head":{quoted(_cut(self._scrub(facts.head), MAX_HEAD))},"len":'.encode(),
            )
            _keep(self._asked, key, found)
        self._latest = found
        return found

    def columns(self, columns: tuple[tuple[str, int], ...]) -> bytes:
        """Encode a result's columns: `,"columns":…`."""
        if columns == self._latest_columns:
            return self._columns_encoded
        found = self._columns.get(columns)
        if found is None:
            shaped = written([[self.free(name), oid] for name, oid in columns])
            found = _keep(self._columns, columns, f',"columns":{shaped}'.encode())
        self._latest_columns, self._columns_encoded = columns, found
        return found

    def status(self, status: str) -> bytes:
        """Encode how an operation ended: `,"status":…`."""
        found = self._statuses.get(status)
        if found is None:
            found = _keep(self._statuses, status, f',"status":{quoted(status)}'.encode())
        return found

    def tag(self, tag: str) -> bytes:
        """Encode a command tag: `,"tag":…`; none: nothing."""
        if tag == self._latest_tag:
            return self._tag_encoded
        found = self._tags.get(tag)
        if found is None:
            found = _keep(self._tags, tag, f',"tag":{quoted(self._scrub(tag))}'.encode() if tag else b"")
        self._latest_tag, self._tag_encoded = tag, found
        return found

    def person(self, who: VerifiedIdentity) -> tuple[str, str]:
        """Encode who it is, and how that was proved: the values of `auth` and of `who`. Kept by the object, which nobody can change."""
        found = self._people.get(id(who))
        if found is None:
            found = _keep(self._people, id(who), (who, written(_auth(who)), written(_who(who))), _MAX_PEOPLE)
        return found[1], found[2]

    def target(self, facts: SessionFacts) -> str:
        """Encode what a session is on: the value of `target`."""
        key = (facts.connection, facts.type, facts.address, facts.database, facts.account)
        found = self._targets.get(key)
        if found is None:
            shaped: dict[str, Json] = {"connection": text(facts.connection), "type": facts.type, "address": text(facts.address)}
            shaped |= {name: text(value) for name, value in (("database", facts.database), ("account", facts.account)) if value}
            found = _keep(self._targets, key, written(shaped))
        return found

    def peer(self, said: Said) -> str:
        """Encode `client`. What it claims is scrubbed once, where it is short."""
        key = (said.user, said.application, said.purpose, said.ticket)
        if len(said.user) + len(said.application) + len(said.purpose) + len(said.ticket) > _MAX_CLAIMS:
            return written(self.client(said))
        found = self._claims.get(key)
        if found is None:
            claims = self._claimed(said)
            found = _keep(self._claims, key, f',"said":{written(claims)}' if claims else "")
        return f'{{"address":{quoted(said.address)}{found}}}'

    def admitted(self, grounds: Grounds) -> str:
        """Encode why a session was admitted: the value of `decision`."""
        found = self._admitted.get(id(grounds))
        if found is None:
            found = _keep(self._admitted, id(grounds), (grounds, written(_grounds(grounds, "permit", self.free))))
        return found[1]

    # --- entries outside sessions ---------------------------------------------------------------------------------------

    def entry(self, kind: str, entry_id: str, t: int, mono: int, members: Mapping[str, Json]) -> bytes:
        """Encode an entry of any kind. `t`: nanoseconds since 1970; `mono`: nanoseconds of the monotonic clock.

        Raises `EntryTooLarge`, and `NotCanonical` for values that no entry may hold.
        """
        common: dict[str, Json] = {
            "v": 1,
            "id": entry_id,
            "kind": kind,
            "gw": text(self.gw),
            "boot": self.boot,
            "t": self.stamp(t),
            "mono": mono // 1000,
        }
        return _encoded(written(common | dict(members)))

    def login(
        self,
        entry_id: str,
        t: int,
        mono: int,
        *,
        said: Said,
        connection: str,
        who: VerifiedIdentity | None,
        reason: str = "",
        detail: str = "",
    ) -> bytes:
        """Encode a login: admitted when `reason` (a name from `Reason`) is empty, else denied. Never too large."""
        login: dict[str, Json] = {"status": "denied" if reason else "admitted"}
        if reason:
            login["reason"] = reason
        members: dict[str, Json] = {"client": self.client(said), "login": login}
        if who is not None:
            members |= {"auth": _auth(who), "who": _who(who)} | ({"task": text(who.task)} if who.task else {})
        full = login | {"connection": self.free(connection)} | ({"detail": self.free(detail)} if detail else {})
        try:
            return self.entry("login", entry_id, t, mono, members | {"login": full})
        except EntryTooLarge:
            # Whoever sends a login of 10,000 control characters is on record all the same.
            claimed = len(connection) + len(said.user) + len(said.application) + len(said.purpose) + len(said.ticket)
            short: Json = {"address": text(said.address), "said": {"omitted": claimed}}
            return self.entry("login", entry_id, t, mono, members | {"client": short})

    def client(self, said: Said) -> Json:
        """Shape what is known of a peer, and apart from it what it merely claims."""
        claims = self._claimed(said)
        return {"address": text(said.address)} | ({"said": claims} if claims else {})

    def _claimed(self, said: Said) -> dict[str, Json]:
        return {
            name: self.free(value)
            for name in ("user", "application", "purpose", "ticket")
            if (value := getattr(said, name))
        }


class SessionEntries:
    """Makes the entries of one session.

    Raises `EntryTooLarge` when its identity and claims alone would fill entries: such a session is not let in.
    """

    def __init__(self, encoder: Encoder, facts: SessionFacts) -> None:
        who = facts.identity
        self._encoder = encoder
        self.facts = facts
        (auth, shown), client, target = encoder.person(who), encoder.peer(facts.said), encoder.target(facts)
        task = f',"task":{quoted(who.task)}' if who.task else ""
        origin = f'"gw":{quoted(encoder.gw)},"id":"'
        session = f'"session":"{facts.session}"'
        self._full = f'{{"auth":{auth},"boot":"{encoder.boot}","client":{client},'.encode()
        self._lean = f'{{"boot":"{encoder.boot}",{origin}'.encode()
        self._origin = f",{origin}".encode()
        self._stmt = f',{session},"stmt":{{'.encode()
        self._closing = f'}},{session},"t":"'.encode()
        self._end = f'Z","target":{target}{task},"v":1,"who":{shown}}}'.encode()
        if len(self._full) + len(self._end) - 1 > _MAX_SESSION:
            raise EntryTooLarge("the session's identity and claims do not fit in an entry")

    def start(self, entry_id: str, t: int, mono: int, *, policy: str = "", grounds: Grounds | None = None) -> bytes:
        """Encode `session.start`: who is on which connection, how durable, what is recorded, under which policy."""
        facts = self.facts
        decision = "" if grounds is None else f'"decision":{self._encoder.admitted(grounds)},'
        in_force = f'"policy":{quoted(policy)},' if policy else ""
        said = f'{decision}"durability":"{facts.durability.value}"'
        mode = f'","kind":"session.start","mono":{mono // 1000},{in_force}"recording":{{"mode":"{facts.recording.value}"'
        return self._laid(self._full, said.encode(), self._origin, entry_id.encode(), mode.encode(), t=t)

    def _laid(self, *pieces: bytes, t: int) -> bytes:
        """Lay pieces, and what ends an entry."""
        draft = self._encoder.draft
        draft.begin(b"")
        for piece in pieces:
            draft.lay(piece)
        draft.lay(self._closing)
        self._encoder.lay_stamp(t)
        draft.lay(self._end)
        return _whole(draft)

    def intent(
        self,
        permit: Permit,
        entry_id: str,
        t: int,
        mono: int,
        kept: Kept = NOTHING_KEPT,
    ) -> bytes:
        """Encode `intent`. Nothing is kept where the connection records events alone.

        An operation on more objects than fit (a table with hundreds of partitions) is said in short, with a digest of all
        of them. Raises `EntryTooLarge` when even that does not fit: then the operation must not run.
        """
        operation = permit.operation
        asked = self._encoder.asked(operation.facts, permit.grounds, "permit")
        try:
            return self._asking(_INTENT, operation, asked, entry_id, t, mono, kept)
        except EntryTooLarge:
            return self._asking(_INTENT, operation, self._short(asked), entry_id, t, mono, kept)

    def deny(
        self,
        refusal: Refusal,
        entry_id: str,
        t: int,
        mono: int,
        kept: Kept,
    ) -> bytes:
        """Encode `deny`. What is kept is the complete original bytes. Never too large."""
        operation = refusal.operation
        asked = self._encoder.asked(operation.facts, refusal.grounds, "deny")
        try:
            return self._asking(_DENY, operation, asked, entry_id, t, mono, kept)
        except EntryTooLarge:
            return self._asking(_DENY, operation, self._short(asked), entry_id, t, mono, kept)

    def _asking(
        self,
        kind: bytes,
        operation: Operation,
        asked: _Asked,
        entry_id: str,
        t: int,
        mono: int,
        kept: Kept,
    ) -> bytes:
        statement = parameters = original = b""
        if kept is not NOTHING_KEPT:
            statement, parameters, original = _ref(kept.statement), _ref(kept.parameters), _ref(kept.asked)
        draft, bound = self._encoder.draft, operation.parameters
        draft.begin(self._full)
        draft.lay(asked.decision)
        draft.lay(self._origin)
        draft.lay(entry_id.encode())
        draft.lay(kind)
        draft.number(mono // 1000)
        draft.lay(asked.op)
        if bound is not None:
            draft.lay(_PARAMS)
            draft.lay(parameters)
            draft.lay(_COUNT)
            draft.number(len(bound.values))
            if kept.parameters is not None:
                draft.lay(_LEN)
                draft.number(kept.parameters.length)
            draft.lay(_CLOSE)
        draft.lay(self._stmt)
        if operation.asked is not None:
            draft.lay(f'"asked":{{{original.decode()}"len":{len(operation.asked)}}},'.encode())
        draft.lay(statement)
        draft.lay(asked.head)
        draft.number(len(operation.statement))
        draft.lay(_T)
        self._encoder.lay_stamp(t)
        draft.lay(self._end)
        return _whole(draft)

    def _short(self, asked: _Asked) -> _Asked:
        """Say of an oversize statement how much is left out, and commit to it: `asked.op` is what would have stood here."""
        facts, free = asked.facts, self._encoder.free
        op: dict[str, Json] = {
            "action": facts.action.value,
            "effects": sorted({resource.action.value for resource in facts.resources}),
            "name": free(_cut(facts.name, MAX_HEAD)),
            "omitted": len(facts.resources),
            "digest": hashlib.sha256(asked.op[1:]).hexdigest(),
        }
        grounds = msgspec.structs.replace(asked.grounds, message=_cut(asked.grounds.message, MAX_HEAD))
        decision = written(_decision(facts, grounds, asked.verdict, free))
        return _Asked(
            facts, asked.grounds, asked.verdict,
            decision=f'"decision":{decision}'.encode(), op=f',"op":{written(op)}'.encode(), head=asked.head,
        )  # fmt: skip

    def outcome(self, outcome: Outcome, entry_id: str, t: int, mono: int, recording: StreamHead | None = None) -> bytes:
        """Encode `outcome`. Never too large: columns that do not fit are counted instead, long words are marked as cut."""
        try:
            return self._outcome(outcome, entry_id, t, mono, recording, False)
        except EntryTooLarge:
            return self._outcome(outcome, entry_id, t, mono, recording, True)

    def _outcome(
        self,
        outcome: Outcome,
        entry_id: str,
        t: int,
        mono: int,
        recording: StreamHead | None,
        short: bool,
    ) -> bytes:
        encoder, intended, tag = self._encoder, outcome.intended, outcome.tag
        columns = cut = error = masked = words = kept = b""
        if recording is not None:
            kept = f',"recording":{_stream(recording)}'.encode()
        if outcome.columns and not short:
            columns = encoder.columns(outcome.columns)
        if outcome.masked:
            masked = f',"masked":{written(dict(outcome.masked))}'.encode()
        if outcome.error:
            error = f',"error":{written(encoder.free(_cut(outcome.error, _MAX_TAG)))}'.encode()
        if outcome.error_text:
            text_kept = _cut(outcome.error_text, MAX_RESULT_TEXT)
            cut = b"" if text_kept == outcome.error_text else _CUT
            words = f',"text":{written(encoder.free(text_kept))}'.encode()
        status, tagged, ref = encoder.status(outcome.status), encoder.tag(_cut(tag, _MAX_TAG) if short else tag), intended.entry
        draft = encoder.draft
        draft.begin(self._lean)
        draft.lay(entry_id.encode())
        draft.lay(_OUTCOME)
        draft.number(mono // 1000)
        draft.lay(kept)
        draft.lay(_REF)
        draft.lay(ref.encode())
        draft.lay(_RESULT)
        draft.number(outcome.bytes)
        draft.lay(columns)
        draft.lay(cut)
        draft.lay(error)
        draft.lay(masked)
        if outcome.columns and short:
            draft.lay(f',"omitted":{len(outcome.columns)}'.encode())
        draft.lay(_ROWS)
        draft.number(outcome.rows)
        draft.lay(status)
        draft.lay(tagged)
        draft.lay(words)
        draft.lay(_US)
        draft.number(max(0, mono - intended.began) // 1000)
        draft.lay(self._closing)
        encoder.lay_stamp(t)
        draft.lay(self._end)
        return _whole(draft)

    def end(
        self,
        start_id: str,
        entry_id: str,
        t: int,
        mono: int,
        *,
        status: str,
        operations: int,
        recording: StreamHead | None = None,
    ) -> bytes:
        """Encode `session.end`. `status`: `ended`, or the name of the reason for which the gateway ended it."""
        kept = "" if recording is None else f',"recording":{_stream(recording)}'
        said = (
            f'","kind":"session.end","mono":{mono // 1000}{kept},"ref":"{start_id}",'
            f'"result":{{"operations":{operations},"status":{quoted(status)}'
        )
        return self._laid(self._lean, entry_id.encode(), said.encode(), t=t)


class _Asked(Noun):
    """Pieces of an intent or a denial that hang on the statement and the decision alone."""

    __slots__ = ("decision", "facts", "grounds", "head", "op", "verdict")

    def __init__(self, facts: Facts, grounds: Grounds, verdict: str, *, decision: bytes, op: bytes, head: bytes) -> None:
        self.facts: Final = facts
        self.grounds: Final = grounds
        self.verdict: Final = verdict
        self.decision: Final = decision
        self.op: Final = op
        self.head: Final = head


Key = TypeVar("Key")
Value = TypeVar("Value")


def _keep(cache: dict[Key, Value], key: Key, value: Value, most: int = _MAX_CACHED) -> Value:
    if len(cache) >= most:
        del cache[next(iter(cache))]
    cache[key] = value
    return value


def _encoded(entry: str) -> bytes:
    encoded = entry.encode()
    _check(len(encoded))
    return encoded


def _whole(draft: Draft) -> bytes:
    _check(draft.size)
    return draft.taken()


def _check(size: int) -> None:
    if size > _MOST:
        raise EntryTooLarge(f"an entry would take {size} bytes, more than {MAX_ENTRY}")


def _cut(value: str, size: int) -> str:
    """Take as many whole characters from the front as fit in `size` bytes of UTF-8."""
    raw = value.encode("utf-8", "surrogatepass")
    return value if len(raw) <= size else raw[:size].decode("utf-8", "ignore")


def proved(who: VerifiedIdentity) -> dict[str, Json]:
    """Shape an identity for an entry outside sessions: who it is, and how that was proved."""
    return {"auth": _auth(who), "who": _who(who)}


def _texts(values: Sequence[str]) -> Json:
    return [text(value) for value in values]


def _who(who: VerifiedIdentity) -> Json:
    shaped: dict[str, Json] = {
        "iss": text(who.issuer),
        "sub": text(who.subject),
        "kind": who.kind.value,
        "name": text(who.name),
        "groups": _texts(sorted(who.groups)),
    }
    if who.acting:
        shaped["act"] = [_actor(actor) for actor in who.acting]
    if who.initiator is not None:
        initiator = who.initiator
        shaped["initiator"] = {"sub": text(initiator.sub), "name": text(initiator.name), "proved": initiator.proved}
    if who.account is not None:
        shaped["account"] = text(who.account)
    if who.mandate is not None:
        mandate = who.mandate
        bounds = {"connections": mandate.connections, "actions": mandate.actions, "resources": mandate.resources}
        shaped["mandate"] = {"id": text(mandate.id)} | {
            name: _texts(values) for name, values in bounds.items() if values is not None
        }
    return shaped


def _actor(actor: Actor) -> Json:
    return {"iss": text(actor.iss), "sub": text(actor.sub), "kind": actor.kind.value, "name": text(actor.name)}


def _auth(who: VerifiedIdentity) -> Json:
    auth = who.auth
    bound: dict[str, Json] = {} if auth.key is None else {"key": text(auth.key)}
    return {"method": text(auth.method), "token": text(auth.token), "at": auth.at} | bound


def _op(facts: Facts, free: Callable[[str], Json]) -> Json:
    shaped: dict[str, Json] = {
        "action": facts.action.value,
        "name": free(facts.name),
        "effects": sorted({resource.action.value for resource in facts.resources}),
        "objects": [_object(resource, free) for resource in facts.resources],
    }
    for name, values in (
        ("functions", facts.functions),
        ("opaque", facts.opaque),
        ("session", facts.session),
        ("unmask", facts.unmask),
        ("infer", facts.infer),
    ):
        if values:
            shaped[name] = [free(value) for value in values]
    if facts.arguments:
        shaped["arguments"] = [[free(name), [free(value) for value in values]] for name, values in facts.arguments]
    if facts.harmless:
        shaped["harmless"] = True
    if not facts.has_where:
        shaped["where"] = False
    return shaped


def _object(resource: Resource, free: Callable[[str], Json]) -> Json:
    shaped: dict[str, Json] = {
        "kind": resource.kind,
        # Words of a command may be secrets that no detector knows: the leaf names the program, the payload holds the rest.
        "name": free(resource.name.partition(" ")[0] if resource.kind == "command" else resource.name),
        "action": resource.action.value,
    }
    if resource.columns:
        shaped["columns"] = [free(column) for column in resource.columns]
    if resource.classes:
        shaped["classes"] = _texts(resource.classes)
    return shaped


def _decision(facts: Facts, grounds: Grounds, verdict: str, free: Callable[[str], Json]) -> Json:
    objection = facts.objection
    if objection is None:
        return _grounds(grounds, verdict, free)
    # The objection's own words may quote what the caller typed, where no detector knows a password: only its name goes in.
    shaped: dict[str, Json] = {"reason": objection.reason.name, "code": objection.code}
    if objection.position is not None:
        shaped["position"] = objection.position
    bare = _grounds(msgspec.structs.replace(grounds, message=""), verdict, free)
    return {**bare, "objection": shaped}


def _grounds(grounds: Grounds, verdict: str, free: Callable[[str], Json]) -> dict[str, Json]:
    shaped: dict[str, Json] = {
        "verdict": verdict,
        "policies": _texts(grounds.because),
        "policy": text(grounds.policy),
    }
    if grounds.clear:
        shaped["clear"] = _texts(sorted(grounds.clear))
    if grounds.row_limit is not None:
        shaped["limit"] = grounds.row_limit
    if grounds.duties is not None:
        shaped["duties"] = _duties(grounds.duties, free)
    if grounds.approvers and verdict == "deny":
        shaped["approvers"] = [[text(group), count] for group, count in grounds.approvers]
    if grounds.approval:
        shaped["approval"] = text(grounds.approval)
        shaped["approved_by"] = _texts(sorted(grounds.approved_by))
    if grounds.noted is not None:
        noted = grounds.noted
        would: dict[str, Json] = {"verdict": noted.verdict, "policies": _texts(noted.because)}
        if noted.message:
            would["message"] = free(noted.message)
        shaped["would"] = would
    if verdict == "deny" and grounds.message:
        shaped["message"] = free(grounds.message)
    return shaped


def _duties(duties: Duties, free: Callable[[str], Json]) -> Json:
    shaped: dict[str, Json] = {} if duties.rows is None else {"rows": duties.rows}
    if duties.filters:
        shaped["filters"] = [[free(relation), free(condition)] for relation, condition in duties.filters]
    if duties.instead:
        shaped["instead"] = [[text(kind), free(name), free(other)] for kind, name, other in duties.instead]
    if duties.parameters:
        shaped["parameters"] = [free(each.text) for each in duties.parameters]
    if duties.read_only:
        shaped["read_only"] = True
    if duties.timeout is not None:
        shaped["timeout"] = duties.timeout
    return shaped


def _ref(ref: PayloadRef | None) -> bytes:
    return b"" if ref is None else f'"blob":"{ref.blob}","commit":"{ref.commit}",'.encode()


def _stream(head: StreamHead) -> str:
    return f'{{"bytes":{head.bytes},"chunks":{head.chunks},"head":"{head.head}"}}'
