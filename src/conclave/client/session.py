"""Keyrings as a Python program uses them: find a token, log in, make keys, use them.

Login state is the ticket that a `KeyringSession` holds; the password is never kept.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Final, TypeVar

import msgspec

from conclave import faults
from conclave.client.clusters import receive_timeout_seconds, registered_clusters
from conclave.client.configuration import configuration_path, read_document
from conclave.client.link import WRITE_DEADLINE_SECONDS, Link
from conclave.errors import BadInput, Ckr, CredentialRefused, InternalFault, NotAllowed, NotFound
from conclave.service import wire

Result = TypeVar("Result")
Parameter = wire.PssParameter | wire.OaepParameter | wire.GcmParameter | wire.CtrParameter
TOKENS_PER_PAGE: Final = 500


class Client:
    """A registered client of one cluster."""

    def __init__(self, link: Link) -> None:
        self.link = link

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Client:
        """Return a client of the first cluster in Chrystoki.conf; connects when it is used."""
        path = configuration_path(os.environ if environment is None else environment)
        document = read_document(path)
        clusters = registered_clusters(document)
        if not clusters:
            message = (
                f"{path} names no cluster; register this client with LNHClientRegistration.sh."
            )
            raise BadInput(faults.CLIENT_CONFIGURATION, message)
        timeout_seconds = max(WRITE_DEADLINE_SECONDS, receive_timeout_seconds(document))
        return cls(Link(clusters[0], timeout_seconds=timeout_seconds))

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
        """Close the connection."""
        self.link.close()

    def ping(self) -> None:
        """Ask the worker for a sign of life."""
        self.link.request(wire.Operation.PING, wire.Empty())

    def tokens(self) -> list[wire.Token]:
        """Return all keyrings in the order of their slots."""
        return list(self._token_pages())

    def token(self, name: str | int) -> wire.Token:
        """Return the keyring with this slot number or label; raise NotFound."""
        for token in self._token_pages():
            if name in (token.slot, token.label):
                return token
        message = f"No slot holds a keyring named {name!r}."
        raise NotFound(faults.SLOT_NOT_FOUND, message)

    def mechanisms(self) -> list[wire.MechanismInfo]:
        """Return all mechanisms."""
        answer = self.link.request(wire.Operation.MECHANISMS, wire.Empty())
        return msgspec.msgpack.decode(answer.result, type=list[wire.MechanismInfo])

    def random(self, length: int) -> bytes:
        """Return random bytes made by the cluster."""
        answer = self.link.request(wire.Operation.RANDOM, wire.Random(length))
        return msgspec.msgpack.decode(answer.result, type=bytes)

    def open(self, token: wire.Token) -> KeyringSession:
        """Return a session on a keyring, nobody logged in."""
        return KeyringSession(self.link, token.keyring_id)

    def _token_pages(self) -> Iterator[wire.Token]:
        first_slot = 0
        while True:
            arguments = wire.ListTokens(first_slot, TOKENS_PER_PAGE)
            answer = self.link.request(wire.Operation.LIST_TOKENS, arguments)
            page = msgspec.msgpack.decode(answer.result, type=list[wire.Token])
            yield from page
            if len(page) < TOKENS_PER_PAGE:
                return
            first_slot = page[-1].slot + 1


class KeyringSession:
    """One keyring and, between login and logout, one role's ticket."""

    def __init__(self, link: Link, keyring_id: bytes) -> None:
        self._link = link
        self._ticket: bytes | None = None
        self.keyring_id = keyring_id
        self.role: wire.Role | None = None

    # ---- roles

    def info(self) -> wire.TokenDetails:
        """Return the keyring's flags, counts and limits."""
        arguments = wire.TokenInfo(self.keyring_id)
        return self._ask(wire.Operation.TOKEN_INFO, arguments, wire.TokenDetails)

    def login(self, role: wire.Role, password: bytes) -> None:
        """Log a role in; a wrong password is an answer and is tried once only."""
        if self.role is not None:
            message = f"{self.role.name} is logged in already; log out first."
            raise NotAllowed(faults.ALREADY_LOGGED_IN, message)
        arguments = wire.Login(self.keyring_id, role, password, secrets.token_bytes(16))
        self._do(wire.Operation.LOGIN, arguments)
        self.role = role

    def logout(self) -> None:
        """Log out; the ticket is forgotten even when the cluster cannot be told."""
        try:
            self._do(wire.Operation.LOGOUT, wire.Empty())
        finally:
            self._forget()

    def change_password(self, role: wire.Role, old: bytes, new: bytes) -> None:
        """Change a role's password; the session stays logged in with a new ticket."""
        write = self._link.new_write()
        arguments = wire.SetPin(self.keyring_id, role, old, new, write)
        self._do(wire.Operation.SET_PIN, arguments)

    def initialize_krco(self, password: bytes) -> None:
        """Give the KRCO its password; the KRSO must be logged in."""
        arguments = wire.InitPin(self.keyring_id, password, self._link.new_write())
        self._do(wire.Operation.INIT_PIN, arguments)

    def initialize_token(self, krso_password: bytes, label: str) -> None:
        """Destroy all objects and the KRCO, and give the keyring this label."""
        arguments = wire.InitToken(self.keyring_id, krso_password, label, self._link.new_write())
        self._do(wire.Operation.INIT_TOKEN, arguments)
        self._forget()

    # ---- objects

    def find(self, template: wire.Template | None = None, *, limit: int = 0) -> list[bytes]:
        """Return references of the token objects that match; limit 0 asks for as many as may be."""
        arguments = wire.Find(self.keyring_id, template or [], limit or wire.MAX_FIND_RESULTS)
        return self._ask(wire.Operation.FIND, arguments, list[bytes])

    def attributes(self, reference: bytes, types: Sequence[int]) -> dict[int, bytes | None]:
        """Return the attributes that may be read; None stands for one that may not or is absent."""
        arguments = wire.GetAttributes(self.keyring_id, reference, list(types))
        rows = self._ask(
            wire.Operation.GET_ATTRIBUTES, arguments, list[tuple[int, int, bytes | None]]
        )
        return {kind: value if ckr == 0 else None for kind, ckr, value in rows}

    def set_attributes(self, reference: bytes, template: wire.Template) -> wire.ObjectResult:
        """Change attributes of an object."""
        arguments = wire.ChangeObject(
            self.keyring_id, reference, template, self._write_for(reference)
        )
        return self._ask(wire.Operation.SET_ATTRIBUTES, arguments, wire.ObjectResult)

    def create_object(self, template: wire.Template) -> wire.ObjectResult:
        """Make an object of these attributes."""
        arguments = wire.CreateObject(self.keyring_id, template, self._link.new_write())
        return self._ask(wire.Operation.CREATE_OBJECT, arguments, wire.ObjectResult)

    def copy_object(self, reference: bytes, template: wire.Template) -> wire.ObjectResult:
        """Copy an object with these attributes changed."""
        write = self._link.new_write()
        arguments = wire.ChangeObject(self.keyring_id, reference, template, write)
        return self._ask(wire.Operation.COPY_OBJECT, arguments, wire.ObjectResult)

    def destroy_object(self, reference: bytes) -> None:
        """Destroy a token object."""
        arguments = wire.DestroyObject(self.keyring_id, reference, self._link.new_write())
        self._do(wire.Operation.DESTROY_OBJECT, arguments)

    def key_info(self, reference: bytes) -> wire.KeyInfo:
        """Return class, type, size and usage of a key."""
        arguments = wire.ObjectReference(self.keyring_id, reference)
        return self._ask(wire.Operation.KEY_INFO, arguments, wire.KeyInfo)

    def object_size(self, reference: bytes) -> int:
        """Return an object's size in bytes."""
        arguments = wire.ObjectReference(self.keyring_id, reference)
        return self._ask(wire.Operation.OBJECT_SIZE, arguments, int)

    # ---- keys

    def generate_key(
        self, mechanism: int, template: wire.Template, parameter: object = None
    ) -> wire.ObjectResult:
        """Generate a secret key."""
        arguments = wire.GenerateKey(
            self.keyring_id, mechanism, _raw(parameter), template, self._link.new_write()
        )
        return self._ask(wire.Operation.GENERATE_KEY, arguments, wire.ObjectResult)

    def generate_key_pair(
        self,
        mechanism: int,
        public_template: wire.Template,
        private_template: wire.Template,
        parameter: object = None,
    ) -> tuple[wire.ObjectResult, wire.ObjectResult]:
        """Generate a key pair and return (public, private)."""
        arguments = wire.GenerateKeyPair(
            self.keyring_id,
            mechanism,
            _raw(parameter),
            public_template,
            private_template,
            self._link.new_write(),
        )
        return self._ask(
            wire.Operation.GENERATE_KEY_PAIR,
            arguments,
            tuple[wire.ObjectResult, wire.ObjectResult],
        )

    def sign(
        self,
        reference: bytes,
        mechanism: int,
        data: bytes,
        *,
        parameter: Parameter | bytes | int | None = None,
        prehashed: bool = False,
    ) -> bytes:
        """Return the signature of `data`, or of the digest `data` when `prehashed`."""
        arguments = wire.UseKey(
            self.keyring_id, reference, mechanism, _raw(parameter), data, prehashed
        )
        return self._ask(wire.Operation.SIGN, arguments, bytes)

    def verify(
        self,
        reference: bytes,
        mechanism: int,
        data: bytes,
        signature: bytes,
        *,
        parameter: Parameter | bytes | int | None = None,
    ) -> None:
        """Return when the signature is right; raise CKR_SIGNATURE_INVALID's error when not."""
        arguments = wire.VerifySignature(
            self.keyring_id, reference, mechanism, _raw(parameter), data, signature
        )
        self._do(wire.Operation.VERIFY, arguments)

    def encrypt(
        self,
        reference: bytes,
        mechanism: int,
        data: bytes,
        *,
        parameter: Parameter | bytes | None = None,
    ) -> bytes:
        """Return the ciphertext."""
        arguments = wire.UseKey(self.keyring_id, reference, mechanism, _raw(parameter), data)
        return self._ask(wire.Operation.ENCRYPT, arguments, bytes)

    def decrypt(
        self,
        reference: bytes,
        mechanism: int,
        data: bytes,
        *,
        parameter: Parameter | bytes | None = None,
    ) -> bytes:
        """Return the plaintext."""
        arguments = wire.UseKey(self.keyring_id, reference, mechanism, _raw(parameter), data)
        return self._ask(wire.Operation.DECRYPT, arguments, bytes)

    # ---- the one door to the link

    def _ask(
        self, operation: wire.Operation, arguments: wire.Message, shape: type[Result]
    ) -> Result:
        """Ask with the ticket; keep the newer one that an answer brings, drop one that is void."""
        try:
            answer = self._link.request(operation, arguments, self._ticket)
        except CredentialRefused as refusal:
            if self._ticket is not None and refusal.fault.ckr is Ckr.USER_NOT_LOGGED_IN:
                self._forget()
            raise
        if answer.ticket is not None:
            self._ticket = answer.ticket
        try:
            return msgspec.msgpack.decode(answer.result, type=shape)
        except msgspec.DecodeError as cause:
            message = f"The answer to {operation.name} has another shape: {cause}."
            raise InternalFault(faults.PROTOCOL_BROKEN, message) from cause

    def _do(self, operation: wire.Operation, arguments: wire.Message) -> None:
        self._ask(operation, arguments, object)

    def _write_for(self, reference: bytes) -> wire.Write | None:
        token_object = len(reference) == wire.OBJECT_ID_BYTES
        return self._link.new_write() if token_object else None

    def _forget(self) -> None:
        self._ticket = None
        self.role = None


def _raw(value: object) -> msgspec.Raw:
    return msgspec.Raw(msgspec.msgpack.encode(value))
