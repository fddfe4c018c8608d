"""Who may talk to a worker: TLS 1.3 with a certificate of the cluster CA whose key is listed.

Invariant: the TLS library decides on signatures only.  Whether a client is accepted is decided by
its listed public key (rule C3), and whether its certificate is valid now by the appliance clock,
never by the host's (rule T1).
"""

from __future__ import annotations

import hashlib
import os
import ssl
from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

X509_V_FLAG_NO_CHECK_TIME: Final = 0x200000


@dataclass(frozen=True, slots=True)
class PeerCertificate:
    """What is believed of a client's certificate once TLS has checked its signature."""

    key_sha256: bytes
    not_before_ms: int
    not_after_ms: int

    @classmethod
    def read(cls, certificate_der: bytes) -> PeerCertificate:
        """Read a certificate in DER."""
        certificate = x509.load_der_x509_certificate(certificate_der)
        spki = certificate.public_key().public_bytes(
            Encoding.DER, PublicFormat.SubjectPublicKeyInfo
        )
        return cls(
            key_sha256=hashlib.sha256(spki).digest(),
            not_before_ms=int(certificate.not_valid_before_utc.timestamp() * 1000),
            not_after_ms=int(certificate.not_valid_after_utc.timestamp() * 1000),
        )

    def valid_at(self, appliance_ms: int) -> bool:
        """Tell whether the certificate is valid at an appliance time."""
        return self.not_before_ms <= appliance_ms <= self.not_after_ms


def server_context(certificate_pem: bytes, key_pem: bytes, ca_pem: bytes) -> ssl.SSLContext:
    """Return the TLS context of the crypto port; the private key never meets a disk."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.options |= ssl.OP_NO_TICKET
    context.num_tickets = 0
    _prepare(context, certificate_pem, key_pem, ca_pem)
    return context


def member_context(certificate_pem: bytes, key_pem: bytes, ca_pem: bytes) -> ssl.SSLContext:
    """Return the context with which a member's worker calls another member's crypto port.

    The name in the peer's certificate is every member's: who it is, its key must tell.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    _prepare(context, certificate_pem, key_pem, ca_pem)
    return context


def _prepare(
    context: ssl.SSLContext, certificate_pem: bytes, key_pem: bytes, ca_pem: bytes
) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= X509_V_FLAG_NO_CHECK_TIME
    context.load_verify_locations(cadata=ca_pem.decode())
    # The ssl module reads keys from a named file only; this one is memory of this process.
    fd = os.memfd_create("conclave-key", os.MFD_CLOEXEC)
    try:
        os.write(fd, key_pem + b"\n" + certificate_pem)
        context.load_cert_chain(f"/proc/self/fd/{fd}")
    finally:
        os.ftruncate(fd, 0)
        os.close(fd)
