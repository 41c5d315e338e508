"""From the bytes of `ostiary.toml` to a `Config`, or to a `ConfigError` that names the key and says what to do.

The file is walked beside the types, one setting at a time, so that a fault carries the whole dotted key as the
operator wrote it (`connections.orders-db.tls`), which msgspec's own path (`$.connections[...]`) does not hold. No
message quotes a value that could be a secret: types and allowed values are named, what was written is not.
"""

from __future__ import annotations

import difflib
import enum
import hashlib
import os
import re
import tomllib
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from ostiary.config import checks, presets
from ostiary.config.types import TARGETS, Config, File, Issuer, Section, Target
from ostiary.model.errors import ConfigError

MAX_FILE: Final = 4 << 20
"""Bytes of the largest configuration file that is read: thousands of connections fit."""
MAX_KEY_SHOWN: Final = 64

_BARE_KEY: Final = re.compile(r"[A-Za-z0-9_-]+")
_CHOICE: Final = re.compile(r"\^\(([A-Za-z0-9|-]+)\)\$")
_AT_LINE: Final = re.compile(r"\(at line (\d+), column \d+\)")


def load(path: str | os.PathLike[str]) -> Config:
    """Read, check and freeze the configuration at `path`; `ConfigError` for anything that we cannot run with."""
    file = Path(path).absolute()
    try:
        if file.stat().st_size > MAX_FILE:
            raise ConfigError(str(file), f"is larger than {MAX_FILE >> 20} MiB; is it the right file?")
        content = file.read_bytes()
    except OSError as exc:
        problem = (
            f"cannot be read ({exc.strerror}); name the configuration file with -c, or make one with `ostiary init`"
        )
        raise ConfigError(str(file), problem) from None
    return parse(content, file)


def parse(content: bytes, file: Path) -> Config:
    """Check and freeze `content`, as it stands in `file`; relative paths in it are looked up beside that file."""
    written = _table("", _toml(content, file), File)
    return checks.freeze(written, file, hashlib.sha256(content).hexdigest())


def policy_texts(config: Config) -> dict[str, str]:
    """Read the policy files: what each is called in messages (its name, its path where names clash) to its text."""
    names = [Path(path).name for path in config.policy.files]
    texts = {}
    for index, (path, name) in enumerate(zip(config.policy.files, names, strict=True)):
        key = f"policy.files[{index}]"
        try:
            texts[name if names.count(name) == 1 else path] = Path(path).read_text(encoding="utf-8")
        except UnicodeDecodeError:
            raise ConfigError(key, f"{path} is not UTF-8 text") from None
        except OSError as exc:
            raise ConfigError(key, f"{path} cannot be read ({exc.strerror})") from None
    return texts


def _toml(content: bytes, file: Path) -> dict[str, Any]:
    try:
        text = content.decode()
    except UnicodeDecodeError:
        raise ConfigError(str(file), "is not UTF-8 text") from None
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as exc:
        raise ConfigError(_place(text, str(exc), file), _explain(str(exc))) from None


def _place(text: str, problem: str, file: Path) -> str:
    """Say where the syntax broke: file, line and, where the line sets one, the key. Never the line's value."""
    found = _AT_LINE.search(problem)
    if found is None:
        return str(file)
    number = int(found[1])
    lines = text.splitlines()
    line = lines[number - 1].strip() if number <= len(lines) else ""
    key = line.strip("[] ") if line.startswith("[") else line.partition("=")[0].strip()
    named = f", `{key[:MAX_KEY_SHOWN]}`" if key and ("=" in line or line.startswith("[")) else ""
    return f"{file} line {number}{named}"


def _explain(problem: str) -> str:
    plain = _AT_LINE.sub("", problem).strip()
    if "overwrite" in plain or "declare" in plain or "already" in plain:
        return "is written twice; keep one of the two"
    return f"is not valid TOML: {plain}"


def _join(key: str, name: str) -> str:
    shown = name if _BARE_KEY.fullmatch(name) else f'"{name}"'
    return f"{key}.{shown}" if key else shown


def _table(key: str, value: object, kind: type[Section]) -> Any:
    if not isinstance(value, Mapping):
        raise ConfigError(key, f"must be a table ([{key}]), not {_named(value)}")
    if kind is Target:
        kind = _kind(key, value.get("type"))
    if kind is Issuer:
        value = presets.under(value)
    hints = typing.get_type_hints(kind, include_extras=True)
    settings = {field.encode_name: field for field in msgspec.structs.fields(kind)}
    for name in value:
        if name not in settings:
            raise ConfigError(_join(key, name), _unknown(name, list(settings)))
    made = {}
    for name, field in settings.items():
        if name in value:
            made[field.name] = _setting(_join(key, name), value[name], hints[field.name])
        elif field.required:
            raise ConfigError(_join(key, name), "is missing, and has no default; set it")
    return kind(**made)


def _kind(key: str, written: object) -> type[Section]:
    """Which kind of target it is: its other keys hang on that."""
    if written is None:
        raise ConfigError(_join(key, "type"), f"is missing; set it to one of: {', '.join(TARGETS)}")
    if not isinstance(written, str) or written not in TARGETS:
        raise ConfigError(_join(key, "type"), f"must be one of: {', '.join(TARGETS)}")
    return TARGETS[written]


def _unknown(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, 1, 0.55)
    if near:
        return f"unknown key; did you mean `{near[0]}`?"
    return f"unknown key; known here: {', '.join(sorted(known))}"


def _section(hint: Any) -> type[Section] | None:
    """Return the section that `hint` is (or is, if it is set at all), else None."""
    if typing.get_origin(hint) in {typing.Union, types.UnionType}:
        for arm in typing.get_args(hint):
            if (found := _section(arm)) is not None:
                return found
    return hint if isinstance(hint, type) and issubclass(hint, Section) else None


def _setting(key: str, value: object, hint: Any) -> Any:
    if (kind := _section(hint)) is not None:
        return _table(key, value, kind)
    arguments = typing.get_args(hint)
    if typing.get_origin(hint) is tuple and (kind := _section(arguments[0])) is not None:
        if not isinstance(value, list):
            raise ConfigError(key, f"must be a list of tables ([[{key}]]), not {_named(value)}")
        return tuple(_table(f"{key}[{index}]", item, kind) for index, item in enumerate(value))
    if typing.get_origin(hint) is dict and (kind := _section(arguments[1])) is not None:
        if not isinstance(value, Mapping):
            raise ConfigError(key, f"must be a table of tables ([{key}.NAME]), not {_named(value)}")
        return {name: _table(_join(key, name), item, kind) for name, item in value.items()}
    try:
        return msgspec.convert(value, hint, strict=True)
    except msgspec.ValidationError as exc:
        raise ConfigError(key, _sentence(str(exc), hint)) from None


def _sentence(problem: str, hint: Any) -> str:
    """Turn msgspec's message into one that says what may be written here."""
    plain = problem.partition(" - at `")[0]
    choices = _choices(hint)
    if choices and ("enum" in plain or "regex" in plain):
        return f"must be one of: {', '.join(choices)}"
    return plain.replace("Expected", "must be", 1).replace(", got", ", not", 1)


def _choices(hint: Any) -> list[str]:
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return [str(member.value) for member in hint]
    for part in (*typing.get_args(hint), *getattr(hint, "__metadata__", ())):
        pattern = getattr(part, "pattern", None)
        if pattern is not None and (found := _CHOICE.fullmatch(pattern)):
            return found[1].split("|")
        if not isinstance(part, msgspec.Meta) and (choices := _choices(part)):
            return choices
    return []


def _named(value: object) -> str:
    return {dict: "a table", list: "a list", str: "text", bool: "true or false"}.get(type(value), "a number")
