"""Make a secure package of a release, and the keys that sign it."""

from __future__ import annotations

import hashlib
import os
import secrets
import string
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

import conclave
from conclave import faults
from conclave.appliance.tls import write_private
from conclave.errors import BadInput
from conclave.packages.container import SALT_BYTES, sealed_chunks, signed_head
from conclave.packages.files import pack
from conclave.packages.manifest import (
    AUTHORIZATION_CODE_CHARACTERS,
    CLUSTER_PACKAGE,
    FORMAT,
    Manifest,
    Requirements,
)

ARCHITECTURE: Final = "x86_64"
SOURCE_NAME: Final = "conclave"
_CODE_ALPHABET: Final = string.ascii_letters + string.digits + "/"


@dataclass(frozen=True, slots=True, repr=False)
class BuiltPackage:
    """A package file's content and the code that opens it."""

    manifest: Manifest
    content: bytes
    authorization_code: str


def new_authorization_code() -> str:
    """Return 16 random characters."""
    return "".join(secrets.choice(_CODE_ALPHABET) for _ in range(AUTHORIZATION_CODE_CHARACTERS))


def build_package(
    tree: Path,
    *,
    version: str,
    build: int,
    requires: Requirements,
    key: Ed25519PrivateKey,
    name: str = CLUSTER_PACKAGE,
    code: str = "",
) -> BuiltPackage:
    """Pack a source tree (the directory of the package `conclave`), seal and sign it."""
    code = code or new_authorization_code()
    packed = pack(tree, SOURCE_NAME)
    salt = os.urandom(SALT_BYTES)
    payload = b"".join(sealed_chunks([packed.archive], code.encode(), salt))
    manifest = Manifest(
        format=FORMAT,
        name=name,
        version=version,
        build=build,
        architecture=ARCHITECTURE,
        release=conclave.__version__,
        requires=requires,
        file_count=packed.file_count,
        unpacked_bytes=packed.unpacked_bytes,
        payload_bytes=len(payload),
        payload_sha256=hashlib.sha256(payload).hexdigest(),
        payload_salt=salt.hex(),
    )
    head = signed_head(msgspec.json.encode(manifest), key)
    return BuiltPackage(manifest, head + payload, code)


def release_tree() -> Path:
    """Return the directory of the source that runs now."""
    return Path(conclave.__file__).parent


def make_release_key(private: Path, public: Path) -> None:
    """Write a new key pair: the private key of mode 0600; refuse to replace a file."""
    for path in (private, public):
        if path.exists():
            raise BadInput(faults.BAD_REQUEST, f"{path} exists; keys are not replaced.")
    key = Ed25519PrivateKey.generate()
    write_private(private, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public.write_bytes(
        key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )


def read_signing_key(path: Path) -> Ed25519PrivateKey:
    """Read the private key; raise BadInput that names the file and nothing of its content."""
    try:
        key = load_pem_private_key(path.read_bytes(), None)
    except (ValueError, TypeError):
        message = f"{path} is no unencrypted private key in PEM."
        raise BadInput(faults.BAD_REQUEST, message) from None
    if not isinstance(key, Ed25519PrivateKey):
        message = f"{path} must hold an Ed25519 key; it holds {type(key).__name__}."
        raise BadInput(faults.BAD_REQUEST, message)
    return key
