"""Write docs/mechanisms.md from the mechanism table.

python -m conclave.crypto.mechanism_page docs/mechanisms.md
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from conclave.crypto import (
    chained_kdf,
    cipher_mechanisms,
    counter_kdf,
    derive_mechanisms,
    lattice_mechanisms,
    legacy_mechanisms,
    parameters,
    password_derivation,
    wrap_mechanisms,
)
from conclave.crypto.mechanism_row import Mechanism
from conclave.crypto.mechanisms import MECHANISMS
from conclave.crypto.standard import Ckf

_HEAD: Final = """\
# Mechanisms

Made from the table in `conclave.crypto.mechanisms`; a test fails when this page is not current.
Make it anew with `python -m conclave.crypto.mechanism_page docs/mechanisms.md`.

C_GetMechanismInfo reports exactly this, and of what signs, AES-GCM, AES-CCM and ChaCha20-Poly1305
that they take messages. Key sizes are in the unit that the standard gives the
mechanism. A mechanism marked *digest* lets the module hash long data itself and send the digest.
The last column says what shows that it is right: *published vectors* are those that pass through
the PKCS#11 module, as [vectors.md](vectors.md) counts them.

| mechanism | number | key types | key sizes | does | parameter | shown by |
|---|---|---|---|---|---|---|
"""
_TAIL: Final = """
## Choices

* RSA keys have 2048 to 4096 bits in whole bytes. New keys have the public exponent 65537; imported
  ones any odd exponent from 3 to 2^64. An imported private key must bring its primes, exponents and
  coefficient (CKA_PRIME_1 and so on).
* CKM_RSA_PKCS and CKM_RSA_X_509 sign with recovery under keys that say CKA_SIGN_RECOVER, and give
  the data back under keys that say CKA_VERIFY_RECOVER; both are false unless asked for. With
  CKM_RSA_X_509 they come back as long as the modulus.
* CKM_RSA_X_509 runs in the system's libcrypto.so.3 and is not advertised where that is missing.
* CKM_ECDSA takes a digest of any length from 1 byte on; only the leftmost bits count, as many as
  the order of the curve has (FIPS 186-5, 6.4.1). Signatures are r ‖ s, each as long as the order.
* The curves of CKK_EC are P-224, P-256, P-384, P-521, secp256k1 and brainpoolP256r1, P384r1 and
  P512r1, named by object identifier. P-224 and secp256k1 are for what exists already.
* Ed25519 keys name their curve as 1.3.101.112, "edwards25519" or 1.3.6.1.4.1.11591.15.1, Ed448 keys
  as 1.3.101.113 or "edwards448", X25519 as 1.3.101.110 or "curve25519", X448 as 1.3.101.111 or
  "curve448". CKA_EC_POINT is an OCTET STRING; the bare point is accepted too.
* CKM_EDDSA takes no parameter, or a CK_EDDSA_PARAMS without prehash and context. Ed25519ctx,
  Ed25519ph, Ed448ph and contexts are not offered: pyca/cryptography has none of them
  (CKR_MECHANISM_PARAM_INVALID).
* PSS and OAEP take SHA-1 and SHA-2 in all combinations of hash and mask generation, PSS also SHA-3
  with the same hash in both. OAEP with SHA-3 is missing: pyca/cryptography refuses it, and neither
  NIST (ACVP's KTS-IFC has SHA-224 only) nor Wycheproof nor Botan publish vectors. The standard
  has no signatures with SHA-512/224 and SHA-512/256, which serve digests and HMAC.
* ML-DSA and ML-KEM keys are named by CKA_PARAMETER_SET; key sizes are the public key's in bytes.
  A private key is its seed (CKA_SEED); the expanded form (CKA_VALUE) is neither taken nor given,
  as pyca/cryptography has no call for it. Signatures are hedged; CKH_DETERMINISTIC_REQUIRED is
  refused (CKR_MECHANISM_PARAM_INVALID), and so is HashML-DSA.
* ML-KEM-512 and SLH-DSA are missing because pyca/cryptography 50 has neither, although the OpenSSL
  inside it does: its `mlkem` has classes for 768 and 1024 only, it has no module for SLH-DSA, and
  `load_der_public_key` answers UnsupportedAlgorithm for both, which a test holds. Its OpenSSL shows
  no symbols to call, and a host's libcrypto.so.3 has the two from 3.5 on, Debian 12's not.
* An encapsulated key has the whole shared secret of 32 bytes as its value and is a
  CKK_GENERIC_SECRET unless the template says otherwise; it never counts as always sensitive, since
  whoever has the other half knows it too. Another CKA_VALUE_LEN is CKR_TEMPLATE_INCONSISTENT. A
  ciphertext that was tampered with gives another secret, not an error (FIPS 203).
* AES-GCM takes nonces of 8 to 128 bytes and tags of 96 to 128 bits. The caller chooses the nonce
  and must never use one twice with the same key.
* CK_CCM_PARAMS must name the length of the data without the MAC, as the standard says.
* CKM_AES_GMAC takes a CK_GCM_PARAMS (PKCS #11 3.2) or a bare nonce of 12 bytes (2.40).
* CKM_AES_XTS takes the tweak, 16 bytes, and a data unit of at least 16, with ciphertext stealing.
* CKM_CHACHA20_POLY1305 takes nonces of 12 bytes. CMAC and GMAC need keys with CKA_SIGN.
* AES-CTR refuses data that would overflow the counter's own bits (CKR_DATA_LEN_RANGE).
* A wrong PKCS #1 v1.5 padding decrypts to random bytes instead of an error, so that the answer
  tells an attacker nothing.
* A policy (`limits.fips_mechanisms`, `sha1_signatures`, `min_rsa_bits` and `min_curve_bits` in
  `conclave.toml`, the same on all members) takes rows and abilities out of this table;
  C_GetMechanismList and C_GetMechanismInfo tell what is left, and the rest is
  CKR_MECHANISM_INVALID. A key that is too small is CKR_KEY_SIZE_RANGE, another curve
  CKR_CURVE_NOT_SUPPORTED, SHA-1 in a PSS parameter CKR_MECHANISM_PARAM_INVALID and in a DigestInfo
  CKR_DATA_INVALID. CKM_ECDSA takes digests whose hash nobody can tell. What follows from key and
  mechanism, CKA_ALLOWED_MECHANISMS too, is refused by C_SignInit and its like; what depends on
  parameter or data, or was just changed, by C_Sign. `fips_mechanisms` leaves out raw RSA, PKCS #1
  v1.5 encryption (decryption stays), hashes of keys, ChaCha20-Poly1305, X25519 and X448, and all
  curves but P-224 to P-521 in ECDSA; it is no validation. Keys of any size and curve may still be
  imported.
* With `limits.extractable_keys` false no key leaves its keyring: a template with CKA_EXTRACTABLE
  true is CKR_ATTRIBUTE_VALUE_INVALID, an unwrapped key is not extractable by default, and of
  extractable keys that exist C_WrapKey is CKR_KEY_UNEXTRACTABLE and the value
  CKR_ATTRIBUTE_SENSITIVE; their attributes stay as they are.
* CKM_DES3_* decrypt and verify only, and are listed only with `limits.legacy_mechanisms`.
  CKK_DES3 keys may always be imported.
* SHA-1 serves signatures and MACs that exist already; choose another hash for new ones.
* A private key with CKA_ALWAYS_AUTHENTICATE signs, signs with recovery and decrypts after a
  C_Login as CKU_CONTEXT_SPECIFIC for each use; it neither unwraps nor derives, and CKA_PRIVATE
  must be true (CKR_TEMPLATE_INCONSISTENT).
* A secret key is wrapped by its value, a private key by its PKCS #8 PrivateKeyInfo, which RSA alone
  (CKM_RSA_PKCS, CKM_RSA_PKCS_OAEP) does not take. CKM_AES_KEY_WRAP takes whole groups of 8 bytes,
  at least two, and therefore hardly any private key: CKM_AES_KEY_WRAP_KWP does. An unwrapped key
  is extractable unless the template says otherwise, and never counts as always sensitive.
* CKA_WRAP_TEMPLATE, CKA_UNWRAP_TEMPLATE, CKA_DERIVE_TEMPLATE, CKA_ENCAPSULATE_TEMPLATE and
  CKA_DECAPSULATE_TEMPLATE hold at most 32 attributes, none of them hidden in any object, and are
  fixed when the key is made. A key that does not match CKA_WRAP_TEMPLATE is CKR_KEY_HANDLE_INVALID,
  as C_WrapKey has it; so is a public key whose CKA_ENCAPSULATE_TEMPLATE the template contradicts.
  A template that contradicts one of the other three is CKR_TEMPLATE_INCONSISTENT. Of two keys that
  make one, both have their say. CKA_TOKEN in them never moves the new key: the application must ask
  for the same. The two of encapsulation have the numbers of PKCS #11 3.2, 0x62a and 0x62b, which
  says nothing more of them; what they do is what the drafts of its successor say.
* The KRSO alone makes CKA_TRUSTED true, with a C_SetAttributeValue of nothing else, on what a KRSO
  may see: public objects, so public keys and certificates, not private wrapping keys.
* A derived key is a CKK_GENERIC_SECRET unless the template says otherwise. CKM_ECDH1_DERIVE takes
  CKD_NULL, the KDF of ANSI X9.63 with SHA-1 and SHA-2, that of SP 800-56A (CKD_SHA256_KDF_SP800 and
  its like) with SHA-2, the point bare or as an OCTET STRING, and refuses points off the curve and
  of low order; without CKA_VALUE_LEN it gives the whole secret, or one hash. With CKD_NULL a
  shorter key has the secret's last bytes.
* HKDF and the KDFs of SP 800-108 take SHA-1 and SHA-2. No key is derived with SHA-3, save as its
  bare hash: a function is offered with a hash when published vectors of the two pass.
* What concatenation, exclusive or and extraction derive is sensitive when a source is, and
  extractable only when all sources are; a template that says otherwise is inconsistent. Every key
  that takes part, also as a salt, needs CKA_DERIVE.
* CKM_PKCS5_PBKD2 takes CK_PKCS5_PBKD2_PARAMS2, whose password length is a number (2.40 and later,
  not the pointer of 2.20), a salt and HMAC with SHA-1 and SHA-2; iterations times blocks of the
  hash are at most 4,000,000, so that nobody keeps a worker's threads for minutes.
* CKM_SHAKE_128_KEY_DERIVATION and _256 need CKA_VALUE_LEN; the other hash derivations give one
  hash, or its first bytes.
* CKM_RSA_X9_31 is left out: FIPS 186-5 withdrew it and pyca/cryptography does not have it, so by
  rule it is not made of our own arithmetic.
* CKK_DH keys are of the groups ffdhe2048, ffdhe3072 and ffdhe4096 (RFC 7919) and the MODP group of
  2048 bits (RFC 3526, group 14), with base 2: for these published vectors pass. Other CKA_PRIME and
  CKA_BASE, smaller ones above all, are CKR_DOMAIN_PARAMS_INVALID, and no parameters are generated
  (CKM_DH_PKCS_PARAMETER_GEN): numbers that somebody made up cannot be trusted. New private values
  have 256 to 320 bits unless CKA_VALUE_BITS says more. CKM_DH_PKCS_DERIVE refuses public values
  outside the group of prime order; the secret is as long as the prime, a shorter key has its last
  bytes. It runs in the system's libcrypto.so.3, as pyca/cryptography will drop it, and is not
  advertised where that is missing. Prefer ECDH, X25519 or ML-KEM where the other side has it.
* CKM_HKDF_DATA makes a data object of CKA_VALUE_LEN bytes; like any data object it can be read.
* CKM_SP800_108_COUNTER_KDF takes HMAC with these hashes and AES-CMAC, an iteration variable of 8 to
  32 bits, big endian, at any place, byte arrays and lengths; it derives one key a call. So do the
  feedback and the double-pipeline KDF, with an optional counter.
* CKM_RSA_PKCS unwraps what has a wrong padding to a random key, or to CKR_WRAPPED_KEY_INVALID where
  its random length is none of the type's: one more reason to wrap with CKM_RSA_PKCS_OAEP.
* CKA_WRAP, CKA_UNWRAP and CKA_DERIVE are false unless asked for; the uses that a key's type is for
  are true. CKA_SENSITIVE is true and CKA_EXTRACTABLE false unless the template says otherwise.
* A generated pair without a CKA_ID, or with empty ones, gets one on both halves: 20 bytes of the
  SHA-256 of its public key.
"""
_ABILITIES: Final = (
    (Ckf.DIGEST, "digest in the module"),
    (Ckf.GENERATE, "generate a key"),
    (Ckf.GENERATE_KEY_PAIR, "generate a pair"),
    (Ckf.SIGN, "sign"),
    (Ckf.VERIFY, "verify"),
    (Ckf.SIGN_RECOVER, "sign with recovery"),
    (Ckf.VERIFY_RECOVER, "recover"),
    (Ckf.ENCRYPT, "encrypt"),
    (Ckf.DECRYPT, "decrypt"),
    (Ckf.WRAP, "wrap"),
    (Ckf.UNWRAP, "unwrap"),
    (Ckf.DERIVE, "derive"),
    (Ckf.ENCAPSULATE, "encapsulate"),
    (Ckf.DECAPSULATE, "decapsulate"),
)
_PARAMETERS: Final = {
    parameters.no_parameter: "none",
    parameters.pss: "CK_RSA_PKCS_PSS_PARAMS",
    parameters.oaep: "CK_RSA_PKCS_OAEP_PARAMS",
    parameters.block_vector: "16-byte IV",
    parameters.ctr: "CK_AES_CTR_PARAMS",
    parameters.gcm: "CK_GCM_PARAMS",
    cipher_mechanisms.ccm: "CK_CCM_PARAMS",
    cipher_mechanisms.chacha20_poly1305: "CK_SALSA20_CHACHA20_POLY1305_PARAMS",
    legacy_mechanisms.des_vector: "8-byte IV",
    lattice_mechanisms.sign_context: "none, or CK_SIGN_ADDITIONAL_CONTEXT",
    parameters.output_length: "CK_MAC_GENERAL_PARAMS",
    wrap_mechanisms.default_vector: "none, or 8-byte IV of RFC 3394",
    wrap_mechanisms.default_padded_vector: "none, or 4-byte IV of RFC 5649",
    derive_mechanisms.ecdh: "CK_ECDH1_DERIVE_PARAMS",
    derive_mechanisms.hkdf: "CK_HKDF_PARAMS",
    parameters.public_number: "the other's public value",
    counter_kdf.counter_kdf: "CK_SP800_108_KDF_PARAMS",
    chained_kdf.feedback_kdf: "CK_SP800_108_FEEDBACK_KDF_PARAMS",
    chained_kdf.double_pipeline_kdf: "CK_SP800_108_KDF_PARAMS",
    password_derivation.pbkdf2: "CK_PKCS5_PBKD2_PARAMS2",
    derive_mechanisms.octets: "CK_KEY_DERIVATION_STRING_DATA",
    derive_mechanisms.other_key: "CK_OBJECT_HANDLE",
    derive_mechanisms.first_bit: "CK_EXTRACT_PARAMS",
    wrap_mechanisms.rsa_aes: "CK_RSA_AES_KEY_WRAP_PARAMS",
}


def mechanism_page() -> str:
    """Return the text of docs/mechanisms.md."""
    return _HEAD + "".join(map(_line, MECHANISMS.values())) + _TAIL


def _line(row: Mechanism) -> str:
    kinds = ", ".join(f"CKK_{kind.name}" for kind in row.key_types) or "none"
    sizes = f"{row.min_key_size} to {row.max_key_size} {row.unit}"
    if row.min_key_size == row.max_key_size:
        sizes = f"{row.min_key_size} {row.unit}"
    does = ", ".join(word for flag, word in _ABILITIES if row.flags & flag)
    cells = (
        f"CKM_{row.number.name}",
        f"0x{row.number:04x}",
        kinds,
        sizes if row.key_types else "none",
        does + (" (digest)" if row.hashes else ""),
        _PARAMETERS[row.parameter],
        row.evidence.value,
    )
    return f"| {' | '.join(cells)} |\n"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(mechanism_page(), encoding="utf-8")
