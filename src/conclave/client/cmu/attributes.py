"""Attributes as the owner writes and reads them: their names, and their values as text.

The forms come from the table that the worker checks objects with.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from conclave.client.refusals import misused
from conclave.client.templates import Value, ulong
from conclave.client.tools.faces import printable
from conclave.crypto.standard import UNAVAILABLE_INFORMATION, Cka, Ckc, Ckk, Ckm, Cko, name_of
from conclave.keyring.attributes import SCHEMAS, Kind, kinds

CLASS_NAMES: Final = {
    Cko.DATA: "data",
    Cko.CERTIFICATE: "certificate",
    Cko.PUBLIC_KEY: "publicKey",
    Cko.PRIVATE_KEY: "privateKey",
    Cko.SECRET_KEY: "secretKey",
    Cko.PROFILE: "profile",
}
_CLASSES: Final = {
    **{name.lower(): number for number, name in CLASS_NAMES.items()},
    "public": Cko.PUBLIC_KEY,
    "private": Cko.PRIVATE_KEY,
    "secret": Cko.SECRET_KEY,
}
KEY_TYPES: Final = {
    "rsa": Ckk.RSA,
    "ecdsa": Ckk.EC,
    "ec": Ckk.EC,
    "eddsa": Ckk.EC_EDWARDS,
    "ed25519": Ckk.EC_EDWARDS,
    "x25519": Ckk.EC_MONTGOMERY,
    "montgomery": Ckk.EC_MONTGOMERY,
    "mldsa": Ckk.ML_DSA,
    "aes": Ckk.AES,
    "aesxts": Ckk.AES_XTS,
    "chacha20": Ckk.CHACHA20,
    "generic": Ckk.GENERIC_SECRET,
    "sha1hmac": Ckk.SHA_1_HMAC,
    "sha224hmac": Ckk.SHA224_HMAC,
    "sha256hmac": Ckk.SHA256_HMAC,
    "sha384hmac": Ckk.SHA384_HMAC,
    "sha512hmac": Ckk.SHA512_HMAC,
    "sha512-224hmac": Ckk.SHA512_224_HMAC,
    "sha512-256hmac": Ckk.SHA512_256_HMAC,
    "sha3-256hmac": Ckk.SHA3_256_HMAC,
    "sha3-384hmac": Ckk.SHA3_384_HMAC,
    "sha3-512hmac": Ckk.SHA3_512_HMAC,
}
READABLE: Final = tuple(
    sorted({Cka(number) for schema in SCHEMAS.values() for number in schema.rows})
)
"""Every attribute type that an object may have."""
_TRUE: Final = frozenset({"1", "t", "true"})
_FALSE: Final = frozenset({"0", "f", "false"})
_TEXTS: Final = frozenset({Cka.LABEL, Cka.UNIQUE_ID, Cka.APPLICATION, Cka.URL})


def name_of_attribute(number: Cka) -> str:
    """Return the name of an attribute, as `keyType` for CKA_KEY_TYPE."""
    first, *others = number.name.lower().split("_")
    return first + "".join(word.capitalize() for word in others)


ATTRIBUTE_NAMES: Final = {name_of_attribute(number).lower(): number for number in READABLE}


def attributes_named(text: str) -> tuple[Cka, ...]:
    """Return the attributes of a list parted by commas; raise BadInput naming one unknown."""
    found = []
    for word in text.split(","):
        number = ATTRIBUTE_NAMES.get(word.strip().lower())
        if number is None:
            known = ", ".join(name_of_attribute(each) for each in READABLE)
            raise misused(f"There is no attribute {word.strip()!r}; there are {known}.")
        found.append(number)
    return tuple(found)


def class_named(text: str) -> Cko:
    """Return an object class by its name."""
    try:
        return _CLASSES[text.lower()]
    except KeyError:
        known = ", ".join(_CLASSES)
        raise misused(f"Option -class is one of {known}; it is {text!r}.") from None


def key_type_named(text: str) -> Ckk:
    """Return a key type by its name."""
    try:
        return KEY_TYPES[text.lower()]
    except KeyError:
        known = ", ".join(name.upper() for name in KEY_TYPES)
        raise misused(f"Option -keyType is one of {known}; it is {text!r}.") from None


def boolean(name: str, text: str) -> bool:
    """Return a truth value of 1, 0, T, F."""
    lower = text.lower()
    if lower in _TRUE or lower in _FALSE:
        return lower in _TRUE
    raise misused(f"Option -{name} must be 1, 0, T or F; it is {text!r}.")


def number(name: str, text: str) -> int:
    """Return a whole number."""
    if not re.fullmatch(r"[0-9]{1,15}", text):
        raise misused(f"Option -{name} must be a number; it is {text!r}.")
    return int(text)


def hexadecimal(name: str, text: str) -> bytes:
    """Return bytes of hexadecimal digits."""
    try:
        return bytes.fromhex(text.removeprefix("0x"))
    except ValueError:
        raise misused(f"Option -{name} must be pairs of hexadecimal digits.") from None


def given(values: Mapping[str, str], *names: str) -> dict[int, Value]:
    """Return those of the named options that were given, as values of attributes."""
    found: dict[int, Value] = {}
    for name in names:
        if name in values:
            attribute = ATTRIBUTE_NAMES[name.lower()]
            found[attribute] = _value(name, attribute, values[name])
    return found


def _value(name: str, attribute: Cka, text: str) -> Value:
    form = kinds(attribute)
    if Kind.BOOL in form:
        return boolean(name, text)
    if Kind.DATE in form:
        if not re.fullmatch(r"([0-9]{8})?", text):
            raise misused(f"Option -{name} must be YYYYMMDD; it is {text!r}.")
        return text
    if attribute in _TEXTS:
        return text
    return hexadecimal(name, text)


def shown(attribute: Cka, value: bytes) -> str:
    """Return an attribute's value as text: names where there are names, else hexadecimal."""
    form = kinds(attribute)
    if Kind.BOOL in form:
        return "true" if value == b"\1" else "false"
    if Kind.ULONG in form:
        return _shown_number(attribute, ulong(value))
    if Kind.DATE in form:
        return value.decode("ascii", "replace")
    if attribute in _TEXTS:
        return printable(value.decode("utf-8", "replace"))
    return value.hex()


def _shown_number(attribute: Cka, value: int) -> str:
    if value == UNAVAILABLE_INFORMATION:
        return "unavailable"
    if attribute is Cka.CLASS and value in set(Cko):
        return CLASS_NAMES[Cko(value)]
    if attribute is Cka.KEY_TYPE:
        return name_of(Ckk, value).removeprefix("CKK_")
    if attribute is Cka.CERTIFICATE_TYPE:
        return name_of(Ckc, value).removeprefix("CKC_")
    if attribute is Cka.KEY_GEN_MECHANISM:
        return name_of(Ckm, value)
    return str(value)
