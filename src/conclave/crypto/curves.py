"""The elliptic curves, and the forms in which attributes name curves and points."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, x448, x25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from conclave.crypto.faults import refused
from conclave.crypto.standard import Ckk
from conclave.errors import Ckr

OctetPrivateKey = (
    ed25519.Ed25519PrivateKey
    | ed448.Ed448PrivateKey
    | x25519.X25519PrivateKey
    | x448.X448PrivateKey
)
OctetPublicKey = (
    ed25519.Ed25519PublicKey | ed448.Ed448PublicKey | x25519.X25519PublicKey | x448.X448PublicKey
)
_OBJECT_IDENTIFIER: Final = 0x06
_PRINTABLE_STRING: Final = 0x13
_OCTET_STRING: Final = 0x04


@dataclass(frozen=True, slots=True)
class CurveRow:
    """A prime curve of SP 800-186 or RFC 5639, or secp256k1."""

    name: str
    params: bytes
    """DER of its object identifier: the value of CKA_EC_PARAMS."""
    curve: ec.EllipticCurve
    order_bits: int
    order_bytes: int


def _row(name: str, params: str, curve: ec.EllipticCurve) -> CurveRow:
    return CurveRow(name, bytes.fromhex(params), curve, curve.key_size, (curve.key_size + 7) // 8)


CURVES: Final = (
    _row("P-224", "06052b81040021", ec.SECP224R1()),
    _row("P-256", "06082a8648ce3d030107", ec.SECP256R1()),
    _row("P-384", "06052b81040022", ec.SECP384R1()),
    _row("P-521", "06052b81040023", ec.SECP521R1()),
    _row("secp256k1", "06052b8104000a", ec.SECP256K1()),
    _row("brainpoolP256r1", "06092b2403030208010107", ec.BrainpoolP256R1()),
    _row("brainpoolP384r1", "06092b240303020801010b", ec.BrainpoolP384R1()),
    _row("brainpoolP512r1", "06092b240303020801010d", ec.BrainpoolP512R1()),
)
_BY_PARAMS: Final = {row.params: row for row in CURVES}
_NAMES: Final = ", ".join(row.name for row in CURVES)


@dataclass(frozen=True, slots=True)
class OctetCurveRow:
    """A curve of RFC 7748 or RFC 8032, whose keys and points are plain octets."""

    name: str
    params: bytes
    """DER of its object identifier (RFC 8410)."""
    names: frozenset[bytes]
    """All that CKA_EC_PARAMS may say for it."""
    bits: int
    key_bytes: int
    """Of a private key, and of a point."""
    private: type[OctetPrivateKey]
    public: type[OctetPublicKey]


def _octet_row(  # noqa: PLR0917 - one line a curve
    name: str,
    params: str,
    printable: str,
    bits: int,
    key_bytes: int,
    private: type[OctetPrivateKey],
    public: type[OctetPublicKey],
    *others: str,
) -> OctetCurveRow:
    der = bytes.fromhex(params)
    text = bytes((_PRINTABLE_STRING, len(printable))) + printable.encode()
    names = frozenset({der, text, *map(bytes.fromhex, others)})
    return OctetCurveRow(name, der, names, bits, key_bytes, private, public)


EDWARDS: Final = (
    _octet_row(
        "Ed25519",
        "06032b6570",
        "edwards25519",
        255,
        32,
        ed25519.Ed25519PrivateKey,
        ed25519.Ed25519PublicKey,
        # 1.3.6.1.4.1.11591.15.1, which older tools send: it was in use before RFC 8410.
        "06092b06010401da470f01",
    ),
    _octet_row(
        "Ed448", "06032b6571", "edwards448", 448, 57, ed448.Ed448PrivateKey, ed448.Ed448PublicKey
    ),
)
MONTGOMERY: Final = (
    _octet_row(
        "X25519",
        "06032b656e",
        "curve25519",
        255,
        32,
        x25519.X25519PrivateKey,
        x25519.X25519PublicKey,
    ),
    _octet_row("X448", "06032b656f", "curve448", 448, 56, x448.X448PrivateKey, x448.X448PublicKey),
)
ED25519_PARAMS: Final = EDWARDS[0].params
OCTET_CURVES: Final[dict[int, tuple[OctetCurveRow, ...]]] = {
    Ckk.EC_EDWARDS: EDWARDS,
    Ckk.EC_MONTGOMERY: MONTGOMERY,
}
"""By key type."""


def octet_curve_of(key_type: int, params: bytes) -> OctetCurveRow:
    """Return the curve of CKA_EC_PARAMS for a key type; raise as `curve_of` does."""
    rows = OCTET_CURVES[key_type]
    for row in rows:
        if params in row.names:
            return row
    raise _no_curve(params, " and ".join(row.name for row in rows))


def curve_of(params: bytes) -> CurveRow:
    """Return the curve of CKA_EC_PARAMS; raise CKR_CURVE_NOT_SUPPORTED or DOMAIN_PARAMS_INVALID."""
    row = _BY_PARAMS.get(params)
    if row is None:
        raise _no_curve(params, f"{_NAMES}, by object identifier")
    return row


def octet_string(content: bytes) -> bytes:
    """Return the DER of an OCTET STRING of at most 255 bytes: the form of CKA_EC_POINT."""
    length = len(content)
    head = bytes((length,)) if length < 0x80 else bytes((0x81, length))
    return bytes((_OCTET_STRING,)) + head + content


def point_content(value: bytes, raw_lengths: tuple[int, ...]) -> bytes:
    """Return the point inside CKA_EC_POINT, which some applications give without its DER."""
    if len(value) in raw_lengths:
        return value
    for head_bytes in (2, 3):
        content = value[head_bytes:]
        if len(content) in raw_lengths and octet_string(content) == value:
            return content
    raise refused(
        Ckr.ATTRIBUTE_VALUE_INVALID,
        f"CKA_EC_POINT must be the DER of an OCTET STRING; {len(value)} bytes that are none were"
        " given.",
    )


def read_point(row: CurveRow, value: bytes) -> ec.EllipticCurvePublicKey:
    """Return the public key of CKA_EC_POINT; raise CKR_ATTRIBUTE_VALUE_INVALID off the curve."""
    field_bytes = row.order_bytes
    content = point_content(value, (2 * field_bytes + 1, field_bytes + 1))
    try:
        return ec.EllipticCurvePublicKey.from_encoded_point(row.curve, content)
    except ValueError as error:
        raise refused(
            Ckr.ATTRIBUTE_VALUE_INVALID, f"CKA_EC_POINT is not a point of {row.name}."
        ) from error


def write_point(key: ec.EllipticCurvePublicKey) -> bytes:
    """Return CKA_EC_POINT: the uncompressed point inside an OCTET STRING."""
    return octet_string(key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint))


def _no_curve(params: bytes, supported: str) -> Exception:
    named = params[:1] and params[0] in {_OBJECT_IDENTIFIER, _PRINTABLE_STRING}
    whole = len(params) > 2 and params[1] == len(params) - 2
    if named and whole:
        return refused(
            Ckr.CURVE_NOT_SUPPORTED, f"CKA_EC_PARAMS names another curve than {supported}."
        )
    return refused(
        Ckr.DOMAIN_PARAMS_INVALID,
        f"CKA_EC_PARAMS must name a curve ({supported}); {len(params)} other bytes were given.",
    )
