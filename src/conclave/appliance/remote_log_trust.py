"""Whom a remote log host over TLS (RFC 5425) must prove itself to.

Invariant (rule T1): the certificate's dates are held against the appliance's clock, not the host's.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass

from cryptography import x509

from conclave.clock import ApplianceClock
from conclave.service.client_gate import X509_V_FLAG_NO_CHECK_TIME


@dataclass(frozen=True, slots=True)
class RemoteLogTrust:
    """Authorities that vouch for remote log hosts, and the clock that their dates are held to."""

    ca_file: str
    """PEM; "" for those that the host trusts."""
    clock: ApplianceClock

    def context(self) -> ssl.SSLContext:
        """Return a context that asks for the host's name or address; raise OSError without file."""
        context = ssl.create_default_context(cafile=self.ca_file or None)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.verify_flags |= X509_V_FLAG_NO_CHECK_TIME
        return context

    def check_dates(self, certificate_der: bytes) -> None:
        """Raise SSLCertVerificationError when a host's own certificate does not hold now."""
        try:
            certificate = x509.load_der_x509_certificate(certificate_der)
            begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        except ValueError as cause:
            # OpenSSL took it, which is less strict.
            message = f"the host's certificate cannot be read: {cause}"
            raise ssl.SSLCertVerificationError(message) from cause
        if not begins <= self.clock.now() <= ends:
            message = f"the host's certificate holds from {begins:%Y-%m-%d} to {ends:%Y-%m-%d} only"
            raise ssl.SSLCertVerificationError(message)
