"""What a script needs to know of a running installation: the file that --json writes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import msgspec

from conclave.demo.errors import directory_missing

DEFAULT_DIRECTORY: Final = Path("conclave-demo")
FILE_NAME: Final = "demo.json"
"""Kept in the installation's directory, mode 0600: it holds every password."""


class _Row(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(self.__struct_fields__)})"


class MemberRow(_Row, frozen=True, kw_only=True):
    """One appliance; `ssh_port` is None where no LunaSH is served."""

    member_id: str
    name: str
    address: str
    rest_port: int
    admin_port: int
    crypto_port: int
    core_port: int = 50051
    ssh_port: int | None
    hsm_serial: str
    state_dir: str
    ca_file: str = ""
    """With which this member's REST certificate is verified."""
    pids: dict[str, int]


class ClientRow(_Row, frozen=True):
    """The registered client: its PKCS#11 module and what must be exported for it."""

    module: str
    environment: dict[str, str]


class KeyringRow(_Row, frozen=True):
    """One keyring with the passwords of KRSO and KRCO."""

    id: str
    label: str
    slot: int
    so_pin: str
    pin: str


class DemoDocument(_Row, frozen=True):
    """The whole installation."""

    cluster_id: str
    partition_label: str
    hsm_so_password: str
    po_password: str
    co_password: str
    admin_password: str
    ca_file: str
    members: list[MemberRow]
    client: ClientRow
    keyrings: list[KeyringRow]


def write_document(document: DemoDocument, path: Path) -> None:
    """Write the document as JSON of mode 0600, whole or not at all."""
    text = msgspec.json.format(msgspec.json.encode(document), indent=2)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(text + b"\n")
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def read_document(directory: Path) -> DemoDocument:
    """Read the document of an installation; raise BadInput when there is none."""
    path = directory / FILE_NAME
    try:
        return msgspec.json.decode(path.read_bytes(), type=DemoDocument)
    except (OSError, msgspec.DecodeError) as cause:
        message = f"{directory} holds no complete demonstration: {path} cannot be read ({cause})."
        raise directory_missing(message) from cause
