"""How an error crosses from one process of Conclave to another, and comes out as itself.

Invariant: what cannot be understood becomes an internal fault, never a success and never a fault
that lets a retry seem safe.
"""

from __future__ import annotations

from typing import Final

from conclave import errors, faults
from conclave.errors import ConclaveError, Fault, InternalFault

WireError = tuple[str, str, str]
"""Name of the row in `conclave.faults`, sentence for people, name of the class."""

_ERROR_CLASSES: Final[dict[str, type[ConclaveError]]] = {
    name: value
    for name, value in vars(errors).items()
    if isinstance(value, type) and issubclass(value, ConclaveError)
}


def fault_name(fault: Fault) -> str:
    """Return the name of a row of `conclave.faults`; that of the internal fault for any other."""
    return next((name for name, value in vars(faults).items() if value is fault), "INTERNAL")


def fault_named(name: str) -> Fault:
    """Return a row of `conclave.faults`; the internal fault when there is none of that name."""
    fault = getattr(faults, name, None)
    return fault if isinstance(fault, Fault) else faults.INTERNAL


def error_to_wire(error: ConclaveError) -> WireError:
    """Return what an error is on the wire."""
    # A class from elsewhere crosses as the nearest one that both sides know.
    class_name = next(
        kind.__name__ for kind in type(error).__mro__ if _ERROR_CLASSES.get(kind.__name__) is kind
    )
    return fault_name(error.fault), error.message, class_name


def error_from_wire(wire_error: WireError) -> ConclaveError:
    """Return the error that the other side raised."""
    name, message, class_name = wire_error
    kind = _ERROR_CLASSES.get(class_name, InternalFault)
    return kind(fault_named(name), message)
