"""A keyring in an event loop: find keys, make them, take them in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import TypeVar

from cryptography import x509

from conclave import faults
from conclave.client.async_keys import (
    FACTS,
    AsyncCertificate,
    AsyncObject,
    AsyncPrivateKey,
    AsyncPublicKey,
    AsyncSecretKey,
    described,
    facts_of,
    object_of,
)
from conclave.client.async_session import AsyncClient, AsyncKeyringSession
from conclave.client.key_kinds import PairName, SecretName, pair_kind, secret_kind
from conclave.client.public_keys import (
    PublicKeyOfPair,
    certificate_identifier,
    certificate_of_file,
    certificate_template,
    public_key_of_file,
    public_key_template,
)
from conclave.client.templates import Attributes, Value, template
from conclave.crypto.standard import Cka, Ckk, Cko
from conclave.errors import Conflict, NotAllowed, NotFound, Unavailable
from conclave.service import wire

Wanted = TypeVar("Wanted", bound=AsyncObject)


@dataclass(frozen=True, slots=True)
class AsyncKeyPair:
    """The two keys of a pair."""

    public: AsyncPublicKey
    private: AsyncPrivateKey


class AsyncKeyring:
    """One keyring, between login and logout; any number of tasks may use it."""

    def __init__(
        self,
        client: AsyncClient,
        name: str | int,
        password: str | bytes | None,
        role: wire.Role,
    ) -> None:
        self._client = client
        self._name = name
        self._password = password
        self._role = role
        self._used = False
        self._session: AsyncKeyringSession | None = None

    async def __aenter__(self) -> AsyncKeyring:
        await self.open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            await self.close()
        except Unavailable:
            # What ended the block says more than that nobody heard of the logout.
            if error is None:
                raise

    async def open(self) -> None:
        """Find the keyring and log in, if there is a password; it is forgotten then.

        Raises NotFound, CredentialRefused for a wrong password, which is sent once only, and
        NotAllowed the second time, since the password is gone.
        """
        if self._used:
            message = f"Keyring {self._name!r} was opened before; take another from the client."
            raise NotAllowed(faults.BAD_REQUEST, message)
        self._used = True
        session = self._client.open(await self._client.token(self._name))
        password, self._password = self._password, None
        if password is not None:
            encoded = password.encode() if isinstance(password, str) else password
            await session.login(self._role, encoded)
        self._session = session

    async def close(self) -> None:
        """Log out; the login is forgotten even when the cluster cannot be told."""
        session, self._session = self._session, None
        if session is not None and session.role is not None:
            await session.logout()

    @property
    def session(self) -> AsyncKeyringSession:
        """Return the session, for what has no method here; raise NotAllowed when not open."""
        if self._session is None:
            message = f"Keyring {self._name!r} is not open; use it in a with block, or open it."
            raise NotAllowed(faults.BAD_REQUEST, message)
        return self._session

    async def info(self) -> wire.TokenDetails:
        """Return label, counts and limits."""
        return await self.session.info()

    # ---- search

    async def search(
        self,
        *,
        label: str | None = None,
        key_id: bytes | None = None,
        object_class: Cko | None = None,
        key_type: Ckk | None = None,
        attributes: Attributes | None = None,
    ) -> list[AsyncObject]:
        """Return the token objects that match everything that is given, each as what it is."""
        given: Mapping[int, Value | None] = {
            Cka.LABEL: label,
            Cka.ID: key_id,
            Cka.CLASS: object_class,
            Cka.KEY_TYPE: key_type,
            **(attributes or {}),
        }
        wanted = {kind: value for kind, value in given.items() if value is not None}
        session = self.session
        references = await session.find(template(wanted))
        found = await session.together(
            [partial(session.attributes, reference, FACTS) for reference in references]
        )
        return [
            object_of(session, reference, values)
            for reference, values in zip(references, found, strict=True)
        ]

    async def private_key(
        self, label: str | None = None, *, key_id: bytes | None = None
    ) -> AsyncPrivateKey:
        """Return the private key; raise NotFound for none and Conflict for several."""
        return await self._only(AsyncPrivateKey, Cko.PRIVATE_KEY, label, key_id)

    async def public_key(
        self, label: str | None = None, *, key_id: bytes | None = None
    ) -> AsyncPublicKey:
        """Return the public key; raise NotFound for none and Conflict for several."""
        return await self._only(AsyncPublicKey, Cko.PUBLIC_KEY, label, key_id)

    async def secret_key(
        self, label: str | None = None, *, key_id: bytes | None = None
    ) -> AsyncSecretKey:
        """Return the secret key; raise NotFound for none and Conflict for several."""
        return await self._only(AsyncSecretKey, Cko.SECRET_KEY, label, key_id)

    async def certificate(
        self, label: str | None = None, *, key_id: bytes | None = None
    ) -> AsyncCertificate:
        """Return the certificate; raise NotFound for none and Conflict for several."""
        return await self._only(AsyncCertificate, Cko.CERTIFICATE, label, key_id)

    async def _only(
        self, wanted: type[Wanted], object_class: Cko, label: str | None, identifier: bytes | None
    ) -> Wanted:
        objects = await self.search(label=label, key_id=identifier, object_class=object_class)
        found = [each for each in objects if isinstance(each, wanted)]
        name = (
            f"{object_class.name.lower().replace('_', ' ')} {label or (identifier or b'').hex()!r}"
        )
        if not found:
            raise NotFound(faults.OBJECT_NOT_FOUND, f"The keyring has no {name}.")
        if len(found) > 1:
            message = f"The keyring has {len(found)} objects that are {name}; search for all."
            raise Conflict(faults.BAD_REQUEST, message)
        return found[0]

    # ---- new objects

    async def generate_key(
        self,
        kind: SecretName = "AES-256",
        *,
        label: str = "",
        key_id: bytes = b"",
        token: bool = True,
        attributes: Attributes | None = None,
    ) -> AsyncSecretKey:
        """Generate a secret key; without `token` it ends with this program.

        `attributes` are further ones, as `{Cka.EXTRACTABLE: True}`; the rest are the keyring's
        defaults.
        """
        row = secret_kind(kind)
        wanted = described(
            Cko.SECRET_KEY, row, label=label, identifier=key_id, token=token, attributes=attributes
        )
        result = await self.session.generate_key(row.mechanism, template(wanted))
        return AsyncSecretKey(self.session, facts_of(result.reference, wanted))

    async def generate_key_pair(
        self,
        kind: PairName = "P-256",
        *,
        label: str = "",
        key_id: bytes = b"",
        token: bool = True,
        attributes: Attributes | None = None,
        public_attributes: Attributes | None = None,
    ) -> AsyncKeyPair:
        """Generate a key pair; `attributes` are further ones of the private key."""
        row = pair_kind(kind)
        public = described(
            Cko.PUBLIC_KEY,
            row,
            label=label,
            identifier=key_id,
            token=token,
            attributes=public_attributes,
        )
        private = described(
            Cko.PRIVATE_KEY, row, label=label, identifier=key_id, token=token, attributes=attributes
        )
        for name in row.template:
            private.pop(name, None)
        made_public, made_private = await self.session.generate_key_pair(
            row.mechanism, template(public), template(private)
        )
        return AsyncKeyPair(
            AsyncPublicKey(self.session, facts_of(made_public.reference, public)),
            AsyncPrivateKey(self.session, facts_of(made_private.reference, private)),
        )

    async def import_public_key(
        self,
        key: PublicKeyOfPair | bytes,
        *,
        label: str = "",
        key_id: bytes | None = None,
        attributes: Attributes | None = None,
    ) -> AsyncPublicKey:
        """Take in a public key, an object of cryptography's or PEM or DER.

        Without an id it gets the SHA-1 of the key (RFC 5280, 4.2.1.2).
        """
        public = public_key_of_file(key) if isinstance(key, bytes) else key
        wanted = {**public_key_template(public, label, key_id), **(attributes or {})}
        result = await self.session.create_object(template(wanted))
        return AsyncPublicKey(self.session, facts_of(result.reference, wanted))

    async def import_certificate(
        self,
        certificate: x509.Certificate | bytes,
        *,
        label: str = "",
        key_id: bytes | None = None,
    ) -> AsyncCertificate:
        """Take in a certificate, an object of cryptography's or PEM or DER.

        Without an id it gets that of its key, so that it is found with it.
        """
        if isinstance(certificate, bytes):
            certificate = certificate_of_file(certificate)
        identifier = certificate_identifier(certificate) if key_id is None else key_id
        wanted = certificate_template(certificate, label, identifier)
        result = await self.session.create_object(template(wanted))
        return AsyncCertificate(self.session, facts_of(result.reference, wanted))

    async def destroy(self, objects: Sequence[AsyncObject]) -> None:
        """Destroy these objects."""
        await self.session.together([each.destroy for each in objects])
