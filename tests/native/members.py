"""Several echo servers that play the members of one cluster."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from tests.native.driver import write_configuration
from tests.native.echo_server import EchoServer, Told, server_context

READ_WRITE, READ_ONLY, NOT_VISIBLE, NOT_AUTHORIZED = range(4)


def key_hash(directory: Path) -> bytes:
    """Hash the public key of the directory's server certificate."""
    certificate = x509.load_pem_x509_certificate((directory / "server.pem").read_bytes())
    public = certificate.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return hashlib.sha256(public).digest()


@dataclass
class Members:
    """A cluster; its first member is the one that Chrystoki.conf names."""

    directory: Path
    groups: list[str]
    workers: int = 1
    standing: dict[int, int] = field(default_factory=dict)
    """By member, where it is not read-write."""
    keys: dict[int, bytes] = field(default_factory=dict)
    """By member, where it is not that of the certificate."""
    version: int = 1

    def __enter__(self) -> Self:
        self.listed = list(range(len(self.groups)))
        self.servers = [self.start(index) for index in self.listed]
        self.configure()
        return self

    def __exit__(self, *_error: object) -> None:
        for server in self.servers:
            server.stop()

    def start(self, index: int, port: int = 0) -> EchoServer:
        """Start a member."""
        server = EchoServer(
            server_context(self.directory),
            workers=self.workers,
            port=port,
            member_id=f"member-{index}",
            told=Told(members_version=self.version),
        )
        server.listing = lambda: self.list_from(index)
        return server

    def restart(self, index: int) -> None:
        """Start a stopped member again on its port, with what it told last."""
        before = self.servers[index]
        self.servers[index] = self.start(index, before.port)
        self.servers[index].told = before.told

    def configure(self, *, direct: bool | None = None, receive_timeout_ms: int = 20000) -> None:
        """Write the client's Chrystoki.conf."""
        write_configuration(
            self.directory,
            self.servers[0].port,
            direct=direct,
            receive_timeout_ms=receive_timeout_ms,
        )

    def told(self, index: int) -> Told:
        """Return what a member tells, to be changed."""
        told = self.servers[index].told
        assert told is not None
        return told

    def change_list(self) -> None:
        """Have every member tell that its list is another."""
        self.version += 1
        for server in self.servers:
            if server.told is not None:
                server.told.members_version = self.version

    def list_from(self, teller: int) -> list[Any]:
        """Give the result of MEMBERS."""
        rows = [
            [
                f"member-{index}",
                "127.0.0.1",
                self.servers[index].port,
                self.groups[index],
                self.keys.get(index, key_hash(self.directory)),
                self.standing.get(index, READ_WRITE),
            ]
            for index in self.listed
        ]
        return [self.version, rows, self.groups[teller]]

    def served(self, operation: int) -> list[int]:
        """Return how many requests of an operation each member has answered."""
        return [server.served[operation] for server in self.servers]
