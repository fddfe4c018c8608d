"""A keyring for programs and threads that may block: find keys, make them, take them in.

What is done stands in `conclave.client.async_keyring`; here its coroutines are run to their end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType

from cryptography import x509

from conclave.client.async_keyring import AsyncKeyring
from conclave.client.key_kinds import PairName, SecretName
from conclave.client.keys import Certificate, Object, PrivateKey, PublicKey, SecretKey, blocking
from conclave.client.public_keys import PublicKeyOfPair
from conclave.client.session import KeyringSession
from conclave.client.templates import Attributes
from conclave.client.ways import finish
from conclave.crypto.standard import Ckk, Cko
from conclave.service import wire


@dataclass(frozen=True, slots=True)
class KeyPair:
    """The two keys of a pair."""

    public: PublicKey
    private: PrivateKey


class Keyring:
    """One keyring, between login and logout; any number of threads may use it."""

    def __init__(self, core: AsyncKeyring) -> None:
        self.core = core

    def __enter__(self) -> Keyring:
        self.open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        finish(self.core.__aexit__(kind, error, trace))

    def open(self) -> None:
        """Find the keyring and log in, if there is a password; it is forgotten then.

        Raises NotFound, and CredentialRefused for a wrong password, which is sent once only.
        """
        finish(self.core.open())

    def close(self) -> None:
        """Log out; the login is forgotten even when the cluster cannot be told."""
        finish(self.core.close())

    @property
    def session(self) -> KeyringSession:
        """Return the session, for what has no method here; raise NotAllowed when not open."""
        return KeyringSession(self.core.session)

    def info(self) -> wire.TokenDetails:
        """Return label, counts and limits."""
        return finish(self.core.info())

    # ---- search

    def search(
        self,
        *,
        label: str | None = None,
        key_id: bytes | None = None,
        object_class: Cko | None = None,
        key_type: Ckk | None = None,
        attributes: Attributes | None = None,
    ) -> list[Object]:
        """Return the token objects that match everything that is given, each as what it is."""
        work = self.core.search(
            label=label,
            key_id=key_id,
            object_class=object_class,
            key_type=key_type,
            attributes=attributes,
        )
        return [blocking(found) for found in finish(work)]

    def private_key(self, label: str | None = None, *, key_id: bytes | None = None) -> PrivateKey:
        """Return the private key; raise NotFound for none and Conflict for several."""
        return PrivateKey(finish(self.core.private_key(label, key_id=key_id)))

    def public_key(self, label: str | None = None, *, key_id: bytes | None = None) -> PublicKey:
        """Return the public key; raise NotFound for none and Conflict for several."""
        return PublicKey(finish(self.core.public_key(label, key_id=key_id)))

    def secret_key(self, label: str | None = None, *, key_id: bytes | None = None) -> SecretKey:
        """Return the secret key; raise NotFound for none and Conflict for several."""
        return SecretKey(finish(self.core.secret_key(label, key_id=key_id)))

    def certificate(self, label: str | None = None, *, key_id: bytes | None = None) -> Certificate:
        """Return the certificate; raise NotFound for none and Conflict for several."""
        return Certificate(finish(self.core.certificate(label, key_id=key_id)))

    # ---- new objects

    def generate_key(
        self,
        kind: SecretName = "AES-256",
        *,
        label: str = "",
        key_id: bytes = b"",
        token: bool = True,
        attributes: Attributes | None = None,
    ) -> SecretKey:
        """Generate a secret key; without `token` it ends with this program.

        `attributes` are further ones, as `{Cka.EXTRACTABLE: True}`; the rest are the keyring's
        defaults.
        """
        work = self.core.generate_key(
            kind, label=label, key_id=key_id, token=token, attributes=attributes
        )
        return SecretKey(finish(work))

    def generate_key_pair(
        self,
        kind: PairName = "P-256",
        *,
        label: str = "",
        key_id: bytes = b"",
        token: bool = True,
        attributes: Attributes | None = None,
        public_attributes: Attributes | None = None,
    ) -> KeyPair:
        """Generate a key pair; `attributes` are further ones of the private key."""
        work = self.core.generate_key_pair(
            kind,
            label=label,
            key_id=key_id,
            token=token,
            attributes=attributes,
            public_attributes=public_attributes,
        )
        pair = finish(work)
        return KeyPair(PublicKey(pair.public), PrivateKey(pair.private))

    def import_public_key(
        self,
        key: PublicKeyOfPair | bytes,
        *,
        label: str = "",
        key_id: bytes | None = None,
        attributes: Attributes | None = None,
    ) -> PublicKey:
        """Take in a public key, an object of cryptography's or PEM or DER.

        Without an id it gets the SHA-1 of the key (RFC 5280, 4.2.1.2).
        """
        work = self.core.import_public_key(key, label=label, key_id=key_id, attributes=attributes)
        return PublicKey(finish(work))

    def import_certificate(
        self,
        certificate: x509.Certificate | bytes,
        *,
        label: str = "",
        key_id: bytes | None = None,
    ) -> Certificate:
        """Take in a certificate, an object of cryptography's or PEM or DER.

        Without an id it gets that of its key, so that it is found with it.
        """
        return Certificate(
            finish(self.core.import_certificate(certificate, label=label, key_id=key_id))
        )

    def destroy(self, objects: Sequence[Object]) -> None:
        """Destroy these objects."""
        finish(self.core.destroy([each.core for each in objects]))
