"""The PKCS#11 layer with a worker in the test's process, where a sanitizer watches."""

from __future__ import annotations

import subprocess

import pytest

from tests.native.driver import build, directory_of


@pytest.mark.parametrize(
    ("sanitize", "program"),
    [("address,undefined", "test_hostile"), ("thread", "test_threads")],
)
def test_the_layer_is_clean_under_a_sanitizer(sanitize: str, program: str) -> None:
    """Hostile arguments of every function; many threads on one module."""
    directory = directory_of(sanitize)
    build(sanitize, f"build/{directory.name}/layer/{program}")
    outcome = subprocess.run(
        [directory / "layer" / program], check=False, capture_output=True, text=True, timeout=280
    )
    assert (outcome.returncode, outcome.stderr) == (0, ""), outcome.stderr
