"""The attributes of objects as a table: who may set which, and which are never revealed.

An object is a dictionary from attribute type to value.  Values have the wire's form: CK_ULONG is 8
bytes little endian, CK_BBOOL one byte, CK_DATE 8 digits or nothing, big integers big endian
without leading zeros.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

import msgspec

from conclave.crypto.faults import refused
from conclave.crypto.standard import UNAVAILABLE_INFORMATION, Cka, Ckc, Ckk, Cko, name_of
from conclave.errors import Ckr

Attributes = dict[int, bytes]
"""One object: attribute type → value."""

TRUE: Final = b"\x01"
FALSE: Final = b"\x00"
ULONG_BYTES: Final = 8
DATE_DIGITS: Final = 8
MAX_INNER_ATTRIBUTES: Final = 32
"""In CKA_WRAP_TEMPLATE and its like."""


class Kind(enum.Enum):
    """The form of an attribute's value."""

    BOOL = "CK_BBOOL"
    ULONG = "CK_ULONG"
    BYTES = "bytes"
    BIG_INTEGER = "big integer"
    DATE = "CK_DATE"
    MECHANISMS = "array of mechanisms"
    TEMPLATE = "array of attributes"


class Rule(enum.IntFlag):
    """What the standard's footnotes to its attribute tables say, one bit each."""

    NONE = 0
    CREATE_NEEDS = 1
    """Must be given to C_CreateObject (footnote 1)."""
    MATERIAL = 2
    """May be given to C_CreateObject only: generation makes it (footnote 4)."""
    OWNED = 4
    """Only the token sets it (footnotes 2, 4 and 6)."""
    SECRET = 8
    """Revealed only while CKA_SENSITIVE is false and CKA_EXTRACTABLE true (footnote 7)."""
    MODIFIABLE = 16
    """May change later (footnote 8)."""
    COPY = 32
    """May change while the object is copied, not later."""
    ONLY_UP = 64
    """Stays true once it is true (footnote 11)."""
    ONLY_DOWN = 128
    """Stays false once it is false (footnote 12)."""
    SECURITY_OFFICER = 256
    """Only the KRSO makes it true (footnote 10)."""


@dataclass(frozen=True, slots=True)
class AttributeRow:
    """One attribute of one kind of object; without `default` it may be absent."""

    number: Cka
    kind: Kind
    rules: Rule = Rule.NONE
    default: bytes | None = None


@dataclass(frozen=True, slots=True)
class Schema:
    """Everything an object of one class and type may hold."""

    rows: dict[int, AttributeRow]
    needed: tuple[Cka, ...]
    secret: frozenset[int]
    defaults: Attributes


def ulong(number: int) -> bytes:
    """Encode a CK_ULONG."""
    return number.to_bytes(ULONG_BYTES, "little")


def read_ulong(value: bytes) -> int:
    """Decode a CK_ULONG that a schema has admitted."""
    return int.from_bytes(value, "little")


def boolean(*, value: bool) -> bytes:
    """Encode a CK_BBOOL."""
    return TRUE if value else FALSE


def object_class(attributes: Attributes) -> int:
    """Return the CKA_CLASS of an object."""
    return read_ulong(attributes[Cka.CLASS])


def key_type(attributes: Attributes) -> int:
    """Return the CKA_KEY_TYPE of a key."""
    return read_ulong(attributes[Cka.KEY_TYPE])


def is_true(attributes: Attributes, number: Cka) -> bool:
    """Return whether a CK_BBOOL attribute is present and true."""
    return attributes.get(number) == TRUE


# ------------------------------------------------------------------ rows

_M, _C, _O, _S = Rule.MODIFIABLE, Rule.COPY, Rule.OWNED, Rule.SECRET
_NEEDED: Final = Rule.CREATE_NEEDS
_PART: Final = Rule.MATERIAL
_BOOL, _ULONG, _BYTES = Kind.BOOL, Kind.ULONG, Kind.BYTES
_Row = AttributeRow


def _storage_rows(*, private: bool) -> tuple[AttributeRow, ...]:
    return (
        _Row(Cka.CLASS, _ULONG, _NEEDED),
        _Row(Cka.TOKEN, _BOOL, _C, FALSE),
        _Row(Cka.PRIVATE, _BOOL, _C, boolean(value=private)),
        _Row(Cka.MODIFIABLE, _BOOL, _C, TRUE),
        _Row(Cka.LABEL, _BYTES, _M, b""),
        _Row(Cka.COPYABLE, _BOOL, _M | Rule.ONLY_DOWN, TRUE),
        _Row(Cka.DESTROYABLE, _BOOL, _C, TRUE),
        _Row(Cka.UNIQUE_ID, _BYTES, _O),
    )


_KEY: Final = (
    _Row(Cka.KEY_TYPE, _ULONG, _NEEDED),
    _Row(Cka.ID, _BYTES, _M, b""),
    _Row(Cka.START_DATE, Kind.DATE, _M, b""),
    _Row(Cka.END_DATE, Kind.DATE, _M, b""),
    _Row(Cka.DERIVE, _BOOL, _M, FALSE),
    _Row(Cka.LOCAL, _BOOL, _O, FALSE),
    _Row(Cka.KEY_GEN_MECHANISM, _ULONG, _O, ulong(UNAVAILABLE_INFORMATION)),
    _Row(Cka.ALLOWED_MECHANISMS, Kind.MECHANISMS, Rule.NONE, b""),
)
_GUARDED_KEY: Final = (
    _Row(Cka.SENSITIVE, _BOOL, _M | Rule.ONLY_UP, TRUE),
    _Row(Cka.EXTRACTABLE, _BOOL, _M | Rule.ONLY_DOWN, FALSE),
    _Row(Cka.ALWAYS_SENSITIVE, _BOOL, _O, FALSE),
    _Row(Cka.NEVER_EXTRACTABLE, _BOOL, _O, FALSE),
    _Row(Cka.WRAP_WITH_TRUSTED, _BOOL, _M | Rule.ONLY_UP, FALSE),
)
_WRAP_TEMPLATE: Final = _Row(Cka.WRAP_TEMPLATE, Kind.TEMPLATE)
_MAKING_TEMPLATES: Final = (
    _Row(Cka.UNWRAP_TEMPLATE, Kind.TEMPLATE),
    _Row(Cka.DERIVE_TEMPLATE, Kind.TEMPLATE),
)
_TRUSTED: Final = _Row(Cka.TRUSTED, _BOOL, _M | Rule.SECURITY_OFFICER, FALSE)
_KEY_INFO: Final = _Row(Cka.PUBLIC_KEY_INFO, _BYTES, _PART)
# What an object needs and nobody may give: no application makes a profile object.
_PROFILE: Final = _Row(Cka.PROFILE_ID, _ULONG, _NEEDED | _O)


def _usage_rows(possible: tuple[Cka, ...], permitted: tuple[Cka, ...]) -> tuple[AttributeRow, ...]:
    """What a key may be used for: by default all that its type can do, but never wrapping.

    A key that may both wrap and decrypt gives the keys it wraps away, so wrapping is asked for.
    """
    return tuple(_Row(number, _BOOL, _M, boolean(value=number in permitted)) for number in possible)


_PUBLIC_USES: Final = (Cka.ENCRYPT, Cka.VERIFY, Cka.VERIFY_RECOVER, Cka.WRAP)
_PRIVATE_USES: Final = (Cka.DECRYPT, Cka.SIGN, Cka.SIGN_RECOVER, Cka.UNWRAP)
_SECRET_USES: Final = (Cka.ENCRYPT, Cka.DECRYPT, Cka.SIGN, Cka.VERIFY, Cka.WRAP, Cka.UNWRAP)

_RSA_PUBLIC: Final = (
    _Row(Cka.MODULUS, Kind.BIG_INTEGER, _NEEDED | _PART),
    _Row(Cka.MODULUS_BITS, _ULONG),
    _Row(Cka.PUBLIC_EXPONENT, Kind.BIG_INTEGER, _NEEDED),
)
_RSA_PRIVATE: Final = (
    _Row(Cka.MODULUS, Kind.BIG_INTEGER, _NEEDED | _PART),
    _Row(Cka.PUBLIC_EXPONENT, Kind.BIG_INTEGER, _NEEDED),
    *(
        _Row(number, Kind.BIG_INTEGER, _NEEDED | _PART | _S)
        for number in (
            Cka.PRIVATE_EXPONENT,
            Cka.PRIME_1,
            Cka.PRIME_2,
            Cka.EXPONENT_1,
            Cka.EXPONENT_2,
            Cka.COEFFICIENT,
        )
    ),
)
_EC_PUBLIC: Final = (
    _Row(Cka.EC_PARAMS, _BYTES, _NEEDED),
    _Row(Cka.EC_POINT, _BYTES, _NEEDED | _PART),
)
# CKA_EC_POINT in a private key goes beyond the standard; applications that find no public key
# object look for it there.
_EC_PRIVATE: Final = (
    _Row(Cka.EC_PARAMS, _BYTES, _NEEDED),
    _Row(Cka.EC_POINT, _BYTES, _PART),
    _Row(Cka.VALUE, Kind.BIG_INTEGER, _NEEDED | _PART | _S),
)
_EDWARDS_PRIVATE: Final = (
    *_EC_PRIVATE[:2],
    _Row(Cka.VALUE, _BYTES, _NEEDED | _PART | _S),
)
_DH_PUBLIC: Final = (
    _Row(Cka.PRIME, Kind.BIG_INTEGER, _NEEDED),
    _Row(Cka.BASE, Kind.BIG_INTEGER, _NEEDED),
    _Row(Cka.VALUE, Kind.BIG_INTEGER, _NEEDED | _PART),
)
_DH_PRIVATE: Final = (
    *_DH_PUBLIC[:2],
    _Row(Cka.VALUE, Kind.BIG_INTEGER, _NEEDED | _PART | _S),
    _Row(Cka.VALUE_BITS, _ULONG),
)
_LATTICE_PUBLIC: Final = (
    _Row(Cka.PARAMETER_SET, _ULONG, _NEEDED),
    _Row(Cka.VALUE, _BYTES, _NEEDED | _PART),
)
_LATTICE_PRIVATE: Final = (
    _Row(Cka.PARAMETER_SET, _ULONG, _NEEDED),
    _Row(Cka.SEED, _BYTES, _NEEDED | _PART | _S),
)
_KEM_PUBLIC: Final = (
    *_LATTICE_PUBLIC,
    _Row(Cka.ENCAPSULATE, _BOOL, _M, TRUE),
    _Row(Cka.ENCAPSULATE_TEMPLATE, Kind.TEMPLATE),
)
_KEM_PRIVATE: Final = (
    *_LATTICE_PRIVATE,
    _Row(Cka.DECAPSULATE, _BOOL, _M, TRUE),
    _Row(Cka.DECAPSULATE_TEMPLATE, Kind.TEMPLATE),
)
_SECRET: Final = (
    _Row(Cka.VALUE, _BYTES, _NEEDED | _PART | _S),
    _Row(Cka.VALUE_LEN, _ULONG),
    _Row(Cka.CHECK_VALUE, _BYTES),
)
_DATA: Final = (
    _Row(Cka.APPLICATION, _BYTES, _M, b""),
    _Row(Cka.OBJECT_ID, _BYTES, _M, b""),
    _Row(Cka.VALUE, _BYTES, _M, b""),
)
_CERTIFICATE: Final = (
    _Row(Cka.CERTIFICATE_TYPE, _ULONG, _NEEDED),
    _TRUSTED,
    _Row(Cka.CERTIFICATE_CATEGORY, _ULONG, Rule.NONE, ulong(0)),
    _Row(Cka.CHECK_VALUE, _BYTES),
    _Row(Cka.START_DATE, Kind.DATE, Rule.NONE, b""),
    _Row(Cka.END_DATE, Kind.DATE, Rule.NONE, b""),
    _Row(Cka.PUBLIC_KEY_INFO, _BYTES, Rule.NONE),
    _Row(Cka.SUBJECT, _BYTES, Rule.NONE),
    _Row(Cka.ID, _BYTES, _M, b""),
    _Row(Cka.ISSUER, _BYTES, _M, b""),
    _Row(Cka.SERIAL_NUMBER, _BYTES, _M, b""),
    _Row(Cka.VALUE, _BYTES, Rule.NONE, b""),
    _Row(Cka.URL, _BYTES, Rule.NONE, b""),
    _Row(Cka.HASH_OF_SUBJECT_PUBLIC_KEY, _BYTES, Rule.NONE, b""),
    _Row(Cka.HASH_OF_ISSUER_PUBLIC_KEY, _BYTES, Rule.NONE, b""),
    _Row(Cka.JAVA_MIDP_SECURITY_DOMAIN, _ULONG, Rule.NONE, ulong(0)),
    _Row(Cka.NAME_HASH_ALGORITHM, _ULONG, Rule.NONE),
)


def _public(parts: tuple[AttributeRow, ...], *permitted: Cka) -> tuple[AttributeRow, ...]:
    subject = _Row(Cka.SUBJECT, _BYTES, _M, b"")
    uses = _usage_rows(_PUBLIC_USES, permitted)
    facts = (_TRUSTED, _WRAP_TEMPLATE, _KEY_INFO)
    return (*_storage_rows(private=False), *_KEY, subject, *uses, *facts, *parts)


def _private(parts: tuple[AttributeRow, ...], *permitted: Cka) -> tuple[AttributeRow, ...]:
    return (
        *_storage_rows(private=True),
        *_KEY,
        _Row(Cka.SUBJECT, _BYTES, _M, b""),
        *_GUARDED_KEY,
        *_usage_rows(_PRIVATE_USES, permitted),
        *_MAKING_TEMPLATES,
        _Row(Cka.ALWAYS_AUTHENTICATE, _BOOL, Rule.NONE, FALSE),
        _KEY_INFO,
        *parts,
    )


def _secret(*permitted: Cka) -> tuple[AttributeRow, ...]:
    uses = _usage_rows(_SECRET_USES, permitted)
    facts = (_TRUSTED, _WRAP_TEMPLATE, *_MAKING_TEMPLATES)
    return (*_storage_rows(private=True), *_KEY, *_GUARDED_KEY, *uses, *facts, *_SECRET)


def _schema(rows: tuple[AttributeRow, ...]) -> Schema:
    return Schema(
        rows={int(row.number): row for row in rows},
        needed=tuple(row.number for row in rows if row.rules & Rule.CREATE_NEEDS),
        secret=frozenset(int(row.number) for row in rows if row.rules & Rule.SECRET),
        defaults={int(row.number): row.default for row in rows if row.default is not None},
    )


MAC_KEYS: Final = (
    Ckk.GENERIC_SECRET,
    Ckk.SHA_1_HMAC,
    Ckk.SHA224_HMAC,
    Ckk.SHA256_HMAC,
    Ckk.SHA384_HMAC,
    Ckk.SHA512_HMAC,
    Ckk.SHA512_224_HMAC,
    Ckk.SHA512_256_HMAC,
    Ckk.SHA3_224_HMAC,
    Ckk.SHA3_256_HMAC,
    Ckk.SHA3_384_HMAC,
    Ckk.SHA3_512_HMAC,
)
"""The types of secret keys whose value may be any bytes."""
SCHEMAS: Final[dict[tuple[int, int | None], Schema]] = {
    (Cko.DATA, None): _schema((*_storage_rows(private=True), *_DATA)),
    (Cko.PROFILE, None): _schema((*_storage_rows(private=False), _PROFILE)),
    (Cko.CERTIFICATE, Ckc.X_509): _schema((*_storage_rows(private=False), *_CERTIFICATE)),
    (Cko.PUBLIC_KEY, Ckk.RSA): _schema(_public(_RSA_PUBLIC, Cka.ENCRYPT, Cka.VERIFY)),
    (Cko.PUBLIC_KEY, Ckk.EC): _schema(_public(_EC_PUBLIC, Cka.VERIFY)),
    (Cko.PUBLIC_KEY, Ckk.EC_EDWARDS): _schema(_public(_EC_PUBLIC, Cka.VERIFY)),
    (Cko.PRIVATE_KEY, Ckk.RSA): _schema(_private(_RSA_PRIVATE, Cka.DECRYPT, Cka.SIGN)),
    (Cko.PRIVATE_KEY, Ckk.EC): _schema(_private(_EC_PRIVATE, Cka.SIGN)),
    (Cko.PRIVATE_KEY, Ckk.EC_EDWARDS): _schema(_private(_EDWARDS_PRIVATE, Cka.SIGN)),
    (Cko.PUBLIC_KEY, Ckk.EC_MONTGOMERY): _schema(_public(_EC_PUBLIC)),
    (Cko.PRIVATE_KEY, Ckk.EC_MONTGOMERY): _schema(_private(_EDWARDS_PRIVATE)),
    (Cko.PUBLIC_KEY, Ckk.DH): _schema(_public(_DH_PUBLIC)),
    (Cko.PRIVATE_KEY, Ckk.DH): _schema(_private(_DH_PRIVATE)),
    (Cko.SECRET_KEY, Ckk.HKDF): _schema(_secret()),
    (Cko.SECRET_KEY, Ckk.DES3): _schema(_secret(Cka.DECRYPT, Cka.VERIFY)),
    (Cko.PUBLIC_KEY, Ckk.ML_DSA): _schema(_public(_LATTICE_PUBLIC, Cka.VERIFY)),
    (Cko.PRIVATE_KEY, Ckk.ML_DSA): _schema(_private(_LATTICE_PRIVATE, Cka.SIGN)),
    (Cko.PUBLIC_KEY, Ckk.ML_KEM): _schema(_public(_KEM_PUBLIC)),
    (Cko.PRIVATE_KEY, Ckk.ML_KEM): _schema(_private(_KEM_PRIVATE)),
    **{
        (Cko.SECRET_KEY, kind): _schema(_secret(Cka.ENCRYPT, Cka.DECRYPT))
        for kind in (Ckk.AES, Ckk.AES_XTS, Ckk.CHACHA20)
    },
    **{(Cko.SECRET_KEY, kind): _schema(_secret(Cka.SIGN, Cka.VERIFY)) for kind in MAC_KEYS},
}
"""By object class and key type (or certificate type)."""
EVER_SECRET: Final = frozenset().union(*(schema.secret for schema in SCHEMAS.values()))
"""Attribute types that some kind of object hides."""

KEY_CLASSES: Final = frozenset({Cko.PUBLIC_KEY, Cko.PRIVATE_KEY, Cko.SECRET_KEY})
_SUBTYPE: Final[dict[int, Cka]] = {
    Cko.CERTIFICATE: Cka.CERTIFICATE_TYPE,
    Cko.PUBLIC_KEY: Cka.KEY_TYPE,
    Cko.PRIVATE_KEY: Cka.KEY_TYPE,
    Cko.SECRET_KEY: Cka.KEY_TYPE,
}
_ALL_KINDS: Final[dict[int, frozenset[Kind]]] = {
    number: frozenset(s.rows[number].kind for s in SCHEMAS.values() if number in s.rows)
    for number in {number for schema in SCHEMAS.values() for number in schema.rows}
}


def schema_of(attributes: Attributes) -> Schema:
    """Return the schema for a class and type; raise when one is missing or not supported."""
    klass = _needed_ulong(attributes, Cka.CLASS)
    subtype_attribute = _SUBTYPE.get(klass)
    subtype = None if subtype_attribute is None else _needed_ulong(attributes, subtype_attribute)
    schema = SCHEMAS.get((klass, subtype))
    if schema is None:
        kind = "" if subtype is None else f" of type 0x{subtype:x}"
        raise refused(
            Ckr.ATTRIBUTE_VALUE_INVALID,
            f"Objects of class {name_of(Cko, klass)}{kind} are not supported.",
        )
    return schema


def known(number: int) -> bool:
    """Return whether any object may have an attribute of this type."""
    return number in _ALL_KINDS


def kinds(number: int) -> frozenset[Kind]:
    """Return the forms that an attribute has in one object or another."""
    return _ALL_KINDS.get(number, frozenset())


def normalized(kind: Kind, number: int, value: bytes) -> bytes:
    """Return a value in its one form; raise CKR_ATTRIBUTE_VALUE_INVALID when it has none."""
    if kind is Kind.TEMPLATE:
        return _normalized_template(number, value)
    length = len(value)
    if kind is Kind.BOOL:
        good = value in {TRUE, FALSE}
    elif kind is Kind.ULONG:
        good = length == ULONG_BYTES
    elif kind is Kind.DATE:
        good = not value or (length == DATE_DIGITS and value.isdigit())
    elif kind is Kind.MECHANISMS:
        good = length % ULONG_BYTES == 0
    else:
        good = True
    if not good:
        raise refused(
            Ckr.ATTRIBUTE_VALUE_INVALID,
            f"{name_of(Cka, number)} is a {kind.value}; {length} bytes were given that are none.",
        )
    return value.lstrip(b"\0") if kind is Kind.BIG_INTEGER else value


def _normalized_template(number: int, value: bytes) -> bytes:
    name = name_of(Cka, number)
    try:
        inner = _template_decoder.decode(value)
    except msgspec.DecodeError:
        raise _bad_template(name, "it is no array of attributes") from None
    if len(inner) > MAX_INNER_ATTRIBUTES:
        raise _bad_template(name, f"it has {len(inner)} of at most {MAX_INNER_ATTRIBUTES}")
    fields: dict[int, bytes] = {}
    for inside, held in inner:
        forms = kinds(inside)
        if not forms or Kind.TEMPLATE in forms:
            raise _bad_template(name, f"{name_of(Cka, inside)} has no place in it")
        if inside in EVER_SECRET:
            # A match would tell whoever may wrap that a guess at a secret was right.
            raise _bad_template(name, f"{name_of(Cka, inside)} is hidden and never compared")
        if inside in fields:
            raise _bad_template(name, f"it has {name_of(Cka, inside)} twice")
        fields[inside] = normalized(next(iter(forms)), inside, held)
    return _encoder.encode(list(fields.items()))


def _bad_template(name: str, why: str) -> Exception:
    return refused(Ckr.ATTRIBUTE_VALUE_INVALID, f"{name} is a template for other keys; {why}.")


def read_inner_template(value: bytes) -> list[tuple[int, bytes]]:
    """Return the attributes inside CKA_WRAP_TEMPLATE or its like, which a schema has admitted."""
    return _template_decoder.decode(value)


_encoder: Final = msgspec.msgpack.Encoder()
_template_decoder: Final = msgspec.msgpack.Decoder(list[tuple[int, bytes]])
_decoder: Final = msgspec.msgpack.Decoder(dict[int, bytes])


def encode_attributes(attributes: Attributes) -> bytes:
    """Return the form in which an object is sealed: a msgpack map."""
    return _encoder.encode(attributes)


def decode_attributes(encoded: bytes) -> Attributes:
    """Return the object that `encode_attributes` was given."""
    return _decoder.decode(encoded)


def _needed_ulong(attributes: Attributes, number: Cka) -> int:
    value = attributes.get(number)
    if value is None:
        raise refused(Ckr.TEMPLATE_INCOMPLETE, f"{name_of(Cka, number)} is missing.")
    return read_ulong(normalized(Kind.ULONG, number, value))
