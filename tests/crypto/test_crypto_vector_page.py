"""The page that counts published vectors is current and counts only what is run."""

from __future__ import annotations

from pathlib import Path

from conclave.crypto.mechanisms import MECHANISMS
from tests.support.crypto_vectors import VECTORS
from tests.support.module_vectors import PLANS
from tests.support.vector_page import DRAWN, EXCHANGE, WITHOUT, counts, vector_page

TESTS = Path(__file__).parents[1]
OF_PARTS = {
    # A KDF alone, or a pair alone, cannot be asked of a module; the rest is off in it.
    *("x963_kdf", "ml_dsa_pairs", "ml_kem_pairs"),
    *("octet_curve_pairs", "des3_cbc", "des3_cmac", "des3_ecb", "cpace_x25519"),
}


def test_the_page_of_vectors_is_current() -> None:
    page = TESTS.parent / "docs" / "vectors.md"
    assert page.read_text(encoding="utf-8") == vector_page()


def test_every_mechanism_has_vectors_or_a_reason() -> None:
    found = counts()
    bare = {row.number for row in MECHANISMS.values() if not row.flags & DRAWN} - set(found)
    assert bare == set(WITHOUT)
    assert set(found) <= {row.number for row in MECHANISMS.values()}


def test_every_file_of_vectors_is_run_somewhere() -> None:
    files = {file.stem for file in VECTORS.glob("*.json")}
    assert files == {*PLANS, *EXCHANGE, *OF_PARTS}
    sources = [file.read_text() for file in (TESTS / "native").glob("test_module_*.py")]
    for name in EXCHANGE:
        assert any(f'"{name}' in source for source in sources), name
    tests = "".join(file.read_text() for file in TESTS.glob("*/test_*.py"))
    for name in OF_PARTS:
        assert f'"{name}' in tests, name
