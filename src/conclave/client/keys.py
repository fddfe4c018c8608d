"""The objects of a keyring, each with what it can do, for programs and threads that may block.

What is done stands in `conclave.client.async_keys`; here its coroutines are run to their end.
"""

from __future__ import annotations

from cryptography import x509

from conclave import faults
from conclave.client import async_keys
from conclave.client.async_keys import CKD_SHA256_KDF
from conclave.client.async_session import Parameter
from conclave.client.key_kinds import OAEP_SHA256, SecretName
from conclave.client.public_keys import PublicKeyOfPair
from conclave.client.session import KeyringSession
from conclave.client.signing_keys import SigningKey, signing_key
from conclave.client.templates import Attributes
from conclave.client.ways import finish
from conclave.crypto.standard import Cka, Ckk, Ckm
from conclave.errors import NotAllowed
from conclave.service import wire


class Object:
    """An object of a keyring."""

    core: async_keys.AsyncObject

    def __init__(self, core: async_keys.AsyncObject) -> None:
        self.core = core

    def __repr__(self) -> str:
        return repr(self.core).removeprefix("Async")

    @property
    def label(self) -> str:
        """Return CKA_LABEL as it was when the object was found."""
        return self.core.label

    @property
    def id(self) -> bytes:
        """Return CKA_ID as it was when the object was found."""
        return self.core.id

    @property
    def reference(self) -> bytes:
        """Return what names the object on the wire."""
        return self.core.reference

    def attributes(self, *types: Cka) -> dict[int, bytes | None]:
        """Return attributes; None stands for one that may not be read or is absent."""
        return finish(self.core.attributes(*types))

    def change(self, attributes: Attributes) -> None:
        """Change attributes."""
        finish(self.core.change(attributes))

    def destroy(self) -> None:
        """Destroy a token object; a session object ends with this program."""
        finish(self.core.destroy())


class Key(Object):
    """A key."""

    core: async_keys.AsyncKey

    @property
    def key_type(self) -> Ckk:
        """Return the type of the key."""
        return self.core.key_type

    def info(self) -> wire.KeyInfo:
        """Return size and uses of the key, asked for once."""
        return finish(self.core.info())


class PairKey(Key):
    """A key of a pair, private or public."""

    core: async_keys.AsyncPairKey

    def public_key(self) -> PublicKeyOfPair:
        """Return the public key as an object of cryptography's."""
        return finish(self.core.public_key())


class SigningKeyOfRing(Key):
    """A key that signs, or makes codes that authenticate."""

    core: async_keys.AsyncSigningKey

    def sign(
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
        return finish(self.core.sign(data, mechanism, parameter=parameter, password=password))

    def sign_digest(
        self,
        digest: bytes,
        mechanism: Ckm | None = None,
        *,
        parameter: Parameter = None,
        password: str | bytes | None = None,
    ) -> bytes:
        """Do as `sign` with data whose digest was computed already."""
        work = self.core.sign_digest(digest, mechanism, parameter=parameter, password=password)
        return finish(work)


class VerifyingKey(Key):
    """A key that verifies."""

    core: async_keys.AsyncVerifyingKey

    def verify(
        self,
        signature: bytes,
        data: bytes,
        mechanism: Ckm | None = None,
        *,
        parameter: Parameter = None,
    ) -> None:
        """Return when the signature is right; raise the error of CKR_SIGNATURE_INVALID if not."""
        finish(self.core.verify(signature, data, mechanism, parameter=parameter))

    def verify_digest(
        self,
        signature: bytes,
        digest: bytes,
        mechanism: Ckm | None = None,
        *,
        parameter: Parameter = None,
    ) -> None:
        """Do as `verify` with data whose digest was computed already."""
        finish(self.core.verify_digest(signature, digest, mechanism, parameter=parameter))


class PublicKey(PairKey, VerifyingKey):
    """A public key of the keyring."""

    core: async_keys.AsyncPublicKey

    def encrypt(
        self, data: bytes, mechanism: Ckm = Ckm.RSA_PKCS_OAEP, *, parameter: Parameter = OAEP_SHA256
    ) -> bytes:
        """Return the ciphertext; by OAEP with SHA-256 unless told else."""
        return finish(self.core.encrypt(data, mechanism, parameter=parameter))

    def wrap(
        self, key: Key, mechanism: Ckm = Ckm.RSA_PKCS_OAEP, *, parameter: Parameter = None
    ) -> bytes:
        """Return an extractable key under this one; by OAEP with SHA-256 unless told else."""
        return finish(self.core.wrap(key.core, mechanism, parameter=parameter))

    def encapsulate(
        self,
        kind: SecretName = "AES-256",
        *,
        label: str = "",
        token: bool = False,
        attributes: Attributes | None = None,
    ) -> tuple[bytes, SecretKey]:
        """Make a secret key and the ciphertext that brings it to this key's owner (ML-KEM)."""
        work = self.core.encapsulate(kind, label=label, token=token, attributes=attributes)
        ciphertext, key = finish(work)
        return ciphertext, SecretKey(key)


class UnwrappingKey(Key):
    """A key under which others come into the keyring."""

    core: async_keys.AsyncUnwrappingKey

    def unwrap(
        self,
        wrapped: bytes,
        kind: SecretName,
        mechanism: Ckm | None = None,
        *,
        parameter: Parameter = None,
        label: str = "",
        token: bool = True,
        attributes: Attributes | None = None,
    ) -> SecretKey:
        """Take in a secret key that was wrapped for this one."""
        work = self.core.unwrap(
            wrapped,
            kind,
            mechanism,
            parameter=parameter,
            label=label,
            token=token,
            attributes=attributes,
        )
        return SecretKey(finish(work))


class PrivateKey(PairKey, SigningKeyOfRing, UnwrappingKey):
    """A private key of the keyring."""

    core: async_keys.AsyncPrivateKey

    def for_cryptography(self) -> SigningKey:
        """Return the key as cryptography's builders of certificates and requests take it.

        Raises NotAllowed for a key with CKA_ALWAYS_AUTHENTICATE.
        """
        if self.info().always_authenticate:
            message = f"Key {self.label!r} asks for a password that cryptography cannot hand on."
            raise NotAllowed(faults.BAD_REQUEST, message)
        return signing_key(KeyringSession(self.core.session), self.reference)

    def decrypt(
        self,
        data: bytes,
        mechanism: Ckm = Ckm.RSA_PKCS_OAEP,
        *,
        parameter: Parameter = OAEP_SHA256,
        password: str | bytes | None = None,
    ) -> bytes:
        """Return the plaintext; by OAEP with SHA-256 unless told else, and a password as `sign`."""
        return finish(self.core.decrypt(data, mechanism, parameter=parameter, password=password))

    def agree(
        self,
        peer: PublicKeyOfPair,
        kind: SecretName = "AES-256",
        *,
        kdf: int = CKD_SHA256_KDF,
        shared_data: bytes = b"",
        label: str = "",
        token: bool = False,
        attributes: Attributes | None = None,
    ) -> SecretKey:
        """Derive a secret key that the owner of `peer` can derive too (ECDH, ANSI X9.63)."""
        work = self.core.agree(
            peer,
            kind,
            kdf=kdf,
            shared_data=shared_data,
            label=label,
            token=token,
            attributes=attributes,
        )
        return SecretKey(finish(work))

    def decapsulate(
        self,
        ciphertext: bytes,
        kind: SecretName = "AES-256",
        *,
        label: str = "",
        token: bool = False,
        attributes: Attributes | None = None,
    ) -> SecretKey:
        """Make the secret key that somebody encapsulated for this one (ML-KEM).

        A ciphertext that is not of this key gives another key, not an error (FIPS 203).
        """
        work = self.core.decapsulate(
            ciphertext, kind, label=label, token=token, attributes=attributes
        )
        return SecretKey(finish(work))


class SecretKey(SigningKeyOfRing, VerifyingKey, UnwrappingKey):
    """A secret key of the keyring."""

    core: async_keys.AsyncSecretKey

    def seal(self, data: bytes, *, additional_data: bytes = b"") -> bytes:
        """Return nonce, ciphertext and tag: AES-GCM or ChaCha20-Poly1305.

        The nonce is random, so one key should seal no more than 2^32 messages (SP 800-38D).
        """
        return finish(self.core.seal(data, additional_data=additional_data))

    def unseal(self, sealed: bytes, *, additional_data: bytes = b"") -> bytes:
        """Return what `seal` sealed; raise the error of CKR_ENCRYPTED_DATA_INVALID if it is not."""
        return finish(self.core.unseal(sealed, additional_data=additional_data))

    def encrypt(self, data: bytes, mechanism: Ckm, *, parameter: Parameter = None) -> bytes:
        """Return the ciphertext by a mechanism and its parameter."""
        return finish(self.core.encrypt(data, mechanism, parameter=parameter))

    def decrypt(self, data: bytes, mechanism: Ckm, *, parameter: Parameter = None) -> bytes:
        """Return the plaintext by a mechanism and its parameter."""
        return finish(self.core.decrypt(data, mechanism, parameter=parameter))

    def wrap(
        self, key: Key, mechanism: Ckm = Ckm.AES_KEY_WRAP_KWP, *, parameter: Parameter = None
    ) -> bytes:
        """Return an extractable key under this one; by RFC 5649 unless told else."""
        return finish(self.core.wrap(key.core, mechanism, parameter=parameter))

    def derive(
        self,
        info: bytes,
        kind: SecretName = "AES-256",
        *,
        salt: bytes = b"",
        label: str = "",
        token: bool = False,
        attributes: Attributes | None = None,
    ) -> SecretKey:
        """Derive a secret key from this one, a generic secret (HKDF with SHA-256)."""
        work = self.core.derive(
            info, kind, salt=salt, label=label, token=token, attributes=attributes
        )
        return SecretKey(finish(work))


class Certificate(Object):
    """A certificate of the keyring."""

    core: async_keys.AsyncCertificate

    def load(self) -> x509.Certificate:
        """Return the certificate as an object of cryptography's; raise BadInput for another."""
        return finish(self.core.load())


def blocking(core: async_keys.AsyncObject) -> Object:
    """Return the blocking face of an object."""
    if isinstance(core, async_keys.AsyncPrivateKey):
        return PrivateKey(core)
    if isinstance(core, async_keys.AsyncPublicKey):
        return PublicKey(core)
    if isinstance(core, async_keys.AsyncSecretKey):
        return SecretKey(core)
    return Certificate(core) if isinstance(core, async_keys.AsyncCertificate) else Object(core)
