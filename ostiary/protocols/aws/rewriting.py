"""A call as policy demands it: parameters that are forced, bounded, taken away, and tags that are added.

What is changed are the parameters as they were read, by the model's names; what of them changed is then written back to where it came
from: query, header, JSON, XML or form. The judge reads the new request like any other, and must find that the demands would change nothing of
it: so nothing here has to be believed. What cannot be changed (a path) is refused, and content that streams is not touched.
"""

from __future__ import annotations

import copy
import fnmatch
import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode

from ostiary.model.duties import Demand
from ostiary.model.identity import VerifiedIdentity
from ostiary.protocols.aws.models import Call, Service, Unreadable

Shape = dict[str, Any]
_PAIRS: Final = (("Key", "Value"), ("key", "value"), ("TagKey", "TagValue"), ("tagKey", "tagValue"))
"""How services call the two halves of a tag."""
_MISSING: Final = object()


class Impossible(Exception):
    """The demand cannot be met. The text says why."""


def resolved(demands: tuple[Demand, ...], call: Call, who: VerifiedIdentity) -> list[Demand]:
    """Those that are about this call, with what stands for a person filled in."""
    actor = who.acting[0].sub if who.acting else who.subject
    found = []
    for each in demands:
        if each.operation in ("", call.operation):
            value = each.value.replace("ostiary.subject()", who.subject).replace("ostiary.actor()", actor)
            found.append(Demand(each.operation, each.path, each.if_there, each.how, value))
    return found


def changed(call: Call, service: Service, demands: list[Demand], *, has_body: bool) -> dict[str, Any]:
    """Top-level parameters that have to be otherwise, by the model's names; None is one that has to go. Raises `Impossible`."""
    shape = service.input_of(call.operation)
    made = copy.deepcopy(call.parameters)
    for each in demands:
        member = shape["members"].get(each.path[0])
        if member is None:
            if each.if_there:
                continue
            raise Impossible(f"policy demands {each.text}, and {call.operation} has no such parameter")
        if not _is_read(service, shape, each.path[0]):
            if each.how == "!=" and not has_body:
                continue
            raise Impossible(f"policy demands {each.text}, and that parameter cannot be rewritten")
        _Editor(service, each, in_json=call.protocol in ("json", "rest-json")).edit(made, shape, each.path, top=True)
    names = made.keys() | call.parameters.keys()
    return {name: made.get(name) for name in sorted(names) if made.get(name, _MISSING) != call.parameters.get(name, _MISSING)}


def _is_read(service: Service, shape: Shape, name: str) -> bool:
    """Whether the judge reads that parameter at all, so that it stands among those of the call."""
    where = shape["members"][name].get("location")
    if where in ("header", "querystring", "uri"):
        return bool(service.shape(shape["members"][name]["shape"])["type"] != "map")
    payload = shape.get("payload")
    if payload is None:
        return where is None
    return bool(payload == name and service.shape(shape["members"][name]["shape"])["type"] == "structure")


class _Editor:
    """One demand, done to a tree of parameters."""

    def __init__(self, service: Service, demand: Demand, *, in_json: bool) -> None:
        self._service, self._demand, self._in_json = service, demand, in_json

    def edit(self, held: Any, shape: Shape, path: tuple[str, ...], *, top: bool = False) -> None:
        """Go down, and change what stands at the end. What is not there on the way is left."""
        step, rest = path[0], path[1:]
        if step == "*" and shape["type"] == "list":
            for each in held if isinstance(held, list) else []:
                self.edit(each, self._service.shape(shape["member"]["shape"]), rest)
            return
        if shape["type"] != "structure" or step not in shape["members"]:
            raise Impossible(f"policy demands {self._demand.text}, and the model has no such place")
        if not isinstance(held, dict):
            return
        member = shape["members"][step]
        name = str(member.get("locationName", step)) if self._in_json and not top else step
        inner = self._service.shape(member["shape"])
        if not rest or (len(rest) == 1 and _is_by_kind(inner, self._service) and rest != ("*",)):
            self._put(held, name, self._made(held.get(name), inner, rest[0] if rest else "", flat="location" in member))
        elif name in held:
            self.edit(held[name], inner, rest)

    def _put(self, held: dict[str, Any], name: str, value: Any) -> None:
        if value is None:
            held.pop(name, None)
        else:
            held[name] = value

    def _made(self, now: Any, shape: Shape, kind: str, *, flat: bool) -> Any:
        match self._demand.how:
            case "+=":
                key, _, value = self._demand.value.partition("=")
                return self._tagged(now, shape, kind, (key, value))
            case "!=":
                return self._without(now)
            case "<=":
                return now if _number(now) is not None and 0 <= (_number(now) or 0) <= int(self._demand.value) else self._typed(shape, flat=flat)
            case _:
                wanted = self._typed(shape, flat=flat)
                return now if now is not None and type(now) is type(wanted) and now == wanted else wanted

    def _typed(self, shape: Shape, *, flat: bool) -> Any:
        value = self._demand.value
        if shape["type"] in ("structure", "list", "map", "blob"):
            raise Impossible(f"policy demands {self._demand.text}, and that is no plain value")
        if flat or not self._in_json or shape["type"] in ("string", "timestamp"):
            return value
        if shape["type"] == "boolean":
            return value == "true"
        try:
            return int(value) if shape["type"] in ("integer", "long") else float(value)
        except ValueError:
            raise Impossible(f"policy demands {self._demand.text}, and the parameter is a number") from None

    def _without(self, now: Any) -> Any:
        patterns = [each.strip().casefold() for each in self._demand.value.split("|")]

        def is_one(value: Any) -> bool:
            return any(fnmatch.fnmatchcase(_text(value).strip().casefold(), pattern) for pattern in patterns)

        if isinstance(now, list):
            return [each for each in now if not any(is_one(text) for text in _texts(each))] or None
        return None if now is None or isinstance(now, dict) or is_one(now) else now

    def _tagged(self, now: Any, shape: Shape, kind: str, tag: tuple[str, str]) -> Any:
        """With one more tag: in the query of a header, in a map, or in a list of pairs."""
        key, value = tag
        if shape["type"] == "string":
            pairs = parse_qsl(now or "", keep_blank_values=True)
            return now if now and dict(pairs).get(key) == value and _once(pairs, key) else urlencode([p for p in pairs if p[0] != key] + [tag])
        if shape["type"] == "map":
            return {**(now if isinstance(now, dict) else {}), key: value}
        if shape["type"] != "list":
            raise Impossible(f"policy demands {self._demand.text}, and there are no tags")
        each = self._service.shape(shape["member"]["shape"])
        if kind:
            return self._of_kind(now, each, kind, tag)
        names = self._pair(each)
        kept = [pair for pair in now or [] if not (isinstance(pair, dict) and pair.get(names[0]) == key)]
        wanted = {names[0]: key, names[1]: value}
        return now if isinstance(now, list) and now == [*kept, wanted] else [*kept, wanted]

    def _of_kind(self, now: Any, shape: Shape, kind: str, tag: tuple[str, str]) -> Any:
        """`TagSpecifications` of EC2: tags by the kind of resource that they are for."""
        made = copy.deepcopy(now) if isinstance(now, list) else []
        mine = [each for each in made if isinstance(each, dict) and each.get("ResourceType") == kind]
        if not mine:
            mine = [{"ResourceType": kind}]
            made += mine
        tags = self._service.shape(shape["members"]["Tags"]["shape"])
        for each in mine:
            each["Tags"] = self._tagged(each.get("Tags"), tags, "", tag)
        return made

    def _pair(self, shape: Shape) -> tuple[str, str]:
        for key, value in _PAIRS:
            if {key, value} <= shape.get("members", {}).keys():
                if not self._in_json:
                    return key, value
                return tuple(str(shape["members"][each].get("locationName", each)) for each in (key, value))  # type: ignore[return-value]
        raise Impossible(f"policy demands {self._demand.text}, and there are no tags")


def _is_by_kind(shape: Shape, service: Service) -> bool:
    if shape["type"] != "list":
        return False
    members: dict[str, Any] = service.shape(shape["member"]["shape"]).get("members", {})
    return {"ResourceType", "Tags"} <= members.keys()


def _once(pairs: list[tuple[str, str]], key: str) -> bool:
    return sum(name == key for name, _ in pairs) == 1


def _number(value: Any) -> int | None:
    text = _text(value)
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 15 else None


def _text(value: Any) -> str:
    return ("true" if value else "false") if isinstance(value, bool) else str(value)


def _texts(value: Any) -> Iterator[Any]:
    """What is plain in something, however deep."""
    if isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _texts(each)
    else:
        yield value


def body_with(body: bytes, service: Service, call: Call, made: dict[str, Any]) -> bytes:
    """The body of a call with these parameters changed. Raises `Unreadable` where it cannot be written."""
    shape = service.input_of(call.operation)
    payload = shape.get("payload")
    if call.protocol == "rest-xml":
        kept = {name: value for name, value in (call.parameters | made).items() if value is not None and name in shape["members"]}
        if payload is None:
            inside = {name: value for name, value in kept.items() if "location" not in shape["members"][name]}
            return service.document(call.operation).write(inside)
        return service.document(call.operation).write(kept[payload]) if payload in kept else b""
    if payload is None:
        return json_with(body, {name: str(shape["members"][name].get("locationName", name)) for name in made}, made)
    was, wanted = call.parameters.get(payload, {}), made[payload]
    if wanted is None:
        return b""
    inside = {name: wanted.get(name) for name in was.keys() | wanted.keys() if wanted.get(name) != was.get(name)}
    return json_with(body, {name: name for name in inside}, inside)


def json_with(body: bytes, spelled: dict[str, str], made: dict[str, Any]) -> bytes:
    """A JSON body with these top-level members, each as it is `spelled` there. Raises `Unreadable` where a number of it would come out otherwise."""

    def exactly(text: str) -> float:
        number = float(text)
        if Decimal(repr(number)) != Decimal(text):
            raise Unreadable("SerializationException", "policy demands that the call be rewritten, and it holds a number that cannot be")
        return number

    whole = json.loads(body, parse_float=exactly) if body.strip() else {}
    for name, value in made.items():
        whole.pop(spelled[name], None)
        if value is not None:
            whole[spelled[name]] = value
    return json.dumps(whole, separators=(",", ":"), allow_nan=False).encode()
