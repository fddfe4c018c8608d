"""What a member shows to the others, and what it demands of them at the level of TLS.

Invariant: TLS decides on signatures only.  Whether a peer is accepted is decided by its listed
public key (rule C3), so neither the host's clock nor a peer's name plays a part, and the private
key reaches the TLS library through memory, never through a file on disk.
"""

from __future__ import annotations

import ssl

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from conclave import faults
from conclave.appliance.tls import load_certificate
from conclave.cluster.ca import key_sha256, spki_der
from conclave.errors import InternalFault
from conclave.service.client_gate import X509_V_FLAG_NO_CHECK_TIME


class LinkIdentity:
    """A member's certificate and key and the CAs it trusts, all PEM; empty ones for a joiner.

    `ca_pem` may hold several certificates.  `replace` serves the connections made after it.
    """

    def __init__(
        self, certificate_pem: bytes, key_pem: bytes, ca_pem: bytes, member_id: str
    ) -> None:
        self.member_id = member_id
        self._certificate_pem = b""
        self._server: ssl.SSLContext | None = None
        self._client: ssl.SSLContext | None = None
        if certificate_pem:
            self.replace(certificate_pem, key_pem, ca_pem)

    def __repr__(self) -> str:
        return f"LinkIdentity({self.member_id})"

    def replace(self, certificate_pem: bytes, key_pem: bytes, ca_pem: bytes) -> None:
        """Take another certificate, key and trust; connections that exist keep the former ones."""
        server = _context(ssl.PROTOCOL_TLS_SERVER)
        # Without a certificate a peer may only knock for a join: the server sees to that.
        server.verify_mode = ssl.CERT_OPTIONAL
        server.options |= ssl.OP_NO_TICKET
        server.num_tickets = 0
        client = _context(ssl.PROTOCOL_TLS_CLIENT)
        client.verify_mode = ssl.CERT_REQUIRED
        for context in (server, client):
            context.load_verify_locations(cadata=ca_pem.decode())
            load_certificate(context, certificate_pem, key_pem)
        self._certificate_pem = certificate_pem
        self._server, self._client = server, client

    def server_context(self) -> ssl.SSLContext:
        """Return the context of the listener; raise InternalFault without a certificate."""
        return _present(self._server)

    def client_context(self) -> ssl.SSLContext:
        """Return the context for members; raise InternalFault without a certificate."""
        return _present(self._client)

    def certificate_der(self) -> bytes:
        """Return the certificate that new connections see; empty without one."""
        if not self._certificate_pem:
            return b""
        return x509.load_pem_x509_certificate(self._certificate_pem).public_bytes(Encoding.DER)


def join_context() -> ssl.SSLContext:
    """Return the context of a joiner, which trusts nobody: the exchange of the join decides."""
    context = _context(ssl.PROTOCOL_TLS_CLIENT)
    context.verify_mode = ssl.CERT_NONE
    return context


def certificate_key_sha256(certificate_der: bytes) -> bytes:
    """Return the hash of a certificate's SubjectPublicKeyInfo, by which members are listed."""
    return key_sha256(spki_der(x509.load_der_x509_certificate(certificate_der).public_key()))


def _context(protocol: int) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.check_hostname = False
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_flags |= X509_V_FLAG_NO_CHECK_TIME
    return context


def _present(context: ssl.SSLContext | None) -> ssl.SSLContext:
    if context is None:
        message = "This member has no certificate yet, so it cannot speak with other members."
        raise InternalFault(faults.INTERNAL, message)
    return context
