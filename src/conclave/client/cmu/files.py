"""Certificates and public keys between files and token objects."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from conclave.client.public_keys import (
    UNREADABLE,
    certificate_identifier,
    certificate_template,
    holds_private_key,
    is_pem,
    public_key_in,
    public_key_template,
    read_certificate,
    read_public_key,
)
from conclave.client.refusals import misused
from conclave.client.session import KeyringSession
from conclave.client.templates import Value, ulong
from conclave.crypto.standard import Cka, Cko

MAX_FILE_BYTES = 60_000
"""An attribute holds no more."""
_NO_CERTIFICATE = "The object holds no certificate that can be read."


def read_file(name: str) -> bytes:
    """Return a file's content; raise BadInput naming the file."""
    try:
        with Path(name).open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as cause:
        raise misused(f"File {name!r} cannot be read: {cause.strerror}.") from cause
    if len(content) > MAX_FILE_BYTES:
        raise misused(f"File {name!r} is longer than {MAX_FILE_BYTES} bytes.")
    return content


def write_file(name: str, content: bytes) -> None:
    """Write a file anew: none of that name is replaced, and none is left half written."""
    try:
        descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    except OSError as cause:
        raise misused(f"File {name!r} cannot be written: {cause.strerror}.") from cause
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
    except OSError as cause:
        Path(name).unlink(missing_ok=True)
        raise misused(f"File {name!r} cannot be written: {cause.strerror}.") from cause


def require_new_file(name: str) -> None:
    """Return when a file can be written anew there; else raise BadInput before anything is done."""
    if os.path.lexists(name):
        raise misused(f"File {name!r} is there already.")
    if not Path(name).absolute().parent.is_dir():
        raise misused(f"File {name!r} cannot be written: its directory is not there.")


def exported(session: KeyringSession, reference: bytes) -> bytes:
    """Return a certificate, or a key's public half, as PEM; raise BadInput for other objects."""
    wanted = [Cka.CLASS, Cka.VALUE, Cka.PUBLIC_KEY_INFO]
    found = session.attributes(reference, wanted)
    klass = ulong(found[Cka.CLASS])
    if klass == Cko.CERTIFICATE:
        return _certificate_in(found).public_bytes(Encoding.PEM)
    if klass not in {Cko.PUBLIC_KEY, Cko.PRIVATE_KEY}:
        raise misused("Only certificates and public keys are exported.")
    key = public_key_in(found[Cka.PUBLIC_KEY_INFO])
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def imported(content: bytes, label: str, identifier: bytes | None) -> dict[int, Value]:
    """Return the token object of a certificate or public key, PEM or DER; raise BadInput."""
    if holds_private_key(content):
        raise misused("The file holds a private key, which importkey takes.")
    certificate = read_certificate(content)
    if certificate is not None:
        return stored_certificate(certificate, label, identifier)
    key = read_public_key(content)
    if key is None:
        raise misused("The file holds no certificate and no public key that is known.")
    return public_key_template(key, label, identifier)


def stored_certificate(
    certificate: x509.Certificate, label: str, identifier: bytes | None
) -> dict[int, Value]:
    """Return the token object of a certificate; by default its CKA_ID is its key's hash."""
    if identifier is None:
        identifier = certificate_identifier(certificate)
    return certificate_template(certificate, label, identifier)


def read_request(content: bytes) -> x509.CertificateSigningRequest:
    """Return a certificate request, PEM or DER; raise BadInput for what cannot be read."""
    load = x509.load_pem_x509_csr if is_pem(content) else x509.load_der_x509_csr
    try:
        request = load(content)
        request.public_key(), request.subject, request.extensions, request.is_signature_valid
    except UNREADABLE as cause:
        raise misused("The file holds no certificate request that can be read.") from cause
    return request


def certificate_of(session: KeyringSession, reference: bytes) -> x509.Certificate:
    """Return the certificate of an object, all of it readable; raise BadInput for another."""
    found = session.attributes(reference, [Cka.CLASS, Cka.VALUE])
    if ulong(found[Cka.CLASS]) != Cko.CERTIFICATE:
        raise misused(_NO_CERTIFICATE)
    certificate = _certificate_in(found)
    try:
        certificate.public_key(), certificate.subject, certificate.extensions
    except UNREADABLE as cause:
        raise misused(_NO_CERTIFICATE) from cause
    return certificate


def _certificate_in(found: Mapping[int, bytes | None]) -> x509.Certificate:
    certificate = read_certificate(found[Cka.VALUE] or b"")
    if certificate is None:
        raise misused(_NO_CERTIFICATE)
    return certificate
