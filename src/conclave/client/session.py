"""Keyrings by the operations of the wire, for programs and threads that may block.

What is done stands in `conclave.client.async_session`; here its coroutines are run to their end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING

from conclave.client.async_session import (
    KRCO,
    AsyncClient,
    AsyncKeyringSession,
    Parameter,
    configured_cluster,
)
from conclave.client.link import Link
from conclave.client.ways import finish
from conclave.service import wire

if TYPE_CHECKING:
    from conclave.client.keyring import Keyring


class Client:
    """A registered client of one cluster; any number of threads may use it."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.core = AsyncClient(link.core)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Client:
        """Return a client of the first cluster in Chrystoki.conf; connects when it is used."""
        entry, timeout_seconds = configured_cluster(environment)
        return cls(Link(entry, timeout_seconds=timeout_seconds))

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self.link.close()

    def ping(self) -> None:
        """Ask the worker for a sign of life."""
        finish(self.core.ping())

    def tokens(self) -> list[wire.Token]:
        """Return all keyrings in the order of their slots."""
        return finish(self.core.tokens())

    def token(self, name: str | int) -> wire.Token:
        """Return the keyring with this slot number or label; raise NotFound."""
        return finish(self.core.token(name))

    def mechanisms(self) -> list[wire.MechanismInfo]:
        """Return all mechanisms."""
        return finish(self.core.mechanisms())

    def random(self, length: int) -> bytes:
        """Return random bytes made by the cluster."""
        return finish(self.core.random(length))

    def keyring(
        self, name: str | int, password: str | bytes | None = None, *, role: wire.Role = KRCO
    ) -> Keyring:
        """Return the keyring with this label or slot number, for `with`.

        With a password, the role is logged in where the block begins and out where it ends.
        """
        from conclave.client.keyring import Keyring

        return Keyring(self.core.keyring(name, password, role=role))

    def open(self, token: wire.Token) -> KeyringSession:
        """Return a session on a keyring, nobody logged in."""
        return KeyringSession(self.core.open(token))


class KeyringSession:
    """One keyring and, between login and logout, one role's ticket."""

    def __init__(self, core: AsyncKeyringSession) -> None:
        self.core = core

    @property
    def keyring_id(self) -> bytes:
        """Return the keyring's id."""
        return self.core.keyring_id

    @property
    def role(self) -> wire.Role | None:
        """Return who is logged in."""
        return self.core.role

    def info(self) -> wire.TokenDetails:
        """Return the keyring's flags, counts and limits."""
        return finish(self.core.info())

    def login(self, role: wire.Role, password: bytes) -> None:
        """Log a role in; a wrong password is an answer and is tried once only."""
        finish(self.core.login(role, password))

    def logout(self) -> None:
        """Log out; the ticket is forgotten even when the cluster cannot be told."""
        finish(self.core.logout())

    def change_password(self, role: wire.Role, old: bytes, new: bytes) -> None:
        """Change a role's password; the session stays logged in with a new ticket."""
        finish(self.core.change_password(role, old, new))

    def initialize_krco(self, password: bytes) -> None:
        """Give the KRCO its password; the KRSO must be logged in."""
        finish(self.core.initialize_krco(password))

    def initialize_token(self, krso_password: bytes, label: str) -> None:
        """Destroy all objects and the KRCO, and give the keyring this label."""
        finish(self.core.initialize_token(krso_password, label))

    def find(self, template: wire.Template | None = None, *, limit: int = 0) -> list[bytes]:
        """Return references of the token objects that match; limit 0 asks for as many as may be."""
        return finish(self.core.find(template, limit=limit))

    def attributes(self, reference: bytes, types: Sequence[int]) -> dict[int, bytes | None]:
        """Return the attributes that may be read; None stands for one that may not or is absent."""
        return finish(self.core.attributes(reference, types))

    def set_attributes(self, reference: bytes, template: wire.Template) -> wire.ObjectResult:
        """Change attributes of an object."""
        return finish(self.core.set_attributes(reference, template))

    def create_object(self, template: wire.Template) -> wire.ObjectResult:
        """Make an object of these attributes."""
        return finish(self.core.create_object(template))

    def copy_object(self, reference: bytes, template: wire.Template) -> wire.ObjectResult:
        """Copy an object with these attributes changed."""
        return finish(self.core.copy_object(reference, template))

    def destroy_object(self, reference: bytes) -> None:
        """Destroy a token object."""
        finish(self.core.destroy_object(reference))

    def key_info(self, reference: bytes) -> wire.KeyInfo:
        """Return class, type, size and usage of a key."""
        return finish(self.core.key_info(reference))

    def object_size(self, reference: bytes) -> int:
        """Return an object's size in bytes."""
        return finish(self.core.object_size(reference))

    def generate_key(
        self, mechanism: int, template: wire.Template, parameter: Parameter = None
    ) -> wire.ObjectResult:
        """Generate a secret key."""
        return finish(self.core.generate_key(mechanism, template, parameter))

    def generate_key_pair(
        self,
        mechanism: int,
        public_template: wire.Template,
        private_template: wire.Template,
        parameter: Parameter = None,
    ) -> tuple[wire.ObjectResult, wire.ObjectResult]:
        """Generate a key pair and return (public, private)."""
        return finish(
            self.core.generate_key_pair(mechanism, public_template, private_template, parameter)
        )

    def sign(
        self,
        reference: bytes,
        mechanism: int,
        data: bytes,
        *,
        parameter: Parameter = None,
        prehashed: bool = False,
        password: bytes | None = None,
    ) -> bytes:
        """Return the signature of `data`, or of the digest `data` when `prehashed`.

        A key with CKA_ALWAYS_AUTHENTICATE takes the KRCO's password for each use, and no other.
        """
        work = self.core.sign(
            reference,
            mechanism,
            data,
            parameter=parameter,
            prehashed=prehashed,
            password=password,
        )
        return finish(work)

    def verify(
        self,
        reference: bytes,
        mechanism: int,
        data: bytes,
        signature: bytes,
        *,
        parameter: Parameter = None,
        prehashed: bool = False,
    ) -> None:
        """Return when the signature is right; raise CKR_SIGNATURE_INVALID's error when not."""
        finish(
            self.core.verify(
                reference, mechanism, data, signature, parameter=parameter, prehashed=prehashed
            )
        )

    def encrypt(
        self, reference: bytes, mechanism: int, data: bytes, *, parameter: Parameter = None
    ) -> bytes:
        """Return the ciphertext."""
        return finish(self.core.encrypt(reference, mechanism, data, parameter=parameter))

    def decrypt(
        self,
        reference: bytes,
        mechanism: int,
        data: bytes,
        *,
        parameter: Parameter = None,
        password: bytes | None = None,
    ) -> bytes:
        """Return the plaintext; a password is for keys as `sign` tells."""
        work = self.core.decrypt(reference, mechanism, data, parameter=parameter, password=password)
        return finish(work)

    def wrap_key(
        self, wrapping_key: bytes, mechanism: int, key: bytes, *, parameter: Parameter = None
    ) -> bytes:
        """Return a key enciphered under another."""
        return finish(self.core.wrap_key(wrapping_key, mechanism, key, parameter=parameter))

    def unwrap_key(
        self,
        unwrapping_key: bytes,
        mechanism: int,
        wrapped: bytes,
        template: wire.Template,
        *,
        parameter: Parameter = None,
    ) -> wire.ObjectResult:
        """Take in a key that was enciphered under another."""
        return finish(
            self.core.unwrap_key(unwrapping_key, mechanism, wrapped, template, parameter=parameter)
        )

    def derive_key(
        self,
        base_key: bytes,
        mechanism: int,
        template: wire.Template,
        *,
        parameter: Parameter = None,
    ) -> wire.ObjectResult:
        """Derive a key from another."""
        return finish(self.core.derive_key(base_key, mechanism, template, parameter=parameter))

    def encapsulate_key(
        self,
        public_key: bytes,
        mechanism: int,
        template: wire.Template,
        *,
        parameter: Parameter = None,
    ) -> tuple[bytes, wire.ObjectResult]:
        """Make a key that the owner of a public key can make too; return (ciphertext, key)."""
        work = self.core.encapsulate_key(public_key, mechanism, template, parameter=parameter)
        return finish(work)

    def decapsulate_key(
        self,
        private_key: bytes,
        mechanism: int,
        ciphertext: bytes,
        template: wire.Template,
        *,
        parameter: Parameter = None,
    ) -> wire.ObjectResult:
        """Make the key that somebody encapsulated for a private key."""
        work = self.core.decapsulate_key(
            private_key, mechanism, ciphertext, template, parameter=parameter
        )
        return finish(work)
