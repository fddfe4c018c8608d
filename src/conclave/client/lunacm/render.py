"""What LunaCM prints, as pure functions of what it knows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from conclave import __version__
from conclave.client.refusals import ckr_name
from conclave.client.tools.faces import printable
from conclave.client.tools.statuses import next_step
from conclave.crypto.standard import Ckf, Ckm, Cko, name_of
from conclave.errors import ConclaveError
from conclave.service import wire

# The product that we model prints a model and a configuration for each slot; these are our own.
MODEL: Final = "Conclave Keyring"
CONFIGURATION: Final = "Conclave Keyring With SO (PW) Key Storage In A Cluster"
SLOT_DESCRIPTION: Final = "Conclave Keyring Slot"
ROLE_TITLES: Final = {wire.Role.KRSO: "Partition SO", wire.Role.KRCO: "Crypto Officer"}
SUCCESS: Final = "Command Result : No Error"
CANCELLED: Final = "Command Result : 0xb (User Cancelled Operation)"
USER_PIN_INITIALIZED: Final = 0x8
LOCKED: Final = {wire.Role.KRSO: 0x0040_0000, wire.Role.KRCO: 0x0004_0000}
TO_BE_CHANGED: Final = {wire.Role.KRSO: 0x0080_0000, wire.Role.KRCO: 0x0008_0000}
TOKEN_FLAGS: Final = {
    0x1: "CKF_RNG",
    0x2: "CKF_WRITE_PROTECTED",
    0x4: "CKF_LOGIN_REQUIRED",
    0x8: "CKF_USER_PIN_INITIALIZED",
    0x20: "CKF_RESTORE_KEY_NOT_NEEDED",
    0x40: "CKF_CLOCK_ON_TOKEN",
    0x100: "CKF_PROTECTED_AUTHENTICATION_PATH",
    0x200: "CKF_DUAL_CRYPTO_OPERATIONS",
    0x400: "CKF_TOKEN_INITIALIZED",
    0x1_0000: "CKF_USER_PIN_COUNT_LOW",
    0x2_0000: "CKF_USER_PIN_FINAL_TRY",
    0x4_0000: "CKF_USER_PIN_LOCKED",
    0x8_0000: "CKF_USER_PIN_TO_BE_CHANGED",
    0x10_0000: "CKF_SO_PIN_COUNT_LOW",
    0x20_0000: "CKF_SO_PIN_FINAL_TRY",
    0x40_0000: "CKF_SO_PIN_LOCKED",
    0x80_0000: "CKF_SO_PIN_TO_BE_CHANGED",
}
CLASS_TITLES: Final = {
    Cko.DATA: "Data",
    Cko.CERTIFICATE: "Certificate",
    Cko.PUBLIC_KEY: "Public Key",
    Cko.PRIVATE_KEY: "Private Key",
    Cko.SECRET_KEY: "Symmetric Key",
}


def cancelled(message: str) -> str:
    """Return what is printed when a question was not answered."""
    return f"Error in execution: command cancelled.\n    {message}\n\n{CANCELLED}"


@dataclass(frozen=True, slots=True)
class ObjectLine:
    """One object as `partition contents` shows it."""

    handle: int
    label: str
    object_class: int
    identifier: str

    @property
    def title(self) -> str:
        """Return the name of the object's class."""
        try:
            return CLASS_TITLES[Cko(self.object_class)]
        except ValueError:
            return name_of(Cko, self.object_class)

    @property
    def data(self) -> dict[str, Any]:
        """Return the line for programs."""
        return {
            "handle": self.handle,
            "label": self.label,
            "type": self.title,
            "uid": self.identifier,
        }


def banner() -> str:
    """Return the first line of an interactive session."""
    return f"lunacm (Conclave) v{__version__}. A client of Conclave clusters."


def slot_list(tokens: Sequence[wire.Token], current: int | None) -> str:
    """Return all slots and which is the current one."""
    blocks = ["    Available HSMs:\n"]
    for token in tokens:
        blocks.append(
            _table(
                {
                    "Slot Id": str(token.slot),
                    "Label": printable(token.label),
                    "Serial Number": token.serial,
                    "Model": MODEL,
                    "Firmware Version": __version__,
                    "Configuration": CONFIGURATION,
                    "Slot Description": SLOT_DESCRIPTION,
                },
                24,
            )
            + "\n"
        )
    return "\n".join([*blocks, "", current_slot(current)])


def current_slot(slot: int | None) -> str:
    """Return the line that names the current slot."""
    return f"    Current Slot Id: {'None' if slot is None else slot}"


def slot_chosen(token: wire.Token) -> str:
    """Return what `slot set` says."""
    return f"    Current Slot Id: {token.slot}    ({MODEL} {token.label!r}, {token.serial})"


def unanswered(index: int, where: str, error: ConclaveError) -> str:
    """Return the line of a cluster whose slots are not known."""
    return f"    Cluster {index:02} ({where}) does not answer: {error.message}"


def mechanism_lines(rows: Sequence[wire.MechanismInfo]) -> str:
    """Return the list of mechanisms."""
    lines = [f"        {row.mechanism:#010x}  {name_of(Ckm, row.mechanism)}" for row in rows]
    return "\n".join(("    Mechanisms", *lines))


def mechanism(row: wire.MechanismInfo) -> str:
    """Return what C_GetMechanismInfo tells of one mechanism."""
    return _table(
        {
            "Mechanism": name_of(Ckm, row.mechanism),
            "Value": f"{row.mechanism:#010x}",
            "Minimum Key Size": str(row.min_key_size),
            "Maximum Key Size": str(row.max_key_size),
            "Flags": " ".join(mechanism_flags(row.flags)),
        },
        24,
    )


def mechanism_flags(flags: int) -> list[str]:
    """Return the names of the flags of a mechanism."""
    return [f"CKF_{flag.name}" for flag in Ckf if flags & flag]


def role_list() -> str:
    """Return the roles of a keyring."""
    return "\n".join(("    Roles", *(f"        {title}" for title in ROLE_TITLES.values())))


def role_facts(
    role: wire.Role, details: wire.TokenDetails, logged_in: wire.Role | None
) -> dict[str, Any]:
    """Return the state of a role for programs."""
    flags = details.token.flags
    return {
        "role": ROLE_TITLES[role],
        "dualIdentity": details.dual_identity,
        "initialized": role is wire.Role.KRSO or bool(flags & USER_PIN_INITIALIZED),
        "loggedInHere": logged_in is role,
        "lockedOut": bool(flags & LOCKED[role]),
        "passwordToBeChanged": bool(flags & TO_BE_CHANGED[role]),
        "failedLogins": details.failed_attempts,
    }


def role_state(role: wire.Role, details: wire.TokenDetails, logged_in: wire.Role | None) -> str:
    """Return what `role show` says."""
    facts = role_facts(role, details, logged_in)
    return f"    State of role '{ROLE_TITLES[role]}':\n" + _table(
        {
            "Authentication type": "Password",
            "Identity": "dual" if facts["dualIdentity"] else "single, shared by both roles",
            "Initialized": _yes(facts["initialized"]),
            "Logged in here": _yes(facts["loggedInHere"]),
            "Locked out": _yes(facts["lockedOut"]),
            "Password to be changed": _yes(facts["passwordToBeChanged"]),
            "Failed logins in a row": str(facts["failedLogins"]),
        },
        28,
        "        ",
    )


def partition_facts(details: wire.TokenDetails) -> dict[str, Any]:
    """Return what is known of a keyring for programs; 0 for maxObjects means no limit."""
    token = details.token
    return {
        "slot": token.slot,
        "label": token.label,
        "serial": token.serial,
        "keyringId": token.keyring_id.hex(),
        "dualIdentity": details.dual_identity,
        "minPasswordBytes": token.min_pin_bytes,
        "maxPasswordBytes": token.max_pin_bytes,
        "objects": details.object_count,
        "maxObjects": details.max_objects,
        "flags": flag_names(token.flags),
    }


def partition_info(details: wire.TokenDetails) -> str:
    """Return what `partition showinfo` says."""
    token = details.token
    limit = str(details.max_objects) if details.max_objects else "unlimited"
    table = _table(
        {
            "Partition Label": printable(token.label),
            "Partition Manufacturer": "Conclave",
            "Partition Model": MODEL,
            "Partition Serial Number": token.serial,
            "Keyring ID": token.keyring_id.hex(),
            "Identity": "dual" if details.dual_identity else "single",
            "Password Length": f"{token.min_pin_bytes} to {token.max_pin_bytes}",
            "Object Count": f"{details.object_count} of {limit}",
            "Slot Id": str(token.slot),
        },
        32,
    )
    flags = "\n".join(f"        {name}" for name in flag_names(token.flags))
    return f"{table}\n    Token Flags ->\n{flags}"


def flag_names(flags: int) -> list[str]:
    """Return the names of a token's flags."""
    return [name for bit, name in TOKEN_FLAGS.items() if flags & bit]


def contents(logged_in: wire.Role | None, rows: Sequence[ObjectLine]) -> str:
    """Return what `partition contents` says."""
    if logged_in is None:
        head = "    No role is logged in. Only public objects are seen."
    else:
        head = f"    The {ROLE_TITLES[logged_in]} is logged in. All accessible objects are seen."
    lines = [head, "", "    Object list:" if rows else "    There are no objects.", ""]
    for row in rows:
        entries = {
            "Label": printable(row.label),
            "Handle": str(row.handle),
            "Object Type": row.title,
            "Object UID": row.identifier,
        }
        lines += [f"    {name + ':':<15}{value}" for name, value in entries.items()]
        lines.append("")
    return "\n".join([*lines, f"    Number of objects:  {len(rows)}"])


def failure(error: ConclaveError) -> str:
    """Return what an error prints: the return value's name, the sentence, what to do next."""
    ckr, then = error.fault.ckr, next_step(error)
    return (
        f"Error in execution: {ckr_name(ckr)}.\n    {error.message}\n"
        + (f"    {then}\n" if then else "")
        + "\n"
        f"Command Result : {int(ckr):#x} ({ckr_name(ckr)})"
    )


def misunderstood(error: ConclaveError) -> str:
    """Return what a command prints that is no command."""
    return f"    {error.message}\n\nCommand Result : 0x1 (Unknown command)"


def _table(entries: dict[str, str], width: int, indent: str = "    ") -> str:
    lines = (f"{indent}{name + ' ->':<{width}}{value}" for name, value in entries.items())
    return "\n".join(line.rstrip() for line in lines)


def _yes(value: bool) -> str:
    return "yes" if value else "no"
