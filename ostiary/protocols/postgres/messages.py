"""The messages of PostgreSQL's frontend/backend protocol 3.0 and 3.2, in the words of the documentation.

Source: PostgreSQL documentation, chapter "Frontend/Backend Protocol", section "Message Formats". Names of statements,
portals and columns, and texts of statements, stay bytes: their encoding is the session's, and equality of bytes is
what the server goes by. What may hold a secret or a value does not show it in its repr.
"""

from __future__ import annotations

from typing import Final

import msgspec

PROTOCOL_3_0: Final = 3 << 16
PROTOCOL_3_2: Final = 3 << 16 | 2
"""The newest this gateway speaks: it differs from 3.0 in the length of cancel keys."""
CANCEL_REQUEST_CODE: Final = 1234 << 16 | 5678
SSL_REQUEST_CODE: Final = 1234 << 16 | 5679
GSSENC_REQUEST_CODE: Final = 1234 << 16 | 5680

TEXT: Final = 0
BINARY: Final = 1


class _Quiet(msgspec.Struct, frozen=True, gc=False):
    """Base of messages that hold a value or a secret: their repr is the name alone."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}(…)"


# --- before startup: no tag -----------------------------------------------------------------------------------------


class SSLRequest(msgspec.Struct, frozen=True):
    """May we speak TLS? Answered by one byte, `S` or `N`."""


class GSSENCRequest(msgspec.Struct, frozen=True):
    """May we encrypt with GSSAPI? Answered by one byte, `G` or `N`; here always `N`."""


class CancelRequest(_Quiet, frozen=True):
    """Stop what the session with this key is doing. The key has 4 bytes in 3.0, 4 to 256 in 3.2."""

    process_id: int
    secret_key: bytes


class StartupMessage(msgspec.Struct, frozen=True):
    """Open a session. `version` is major << 16 | minor; parameters in the order they came, none twice."""

    version: int
    parameters: tuple[tuple[str, str], ...]


StartupPacket = SSLRequest | GSSENCRequest | CancelRequest | StartupMessage


# --- frontend -------------------------------------------------------------------------------------------------------


class AuthenticationData(_Quiet, frozen=True):
    """`p`: a PasswordMessage, SASLInitialResponse, SASLResponse or GSSResponse: which one, only the context says.

    `decode.password_message`, `decode.sasl_initial_response` and `decode.sasl_response` read it.
    """

    data: bytes


class PasswordMessage(_Quiet, frozen=True):
    """`p`: the password, or the md5 answer, as the client typed it."""

    password: bytes


class SASLInitialResponse(_Quiet, frozen=True):
    """`p`: the chosen mechanism, and its first message if it has one."""

    mechanism: str
    data: bytes | None


class SASLResponse(_Quiet, frozen=True):
    """`p`: what the mechanism says next."""

    data: bytes


class Query(_Quiet, frozen=True):
    """`Q`: a string of statements, simple protocol."""

    statement: bytes

    @property
    def text(self) -> str | None:
        """The string, or None where its bytes are not UTF-8."""
        return utf8(self.statement)


class Parse(_Quiet, frozen=True):
    """`P`: prepare one statement under a name (empty: the unnamed one)."""

    name: bytes
    statement: bytes
    parameter_types: tuple[int, ...]
    """Type OIDs, 0 for "you tell me"; may be fewer than the statement has parameters."""

    @property
    def text(self) -> str | None:
        """The statement, or None where its bytes are not UTF-8."""
        return utf8(self.statement)


class Bind(_Quiet, frozen=True):
    """`B`: make a portal of a prepared statement and parameters."""

    portal: bytes
    statement: bytes
    """The prepared statement's name."""
    parameter_formats: tuple[int, ...]
    """0 text, 1 binary. Empty: all text. One: for all."""
    parameters: tuple[bytes | None, ...]
    result_formats: tuple[int, ...]


class Describe(msgspec.Struct, frozen=True):
    """`D`: asks what a statement (`S`) or portal (`P`) takes and gives."""

    kind: str
    name: bytes


class Execute(msgspec.Struct, frozen=True):
    """`E`: run a portal. `max_rows` 0 or less: all rows."""

    portal: bytes
    max_rows: int


class Close(msgspec.Struct, frozen=True):
    """`C`: forget a statement (`S`) or portal (`P`)."""

    kind: str
    name: bytes


class Flush(msgspec.Struct, frozen=True):
    """`H`: send what you have."""


class Sync(msgspec.Struct, frozen=True):
    """`S`: end of a pipeline; after an error, where reading goes on."""


class FunctionCall(_Quiet, frozen=True):
    """`F`: the legacy fast-path call of a function by OID."""

    function: int
    argument_formats: tuple[int, ...]
    arguments: tuple[bytes | None, ...]
    result_format: int


class CopyFail(msgspec.Struct, frozen=True):
    """`f`: the client gives COPY IN up, and says why."""

    message: bytes


class Terminate(msgspec.Struct, frozen=True):
    """`X`: the client is leaving."""


# --- both ways ------------------------------------------------------------------------------------------------------


class CopyData(_Quiet, frozen=True):
    """`d`: a piece of COPY data. From the server, always one row."""

    data: bytes


class CopyDone(msgspec.Struct, frozen=True):
    """`c`: end of COPY data."""


Frontend = (
    AuthenticationData
    | Query
    | Parse
    | Bind
    | Describe
    | Execute
    | Close
    | Flush
    | Sync
    | FunctionCall
    | CopyData
    | CopyDone
    | CopyFail
    | Terminate
)


# --- backend: login -------------------------------------------------------------------------------------------------


class AuthenticationOk(msgspec.Struct, frozen=True):
    """`R` 0: you are in."""


class AuthenticationCleartextPassword(msgspec.Struct, frozen=True):
    """`R` 3: say the password."""


class AuthenticationMD5Password(msgspec.Struct, frozen=True):
    """`R` 5: say md5(md5(password + user) + salt)."""

    salt: bytes


class AuthenticationSASL(msgspec.Struct, frozen=True):
    """`R` 10: choose one of these mechanisms; the server's favourite is first."""

    mechanisms: tuple[str, ...]


class AuthenticationSASLContinue(_Quiet, frozen=True):
    """`R` 11: the mechanism's challenge."""

    data: bytes


class AuthenticationSASLFinal(_Quiet, frozen=True):
    """`R` 12: the mechanism's last word, for SCRAM the server's own proof."""

    data: bytes


class AuthenticationOther(msgspec.Struct, frozen=True):
    """`R` with a method that this gateway does not speak: 2 Kerberos V5, 6 SCM, 7 GSS, 8 GSS continue, 9 SSPI."""

    method: int
    data: bytes


class BackendKeyData(_Quiet, frozen=True):
    """`K`: what a CancelRequest for this session must show."""

    process_id: int
    secret_key: bytes


class NegotiateProtocolVersion(msgspec.Struct, frozen=True):
    """`v`: the newest version the server speaks (major << 16 | minor), and the `_pq_.` options it does not know."""

    version: int
    unrecognized: tuple[str, ...]


class ParameterStatus(msgspec.Struct, frozen=True):
    """`S`: a setting's value now."""

    name: str
    value: str


# --- backend: work --------------------------------------------------------------------------------------------------


class Field(msgspec.Struct, frozen=True):
    """One column of a RowDescription."""

    name: bytes
    """The label in the result: never taken for the identity of a column."""
    table: int
    """OID of the table it comes straight from, else 0."""
    attribute: int
    """pg_attribute.attnum there, else 0."""
    type: int
    type_size: int
    type_modifier: int
    format: int


class RowDescription(msgspec.Struct, frozen=True):
    """`T`: the columns of what follows, or of what a Describe asked about."""

    fields: tuple[Field, ...]


class ParameterDescription(msgspec.Struct, frozen=True):
    """`t`: type OIDs of a prepared statement's parameters."""

    types: tuple[int, ...]


class DataRow(_Quiet, frozen=True):
    """`D`: one row, its cells still as on the wire: Int16 count, then Int32 length (-1 NULL) and bytes for each."""

    body: bytes


class Report(_Quiet, frozen=True):
    """What an ErrorResponse and a NoticeResponse hold: (code, text) in the order they came."""

    fields: tuple[tuple[str, bytes], ...]

    def field(self, code: str) -> bytes:
        """The text of field `code` ("Error and Notice Message Fields": `C` SQLSTATE, `M` message, ...), or empty."""
        for key, value in self.fields:
            if key == code:
                return value
        return b""

    def text(self, code: str) -> str:
        """As `field`, for people: what is not UTF-8 shows as U+FFFD."""
        return self.field(code).decode(errors="replace")


class ErrorResponse(Report, frozen=True):
    """`E`: it failed."""


class NoticeResponse(Report, frozen=True):
    """`N`: by the way."""


class NotificationResponse(_Quiet, frozen=True):
    """`A`: somebody said NOTIFY."""

    process_id: int
    channel: bytes
    payload: bytes


class CommandComplete(msgspec.Struct, frozen=True):
    """`C`: done; `SELECT 5`, `INSERT 0 1`."""

    tag: str


class CopyResponse(msgspec.Struct, frozen=True):
    """What the three COPY responses hold. `format` 0 text (also CSV), 1 binary; then each column's."""

    format: int
    columns: tuple[int, ...]


class CopyInResponse(CopyResponse, frozen=True):
    """`G`: send me data."""


class CopyOutResponse(CopyResponse, frozen=True):
    """`H`: here comes data."""


class CopyBothResponse(CopyResponse, frozen=True):
    """`W`: streaming replication. Never asked for through this gateway."""


class FunctionCallResponse(_Quiet, frozen=True):
    """`V`: what a FunctionCall gave."""

    value: bytes | None


class ReadyForQuery(msgspec.Struct, frozen=True):
    """`Z`: your turn. `status`: `I` idle, `T` in a transaction, `E` in a failed one."""

    status: str


class ParseComplete(msgspec.Struct, frozen=True):
    """`1`."""


class BindComplete(msgspec.Struct, frozen=True):
    """`2`."""


class CloseComplete(msgspec.Struct, frozen=True):
    """`3`."""


class EmptyQueryResponse(msgspec.Struct, frozen=True):
    """`I`: there was no statement in it."""


class NoData(msgspec.Struct, frozen=True):
    """`n`: this statement or portal gives no rows."""


class PortalSuspended(msgspec.Struct, frozen=True):
    """`s`: `max_rows` reached; Execute again for more."""


Authentication = (
    AuthenticationOk
    | AuthenticationCleartextPassword
    | AuthenticationMD5Password
    | AuthenticationSASL
    | AuthenticationSASLContinue
    | AuthenticationSASLFinal
    | AuthenticationOther
)

Backend = (
    Authentication
    | BackendKeyData
    | NegotiateProtocolVersion
    | ParameterStatus
    | RowDescription
    | ParameterDescription
    | DataRow
    | ErrorResponse
    | NoticeResponse
    | NotificationResponse
    | CommandComplete
    | CopyInResponse
    | CopyOutResponse
    | CopyBothResponse
    | CopyData
    | CopyDone
    | FunctionCallResponse
    | ReadyForQuery
    | ParseComplete
    | BindComplete
    | CloseComplete
    | EmptyQueryResponse
    | NoData
    | PortalSuspended
)


def utf8(data: bytes) -> str | None:
    """Strict UTF-8, or None."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None
