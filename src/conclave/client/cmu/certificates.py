"""Certificates and requests, built by cryptography and signed by a key in the keyring."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from conclave.client.refusals import misused
from conclave.client.signing_keys import Ed25519Key, SigningKey

SUBJECT_PARTS: Final = {
    "C": NameOID.COUNTRY_NAME,
    "S": NameOID.STATE_OR_PROVINCE_NAME,
    "L": NameOID.LOCALITY_NAME,
    "O": NameOID.ORGANIZATION_NAME,
    "OU": NameOID.ORGANIZATIONAL_UNIT_NAME,
    "CN": NameOID.COMMON_NAME,
    "E": NameOID.EMAIL_ADDRESS,
}
HASHES: Final[dict[str, hashes.SHA256 | hashes.SHA384 | hashes.SHA512]] = {
    "sha256": hashes.SHA256(),
    "sha384": hashes.SHA384(),
    "sha512": hashes.SHA512(),
}
DEFAULT_LIFE: Final = timedelta(days=365)
MAX_SERIAL_BYTES: Final = 20
"""RFC 5280, 4.1.2.2."""


def subject_of(parts: Mapping[str, str]) -> x509.Name:
    """Return the name of these parts; empty ones are left out. Raises BadInput for none."""
    attributes = []
    for part, identifier in SUBJECT_PARTS.items():
        if parts.get(part):
            try:
                attributes.append(x509.NameAttribute(identifier, parts[part]))
            except ValueError as cause:
                raise misused(f"Option -{part} is not valid: {cause}.") from cause
    if not attributes:
        raise misused("A subject needs at least one of -C, -S, -L, -O, -OU, -CN, -E.")
    return x509.Name(attributes)


def request(key: SigningKey, subject: x509.Name, hash_name: str | None) -> bytes:
    """Return a PKCS #10 request as PEM."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    return builder.sign(key, hash_for(key, hash_name)).public_bytes(Encoding.PEM)


def self_signed(
    key: SigningKey,
    subject: x509.Name,
    values: Mapping[str, str],
    *,
    ca: bool,
    now: datetime,
) -> x509.Certificate:
    """Return a certificate of a key for itself; `values` holds hash, serialNumber and dates."""
    first, last = validity(values, now)
    public = key.public_key()
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(public)
        .serial_number(serial_number(values.get("serialNumber")))
        .not_valid_before(first)
        .not_valid_after(last)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(_usage(ca=ca), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )
    return builder.sign(key, hash_for(key, values.get("hash")))


def validity(values: Mapping[str, str], now: datetime) -> tuple[datetime, datetime]:
    """Return the first and last moment, by default from now for DEFAULT_LIFE; raise BadInput."""
    first = _day("startDate", values.get("startDate")) or now
    last = _day("endDate", values.get("endDate")) or first + DEFAULT_LIFE
    if last < first:
        raise misused("Option -endDate must not be before the first day.")
    return first, last


def hash_for(
    key: SigningKey, name: str | None
) -> hashes.SHA256 | hashes.SHA384 | hashes.SHA512 | None:
    """Return the hash that was asked for, or that is as strong as the key; Ed25519 has its own."""
    if isinstance(key, Ed25519Key):
        if name is not None:
            raise misused("Option -hash does not go with an Ed25519 key, which has its own.")
        return None
    if name is None:
        strong = isinstance(key, ec.EllipticCurvePrivateKey) and key.key_size > 256
        name = ("sha384" if key.key_size == 384 else "sha512") if strong else "sha256"
    if name.lower() not in HASHES:
        raise misused(f"Option -hash is one of {', '.join(HASHES)}; it is {name!r}.")
    return HASHES[name.lower()]


def _usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=ca,
        crl_sign=ca,
        encipher_only=False,
        decipher_only=False,
    )


def _day(name: str, text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        return datetime.strptime(text, "%Y%m%d").replace(tzinfo=UTC)
    except ValueError:
        raise misused(f"Option -{name} must be YYYYMMDD; it is {text!r}.") from None


def serial_number(text: str | None) -> int:
    """Return the serial number that was asked for, or a random one."""
    if text is None:
        return x509.random_serial_number()
    try:
        number = int(text, 16)
    except ValueError:
        number = 0
    if not 0 < number < 1 << (8 * MAX_SERIAL_BYTES - 1):
        raise misused(f"Option -serialNumber must be hexadecimal, 1 to {MAX_SERIAL_BYTES} bytes.")
    return number
