"""Keyrings by the operations of the wire, in an event loop: this is where they are carried out.

The blocking face (`conclave.client.session`) runs the same coroutines over a blocking link.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Final

import msgspec

from conclave import faults
from conclave.client.async_login import AsyncLogin
from conclave.client.clusters import ClusterEntry, receive_timeout_seconds, registered_clusters
from conclave.client.configuration import client_configuration, configuration_path
from conclave.client.link import WRITE_DEADLINE_SECONDS, AsyncLink
from conclave.client.ways import LoopWays
from conclave.errors import BadInput, NotFound
from conclave.service import wire

if TYPE_CHECKING:
    from conclave.client.async_keyring import AsyncKeyring

Parameter = wire.Message | bytes | int | None
"""A mechanism's parameter, as docs/protocol.md lists them."""
KRCO: Final = wire.Role.KRCO
TOKENS_PER_PAGE: Final = 500


class AsyncClient:
    """A registered client of one cluster."""

    def __init__(self, link: AsyncLink) -> None:
        self.link = link

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> AsyncClient:
        """Return a client of the first cluster in Chrystoki.conf; connects when it is used."""
        entry, timeout_seconds = configured_cluster(environment)
        return cls(AsyncLink(entry, LoopWays(), timeout_seconds=timeout_seconds))

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; a call under way goes on over a new one."""
        self.link.close()

    async def ping(self) -> None:
        """Ask the worker for a sign of life."""
        await self.link.request(wire.Operation.PING, wire.Empty())

    async def tokens(self) -> list[wire.Token]:
        """Return all keyrings in the order of their slots."""
        return [token async for token in self._token_pages()]

    async def token(self, name: str | int) -> wire.Token:
        """Return the keyring with this slot number or label; raise NotFound."""
        async for token in self._token_pages():
            if name in (token.slot, token.label):
                return token
        message = f"No slot holds a keyring named {name!r}."
        raise NotFound(faults.SLOT_NOT_FOUND, message)

    async def mechanisms(self) -> list[wire.MechanismInfo]:
        """Return all mechanisms."""
        answer = await self.link.request(wire.Operation.MECHANISMS, wire.Empty())
        return msgspec.msgpack.decode(answer.result, type=list[wire.MechanismInfo])

    async def random(self, length: int) -> bytes:
        """Return random bytes made by the cluster."""
        answer = await self.link.request(wire.Operation.RANDOM, wire.Random(length))
        return msgspec.msgpack.decode(answer.result, type=bytes)

    def keyring(
        self, name: str | int, password: str | bytes | None = None, *, role: wire.Role = KRCO
    ) -> AsyncKeyring:
        """Return the keyring with this label or slot number, for `async with`.

        With a password, the role is logged in where the block begins and out where it ends.
        """
        from conclave.client.async_keyring import AsyncKeyring

        return AsyncKeyring(self, name, password, role)

    def open(self, token: wire.Token) -> AsyncKeyringSession:
        """Return a session on a keyring, nobody logged in."""
        return AsyncKeyringSession(self.link, token.keyring_id)

    async def _token_pages(self) -> AsyncIterator[wire.Token]:
        first_slot = 0
        while True:
            arguments = wire.ListTokens(first_slot, TOKENS_PER_PAGE)
            answer = await self.link.request(wire.Operation.LIST_TOKENS, arguments)
            page = msgspec.msgpack.decode(answer.result, type=list[wire.Token])
            for token in page:
                yield token
            if len(page) < TOKENS_PER_PAGE:
                return
            first_slot = page[-1].slot + 1


class AsyncKeyringSession(AsyncLogin):
    """One keyring: its roles, objects and keys."""

    # ---- objects

    async def find(self, template: wire.Template | None = None, *, limit: int = 0) -> list[bytes]:
        """Return references of the token objects that match; limit 0 asks for as many as may be."""
        arguments = wire.Find(self.keyring_id, template or [], limit or wire.MAX_FIND_RESULTS)
        return await self.ask(wire.Operation.FIND, arguments, list[bytes])

    async def attributes(self, reference: bytes, types: Sequence[int]) -> dict[int, bytes | None]:
        """Return the attributes that may be read; None stands for one that may not or is absent."""
        arguments = wire.GetAttributes(self.keyring_id, reference, list(types))
        rows = await self.ask(
            wire.Operation.GET_ATTRIBUTES, arguments, list[tuple[int, int, bytes | None]]
        )
        return {kind: value if ckr == 0 else None for kind, ckr, value in rows}

    async def set_attributes(self, reference: bytes, template: wire.Template) -> wire.ObjectResult:
        """Change attributes of an object."""
        arguments = wire.ChangeObject(
            self.keyring_id, reference, template, await self._write_for(reference)
        )
        return await self.ask(wire.Operation.SET_ATTRIBUTES, arguments, wire.ObjectResult)

    async def create_object(self, template: wire.Template) -> wire.ObjectResult:
        """Make an object of these attributes."""
        arguments = wire.CreateObject(self.keyring_id, template, await self._link.new_write())
        return await self.ask(wire.Operation.CREATE_OBJECT, arguments, wire.ObjectResult)

    async def copy_object(self, reference: bytes, template: wire.Template) -> wire.ObjectResult:
        """Copy an object with these attributes changed."""
        write = await self._link.new_write()
        arguments = wire.ChangeObject(self.keyring_id, reference, template, write)
        return await self.ask(wire.Operation.COPY_OBJECT, arguments, wire.ObjectResult)

    async def destroy_object(self, reference: bytes) -> None:
        """Destroy a token object."""
        arguments = wire.DestroyObject(self.keyring_id, reference, await self._link.new_write())
        await self._do(wire.Operation.DESTROY_OBJECT, arguments)

    async def key_info(self, reference: bytes) -> wire.KeyInfo:
        """Return class, type, size and usage of a key."""
        arguments = wire.ObjectReference(self.keyring_id, reference)
        return await self.ask(wire.Operation.KEY_INFO, arguments, wire.KeyInfo)

    async def object_size(self, reference: bytes) -> int:
        """Return an object's size in bytes."""
        arguments = wire.ObjectReference(self.keyring_id, reference)
        return await self.ask(wire.Operation.OBJECT_SIZE, arguments, int)

    # ---- keys

    async def generate_key(
        self, mechanism: int, template: wire.Template, parameter: Parameter = None
    ) -> wire.ObjectResult:
        """Generate a secret key."""
        arguments = wire.GenerateKey(
            self.keyring_id, mechanism, _raw(parameter), template, await self._link.new_write()
        )
        return await self.ask(wire.Operation.GENERATE_KEY, arguments, wire.ObjectResult)

    async def generate_key_pair(
        self,
        mechanism: int,
        public_template: wire.Template,
        private_template: wire.Template,
        parameter: Parameter = None,
    ) -> tuple[wire.ObjectResult, wire.ObjectResult]:
        """Generate a key pair and return (public, private)."""
        arguments = wire.GenerateKeyPair(
            self.keyring_id,
            mechanism,
            _raw(parameter),
            public_template,
            private_template,
            await self._link.new_write(),
        )
        return await self.ask(
            wire.Operation.GENERATE_KEY_PAIR,
            arguments,
            tuple[wire.ObjectResult, wire.ObjectResult],
        )

    async def sign(
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
        use = wire.UseKey(self.keyring_id, reference, mechanism, _raw(parameter), data, prehashed)
        return await self._use(wire.Operation.SIGN, use, password)

    async def verify(
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
        arguments = wire.VerifySignature(
            self.keyring_id, reference, mechanism, _raw(parameter), data, signature, prehashed
        )
        await self._do(wire.Operation.VERIFY, arguments)

    async def encrypt(
        self,
        reference: bytes,
        mechanism: int,
        data: bytes,
        *,
        parameter: Parameter = None,
    ) -> bytes:
        """Return the ciphertext."""
        arguments = wire.UseKey(self.keyring_id, reference, mechanism, _raw(parameter), data)
        return await self.ask(wire.Operation.ENCRYPT, arguments, bytes)

    async def decrypt(
        self,
        reference: bytes,
        mechanism: int,
        data: bytes,
        *,
        parameter: Parameter = None,
        password: bytes | None = None,
    ) -> bytes:
        """Return the plaintext; a password is for keys as `sign` tells."""
        use = wire.UseKey(self.keyring_id, reference, mechanism, _raw(parameter), data)
        return await self._use(wire.Operation.DECRYPT, use, password)

    async def wrap_key(
        self, wrapping_key: bytes, mechanism: int, key: bytes, *, parameter: Parameter = None
    ) -> bytes:
        """Return a key enciphered under another."""
        arguments = wire.WrapKey(self.keyring_id, wrapping_key, mechanism, _raw(parameter), key)
        return await self.ask(wire.Operation.WRAP_KEY, arguments, bytes)

    async def unwrap_key(
        self,
        unwrapping_key: bytes,
        mechanism: int,
        wrapped: bytes,
        template: wire.Template,
        *,
        parameter: Parameter = None,
    ) -> wire.ObjectResult:
        """Take in a key that was enciphered under another."""
        arguments = wire.UnwrapKey(
            self.keyring_id,
            unwrapping_key,
            mechanism,
            _raw(parameter),
            wrapped,
            template,
            await self._link.new_write(),
        )
        return await self.ask(wire.Operation.UNWRAP_KEY, arguments, wire.ObjectResult)

    async def derive_key(
        self,
        base_key: bytes,
        mechanism: int,
        template: wire.Template,
        *,
        parameter: Parameter = None,
    ) -> wire.ObjectResult:
        """Derive a key from another."""
        arguments = wire.DeriveKey(
            self.keyring_id,
            base_key,
            mechanism,
            _raw(parameter),
            template,
            await self._link.new_write(),
        )
        return await self.ask(wire.Operation.DERIVE_KEY, arguments, wire.ObjectResult)

    async def encapsulate_key(
        self,
        public_key: bytes,
        mechanism: int,
        template: wire.Template,
        *,
        parameter: Parameter = None,
    ) -> tuple[bytes, wire.ObjectResult]:
        """Make a key that the owner of a public key can make too; return (ciphertext, key)."""
        arguments = wire.EncapsulateKey(
            self.keyring_id,
            public_key,
            mechanism,
            _raw(parameter),
            template,
            await self._link.new_write(),
        )
        return await self.ask(
            wire.Operation.ENCAPSULATE_KEY, arguments, tuple[bytes, wire.ObjectResult]
        )

    async def decapsulate_key(
        self,
        private_key: bytes,
        mechanism: int,
        ciphertext: bytes,
        template: wire.Template,
        *,
        parameter: Parameter = None,
    ) -> wire.ObjectResult:
        """Make the key that somebody encapsulated for a private key."""
        arguments = wire.DecapsulateKey(
            self.keyring_id,
            private_key,
            mechanism,
            _raw(parameter),
            ciphertext,
            template,
            await self._link.new_write(),
        )
        return await self.ask(wire.Operation.DECAPSULATE_KEY, arguments, wire.ObjectResult)

    async def _use(
        self, operation: wire.Operation, use: wire.UseKey, password: bytes | None
    ) -> bytes:
        """Use a private key, after a context login if there is a password (rule C14)."""
        if password is None:
            return await self.ask(operation, use, bytes)
        login = wire.ContextLogin(
            self.keyring_id, use.reference, operation, password, secrets.token_bytes(16)
        )
        context = await self.ask(wire.Operation.CONTEXT_LOGIN, login, bytes)
        arguments = wire.UseInContext(
            use.keyring_id,
            use.reference,
            operation,
            context,
            use.mechanism,
            use.parameter,
            use.data,
            use.prehashed,
        )
        return await self.ask(wire.Operation.USE_IN_CONTEXT, arguments, bytes)

    async def _write_for(self, reference: bytes) -> wire.Write | None:
        token_object = len(reference) == wire.OBJECT_ID_BYTES
        return await self._link.new_write() if token_object else None


def configured_cluster(environment: Mapping[str, str] | None) -> tuple[ClusterEntry, float]:
    """Return the first cluster in Chrystoki.conf and how many seconds a request may take."""
    around = os.environ if environment is None else environment
    document = client_configuration(around)
    clusters = registered_clusters(document)
    if not clusters:
        path = configuration_path(around)
        message = f"{path} names no cluster; register this client with LNHClientRegistration.sh."
        raise BadInput(faults.CLIENT_CONFIGURATION, message)
    return clusters[0], max(WRITE_DEADLINE_SECONDS, receive_timeout_seconds(document))


def _raw(value: object) -> msgspec.Raw:
    return msgspec.Raw(msgspec.msgpack.encode(value))
