"""Labels and serial numbers of keyrings."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NoReturn

from conclave import faults
from conclave.errors import BadInput

if TYPE_CHECKING:
    from conclave.settings import Limits

MAX_LABEL_BYTES: Final = 32
"""CK_TOKEN_INFO gives a label 32 bytes."""
FIRST_INDEX: Final = 1
MAX_INDEX: Final = 999_999_999
_SERIAL_LOW: Final = 10**12
_SERIAL_HIGH: Final = 10**13


def check_label(label: str) -> str:
    """Return a label that may name a keyring; raise BadInput naming the broken rule.

    A token's label is padded with blanks, so none may lead or trail.
    """
    size = len(label.encode("utf-8", "surrogatepass"))
    if not 1 <= size <= MAX_LABEL_BYTES:
        _refuse(label, f"must have 1 to {MAX_LABEL_BYTES} bytes, index included; it has {size}")
    if not all(character.isprintable() for character in label):
        _refuse(label, "must hold printable characters only")
    if label != label.strip():
        _refuse(label, "must not begin or end with a blank")
    return label


def expand_labels(label: str, total: int | None, index: int | None, limits: Limits) -> list[str]:
    """Return the labels of a bulk create (rule K2); raise BadInput naming the broken rule.

    Without `total` and `index` it is the bare label; otherwise label and index, from `index` or 1.
    """
    if total is None and index is None:
        return [check_label(label)]
    count = 1 if total is None else total
    first = FIRST_INDEX if index is None else index
    check_count(count, limits)
    if not 0 <= first <= MAX_INDEX - count + 1:
        message = f"index must lie between 0 and {MAX_INDEX - count + 1}; it is {first}."
        raise BadInput(faults.KEYRING_LABEL, message)
    numbers = range(first, first + count)
    return [check_label(f"{label}{limits.label_separator}{number}") for number in numbers]


def check_count(count: int, limits: Limits) -> None:
    """Refuse to create less than one or more than the allowed keyrings in one call (rule K4)."""
    if not 1 <= count <= limits.max_per_call:
        message = f"total must lie between 1 and {limits.max_per_call}; it is {count}."
        raise BadInput(faults.KEYRINGS_PER_CALL, message)


def new_serial(below: Callable[[int], int]) -> str:
    """Return a serial number of 13 digits; `below` draws a random number below its argument."""
    return str(_SERIAL_LOW + below(_SERIAL_HIGH - _SERIAL_LOW))


def _refuse(label: str, rule: str) -> NoReturn:
    raise BadInput(faults.KEYRING_LABEL, f"The keyring label {label!r} {rule}.")
