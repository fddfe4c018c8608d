"""A token as applications see it."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

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
        listing = self.pkcs11_tool("--list-objects", "--type", "pubkey").stdout.decode()
        point = re.search(
            rf"EC_POINT: +([0-9a-f]+)\n +EC_PARAMS: .*\n +label: +{re.escape(label)}\n", listing
        )
        pem = path / f"{label}.pem"
        if point is not None:
            pem.write_bytes(ec_pem(bytes.fromhex(point.group(1))))
            return pem
        der = path / f"{label}.der"
        self.pkcs11_tool(
            *("--read-object", "--type", "pubkey", "--label", label, "--output-file", str(der))
        )
        self.run("openssl", "pkey", "-pubin", "-inform", "DER", "-in", str(der), "-out", str(pem))
        return pem


def ec_pem(octet_string: bytes) -> bytes:
    """Return an EC key as PEM; pkcs11-tool 0.23 cannot write P-384 keys of any token itself."""
    point = octet_string[octet_string.index(4, 2) :]
    curve = {65: ec.SECP256R1(), 97: ec.SECP384R1(), 133: ec.SECP521R1()}[len(point)]
    return ec.EllipticCurvePublicKey.from_encoded_point(curve, point).public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


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
