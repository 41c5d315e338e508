"""Dialling real PostgreSQL in every way it lets people in, and fakes that do what no real one does."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator

import psycopg
import pytest
import trustme
import uvloop

from ostiary.model.connections import Durability, PostgresConnection, PostgresUpstream, Recording
from ostiary.model.errors import NotAdmitted, PeerMisbehaved, Reason
from ostiary.model.secrets import Secret
from ostiary.protocols.postgres import decode, encode, refusals
from ostiary.protocols.postgres import messages as m
from ostiary.protocols.postgres.scram import KeyCache
from ostiary.testing.gateway import gateway
from ostiary.testing.gateway import target as postgres_target
from ostiary.testing.peers import ServerTls, postgres_cluster
from ostiary.upstream import cancel_target, open_target
from ostiary.upstream import dial as dialling
from ostiary.upstream.tls import channel_binding

PASSWORD = "w0rd-of-the-target"
HBA = [
    "host all postgres 127.0.0.1/32 trust",
    "host all u_md5 127.0.0.1/32 md5",
    "host all u_scram 127.0.0.1/32 scram-sha-256",
    "host all u_clear 127.0.0.1/32 password",
    "hostssl all u_tls 127.0.0.1/32 scram-sha-256",
]
ROLES = f"""
set password_encryption = 'md5'; create role u_md5 login password '{PASSWORD}';
set password_encryption = 'scram-sha-256'; create role u_scram login password '{PASSWORD}';
create role u_clear login password '{PASSWORD}'; create role u_tls login password '{PASSWORD}';
"""


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture(scope="module")
def certificate(authority):
    return authority.issue_cert("127.0.0.1", "localhost")


@pytest.fixture(scope="module")
def ca_file(authority, tmp_path_factory):
    path = tmp_path_factory.mktemp("tls") / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return str(path)


@pytest.fixture(scope="module")
def server(certificate):
    chain = b"".join(pem.bytes() for pem in certificate.cert_chain_pems)
    with postgres_cluster(tls=ServerTls(chain, certificate.private_key_pem.bytes()), hba=HBA) as peer:
        peer.psql(ROLES)
        yield peer


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request):
    factory = uvloop.new_event_loop if request.param == "uvloop" else asyncio.new_event_loop

    def run_(coroutine):
        with asyncio.Runner(loop_factory=factory) as runner:
            return runner.run(asyncio.wait_for(coroutine, 30))

    return run_


def target(port, user="postgres", tls="disable", ca=None, host="127.0.0.1", seconds=10.0):
    upstream = PostgresUpstream(
        host=host,
        port=port,
        database="postgres",
        user=user,
        password=None,
        tls=tls,
        ca_file=ca,
        cert_file=None,
        key_file=None,
        connect_timeout=seconds,
    )
    return PostgresConnection(
        name="t",
        upstream=upstream,
        labels=(),
        durability=Durability.BUFFERED,
        recording=Recording.EVENTS,
        protect=(),
        detect=frozenset(),
        catalogue_seconds=1.0,
        max_sessions=1,
    )


class Collector(asyncio.Protocol):
    """Gathers messages; `until(kind)` waits for one."""

    def __init__(self):
        self.buf, self.said = bytearray(), []
        self.wanted, self.lost = None, asyncio.get_running_loop().create_future()

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.buf += data
        while (message := decode.next_backend(self.buf)) is not None:
            self.said.append(message)
            if self.wanted and isinstance(message, self.wanted[0]) and not self.wanted[1].done():
                self.wanted[1].set_result(message)

    def connection_lost(self, exc):
        self.lost.set_result(exc)

    async def until(self, kind):
        for message in self.said:
            if isinstance(message, kind):
                return message
        self.wanted = kind, asyncio.get_running_loop().create_future()
        return await self.wanted[1]


async def bye(opened):
    """Close, and wait until it is closed."""
    collector = Collector()
    opened.attach(collector)
    opened.close()
    await collector.lost


async def ask(opened, sql):
    """The first column of the first row."""
    collector = Collector()
    opened.attach(collector)
    collector.transport.write(encode.encode(m.Query(sql)))
    await collector.until(m.ReadyForQuery)
    collector.transport.close()
    await collector.lost
    row = next(x for x in collector.said if isinstance(x, m.DataRow))
    return row.body[6:]


@pytest.mark.parametrize(
    ("user", "secure"),
    [
        ("postgres", False),
        ("u_md5", False),
        ("u_scram", False),
        ("postgres", True),
        ("u_md5", True),
        ("u_scram", True),
        ("u_clear", True),
        ("u_tls", True),
    ],
)
def test_the_gateway_gets_into_a_real_postgresql(run, server, ca_file, user, secure):
    async def go():
        connection = target(server.port, user, "verify-full" if secure else "disable", ca_file)
        opened = await open_target(connection, Secret(PASSWORD), {"application_name": "tést"}, keys=KeyCache())
        assert opened.logged_in.parameters["application_name"] in ("t??st", "t\\xc3\\xa9st")
        assert opened.logged_in.process_id > 0
        assert len(opened.logged_in.secret_key) == 4
        sql = b"select current_user || ' ' || ssl from pg_stat_ssl where pid = pg_backend_pid()"
        return await ask(opened, sql)

    assert run(go()) == f"{user} {'true' if secure else 'false'}".encode()


def test_scram_is_bound_to_the_tls_channel(run, server, ca_file, certificate, monkeypatch):
    seen = []
    real = dialling.ClientLogin._sasl

    def watch(self, mechanisms):
        data = real(self, mechanisms)
        seen.append((mechanisms, self._scram.mechanism, self._scram._gs2[1]))
        return data

    monkeypatch.setattr(dialling.ClientLogin, "_sasl", watch)

    async def go():
        connection = target(server.port, "u_scram", "verify-full", ca_file)
        await bye(await open_target(connection, Secret(PASSWORD), {}, keys=KeyCache()))

    run(go())
    ((offered, chosen, bound),) = seen
    assert "SCRAM-SHA-256-PLUS" in offered
    assert chosen == "SCRAM-SHA-256-PLUS"
    assert bound == channel_binding(ssl.PEM_cert_to_DER_cert(certificate.cert_chain_pems[0].bytes().decode()))


@pytest.mark.parametrize(("user", "tls"), [("u_md5", "disable"), ("u_scram", "disable"), ("u_clear", "verify-full")])
def test_a_wrong_password_is_refused_and_not_repeated(run, server, ca_file, user, tls):
    async def go():
        with pytest.raises(NotAdmitted) as caught:
            await open_target(target(server.port, user, tls, ca_file), Secret("wr0ng-one"), {}, keys=KeyCache())
        assert caught.value.reason is Reason.TARGET_REFUSED
        assert "wr0ng-one" not in str(caught.value) + repr(caught.value.__cause__)

    run(go())


def test_a_password_does_not_go_out_in_clear(run, server):
    async def go():
        with pytest.raises(NotAdmitted, match="in clear"):
            await open_target(target(server.port, "u_clear"), Secret(PASSWORD), {})

    run(go())


def test_a_certificate_of_an_unknown_authority_is_not_trusted(run, server):
    async def go():
        for tls in ("verify-full", "verify-ca"):
            with pytest.raises(NotAdmitted, match="not trusted"):
                await open_target(target(server.port, "u_tls", tls), Secret(PASSWORD), {})

    run(go())


def test_verify_ca_does_not_look_at_the_name_and_verify_full_does(run, ca_file, authority):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("other.example").configure_cert(context)
    context.set_alpn_protocols(["postgresql"])

    async def serve(reader, writer):
        await decode_startup(reader)
        writer.write(encode.AUTHENTICATION_OK + encode.READY["I"])

    async def go():
        async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context) as fake:
            port = fake.sockets[0].getsockname()[1]
            await bye(await open_target(target(port, tls="verify-ca", ca=ca_file), None, {}, direct_tls=True))
            with pytest.raises(NotAdmitted, match="not trusted"):
                await open_target(target(port, tls="verify-full", ca=ca_file), None, {}, direct_tls=True)

    run(go())


def test_a_running_statement_is_cancelled(run, server, ca_file):
    async def go(tls):
        connection = target(server.port, "u_scram", tls, ca_file)
        opened = await open_target(connection, Secret(PASSWORD), {})
        collector = Collector()
        opened.attach(collector)
        collector.transport.write(encode.encode(m.Query(b"select pg_sleep(60)")))
        while not any(isinstance(x, m.ErrorResponse) for x in collector.said):
            await cancel_target(connection, opened.logged_in.process_id, opened.logged_in.secret_key)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(collector.until(m.ErrorResponse), 0.2)
        assert (await collector.until(m.ErrorResponse)).text("C") == "57014"
        collector.transport.close()
        await collector.lost

    run(go("disable"))
    run(go("verify-full"))


def test_the_poison_breaks_a_transaction_and_nothing_else(run, server):
    async def go(poison):
        opened = await open_target(target(server.port), None, {})
        collector = Collector()
        opened.attach(collector)
        # Terminate ends it, so that what was said is all there when the connection is lost.
        collector.transport.write(encode.encode(m.Query(b"begin")) + poison + encode.TERMINATE)
        await collector.lost
        assert [x.status for x in collector.said if isinstance(x, m.ReadyForQuery)] == ["T", "E"]
        (error,) = [x for x in collector.said if isinstance(x, m.ErrorResponse)]
        assert error.text("C") == "42601"

    run(go(refusals.POISON_QUERY))
    run(go(refusals.POISON_PARSE + encode.SYNC))


# --- fakes ------------------------------------------------------------------------------------------------------------


async def decode_startup(reader):
    size = int.from_bytes(await reader.readexactly(4), "big")
    return await reader.readexactly(size - 4)


def fake(run, serve, use):
    """Serve one conversation, use it, and hold that neither hangs."""

    async def go():
        async def serve_(reader, writer):
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                await serve(reader, writer)
            writer.close()

        async with await asyncio.start_server(serve_, "127.0.0.1", 0) as listening:
            return await use(listening.sockets[0].getsockname()[1])

    return run(go())


def fails(port_tls, reason, match, **how):
    async def use(port):
        with pytest.raises(NotAdmitted, match=match) as caught:
            await open_target(target(port, tls=port_tls, **how), Secret(PASSWORD), {})
        assert caught.value.reason is reason
        assert PASSWORD not in str(caught.value)
        return caught.value

    return use


def test_bytes_stuffed_behind_the_yes_to_tls_are_not_believed(run, ca_file):
    async def serve(reader, writer):
        await decode_startup(reader)
        writer.write(b"S" + encode.AUTHENTICATION_OK + encode.READY["I"])
        await reader.read()

    fake(run, serve, fails("verify-full", Reason.TARGET_UNREACHABLE, "TLS handshake", ca=ca_file))


@pytest.mark.parametrize(
    ("answer", "reason", "match"),
    [
        (b"N", Reason.TARGET_REFUSED, "does not speak TLS"),
        (b"E", Reason.TARGET_REFUSED, "BAD_FIELD"),
        (b"", Reason.TARGET_UNREACHABLE, "closed the connection"),
    ],
)
def test_a_no_to_tls_is_never_taken_for_plaintext(run, ca_file, answer, reason, match):
    heard = []

    async def serve(reader, writer):
        await decode_startup(reader)
        writer.write(answer)
        await writer.drain()
        if answer:
            heard.append(await reader.read())

    fake(run, serve, fails("verify-full", reason, match, ca=ca_file))
    assert not any(heard)


def test_an_iteration_bomb_is_not_worked_off(run):
    async def serve(reader, writer):
        await decode_startup(reader)
        writer.write(encode.encode(m.AuthenticationSASL(("SCRAM-SHA-256",))))
        await reader.readexactly(5)
        first = await reader.read(1000)
        nonce = first.partition(b"r=")[2]
        challenge = b"r=" + nonce + b"x,s=c2FsdHNhbHQ=,i=100000000"
        writer.write(encode.encode(m.AuthenticationSASLContinue(challenge)))
        await reader.read()

    fake(run, serve, fails("disable", Reason.TARGET_REFUSED, "TOO_COSTLY"))


def test_a_target_that_skips_its_proof_is_left(run):
    async def serve(reader, writer):
        await decode_startup(reader)
        writer.write(encode.encode(m.AuthenticationSASL(("SCRAM-SHA-256",))))
        await reader.read(1000)
        writer.write(encode.AUTHENTICATION_OK + encode.READY["I"])
        await reader.read()

    error = fake(run, serve, fails("disable", Reason.TARGET_REFUSED, "BAD_PROOF"))
    assert isinstance(error.__cause__, PeerMisbehaved)


def test_many_iterations_are_worked_off_beside_the_loop(run):
    async def serve(reader, writer):
        await decode_startup(reader)
        writer.write(encode.encode(m.AuthenticationSASL(("SCRAM-SHA-256",))))
        first = await reader.read(1000)
        challenge = b"r=" + first.partition(b"r=")[2] + b"x,s=c2FsdHNhbHQ=,i=20000"
        writer.write(encode.encode(m.AuthenticationSASLContinue(challenge)))
        last = await reader.read(1000)
        assert b",p=" in last
        writer.write(encode.encode(m.AuthenticationSASLFinal(b"e=invalid-proof")))
        await reader.read()

    fake(run, serve, fails("disable", Reason.TARGET_REFUSED, "did not accept the credential"))


@pytest.mark.parametrize(
    "wire",
    [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"R\0\0\0\0", b"D\x30\0\0\0", b"N\0\2\0\0" + b"x" * 200_000, b"\0" * 9],
)
def test_what_is_no_postgresql_is_said_so(run, wire):
    async def serve(reader, writer):
        await decode_startup(reader)
        writer.write(wire)
        await reader.read()

    fake(run, serve, fails("disable", Reason.TARGET_REFUSED, "breaks the protocol"))


def test_a_target_that_says_nothing_is_given_up_in_time(run, ca_file):
    async def serve(reader, writer):
        await reader.read()

    for tls in ("disable", "verify-full"):
        fake(run, serve, fails(tls, Reason.TARGET_UNREACHABLE, "0.2 seconds", ca=ca_file, seconds=0.2))


def test_nobody_there_is_said_so(run):
    unused_port = 1

    async def go():
        with pytest.raises(NotAdmitted) as caught:
            await open_target(target(unused_port), None, {})
        assert caught.value.reason is Reason.TARGET_UNREACHABLE
        with pytest.raises(NotAdmitted) as caught:
            await open_target(target(unused_port, host="no-such-host.invalid"), None, {})
        assert caught.value.reason is Reason.TARGET_UNREACHABLE
        with pytest.raises(NotAdmitted) as caught:
            await open_target(target(unused_port, tls="verify-full", ca="/nonexistent"), None, {})
        assert caught.value.reason is Reason.TARGET_UNREACHABLE

    run(go())


class Plain:
    """No subclass of `asyncio.Protocol`, as the sessions' own is none."""

    def __init__(self):
        self.heard = b""

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.heard += data

    def connection_lost(self, exc):
        pass


@pytest.mark.parametrize("secure", [False, True])
@pytest.mark.parametrize("kind", [Collector, Plain])
def test_no_byte_behind_the_login_is_lost(run, ca_file, certificate, secure, kind):
    behind = [encode.encode(m.NotificationResponse(1, b"c", str(i).encode())) for i in range(200)]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    context.set_alpn_protocols(["postgresql"])

    async def serve(reader, writer):
        await decode_startup(reader)
        writer.write(encode.AUTHENTICATION_OK + encode.READY["I"] + b"".join(behind[:100]))
        await asyncio.sleep(0.05)
        writer.write(b"".join(behind[100:]))
        await reader.read()
        writer.close()

    async def go():
        ssl_ = context if secure else None
        async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=ssl_) as listening:
            port = listening.sockets[0].getsockname()[1]
            connection = target(port, tls="verify-full" if secure else "disable", ca=ca_file)
            opened = await open_target(connection, None, {}, direct_tls=secure)
            await asyncio.sleep(0.1)
            protocol = kind()
            opened.attach(protocol)
            heard = b""
            while len(heard) < len(b"".join(behind)):
                await asyncio.sleep(0.01)
                heard = protocol.heard if kind is Plain else b"".join(map(encode.encode, protocol.said))
            assert heard == b"".join(behind)
            protocol.transport.abort()

    run(go())


def test_a_target_that_left_before_it_was_attached_is_noticed(run):
    async def serve(reader, writer):
        await decode_startup(reader)
        writer.write(encode.AUTHENTICATION_OK + encode.READY["I"])
        await reader.read(1)

    async def use(port):
        opened = await open_target(target(port), None, {})
        opened.transport.abort()
        await asyncio.sleep(0.01)
        with pytest.raises(NotAdmitted):
            opened.attach(Collector())

    fake(run, serve, use)


def test_direct_tls_needs_a_postgresql_behind_it(run, ca_file, certificate):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)

    async def serve(reader, writer):
        await reader.read()
        writer.close()

    async def go():
        async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context) as listening:
            port = listening.sockets[0].getsockname()[1]
            with pytest.raises(NotAdmitted, match="ALPN"):
                await open_target(target(port, tls="verify-full", ca=ca_file), None, {}, direct_tls=True)

    run(go())


def test_no_small_write_waits_for_an_acknowledgement(run, server):
    async def go():
        opened = await open_target(target(server.port), None, {})
        sock = opened.transport.get_extra_info("socket")
        assert sock.getsockopt(6, 1)  # IPPROTO_TCP, TCP_NODELAY
        await bye(opened)

    run(go())


@contextlib.contextmanager
def shim(server: tuple[str, int], behind: bytes) -> Iterator[int]:
    """A port before that server on which `behind` follows the first ReadyForQuery in the same breath: no real server can be had to do that at will."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))

        def pump(source: socket.socket, sink: socket.socket, extra: bytes) -> None:
            with contextlib.suppress(OSError):
                while data := source.recv(1 << 16):
                    if extra and encode.READY["I"] in data:
                        data, extra = data.replace(encode.READY["I"], encode.READY["I"] + extra, 1), b""
                    sink.sendall(data)
            for each in (source, sink):
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    client = stack.enter_context(listener.accept()[0])
                    upstream = stack.enter_context(socket.create_connection(server))
                    threading.Thread(target=pump, args=(client, upstream, b""), daemon=True).start()
                    threading.Thread(target=pump, args=(upstream, client, behind), daemon=True).start()

        serving = threading.Thread(target=serve, daemon=True)
        serving.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        serving.join(10)


def test_a_session_goes_on_from_what_a_server_says_in_one_breath_with_the_end_of_its_login(postgres):
    behind = encode.encode(m.ParameterStatus("in_hot_standby", "off"))
    with (
        shim(("127.0.0.1", postgres.port), behind) as port,
        gateway(connections={"db": postgres_target(postgres, address=f"127.0.0.1:{port}")}, policy="permit (principal, action, resource);") as gate,
        psycopg.connect(host="127.0.0.1", port=gate.port, dbname="db", user="me", password=gate.token()) as conn,
    ):
        assert conn.execute("SELECT 1").fetchone() == (1,)
