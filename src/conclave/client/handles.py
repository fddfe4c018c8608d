"""The numbers by which the owner's tools name objects: the same in every run, on every host.

A handle of PKCS#11 lives as long as a process.  A tool that is started anew for each command needs
one that stays, so that what was listed is what is deleted; it is computed from the object's id.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final

from conclave import faults
from conclave.errors import BadInput, NotFound

_HANDLE_BYTES: Final = 5


def handle_of(reference: bytes) -> int:
    """Return the handle of an object, 1 to 2^39 - 1."""
    digest = hashlib.sha256(reference).digest()[:_HANDLE_BYTES]
    return (int.from_bytes(digest) >> 1) or 1


def reference_of(handle: int, references: Sequence[bytes]) -> bytes:
    """Return the object with this handle; raise NotFound, or BadInput when two share it."""
    found = [reference for reference in references if handle_of(reference) == handle]
    if not found:
        message = f"No object that can be seen has the handle {handle}."
        raise NotFound(faults.OBJECT_NOT_FOUND, message)
    if len(found) > 1:
        message = f"Handle {handle} stands for {len(found)} objects; nothing was done."
        raise BadInput(faults.COMMAND_LINE, message)
    return found[0]
