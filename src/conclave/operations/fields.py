"""Fields that many arguments share, with their rules."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from msgspec import UNSET, Meta, UnsetType

from conclave import faults
from conclave.appliance.user_rules import ROLE_ID_PATTERN, USER_ID_PATTERN
from conclave.errors import BadInput
from conclave.operations.model import Arguments

SECRET: Final = {"secret": True}
"""Marks a field whose value no message may show."""

HsmLabel = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=32,
        pattern=r"^[a-zA-Z0-9_]*$",
        description="1 to 32 characters of a-z, A-Z, 0-9 and _",
    ),
]
PartitionName = Annotated[str, Meta(min_length=1, max_length=32)]
ClusterName = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=64,
        pattern=r"^[A-Za-z0-9_.\- ]+$",
        description="1 to 64 characters of A-Z, a-z, 0-9, _, ., - and space",
    ),
]
"""Of a cluster, or of a group of its members."""
HsmPassword = Annotated[str, Meta(max_length=255, extra=SECRET)]
"""The HSM has the rule on its least length; "" asks for a PED, which this HSM has not."""
Domain = Annotated[str, Meta(min_length=1, max_length=128, extra=SECRET)]
UserId = Annotated[
    str,
    Meta(
        pattern=USER_ID_PATTERN,
        description="1 to 32 characters of a-z, A-Z, 0-9, ., _ and -, the first a letter or _",
    ),
]
RoleId = Annotated[
    str,
    Meta(pattern=ROLE_ID_PATTERN, description="1 to 64 characters of a-z, A-Z, 0-9 and _"),
]
CertificatePem = Annotated[str, Meta(min_length=1, max_length=8192)]
UserPassword = Annotated[str, Meta(min_length=8, max_length=255, extra=SECRET)]
CurrentPassword = Annotated[str, Meta(max_length=255, extra=SECRET)]
FullName = Annotated[str, Meta(max_length=128)]
Email = Annotated[str, Meta(min_length=1, max_length=254)]
Label = Annotated[str, Meta(min_length=1, max_length=32)]
KeyringPassword = Annotated[str, Meta(min_length=1, max_length=255, extra=SECRET)]
Number = Annotated[int, Meta(ge=0, le=999_999_999)] | Annotated[str, Meta(pattern=r"^[0-9]{1,9}$")]
"""A number, which older callers send as a string of digits."""
Address = Annotated[
    str,
    Meta(
        min_length=2,
        max_length=45,
        pattern=r"^[0-9A-Fa-f:.]+$",
        description="an IPv4 or IPv6 address",
    ),
]
Port = Annotated[int, Meta(ge=1, le=65535)]
Ped = Literal["0", "1", ""]
"""0 or empty: no PED; 1: a remote PED, which this HSM has not."""


class Authentication(Arguments, frozen=True):
    """A credential of the HSM SO or of the Crypto Officer of the cluster's partition."""

    type: Literal["SO", "CO"]
    password: HsmPassword
    partition_label: PartitionName | UnsetType = UNSET


Authentications = Annotated[list[Authentication], Meta(min_length=1, max_length=1)]


def credential(
    authentication: list[Authentication], wanted: Literal["SO", "CO"]
) -> tuple[bytes, str | None]:
    """Return password and partition label of the one credential; raise BadInput."""
    given = authentication[0]
    if given.type != wanted:
        message = f"authentication[0].type must be {wanted!r} here; it is {given.type!r}."
        raise BadInput(faults.BAD_REQUEST, message)
    label = None if isinstance(given.partition_label, UnsetType) else given.partition_label
    return password_bytes("authentication[0].password", given.password), label


def require_label(label: str | None, purpose: str) -> str:
    """Return the partition's label; raise BadInput when it was not given."""
    if label is None:
        message = f"authentication[0].partitionLabel is required {purpose}."
        raise BadInput(faults.BAD_REQUEST, message)
    return label


def password_bytes(field: str, password: str) -> bytes:
    """Return a password's bytes; refuse "" (which asks for a PED) and more than 255 bytes."""
    if not password:
        message = (
            f"{field} is empty, which asks for a PED; this HSM is password-authenticated:"
            " give the password."
        )
        raise BadInput(faults.FUNCTION_NOT_SUPPORTED, message)
    encoded = password.encode()
    if len(encoded) > 255:
        raise BadInput(faults.BAD_REQUEST, f"{field} must have 255 bytes at most.")
    return encoded


def refuse_ped(ped: str) -> None:
    """Refuse a remote PED."""
    if ped == "1":
        message = "ped must be '0' or '': this HSM is password-authenticated; it is '1'."
        raise BadInput(faults.FUNCTION_NOT_SUPPORTED, message)


def whole_number(value: int | str | UnsetType) -> int | None:
    """Return a Number as an integer, None when it was not given."""
    return None if isinstance(value, UnsetType) else int(value)
