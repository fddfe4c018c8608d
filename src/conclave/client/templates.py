"""Write templates as Python values: `template({Cka.LABEL: "mine", Cka.TOKEN: True})`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from conclave.service.wire import Template

ULONG_BYTES: Final = 8
Value = bool | int | str | bytes
Attributes = Mapping[int, Value]
"""By `Cka`; what is kept in a variable is annotated `dict[int, Value]`."""


def template(attributes: Attributes) -> Template:
    """Return the wire form: bool as CK_BBOOL, int as CK_ULONG, str as UTF-8, bytes unchanged."""
    return [(int(kind), encode(value)) for kind, value in attributes.items()]


def encode(value: Value) -> bytes:
    """Return one value's bytes; raises OverflowError for an int that is no CK_ULONG."""
    if isinstance(value, bool):
        return bytes([value])
    if isinstance(value, int):
        return value.to_bytes(ULONG_BYTES, "little")
    return value.encode() if isinstance(value, str) else value


def ulong(value: bytes | None) -> int:
    """Return what a CK_ULONG attribute says."""
    return int.from_bytes(value or b"", "little")
