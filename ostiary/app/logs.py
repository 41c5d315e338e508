"""The gateway's own diagnostics, on stderr: for operators, apart from the audit log, and never in its way.

A line that cannot be written at once (nobody reads the pipe) is dropped and counted: diagnostics must not hold up the data path.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import Any, Final

import structlog

from ostiary.config.types import Config

QUOTED: Final = frozenset(" \t=\r\n\"'")
"""A value with one of these in it is written with quotes."""
UNUSUAL: Final = frozenset({"stack", "exception", "exc_info", "logger", "logger_name"})
LEVEL_WIDTH: Final = 9
EVENT_WIDTH: Final = 30

LEVELS: Final = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


class _Unblocking:
    """Writes lines to stderr without ever waiting for whoever reads them."""

    def __init__(self, fd: int) -> None:
        # A description of our own, so that making it non-blocking changes nothing for who shares stderr with us.
        try:
            self._fd = os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_APPEND)
        except OSError:
            self._fd = fd
        self.dropped = 0

    def msg(self, message: str) -> None:
        line = message.encode("utf-8", "backslashreplace") + b"\n"
        try:
            os.write(self._fd, line)
        except OSError:
            self.dropped += 1

    log = debug = info = warning = error = critical = exception = msg


class Lines:
    """Writes lines for people as structlog's `ConsoleRenderer` does, with a third of its work where nothing went wrong: each session has a line.

    But for values that strangers chose: what in them could move a cursor is spelled out (`repr`), where structlog lets it through.
    """

    def __init__(self) -> None:
        self._all = structlog.dev.ConsoleRenderer(colors=False)

    def __call__(self, logger: Any, method: str, event: dict[str, Any]) -> str:
        """Render one."""
        if not UNUSUAL.isdisjoint(event) or not isinstance(event.get("event"), str) or not {"timestamp", "level"} <= event.keys():
            return self._all(logger, method, event)
        head = f"{event.pop('timestamp')} [{event.pop('level'):<{LEVEL_WIDTH}}] {event.pop('event'):<{EVENT_WIDTH}}"
        said = [f"{key}={_value(event[key])}" for key in sorted(event)]
        return " ".join((head, *said)).rstrip(" ")


def _value(value: object) -> str:
    return value if isinstance(value, str) and value.isprintable() and QUOTED.isdisjoint(value) else repr(value)


def set_up(config: Config, name: str) -> None:
    """Send diagnostics of this process to stderr as the configuration says."""
    json_lines = config.gateway.log_format == "json"
    out = _Unblocking(sys.stderr.fileno())
    renderer: Any = structlog.processors.JSONRenderer() if json_lines else Lines()
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _named(name),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[config.gateway.log_level]),
        logger_factory=lambda *_: out,
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(level=LEVELS[config.gateway.log_level], handlers=[_Bridge()])


class _Bridge(logging.Handler):
    """Libraries' log records, through the same door."""

    def emit(self, record: logging.LogRecord) -> None:
        structlog.get_logger(record.name).log(record.levelno, record.getMessage(), exc_info=record.exc_info)


def _named(name: str) -> Any:
    def add(_logger: Any, _method: str, event: dict[str, Any]) -> dict[str, Any]:
        event["process"] = name
        return event

    return add
