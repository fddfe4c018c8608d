"""Register a client, set up the keyrings' roles, make keys and sign: chapters 4 and 5."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from conclave.client.configuration import DIRECTORY_VARIABLE
from conclave.client.module_path import module_path, registration_script
from conclave.client.session import Client
from conclave.demo.appliance_steps import Passwords
from conclave.demo.document import KeyringRow
from conclave.demo.errors import step_failed
from conclave.demo.narrator import Narrator
from conclave.demo.options import DemoOptions, new_password
from conclave.service.wire import Role

CLIENT_NAME: Final = "demo-client"
COMMAND_SECONDS: Final = 120.0
PIN_VARIABLE: Final = "DEMO_PIN"


@dataclass(frozen=True, slots=True)
class DemoKey:
    """A key pair of the first keyring and how a signature is made and checked with it."""

    label: str
    identifier: str
    kind: str
    mechanism: str
    signature_format: tuple[str, ...] = ()


KEYS: Final = (
    DemoKey("demo-rsa", "01", "rsa:2048", "SHA256-RSA-PKCS"),
    DemoKey("demo-ec", "02", "EC:prime256v1", "ECDSA-SHA256", ("--signature-format", "openssl")),
)


def client_environment(options: DemoOptions) -> dict[str, str]:
    """Return what a program needs to find the cluster."""
    return {DIRECTORY_VARIABLE: str(options.client_dir)}


def register(
    options: DemoOptions,
    narrator: Narrator,
    *,
    address: str,
    cluster_id: str,
    fingerprint: str,
    admin_password: str,
) -> None:
    """Register this machine as a client with LNHClientRegistration.sh."""
    options.client_dir.mkdir(mode=0o700, exist_ok=True)
    words = ["-n", CLIENT_NAME, "-i", address, "-c", cluster_id, "-l", "demo"]
    confirmed = ["--fingerprint", fingerprint, "--client-dir", str(options.client_dir)]
    narrator.detail(f"LNHClientRegistration.sh {' '.join(words)}")
    command = ["sh", str(registration_script()), *words, *confirmed, "--password-fd", "0"]
    run(command, client_environment(options), stdin=admin_password.encode() + b"\n")


def set_up_roles(
    options: DemoOptions,
    narrator: Narrator,
    passwords: Passwords,
    keyrings: Sequence[Mapping[str, Any]],
) -> list[KeyringRow]:
    """Change each KRSO's first password and initialise each KRCO; return the passwords."""
    with Client.from_environment(client_environment(options)) as client:
        tokens = {token.label: token for token in client.tokens()}
        rows = []
        for keyring in keyrings:
            token = tokens[keyring["keyRingLabel"]]
            so_pin = new_password(options.password_characters)
            dual = options.identity == "dual"
            pin = new_password(options.password_characters) if dual else so_pin
            session = client.open(token)
            session.login(Role.KRSO, passwords.first_krso.encode())
            session.change_password(Role.KRSO, passwords.first_krso.encode(), so_pin.encode())
            session.initialize_krco(pin.encode())
            session.logout()
            rows.append(
                KeyringRow(
                    id=keyring["keyRingUUID"],
                    label=token.label,
                    slot=token.slot,
                    so_pin=so_pin,
                    pin=pin,
                )
            )
    narrator.detail("lunacm: role login -name po; role changepw -name po; role init -name co")
    return rows


def make_keys(options: DemoOptions, narrator: Narrator, keyring: KeyringRow) -> None:
    """Make one RSA and one EC key pair with pkcs11-tool."""
    for key in KEYS:
        words = ["--keypairgen", "--key-type", key.kind, "--label", key.label]
        narrator.detail(f"pkcs11-tool --module M --login {' '.join(words)}")
        pkcs11_tool(options, keyring, *words, "--id", key.identifier)


def sign_and_verify(options: DemoOptions, narrator: Narrator, keyring: KeyringRow) -> None:
    """Sign a file with each key by pkcs11-tool, and let OpenSSL verify it."""
    data = options.directory / "message.txt"
    data.write_text("Signed in a keyring, verified outside.\n")
    for key in KEYS:
        signature = options.directory / f"{key.label}.sig"
        public = options.directory / f"{key.label}.pub.der"
        read = ("--read-object", "--type", "pubkey", "--label", key.label)
        pkcs11_tool(options, keyring, *read, "--output-file", str(public))
        sign = ["--sign", "--mechanism", key.mechanism, "--id", key.identifier]
        files = ["--input-file", str(data), "--output-file", str(signature)]
        pkcs11_tool(options, keyring, *sign, *key.signature_format, *files)
        narrator.detail(f"pkcs11-tool --module M --login {' '.join(sign)}")
        verify = ["openssl", "dgst", "-sha256", "-keyform", "DER", "-verify", str(public)]
        verify += ["-signature", str(signature), str(data)]
        answer = run(verify, {}).strip()
        narrator.detail(f"openssl dgst -sha256 -verify {public.name} -> {answer}")
        if answer != "Verified OK":
            raise step_failed(f"OpenSSL does not accept the signature of {key.label}: {answer}")


def pkcs11_tool(options: DemoOptions, keyring: KeyringRow, *words: str) -> str:
    """Run pkcs11-tool on a keyring, logged in; the PIN travels in the environment."""
    head = ["pkcs11-tool", "--module", str(module_path()), "--token-label", keyring.label]
    login = ["--login", "--pin", f"env:{PIN_VARIABLE}"]
    environment = {**client_environment(options), PIN_VARIABLE: keyring.pin}
    return run([*head, *login, *words], environment)


def run(command: Sequence[str], environment: Mapping[str, str], *, stdin: bytes = b"") -> str:
    """Run a command and return its output; raise with its own words when it fails."""
    name = Path(command[1] if command[0] == "sh" else command[0]).name
    try:
        outcome = subprocess.run(
            command,
            check=False,
            capture_output=True,
            env={**os.environ, **environment},
            input=stdin,
            timeout=COMMAND_SECONDS,
        )
    except FileNotFoundError as cause:
        message = f"{name} was not found; `make setup` installs it (Debian: opensc, openssl, curl)."
        raise step_failed(message) from cause
    except subprocess.TimeoutExpired as cause:
        message = f"{name} did not end within {COMMAND_SECONDS:.0f} seconds."
        raise step_failed(message) from cause
    output = outcome.stdout.decode(errors="replace")
    if outcome.returncode != 0:
        words = " / ".join((outcome.stderr.decode(errors="replace") + output).split("\n")).strip()
        raise step_failed(f"{name} ended with status {outcome.returncode}: {words}")
    return output
