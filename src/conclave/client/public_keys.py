"""Public keys and certificates between cryptography's objects and attributes of a keyring."""

from __future__ import annotations

from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import (
    ec,
    ed448,
    ed25519,
    mldsa,
    mlkem,
    rsa,
    x448,
    x25519,
)
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_public_key,
    load_pem_public_key,
)

from conclave import faults
from conclave.client.templates import Value
from conclave.crypto.curves import CURVES, OCTET_CURVES, octet_string
from conclave.crypto.lattices import LATTICES
from conclave.crypto.standard import Cka, Ckc, Ckk, Cko
from conclave.errors import BadInput

PublicKeyOfPair = (
    rsa.RSAPublicKey
    | ec.EllipticCurvePublicKey
    | ed25519.Ed25519PublicKey
    | ed448.Ed448PublicKey
    | x25519.X25519PublicKey
    | x448.X448PublicKey
    | mldsa.MLDSA44PublicKey
    | mldsa.MLDSA65PublicKey
    | mldsa.MLDSA87PublicKey
    | mlkem.MLKEM768PublicKey
    | mlkem.MLKEM1024PublicKey
)
UNREADABLE: Final = (
    ValueError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)
"""What cryptography raises for content that it makes nothing of."""
_PRIVATE_MARK: Final = b"PRIVATE KEY-----"


def public_key_in(info: bytes | None) -> PublicKeyOfPair:
    """Return the public key in CKA_PUBLIC_KEY_INFO; raise BadInput when there is none."""
    if not info:
        message = "The object is no key of a pair, so it has no public key."
        raise BadInput(faults.KEY_HANDLE_INVALID, message)
    key = read_public_key(info)
    if key is None:
        message = "The public key of the object cannot be read: its type is not known."
        raise BadInput(faults.KEY_HANDLE_INVALID, message)
    return key


def public_key_of_file(content: bytes) -> PublicKeyOfPair:
    """Return the public key in a file, PEM or DER; raise BadInput when there is none."""
    if holds_private_key(content):
        message = "The file holds a private key where a public key is expected."
        raise BadInput(faults.BAD_REQUEST, message)
    key = read_public_key(content)
    if key is None:
        raise BadInput(faults.BAD_REQUEST, "The file holds no public key that is known.")
    return key


def certificate_of_file(content: bytes) -> x509.Certificate:
    """Return the certificate in a file, PEM or DER; raise BadInput when there is none."""
    certificate = read_certificate(content)
    if certificate is None:
        raise BadInput(faults.BAD_REQUEST, "The file holds no certificate.")
    return certificate


def holds_private_key(content: bytes) -> bool:
    """Tell whether this is the PEM of a private key."""
    return _PRIVATE_MARK in content


def is_pem(content: bytes) -> bool:
    """Tell PEM from DER."""
    return content.lstrip().startswith(b"-----BEGIN ")


def read_public_key(content: bytes) -> PublicKeyOfPair | None:
    """Return the public key in PEM or DER, or None when it holds none that is known."""
    try:
        key = load_pem_public_key(content) if is_pem(content) else load_der_public_key(content)
    except UNREADABLE:
        return None
    return key if isinstance(key, PublicKeyOfPair) else None


def read_certificate(content: bytes) -> x509.Certificate | None:
    """Return the certificate in PEM or DER, or None when it holds none."""
    pem = is_pem(content)
    try:
        load = x509.load_pem_x509_certificate if pem else x509.load_der_x509_certificate
        return load(content)
    except UNREADABLE:
        return None


def point_of(key: PublicKeyOfPair) -> bytes:
    """Return a public key as CK_ECDH1_DERIVE_PARAMS takes it; raise BadInput for other types."""
    if isinstance(key, ec.EllipticCurvePublicKey):
        return key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    if isinstance(key, x25519.X25519PublicKey | x448.X448PublicKey):
        return key.public_bytes_raw()
    message = f"No key is agreed with a {type(key).__name__}."
    raise BadInput(faults.BAD_REQUEST, message)


def public_key_template(
    key: PublicKeyOfPair, label: str, identifier: bytes | None
) -> dict[int, Value]:
    """Return the token object of a public key; raise BadInput for a type that is not supported."""
    return {
        Cka.CLASS: Cko.PUBLIC_KEY,
        Cka.TOKEN: True,
        Cka.LABEL: label,
        Cka.ID: identifier if identifier is not None else key_identifier(key),
        **_material(key),
    }


def certificate_template(
    certificate: x509.Certificate, label: str, identifier: bytes
) -> dict[int, Value]:
    """Return the token object that holds a certificate; raise BadInput for unreadable names."""
    try:
        subject, issuer = certificate.subject, certificate.issuer
    except ValueError as cause:
        message = "The names of the certificate cannot be read."
        raise BadInput(faults.BAD_REQUEST, message) from cause
    return {
        Cka.CLASS: Cko.CERTIFICATE,
        Cka.CERTIFICATE_TYPE: Ckc.X_509,
        Cka.TOKEN: True,
        Cka.PRIVATE: False,
        Cka.LABEL: label,
        Cka.ID: identifier,
        Cka.SUBJECT: subject.public_bytes(),
        Cka.ISSUER: issuer.public_bytes(),
        Cka.SERIAL_NUMBER: der_integer(certificate.serial_number),
        Cka.VALUE: certificate.public_bytes(Encoding.DER),
    }


def der_integer(number: int) -> bytes:
    """Return the DER of an INTEGER from 0 to 2^1000: the form of CKA_SERIAL_NUMBER."""
    content = number.to_bytes(number.bit_length() // 8 + 1)
    return bytes((2, len(content))) + content


def certificate_identifier(certificate: x509.Certificate) -> bytes:
    """Return the SHA-1 of a certificate's key, or nothing for a type of key that is not known."""
    try:
        return key_identifier(certificate.public_key())
    except UNREADABLE:
        return b""


def key_identifier(key: CertificatePublicKeyTypes) -> bytes:
    """Return the SHA-1 of a public key: what CKA_ID is when none was given (RFC 5280, 4.2.1.2)."""
    return x509.SubjectKeyIdentifier.from_public_key(key).digest


def _material(key: PublicKeyOfPair) -> dict[int, Value]:
    if isinstance(key, rsa.RSAPublicKey):
        numbers = key.public_numbers()
        return {
            Cka.KEY_TYPE: Ckk.RSA,
            Cka.MODULUS: numbers.n.to_bytes((numbers.n.bit_length() + 7) // 8),
            Cka.PUBLIC_EXPONENT: numbers.e.to_bytes((numbers.e.bit_length() + 7) // 8),
        }
    if isinstance(key, ec.EllipticCurvePublicKey):
        return _on_curve(Ckk.EC, _params_of(key), point_of(key))
    for kind, curves in OCTET_CURVES.items():
        for curve in curves:
            if isinstance(key, curve.public):
                return _on_curve(Ckk(kind), curve.params, key.public_bytes_raw())
    for kind, lattices in LATTICES.items():
        for lattice in lattices:
            if isinstance(key, lattice.public):
                return {
                    Cka.KEY_TYPE: kind,
                    Cka.PARAMETER_SET: lattice.number,
                    Cka.VALUE: key.public_bytes_raw(),
                }
    message = f"Public keys of this type are not supported: {type(key).__name__}."
    raise BadInput(faults.BAD_REQUEST, message)


def _params_of(key: ec.EllipticCurvePublicKey) -> bytes:
    params = next((row.params for row in CURVES if row.curve.name == key.curve.name), None)
    if params is None:
        message = f"Curve {key.curve.name} is not supported."
        raise BadInput(faults.BAD_REQUEST, message)
    return params


def _on_curve(kind: Ckk, params: bytes, point: bytes) -> dict[int, Value]:
    return {Cka.KEY_TYPE: kind, Cka.EC_PARAMS: params, Cka.EC_POINT: octet_string(point)}
