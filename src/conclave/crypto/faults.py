"""Refuse with the return value that PKCS #11 has for the case."""

from __future__ import annotations

from typing import Final

from conclave import faults
from conclave.errors import BadInput, Ckr, ConclaveError, Fault, NotAllowed

_BAD_INPUT: Final = (
    faults.ATTRIBUTE_TYPE_INVALID,
    faults.ATTRIBUTE_VALUE_INVALID,
    faults.CURVE_NOT_SUPPORTED,
    faults.DATA_LEN_RANGE,
    faults.DATA_INVALID,
    faults.DOMAIN_PARAMS_INVALID,
    faults.ENCRYPTED_DATA_INVALID,
    faults.ENCRYPTED_DATA_LEN_RANGE,
    faults.KEY_HANDLE_INVALID,
    faults.KEY_SIZE_RANGE,
    faults.KEY_TYPE_INCONSISTENT,
    faults.MECHANISM_INVALID,
    faults.MECHANISM_PARAM_INVALID,
    faults.SIGNATURE_INVALID,
    faults.SIGNATURE_LEN_RANGE,
    faults.TEMPLATE_INCOMPLETE,
    faults.TEMPLATE_INCONSISTENT,
    faults.UNWRAPPING_KEY_HANDLE_INVALID,
    faults.UNWRAPPING_KEY_TYPE_INCONSISTENT,
    faults.WRAPPED_KEY_INVALID,
    faults.WRAPPED_KEY_LEN_RANGE,
    faults.WRAPPING_KEY_HANDLE_INVALID,
    faults.WRAPPING_KEY_TYPE_INCONSISTENT,
)
_NOT_ALLOWED: Final = (
    faults.ACTION_PROHIBITED,
    faults.ATTRIBUTE_READ_ONLY,
    faults.ATTRIBUTE_SENSITIVE,
    faults.KEY_FUNCTION_NOT_PERMITTED,
    faults.KEY_NOT_WRAPPABLE,
    faults.KEY_UNEXTRACTABLE,
)
_REFUSALS: Final[dict[Ckr, tuple[type[ConclaveError], Fault]]] = {
    **{row.ckr: (BadInput, row) for row in _BAD_INPUT},
    **{row.ckr: (NotAllowed, row) for row in _NOT_ALLOWED},
}


def refused(ckr: Ckr, sentence: str) -> ConclaveError:
    """Return the error to raise for a return value; the sentence names field, rule and value."""
    kind, fault = _REFUSALS[ckr]
    return kind(fault, sentence)
