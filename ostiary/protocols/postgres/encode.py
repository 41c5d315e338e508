"""Messages in, bytes out: the inverse of `decode.py`. `encode` takes any message; constants are the bare ones.

A message that cannot be said on the wire (a NUL inside a String, a count over 65,535) raises `ValueError`: it is our
own bug, never the peer's.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from typing import Any, Final

from ostiary.protocols.postgres import messages as m

_INT16: Final = struct.Struct("!H")
_SIGNED32: Final = struct.Struct("!i")
_INT32: Final = struct.Struct("!I")
_FIELD: Final = struct.Struct("!IhIhih")
_NULL: Final = b"\xff\xff\xff\xff"

PARSE_COMPLETE: Final = b"1\0\0\0\4"
BIND_COMPLETE: Final = b"2\0\0\0\4"
CLOSE_COMPLETE: Final = b"3\0\0\0\4"
NO_DATA: Final = b"n\0\0\0\4"
PORTAL_SUSPENDED: Final = b"s\0\0\0\4"
EMPTY_QUERY_RESPONSE: Final = b"I\0\0\0\4"
COPY_DONE: Final = b"c\0\0\0\4"
SYNC: Final = b"S\0\0\0\4"
FLUSH: Final = b"H\0\0\0\4"
TERMINATE: Final = b"X\0\0\0\4"
READY: Final = {"I": b"Z\0\0\0\5I", "T": b"Z\0\0\0\5T", "E": b"Z\0\0\0\5E"}
"""ReadyForQuery by transaction status."""
AUTHENTICATION_OK: Final = b"R\0\0\0\x08\0\0\0\0"
CLEARTEXT_PASSWORD: Final = b"R\0\0\0\x08\0\0\0\3"


def frame(tag: bytes, *parts: bytes) -> bytes:
    """A frame: tag, length that counts itself, body."""
    body = b"".join(parts)
    return tag + _INT32.pack(len(body) + 4) + body


def _string(value: bytes) -> bytes:
    if 0 in value:
        raise ValueError("a String on the wire holds no NUL")
    return value + b"\0"


def _text(value: str) -> bytes:
    return _string(value.encode())


def _count(number: int) -> bytes:
    if number > 0xFFFF:
        raise ValueError(f"{number} items do not fit a message")
    return _INT16.pack(number)


def _int16s(values: tuple[int, ...]) -> bytes:
    return _count(len(values)) + struct.pack(f"!{len(values)}H", *values)


def _int32s(values: tuple[int, ...]) -> bytes:
    return _count(len(values)) + struct.pack(f"!{len(values)}I", *values)


def _value(value: bytes | None) -> bytes:
    return _NULL if value is None else _SIGNED32.pack(len(value)) + value


def _values(values: tuple[bytes | None, ...]) -> bytes:
    return _count(len(values)) + b"".join(map(_value, values))


def data_row(values: Iterable[bytes | None]) -> bytes:
    """A DataRow of these cells."""
    return frame(b"D", _values(tuple(values)))


# --- before startup ---------------------------------------------------------------------------------------------------


def _untagged(*parts: bytes) -> bytes:
    body = b"".join(parts)
    return _INT32.pack(len(body) + 4) + body


def _startup(message: m.StartupMessage) -> bytes:
    pairs = b"".join(_text(name) + _text(value) for name, value in message.parameters)
    return _untagged(_INT32.pack(message.version), pairs, b"\0")


def _cancel(message: m.CancelRequest) -> bytes:
    return _untagged(_INT32.pack(m.CANCEL_REQUEST_CODE), _INT32.pack(message.process_id), message.secret_key)


SSL_REQUEST: Final = _untagged(_INT32.pack(m.SSL_REQUEST_CODE))
GSSENC_REQUEST: Final = _untagged(_INT32.pack(m.GSSENC_REQUEST_CODE))


# --- tagged -----------------------------------------------------------------------------------------------------------


def _sasl_initial(message: m.SASLInitialResponse) -> bytes:
    return frame(b"p", _text(message.mechanism), _value(message.data))


def _parse(message: m.Parse) -> bytes:
    return frame(b"P", _string(message.name), _string(message.statement), _int32s(message.parameter_types))


def _bind(message: m.Bind) -> bytes:
    return frame(
        b"B",
        _string(message.portal),
        _string(message.statement),
        _int16s(message.parameter_formats),
        _values(message.parameters),
        _int16s(message.result_formats),
    )


def _function_call(message: m.FunctionCall) -> bytes:
    return frame(
        b"F",
        _INT32.pack(message.function),
        _int16s(message.argument_formats),
        _values(message.arguments),
        _INT16.pack(message.result_format),
    )


def _authentication(method: int, data: bytes = b"") -> bytes:
    return frame(b"R", _INT32.pack(method), data)


def _sasl(message: m.AuthenticationSASL) -> bytes:
    return _authentication(10, b"".join(map(_text, message.mechanisms)) + b"\0")


def _negotiate(message: m.NegotiateProtocolVersion) -> bytes:
    names = message.unrecognized
    return frame(b"v", _INT32.pack(message.version), _INT32.pack(len(names)), *map(_text, names))


def _row_description(message: m.RowDescription) -> bytes:
    parts = [_count(len(message.fields))]
    for f in message.fields:
        parts.append(_string(f.name))
        parts.append(_FIELD.pack(f.table, f.attribute, f.type, f.type_size, f.type_modifier, f.format))
    return frame(b"T", *parts)


def _report(tag: bytes, message: m.Report) -> bytes:
    return frame(tag, *(code.encode() + _string(text) for code, text in message.fields), b"\0")


def _notification(message: m.NotificationResponse) -> bytes:
    return frame(b"A", _INT32.pack(message.process_id), _string(message.channel), _string(message.payload))


def _copy_response(tag: bytes, message: m.CopyResponse) -> bytes:
    return frame(tag, bytes([message.format]), _int16s(message.columns))


_ENCODERS: Final[dict[type, Callable[[Any], bytes]]] = {
    m.SSLRequest: lambda _: SSL_REQUEST,
    m.GSSENCRequest: lambda _: GSSENC_REQUEST,
    m.CancelRequest: _cancel,
    m.StartupMessage: _startup,
    m.AuthenticationData: lambda x: frame(b"p", x.data),
    m.PasswordMessage: lambda x: frame(b"p", _string(x.password)),
    m.SASLInitialResponse: _sasl_initial,
    m.SASLResponse: lambda x: frame(b"p", x.data),
    m.Query: lambda x: frame(b"Q", _string(x.statement)),
    m.Parse: _parse,
    m.Bind: _bind,
    m.Describe: lambda x: frame(b"D", x.kind.encode(), _string(x.name)),
    m.Execute: lambda x: frame(b"E", _string(x.portal), _SIGNED32.pack(x.max_rows)),
    m.Close: lambda x: frame(b"C", x.kind.encode(), _string(x.name)),
    m.Flush: lambda _: FLUSH,
    m.Sync: lambda _: SYNC,
    m.FunctionCall: _function_call,
    m.CopyFail: lambda x: frame(b"f", _string(x.message)),
    m.Terminate: lambda _: TERMINATE,
    m.CopyData: lambda x: frame(b"d", x.data),
    m.CopyDone: lambda _: COPY_DONE,
    m.AuthenticationOk: lambda _: AUTHENTICATION_OK,
    m.AuthenticationCleartextPassword: lambda _: CLEARTEXT_PASSWORD,
    m.AuthenticationMD5Password: lambda x: _authentication(5, x.salt),
    m.AuthenticationSASL: _sasl,
    m.AuthenticationSASLContinue: lambda x: _authentication(11, x.data),
    m.AuthenticationSASLFinal: lambda x: _authentication(12, x.data),
    m.AuthenticationOther: lambda x: _authentication(x.method, x.data),
    m.BackendKeyData: lambda x: frame(b"K", _INT32.pack(x.process_id), x.secret_key),
    m.NegotiateProtocolVersion: _negotiate,
    m.ParameterStatus: lambda x: frame(b"S", _text(x.name), _text(x.value)),
    m.RowDescription: _row_description,
    m.ParameterDescription: lambda x: frame(b"t", _int32s(x.types)),
    m.DataRow: lambda x: frame(b"D", x.body),
    m.ErrorResponse: lambda x: _report(b"E", x),
    m.NoticeResponse: lambda x: _report(b"N", x),
    m.NotificationResponse: _notification,
    m.CommandComplete: lambda x: frame(b"C", _text(x.tag)),
    m.CopyInResponse: lambda x: _copy_response(b"G", x),
    m.CopyOutResponse: lambda x: _copy_response(b"H", x),
    m.CopyBothResponse: lambda x: _copy_response(b"W", x),
    m.FunctionCallResponse: lambda x: frame(b"V", _value(x.value)),
    m.ReadyForQuery: lambda x: READY[x.status],
    m.ParseComplete: lambda _: PARSE_COMPLETE,
    m.BindComplete: lambda _: BIND_COMPLETE,
    m.CloseComplete: lambda _: CLOSE_COMPLETE,
    m.EmptyQueryResponse: lambda _: EMPTY_QUERY_RESPONSE,
    m.NoData: lambda _: NO_DATA,
    m.PortalSuspended: lambda _: PORTAL_SUSPENDED,
}

Message = m.StartupPacket | m.Frontend | m.Backend | m.PasswordMessage | m.SASLInitialResponse | m.SASLResponse


def encode(message: Message) -> bytes:
    """The message's frame. Raises `ValueError` for what does not fit the wire."""
    return _ENCODERS[type(message)](message)
