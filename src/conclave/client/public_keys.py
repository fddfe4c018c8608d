"""Public keys and certificates between cryptography's objects and attributes of a keyring."""

from __future__ import annotations

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, mldsa, rsa, x448, x25519
from cryptography.hazmat.primitives.asymmetric.types import (
    CertificatePublicKeyTypes,
    PublicKeyTypes,
)
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_public_key,
    load_pem_public_key,
)

from conclave import faults
from conclave.client.templates import Value
from conclave.crypto.curves import CURVES, EDWARDS, octet_string
from conclave.crypto.lattices import ML_DSA
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
)


def public_key_in(info: bytes | None) -> PublicKeyOfPair:
    """Return the public key in CKA_PUBLIC_KEY_INFO; raise BadInput when there is none."""
    if not info:
        message = "The object is no key of a pair, so it has no public key."
        raise BadInput(faults.KEY_HANDLE_INVALID, message)
    try:
        return _supported(load_der_public_key(info))
    except ValueError as cause:
        message = f"The public key of the object cannot be read: {cause}."
        raise BadInput(faults.KEY_HANDLE_INVALID, message) from cause


def public_key_of_file(content: bytes) -> PublicKeyOfPair:
    """Return the public key in a file, PEM or DER; raise BadInput when there is none."""
    if b"PRIVATE KEY-----" in content:
        message = "The file holds a private key where a public key is expected."
        raise BadInput(faults.BAD_REQUEST, message)
    pem = content.lstrip().startswith(b"-----BEGIN ")
    try:
        return _supported(load_pem_public_key(content) if pem else load_der_public_key(content))
    except ValueError as cause:
        message = "The file holds no public key that is known."
        raise BadInput(faults.BAD_REQUEST, message) from cause


def certificate_of_file(content: bytes) -> x509.Certificate:
    """Return the certificate in a file, PEM or DER; raise BadInput when there is none."""
    pem = content.lstrip().startswith(b"-----BEGIN ")
    try:
        load = x509.load_pem_x509_certificate if pem else x509.load_der_x509_certificate
        return load(content)
    except ValueError as cause:
        raise BadInput(faults.BAD_REQUEST, "The file holds no certificate.") from cause


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
    """Return the token object that holds a certificate."""
    return {
        Cka.CLASS: Cko.CERTIFICATE,
        Cka.CERTIFICATE_TYPE: Ckc.X_509,
        Cka.TOKEN: True,
        Cka.PRIVATE: False,
        Cka.LABEL: label,
        Cka.ID: identifier,
        Cka.SUBJECT: certificate.subject.public_bytes(),
        Cka.ISSUER: certificate.issuer.public_bytes(),
        Cka.SERIAL_NUMBER: der_integer(certificate.serial_number),
        Cka.VALUE: certificate.public_bytes(Encoding.DER),
    }


def der_integer(number: int) -> bytes:
    """Return the DER of an INTEGER from 0 to 2^1000: the form of CKA_SERIAL_NUMBER."""
    content = number.to_bytes(number.bit_length() // 8 + 1)
    return bytes((2, len(content))) + content


def key_identifier(key: CertificatePublicKeyTypes) -> bytes:
    """Return the SHA-1 of a public key: what CKA_ID is when none was given (RFC 5280, 4.2.1.2)."""
    return x509.SubjectKeyIdentifier.from_public_key(key).digest


def _supported(key: PublicKeyTypes) -> PublicKeyOfPair:
    if isinstance(key, PublicKeyOfPair):
        return key
    message = f"Public keys of this type are not supported: {type(key).__name__}."
    raise BadInput(faults.BAD_REQUEST, message)


def _material(key: PublicKeyOfPair) -> dict[int, Value]:
    if isinstance(key, rsa.RSAPublicKey):
        numbers = key.public_numbers()
        return {
            Cka.KEY_TYPE: Ckk.RSA,
            Cka.MODULUS: numbers.n.to_bytes((numbers.n.bit_length() + 7) // 8),
            Cka.PUBLIC_EXPONENT: numbers.e.to_bytes((numbers.e.bit_length() + 7) // 8),
        }
    if isinstance(key, ed25519.Ed25519PublicKey | ed448.Ed448PublicKey):
        (row,) = (row for row in EDWARDS if isinstance(key, row.public))
        return _on_curve(Ckk.EC_EDWARDS, row.params, key.public_bytes_raw())
    for lattice in ML_DSA:
        if isinstance(key, lattice.public):
            return {
                Cka.KEY_TYPE: Ckk.ML_DSA,
                Cka.PARAMETER_SET: lattice.number,
                Cka.VALUE: key.public_bytes_raw(),
            }
    if not isinstance(key, ec.EllipticCurvePublicKey):
        message = f"Public keys of this type are not supported: {type(key).__name__}."
        raise BadInput(faults.BAD_REQUEST, message)
    params = next((row.params for row in CURVES if row.curve.name == key.curve.name), None)
    if params is None:
        message = f"Curve {key.curve.name} is not supported."
        raise BadInput(faults.BAD_REQUEST, message)
    return _on_curve(Ckk.EC, params, point_of(key))


def _on_curve(kind: Ckk, params: bytes, point: bytes) -> dict[int, Value]:
    return {Cka.KEY_TYPE: kind, Cka.EC_PARAMS: params, Cka.EC_POINT: octet_string(point)}
