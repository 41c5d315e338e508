"""Export of the log: its entries as JSON lines, or as OCSF 1.3 events. Resumable by index, in the log's own order.

What is exported is what stands in entries, so no protected value can be in it. OCSF: operations are *Datastore Activity*
(6005), sessions and logins *Authentication* (3002), everything else *API Activity* (6003).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from ostiary.audit import index, walreader
from ostiary.audit.index import text_of
from ostiary.audit.recovery import pruned
from ostiary.audit.walreader import Place
from ostiary.model.errors import OstiaryError
from ostiary.model.printable import printable_json

OCSF_VERSION: Final = "1.3.0"
_DATASTORE: Final = (6005, "Datastore Activity", 6, "Application Activity")
_API: Final = (6003, "API Activity", 6, "Application Activity")
_LOGON: Final = (3002, "Authentication", 3, "Identity & Access Management")
_ACTIVITIES: Final = {
    "read": (1, "Read"), "write": (5, "Write"), "delete": (7, "Delete"), "define": (6, "Create"), "connect": (3, "Connect"),
    "execute": (4, "Query"), "opaque": (4, "Query"),
}  # fmt: skip
_USER_TYPES: Final = {"human": (1, "User"), "workload": (4, "Service"), "agent": (99, "Agent")}


class Exported(msgspec.Struct, frozen=True):
    """One line, and where it came from: to go on after it, pass `{origin: index + 1}`."""

    origin: str
    index: int
    line: bytes
    """JSON, without a newline."""


class UnknownFormat(OstiaryError):
    """There is no such export format; the sentence names those that there are."""


def export(
    state_dir: str | Path, form: str = "jsonl", resume: Mapping[str, int] | None = None,
    gone: Callable[[str, int, int], None] | None = None,
) -> Iterator[Exported]:  # fmt: skip
    """Yield the entries of every origin under `state_dir`, origin by origin, from `resume[origin]` on.

    `form`: `jsonl` (`{"entry": …, "index": …, "origin": …}`) or `ocsf`. An origin is `<writer>/<year>`. `gone` hears of what was
    pruned before it was exported: origin, the first index, the one behind the last.
    """
    convert = FORMATS.get(form)
    if convert is None:
        raise UnknownFormat(f"there is no export format {form}: choose from {', '.join(sorted(FORMATS))}")
    state = Path(state_dir)
    for folder in walreader.origins(state):
        origin = folder.relative_to(state / "audit").as_posix()
        start = (resume or {}).get(origin, 0)
        first = min(walreader.segments(folder), default=pruned(folder).segment)
        if first > start and gone is not None:
            gone(origin, start, first)
        for place, data in walreader.read_from(folder, _segment_of(folder, start)):
            if place.index >= start:
                # U+2028, U+0085 and their like end a line for many readers: one entry is one line for all of them.
                yield Exported(origin, place.index, printable_json(convert(origin, place.index, data).decode()).encode())


def _segment_of(folder: Path, start: int) -> Place | None:
    first = max((first for first in walreader.segments(folder) if first <= start), default=None)
    return None if first is None else Place(first, 0, first)


def _jsonl(origin: str, number: int, data: bytes) -> bytes:
    line = {"entry": msgspec.Raw(data), "index": number, "origin": origin}
    return msgspec.json.encode(line)


def _ocsf(origin: str, number: int, data: bytes) -> bytes:
    return msgspec.json.encode(ocsf_event(origin, number, index.decode(data)))


FORMATS: Final[dict[str, Callable[[str, int, bytes], bytes]]] = {"jsonl": _jsonl, "ocsf": _ocsf}


def ocsf_event(origin: str, number: int, entry: dict[str, Any]) -> dict[str, Any]:
    """One entry as an OCSF event; what has no place in the class stands under `unmapped`."""
    kind = text_of(entry.get("kind"))
    (class_uid, class_name, category_uid, category), (activity, activity_name) = _class_of(kind, entry)
    event: dict[str, Any] = {
        "class_uid": class_uid, "class_name": class_name, "category_uid": category_uid, "category_name": category,
        "activity_id": activity, "activity_name": activity_name, "type_uid": class_uid * 100 + activity,
        "time": _millis(text_of(entry.get("t"))), "timezone_offset": 0,
        "metadata": {
            "version": OCSF_VERSION, "uid": text_of(entry.get("id")), "log_name": origin, "sequence": number,
            "product": {"name": "Ostiary", "vendor_name": "Ostiary"}, "event_code": kind,
            "profiles": ["security_control"], "correlation_uid": text_of(entry.get("ref")) or text_of(entry.get("id")),
        },
        "unmapped": {
            key: entry[key] for key in ("auth", "task", "recording", "durability", "params", "result") if key in entry
        },
    }  # fmt: skip
    event |= _verdict(entry)
    event |= _people(entry)
    event |= _place(entry)
    return event


def _class_of(kind: str, entry: dict[str, Any]) -> tuple[tuple[int, str, int, str], tuple[int, str]]:
    if kind in {"intent", "deny", "outcome"}:
        action = text_of(_object(entry, "op").get("action"))
        return _DATASTORE, _ACTIVITIES.get(action, (99, action or kind))
    if kind in {"session.start", "login"}:
        return _LOGON, (1, "Logon")
    if kind == "session.end":
        return _LOGON, (2, "Logoff")
    return _API, (99, kind or "unknown")


def _verdict(entry: dict[str, Any]) -> dict[str, Any]:
    decision, result, login = (_object(entry, name) for name in ("decision", "result", "login"))
    denied = decision.get("verdict") == "deny" or login.get("status") == "denied"
    status = text_of(result.get("status"))
    failed = denied or status in {"error", "cancelled", "closed", "unknown"}
    event: dict[str, Any] = {
        "severity_id": 3 if denied else 2 if failed else 1,
        "severity": "Medium" if denied else "Low" if failed else "Informational",
        "action_id": 2 if denied else 1,
        "action": "Denied" if denied else "Allowed",
        "status_id": 2 if failed else 1,
        "status": "Failure" if failed else "Success",
    }
    if detail := text_of(result.get("text")) or text_of(decision.get("message")) or text_of(login.get("reason")):
        event["status_detail"] = detail
    if code := text_of(result.get("error")):
        event["status_code"] = code
    if policies := decision.get("policies"):
        event["policy"] = {"uid": text_of(decision.get("policy")), "name": ", ".join(map(text_of, policies))}
    return event


def _people(entry: dict[str, Any]) -> dict[str, Any]:
    who, client, target = (_object(entry, name) for name in ("who", "client", "target"))
    event: dict[str, Any] = {}
    if who:
        type_id, type_name = _USER_TYPES.get(text_of(who.get("kind")), (0, "Unknown"))
        user = {
            "uid": text_of(who.get("sub")), "name": text_of(who.get("name")), "domain": text_of(who.get("iss")),
            "type_id": type_id, "type": type_name,
            "groups": [{"name": text_of(group)} for group in who.get("groups") or []],
        }  # fmt: skip
        actor: dict[str, Any] = {"user": user, "session": {"uid": text_of(entry.get("session"))}}
        # OCSF knows one actor. The whole chain, the one at the keyboard first, is kept beside it as it stands.
        if chain := who.get("act"):
            actor["invoked_by"] = text_of(_first(chain).get("name")) or text_of(_first(chain).get("sub"))
            event["enrichments"] = [{"name": "acting chain", "value": actor["invoked_by"], "data": {"act": chain}}]
        event |= {"actor": actor, "user": user}
    if address := text_of(client.get("address")):
        event["src_endpoint"] = _endpoint(address)
    if target:
        event["dst_endpoint"] = _endpoint(text_of(target.get("address"))) | {"name": text_of(target.get("connection"))}
    return event


def _place(entry: dict[str, Any]) -> dict[str, Any]:
    target, op, stmt = (_object(entry, name) for name in ("target", "op", "stmt"))
    event: dict[str, Any] = {}
    if target:
        event["database"] = {"name": text_of(target.get("database")), "type_id": 1, "type": "Relational"}
    if stmt:
        event["query_info"] = {"query_string": text_of(stmt.get("head")), "name": text_of(op.get("name"))}
        if "blob" in stmt:
            event["query_info"]["uid"] = stmt["blob"]
    things = [thing for thing in op.get("objects") or [] if isinstance(thing, dict)]
    if things:
        event["resources"] = [
            {
                "name": text_of(thing.get("name")),
                "type": text_of(thing.get("kind")),
                "labels": [text_of(thing.get("action"))],
            }
            for thing in things
        ]
    return event


def _endpoint(address: str) -> dict[str, Any]:
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdecimal():
        return {"hostname": address}
    return {"hostname": host, "port": int(port)}


def _millis(when: str) -> int:
    try:
        return int(dt.datetime.fromisoformat(when).timestamp() * 1000)
    except ValueError:
        return 0


def _first(chain: Any) -> dict[str, Any]:
    return chain[0] if isinstance(chain, list) and chain and isinstance(chain[0], dict) else {}


def _object(value: dict[str, Any], name: str) -> dict[str, Any]:
    found = value.get(name)
    return found if isinstance(found, dict) else {}
