"""The certificates that the two HTTPS listeners present."""

from __future__ import annotations

import ssl
from pathlib import Path

from conclave.appliance.member_identity import MemberCertificate
from conclave.appliance.tls import load_certificate, server_context


class AdminTls:
    """The context of 50070: the member's certificate once there is one, the webserver's before."""

    def __init__(self, webserver_certificate: Path, webserver_key: Path) -> None:
        self._webserver = (webserver_certificate.read_bytes(), webserver_key.read_bytes())
        self._member: MemberCertificate | None = None
        self.context: ssl.SSLContext = server_context()
        self.use(None)

    def set_webserver(self, certificate_pem: bytes, key_pem: bytes) -> None:
        """Take another certificate of the webserver, and present it while there is no member's."""
        self._webserver = (certificate_pem, key_pem)
        self.use(self._member)

    def use(self, member: MemberCertificate | None) -> None:
        """Present this certificate to new connections."""
        self._member = member
        if member is None:
            load_certificate(self.context, *self._webserver)
        else:
            chain = member.certificate_pem + member.ca_pem
            load_certificate(self.context, chain, member.key_pem)


def rest_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """Return the context of 8443."""
    context = server_context()
    load_certificate(context, certificate.read_bytes(), key.read_bytes())
    return context
