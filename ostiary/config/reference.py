"""`docs/configuration.md`, made from the types: `python -m ostiary.config.reference > docs/configuration.md`.

The words are the docstrings that stand under the fields in `types.py` and `identities.py`. Python drops those at run time, so they are read
from the source.
"""

from __future__ import annotations

import ast
import enum
import inspect
import sys
import textwrap
import types
import typing
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from ostiary.config.types import TARGETS, Condition, File, Section, Target

HEAD: Final = """\
# Configuration

`ostiary serve -c ostiary.toml` reads one TOML file, once. This page is made from the types that read it
(`python -m ostiary.config.reference`). Unknown keys, wrong types and missing files are errors that name the key;
`ostiary check-config -c ostiary.toml` finds them without starting anything.

* A relative path is looked up beside the configuration file.
* No secret stands in the file: where one is needed, write `file:/path` or `env:NAME`.
* An option whose name starts with `danger_` lowers safety. It is off, and when it is on the gateway says so at start
  and in the log.

A small, whole example:

```toml
[gateway]
name = "gw1"
state_dir = "/var/lib/ostiary"

[listen.postgresql]
address = "127.0.0.1:15432"

[policy]
files = ["policy.cedar"]

[[issuers]]
issuer = "https://idp.example.com"
audience = "ostiary"
discovery = true

[connections.orders-db]
type = "postgresql"
address = "db.example.com:5432"
database = "shop"
user = "ostiary"
password = "file:/etc/ostiary/orders-db.password"
labels = { env = "prod" }

[connections.orders-db.protect]
"public.customers.card" = { class = "pci", mask = "last4" }
```
"""


def docs(kind: type[Section]) -> dict[str, str]:
    """Return the docstring under each field of `kind`, by the field's name in Python."""
    found: dict[str, str] = {}
    for each in reversed(kind.__mro__):
        if issubclass(each, Section) and each is not Section:
            found |= _own_docs(each)
    return found


def _own_docs(kind: type[Section]) -> dict[str, str]:
    tree = ast.parse(textwrap.dedent(inspect.getsource(kind)))
    body = tree.body[0]
    if not isinstance(body, ast.ClassDef):
        raise TypeError(f"{kind.__name__} is not a class")
    found = {}
    for statement, below in zip(body.body, body.body[1:], strict=False):
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            match below:
                case ast.Expr(value=ast.Constant(value=str(text))):
                    found[statement.target.id] = " ".join(text.split())
    return found


def sections() -> Iterator[tuple[str, type[Section]]]:
    """Yield every table that may be written: (its header as in TOML, its type), in the file's order."""
    yield from _below("", File)


def _below(key: str, kind: type[Section]) -> Iterator[tuple[str, type[Section]]]:
    if kind is Target:
        for name, each in TARGETS.items():
            yield from _below(f'{key}\ntype = "{name}"', each)
        return
    hints = typing.get_type_hints(kind, include_extras=True)
    if kind is not File and any(not _inner(hint) for hint in hints.values()):
        yield key, kind
    for field in msgspec.structs.fields(kind):
        if (inner := _inner(hints[field.name])) is not None:
            bare = key.partition("\n")[0].strip("[]")
            below = f"{bare}.{field.encode_name}" if bare else field.encode_name
            suffix, section = inner
            header = f"[[{below}]]" if suffix == "[]" else f"[{below}{suffix}]"
            if suffix != '."schema.table.column"':
                yield from _below(header, section)
            else:
                yield f"[{below}]", section


def _inner(hint: Any) -> tuple[str, type[Section]] | None:
    arguments = typing.get_args(hint)
    origin = typing.get_origin(hint)
    if isinstance(hint, type) and issubclass(hint, Section):
        return "", hint
    if origin is tuple and (inner := _inner(arguments[0])):
        return "[]", inner[1]
    if origin is dict and (inner := _inner(arguments[1])):
        return (".NAME" if "type" in inner[1].__struct_fields__ else '."schema.table.column"'), inner[1]
    if origin in {typing.Union, types.UnionType}:
        return next((inner for arm in arguments if (inner := _inner(arm))), None)
    return None


def page() -> str:
    """Return the whole page."""
    parts = [HEAD]
    for header, kind in dict(sections()).items():
        table, _, type_ = header.partition("\n")
        named = f"`{table}` with `{type_}`" if type_ else f"`{table}`"
        parts.append(f"## {named}\n\n{' '.join((kind.__doc__ or '').split())}\n")
        parts.append(_rows(kind))
    return "\n".join(parts)


def _rows(kind: type[Section]) -> str:
    hints = typing.get_type_hints(kind, include_extras=True)
    words = docs(kind)
    rows = ["| key | type | default | meaning |", "|---|---|---|---|"]
    for field in msgspec.structs.fields(kind):
        if _inner(hints[field.name]) is None:
            shown = _default(field)
            text = words.get(field.name, "").replace("|", "\\|")
            rows.append(f"| `{field.encode_name}` | {_type(hints[field.name])} | {shown} | {text} |")
        else:
            rows.append(f"| `{field.encode_name}` | table | | {words.get(field.name, 'See below.')} |")
    return "\n".join(rows) + "\n"


def _default(field: msgspec.structs.FieldInfo) -> str:
    if field.required:
        return "**required**"
    value = field.default_factory() if field.default is msgspec.NODEFAULT else field.default
    return "not set" if value is None else f"`{_toml(value)}`"


def _toml(value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case enum.Enum():
            return f'"{value.value}"'
        case str():
            return f'"{value}"'
        case tuple():
            return "[" + ", ".join(_toml(item) for item in value) + "]"
        case dict():
            return "{}"
        case float():
            return f"{value:g}"
        case _:
            return str(value)


def _type(hint: Any) -> str:
    if hint == Condition:
        return "text, whole number, true or false, or a list of these"
    origin = typing.get_origin(hint)
    arguments = typing.get_args(hint)
    if origin is typing.Annotated:
        return _type(arguments[0]) + _range(arguments[1:])
    if origin in {typing.Union, types.UnionType}:
        return " or ".join(dict.fromkeys(_type(arm) for arm in arguments if arm is not type(None)))
    if origin is tuple:
        return f"list of {_type(arguments[0])}"
    if origin is dict:
        return f"table of {_type(arguments[1])}"
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return "text: " + ", ".join(f"`{member.value}`" for member in hint)
    return {str: "text", bool: "true or false", int: "whole number", float: "number"}[hint]


def _range(metas: tuple[Any, ...]) -> str:
    said = []
    for meta in metas:
        for name, word in (("ge", "≥"), ("gt", ">"), ("le", "≤"), ("lt", "<")):
            bound = getattr(meta, name, None)
            if bound is not None:
                said.append(f"{word} {bound:,}".replace(",", "\u202f"))
    return f" ({', '.join(said)})" if said else ""


if __name__ == "__main__":
    sys.stdout.write(page())
