"""Where the PKCS#11 module and the registration script are."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from conclave import faults
from conclave.errors import NotFound

_PACKAGE: Final = Path(__file__).resolve().parent.parent
MODULE_NAME: Final = "libconclave_pkcs11.so"
SCRIPT_NAME: Final = "LNHClientRegistration.sh"


def module_path() -> Path:
    """Return the path of the PKCS#11 module; raise NotFound when it was not built."""
    path = _PACKAGE / "_native" / MODULE_NAME
    if not path.is_file():
        message = f"The PKCS#11 module {path} is missing; build it with `make setup`."
        raise NotFound(faults.CLIENT_CONFIGURATION, message)
    return path


def registration_script() -> Path:
    """Return the path of the client registration script."""
    return _PACKAGE / "client" / SCRIPT_NAME
