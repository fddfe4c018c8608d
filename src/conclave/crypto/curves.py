"""The elliptic curves, and the forms in which attributes name curves and points."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from conclave.crypto.faults import refused
from conclave.errors import Ckr

ED25519_BYTES: Final = 32
ED25519_BITS: Final = 255
ED25519_PARAMS: Final = bytes.fromhex("06032b6570")
"""DER of the object identifier 1.3.101.112 (RFC 8410)."""
_ED25519_NAMES: Final = frozenset(
    {
        ED25519_PARAMS,
        b"\x13\x0cedwards25519",
        # 1.3.6.1.4.1.11591.15.1, which older tools send: it was in use before RFC 8410.
        bytes.fromhex("06092b06010401da470f01"),
    }
)
_OBJECT_IDENTIFIER: Final = 0x06
_PRINTABLE_STRING: Final = 0x13
_OCTET_STRING: Final = 0x04


@dataclass(frozen=True, slots=True)
class CurveRow:
    """A prime curve of SP 800-186."""

    name: str
    params: bytes
    """DER of its object identifier: the value of CKA_EC_PARAMS."""
    curve: ec.EllipticCurve
    order_bits: int
    order_bytes: int


def _row(name: str, params: str, curve: ec.EllipticCurve) -> CurveRow:
    return CurveRow(name, bytes.fromhex(params), curve, curve.key_size, (curve.key_size + 7) // 8)


CURVES: Final = (
    _row("P-256", "06082a8648ce3d030107", ec.SECP256R1()),
    _row("P-384", "06052b81040022", ec.SECP384R1()),
    _row("P-521", "06052b81040023", ec.SECP521R1()),
)
_BY_PARAMS: Final = {row.params: row for row in CURVES}


def curve_of(params: bytes) -> CurveRow:
    """Return the curve of CKA_EC_PARAMS; raise CKR_CURVE_NOT_SUPPORTED or DOMAIN_PARAMS_INVALID."""
    row = _BY_PARAMS.get(params)
    if row is None:
        raise _no_curve(params, "P-256, P-384 and P-521, by object identifier")
    return row


def require_ed25519(params: bytes) -> None:
    """Return when CKA_EC_PARAMS names Ed25519; otherwise raise as `curve_of` does."""
    if params not in _ED25519_NAMES:
        raise _no_curve(params, "Ed25519, as 1.3.101.112 or edwards25519")


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
