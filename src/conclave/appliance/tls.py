"""TLS contexts from keys in memory, and the webserver's self-signed certificate.

Invariant: a private key that is sealed at rest reaches OpenSSL through an anonymous memory file,
never through a file on disk.
"""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import os
import ssl
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

WEBSERVER_CERTIFICATE_NAME: Final = "server.pem"
WEBSERVER_KEY_NAME: Final = "server.key"
WEBSERVER_DAYS: Final = 3650
RENEWED_BEFORE: Final = datetime.timedelta(days=90)
"""How long before its end the webserver's certificate is renewed."""
BACK_DATED: Final = datetime.timedelta(hours=1)
"""Certificates begin an hour early, so that a clock set back a little does not void them (T2)."""

PrivateKey = ec.EllipticCurvePrivateKey


def new_private_key() -> PrivateKey:
    """Return a P-256 key."""
    return ec.generate_private_key(ec.SECP256R1())


def key_to_pem(key: PrivateKey) -> bytes:
    """Return a key as unencrypted PKCS#8, for memory only or a file of mode 0600."""
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def public_key_der(key: PrivateKey) -> bytes:
    """Return the SubjectPublicKeyInfo of a key."""
    return key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def self_signed(
    key: PrivateKey, name: str, addresses: Iterable[str], now: datetime.datetime
) -> bytes:
    """Return the PEM of a server certificate for a host name and addresses."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    names: list[x509.GeneralName] = [x509.DNSName(name)]
    names += [x509.IPAddress(ipaddress.ip_address(address)) for address in addresses]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACK_DATED)
        .not_valid_after(now + datetime.timedelta(days=WEBSERVER_DAYS))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        # A certificate authority of itself alone, so that clients can be given it as their CA file.
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM)


def ensure_webserver_certificate(
    directory: Path, name: str, addresses: Iterable[str], now: datetime.datetime
) -> tuple[Path, Path]:
    """Return certificate and key file of the webserver, mode 0600; make or renew what is due.

    A renewal keeps the key, which clients may have pinned; those that trust the certificate itself
    must be given the new one.
    """
    certificate, key = directory / WEBSERVER_CERTIFICATE_NAME, directory / WEBSERVER_KEY_NAME
    if not (certificate.exists() and key.exists()):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        private_key = new_private_key()
        write_private(key, key_to_pem(private_key))
        write_private(certificate, self_signed(private_key, name, addresses, now))
    elif _is_due(x509.load_pem_x509_certificate(certificate.read_bytes()), now):
        known_key = serialization.load_pem_private_key(key.read_bytes(), None)
        assert isinstance(known_key, PrivateKey)  # noqa: S101 - no other kind is made above
        write_private(certificate, self_signed(known_key, name, addresses, now))
    return certificate, key


def _is_due(certificate: x509.Certificate, now: datetime.datetime) -> bool:
    """Tell whether a certificate nears its end, or begins later: the clock was set back."""
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return not begins <= now < ends - RENEWED_BEFORE


def write_private(path: Path, content: bytes) -> None:
    """Write a file of mode 0600, whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(path)


def server_context() -> ssl.SSLContext:
    """Return a context for HTTPS without a certificate yet: TLS 1.2 and 1.3."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def load_certificate(context: ssl.SSLContext, certificate_pem: bytes, key_pem: bytes) -> None:
    """Give a context its certificate and key; connections that exist keep the former one."""
    with _in_memory(certificate_pem) as certificate, _in_memory(key_pem) as key:
        context.load_cert_chain(certificate, key)


@contextlib.contextmanager
def _in_memory(content: bytes) -> Iterator[str]:
    descriptor = os.memfd_create("conclave", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, content)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.ftruncate(descriptor, 0)
        os.close(descriptor)


def _key_usage() -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
