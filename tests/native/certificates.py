"""Certificates for the module's tests, made when they are needed."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

SERVER_NAME = "lnh.thalesgroup.com"
NOW = datetime.datetime.now(datetime.UTC)


@dataclass(frozen=True)
class Authority:
    """A CA and its key."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _builder(subject: str, issuer: str, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(_name(subject))
        .issuer_name(_name(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
    )


def make_authority(name: str = "Conclave test CA") -> Authority:
    """Make a self-signed CA."""
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = (
        _builder(name, name, key)
        .not_valid_before(NOW - datetime.timedelta(hours=1))
        .not_valid_after(NOW + datetime.timedelta(days=2))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    return Authority(key, certificate)


def write_identity(
    authority: Authority,
    directory: Path,
    file_name: str,
    common_name: str,
    *,
    shift: datetime.timedelta = datetime.timedelta(),
    dns_name: str | None = None,
) -> None:
    """Write FILE_NAME.pem and .key; `shift` moves the two days of validity."""
    key = ec.generate_private_key(ec.SECP256R1())
    issuer = authority.certificate.subject.rfc4514_string().removeprefix("CN=")
    builder = _builder(common_name, issuer, key)
    builder = builder.not_valid_before(NOW - datetime.timedelta(hours=1) + shift)
    builder = builder.not_valid_after(NOW + datetime.timedelta(days=2) + shift)
    if dns_name is not None:
        names = x509.SubjectAlternativeName([x509.DNSName(dns_name)])
        builder = builder.add_extension(names, critical=False)
    certificate = builder.sign(authority.key, hashes.SHA256())
    write_pem(directory / f"{file_name}.pem", certificate)
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    path = directory / f"{file_name}.key"
    path.touch(mode=0o600)
    path.write_bytes(private)


def write_pem(path: Path, certificate: x509.Certificate) -> None:
    """Write one certificate."""
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))


def write_all(directory: Path) -> Authority:
    """Write authority.pem, server.pem/.key and client.pem/.key."""
    authority = make_authority()
    write_pem(directory / "authority.pem", authority.certificate)
    write_identity(authority, directory, "server", SERVER_NAME)
    write_identity(authority, directory, "client", "192.0.2.7")
    return authority
