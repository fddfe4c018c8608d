"""Write docs/vectors.md: how many published vectors pass through the module, by mechanism.

python -m tests.support.vector_page docs/vectors.md
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from conclave.crypto.mechanism_row import Evidence
from conclave.crypto.mechanisms import MECHANISMS
from conclave.crypto.standard import Ckm
from tests.support.crypto_vectors import Case, cases, hash_row, of_key
from tests.support.module_vectors import PLANS, always

HEAD = """\
# Published vectors

Made from the tests' data; a test fails when this page is not current. Make it anew with
`python -m tests.support.vector_page docs/vectors.md`.

Each vector counted here goes through the PKCS#11 module, over TLS, to a member's worker and back:
signatures, ciphers, MACs and digests in `tests/native/test_module_vectors.py`, keys that are
wrapped, derived or encapsulated in the files beside it. The files of vectors are in
`tests/vectors`, each with its origin and licence; a test of the worker alone runs them too.

| mechanism | vectors | files |
|---|---|---|
"""


def not_failing(kind: Ckm) -> Callable[[Case], tuple[Ckm, ...]]:
    return lambda case: (kind,) if case["plaintext"] != "FAIL" else ()


def of_hash(case: Case) -> tuple[Ckm, ...]:
    return (hash_row(case["hash"]).key_derivation,) if of_key(case) else ()


def of_hkdf(case: Case) -> tuple[Ckm, ...]:
    return (Ckm.HKDF_DERIVE, Ckm.HKDF_DATA)


# What test_module_wrapping, _derivation, _exchange_vectors and _encapsulation run, each file whole.
EXCHANGE = {
    "aes_kw": not_failing(Ckm.AES_KEY_WRAP),
    "aes_kw_rfc3394": not_failing(Ckm.AES_KEY_WRAP),
    "aes_wrap_wycheproof": always(Ckm.AES_KEY_WRAP),
    "aes_kwp": not_failing(Ckm.AES_KEY_WRAP_KWP),
    "aes_kwp_rfc5649": not_failing(Ckm.AES_KEY_WRAP_KWP),
    "aes_kwp_wycheproof": always(Ckm.AES_KEY_WRAP_KWP),
    "rsa_oaep_wycheproof": always(Ckm.RSA_PKCS_OAEP),
    "ecdh": always(Ckm.ECDH1_DERIVE, Ckm.ECDH1_COFACTOR_DERIVE),
    "x25519_x448": always(Ckm.ECDH1_DERIVE, Ckm.ECDH1_COFACTOR_DERIVE),
    "concat_kdf": always(Ckm.ECDH1_DERIVE),
    "ecdh_wycheproof": always(Ckm.ECDH1_DERIVE),
    "dh_ffdhe": always(Ckm.DH_PKCS_DERIVE),
    "dh_modp": always(Ckm.DH_PKCS_DERIVE),
    "hkdf": of_hkdf,
    "hkdf_wycheproof": always(Ckm.HKDF_DERIVE),
    "hkdf_acvp": always(Ckm.HKDF_DERIVE),
    "counter_kdf": always(Ckm.SP800_108_COUNTER_KDF),
    "feedback_kdf": always(Ckm.SP800_108_FEEDBACK_KDF),
    "double_pipeline_kdf": always(Ckm.SP800_108_DOUBLE_PIPELINE_KDF),
    "derivation_examples": lambda case: (Ckm[case["mechanism"]],),
    "digests": of_hash,
    "digests_sha2": of_hash,
    "shake": lambda case: (Ckm[f"SHAKE_{case['shake']}_KEY_DERIVATION"],),
    "pbkdf2": always(Ckm.PKCS5_PBKD2),
    "ml_kem_decapsulate": always(Ckm.ML_KEM),
}


def counts() -> dict[Ckm, dict[str, int]]:
    """Return for each mechanism the files whose vectors pass through it, and how many of each."""
    found: dict[Ckm, dict[str, int]] = {}
    plans = [*((name, plan.kinds) for name, plan in PLANS.items()), *EXCHANGE.items()]
    for name, kinds in plans:
        for case in cases(name):
            for kind in kinds(case):
                files = found.setdefault(kind, {})
                files[name] = files.get(name, 0) + 1
    return found


def vector_page() -> str:
    """Return the text of docs/vectors.md."""
    lines, found = [], counts()
    for row in MECHANISMS.values():
        files = found.get(row.number, {})
        if files:
            names = ", ".join(f"{name} ({number})" for name, number in sorted(files.items()))
            lines.append(f"| CKM_{row.number.name} | {sum(files.values())} | {names} |\n")
        elif row.evidence is not Evidence.DRAWN:
            lines.append(f"| CKM_{row.number.name} | 0 | {row.evidence.value} |\n")
    total = sum(sum(files.values()) for files in found.values())
    return (
        HEAD
        + "".join(lines)
        + f"| all | {total} | |\n\nMechanisms that draw keys at random have none; the tests"
        " of the worker read what they make with\npyca/cryptography and use it there.\n\nThe"
        " vectors of X9.63's KDF (x963_kdf) begin with secrets that are no points of a curve that"
        " is\noffered: they run in the worker, and what the module derives is held against the"
        " standard's formula.\n"
    )


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(vector_page(), encoding="utf-8")
