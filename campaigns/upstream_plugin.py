"""For pytest: begin each of python-pkcs11's tests with a module that knows of no login.

A test whose preparation fails never closes its session, and all later ones would meet its login.
"""

from __future__ import annotations

import os

import pkcs11


def pytest_runtest_logfinish() -> None:
    """Finalize the module and initialise it again."""
    pkcs11.lib(os.environ["PKCS11_MODULE"]).reinitialize()
