"""The objects of a keyring, each with what it can do, in an event loop.

Keys do not leave their keyring: an object here is a reference, and its methods are requests.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

import msgspec
from cryptography import x509

from conclave import faults
from conclave.client.async_session import AsyncKeyringSession, Parameter
from conclave.client.key_kinds import (
    OAEP_SHA256,
    KeyKind,
    Scheme,
    SecretName,
    sealing_mechanism,
    secret_kind,
    signing_scheme,
)
from conclave.client.public_keys import PublicKeyOfPair, point_of, public_key_in, read_certificate
from conclave.client.templates import Attributes, Value, template, ulong
from conclave.crypto.standard import Cka, Ckk, Ckm, Cko
from conclave.errors import BadInput, CredentialRefused
from conclave.service import wire

NONCE_BYTES: Final = 12
TAG_BYTES: Final = 16
CKD_SHA256_KDF: Final = 6
_SALT_NULL, _SALT_DATA = 1, 2
FACTS: Final = (Cka.CLASS, Cka.KEY_TYPE, Cka.LABEL, Cka.ID)


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of an object since it was found or made."""

    reference: bytes
    object_class: int
    key_type: int | None
    label: str
    id: bytes


class AsyncObject:
    """An object of a keyring."""

    def __init__(self, session: AsyncKeyringSession, facts: Facts) -> None:
        self.session = session
        self.facts = facts

    def __repr__(self) -> str:
        return f"{type(self).__name__}(label={self.facts.label!r}, id={self.facts.id.hex()!r})"

    @property
    def label(self) -> str:
        """Return CKA_LABEL as it was when the object was found."""
        return self.facts.label

    @property
    def id(self) -> bytes:
        """Return CKA_ID as it was when the object was found."""
        return self.facts.id

    @property
    def reference(self) -> bytes:
        """Return what names the object on the wire."""
        return self.facts.reference

    async def attributes(self, *types: Cka) -> dict[int, bytes | None]:
        """Return attributes; None stands for one that may not be read or is absent."""
        return await self.session.attributes(self.reference, types)

    async def change(self, attributes: Attributes) -> None:
        """Change attributes."""
        result = await self.session.set_attributes(self.reference, template(attributes))
        label, identifier = attributes.get(Cka.LABEL), attributes.get(Cka.ID)
        self.facts = replace(
            self.facts,
            reference=result.reference,
            label=label if isinstance(label, str) else self.facts.label,
            id=identifier if isinstance(identifier, bytes) else self.facts.id,
        )

    async def destroy(self) -> None:
        """Destroy a token object; a session object ends with this program."""
        if len(self.reference) == wire.OBJECT_ID_BYTES:
            await self.session.destroy_object(self.reference)


class AsyncKey(AsyncObject):
    """A key."""

    _info: wire.KeyInfo | None = None

    @property
    def key_type(self) -> Ckk:
        """Return the type of the key."""
        return Ckk(self.facts.key_type or 0)

    async def info(self) -> wire.KeyInfo:
        """Return size and uses of the key, asked for once."""
        if self._info is None:
            self._info = await self.session.key_info(self.reference)
        return self._info


class AsyncPairKey(AsyncKey):
    """A key of a pair, private or public."""

    async def public_key(self) -> PublicKeyOfPair:
        """Return the public key as an object of cryptography's."""
        found = await self.attributes(Cka.PUBLIC_KEY_INFO)
        return public_key_in(found[Cka.PUBLIC_KEY_INFO])


class AsyncSigningKey(AsyncKey):
    """A key that signs, or makes codes that authenticate."""

    async def sign(
        self,
        data: bytes,
        mechanism: Ckm | None = None,
        *,
        parameter: Parameter = None,
        password: str | bytes | None = None,
    ) -> bytes:
        """Return the signature; RSA by PKCS #1 v1.5 and ECDSA as two halves, unless told else.

        Where the mechanism hashes with SHA-1 or SHA-2, the hash is computed here.  A key with
        CKA_ALWAYS_AUTHENTICATE takes the KRCO's password for each use, and no other key does.
        """
        scheme = signing_scheme(await self.info(), mechanism, parameter)
        digest = _digest(scheme.hash_name, data)
        return await self._sign(scheme, digest, scheme.hash_name is not None, password)

    async def sign_digest(
        self,
        digest: bytes,
        mechanism: Ckm | None = None,
        *,
        parameter: Parameter = None,
        password: str | bytes | None = None,
    ) -> bytes:
        """Do as `sign` with data whose digest was computed already."""
        scheme = signing_scheme(await self.info(), mechanism, parameter)
        return await self._sign(scheme, digest, True, password)

    async def _sign(
        self, scheme: Scheme, data: bytes, prehashed: bool, password: str | bytes | None
    ) -> bytes:
        return await self.session.sign(
            self.reference,
            scheme.mechanism,
            data,
            parameter=scheme.parameter,
            prehashed=prehashed,
            password=await self._proof(password),
        )

    async def _proof(self, password: str | bytes | None) -> bytes | None:
        """Return the password for one use; raise CredentialRefused when one is asked for."""
        if password is None and (await self.info()).always_authenticate:
            message = f"Key {self.label!r} asks for the password at each use: password=..."
            raise CredentialRefused(faults.NOT_LOGGED_IN, message)
        return password.encode() if isinstance(password, str) else password


class AsyncVerifyingKey(AsyncKey):
    """A key that verifies."""

    async def verify(
        self,
        signature: bytes,
        data: bytes,
        mechanism: Ckm | None = None,
        *,
        parameter: Parameter = None,
    ) -> None:
        """Return when the signature is right; raise the error of CKR_SIGNATURE_INVALID if not."""
        scheme = signing_scheme(await self.info(), mechanism, parameter)
        digest = _digest(scheme.hash_name, data)
        await self._verify(scheme, digest, scheme.hash_name is not None, signature)

    async def verify_digest(
        self,
        signature: bytes,
        digest: bytes,
        mechanism: Ckm | None = None,
        *,
        parameter: Parameter = None,
    ) -> None:
        """Do as `verify` with data whose digest was computed already."""
        scheme = signing_scheme(await self.info(), mechanism, parameter)
        await self._verify(scheme, digest, True, signature)

    async def _verify(self, scheme: Scheme, data: bytes, prehashed: bool, signature: bytes) -> None:
        await self.session.verify(
            self.reference,
            scheme.mechanism,
            data,
            signature,
            parameter=scheme.parameter,
            prehashed=prehashed,
        )


class AsyncPublicKey(AsyncPairKey, AsyncVerifyingKey):
    """A public key of the keyring."""

    async def encrypt(
        self, data: bytes, mechanism: Ckm = Ckm.RSA_PKCS_OAEP, *, parameter: Parameter = OAEP_SHA256
    ) -> bytes:
        """Return the ciphertext; by OAEP with SHA-256 unless told else."""
        return await self.session.encrypt(self.reference, mechanism, data, parameter=parameter)

    async def wrap(
        self, key: AsyncKey, mechanism: Ckm = Ckm.RSA_PKCS_OAEP, *, parameter: Parameter = None
    ) -> bytes:
        """Return an extractable key under this one; by OAEP with SHA-256 unless told else."""
        return await self.session.wrap_key(
            self.reference, mechanism, key.reference, parameter=_wrapping(mechanism, parameter)
        )

    async def encapsulate(
        self,
        kind: SecretName = "AES-256",
        *,
        label: str = "",
        token: bool = False,
        attributes: Attributes | None = None,
    ) -> tuple[bytes, AsyncSecretKey]:
        """Make a secret key and the ciphertext that brings it to this key's owner (ML-KEM)."""
        wanted = described(
            Cko.SECRET_KEY, secret_kind(kind), label=label, token=token, attributes=attributes
        )
        ciphertext, result = await self.session.encapsulate_key(
            self.reference, Ckm.ML_KEM, template(wanted)
        )
        return ciphertext, AsyncSecretKey(self.session, facts_of(result.reference, wanted))


class AsyncUnwrappingKey(AsyncKey):
    """A key under which others come into the keyring."""

    unwraps_by: Ckm

    async def unwrap(
        self,
        wrapped: bytes,
        kind: SecretName,
        mechanism: Ckm | None = None,
        *,
        parameter: Parameter = None,
        label: str = "",
        token: bool = True,
        attributes: Attributes | None = None,
    ) -> AsyncSecretKey:
        """Take in a secret key that was wrapped for this one."""
        chosen = self.unwraps_by if mechanism is None else mechanism
        wanted = described(
            Cko.SECRET_KEY, secret_kind(kind), label=label, token=token, attributes=attributes
        )
        wanted.pop(Cka.VALUE_LEN, None)
        result = await self.session.unwrap_key(
            self.reference,
            chosen,
            wrapped,
            template(wanted),
            parameter=_wrapping(chosen, parameter),
        )
        return AsyncSecretKey(self.session, facts_of(result.reference, wanted))


class AsyncPrivateKey(AsyncPairKey, AsyncSigningKey, AsyncUnwrappingKey):
    """A private key of the keyring."""

    unwraps_by = Ckm.RSA_PKCS_OAEP

    async def decrypt(
        self,
        data: bytes,
        mechanism: Ckm = Ckm.RSA_PKCS_OAEP,
        *,
        parameter: Parameter = OAEP_SHA256,
        password: str | bytes | None = None,
    ) -> bytes:
        """Return the plaintext; by OAEP with SHA-256 unless told else, and a password as `sign`."""
        return await self.session.decrypt(
            self.reference,
            mechanism,
            data,
            parameter=parameter,
            password=await self._proof(password),
        )

    async def agree(
        self,
        peer: PublicKeyOfPair,
        kind: SecretName = "AES-256",
        *,
        kdf: int = CKD_SHA256_KDF,
        shared_data: bytes = b"",
        label: str = "",
        token: bool = False,
        attributes: Attributes | None = None,
    ) -> AsyncSecretKey:
        """Derive a secret key that the owner of `peer` can derive too (ECDH, ANSI X9.63)."""
        wanted = described(
            Cko.SECRET_KEY, secret_kind(kind), label=label, token=token, attributes=attributes
        )
        result = await self.session.derive_key(
            self.reference,
            Ckm.ECDH1_DERIVE,
            template(wanted),
            parameter=wire.EcdhParameter(kdf, shared_data, point_of(peer)),
        )
        return AsyncSecretKey(self.session, facts_of(result.reference, wanted))

    async def decapsulate(
        self,
        ciphertext: bytes,
        kind: SecretName = "AES-256",
        *,
        label: str = "",
        token: bool = False,
        attributes: Attributes | None = None,
    ) -> AsyncSecretKey:
        """Make the secret key that somebody encapsulated for this one (ML-KEM).

        A ciphertext that is not of this key gives another key, not an error (FIPS 203).
        """
        wanted = described(
            Cko.SECRET_KEY, secret_kind(kind), label=label, token=token, attributes=attributes
        )
        result = await self.session.decapsulate_key(
            self.reference, Ckm.ML_KEM, ciphertext, template(wanted)
        )
        return AsyncSecretKey(self.session, facts_of(result.reference, wanted))


class AsyncSecretKey(AsyncSigningKey, AsyncVerifyingKey, AsyncUnwrappingKey):
    """A secret key of the keyring."""

    unwraps_by = Ckm.AES_KEY_WRAP_KWP

    async def seal(self, data: bytes, *, additional_data: bytes = b"") -> bytes:
        """Return nonce, ciphertext and tag: AES-GCM or ChaCha20-Poly1305.

        The nonce is random, so one key should seal no more than 2^32 messages (SP 800-38D).
        """
        mechanism = sealing_mechanism(await self.info())
        nonce = os.urandom(NONCE_BYTES)
        parameter = _sealing(mechanism, nonce, additional_data)
        sealed = await self.session.encrypt(self.reference, mechanism, data, parameter=parameter)
        return nonce + sealed

    async def unseal(self, sealed: bytes, *, additional_data: bytes = b"") -> bytes:
        """Return what `seal` sealed; raise the error of CKR_ENCRYPTED_DATA_INVALID if it is not."""
        if len(sealed) < NONCE_BYTES + TAG_BYTES:
            message = f"Sealed data have at least {NONCE_BYTES + TAG_BYTES} bytes: {len(sealed)}."
            raise BadInput(faults.ENCRYPTED_DATA_LEN_RANGE, message)
        mechanism = sealing_mechanism(await self.info())
        parameter = _sealing(mechanism, sealed[:NONCE_BYTES], additional_data)
        return await self.session.decrypt(
            self.reference, mechanism, sealed[NONCE_BYTES:], parameter=parameter
        )

    async def encrypt(self, data: bytes, mechanism: Ckm, *, parameter: Parameter = None) -> bytes:
        """Return the ciphertext by a mechanism and its parameter."""
        return await self.session.encrypt(self.reference, mechanism, data, parameter=parameter)

    async def decrypt(self, data: bytes, mechanism: Ckm, *, parameter: Parameter = None) -> bytes:
        """Return the plaintext by a mechanism and its parameter."""
        return await self.session.decrypt(self.reference, mechanism, data, parameter=parameter)

    async def wrap(
        self, key: AsyncKey, mechanism: Ckm = Ckm.AES_KEY_WRAP_KWP, *, parameter: Parameter = None
    ) -> bytes:
        """Return an extractable key under this one; by RFC 5649 unless told else."""
        return await self.session.wrap_key(
            self.reference, mechanism, key.reference, parameter=parameter
        )

    async def derive(
        self,
        info: bytes,
        kind: SecretName = "AES-256",
        *,
        salt: bytes = b"",
        label: str = "",
        token: bool = False,
        attributes: Attributes | None = None,
    ) -> AsyncSecretKey:
        """Derive a secret key from this one, a generic secret (HKDF with SHA-256)."""
        wanted = described(
            Cko.SECRET_KEY, secret_kind(kind), label=label, token=token, attributes=attributes
        )
        salt_type = _SALT_DATA if salt else _SALT_NULL
        result = await self.session.derive_key(
            self.reference,
            Ckm.HKDF_DERIVE,
            template(wanted),
            parameter=wire.HkdfParameter(True, True, Ckm.SHA256, salt_type, info, salt),
        )
        return AsyncSecretKey(self.session, facts_of(result.reference, wanted))


class AsyncCertificate(AsyncObject):
    """A certificate of the keyring."""

    async def load(self) -> x509.Certificate:
        """Return the certificate as an object of cryptography's; raise BadInput for another."""
        found = await self.attributes(Cka.VALUE)
        certificate = read_certificate(found[Cka.VALUE] or b"")
        if certificate is None:
            message = f"The certificate {self.label!r} cannot be read."
            raise BadInput(faults.BAD_REQUEST, message)
        return certificate


_CLASSES: Final[Mapping[int, type[AsyncObject]]] = {
    Cko.PRIVATE_KEY: AsyncPrivateKey,
    Cko.PUBLIC_KEY: AsyncPublicKey,
    Cko.SECRET_KEY: AsyncSecretKey,
    Cko.CERTIFICATE: AsyncCertificate,
}


def described(
    object_class: Cko,
    kind: KeyKind,
    *,
    label: str,
    identifier: bytes = b"",
    token: bool,
    attributes: Attributes | None,
) -> dict[int, Value]:
    """Return the template of a key; `attributes` are the caller's and win."""
    wanted: dict[int, Value] = {
        Cka.CLASS: object_class,
        Cka.KEY_TYPE: kind.key_type,
        Cka.TOKEN: token,
        Cka.LABEL: label,
        **kind.template,
    }
    if identifier:
        wanted[Cka.ID] = identifier
    return {**wanted, **(attributes or {})}


def facts_of(reference: bytes, wanted: Mapping[int, Value]) -> Facts:
    """Return the facts of an object that was made from a template."""
    object_class, key_type = wanted.get(Cka.CLASS), wanted.get(Cka.KEY_TYPE)
    label, identifier = wanted.get(Cka.LABEL, ""), wanted.get(Cka.ID, b"")
    return Facts(
        reference,
        object_class if isinstance(object_class, int) else Cko.DATA,
        key_type if isinstance(key_type, int) else None,
        label if isinstance(label, str) else "",
        identifier if isinstance(identifier, bytes) else b"",
    )


def object_of(
    session: AsyncKeyringSession, reference: bytes, found: Mapping[int, bytes | None]
) -> AsyncObject:
    """Return an object that was found, by its attributes `FACTS`."""
    key_type = found.get(Cka.KEY_TYPE)
    facts = Facts(
        reference,
        ulong(found.get(Cka.CLASS)),
        None if key_type is None else ulong(key_type),
        (found.get(Cka.LABEL) or b"").decode(errors="replace"),
        found.get(Cka.ID) or b"",
    )
    return _CLASSES.get(facts.object_class, AsyncObject)(session, facts)


def _digest(hash_name: str | None, data: bytes) -> bytes:
    # What is hashed here is what the caller asked to sign, SHA-1 included.
    return data if hash_name is None else hashlib.new(hash_name, data).digest()


def _sealing(mechanism: Ckm, nonce: bytes, additional_data: bytes) -> Parameter:
    if mechanism is Ckm.AES_GCM:
        return wire.GcmParameter(nonce, additional_data, TAG_BYTES * 8)
    return wire.ChaChaParameter(nonce, additional_data)


def _wrapping(mechanism: Ckm, parameter: Parameter) -> Parameter:
    """Return the parameter, or what is usual for the mechanism."""
    if parameter is None and mechanism is Ckm.RSA_PKCS_OAEP:
        return OAEP_SHA256
    if parameter is None and mechanism is Ckm.RSA_AES_KEY_WRAP:
        return wire.RsaAesParameter(256, msgspec.Raw(msgspec.msgpack.encode(OAEP_SHA256)))
    return parameter
