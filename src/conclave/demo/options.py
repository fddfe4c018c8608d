"""What the demonstration is asked for, and the secrets and addresses it chooses itself."""

from __future__ import annotations

import secrets
import socket
import string
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from conclave.demo.errors import step_failed

PORTS: Final = (8443, 50070, 50052)
ADDRESS_ATTEMPTS: Final = 50
PASSWORD_CHARACTERS: Final = 16
"""A keyring password of up to 16 characters locks after failures, so that this can be tried."""
KEY_OBJECTS: Final = 4
"""An RSA and an EC key pair."""
ADMIN_PASSWORD_CHARACTERS: Final = 20
_ALPHABET: Final = string.ascii_letters + string.digits


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoOptions:
    """The options of `conclave demo`; None leaves a limit at its default."""

    directory: Path
    keyrings: int = 1
    identity: str = "single"
    min_password: int | None = None
    max_objects: int | None = None
    low_cost: bool = False
    json_file: Path | None = None
    detach: bool = False

    @property
    def state_dir(self) -> Path:
        """Return where the appliance keeps its state."""
        return self.directory / "member-1"

    @property
    def settings_file(self) -> Path:
        """Return the settings that the appliance was made with."""
        return self.directory / "settings.toml"

    @property
    def client_dir(self) -> Path:
        """Return where the client keeps its files and its Chrystoki.conf."""
        return self.directory / "client"

    @property
    def password_characters(self) -> int:
        """Return how long a keyring's password is."""
        return max(PASSWORD_CHARACTERS, self.min_password or 0)


def new_password(characters: int = ADMIN_PASSWORD_CHARACTERS) -> str:
    """Return a random password of letters and digits, each kind at least once."""
    while True:
        password = "".join(secrets.choice(_ALPHABET) for _ in range(characters))
        kinds = (string.ascii_lowercase, string.ascii_uppercase, string.digits)
        if all(set(password) & set(kind) for kind in kinds):
            return password


def free_loopback_address() -> str:
    """Return a random address in 127/8 on which all standard ports are free."""
    for _ in range(ADDRESS_ATTEMPTS):
        address = f"127.{_byte()}.{_byte()}.{_byte()}"
        if all(_is_free(address, port) for port in PORTS):
            return address
    message = (
        f"No address in 127.0.0.0/8 was found on which the ports {PORTS} are free;"
        " is something listening on them on every address?"
    )
    raise step_failed(message)


def _byte() -> int:
    return 1 + secrets.randbelow(254)


def _is_free(address: str, port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError:
            return False
    return True
