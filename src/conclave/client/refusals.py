"""Turn a CK_RV from the wire into the error of the tree that means the same."""

from __future__ import annotations

from typing import Final

from conclave import faults
from conclave.errors import (
    BadInput,
    Ckr,
    ConclaveError,
    CredentialRefused,
    Fault,
    InternalFault,
    LimitReached,
    NotAllowed,
    NotFound,
    Unavailable,
)

_CLASSES: Final[dict[Ckr, type[ConclaveError]]] = {
    Ckr.PIN_INCORRECT: CredentialRefused,
    Ckr.PIN_LOCKED: CredentialRefused,
    Ckr.PIN_EXPIRED: CredentialRefused,
    Ckr.USER_LOCKED_OUT: CredentialRefused,
    Ckr.USER_NOT_LOGGED_IN: CredentialRefused,
    Ckr.USER_PIN_NOT_INITIALIZED: CredentialRefused,
    Ckr.USER_ALREADY_LOGGED_IN: NotAllowed,
    Ckr.USER_TYPE_INVALID: NotAllowed,
    Ckr.KEY_FUNCTION_NOT_PERMITTED: NotAllowed,
    Ckr.ACTION_PROHIBITED: NotAllowed,
    Ckr.ATTRIBUTE_READ_ONLY: NotAllowed,
    Ckr.ATTRIBUTE_SENSITIVE: NotAllowed,
    Ckr.SESSION_READ_ONLY: NotAllowed,
    Ckr.TOKEN_WRITE_PROTECTED: NotAllowed,
    Ckr.KEYRING_NOT_FOUND: NotFound,
    Ckr.OBJECT_HANDLE_INVALID: NotFound,
    Ckr.KEY_HANDLE_INVALID: NotFound,
    Ckr.TOKEN_NOT_PRESENT: NotFound,
    Ckr.SLOT_ID_INVALID: NotFound,
    Ckr.MAX_OBJECT_COUNT_EXCEEDED: LimitReached,
    Ckr.KEYRING_NOT_AUTHORIZED: Unavailable,
    Ckr.UNABLE_TO_CONNECT: Unavailable,
    Ckr.TIMEOUT: Unavailable,
    Ckr.DEVICE_ERROR: Unavailable,
    Ckr.DEVICE_MEMORY: Unavailable,
    Ckr.CLOCK_NOT_IN_SYNC: Unavailable,
    Ckr.GENERAL_ERROR: InternalFault,
    Ckr.FUNCTION_FAILED: InternalFault,
    Ckr.HOST_MEMORY: InternalFault,
}
_FAULTS: Final[dict[Ckr, Fault]] = {}
for _row in vars(faults).values():
    # A row whose code is the default says nothing about a CK_RV.
    if isinstance(_row, Fault) and _row.ckr is not Ckr.FUNCTION_FAILED:
        _FAULTS.setdefault(_row.ckr, _row)
_FAULTS[Ckr.PIN_INCORRECT] = faults.PIN_INCORRECT
_FAULTS[Ckr.PIN_LOCKED] = faults.PIN_LOCKED
_FAULTS[Ckr.DEVICE_ERROR] = faults.OUTCOME_UNKNOWN


def refusal(value: int, operation: str) -> ConclaveError:
    """Return the error for a CK_RV other than CKR_OK; `operation` says what was refused."""
    try:
        ckr = Ckr(value)
    except ValueError:
        return InternalFault(
            Fault("CLIENT_REFUSED", 502, "Refused", Ckr.GENERAL_ERROR),
            f"{operation} was refused with the unknown return value {value:#010x}.",
        )
    fault = _FAULTS.get(ckr) or Fault("CLIENT_REFUSED", 400, "Refused", ckr)
    message = f"{operation} was refused with {ckr_name(ckr)}: {fault.title}."
    return _CLASSES.get(ckr, BadInput)(fault, message)


def ckr_name(ckr: Ckr) -> str:
    """Return the standard's name of a return value."""
    return f"CKR_{ckr.name}"


def misused(sentence: str) -> BadInput:
    """Return the error of a command line that cannot be carried out."""
    return BadInput(faults.COMMAND_LINE, sentence)
