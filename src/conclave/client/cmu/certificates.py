"""Certificates and requests, built by cryptography and signed by a key in the keyring."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Final, TypeVar

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from conclave.client.cmu import extensions
from conclave.client.cmu.attributes import boolean
from conclave.client.refusals import misused
from conclave.client.signing_keys import EcKey, PublicKey, RsaKey, SigningKey

ExtensionT = TypeVar("ExtensionT", bound=x509.ExtensionType)
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


def request(key: SigningKey, subject: x509.Name, values: Mapping[str, str]) -> bytes:
    """Return a PKCS #10 request as PEM, with the extensions that options name."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    for extension, critical in extensions.asked_for(values):
        builder = builder.add_extension(extension, critical=critical)
    return builder.sign(key, hash_for(key, values.get("hash"))).public_bytes(Encoding.PEM)


def self_signed(
    key: SigningKey, subject: x509.Name, values: Mapping[str, str], now: datetime
) -> x509.Certificate:
    """Return a certificate of a key for itself."""
    public = key.public_key()
    first, last = validity(values, now)
    builder = _builder((subject, subject), public, values, (first, last))
    return builder.sign(key, hash_for(key, values.get("hash")))


def certified(
    asked: x509.CertificateSigningRequest,
    issuer: x509.Certificate,
    key: SigningKey,
    values: Mapping[str, str],
    now: datetime,
) -> x509.Certificate:
    """Return a certificate by a CA for whoever made a request; raise BadInput when it may not be.

    Of the request count its subject, key and, unless `-san` or `-copySan` say otherwise, names.
    """
    public = asked.public_key()
    if not isinstance(public, PublicKey):
        raise misused("The request is for a key of a type that is not supported.")
    if not asked.is_signature_valid:
        raise misused("The request's signature is not by the key that it names.")
    _require_issuer(issuer, key, now)
    wanted = extensions.basic_constraints(values)
    _require_room_below(issuer, wanted)
    first, last = _within(issuer, values, now)
    builder = _builder((issuer.subject, asked.subject), public, values, (first, last))
    if "san" not in values and boolean("copySan", values.get("copySan", "T")):
        names = _extension(asked.extensions, x509.SubjectAlternativeName)
        if names is not None:
            builder = builder.add_extension(names, critical=not asked.subject.rdns)
    builder = builder.add_extension(_authority(issuer), critical=False)
    return builder.sign(key, hash_for(key, values.get("hash")))


def _builder(
    names: tuple[x509.Name, x509.Name],
    public: PublicKey,
    values: Mapping[str, str],
    validity_time: tuple[datetime, datetime],
) -> x509.CertificateBuilder:
    (issuer, subject), (first, last) = names, validity_time
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(serial_number(values.get("serialNumber")))
        .not_valid_before(first)
        .not_valid_after(last)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )
    for extension, critical in extensions.of_certificate(values):
        builder = builder.add_extension(extension, critical=critical)
    return builder


def _require_issuer(issuer: x509.Certificate, key: SigningKey, now: datetime) -> None:
    if issuer.public_key() != key.public_key():
        raise misused("The private key is not that of the CA's certificate.")
    constraints = _extension(issuer.extensions, x509.BasicConstraints)
    usage = _extension(issuer.extensions, x509.KeyUsage)
    if constraints is None or not constraints.ca or (usage and not usage.key_cert_sign):
        raise misused(
            "The certificate of -issuerHandle is none of a CA; selfsigncertificate -ca makes one."
        )
    if not issuer.not_valid_before_utc <= now <= issuer.not_valid_after_utc:
        raise misused("The CA's certificate is not valid today.")


def _require_room_below(issuer: x509.Certificate, wanted: x509.BasicConstraints) -> None:
    own = _extension(issuer.extensions, x509.BasicConstraints)
    if not wanted.ca or own is None or own.path_length is None:
        return
    if own.path_length == 0:
        raise misused("The CA's path length is 0: it certifies no other CA.")
    if wanted.path_length is None or wanted.path_length >= own.path_length:
        raise misused(
            f"Option -pathLength must be at most {own.path_length - 1}: the CA's own is"
            f" {own.path_length}."
        )


def _within(
    issuer: x509.Certificate, values: Mapping[str, str], now: datetime
) -> tuple[datetime, datetime]:
    """Return the validity, which lies within the issuer's: by default as much as it leaves."""
    first, last = validity(values, now)
    if "endDate" not in values:
        last = min(last, issuer.not_valid_after_utc)
    if first < issuer.not_valid_before_utc or last > issuer.not_valid_after_utc or last < first:
        raise misused(
            "The validity must lie within that of the CA's certificate:"
            f" {issuer.not_valid_before_utc:%Y%m%d} to {issuer.not_valid_after_utc:%Y%m%d}."
        )
    return first, last


def _authority(issuer: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    own = _extension(issuer.extensions, x509.SubjectKeyIdentifier)
    if own is not None:
        return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own)
    public = issuer.public_key()
    if not isinstance(public, PublicKey):
        raise misused("The CA's key is of a type that signs no certificates.")
    return x509.AuthorityKeyIdentifier.from_issuer_public_key(public)


def _extension(found: x509.Extensions, kind: type[ExtensionT]) -> ExtensionT | None:
    try:
        return found.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


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
    """Return the hash that was asked for, or that is as strong as the key; some have their own."""
    if not isinstance(key, RsaKey | EcKey):
        if name is not None:
            raise misused("Option -hash does not go with such a key, which has its own.")
        return None
    if name is None:
        strong = isinstance(key, ec.EllipticCurvePrivateKey) and key.key_size > 256
        name = ("sha384" if key.key_size == 384 else "sha512") if strong else "sha256"
    if name.lower() not in HASHES:
        raise misused(f"Option -hash is one of {', '.join(HASHES)}; it is {name!r}.")
    return HASHES[name.lower()]


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
