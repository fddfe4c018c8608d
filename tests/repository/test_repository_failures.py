"""The page of failures says what the module's table says."""

from __future__ import annotations

import re

from tests.support.failure_page import CAUSES, REPOSITORY, failure_page, faults, retries


def test_the_page_is_what_is_made_from_the_tables() -> None:
    page = (REPOSITORY / "docs" / "failures.md").read_text(encoding="utf-8")
    assert page == failure_page(), "run: python -m tests.support.failure_page > docs/failures.md"


def test_every_fault_of_the_module_has_a_row_and_a_cause() -> None:
    header = (REPOSITORY / "native" / "pkcs11" / "src" / "fault.h").read_text(encoding="utf-8")
    declared = re.findall(r"^ +CV_FAULT_(\w+)", header, re.MULTILINE)
    rows = [name for name, _, _ in faults()]
    assert ["NONE", *rows] == declared
    assert CAUSES.keys() == set(rows)


def test_operations_are_repeated_always_or_with_a_key() -> None:
    assert {"always", "with the same attempt id", "with the same key"} <= set(retries())
    assert all(word == "always" or word.startswith("with the same ") for word in retries())
    assert "SIGN" in retries()["always"]
    assert "CREATE_OBJECT" in retries()["with the same key"]
