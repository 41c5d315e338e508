"""Bodies of the `rest-xml` protocol, read by the model, whole, and written (Smithy, "AWS restXml protocol").

    <Grants><Grant>…</Grant></Grants>           a list
    <Object>…</Object><Object>…</Object>        a flattened one
    <Grantee xsi:type="Group">…                 a member that is an attribute

A body goes out as it came unless policy demands it otherwise, so every reader of XML must see in it what is seen here: elements, their text,
and the attributes of the model; no document type, comment, CDATA or instruction, no element that the model does not have, none twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, Protocol
from xml.parsers import expat
from xml.sax.saxutils import escape, quoteattr

from ostiary.model.errors import OstiaryError

MAX_DEPTH: Final = 64
MAX_ELEMENTS: Final = 200_000
"""A CompleteMultipartUpload has 10,000 parts of up to eleven."""

Shapes = dict[str, dict[str, Any]]


class Misread(OstiaryError):
    """XML that is not the model's. The text says what of it."""


class Handler(Protocol):
    """Is told what stands in XML."""

    def start(self, name: str, attributes: dict[str, str]) -> None:
        """An element begins."""
        ...

    def end(self, name: str) -> None:
        """It ends."""
        ...

    def text(self, text: str) -> None:
        """Text; what stands together can come in pieces."""
        ...


def read_xml(body: bytes, into: Handler) -> None:
    """Read XML that says what to do: UTF-8, elements and text alone. Raises `Misread`, and what `into` raises."""
    if b"\0" in body or body.startswith((b"\xff\xfe", b"\xfe\xff")):  # expat believes the mark of UTF-16, whatever it is told
        raise Misread("XML in UTF-8 is read, and no other")
    parser = expat.ParserCreate("UTF-8")
    parser.StartElementHandler, parser.EndElementHandler, parser.CharacterDataHandler = into.start, into.end, into.text

    def refuse(*_: object) -> None:
        raise Misread("a document type, a comment, CDATA or an instruction is never read")

    def declared(_: str, encoding: str | None, __: int) -> None:
        if encoding is not None and encoding.lower() != "utf-8":
            raise Misread("XML in UTF-8 is read, and no other")

    parser.StartDoctypeDeclHandler = parser.CommentHandler = parser.StartCdataSectionHandler = refuse
    parser.ProcessingInstructionHandler = refuse
    parser.XmlDeclHandler = declared
    try:
        parser.Parse(body, True)
    except expat.ExpatError:
        raise Misread("the body is no XML") from None


class _Element:
    """An element, and what is in it."""

    __slots__ = ("attributes", "below", "name", "said")

    def __init__(self, name: str, attributes: dict[str, str]) -> None:
        self.name, self.attributes = name, attributes
        self.below: list[_Element] = []
        self.said: list[str] = []

    @property
    def text(self) -> str:
        return "".join(self.said)


class _Tree:
    """Builds elements. See `Handler`."""

    def __init__(self) -> None:
        self._open = [_Element("", {})]
        self._count = 0

    @property
    def root(self) -> _Element:
        return self._open[0].below[0]

    def start(self, name: str, attributes: dict[str, str]) -> None:
        self._count += 1
        if self._count > MAX_ELEMENTS or len(self._open) > MAX_DEPTH:
            raise Misread("the body has more elements than are read, or more of them in one another")
        element = _Element(name, attributes)
        self._open[-1].below.append(element)
        self._open.append(element)

    def end(self, name: str) -> None:
        del name  # expat sees to it that it is the one that is open
        self._open.pop()

    def text(self, text: str) -> None:
        self._open[-1].said.append(text)


class Form:
    """How the body of one operation is written."""

    def __init__(self, shapes: Shapes, shape: dict[str, Any], root: str, namespace: str) -> None:
        """`shape`: of the whole body; `root`: what its element is called; `namespace`: of it; empty: none."""
        self._shapes = shapes
        self._shape = shape
        self._root = root
        self._namespace = namespace

    # --- read ---

    def read(self, body: bytes) -> dict[str, Any]:
        """The parameters by the model's names, every value as its text. Raises `Misread`."""
        tree = _Tree()
        read_xml(body, tree)
        root = tree.root
        if root.name != self._root:
            raise Misread(f"the body is a {root.name[:64]!r}, and has to be a {self._root!r}")
        if root.attributes.pop("xmlns", None) not in (None, self._namespace):
            raise Misread("the body is of another namespace than its model's")
        return self._structure(self._shape, {}, root)

    def _structure(self, shape: dict[str, Any], member: dict[str, Any], element: _Element) -> dict[str, Any]:
        found = self._attributes(shape, member, element)
        known = self._known(shape)
        if element.text.strip():
            raise Misread(f"there is text between the elements of {element.name[:64]!r}")
        for each in element.below:
            name = known.get(each.name)
            if name is None:
                raise Misread(f"the element {each.name[:64]!r} is not in the model of the operation that is known here")
            inner = shape["members"][name]
            target = self._shapes[inner["shape"]]
            if target["type"] == "list" and _is_flat(inner, target):
                found.setdefault(name, []).append(self._any(target["member"], each))
            elif name in found:
                raise Misread(f"{each.name[:64]!r} is there twice in {element.name[:64]!r}")
            else:
                found[name] = self._any(inner, each)
        return found

    def _known(self, shape: dict[str, Any]) -> dict[str, str]:
        """Elements of a structure: the model's name of each. Where one value and a list of them are called alike, it is the list."""
        inside = [(name, each) for name, each in shape["members"].items() if not each.get("location") and not each.get("xmlAttribute")]
        inside.sort(key=lambda pair: _is_flat(pair[1], self._shapes[pair[1]["shape"]]))
        return {self._spelled(name, each): name for name, each in inside}

    def _attributes(self, shape: dict[str, Any], member: dict[str, Any], element: _Element) -> dict[str, Any]:
        """Members that are attributes; and no attribute may be there that is none, and declares no prefix of one."""
        found: dict[str, Any] = {}
        known = {each.get("locationName", name): name for name, each in shape["members"].items() if each.get("xmlAttribute")}
        declared = {f"xmlns:{space['prefix']}": space["uri"] for space in (member.get("xmlNamespace"), shape.get("xmlNamespace")) if space and "prefix" in space}
        for spelled, value in element.attributes.items():
            if spelled in known:
                found[known[spelled]] = value
            elif declared.get(spelled) != value:
                raise Misread(f"the attribute {spelled[:64]!r} is not in the model of the operation that is known here")
        return found

    def _spelled(self, name: str, member: dict[str, Any]) -> str:
        shape = self._shapes[member["shape"]]
        if shape["type"] == "list" and _is_flat(member, shape):
            return str(member.get("locationName") or shape["member"].get("locationName") or name)
        return str(member.get("locationName", name))

    def _any(self, member: dict[str, Any], element: _Element) -> Any:
        shape = self._shapes[member["shape"]]
        if shape["type"] == "structure":
            return self._structure(shape, member, element)
        if element.attributes or (element.below and shape["type"] not in ("list", "map")):
            raise Misread(f"{element.name[:64]!r} is one value, and is written as more")
        if shape["type"] == "list":
            spelled = shape["member"].get("locationName", "member")
            if element.text.strip() or any(each.name != spelled for each in element.below):
                raise Misread(f"the list {element.name[:64]!r} is not written as its model says")
            return [self._any(shape["member"], each) for each in element.below]
        return self._map(shape, element) if shape["type"] == "map" else element.text

    def _map(self, shape: dict[str, Any], element: _Element) -> dict[str, Any]:
        names = [_key(shape), _value(shape)]
        found: dict[str, Any] = {}
        for entry in element.below:
            if entry.name != "entry" or [each.name for each in entry.below] != names or entry.text.strip() or element.text.strip():
                raise Misread(f"the map {element.name[:64]!r} is not written as its model says")
            key = self._any(shape["key"], entry.below[0])
            if key in found:
                raise Misread(f"the map {element.name[:64]!r} has a key twice")
            found[key] = self._any(shape["value"], entry.below[1])
        return found

    # --- and written ---

    def write(self, parameters: dict[str, Any]) -> bytes:
        """The body of parameters by the model's names: what `read` reads as them."""
        space = f" xmlns={quoteattr(self._namespace)}" if self._namespace else ""
        return "".join((f"<{self._root}{space}>", *self._written(self._shape, parameters), f"</{self._root}>")).encode()

    def _written(self, shape: dict[str, Any], held: dict[str, Any]) -> Iterator[str]:
        for name, member in shape["members"].items():
            if name not in held or member.get("xmlAttribute"):
                continue
            inner, value, spelled = self._shapes[member["shape"]], held[name], self._spelled(name, member)
            if inner["type"] == "list" and _is_flat(member, inner):
                for each in value:
                    yield from self._element(spelled, inner["member"], each)
            else:
                yield from self._element(spelled, member, value)

    def _element(self, spelled: str, member: dict[str, Any], value: Any) -> Iterator[str]:
        shape = self._shapes[member["shape"]]
        if isinstance(value, dict):
            yield f"<{spelled}{''.join(self._marks(shape, member, value))}>"
            yield from self._written(shape, value) if shape["type"] == "structure" else self._entries(shape, value)
        elif isinstance(value, list):
            yield f"<{spelled}>"
            for each in value:
                yield from self._element(shape["member"].get("locationName", "member"), shape["member"], each)
        else:
            yield f"<{spelled}>{escape(str(value), _KEPT)}"
        yield f"</{spelled}>"

    def _entries(self, shape: dict[str, Any], held: dict[str, Any]) -> Iterator[str]:
        for key, value in held.items():
            yield "<entry>"
            yield from self._element(_key(shape), shape["key"], key)
            yield from self._element(_value(shape), shape["value"], value)
            yield "</entry>"

    def _marks(self, shape: dict[str, Any], member: dict[str, Any], held: dict[str, Any]) -> Iterator[str]:
        for space in (member.get("xmlNamespace"), shape.get("xmlNamespace")) if shape["type"] == "structure" else ():
            if space and "prefix" in space:
                yield f" xmlns:{space['prefix']}={quoteattr(space['uri'])}"
                break
        for name, each in shape.get("members", {}).items():
            if each.get("xmlAttribute") and name in held:
                yield f" {each.get('locationName', name)}={quoteattr(str(held[name]), _KEPT)}"


_KEPT: Final = {"\r": "&#13;", "\n": "&#10;", "\t": "&#9;"}
"""What a reader of XML would normalise."""


def _key(shape: dict[str, Any]) -> str:
    return str(shape["key"].get("locationName", "key"))


def _value(shape: dict[str, Any]) -> str:
    return str(shape["value"].get("locationName", "value"))


def _is_flat(member: dict[str, Any], shape: dict[str, Any]) -> bool:
    return bool(shape.get("flattened") or member.get("flattened"))
