"""Suites of others' making, or written to their tests, that a keyring has to pass.

Each runs in processes of its own against one token and raises AssertionError with what was said.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from tests.support.token import Token

PATIENCE_SECONDS: Final = 300.0
"""A suite makes RSA keys and may meet a member that hangs."""


def complaints(report: str) -> list[str]:
    """Return the lines of a report of pkcs11-tool that tell of a failure."""
    return [
        line.strip()
        for line in report.splitlines()
        if re.search(r"\berr(or)?s?\b(?!: 0)|fail|\bCKR_", line, re.IGNORECASE)
        and not re.match(r"^\s*(no|0) errors", line, re.IGNORECASE)
        and not line.strip().endswith(("CKR_OK", "CKR_CRYPTOKI_ALREADY_INITIALIZED"))
    ]


def _by_label(token: Token) -> tuple[str, ...]:
    return ("--token-label", token.label)


def _by_slot(token: Token) -> tuple[str, ...]:
    """Name the token's slot.

    Its threads and its search for a label share a buffer of pkcs11-tool's, which then now and then
    finds no token of that label though all that it asked was answered.
    """
    listed = token.run("pkcs11-tool", "--module", token.module, "--list-token-slots").stdout
    slots = re.findall(
        r"^Slot \d+ \((0x[0-9a-f]+)\).*\n  token label *: (.*)$", listed.decode(), re.M
    )
    return ("--slot", next(number for number, label in slots if label.strip() == token.label))


def _pkcs11_tool(
    *options: str, named: Callable[[Token], tuple[str, ...]] = _by_label
) -> Callable[[Token], None]:
    def suite(token: Token) -> None:
        outcome = token.run(
            *("pkcs11-tool", "--module", token.module, *named(token)),
            *("--login", "--pin", "env:TOKEN_PIN", "--session-rw", *options),
            check=False,
            timeout=PATIENCE_SECONDS,
        )
        report = (outcome.stdout + outcome.stderr).decode()
        assert outcome.returncode == 0, report
        assert not complaints(report), report

    return suite


def _application(name: str) -> Callable[[Token], None]:
    """Return a suite that is a module of this package, run as a program."""

    def run(token: Token) -> None:
        outcome = subprocess.run(
            [sys.executable, "-m", f"tests.support.{name}", token.module, token.label],
            check=False,
            capture_output=True,
            text=True,
            cwd=Path(__file__).parents[2],
            env={**token.environment, "TOKEN_PIN": token.pin},
            timeout=PATIENCE_SECONDS,
        )
        assert outcome.returncode == 0, outcome.stdout + outcome.stderr

    return run


def prepare(token: Token) -> None:
    """Make the keys that `pkcs11-tool --test` tries, under ids that no other key has.

    It takes the first public key of a private key's id for that one's.
    """
    for kind, label in (("rsa:2048", "suite-rsa"), ("EC:prime256v1", "suite-ec")):
        token.generate(kind, label, os.urandom(8).hex())


SUITES: Final[Mapping[str, Callable[[Token], None]]] = {
    "pkcs11-tool --test": _pkcs11_tool("--test"),
    "pkcs11-tool --test-ec": _pkcs11_tool(
        "--test-ec", "--id", "ec01", "--key-type", "EC:prime256v1"
    ),
    "pkcs11-tool --test-fork": _pkcs11_tool("--test-fork"),
    "pkcs11-tool --test-threads": _pkcs11_tool(*("--test-threads", "ILGISLT0") * 4, named=_by_slot),
    "OASIS profiles": _application("profiles"),
    "PyKCS11": _application("pykcs11_application"),
    "python-pkcs11": _application("python_pkcs11_application"),
}
