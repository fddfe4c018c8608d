"""RSA: PKCS #1 v1.5, PSS, OAEP and the raw operation.

The private operation never leaves OpenSSL, which blinds it and checks the result of the Chinese
remainder form with the public exponent before it hands it out, so a computing fault does not become
a signature that betrays a prime.  A wrong PKCS #1 v1.5 padding decrypts to random bytes instead of
an error (implicit rejection), so the answer tells an attacker nothing.
"""

from __future__ import annotations

import hmac
from functools import partial
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import NoDigestInfo

from conclave.crypto import parameters, raw_rsa
from conclave.crypto.faults import refused
from conclave.crypto.hashes import HASHES, PSS_MASKS, HashRow, MaskRow
from conclave.crypto.material import RSA_MAX_BITS, RSA_MIN_BITS, public_key_info, rsa_bits_in_range
from conclave.crypto.mechanism_row import Mechanism, Sign, Verify
from conclave.crypto.parameters import OaepChoice, PssChoice
from conclave.crypto.ready_key import ReadyKey
from conclave.crypto.signatures import (
    require_digest_length,
    require_signature_length,
    wrong_signature,
)
from conclave.crypto.standard import Cka, Ckk, Ckm
from conclave.errors import Ckr
from conclave.keyring.attributes import Attributes, read_ulong, ulong

_PUBLIC_EXPONENT: Final = 65537
_PKCS1_OVERHEAD_BYTES: Final = 11
_PKCS1: Final = padding.PKCS1v15()
_NO_DIGEST_INFO: Final = NoDigestInfo()


def _verify(
    key: ReadyKey, signature: bytes, data: bytes, scheme: object, algorithm: object
) -> None:
    require_signature_length(signature, key.size_bytes)
    try:
        key.handle.verify(signature, data, scheme, algorithm)
    except InvalidSignature:
        raise wrong_signature() from None


# ------------------------------------------------------------------ PKCS #1 v1.5


def _require_room(key: ReadyKey, data: bytes, lowest: int) -> None:
    highest = key.size_bytes - _PKCS1_OVERHEAD_BYTES
    if not lowest <= len(data) <= highest:
        raise refused(
            Ckr.DATA_LEN_RANGE, f"The data must have {lowest} to {highest} bytes, not {len(data)}."
        )


def _sign_pkcs(key: ReadyKey, _: None, data: bytes, _prehashed: bool) -> bytes:
    _require_room(key, data, 1)
    signature: bytes = key.handle.sign(data, _PKCS1, _NO_DIGEST_INFO)
    return signature


def _verify_pkcs(key: ReadyKey, _: None, data: bytes, signature: bytes, _prehashed: bool) -> None:
    _require_room(key, data, 1)
    _verify(key, signature, data, _PKCS1, _NO_DIGEST_INFO)


def _sign_recover_pkcs(key: ReadyKey, _: None, data: bytes) -> bytes:
    return _sign_pkcs(key, None, data, False)


def _verify_recover_pkcs(key: ReadyKey, _: None, signature: bytes) -> bytes:
    require_signature_length(signature, key.size_bytes)
    try:
        data: bytes = key.handle.recover_data_from_signature(signature, _PKCS1, None)
    except InvalidSignature:
        raise wrong_signature() from None
    return data


def _encrypt_pkcs(key: ReadyKey, _: None, data: bytes) -> bytes:
    _require_room(key, data, 0)
    ciphertext: bytes = key.handle.encrypt(data, _PKCS1)
    return ciphertext


def _decrypt(key: ReadyKey, data: bytes, scheme: object) -> bytes:
    if len(data) != key.size_bytes:
        raise refused(
            Ckr.ENCRYPTED_DATA_LEN_RANGE,
            f"The ciphertext must have {key.size_bytes} bytes, not {len(data)}.",
        )
    try:
        plaintext: bytes = key.handle.decrypt(data, scheme)
    except ValueError:
        raise refused(Ckr.ENCRYPTED_DATA_INVALID, "The ciphertext does not decrypt.") from None
    return plaintext


def _decrypt_pkcs(key: ReadyKey, _: None, data: bytes) -> bytes:
    return _decrypt(key, data, _PKCS1)


def _hashed_pkcs(row: HashRow) -> tuple[Sign, Verify]:
    def sign(key: ReadyKey, _: None, data: bytes, prehashed: bool) -> bytes:
        if prehashed:
            require_digest_length(data, row.digest_bytes)
        algorithm = row.prehashed if prehashed else row.algorithm
        signature: bytes = key.handle.sign(data, _PKCS1, algorithm)
        return signature

    def verify(key: ReadyKey, _: None, data: bytes, signature: bytes, prehashed: bool) -> None:
        if prehashed:
            require_digest_length(data, row.digest_bytes)
        algorithm = row.prehashed if prehashed else row.algorithm
        _verify(key, signature, data, _PKCS1, algorithm)

    return sign, verify


# ------------------------------------------------------------------ PSS


def _require_salt(key: ReadyKey, choice: PssChoice) -> None:
    highest = key.size_bytes - choice.hash_row.digest_bytes - 2
    if choice.salt_bytes > highest:
        raise refused(
            Ckr.MECHANISM_PARAM_INVALID,
            f"With this key and hash the salt has at most {highest} bytes, not"
            f" {choice.salt_bytes}.",
        )


def _sign_pss(key: ReadyKey, choice: PssChoice, data: bytes, _prehashed: bool) -> bytes:
    _require_salt(key, choice)
    require_digest_length(data, choice.hash_row.digest_bytes)
    signature: bytes = key.handle.sign(data, choice.padding, choice.hash_row.prehashed)
    return signature


def _verify_pss(
    key: ReadyKey,
    choice: PssChoice,
    data: bytes,
    signature: bytes,
    _prehashed: bool,
) -> None:
    _require_salt(key, choice)
    require_digest_length(data, choice.hash_row.digest_bytes)
    _verify(key, signature, data, choice.padding, choice.hash_row.prehashed)


def _hashed_pss(row: HashRow) -> tuple[Sign, Verify]:
    def algorithm(key: ReadyKey, choice: PssChoice, data: bytes, prehashed: bool) -> object:
        _require_salt(key, choice)
        if choice.hash_row is not row:
            raise refused(
                Ckr.MECHANISM_PARAM_INVALID,
                f"The parameter names {choice.hash_row.name}, the mechanism {row.name}.",
            )
        if prehashed:
            require_digest_length(data, row.digest_bytes)
        return row.prehashed if prehashed else row.algorithm

    def sign(key: ReadyKey, choice: PssChoice, data: bytes, prehashed: bool) -> bytes:
        chosen = algorithm(key, choice, data, prehashed)
        signature: bytes = key.handle.sign(data, choice.padding, chosen)
        return signature

    def verify(
        key: ReadyKey, choice: PssChoice, data: bytes, signature: bytes, prehashed: bool
    ) -> None:
        chosen = algorithm(key, choice, data, prehashed)
        _verify(key, signature, data, choice.padding, chosen)

    return sign, verify


# ------------------------------------------------------------------ OAEP and raw


def _encrypt_oaep(key: ReadyKey, choice: OaepChoice, data: bytes) -> bytes:
    highest = key.size_bytes - 2 * choice.hash_row.digest_bytes - 2
    if len(data) > highest:
        raise refused(
            Ckr.DATA_LEN_RANGE, f"The data must have at most {highest} bytes, not {len(data)}."
        )
    ciphertext: bytes = key.handle.encrypt(data, choice.padding)
    return ciphertext


def _decrypt_oaep(key: ReadyKey, choice: OaepChoice, data: bytes) -> bytes:
    return _decrypt(key, data, choice.padding)


def _sign_raw(key: ReadyKey, _: None, data: bytes, _prehashed: bool) -> bytes:
    return raw_rsa.private_operation(key, data)


def _verify_raw(key: ReadyKey, _: None, data: bytes, signature: bytes, _prehashed: bool) -> None:
    recovered = _verify_recover_raw(key, None, signature)
    if len(data) > key.size_bytes:
        raise refused(Ckr.DATA_LEN_RANGE, f"The data must have at most {key.size_bytes} bytes.")
    if not hmac.compare_digest(recovered, data.rjust(key.size_bytes, b"\0")):
        raise wrong_signature()


def _sign_recover_raw(key: ReadyKey, _: None, data: bytes) -> bytes:
    return raw_rsa.private_operation(key, data)


def _verify_recover_raw(key: ReadyKey, _: None, signature: bytes) -> bytes:
    require_signature_length(signature, key.size_bytes)
    return raw_rsa.public_operation(key, signature, out_of_range=Ckr.SIGNATURE_INVALID)


def _encrypt_raw(key: ReadyKey, _: None, data: bytes) -> bytes:
    return raw_rsa.public_operation(key, data)


def _decrypt_raw(key: ReadyKey, _: None, data: bytes) -> bytes:
    if len(data) != key.size_bytes:
        raise refused(
            Ckr.ENCRYPTED_DATA_LEN_RANGE,
            f"The ciphertext must have {key.size_bytes} bytes, not {len(data)}.",
        )
    return raw_rsa.private_operation(key, data, out_of_range=Ckr.ENCRYPTED_DATA_INVALID)


# ------------------------------------------------------------------ key pairs


def _generate_pair(
    public: Attributes,
    _private: Attributes,
) -> tuple[Attributes, Attributes]:
    if Cka.MODULUS_BITS not in public:
        raise refused(Ckr.TEMPLATE_INCOMPLETE, "CKA_MODULUS_BITS is missing.")
    bits = read_ulong(public[Cka.MODULUS_BITS])
    if not rsa_bits_in_range(bits):
        raise refused(
            Ckr.KEY_SIZE_RANGE,
            f"CKA_MODULUS_BITS must be {RSA_MIN_BITS} to {RSA_MAX_BITS} in whole bytes: {bits}.",
        )
    exponent = int.from_bytes(public.get(Cka.PUBLIC_EXPONENT, _EXPONENT_BYTES))
    if exponent != _PUBLIC_EXPONENT:
        raise refused(Ckr.ATTRIBUTE_VALUE_INVALID, "CKA_PUBLIC_EXPONENT of a new key is 65537.")
    return rsa_material(rsa.generate_private_key(_PUBLIC_EXPONENT, bits), bits)


_EXPONENT_BYTES: Final = _PUBLIC_EXPONENT.to_bytes(3, "big")


def _big(number: int) -> bytes:
    return number.to_bytes((number.bit_length() + 7) // 8, "big")


def rsa_material(key: rsa.RSAPrivateKey, bits: int) -> tuple[Attributes, Attributes]:
    """Return the material of a public and a private key of one size in bits."""
    numbers = key.private_numbers()
    shared: Attributes = {
        Cka.MODULUS: _big(numbers.public_numbers.n),
        Cka.PUBLIC_EXPONENT: _big(numbers.public_numbers.e),
        Cka.PUBLIC_KEY_INFO: public_key_info(key.public_key()),
    }
    return {**shared, Cka.MODULUS_BITS: ulong(bits)}, {
        **shared,
        Cka.PRIVATE_EXPONENT: _big(numbers.d),
        Cka.PRIME_1: _big(numbers.p),
        Cka.PRIME_2: _big(numbers.q),
        Cka.EXPONENT_1: _big(numbers.dmp1),
        Cka.EXPONENT_2: _big(numbers.dmq1),
        Cka.COEFFICIENT: _big(numbers.iqmp),
    }


# ------------------------------------------------------------------ rows


_rsa: Final = partial(
    Mechanism,
    key_types=(Ckk.RSA,),
    min_key_size=RSA_MIN_BITS,
    max_key_size=RSA_MAX_BITS,
    unit="bits",
)


def _pkcs_row(row: HashRow) -> Mechanism:
    sign, verify = _hashed_pkcs(row)
    return _rsa(number=row.rsa_pkcs, hashes=True, sign=sign, verify=verify)


def _pss_row(row: MaskRow) -> Mechanism:
    sign, verify = _hashed_pss(row.hash_row)
    return _rsa(number=row.rsa_pss, parameter=parameters.pss, hashes=True, sign=sign, verify=verify)


_RAW_ROWS: Final = (
    _rsa(
        number=Ckm.RSA_X_509,
        sign=_sign_raw,
        verify=_verify_raw,
        sign_recover=_sign_recover_raw,
        verify_recover=_verify_recover_raw,
        encrypt=_encrypt_raw,
        decrypt=_decrypt_raw,
    ),
)
ROWS: Final = (
    _rsa(number=Ckm.RSA_PKCS_KEY_PAIR_GEN, generate_pair=_generate_pair, takes_long=True),
    _rsa(
        number=Ckm.RSA_PKCS,
        sign=_sign_pkcs,
        verify=_verify_pkcs,
        sign_recover=_sign_recover_pkcs,
        verify_recover=_verify_recover_pkcs,
        encrypt=_encrypt_pkcs,
        decrypt=_decrypt_pkcs,
    ),
    _rsa(
        number=Ckm.RSA_PKCS_OAEP,
        parameter=parameters.oaep,
        encrypt=_encrypt_oaep,
        decrypt=_decrypt_oaep,
    ),
    _rsa(number=Ckm.RSA_PKCS_PSS, parameter=parameters.pss, sign=_sign_pss, verify=_verify_pss),
    *(_RAW_ROWS if raw_rsa.AVAILABLE else ()),
    *(_pkcs_row(row) for row in HASHES),
    *(_pss_row(row) for row in PSS_MASKS),
)
