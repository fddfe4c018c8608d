"""The cluster's certificate authority.

Invariant: certificates are dated by the appliance clock, never by the host's (rule T1), and back-
dated one hour, so that a small correction of the clock does not make them invalid (rule T2).  A
certificate proves nothing by itself: peers are accepted by the keys that the store lists (C3).
"""

from __future__ import annotations

import hashlib
import ipaddress
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_private_key,
    load_der_public_key,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from conclave import faults
from conclave.errors import BadInput, Conflict, InternalFault
from conclave.ids import ClientId, ClusterId, MemberId

BACK_DATED: Final = timedelta(hours=1)
CA_LIFE: Final = timedelta(days=3653)
MEMBER_LIFE: Final = timedelta(days=1096)
CLIENT_LIFE: Final = timedelta(days=1826)
RENEW_BEFORE_END: Final = timedelta(days=365)
MAX_REQUEST_BYTES: Final = 16_384
MAX_NAME_BYTES: Final = 64
"""X.520 gives a common name 64 characters; the certificate library counts bytes."""
_EC_CURVES: Final = (ec.SECP256R1, ec.SECP384R1)
_RSA_BITS: Final = range(2048, 4097)
_MAX_RSA_EXPONENT: Final = 1 << 32
"""Verifying takes time that grows with the exponent: a request comes from strangers."""


@dataclass(frozen=True, slots=True)
class ClientRequest:
    """What a checked certificate request asks for."""

    common_name: str
    public_key: CertificatePublicKeyTypes

    @property
    def key_sha256(self) -> bytes:
        """Return the hash that the store lists a client by."""
        return key_sha256(spki_der(self.public_key))


@dataclass(frozen=True, slots=True)
class UnprovenRequest:
    """A request that is well-formed; whether it is of the key's owner was not looked at yet."""

    client: ClientRequest
    signed: x509.CertificateSigningRequest

    def proven(self) -> ClientRequest:
        """Return what is asked for once the key has signed it; raise BadInput."""
        try:
            if not self.signed.is_signature_valid:
                _refuse("is not signed by its own key")
        except (ValueError, UnsupportedAlgorithm, InvalidSignature) as error:
            raise _refusal(f"cannot be read: {error}") from error
        return self.client


class CertificateAuthority:
    """The cluster's CA with its private key."""

    def __init__(self, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> None:
        self._key = key
        self.certificate = certificate

    @classmethod
    def create(cls, cluster_id: ClusterId, label: str, now: datetime) -> CertificateAuthority:
        """Make a new CA: P-256, ten years."""
        key = ec.generate_private_key(ec.SECP256R1())
        text = f"Conclave cluster {label}".encode()[:MAX_NAME_BYTES].decode(errors="ignore")
        name = _name(text, cluster_id)
        return cls._of(key, name, now)

    @classmethod
    def _of(
        cls, key: ec.EllipticCurvePrivateKey, name: x509.Name, now: datetime
    ) -> CertificateAuthority:
        builder = _authority_builder(name, key.public_key(), now, now + CA_LIFE)
        return cls(key, builder.sign(key, SHA256()))

    def successor(self, now: datetime) -> CertificateAuthority:
        """Make the next version of this CA: another key under the same name.

        The same name makes the cross-certificate a self-issued one, which no path length counts.
        """
        return self._of(ec.generate_private_key(ec.SECP256R1()), self.certificate.subject, now)

    def certify_successor(self, successor: CertificateAuthority, now: datetime) -> x509.Certificate:
        """Certify the key of the next version, for those who know this one only."""
        end = min(self.certificate.not_valid_after_utc, successor.certificate.not_valid_after_utc)
        key = successor.certificate.public_key()
        builder = _authority_builder(self.certificate.subject, key, now, end)
        return builder.add_extension(self._key_identifier(), False).sign(self._key, SHA256())

    def issued(self, certificate: x509.Certificate) -> bool:
        """Tell whether this version of the CA, and no other one, made a certificate."""
        try:
            certificate.verify_directly_issued_by(self.certificate)
        except (ValueError, TypeError, InvalidSignature):
            return False
        return True

    @classmethod
    def load(cls, key_pkcs8: bytes, certificate_der: bytes) -> CertificateAuthority:
        """Load a CA that `key_pkcs8` returned."""
        key = load_der_private_key(key_pkcs8, None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise InternalFault(faults.INTERNAL, "The cluster's CA key is not an EC key.")
        return cls(key, x509.load_der_x509_certificate(certificate_der))

    def key_pkcs8(self) -> bytes:
        """Return the private key in the clear, to be sealed at once."""
        return self._key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())

    def certify_member(
        self,
        spki: bytes,
        member_id: MemberId,
        *,
        common_name: str,
        other_names: Sequence[str],
        now: datetime,
    ) -> x509.Certificate:
        """Certify a member's key under the fixed server name; it may serve and connect."""
        names = x509.SubjectAlternativeName(_general_names([common_name, *other_names]))
        return self._member(load_spki(spki), _name(common_name, member_id), names, now)

    def certify_again(self, former: x509.Certificate, now: datetime) -> x509.Certificate:
        """Certify the key of a member's certificate once more, under the names that it has."""
        names = former.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return self._member(former.public_key(), former.subject, names, now)

    def _member(
        self,
        key: CertificatePublicKeyTypes,
        name: x509.Name,
        names: x509.SubjectAlternativeName,
        now: datetime,
    ) -> x509.Certificate:
        builder = self._leaf(key, name, now, MEMBER_LIFE)
        usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        builder = builder.add_extension(names, False)
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), False)
        return builder.sign(self._key, SHA256())

    def certify_client(
        self, request: ClientRequest, client_id: ClientId, now: datetime
    ) -> x509.Certificate:
        """Certify a client's key; the client's id stands in the certificate."""
        identity = UUID(bytes=bytes(client_id))
        name = _name(request.common_name, str(identity))
        builder = self._leaf(request.public_key, name, now, CLIENT_LIFE)
        names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(identity.urn)])
        builder = builder.add_extension(names, False)
        usages = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
        builder = builder.add_extension(usages, False)
        return builder.sign(self._key, SHA256())

    def _leaf(
        self, key: CertificatePublicKeyTypes, name: x509.Name, now: datetime, life: timedelta
    ) -> x509.CertificateBuilder:
        end = min(now + life, self.certificate.not_valid_after_utc)
        builder = _builder(name, self.certificate.subject, key, now, end)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), True)
        builder = builder.add_extension(_key_usage(ca=False), True)
        return builder.add_extension(self._key_identifier(), False)

    @property
    def key_identifier(self) -> bytes:
        """Return what tells this version of the CA from the others, as `issuer_of` returns it."""
        return self._key_identifier().key_identifier or b""

    def _key_identifier(self) -> x509.AuthorityKeyIdentifier:
        # Versions of a CA have one name: this tells which of them has issued a certificate.
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())


def read_client_request(pem: str) -> ClientRequest:
    """Check a PEM certificate request; raise BadInput naming the broken rule."""
    return unproven_client_request(pem).proven()


def unproven_client_request(pem: str) -> UnprovenRequest:
    """Check all of a PEM certificate request but its signature; raise BadInput."""
    if len(pem) > MAX_REQUEST_BYTES:
        _refuse(f"has {len(pem)} characters; {MAX_REQUEST_BYTES} are allowed")
    try:
        request = x509.load_pem_x509_csr(pem.encode())
        key = request.public_key()
        _check_key(key)
    except (ValueError, UnsupportedAlgorithm, InvalidSignature) as error:
        raise _refusal(f"cannot be read: {error}") from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a name that is refused below
        names = request.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    if len(names) != 1:
        _refuse(f"must have one common name; it has {len(names)}")
    common_name = str(names[0].value)
    size = len(common_name.encode("utf-8", "surrogatepass"))
    if not 1 <= size <= MAX_NAME_BYTES or not common_name.isprintable():
        rule = f"must have a common name of 1 to {MAX_NAME_BYTES} printable bytes"
        _refuse(f"{rule}, not {common_name!r}")
    return UnprovenRequest(ClientRequest(common_name, key), request)


def _check_key(key: object) -> None:
    if isinstance(key, ec.EllipticCurvePublicKey):
        if not isinstance(key.curve, _EC_CURVES):
            _refuse(f"must have a P-256 or P-384 key, not one on {key.curve.name}")
    elif isinstance(key, rsa.RSAPublicKey):
        if key.key_size not in _RSA_BITS:
            low, high = _RSA_BITS.start, _RSA_BITS.stop - 1
            _refuse(f"must have an RSA key of {low} to {high} bits, not {key.key_size}")
        if key.public_numbers().e > _MAX_RSA_EXPONENT:
            _refuse("must have an RSA key whose public exponent is at most 2^32")
    else:
        _refuse("must have an EC or RSA key")


def _refusal(rule: str) -> BadInput:
    return BadInput(faults.CLIENT_CERTIFICATE_REQUEST, f"The certificate request {rule}.")


def _refuse(rule: str) -> None:
    raise _refusal(rule)


def check_validity(certificate: x509.Certificate, now: datetime, what: str) -> None:
    """Raise Conflict when `now` is outside a certificate's validity, saying by how much."""
    if is_valid(certificate, now):
        return
    start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    distance = start - now if now < start else now - end
    side = "begins" if now < start else "ended"
    word = "from now" if now < start else "ago"
    limit = start if now < start else end
    message = (
        f"The validity of the {what} certificate {side} {_duration(distance)} {word}, at"
        f" {limit:%Y-%m-%d %H:%M:%S} UTC; the appliance clock says {now:%Y-%m-%d %H:%M:%S} UTC."
        " Set the appliance's time."
    )
    raise Conflict(faults.CERTIFICATE_VALIDITY, message)


def is_valid(certificate: x509.Certificate, now: datetime) -> bool:
    """Tell whether `now` lies inside a certificate's validity."""
    return certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc


def is_fresh(certificate: x509.Certificate, now: datetime) -> bool:
    """Tell whether a member's certificate need not be renewed yet."""
    return (
        certificate.not_valid_before_utc
        <= now
        < certificate.not_valid_after_utc - (RENEW_BEFORE_END)
    )


def key_sha256(spki: bytes) -> bytes:
    """Return the hash of a SubjectPublicKeyInfo, by which keys are listed."""
    return hashlib.sha256(spki).digest()


def spki_der(key: CertificatePublicKeyTypes) -> bytes:
    """Return a public key as SubjectPublicKeyInfo."""
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def spki_of_key(key_pem: bytes) -> bytes:
    """Return the public half of a member's private key as SubjectPublicKeyInfo."""
    public = load_pem_private_key(key_pem, None).public_key()
    return public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def issuer_of(certificate: x509.Certificate) -> bytes:
    """Return the key identifier of the CA that has issued a certificate, b"" if it names none."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier)
    except x509.ExtensionNotFound:
        return b""
    return found.value.key_identifier or b""


def load_spki(spki: bytes) -> CertificatePublicKeyTypes:
    """Load a public key; raise BadInput when it is none that a certificate may hold."""
    try:
        key = load_der_public_key(spki)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise BadInput(faults.BAD_REQUEST, "The member's public key cannot be read.") from error
    if not isinstance(key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey):
        raise BadInput(faults.BAD_REQUEST, "A member's key must be an EC or RSA key.")
    return key


def pem(certificate_der: bytes) -> str:
    """Return a certificate as PEM."""
    certificate = x509.load_der_x509_certificate(certificate_der)
    return certificate.public_bytes(Encoding.PEM).decode()


def pems(certificates_der: Iterable[bytes]) -> str:
    """Return certificates as PEM, one after another."""
    return "".join(pem(each) for each in certificates_der)


def der(certificate: x509.Certificate) -> bytes:
    """Return a certificate as DER."""
    return certificate.public_bytes(Encoding.DER)


def _authority_builder(
    name: x509.Name, key: CertificatePublicKeyTypes, now: datetime, end: datetime
) -> x509.CertificateBuilder:
    builder = _builder(name, name, key, now, end)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
    return builder.add_extension(_key_usage(ca=True), True)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: CertificatePublicKeyTypes,
    now: datetime,
    end: datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now.astimezone(UTC) - BACK_DATED)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), False)
    )


def _name(common_name: str, serial: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
            x509.NameAttribute(NameOID.SERIAL_NUMBER, serial),
        ]
    )


def _key_usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=ca,
        crl_sign=ca,
        encipher_only=False,
        decipher_only=False,
    )


def _general_names(names: Iterable[str]) -> list[x509.GeneralName]:
    found: dict[str, x509.GeneralName] = {}
    for name in names:
        try:
            found[name] = x509.IPAddress(ipaddress.ip_address(name))
        except ValueError:
            found[name] = x509.DNSName(name)
    return list(found.values())


def _duration(span: timedelta) -> str:
    seconds = int(span.total_seconds())
    days, rest = divmod(seconds, 86_400)
    hours, rest = divmod(rest, 3600)
    minutes, seconds = divmod(rest, 60)
    parts = ((days, "d"), (hours, "h"), (minutes, "min"), (seconds, "s"))
    return " ".join(f"{number} {unit}" for number, unit in parts if number) or "less than 1 s"
