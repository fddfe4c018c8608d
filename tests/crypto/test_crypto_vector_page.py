"""The page that counts published vectors is current and counts only what is run."""

from __future__ import annotations

from pathlib import Path

from conclave.crypto.mechanism_row import Evidence
from conclave.crypto.mechanisms import MECHANISMS
from conclave.crypto.standard import Ckm
from tests.support.crypto_vectors import VECTORS
from tests.support.module_vectors import PLANS
from tests.support.vector_page import EXCHANGE, counts, vector_page

TESTS = Path(__file__).parents[1]
OF_PARTS = {
    # A KDF alone, or a pair alone, cannot be asked of a module; the rest is off in it.
    *("x963_kdf", "ml_dsa_pairs", "ml_kem_pairs"),
    *("octet_curve_pairs", "des3_cbc", "des3_cmac", "des3_ecb", "cpace_x25519"),
}


def test_the_page_of_vectors_is_current() -> None:
    page = TESTS.parent / "docs" / "vectors.md"
    assert page.read_text(encoding="utf-8") == vector_page()


def test_every_mechanism_has_vectors_or_says_what_stands_for_them() -> None:
    told = {row.number for row in MECHANISMS.values() if row.evidence is Evidence.VECTORS}
    assert told == set(counts())
    others = {row.number: row.evidence for row in MECHANISMS.values() if row.number not in told}
    drawn = {number for number, evidence in others.items() if evidence is Evidence.DRAWN}
    assert all(number.name.endswith(("KEY_GEN", "KEY_PAIR_GEN")) for number in drawn)
    assert {n: others[n] for n in set(others) - drawn} == {
        Ckm.RSA_AES_KEY_WRAP: Evidence.PARTS,
        **dict.fromkeys(
            (Ckm.DES3_ECB, Ckm.DES3_CBC, Ckm.DES3_CBC_PAD, Ckm.DES3_CMAC), Evidence.IN_WORKER
        ),
    }


def test_every_file_of_vectors_is_run_somewhere() -> None:
    files = {file.stem for file in VECTORS.glob("*.json")}
    assert files == {*PLANS, *EXCHANGE, *OF_PARTS}
    sources = [file.read_text() for file in (TESTS / "native").glob("test_module_*.py")]
    for name in EXCHANGE:
        assert any(f'"{name}' in source for source in sources), name
    tests = "".join(file.read_text() for file in TESTS.glob("*/test_*.py"))
    for name in OF_PARTS:
        assert f'"{name}' in tests, name
