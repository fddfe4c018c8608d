"""The one tree of errors.

::

    ConclaveError
    ├─ BadInput            the caller's words: names the field, the rule and the value
    ├─ NotAllowed          wrong state, missing right, wrong credential
    │  └─ CredentialRefused
    ├─ NotFound
    ├─ Conflict
    ├─ LimitReached
    ├─ Unavailable         may work later: the only branch whose retry is safe by itself
    └─ InternalFault       our own invariant broken, or the machine's

Every error carries a `Fault`: one row that knows its REST identifier, HTTP status, LunaSH text,
CKR code and whether a retry is safe.  The row is the contract, the message is for people.
No message ever carries a secret.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

CKR_OK: Final = 0x00000000


class Ckr(enum.IntEnum):
    """Return values of PKCS#11 (section 6, CK_RV) and of the Luna vendor range that we emit."""

    OK = 0x00000000
    HOST_MEMORY = 0x00000002
    SLOT_ID_INVALID = 0x00000003
    GENERAL_ERROR = 0x00000005
    FUNCTION_FAILED = 0x00000006
    ARGUMENTS_BAD = 0x00000007
    ATTRIBUTE_READ_ONLY = 0x00000010
    ATTRIBUTE_SENSITIVE = 0x00000011
    ATTRIBUTE_TYPE_INVALID = 0x00000012
    ATTRIBUTE_VALUE_INVALID = 0x00000013
    ACTION_PROHIBITED = 0x0000001B
    DATA_INVALID = 0x00000020
    DATA_LEN_RANGE = 0x00000021
    DEVICE_ERROR = 0x00000030
    DEVICE_MEMORY = 0x00000031
    DEVICE_REMOVED = 0x00000032
    ENCRYPTED_DATA_INVALID = 0x00000040
    ENCRYPTED_DATA_LEN_RANGE = 0x00000041
    FUNCTION_NOT_SUPPORTED = 0x00000054
    KEY_HANDLE_INVALID = 0x00000060
    KEY_SIZE_RANGE = 0x00000062
    KEY_TYPE_INCONSISTENT = 0x00000063
    KEY_FUNCTION_NOT_PERMITTED = 0x00000068
    KEY_NOT_WRAPPABLE = 0x00000069
    KEY_UNEXTRACTABLE = 0x0000006A
    MECHANISM_INVALID = 0x00000070
    MECHANISM_PARAM_INVALID = 0x00000071
    OBJECT_HANDLE_INVALID = 0x00000082
    OPERATION_ACTIVE = 0x00000090
    OPERATION_NOT_INITIALIZED = 0x00000091
    PIN_INCORRECT = 0x000000A0
    PIN_INVALID = 0x000000A1
    PIN_LEN_RANGE = 0x000000A2
    PIN_EXPIRED = 0x000000A3
    PIN_LOCKED = 0x000000A4
    SESSION_READ_ONLY = 0x000000B5
    SIGNATURE_INVALID = 0x000000C0
    SIGNATURE_LEN_RANGE = 0x000000C1
    TEMPLATE_INCOMPLETE = 0x000000D0
    TEMPLATE_INCONSISTENT = 0x000000D1
    TOKEN_NOT_PRESENT = 0x000000E0
    TOKEN_WRITE_PROTECTED = 0x000000E2
    UNWRAPPING_KEY_HANDLE_INVALID = 0x000000F0
    UNWRAPPING_KEY_TYPE_INCONSISTENT = 0x000000F2
    USER_ALREADY_LOGGED_IN = 0x00000100
    USER_NOT_LOGGED_IN = 0x00000101
    USER_PIN_NOT_INITIALIZED = 0x00000102
    USER_TYPE_INVALID = 0x00000103
    WRAPPED_KEY_INVALID = 0x00000110
    WRAPPED_KEY_LEN_RANGE = 0x00000112
    WRAPPING_KEY_HANDLE_INVALID = 0x00000113
    WRAPPING_KEY_TYPE_INCONSISTENT = 0x00000115
    DOMAIN_PARAMS_INVALID = 0x00000130
    CURVE_NOT_SUPPORTED = 0x00000140
    BUFFER_TOO_SMALL = 0x00000150
    USER_LOCKED_OUT = 0x80000007
    MAX_OBJECT_COUNT_EXCEEDED = 0x8000001B
    UNABLE_TO_CONNECT = 0x8000001F
    TIMEOUT = 0x80000024
    CLOCK_NOT_IN_SYNC = 0x80000124
    KEYRING_NOT_FOUND = 0x80000306
    KEYRING_NOT_AUTHORIZED = 0x80000307


@dataclass(frozen=True, slots=True)
class Fault:
    """One row of the error table: how a fault looks at every door."""

    rest_id: str
    http_status: int
    title: str
    ckr: Ckr = Ckr.FUNCTION_FAILED
    retry_is_safe: bool = False
    luna_code: int = 0x10A0B
    luna_name: str = "LUNA_RET_OPERATION_RESTRICTED"


class ConclaveError(Exception):
    """Root of every error that Conclave raises on purpose.

    `message` is a full sentence for people: what was refused, why, and what to do next.
    """

    fault: Fault

    def __init__(self, fault: Fault, message: str) -> None:
        super().__init__(message)
        self.fault = fault

    @property
    def message(self) -> str:
        """Return the sentence for people."""
        return str(self.args[0])


class BadInput(ConclaveError):
    """The caller's input breaks a rule; nothing was changed."""


class NotAllowed(ConclaveError):
    """The state or the caller's rights forbid the operation; nothing was changed."""


class CredentialRefused(NotAllowed):
    """A password, a ticket or a login was refused."""


class NotFound(ConclaveError):
    """The named thing does not exist."""


class Conflict(ConclaveError):
    """The named thing exists already, or was changed by somebody else meanwhile."""


class LimitReached(ConclaveError):
    """A setting forbids one more."""


class Unavailable(ConclaveError):
    """It cannot be done now; the same request may succeed later."""


class InternalFault(ConclaveError):
    """An invariant of ours or the machine failed."""
