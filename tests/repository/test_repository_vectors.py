"""Vectors are published ones: each file says who published it, and none is of our own making."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.support.crypto_vectors import VECTORS

PUBLISHERS = (
    "NIST",
    "RFC ",
    "draft-irtf-",
    "Wycheproof",
    "RSA Laboratories",
    "OASIS",
    "pyca/cryptography",
    "Ed25519 reference implementation",
    "Botan",
    "OpenSSL 3.0, test/",
)
OWN_MAKING = re.compile(
    r"\b(made|generated|computed|calculated|created) (with|by)\b", re.IGNORECASE
)


@pytest.mark.parametrize("file", sorted(VECTORS.glob("*.json")), ids=lambda file: file.stem)
def test_a_file_of_vectors_names_who_published_it(file: Path) -> None:
    content = json.loads(file.read_text())
    assert content["licence"]
    assert content["cases"]
    assert any(name in content["origin"] for name in PUBLISHERS)
    assert not OWN_MAKING.search(content["origin"])
