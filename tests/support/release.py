"""A release of Conclave's own source as a signed package, made once for all tests."""

from __future__ import annotations

import functools
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from conclave.packages.builder import BuiltPackage, build_package, release_tree
from conclave.packages.manifest import Requirements
from conclave.packages.shelf import trust_release_key

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
REQUIRES = Requirements(appliance="7.8.5", firmware="7.8.4")


@functools.cache
def release(version: str = "1.0.4", build: int = 1) -> BuiltPackage:
    """Return the package of the source under test."""
    return build_package(release_tree(), version=version, build=build, requires=REQUIRES, key=KEY)


def trust(keys: Path, scratch: Path) -> str:
    """Let an appliance trust the tests' release key; return its fingerprint."""
    public = scratch / "release.pem"
    public.write_bytes(
        KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    return trust_release_key(keys, public)
