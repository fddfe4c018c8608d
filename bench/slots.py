"""Time a fresh process's first calls: `python -m bench.slots MODULE` prints them as JSON.

C_Initialize, the first C_GetSlotList (how many, then which) and a second one, in milliseconds; the
configuration comes from the environment, as for any application.  `bench.full_size` runs it.
"""

from __future__ import annotations

import ctypes
import json
import sys
import time
from collections.abc import Callable

INITIALIZE = 0
GET_SLOT_LIST = 4
CKR_OK = 0


class FunctionList(ctypes.Structure):
    """The head of CK_FUNCTION_LIST (PKCS#11 2.40, section 3.6): the version, then pointers."""

    _fields_ = (("version", ctypes.c_ubyte * 2), ("functions", ctypes.c_void_p * 5))


def main(module: str) -> None:
    """Load the module and time it."""
    library = ctypes.CDLL(module)
    functions = ctypes.POINTER(FunctionList)()
    _require(library.C_GetFunctionList(ctypes.byref(functions)))
    pointers = functions.contents.functions
    initialize = ctypes.CFUNCTYPE(ctypes.c_ulong, ctypes.c_void_p)(pointers[INITIALIZE])
    slot_list = ctypes.CFUNCTYPE(
        ctypes.c_ulong, ctypes.c_ubyte, ctypes.c_void_p, ctypes.POINTER(ctypes.c_ulong)
    )(pointers[GET_SLOT_LIST])
    count = ctypes.c_ulong()

    def both() -> None:
        _require(slot_list(1, None, ctypes.byref(count)))
        slots = (ctypes.c_ulong * count.value)()
        _require(slot_list(1, slots, ctypes.byref(count)))

    times = {
        "C_Initialize": _milliseconds(lambda: _require(initialize(None))),
        "C_GetSlotList, first": _milliseconds(both),
        "C_GetSlotList, again": _milliseconds(both),
    }
    sys.stdout.write(json.dumps({"slots": count.value, "ms": times}) + "\n")


def _milliseconds(call: Callable[[], None]) -> float:
    begin = time.perf_counter()
    call()
    return (time.perf_counter() - begin) * 1000


def _require(value: int) -> None:
    if value != CKR_OK:
        raise SystemExit(f"a call returned 0x{value:08x}")


if __name__ == "__main__":
    main(sys.argv[1])
