r"""What commands print: tables for people, one JSON document for machines; never a raw control character.

Names, statements and errors come from callers and targets. On a terminal an escape sequence in one of them could rewrite
what stands above it, so whatever is not printable is shown as an escape (`\x1b`), in text of any kind.
"""

# ruff: noqa: PLC0415 - rich is slow to import and only people at a terminal need it

from __future__ import annotations

import enum
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from ostiary.model.printable import printable, printable_json


class Output(enum.StrEnum):
    """How a result is written."""

    TEXT = "text"
    JSON = "json"


def safe(value: object) -> str:
    """Return `value` as one line of text that does nothing to a terminal."""
    return "" if value is None else printable(str(value))


def plain(value: Any) -> Any:
    """Return `value` as what JSON can say: structs, enums and sets become what they hold."""
    import msgspec

    return msgspec.to_builtins(value, str_keys=True, enc_hook=str)


def emit_json(value: object) -> None:
    """Write one JSON document and a line end. What could drive a terminal is escaped, as JSON escapes it."""
    import msgspec

    sys.stdout.write(printable_json(msgspec.json.encode(plain(value)).decode()) + "\n")


def emit_lines(lines: Iterable[str]) -> None:
    """Write lines of text, made safe."""
    for line in lines:
        sys.stdout.write(safe(line) + "\n")


def emit_safe(lines: Iterable[str]) -> None:
    """Write lines that whoever made them has made safe already (`ostiary.model.printable`)."""
    for line in lines:
        sys.stdout.write(line + "\n")


def table(rows: Sequence[Mapping[str, object]], columns: Sequence[str], *, empty: str) -> None:
    """Write rows under headings; on a terminal a drawn table, elsewhere aligned columns. `empty` if there are none."""
    if not rows:
        sys.stderr.write(empty + "\n")
        return
    cells = [[safe(_cell(row.get(column))) for column in columns] for row in rows]
    if sys.stdout.isatty():
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        drawn = Table(*columns, box=None, pad_edge=False, header_style="bold")
        for line in cells:
            drawn.add_row(*(Text(cell) for cell in line))
        Console().print(drawn)
        return
    widths = [max(len(line[at]) for line in [list(columns), *cells]) for at in range(len(columns))]
    for line in [[column.upper() for column in columns], *cells]:
        sys.stdout.write("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() + "\n")


def _cell(value: object) -> object:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple | set | frozenset):
        return ", ".join(str(each) for each in (value if isinstance(value, list | tuple) else sorted(map(str, value))))
    return value


def say(text: str) -> None:
    """Write a line for people to stderr, where it is in no script's way."""
    sys.stderr.write(safe(text) + "\n")


@contextmanager
def working(what: str) -> Iterator[None]:
    """Show on a terminal that something takes a while; says nothing where stderr is no terminal."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console

    with Console(stderr=True).status(safe(what)):
        yield
