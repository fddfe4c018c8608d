"""Keys of a keyring as cryptography's private keys, so that its builders sign with them.

cryptography's X.509 builders take any object of its abstract classes and call `sign`; encoding a
certificate stays theirs, and the key stays in the keyring.
"""

from __future__ import annotations

from typing import Final, NoReturn

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa, utils
from cryptography.hazmat.primitives.asymmetric.padding import AsymmetricPadding

from conclave import faults
from conclave.client.session import KeyringSession
from conclave.crypto.standard import Cka, Ckm
from conclave.errors import BadInput, NotAllowed

Buffer = bytes | bytearray | memoryview
PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey
RSA_MECHANISMS: Final = {
    "sha256": Ckm.SHA256_RSA_PKCS,
    "sha384": Ckm.SHA384_RSA_PKCS,
    "sha512": Ckm.SHA512_RSA_PKCS,
}
ECDSA_MECHANISMS: Final = {
    "sha256": Ckm.ECDSA_SHA256,
    "sha384": Ckm.ECDSA_SHA384,
    "sha512": Ckm.ECDSA_SHA512,
}


class _Kept:
    """What every key of a keyring refuses: to come out."""

    def __init__(self, session: KeyringSession, reference: bytes) -> None:
        self._session = session
        self._reference = reference

    def _refuse(self) -> NoReturn:
        raise NotAllowed(faults.BAD_REQUEST, "A private key does not leave its keyring.")

    def private_bytes(
        self,
        encoding: serialization.Encoding,
        format: serialization.PrivateFormat,  # noqa: A002 - cryptography's name
        encryption_algorithm: serialization.KeySerializationEncryption,
    ) -> bytes:
        """Refuse."""
        self._refuse()


class RsaKey(_Kept, rsa.RSAPrivateKey):
    """An RSA key of a keyring; signs as PKCS #1 v1.5."""

    def __init__(self, session: KeyringSession, reference: bytes, public: rsa.RSAPublicKey) -> None:
        super().__init__(session, reference)
        self._public = public

    def public_key(self) -> rsa.RSAPublicKey:
        """Return the public key."""
        return self._public

    @property
    def key_size(self) -> int:
        """Return the size in bits."""
        return self._public.key_size

    def sign(
        self,
        data: Buffer,
        padding: AsymmetricPadding,
        algorithm: utils.Prehashed | utils.NoDigestInfo | hashes.HashAlgorithm,
    ) -> bytes:
        """Return the keyring's signature."""
        mechanism = _mechanism(RSA_MECHANISMS, algorithm)
        if padding.name != "EMSA-PKCS1-v1_5":
            raise BadInput(faults.BAD_REQUEST, "Certificates are signed with PKCS #1 v1.5 only.")
        return self._session.sign(self._reference, mechanism, bytes(data))

    def decrypt(self, ciphertext: bytes, padding: AsymmetricPadding) -> bytes:
        """Refuse: this object signs."""
        self._refuse()

    def private_numbers(self) -> rsa.RSAPrivateNumbers:
        """Refuse."""
        self._refuse()

    def __copy__(self) -> RsaKey:
        return self

    def __deepcopy__(self, memo: dict[int, object]) -> RsaKey:
        return self


class EcKey(_Kept, ec.EllipticCurvePrivateKey):
    """An EC key of a keyring; signs by ECDSA."""

    def __init__(
        self, session: KeyringSession, reference: bytes, public: ec.EllipticCurvePublicKey
    ) -> None:
        super().__init__(session, reference)
        self._public = public

    def public_key(self) -> ec.EllipticCurvePublicKey:
        """Return the public key."""
        return self._public

    @property
    def curve(self) -> ec.EllipticCurve:
        """Return the curve."""
        return self._public.curve

    @property
    def key_size(self) -> int:
        """Return the size in bits."""
        return self._public.key_size

    def sign(self, data: Buffer, signature_algorithm: ec.EllipticCurveSignatureAlgorithm) -> bytes:
        """Return the keyring's signature as DER, of which PKCS#11 gives the two halves."""
        mechanism = _mechanism(ECDSA_MECHANISMS, signature_algorithm.algorithm)
        halves = self._session.sign(self._reference, mechanism, bytes(data))
        half = len(halves) // 2
        r, s = int.from_bytes(halves[:half]), int.from_bytes(halves[half:])
        return utils.encode_dss_signature(r, s)

    def exchange(self, algorithm: ec.ECDH, peer_public_key: ec.EllipticCurvePublicKey) -> bytes:
        """Refuse: this object signs."""
        self._refuse()

    def private_numbers(self) -> ec.EllipticCurvePrivateNumbers:
        """Refuse."""
        self._refuse()

    def __copy__(self) -> EcKey:
        return self

    def __deepcopy__(self, memo: dict[int, object]) -> EcKey:
        return self


class Ed25519Key(_Kept, ed25519.Ed25519PrivateKey):
    """An Ed25519 key of a keyring."""

    def __init__(
        self, session: KeyringSession, reference: bytes, public: ed25519.Ed25519PublicKey
    ) -> None:
        super().__init__(session, reference)
        self._public = public

    def public_key(self) -> ed25519.Ed25519PublicKey:
        """Return the public key."""
        return self._public

    def sign(self, data: Buffer) -> bytes:
        """Return the keyring's signature."""
        return self._session.sign(self._reference, Ckm.EDDSA, bytes(data))

    def private_bytes_raw(self) -> bytes:
        """Refuse."""
        self._refuse()

    def __copy__(self) -> Ed25519Key:
        return self

    def __deepcopy__(self, memo: dict[int, object]) -> Ed25519Key:
        return self


SigningKey = RsaKey | EcKey | Ed25519Key


def signing_key(session: KeyringSession, reference: bytes) -> SigningKey:
    """Return a private key of the keyring for cryptography's builders; raise for another object."""
    public = public_key_of(session, reference)
    if isinstance(public, rsa.RSAPublicKey):
        return RsaKey(session, reference, public)
    if isinstance(public, ec.EllipticCurvePublicKey):
        return EcKey(session, reference, public)
    return Ed25519Key(session, reference, public)


def public_key_of(session: KeyringSession, reference: bytes) -> PublicKey:
    """Return the public key that a key of the keyring, private or public, belongs to."""
    info = session.attributes(reference, [Cka.PUBLIC_KEY_INFO])[Cka.PUBLIC_KEY_INFO]
    if not info:
        message = "The object is no key of a pair, so it has no public key."
        raise BadInput(faults.KEY_HANDLE_INVALID, message)
    key = serialization.load_der_public_key(info)
    if isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey):
        return key
    raise BadInput(faults.KEY_HANDLE_INVALID, "Keys of this type sign no certificates.")


def _mechanism(
    mechanisms: dict[str, Ckm],
    algorithm: utils.Prehashed | utils.NoDigestInfo | hashes.HashAlgorithm,
) -> Ckm:
    name = algorithm.name if isinstance(algorithm, hashes.HashAlgorithm) else ""
    if name not in mechanisms:
        known = ", ".join(mechanisms)
        raise BadInput(faults.BAD_REQUEST, f"Certificates are signed with {known} only.")
    return mechanisms[name]
