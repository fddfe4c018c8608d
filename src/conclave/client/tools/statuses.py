"""The statuses that LunaCM, cmu, vtl and multitoken end with, and what to do next: one table."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

from conclave import faults
from conclave.errors import (
    Ckr,
    ConclaveError,
    CredentialRefused,
    LimitReached,
    NotFound,
    Unavailable,
)


class Status(enum.IntEnum):
    """What a tool ends with."""

    SUCCEEDED = 0
    FAILED = 1
    NOT_CONFIGURED = 2
    MISUSED = 3
    CREDENTIAL = 4
    NOT_FOUND = 5
    UNREACHABLE = 6
    FULL = 7
    CANCELLED = 8
    OUTCOME_UNKNOWN = 9


@dataclass(frozen=True, slots=True)
class StatusRow:
    """What a status means, and whether the same command may be run again as it is."""

    status: Status
    meaning: str
    again: str


STATUSES: Final = (
    StatusRow(Status.SUCCEEDED, "every command succeeded", ""),
    StatusRow(
        Status.FAILED,
        "a command was refused for another reason than those below, or its output was lost; the"
        " message says which",
        "no",
    ),
    StatusRow(
        Status.NOT_CONFIGURED,
        "there is no `Chrystoki.conf` that can be read, or it names no cluster",
        "after the registration",
    ),
    StatusRow(
        Status.MISUSED,
        "the command line is not understood, or a file that it names cannot be used",
        "no",
    ),
    StatusRow(
        Status.CREDENTIAL,
        "a password is wrong, locked, to be changed or not acceptable, or nobody is logged in",
        "no: wrong passwords lock a keyring",
    ),
    StatusRow(Status.NOT_FOUND, "there is no such slot, keyring, object or registration", "no"),
    StatusRow(
        Status.UNREACHABLE,
        "no member that is in reach does it now; nothing was changed",
        "yes, later",
    ),
    StatusRow(Status.FULL, "the keyring holds as many objects as it may", "after a deletion"),
    StatusRow(Status.CANCELLED, "cancelled at a question, or nobody was there to answer", "yes"),
    StatusRow(
        Status.OUTCOME_UNKNOWN,
        "the answer was lost: the change may have been made or not",
        "only after a look (`cmu list`)",
    ),
)
_BY_CKR: Final = {
    Ckr.PIN_INVALID: Status.CREDENTIAL,
    Ckr.PIN_LEN_RANGE: Status.CREDENTIAL,
    Ckr.PIN_EXPIRED: Status.CREDENTIAL,
    Ckr.USER_NOT_LOGGED_IN: Status.CREDENTIAL,
    Ckr.TOKEN_WRITE_PROTECTED: Status.UNREACHABLE,
    Ckr.KEYRING_NOT_AUTHORIZED: Status.UNREACHABLE,
    Ckr.DEVICE_MEMORY: Status.UNREACHABLE,
    Ckr.DEVICE_ERROR: Status.OUTCOME_UNKNOWN,
    Ckr.MAX_OBJECT_COUNT_EXCEEDED: Status.FULL,
}
_BY_CLASS: Final[tuple[tuple[type[ConclaveError], Status], ...]] = (
    (CredentialRefused, Status.CREDENTIAL),
    (NotFound, Status.NOT_FOUND),
    (LimitReached, Status.FULL),
    (Unavailable, Status.UNREACHABLE),
)
_NEXT: Final = {
    Ckr.PIN_INCORRECT: "Check slot, role and password before you try again: wrong passwords in a"
    " row lock the keyring (lunacm role show -name co counts them).",
    Ckr.PIN_LOCKED: "An administrator unlocks the keyring on an appliance: keyring unlock.",
    Ckr.PIN_EXPIRED: "Change it first: lunacm role login -name po, then role changepw -name po.",
    Ckr.USER_PIN_NOT_INITIALIZED: "The Partition SO gives the Crypto Officer a password first:"
    " lunacm role login -name po, then role init -name co.",
    Ckr.USER_NOT_LOGGED_IN: "Log in (again): a change of password ends all logins.",
    Ckr.PIN_LEN_RANGE: "lunacm partition showinfo tells how long a password must be.",
    Ckr.MAX_OBJECT_COUNT_EXCEEDED: "Delete what is not needed (cmu list, cmu delete), or ask an"
    " administrator for a higher limit.",
    Ckr.UNABLE_TO_CONNECT: "Nothing was changed: it may be tried again. vtl verify shows which"
    " clusters answer.",
    Ckr.DEVICE_ERROR: "It may have been done or not: look (cmu list) before you try again.",
    Ckr.TOKEN_WRITE_PROTECTED: "Nothing was changed: try again later, or let an administrator look"
    " at the members (cluster member list).",
    Ckr.KEYRING_NOT_AUTHORIZED: "An administrator authorizes the member: cluster member authorize.",
    Ckr.DEVICE_MEMORY: "The cluster is busy and nothing was changed: try again later.",
    Ckr.KEYRING_NOT_FOUND: "vtl listSlots shows the keyrings that there are.",
    Ckr.SLOT_ID_INVALID: "vtl listSlots shows the slots that there are.",
    Ckr.OBJECT_HANDLE_INVALID: "cmu list shows the objects that there are.",
    Ckr.KEY_FUNCTION_NOT_PERMITTED: "cmu getattribute shows what the key is for, and cmu"
    " setattribute changes it.",
    Ckr.MECHANISM_INVALID: "lunacm partition showmechanism lists what the cluster's policy leaves.",
    Ckr.KEY_SIZE_RANGE: "lunacm partition showmechanism tells which sizes there are.",
    Ckr.ATTRIBUTE_READ_ONLY: "cmu getattribute shows the object; what cannot be changed is set"
    " when it is made.",
    Ckr.ACTION_PROHIBITED: "The object says so of itself: cmu getattribute shows modifiable and"
    " destroyable.",
}


def status_of(error: ConclaveError) -> Status:
    """Return the status that a tool ends with after an error."""
    if error.fault is faults.COMMAND_LINE:
        return Status.MISUSED
    if error.fault is faults.CLIENT_CONFIGURATION:
        return Status.NOT_CONFIGURED
    by_ckr = _BY_CKR.get(error.fault.ckr)
    if by_ckr is not None:
        return by_ckr
    return next((status for kind, status in _BY_CLASS if isinstance(error, kind)), Status.FAILED)


def next_step(error: ConclaveError) -> str:
    """Return what to do after an error whose message does not say it itself; else nothing."""
    if error.fault is faults.CLIENT_CONFIGURATION:
        return (
            "LNHClientRegistration.sh registers this client; ChrystokiConfigurationPath names the"
            " directory of Chrystoki.conf."
        )
    return _NEXT.get(error.fault.ckr, "")
