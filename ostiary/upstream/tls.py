"""TLS towards a target: contexts, kept as long as their files do not change, and the channel binding of a connection.

A context costs some 10 ms to make (the system's roots are read), so it is kept by what it was made of.
"""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes

from ostiary.model.connections import Upstream
from ostiary.model.errors import NotAdmitted, Reason

ALPN: Final = "postgresql"
"""PostgreSQL documentation, "Message Flow", "SSL Session Encryption"; IANA's registry has it."""
MAX_CONTEXTS: Final = 256

_contexts: dict[tuple[object, ...], ssl.SSLContext] = {}


def client_context(upstream: Upstream, alpn: str) -> ssl.SSLContext | None:
    """The context for `upstream.tls`, with that application protocol; None: `disable`. Raises `NotAdmitted` where its files cannot be loaded."""
    if upstream.tls == "disable":
        return None
    try:
        key = (
            upstream.tls,
            alpn,
            *((path, Path(path).stat().st_mtime_ns) if path else None for path in _files(upstream)),
        )
        context = _contexts.get(key)
        if context is None:
            context = _make(upstream, alpn)
            while len(_contexts) >= MAX_CONTEXTS:
                _contexts.pop(next(iter(_contexts)))
            _contexts[key] = context
    except (OSError, ssl.SSLError, ValueError) as error:
        raise NotAdmitted(
            Reason.TARGET_UNREACHABLE,
            f"the connection's TLS files cannot be loaded ({type(error).__name__})",
            "the operator should look at ca_file, cert_file and key_file of the connection",
        ) from error
    return context


def _files(upstream: Upstream) -> tuple[str | None, ...]:
    return upstream.ca_file, upstream.cert_file, upstream.key_file


def _make(upstream: Upstream, alpn: str) -> ssl.SSLContext:
    """verify-full checks chain and host name, verify-ca the chain alone: libpq's words for them."""
    if upstream.tls not in ("verify-full", "verify-ca"):
        raise ValueError(upstream.tls)
    context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=upstream.ca_file)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = upstream.tls == "verify-full"
    context.set_alpn_protocols([alpn])
    if upstream.cert_file is not None:
        context.load_cert_chain(upstream.cert_file, upstream.key_file)
    return context


def channel_binding(certificate: bytes) -> bytes | None:
    """tls-server-end-point of a DER certificate: RFC 5929, 4.1. None: its signature has no hash to go by.

    The hash is that of the certificate's own signature, and SHA-256 where that is MD5 or SHA-1.
    """
    try:
        algorithm = x509.load_der_x509_certificate(certificate).signature_hash_algorithm
    except (ValueError, UnsupportedAlgorithm):
        return None
    if algorithm is None:  # Ed25519: RFC 5929 leaves it undefined
        return None
    if algorithm.name in ("md5", "sha1"):
        algorithm = hashes.SHA256()
    digest = hashes.Hash(algorithm)
    digest.update(certificate)
    return digest.finalize()
