"""A token as applications see it."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

SOFTHSM_MODULES = (
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
)


@dataclass(frozen=True)
class Token:
    """A token that an application is pointed at."""

    module: str
    label: str
    serial: str
    pin: str
    environment: Mapping[str, str]

    def run(
        self, *command: str, data: bytes | None = None, check: bool = True, timeout: float = 60
    ) -> subprocess.CompletedProcess[bytes]:
        """Run an application with the token's environment and the PIN in TOKEN_PIN."""
        outcome = subprocess.run(
            command,
            check=False,
            input=data if data is not None else b"",
            capture_output=True,
            env={**self.environment, "TOKEN_PIN": self.pin},
            timeout=timeout,
        )
        if check:
            assert outcome.returncode == 0, (outcome.stdout + outcome.stderr).decode()
        return outcome

    def pkcs11_tool(
        self, *arguments: str, check: bool = True
    ) -> subprocess.CompletedProcess[bytes]:
        """Run pkcs11-tool logged in to this token."""
        return self.run(
            *("pkcs11-tool", "--module", self.module, "--token-label", self.label),
            *("--login", "--pin", "env:TOKEN_PIN", *arguments),
            check=check,
        )

    def generate(self, kind: str, label: str, identifier: str) -> None:
        """Make a key pair that lives on the token."""
        self.pkcs11_tool(
            *("--keypairgen", "--key-type", kind, "--label", label, "--id", identifier)
        )

    def public_key(self, label: str, path: Path) -> Path:
        """Write a public key as PEM below `path` and return the file."""
        der, pem = path / f"{label}.der", path / f"{label}.pem"
        self.pkcs11_tool(
            *("--read-object", "--type", "pubkey", "--label", label, "--output-file", str(der))
        )
        self.run("openssl", "pkey", "-pubin", "-inform", "DER", "-in", str(der), "-out", str(pem))
        return pem


def serial_of(module: str, label: str, environment: Mapping[str, str]) -> str:
    """Return the serial number of the token with this label."""
    listing = subprocess.run(
        ["pkcs11-tool", "--module", module, "--list-token-slots"],
        check=True,
        capture_output=True,
        text=True,
        env=dict(environment),
        timeout=60,
    ).stdout
    seen = ""
    for line in listing.splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "token label":
            seen = value.strip()
        if name.strip() == "serial num" and seen == label:
            return value.strip()
    raise AssertionError(f"no token {label!r} in:\n{listing}")
