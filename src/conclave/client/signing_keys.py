"""Keys of a keyring as cryptography's private keys, so that its builders sign with them.

cryptography's X.509 builders take any object of its abstract classes and call `sign`; encoding a
certificate stays theirs, and the key stays in the keyring.
"""

from __future__ import annotations

from typing import Final, Generic, NoReturn, Self, TypeVar

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, mldsa, rsa, utils
from cryptography.hazmat.primitives.asymmetric.padding import AsymmetricPadding

from conclave import faults
from conclave.client.public_keys import public_key_in
from conclave.client.session import KeyringSession
from conclave.crypto.standard import Cka, Ckm
from conclave.errors import BadInput, NotAllowed

Buffer = bytes | bytearray | memoryview
PublicKey = (
    rsa.RSAPublicKey
    | ec.EllipticCurvePublicKey
    | ed25519.Ed25519PublicKey
    | ed448.Ed448PublicKey
    | mldsa.MLDSA44PublicKey
    | mldsa.MLDSA65PublicKey
    | mldsa.MLDSA87PublicKey
)
"""Of the keys that sign certificates."""
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


PublicT = TypeVar("PublicT")


class _Octets(_Kept, Generic[PublicT]):
    """What keys have in common whose signature is one string of octets, without a hash of ours."""

    def __init__(self, session: KeyringSession, reference: bytes, public: PublicT) -> None:
        super().__init__(session, reference)
        self._public = public

    def public_key(self) -> PublicT:
        """Return the public key."""
        return self._public

    def private_bytes_raw(self) -> bytes:
        """Refuse."""
        self._refuse()

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, object]) -> Self:
        return self


class _Edwards(_Octets[PublicT]):
    """A key of EdDSA."""

    def sign(self, data: Buffer) -> bytes:
        """Return the keyring's signature."""
        return self._session.sign(self._reference, Ckm.EDDSA, bytes(data))


class Ed25519Key(_Edwards[ed25519.Ed25519PublicKey], ed25519.Ed25519PrivateKey):
    """An Ed25519 key of a keyring."""


class Ed448Key(_Edwards[ed448.Ed448PublicKey], ed448.Ed448PrivateKey):
    """An Ed448 key of a keyring."""


class _MlDsa(_Octets[PublicT]):
    """A key of ML-DSA; certificates have no context (RFC 9881)."""

    def sign(self, data: Buffer, context: Buffer | None = None) -> bytes:
        """Return the keyring's signature."""
        if context:
            raise BadInput(faults.BAD_REQUEST, "Certificates are signed without a context.")
        return self._session.sign(self._reference, Ckm.ML_DSA, bytes(data))

    def sign_mu(self, mu: Buffer) -> bytes:
        """Refuse: keyrings sign messages."""
        self._refuse()


class MlDsa44Key(_MlDsa[mldsa.MLDSA44PublicKey], mldsa.MLDSA44PrivateKey):
    """An ML-DSA-44 key of a keyring."""


class MlDsa65Key(_MlDsa[mldsa.MLDSA65PublicKey], mldsa.MLDSA65PrivateKey):
    """An ML-DSA-65 key of a keyring."""


class MlDsa87Key(_MlDsa[mldsa.MLDSA87PublicKey], mldsa.MLDSA87PrivateKey):
    """An ML-DSA-87 key of a keyring."""


SigningKey = RsaKey | EcKey | Ed25519Key | Ed448Key | MlDsa44Key | MlDsa65Key | MlDsa87Key


def signing_key(session: KeyringSession, reference: bytes) -> SigningKey:
    """Return a private key of the keyring for cryptography's builders; raise for another object."""
    public = public_key_of(session, reference)
    match public:
        case rsa.RSAPublicKey():
            return RsaKey(session, reference, public)
        case ec.EllipticCurvePublicKey():
            return EcKey(session, reference, public)
        case ed25519.Ed25519PublicKey():
            return Ed25519Key(session, reference, public)
        case ed448.Ed448PublicKey():
            return Ed448Key(session, reference, public)
        case mldsa.MLDSA44PublicKey():
            return MlDsa44Key(session, reference, public)
        case mldsa.MLDSA65PublicKey():
            return MlDsa65Key(session, reference, public)
        case mldsa.MLDSA87PublicKey():
            return MlDsa87Key(session, reference, public)


def public_key_of(session: KeyringSession, reference: bytes) -> PublicKey:
    """Return the public key that a key of the keyring, private or public, belongs to."""
    found = session.attributes(reference, [Cka.PUBLIC_KEY_INFO])
    key = public_key_in(found[Cka.PUBLIC_KEY_INFO])
    if isinstance(key, PublicKey):
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
