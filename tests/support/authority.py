"""A certificate authority for tests of the client's side."""

from __future__ import annotations

import datetime
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

BEGINS = datetime.datetime(2025, 1, 1, tzinfo=datetime.UTC)
ENDS = datetime.datetime(2125, 1, 1, tzinfo=datetime.UTC)


def distinguished_name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


class Authority:
    """A certificate authority for one test."""

    def __init__(self, name: str = "ca", *, identified: bool = False) -> None:
        """Make one, whose certificates tell its key, as a cluster's do, if it is `identified`."""
        self.name, self.identified = name, identified
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.certificate = self.issue(name, self.key.public_key(), ca=True)

    def issue(
        self,
        common_name: str,
        public_key: Any,
        *,
        ca: bool = False,
        usage: x509.ObjectIdentifier = ExtendedKeyUsageOID.SERVER_AUTH,
        begins: datetime.datetime = BEGINS,
        ends: datetime.datetime = ENDS,
    ) -> x509.Certificate:
        builder = (
            x509.CertificateBuilder()
            .subject_name(distinguished_name(common_name))
            .issuer_name(distinguished_name(self.name))
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(begins)
            .not_valid_after(ends)
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        )
        if not ca:
            builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        if self.identified:
            own = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
            certified = x509.SubjectKeyIdentifier.from_public_key(public_key)
            builder = builder.add_extension(own, critical=False)
            builder = builder.add_extension(certified, critical=False)
        return builder.sign(self.key, hashes.SHA256())

    @property
    def pem(self) -> str:
        return pem(self.certificate)

    @property
    def fingerprint(self) -> str:
        return self.certificate.fingerprint(hashes.SHA256()).hex()


def make_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def key_pem(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()
