"""Bytes in, messages out: one whole frame at a time, every byte of it checked.

A decoder has three outcomes: a message, None ("more, please"), or `PeerMisbehaved`; a startup packet has a fourth,
`Unsupported`, for protocol versions that this gateway does not speak. `kernel.frames` finds the frames; `frontend` and
`backend` read one. `next_frontend`, `next_backend` and `next_startup` do both over a buffer that grows.

What is *not* checked here: whose turn it is (`states.py`), that text is in the session's encoding (names and
statements stay bytes), and that the number of parameter formats fits (the server does, and an error there is an
ordinary one). Cells of DataRow stay as they are on the wire; `check_data_row` walks them.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final

from ostiary.kernel.frames import check_rows, scan, scan_frontend
from ostiary.model.errors import Misdeed, PeerMisbehaved, Unsupported
from ostiary.protocols.postgres import messages as m

MAX_STARTUP: Final = 10_000
"""MAX_STARTUP_PACKET_LENGTH (src/include/libpq/pqcomm.h): bytes after the length word."""
MAX_CANCEL_KEY: Final = 256
"""Bytes: "Message Formats", BackendKeyData, protocol 3.2."""
BODY: Final = 5
"""Where the body of a tagged frame begins."""

MAX_NAME: Final = 64
"""Bytes of an identifier, with its NUL (NAMEDATALEN)."""

_INT16: Final = struct.Struct("!H")
_SIGNED32: Final = struct.Struct("!i")
_INT32: Final = struct.Struct("!I")
_TWO32: Final = struct.Struct("!II")
_FIELD: Final = struct.Struct("!IhIhih")
_ALL_TEXT: Final = (0,)
_ALL_BINARY: Final = (1,)


# --- pieces -----------------------------------------------------------------------------------------------------------


def _short(what: str) -> PeerMisbehaved:
    return PeerMisbehaved(Misdeed.BAD_LENGTH, f"{what} ends too early")


def _end(frame: bytes, at: int, what: str) -> None:
    """Refuse what is left over: a byte nobody looks at is where two parsers start to disagree."""
    if at != len(frame):
        raise PeerMisbehaved(Misdeed.TRAILING_BYTES, what)


def _string(frame: bytes, at: int, what: str) -> tuple[bytes, int]:
    """A String: bytes up to a NUL, and the offset behind the NUL."""
    nul = frame.find(0, at)
    if nul < 0:
        raise PeerMisbehaved(Misdeed.BAD_FIELD, f"{what}: a string without its terminator")
    return frame[at:nul], nul + 1


def _nul(frame: bytes, at: int, what: str) -> int:
    """Where the String that begins at `at` has its NUL: names are short, texts are not."""
    stop = min(len(frame), at + MAX_NAME)
    while at < stop and frame[at]:
        at += 1
    if at == stop:
        at = frame.find(0, at)
    if at < 0:
        raise PeerMisbehaved(Misdeed.BAD_FIELD, f"{what}: a string without its terminator")
    return at


def _text(raw: bytes, what: str) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise PeerMisbehaved(Misdeed.BAD_TEXT, what) from None


def _int16(frame: bytes, at: int, what: str) -> tuple[int, int]:
    if len(frame) - at < 2:
        raise _short(what)
    return _INT16.unpack_from(frame, at)[0], at + 2


def _int32(frame: bytes, at: int, what: str) -> tuple[int, int]:
    if len(frame) - at < 4:
        raise _short(what)
    return _INT32.unpack_from(frame, at)[0], at + 4


def _formats(frame: bytes, at: int, what: str) -> tuple[tuple[int, ...], int]:
    """Int16 count, then as many Int16 format codes: 0 text, 1 binary."""
    count = _count(frame, at, what)
    return _codes(frame, at, count, what), at + 2 + 2 * count


def _count(frame: bytes, at: int, what: str) -> int:
    """An Int16."""
    if len(frame) - at < 2:
        raise _short(what)
    return frame[at] << 8 | frame[at + 1]  # at most 65,535


def _codes(frame: bytes, at: int, count: int, what: str) -> tuple[int, ...]:
    """So many format codes, behind their count at `at`."""
    if len(frame) - at - 2 < 2 * count:
        raise _short(what)
    # None, or one for all, is what nearly everybody says.
    if count == 0:
        return ()
    if count == 1 and frame[at + 2] == 0 and frame[at + 3] <= 1:
        return _ALL_BINARY if frame[at + 3] else _ALL_TEXT
    codes = struct.unpack_from(f"!{count}H", frame, at + 2)
    for code in codes:
        if code > 1:
            raise PeerMisbehaved(Misdeed.BAD_FIELD, f"{what}: format code {code}")
    return codes


def _value(frame: bytes, at: int, what: str) -> tuple[bytes | None, int]:
    """Int32 length, -1 for NULL, and as many bytes."""
    if len(frame) - at < 4:
        raise _short(what)
    length = _SIGNED32.unpack_from(frame, at)[0]
    at += 4
    if length == -1:
        return None, at
    if length < 0 or length > len(frame) - at:
        raise PeerMisbehaved(Misdeed.BAD_LENGTH, f"{what}: a value of {length} bytes")
    return frame[at : at + length], at + length


def _values(frame: bytes, at: int, what: str, values: list[bytes | None]) -> int:
    """Int16 count, then as many values; the offset behind. As `_value` in a loop, written out: Bind is on the hot path."""
    count = _count(frame, at, what)
    at += 2
    raw, end = frame, len(frame)
    while count:
        count -= 1
        if end - at < 4:
            raise _short(what)
        length = frame[at]
        length = length << 8 | frame[at + 1]
        length = length << 8 | frame[at + 2]
        length = length << 8 | frame[at + 3]
        at += 4
        if length == 0xFFFF_FFFF:
            values.append(None)
            continue
        if length > end - at:
            if length >= 0x8000_0000:
                length -= 0x1_0000_0000
            raise PeerMisbehaved(Misdeed.BAD_LENGTH, f"{what}: a value of {length} bytes")
        values.append(raw[at : at + length])
        at += length
    return at


# --- before startup ---------------------------------------------------------------------------------------------------


def next_startup(buf: bytearray) -> m.StartupPacket | None:
    """Take the untagged packet off the front of `buf`; None means "feed me more".

    Raises `PeerMisbehaved`, or `Unsupported` for a protocol other than 3. Bytes behind it are the caller's to judge.
    """
    if len(buf) < 4:
        return None
    length = _INT32.unpack_from(buf)[0]
    if not 8 <= length <= MAX_STARTUP + 4:
        raise PeerMisbehaved(Misdeed.BAD_LENGTH, f"{length} in a startup packet")
    if len(buf) < length:
        return None
    packet = bytes(memoryview(buf)[:length])
    del buf[:length]
    return startup(packet)


def startup(packet: bytes) -> m.StartupPacket:
    """Read one whole untagged packet. Raises as `next_startup` does."""
    if len(packet) < 8 or _INT32.unpack_from(packet)[0] != len(packet):
        raise PeerMisbehaved(Misdeed.BAD_LENGTH, "startup packet")
    code = _INT32.unpack_from(packet, 4)[0]
    if code == m.SSL_REQUEST_CODE:
        _end(packet, 8, "SSLRequest")
        return m.SSLRequest()
    if code == m.GSSENC_REQUEST_CODE:
        _end(packet, 8, "GSSENCRequest")
        return m.GSSENCRequest()
    if code == m.CANCEL_REQUEST_CODE:
        if not 4 <= len(packet) - 12 <= MAX_CANCEL_KEY:
            raise PeerMisbehaved(Misdeed.BAD_LENGTH, "CancelRequest")
        return m.CancelRequest(_INT32.unpack_from(packet, 8)[0], packet[12:])
    if code >> 16 != 3:
        raise Unsupported(
            f"protocol {code >> 16}.{code & 0xFFFF} is not spoken here",
            "use a client that speaks protocol 3 (PostgreSQL 7.4 or newer)",
        )
    return m.StartupMessage(code, _startup_parameters(packet))


def _startup_parameters(packet: bytes) -> tuple[tuple[str, str], ...]:
    """Pairs of Strings, then one NUL, then nothing. A name that comes twice is where two readers disagree."""
    parameters: dict[str, str] = {}
    at = 8
    while True:
        name, at = _string(packet, at, "StartupMessage")
        if not name:
            break
        value, at = _string(packet, at, "StartupMessage")
        key = _text(name, "name of a startup parameter")
        if key in parameters:
            raise PeerMisbehaved(Misdeed.BAD_FIELD, "a startup parameter is given twice")
        parameters[key] = _text(value, "value of a startup parameter")
    _end(packet, at, "StartupMessage")
    return tuple(parameters.items())


# --- frontend ---------------------------------------------------------------------------------------------------------


def _authentication_data(frame: bytes) -> m.AuthenticationData:
    return m.AuthenticationData(frame[BODY:])


def password_message(data: m.AuthenticationData) -> m.PasswordMessage:
    """Read `p` where a password was asked for. Empty is what libpq sends when it has none."""
    password, at = _string(data.data, 0, "PasswordMessage")
    _end(data.data, at, "PasswordMessage")
    return m.PasswordMessage(password)


def sasl_initial_response(data: m.AuthenticationData) -> m.SASLInitialResponse:
    """Read `p` where a mechanism was asked for."""
    mechanism, at = _string(data.data, 0, "SASLInitialResponse")
    value, at = _value(data.data, at, "SASLInitialResponse")
    _end(data.data, at, "SASLInitialResponse")
    return m.SASLInitialResponse(_text(mechanism, "SASL mechanism"), value)


def sasl_response(data: m.AuthenticationData) -> m.SASLResponse:
    """Read `p` in the middle of a mechanism."""
    return m.SASLResponse(data.data)


def _query(frame: bytes) -> m.Query:
    statement, at = _string(frame, BODY, "Query")
    _end(frame, at, "Query")
    return m.Query(statement)


class ParseFields:
    """What a Parse says, for whoever needs no message of it."""

    __slots__ = ("name", "parameter_types", "statement")

    name: bytes
    statement: bytes
    parameter_types: tuple[int, ...]


def parse_fields(frame: bytes) -> ParseFields:
    """Read one whole frame that is a Parse. Raises `PeerMisbehaved`."""
    said = ParseFields.__new__(ParseFields)
    raw = frame
    nul = _nul(frame, BODY, "Parse")
    said.name = raw[BODY:nul]
    at = _nul(frame, nul + 1, "Parse")
    said.statement = raw[nul + 1 : at]
    at += 1
    count = _count(frame, at, "Parse")
    if len(frame) - at - 2 < 4 * count:
        raise _short("Parse")
    _end(frame, at + 2 + 4 * count, "Parse")
    said.parameter_types = struct.unpack_from(f"!{count}I", frame, at + 2) if count else ()
    return said


def _parse(frame: bytes) -> m.Parse:
    said = parse_fields(frame)
    return m.Parse(said.name, said.statement, said.parameter_types)


class BindFields:
    """What a Bind says, for whoever needs no message of it."""

    __slots__ = ("parameter_formats", "parameters", "portal", "result_formats", "statement")

    portal: bytes
    statement: bytes
    parameter_formats: tuple[int, ...]
    parameters: tuple[bytes | None, ...]
    result_formats: tuple[int, ...]


def bind_fields(frame: bytes) -> BindFields:
    """Read one whole frame that is a Bind. Raises `PeerMisbehaved`."""
    said = BindFields.__new__(BindFields)
    raw = frame
    nul = _nul(frame, BODY, "Bind")
    said.portal = raw[BODY:nul]
    at = _nul(frame, nul + 1, "Bind")
    said.statement = raw[nul + 1 : at]
    at += 1
    count = _count(frame, at, "Bind")
    said.parameter_formats = _codes(frame, at, count, "Bind")
    values: list[bytes | None] = []
    at = _values(frame, at + 2 + 2 * count, "Bind", values)
    said.parameters = tuple(values)
    count = _count(frame, at, "Bind")
    said.result_formats = _codes(frame, at, count, "Bind")
    _end(frame, at + 2 + 2 * count, "Bind")
    return said


def _bind(frame: bytes) -> m.Bind:
    said = bind_fields(frame)
    return m.Bind(said.portal, said.statement, said.parameter_formats, said.parameters, said.result_formats)


def named(frame: bytes, what: str) -> bytes:
    """Read one whole frame that is a Describe or a Close: whose name it says; its sixth byte says of what. Raises `PeerMisbehaved`."""
    if len(frame) <= BODY or frame[BODY] not in _NAMED:
        raise PeerMisbehaved(Misdeed.BAD_FIELD, f"{what}: neither statement nor portal")
    raw = frame
    nul = _nul(frame, BODY + 1, what)
    _end(frame, nul + 1, what)
    return raw[BODY + 1 : nul]


_NAMED: Final = b"SP"


def _describe(frame: bytes) -> m.Describe:
    name = named(frame, "Describe")
    return m.Describe(chr(frame[BODY]), name)


def _close(frame: bytes) -> m.Close:
    name = named(frame, "Close")
    return m.Close(chr(frame[BODY]), name)


def executed(frame: bytes) -> bytes:
    """Read one whole frame that is an Execute: the portal's name. Raises `PeerMisbehaved`."""
    raw = frame
    nul = _nul(frame, BODY, "Execute")
    if len(frame) - nul < 5:
        raise _short("Execute")
    _end(frame, nul + 5, "Execute")
    return raw[BODY:nul]


def _execute(frame: bytes) -> m.Execute:
    portal = executed(frame)
    return m.Execute(portal, _SIGNED32.unpack_from(frame, len(frame) - 4)[0])


def _function_call(frame: bytes) -> m.FunctionCall:
    function, at = _int32(frame, BODY, "FunctionCall")
    formats, at = _formats(frame, at, "FunctionCall")
    arguments: list[bytes | None] = []
    at = _values(frame, at, "FunctionCall", arguments)
    result, at = _int16(frame, at, "FunctionCall")
    if result > 1:
        raise PeerMisbehaved(Misdeed.BAD_FIELD, f"FunctionCall: format code {result}")
    _end(frame, at, "FunctionCall")
    return m.FunctionCall(function, formats, tuple(arguments), result)


def _copy_fail(frame: bytes) -> m.CopyFail:
    message, at = _string(frame, BODY, "CopyFail")
    _end(frame, at, "CopyFail")
    return m.CopyFail(message)


def _copy_data(frame: bytes) -> m.CopyData:
    return m.CopyData(frame[BODY:])


# --- backend ----------------------------------------------------------------------------------------------------------


def _authentication(frame: bytes) -> m.Authentication:
    method, at = _int32(frame, BODY, "Authentication")
    match method:
        case 0 | 3:
            _end(frame, at, "Authentication")
            return m.AuthenticationOk() if method == 0 else m.AuthenticationCleartextPassword()
        case 5:
            if len(frame) - at < 4:
                raise _short("AuthenticationMD5Password")
            _end(frame, at + 4, "AuthenticationMD5Password")
            return m.AuthenticationMD5Password(frame[at:])
        case 10:
            names, at = _names(frame, at, "AuthenticationSASL")
            _end(frame, at, "AuthenticationSASL")
            return m.AuthenticationSASL(names)
        case 11:
            return m.AuthenticationSASLContinue(frame[at:])
        case 12:
            return m.AuthenticationSASLFinal(frame[at:])
        case 2 | 6 | 7 | 8 | 9:
            return m.AuthenticationOther(method, frame[at:])
        case _:
            raise PeerMisbehaved(Misdeed.BAD_FIELD, f"authentication method {method}")


def _names(frame: bytes, at: int, what: str) -> tuple[tuple[str, ...], int]:
    """Strings up to an empty one."""
    names: list[str] = []
    while True:
        name, at = _string(frame, at, what)
        if not name:
            return tuple(names), at
        names.append(_text(name, what))


def _backend_key_data(frame: bytes) -> m.BackendKeyData:
    process_id, at = _int32(frame, BODY, "BackendKeyData")
    if not 4 <= len(frame) - at <= MAX_CANCEL_KEY:
        raise PeerMisbehaved(Misdeed.BAD_LENGTH, "BackendKeyData")
    return m.BackendKeyData(process_id, frame[at:])


def _negotiate(frame: bytes) -> m.NegotiateProtocolVersion:
    version, at = _int32(frame, BODY, "NegotiateProtocolVersion")
    count, at = _int32(frame, at, "NegotiateProtocolVersion")
    names: list[str] = []
    for _ in range(count):  # ends by itself: a string that is not there raises
        name, at = _string(frame, at, "NegotiateProtocolVersion")
        names.append(_text(name, "NegotiateProtocolVersion"))
    _end(frame, at, "NegotiateProtocolVersion")
    return m.NegotiateProtocolVersion(version, tuple(names))


def _parameter_status(frame: bytes) -> m.ParameterStatus:
    name, at = _string(frame, BODY, "ParameterStatus")
    value, at = _string(frame, at, "ParameterStatus")
    _end(frame, at, "ParameterStatus")
    return m.ParameterStatus(_text(name, "ParameterStatus"), _text(value, "ParameterStatus"))


def _row_description(frame: bytes) -> m.RowDescription:
    count, at = _int16(frame, BODY, "RowDescription")
    fields: list[m.Field] = []
    for _ in range(count):
        name, at = _string(frame, at, "RowDescription")
        if len(frame) - at < _FIELD.size:
            raise _short("RowDescription")
        table, attribute, type_, size, modifier, format_ = _FIELD.unpack_from(frame, at)
        if format_ not in (0, 1):
            raise PeerMisbehaved(Misdeed.BAD_FIELD, f"RowDescription: format code {format_}")
        at += _FIELD.size
        fields.append(m.Field(name, table, attribute, type_, size, modifier, format_))
    _end(frame, at, "RowDescription")
    return m.RowDescription(tuple(fields))


def _parameter_description(frame: bytes) -> m.ParameterDescription:
    count, at = _int16(frame, BODY, "ParameterDescription")
    if len(frame) - at < 4 * count:
        raise _short("ParameterDescription")
    _end(frame, at + 4 * count, "ParameterDescription")
    return m.ParameterDescription(struct.unpack_from(f"!{count}I", frame, at))


def _data_row(frame: bytes) -> m.DataRow:
    check_data_row(frame)
    return m.DataRow(frame[BODY:])


def check_data_row(frame: bytes, columns: int = -1) -> None:
    """Walk the cells of one whole DataRow frame; `columns` -1: however many it says. Raises `PeerMisbehaved`."""
    check_rows(frame, 0, len(frame), columns)


def _report(frame: bytes, what: str) -> tuple[tuple[str, bytes], ...]:
    """(Byte1 code, String)*, then one NUL, then nothing."""
    fields: list[tuple[str, bytes]] = []
    at = BODY
    while at < len(frame):
        code = frame[at]
        at += 1
        if code == 0:
            _end(frame, at, what)
            return tuple(fields)
        if code > 0x7E:
            raise PeerMisbehaved(Misdeed.BAD_FIELD, f"{what}: field code 0x{code:02x}")
        text, at = _string(frame, at, what)
        fields.append((chr(code), text))
    raise _short(what)


def _error_response(frame: bytes) -> m.ErrorResponse:
    return m.ErrorResponse(_report(frame, "ErrorResponse"))


def _notice_response(frame: bytes) -> m.NoticeResponse:
    return m.NoticeResponse(_report(frame, "NoticeResponse"))


def _notification_response(frame: bytes) -> m.NotificationResponse:
    process_id, at = _int32(frame, BODY, "NotificationResponse")
    channel, at = _string(frame, at, "NotificationResponse")
    payload, at = _string(frame, at, "NotificationResponse")
    _end(frame, at, "NotificationResponse")
    return m.NotificationResponse(process_id, channel, payload)


def _command_complete(frame: bytes) -> m.CommandComplete:
    tag, at = _string(frame, BODY, "CommandComplete")
    _end(frame, at, "CommandComplete")
    return m.CommandComplete(_text(tag, "CommandComplete"))


def _copy_response(frame: bytes, what: str) -> tuple[int, tuple[int, ...]]:
    if len(frame) == BODY:
        raise _short(what)
    overall = frame[BODY]
    if overall > 1:
        raise PeerMisbehaved(Misdeed.BAD_FIELD, f"{what}: format code {overall}")
    formats, at = _formats(frame, BODY + 1, what)
    _end(frame, at, what)
    return overall, formats


def _function_call_response(frame: bytes) -> m.FunctionCallResponse:
    value, at = _value(frame, BODY, "FunctionCallResponse")
    _end(frame, at, "FunctionCallResponse")
    return m.FunctionCallResponse(value)


def _ready_for_query(frame: bytes) -> m.ReadyForQuery:
    status = frame[BODY : BODY + 1]
    if status not in (b"I", b"T", b"E"):
        raise PeerMisbehaved(Misdeed.BAD_FIELD, "ReadyForQuery")
    _end(frame, BODY + 1, "ReadyForQuery")
    return _READY[status]


_READY: Final = {status.encode(): m.ReadyForQuery(status) for status in "ITE"}


# --- tables -----------------------------------------------------------------------------------------------------------


def _bare(message: m.Frontend | m.Backend) -> Callable[[bytes], object]:
    """A decoder of a message without a body; it is one shared value."""
    what = type(message).__name__

    def decode(frame: bytes) -> object:
        _end(frame, BODY, what)
        return message

    return decode


_FRONTEND: Final[dict[int, Callable[[bytes], object]]] = {
    ord("B"): _bind,
    ord("C"): _close,
    ord("D"): _describe,
    ord("E"): _execute,
    ord("F"): _function_call,
    ord("H"): _bare(m.Flush()),
    ord("P"): _parse,
    ord("Q"): _query,
    ord("S"): _bare(m.Sync()),
    ord("X"): _bare(m.Terminate()),
    ord("c"): _bare(m.CopyDone()),
    ord("d"): _copy_data,
    ord("f"): _copy_fail,
    ord("p"): _authentication_data,
}

_BACKEND: Final[dict[int, Callable[[bytes], object]]] = {
    ord("1"): _bare(m.ParseComplete()),
    ord("2"): _bare(m.BindComplete()),
    ord("3"): _bare(m.CloseComplete()),
    ord("A"): _notification_response,
    ord("C"): _command_complete,
    ord("D"): _data_row,
    ord("E"): _error_response,
    ord("G"): lambda frame: m.CopyInResponse(*_copy_response(frame, "CopyInResponse")),
    ord("H"): lambda frame: m.CopyOutResponse(*_copy_response(frame, "CopyOutResponse")),
    ord("I"): _bare(m.EmptyQueryResponse()),
    ord("K"): _backend_key_data,
    ord("N"): _notice_response,
    ord("R"): _authentication,
    ord("S"): _parameter_status,
    ord("T"): _row_description,
    ord("V"): _function_call_response,
    ord("W"): lambda frame: m.CopyBothResponse(*_copy_response(frame, "CopyBothResponse")),
    ord("Z"): _ready_for_query,
    ord("c"): _bare(m.CopyDone()),
    ord("d"): _copy_data,
    ord("n"): _bare(m.NoData()),
    ord("s"): _bare(m.PortalSuspended()),
    ord("t"): _parameter_description,
    ord("v"): _negotiate,
}


def _frame(table: dict[int, Callable[[bytes], object]], frame: bytes) -> object:
    length = len(frame)
    if length < BODY or (frame[1] << 24 | frame[2] << 16 | frame[3] << 8 | frame[4]) != length - 1:
        raise PeerMisbehaved(Misdeed.BAD_LENGTH, "a frame that is not whole")
    decode = table.get(frame[0])
    if decode is None:
        raise PeerMisbehaved(Misdeed.UNKNOWN_TAG, f"0x{frame[0]:02x}")
    return decode(frame)


def frontend(frame: bytes) -> m.Frontend:
    """Read one whole frame of a client: tag, length, body. Raises `PeerMisbehaved`."""
    return _frame(_FRONTEND, frame)  # type: ignore[return-value]  # the table holds frontend decoders only


def backend(frame: bytes) -> m.Backend:
    """Read one whole frame of a server: tag, length, body. Raises `PeerMisbehaved`."""
    return _frame(_BACKEND, frame)  # type: ignore[return-value]  # the table holds backend decoders only


def _next(buf: bytearray, walk: Callable[[bytearray, int], tuple[list[tuple[int, ...]], int]]) -> bytes:
    """The first whole frame of `buf`, taken off it; empty: it is not whole."""
    if len(buf) < BODY:
        walk(buf, 0)  # a first byte that is no tag is bad now, not when more came
        return b""
    length = 1 + _INT32.unpack_from(buf, 1)[0]
    head = buf[:length] if BODY <= length <= len(buf) else buf[:BODY]
    runs, _ = walk(head, 0)
    if not runs:
        return b""
    del buf[:length]
    return bytes(head)


def next_frontend(buf: bytearray) -> m.Frontend | None:
    """Take one whole message of a client off the front of `buf`; None means "feed me more"."""
    frame = _next(buf, scan_frontend)
    return frontend(frame) if frame else None


def next_backend(buf: bytearray) -> m.Backend | None:
    """Take one whole message of a server off the front of `buf`; None means "feed me more"."""
    frame = _next(buf, scan)
    return backend(frame) if frame else None


__all__ = [
    "MAX_CANCEL_KEY",
    "MAX_STARTUP",
    "BindFields",
    "ParseFields",
    "backend",
    "bind_fields",
    "check_data_row",
    "executed",
    "frontend",
    "named",
    "next_backend",
    "next_frontend",
    "next_startup",
    "parse_fields",
    "password_message",
    "sasl_initial_response",
    "sasl_response",
    "startup",
]
