"""What the demonstration is asked for, and the secrets and addresses it chooses itself."""

from __future__ import annotations

import secrets
import socket
import string
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from conclave.demo.errors import step_failed

CORE_PORT: Final = 50051
SSH_PORT: Final = 2222
PORTS: Final = (8443, 50070, 50052, CORE_PORT, SSH_PORT)
MAX_MEMBERS: Final = 4
CERTIFICATES_FILE: Final = "ca.pem"
MEMBER_PREFIX: Final = "member-"
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
    engine: str = "sqlite"
    min_password: int | None = None
    max_objects: int | None = None
    low_cost: bool = False
    json_file: Path | None = None
    detach: bool = False
    members: int | None = None
    """None: one, or as many as a stopped installation has."""

    @property
    def uses_postgresql(self) -> bool:
        """Tell whether the store of a new installation is in PostgreSQL."""
        return self.engine == "postgresql" or self.members not in (None, 1)

    def state_dir(self, number: int) -> Path:
        """Return where a member's appliance keeps its state; they are counted from 1."""
        return self.directory / f"{MEMBER_PREFIX}{number}"

    def settings_file(self, number: int) -> Path:
        """Return the settings that a member's appliance was made with."""
        return self.directory / ("settings.toml" if number == 1 else f"settings-{number}.toml")

    @property
    def ca_file(self) -> Path:
        """Return the file with which REST's certificates are verified."""
        if self.members is None or self.members == 1:
            return self.state_dir(1) / "webserver" / "server.pem"
        return self.directory / CERTIFICATES_FILE

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
    return free_loopback_addresses(1)[0]


@contextmanager
def member_addresses(count: int) -> Iterator[list[str]]:
    """Yield the addresses of new members: 127.0.0.1 and the next ones if they are free.

    One member takes a random address, so that several demonstrations run side by side.  Until the
    end no other demonstration takes the usual addresses, on which nothing may listen yet.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as claim:
        usual = [f"127.0.0.{number}" for number in range(1, count + 1)]
        if count > 1 and _is_first(claim) and _are_free(usual):
            yield usual
        else:
            yield free_loopback_addresses(count)


def _is_first(claim: socket.socket) -> bool:
    """Take a name that one process at a time can have, without a file."""
    try:
        claim.bind("\0conclave-demo-addresses")
    except OSError:
        return False
    return True


def free_loopback_addresses(count: int) -> list[str]:
    """Return a random run of addresses in 127/8 on which all standard ports are free."""
    for _ in range(ADDRESS_ATTEMPTS):
        net, first = f"127.{_byte()}.{_byte()}", _byte() % (255 - count) + 1
        addresses = [f"{net}.{number}" for number in range(first, first + count)]
        if _are_free(addresses):
            return addresses
    message = (
        f"No {count} addresses in 127.0.0.0/8 were found on which the ports {PORTS} are free;"
        " is something listening on them on every address?"
    )
    raise step_failed(message)


def _are_free(addresses: Sequence[str]) -> bool:
    return all(_is_free(address, port) for address in addresses for port in PORTS)


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
