"""Extensions of certificates and requests, from options as `-san=DNS:www.lab.test,IP:10.0.0.1`."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping
from typing import Final

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from conclave.client.cmu.attributes import boolean, number
from conclave.client.refusals import misused

Extensions = list[tuple[x509.ExtensionType, bool]]
"""Extensions in their order, each with whether it is critical."""

_NAME_KINDS: Final[dict[str, Callable[[str], x509.GeneralName]]] = {
    "dns": x509.DNSName,
    "email": x509.RFC822Name,
    "uri": x509.UniformResourceIdentifier,
    "ip": lambda text: x509.IPAddress(ipaddress.ip_address(text)),
}
_USAGES: Final = {
    "digitalsignature": "digital_signature",
    "nonrepudiation": "content_commitment",
    "contentcommitment": "content_commitment",
    "keyencipherment": "key_encipherment",
    "dataencipherment": "data_encipherment",
    "keyagreement": "key_agreement",
    "keycertsign": "key_cert_sign",
    "crlsign": "crl_sign",
    "encipheronly": "encipher_only",
    "decipheronly": "decipher_only",
}
USAGE_NAMES: Final = (
    "digitalSignature",
    "nonRepudiation",
    "keyEncipherment",
    "dataEncipherment",
    "keyAgreement",
    "keyCertSign",
    "cRLSign",
    "encipherOnly",
    "decipherOnly",
)
_PURPOSES: Final = {
    "serverauth": ExtendedKeyUsageOID.SERVER_AUTH,
    "clientauth": ExtendedKeyUsageOID.CLIENT_AUTH,
    "codesigning": ExtendedKeyUsageOID.CODE_SIGNING,
    "emailprotection": ExtendedKeyUsageOID.EMAIL_PROTECTION,
    "timestamping": ExtendedKeyUsageOID.TIME_STAMPING,
    "ocspsigning": ExtendedKeyUsageOID.OCSP_SIGNING,
}
PURPOSE_NAMES: Final = (
    "serverAuth",
    "clientAuth",
    "codeSigning",
    "emailProtection",
    "timeStamping",
    "OCSPSigning",
)
MAX_PATH_LENGTH: Final = 255


def alternative_names(text: str) -> x509.SubjectAlternativeName:
    """Return the names of a list parted by commas; a name without a kind is a DNS name."""
    names = []
    for part in text.split(","):
        kind, colon, name = part.strip().partition(":")
        make = _NAME_KINDS.get(kind.lower()) if colon else x509.DNSName
        if make is None:
            known = "DNS:, IP:, email: and URI:"
            raise misused(f"A name of -san begins with one of {known}; {part.strip()!r} does not.")
        try:
            names.append(make(name if colon else kind))
        except ValueError as cause:
            raise misused(f"Name {part.strip()!r} of -san is not valid: {cause}.") from cause
    if any(not isinstance(name, x509.IPAddress) and not name.value for name in names):
        raise misused("Option -san holds an empty name.")
    return x509.SubjectAlternativeName(names)


def key_usage(text: str) -> x509.KeyUsage:
    """Return the key usage of a list parted by commas."""
    chosen = set()
    for part in text.split(","):
        field = _USAGES.get(part.strip().lower())
        if field is None:
            known = ", ".join(USAGE_NAMES)
            raise misused(f"Option -keyUsage takes {known}; {part.strip()!r} is none of them.")
        chosen.add(field)
    try:
        return x509.KeyUsage(**{field: field in chosen for field in set(_USAGES.values())})
    except ValueError as cause:
        raise misused(f"Option -keyUsage is not valid: {cause}.") from cause


def purposes(text: str) -> x509.ExtendedKeyUsage:
    """Return the extended key usage of a list parted by commas: names or object identifiers."""
    found = []
    for part in text.split(","):
        word = part.strip()
        purpose = _PURPOSES.get(word.lower())
        if purpose is None:
            try:
                purpose = x509.ObjectIdentifier(word)
            except ValueError:
                known = ", ".join(PURPOSE_NAMES)
                message = f"Option -extendedKeyUsage takes {known} or object identifiers, not "
                raise misused(f"{message}{word!r}.") from None
        found.append(purpose)
    return x509.ExtendedKeyUsage(found)


def basic_constraints(values: Mapping[str, str]) -> x509.BasicConstraints:
    """Return whether the subject is a CA, and how many CAs may be below it."""
    ca = boolean("ca", values.get("ca", "F"))
    length = None
    if "pathLength" in values:
        if not ca:
            raise misused("Option -pathLength goes with -ca only.")
        length = number("pathLength", values["pathLength"])
        if length > MAX_PATH_LENGTH:
            raise misused(f"Option -pathLength is at most {MAX_PATH_LENGTH}.")
    return x509.BasicConstraints(ca=ca, path_length=length)


def asked_for(values: Mapping[str, str]) -> Extensions:
    """Return the extensions that options name, for a request."""
    found: Extensions = []
    if "ca" in values or "pathLength" in values:
        found.append((basic_constraints(values), True))
    if "keyUsage" in values:
        found.append((key_usage(values["keyUsage"]), True))
    return [*found, *_names_and_purposes(values)]


def of_certificate(values: Mapping[str, str]) -> Extensions:
    """Return the extensions of a certificate, with what is usual where options say nothing."""
    constraints = basic_constraints(values)
    usual = "digitalSignature,keyCertSign,cRLSign" if constraints.ca else "digitalSignature"
    usage = key_usage(values.get("keyUsage", usual))
    if usage.key_cert_sign and not constraints.ca:
        raise misused("keyCertSign in -keyUsage goes with -ca only.")
    if constraints.ca and not usage.key_cert_sign:
        raise misused("A CA needs keyCertSign in -keyUsage.")
    return [(constraints, True), (usage, True), *_names_and_purposes(values)]


def _names_and_purposes(values: Mapping[str, str]) -> Extensions:
    found: Extensions = []
    if "extendedKeyUsage" in values:
        found.append((purposes(values["extendedKeyUsage"]), False))
    if "san" in values:
        found.append((alternative_names(values["san"]), False))
    return found
