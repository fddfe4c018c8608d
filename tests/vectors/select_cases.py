"""Select published test vectors out of an unpacked cryptography-vectors package.

python tests/vectors/select_cases.py UNPACKED_DIRECTORY

Writes the JSON files beside this script.  They are committed; this is how they were made, and how
another selection would be.
"""

from __future__ import annotations

import itertools
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).parent
Case = dict[str, str]


def fields(text: str) -> Iterator[Case]:
    """Yield each blank-separated group of `name = value` lines, with the [section] values above."""
    section: Case = {}
    case: Case = {}
    for line in [*text.splitlines(), ""]:
        stripped = line.strip()
        if stripped.startswith("#"):
            continue
        if stripped.startswith("["):
            for part in stripped.strip("[]").split(","):
                name, _, value = part.partition("=")
                section[name.strip() if value else f"_{part[0]}"] = (value or part).strip()
        elif "=" in stripped:
            name, _, value = stripped.partition("=")
            case[name.strip()] = value.strip()
        elif case:
            yield {**section, **case}
            case = {}


def write(name: str, origin: str, licence: str, cases: list[Case]) -> None:
    """Write one vector file."""
    if not cases:
        raise SystemExit(f"{name}: nothing was selected")
    content = {"origin": origin, "licence": licence, "cases": cases}
    (HERE / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n")


def first_of_each(cases: Iterator[Case], names: tuple[str, ...], count: int = 1) -> list[Case]:
    """Return the first `count` cases of each combination of values."""
    seen: dict[tuple[str, ...], int] = {}
    chosen = []
    for case in cases:
        key = tuple(case.get(name, "") for name in names)
        seen[key] = seen.get(key, 0) + 1
        if seen[key] <= count:
            chosen.append(case)
    return chosen


def aes_blocks(root: Path, mode: str) -> list[Case]:
    """Return the multi-block messages of AESAVS."""
    folder = root / "ciphers/AES" / mode
    cases = []
    for bits in (128, 192, 256):
        text = (folder / f"{mode}MMT{bits}.rsp").read_text()
        cases += [case for case in fields(text.partition("[DECRYPT]")[0]) if "KEY" in case]
    return [
        {
            name.lower(): case[name]
            for name in ("KEY", "IV", "PLAINTEXT", "CIPHERTEXT")
            if name in case
        }
        for case in cases
    ]


def aes_ctr(root: Path) -> list[Case]:
    """Return RFC 3686's vectors."""
    cases = []
    for bits in (128, 192, 256):
        text = (root / f"ciphers/AES/CTR/aes-{bits}-ctr.txt").read_text()
        cases += [case for case in fields(text) if "KEY" in case]
    return [
        {name.lower(): case[name] for name in ("KEY", "IV", "PLAINTEXT", "CIPHERTEXT")}
        for case in cases
    ]


def ecdh(root: Path) -> list[Case]:
    """Return right agreements of SP 800-56A on P-224 to P-521, and points that are none."""
    name = "KASValidityTest_ECCStaticUnified_NOKC_ZZOnly_init.fax"
    text = (root / "asymmetric/ECDH" / name).read_text()
    curves = {"EB": "P-224", "EC": "P-256", "ED": "P-384", "EE": "P-521"}
    cases: list[Case] = []
    for part in re.split(r"\[(?=E\w - SHA)", text)[1:]:
        curve = curves.get(part[:2])
        if curve is None:
            continue
        chosen = [case for case in fields(part.partition("]")[2]) if "Z" in case]
        for case in chosen:
            right, no_point = case["Result"][0] == "P", case["Result"][3] in "12"
            # The other wrong ones are wrong in what an exchange does not look at.
            if right or no_point:
                cases.append(
                    {
                        "curve": curve,
                        "private": case["dsIUT"],
                        "x": case["QsCAVSx"],
                        "y": case["QsCAVSy"],
                        "secret": case["Z"] if right else "FAIL",
                    }
                )
    return cases


def montgomery(root: Path) -> list[Case]:
    """Return the vectors of RFC 7748, section 5.2."""
    return [
        {
            "curve": curve,
            "private": case["INPUT_SCALAR"],
            "public": case["INPUT_U"],
            "secret": case["OUTPUT_U"],
        }
        for curve in ("X25519", "X448")
        for case in fields((root / f"asymmetric/{curve}/rfc7748.txt").read_text())
    ]


def x963(root: Path) -> list[Case]:
    """Return two cases of the X9.63 KDF for each hash and set of lengths."""
    text = (root / "KDF/ansx963_2001.txt").read_text()
    cases: list[Case] = []
    for part in re.split(r"\[(?=SHA-)", text)[1:]:
        name, _, rest = part.partition("]")
        cases += [
            {
                "hash": name.replace("-", "").lower(),
                "secret": case["Z"],
                "shared": case["SharedInfo"],
                "derived": case["key_data"],
            }
            for case in fields(rest)
            if "key_data" in case
        ]
    return cases[::2]


def counter_kdf(root: Path) -> list[Case]:
    """Return a case of SP 800-108 for each PRF, place and width of the counter, without TDES."""
    text = (root / "KDF/nist-800-108-KBKDF-CTR.txt").read_text()
    cases = (case for case in fields(text) if "KO" in case and "TDES" not in case["PRF"])
    chosen = first_of_each(cases, ("PRF", "CTRLOCATION", "RLEN"))
    return [
        {
            "prf": case["PRF"],
            "bits": case["RLEN"].partition("_")[0],
            "key": case["KI"],
            "before": {
                "BEFORE_FIXED": "",
                "AFTER_FIXED": case.get("FixedInputData", ""),
            }.get(case["CTRLOCATION"], case.get("DataBeforeCtrData", "")),
            "after": {
                "BEFORE_FIXED": case.get("FixedInputData", ""),
                "AFTER_FIXED": "",
            }.get(case["CTRLOCATION"], case.get("DataAfterCtrData", "")),
            "derived": case["KO"],
        }
        for case in chosen
    ]


def hkdf(root: Path) -> list[Case]:
    """Return RFC 5869's vectors."""
    cases: list[Case] = []
    for name in ("SHA1", "SHA256"):
        text = (root / f"KDF/rfc-5869-HKDF-{name}.txt").read_text()
        cases += [
            {
                "hash": name.lower(),
                "secret": case["IKM"],
                "salt": case.get("salt", ""),
                "info": case.get("info", ""),
                "prk": case["PRK"],
                "derived": case["OKM"],
            }
            for case in fields(re.sub(r"\nL .*\n\n", "\n", text))
            if "OKM" in case
        ]
    return cases


def key_wrap(root: Path, mode: str) -> list[Case]:
    """Return one case of each size of key and plaintext, and some that must fail (SP 800-38F)."""
    folder = root / "keywrap/kwtestvectors"
    cases: list[Case] = []
    for bits in (128, 192, 256):
        sealing = fields((folder / f"{mode}_AE_{bits}.txt").read_text())
        cases += first_of_each((case for case in sealing if "C" in case), ("PLAINTEXT LENGTH",))
        text = (folder / f"{mode}_AD_{bits}.txt").read_text()
        # A case that must fail has FAIL on a line of its own.
        opening = fields(re.sub(r"^FAIL$", "P = FAIL", text, flags=re.MULTILINE))
        failing = (case for case in opening if case.get("P") == "FAIL")
        cases += first_of_each(failing, ("PLAINTEXT LENGTH",))
    return [{"key": case["K"], "plaintext": case["P"], "wrapped": case["C"]} for case in cases]


def aes_xts(root: Path) -> list[Case]:
    """Return five XTS cases of each length of whole bytes, half of them with stealing."""
    cases: list[Case] = []
    for bits in (128, 256):
        text = (root / f"ciphers/AES/XTS/tweak-128hexstr/XTSGenAES{bits}.rsp").read_text()
        found = (c for c in fields(text.partition("[DECRYPT]")[0]) if "Key" in c)
        whole = (c for c in found if int(c["DataUnitLen"]) % 8 == 0)
        cases += first_of_each(whole, ("DataUnitLen",), 5)
    names = {"Key": "key", "i": "iv", "PT": "plaintext", "CT": "ciphertext"}
    return [{ours: case[theirs] for theirs, ours in names.items()} for case in cases]


def ml_kem(root: Path) -> list[Case]:
    """Return the first four key pairs of each parameter set."""
    cases = []
    for level in (768, 1024):
        text = (root / f"asymmetric/MLKEM/kat_MLKEM_{level}.rsp").read_text()
        lines = [line.partition(" = ") for line in text.splitlines()]
        values: dict[str, list[str]] = {}
        for name, _, value in lines:
            values.setdefault(name, []).append(value)
        cases += [
            {"set": f"ML-KEM-{level}", "seed": d + z, "public": public}
            for d, z, public in zip(values["d"][:4], values["z"], values["pk"], strict=False)
        ]
    return cases


def ml_kem_secrets(root: Path) -> list[Case]:
    """Return the first two secrets of each parameter set, and what broken ciphertexts give."""
    cases = []
    for level in (768, 1024):
        text = (root / f"asymmetric/MLKEM/kat_MLKEM_{level}.rsp").read_text()
        for block in text.split("count = ")[1:3]:
            lines = dict(line.split(" = ") for line in block.splitlines()[1:])
            cases += [
                {
                    "set": f"ML-KEM-{level}",
                    "seed": lines["d"] + lines["z"],
                    "ciphertext": lines[ciphertext],
                    "secret": lines[secret],
                }
                for ciphertext, secret in (("ct", "ss"), ("ct_n", "ss_n"))
            ]
    return cases


def des3_key(case: Case) -> str:
    """Return the three keys of a case as one."""
    return "".join(case[f"KEY{number}"] for number in (1, 2, 3))


def des3(root: Path, mode: str) -> list[Case]:
    """Return the multi-block messages that are decrypted with three keys."""
    text = (root / f"ciphers/3DES/{mode}/T{mode}MMT3.rsp").read_text()
    found = fields(text.partition("[DECRYPT]")[2])
    names = ("IV", "PLAINTEXT", "CIPHERTEXT")
    return [
        {"key": des3_key(case), **{name.lower(): case[name] for name in names if name in case}}
        for case in found
        if "KEY1" in case
    ]


def des3_cmac(root: Path) -> list[Case]:
    """Return the examples of SP 800-38B with triple DES."""
    text = (root / "CMAC/nist-800-38b-3des.txt").read_text()
    return [
        {"key": des3_key(case), "message": case["MESSAGE"], "mac": case["OUTPUT"]}
        for case in fields(text)
        if "OUTPUT" in case
    ]


def aes_gcm(root: Path) -> list[Case]:
    """Return one GCM case of each supported combination of lengths, and one that must fail."""
    cases: list[Case] = []
    groups = ("IVlen", "PTlen", "AADlen", "Taglen")
    for bits in (128, 192, 256):
        for part in ("gcmEncryptExtIV", "gcmDecrypt"):
            lines = (root / f"ciphers/AES/GCM/{part}{bits}.rsp").read_text()
            # A case that must fail has FAIL on a line of its own.
            marked = re.sub(r"^FAIL$", "PT = FAIL", lines, flags=re.MULTILINE)
            wanted = (
                case
                for case in fields(marked)
                if case.get("Key")
                and int(case["Taglen"]) >= 96
                and case["IVlen"] in {"96", "1024"}
                and case["PTlen"] in {"0", "104", "256"}
                and case["AADlen"] in {"0", "160"}
                and (part == "gcmEncryptExtIV" or case.get("PT") == "FAIL")
            )
            cases += first_of_each(wanted, groups)
    return [
        {
            "key": case["Key"],
            "nonce": case["IV"],
            "aad": case["AAD"],
            "plaintext": case["PT"],
            "ciphertext": case["CT"],
            "tag": case["Tag"],
        }
        for case in cases
    ]


def hmacs(root: Path) -> list[Case]:
    """Return the HMAC vectors of RFC 2202 and RFC 4231."""
    cases: list[Case] = []
    for file, name in (
        ("rfc-2202-sha1", "sha1"),
        *((f"rfc-4231-sha{n}", f"sha{n}") for n in (224, 256, 384, 512)),
    ):
        text = (root / f"HMAC/{file}.txt").read_text()
        cases += [
            {"hash": name, "key": case["Key"], "message": case["Msg"], "mac": case["MD"]}
            for case in fields(text)
            if "MD" in case
        ]
    return cases


def ed25519(root: Path) -> list[Case]:
    """Return every 32nd message length of the reference implementation's vectors."""
    lines = (root / "asymmetric/Ed25519/sign.input").read_text().splitlines()
    cases = []
    for line in lines[:4] + lines[4:512:32]:
        secret, public, message, signed = line.split(":")[:4]
        cases.append(
            {
                "secret": secret[:64],
                "public": public,
                "message": message,
                "signature": signed[:128],
            }
        )
    return cases


def digests(root: Path) -> list[Case]:
    """Return every fourth short message for SHA-3 and the shortened SHA-512."""
    cases = []
    files = [f"SHA2/SHA512_{bits}" for bits in (224, 256)]
    files += [f"SHA3/SHA3_{bits}" for bits in (224, 256, 384, 512)]
    for file in files:
        text = (root / f"hashes/{file}ShortMsg.rsp").read_text()
        found = [case for case in fields(text) if case.get("Len", "0") != "0"]
        name = file[5:].lower()
        cases += [{"hash": name, "message": c["Msg"], "digest": c["MD"]} for c in found[::4]]
    return cases


def ed448(root: Path) -> list[Case]:
    """Return the vectors of RFC 8032, section 7.4, that have no context."""
    text = (root / "asymmetric/Ed448/rfc8032.txt").read_text()
    names = {"SECRET": "secret", "PUBLIC": "public", "MESSAGE": "message", "SIGNATURE": "signature"}
    return [
        {ours: case[theirs] for theirs, ours in names.items()}
        for case in fields(text)
        if "SIGNATURE" in case and not case.get("CONTEXT")
    ]


def ecdsa(root: Path) -> list[Case]:
    """Return verification cases of FIPS 186-3 on the four curves, right and wrong ones."""
    text = (root / "asymmetric/ECDSA/FIPS_186-3/SigVer.rsp").read_text()
    cases = []
    group = ""
    for block in re.split(r"\n\s*\n", text):
        heading = re.search(r"\[(P-\d+),SHA-(\d+)\]", block)
        if heading:
            group = f"{heading[1]} sha{heading[2]}"
        for case in fields(block):
            if "Qx" in case and group.startswith(("P-224", "P-256", "P-384", "P-521")):
                cases.append(
                    {**case, "curve": group[:5], "hash": group[6:], "ok": case["Result"][0]}
                )
    names = {"Msg": "message", "Qx": "x", "Qy": "y", "R": "r", "S": "s"}
    chosen = first_of_each(iter(cases), ("curve", "hash", "Result"))
    return [
        {
            "curve": c["curve"],
            "hash": c["hash"],
            **{v: c[k] for k, v in names.items()},
            "result": c["ok"],
        }
        for c in chosen
    ]


def rsa_verify(root: Path, file: str) -> list[Case]:
    """Return verification cases of FIPS 186-3 for the supported sizes of modulus."""
    text = (root / f"asymmetric/RSA/FIPS_186-2/{file}").read_text()
    modulus, cases = "", []
    for case in fields(text):
        modulus = case.get("n", modulus)
        if "S" in case and int(case["mod"]) in {2048, 3072, 4096} and "Result" in case:
            cases.append({**case, "n": modulus, "ok": case["Result"][0]})
    chosen = first_of_each(iter(cases), ("mod", "SHAAlg", "ok"))
    return [
        {
            "hash": case["SHAAlg"].lower(),
            "modulus": case["n"],
            "exponent": case["e"],
            "message": case["Msg"],
            "signature": case["S"],
            "salt": case["SaltVal"],
            "result": case["ok"],
        }
        for case in chosen
    ]


PARTS = {
    "Modulus": "modulus",
    "Public exponent": "public_exponent",
    "Exponent": "exponent",
    "Prime 1": "prime_1",
    "Prime 2": "prime_2",
    "Prime exponent 1": "exponent_1",
    "Prime exponent 2": "exponent_2",
    "Coefficient": "coefficient",
    "Message": "message",
    "Encryption": "output",
    "Signature": "output",
}


def named_values(text: str) -> Iterator[tuple[str, str]]:
    """Yield (name, hexadecimal) from `# Name:` headings and the lines below them."""
    name, digits = "", ""
    for line in [*text.splitlines(), "# end"]:
        if line.startswith("#"):
            if digits:
                yield name, digits.rjust(len(digits) + len(digits) % 2, "0")
            heading = re.match(r"#\s*([A-Z][A-Za-z0-9 ]*?)(?: to be \w+)?:\s*$", line)
            name, digits = (PARTS.get(heading[1], "") if heading else ""), ""
        elif name:
            digits += re.sub(r"\s", "", line)


def rsa_private(path: Path, **more: str) -> list[Case]:
    """Return the cases with a private key of 2048 bits from a file in RSA Laboratories' form."""
    key: Case = {}
    message, cases = "", []
    for name, value in named_values(path.read_text()):
        if name == "message":
            message = value
        elif name == "output":
            cases.append({**more, **key, "message": message, "output": value})
        elif name == "modulus":
            key = {name: value}
        else:
            key[name] = value
    return [case for case in cases if int(case["modulus"], 16).bit_length() == 2048]


def oaep(folder: Path) -> list[Case]:
    """Return an OAEP case for each pair of hash functions, two with SHA-1 alone."""
    cases = rsa_private(folder / "pkcs-1v2-1d2-vec/oaep-vect.txt", hash="sha1", mask="sha1")[:2]
    names = ("sha1", "sha224", "sha256", "sha384", "sha512")
    for mask, digest in itertools.product(names, names):
        file = folder / f"oaep-custom/oaep-{mask}-{digest}.txt"
        if (mask, digest) != ("sha1", "sha1"):
            cases += rsa_private(file, hash=digest, mask=mask)[:1]
    return cases


NIST = "Public domain (work of the United States government)"
IETF = "IETF Trust, Simplified BSD License for code components"
PYCA = "Apache-2.0 OR BSD-3-Clause"
LABORATORIES = "RSA Laboratories, published with PKCS #1 for free use"


def main(root: Path) -> None:
    """Write all files."""
    rsa = root / "asymmetric/RSA"
    reference = "Ed25519 reference implementation (sign.input), from RFC 8032's section 7.1 on"
    derived = "RSA Laboratories' OAEP vectors, and pyca/cryptography's derived from them for SHA-2"
    either = f"{LABORATORIES}; pyca/cryptography: Apache-2.0 OR BSD-3-Clause"
    sign, decrypt = "PKCS #1 v1.5 signatures with SHA-1", "PKCS #1 v1.5 encryption"
    write("aes_ecb", "NIST AESAVS, multi-block messages", NIST, aes_blocks(root, "ECB"))
    write("aes_cbc", "NIST AESAVS, multi-block messages", NIST, aes_blocks(root, "CBC"))
    write("aes_ctr", "RFC 3686, section 6", IETF, aes_ctr(root))
    write("aes_xts", "NIST XTSVS, selected lengths", NIST, aes_xts(root))
    known = "pyca/cryptography-vectors, asymmetric/MLKEM/kat_MLKEM_*.rsp, the first pairs"
    write("ml_kem_pairs", known, PYCA, ml_kem(root))
    write("ml_kem_decapsulate", known, PYCA, ml_kem_secrets(root))
    write("des3_ecb", "NIST TMOVS, multi-block messages", NIST, des3(root, "ECB"))
    write("des3_cbc", "NIST TMOVS, multi-block messages", NIST, des3(root, "CBC"))
    write("des3_cmac", "NIST SP 800-38B, examples", NIST, des3_cmac(root))
    write("aes_gcm", "NIST GCMVS, selected lengths", NIST, aes_gcm(root))
    for mode in ("KW", "KWP"):
        cases = key_wrap(root, mode)
        write(f"aes_{mode.lower()}", f"NIST SP 800-38F {mode}-AE and -AD, selected", NIST, cases)
    write("ecdh", "NIST SP 800-56A KASValidityTest, selected", NIST, ecdh(root))
    write("x25519_x448", "RFC 7748, section 5.2", IETF, montgomery(root))
    write("x963_kdf", "NIST ANS X9.63-2001, selected", NIST, x963(root))
    write("counter_kdf", "NIST SP 800-108 KDF, counter mode, selected", NIST, counter_kdf(root))
    write("hkdf", "RFC 5869, appendix A", IETF, hkdf(root))
    write("hmac", "RFC 2202 (SHA-1) and RFC 4231 (SHA-2)", IETF, hmacs(root))
    write("ed25519", reference, "Public domain", ed25519(root))
    write("ed448_sign", "RFC 8032, section 7.4, without context", IETF, ed448(root))
    write("digests", "NIST SHA-2 and SHA-3 short messages, selected", NIST, digests(root))
    write("ecdsa_verify", "NIST FIPS 186-3 ECDSA SigVer, selected", NIST, ecdsa(root))
    for name, response in (("pkcs", "SigVer15_186-3.rsp"), ("pss", "SigVerPSS_186-3.rsp")):
        cases = rsa_verify(root, response)
        write(f"rsa_{name}_verify", f"NIST FIPS 186-3 {response}, selected", NIST, cases)
    for name, title, file in (
        ("sign", sign, "sign-vectors"),
        ("decrypt", decrypt, "crypt-vectors"),
    ):
        cases = rsa_private(rsa / f"pkcs1v15{file}.txt")
        write(f"rsa_pkcs_{name}", f"RSA Laboratories, {title}", LABORATORIES, cases)
    write("rsa_oaep_decrypt", derived, either, oaep(rsa))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
