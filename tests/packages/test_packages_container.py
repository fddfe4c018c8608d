"""The package file: only what a trusted key signed is read, only the right code opens it."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from conclave import faults
from conclave.errors import BadInput, ConclaveError, CredentialRefused, NotAllowed
from conclave.packages.builder import BuiltPackage, build_package
from conclave.packages.container import (
    CHUNK_BYTES,
    MAGIC,
    PayloadReader,
    check_code,
    check_payload,
    read_signed,
    sealed_chunks,
    signed_head,
)
from conclave.packages.manifest import (
    Requirements,
    check_authorization_code,
    check_file_name,
    parse_manifest,
    version_order,
)

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
TRUSTED = [KEY.public_key()]
REQUIRES = Requirements(appliance="7.8.5", firmware="7.8.4")


def built(tree: Path, **changes: str) -> BuiltPackage:
    tree.mkdir(exist_ok=True)
    (tree / "one.py").write_text("ONE = 1\n")
    (tree / "deep").mkdir(exist_ok=True)
    (tree / "deep" / "two.bin").write_bytes(bytes(range(256)) * 1000)
    return build_package(tree, version="1.0.4", build=17, requires=REQUIRES, key=KEY, **changes)


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> BuiltPackage:
    return built(tmp_path_factory.mktemp("tree"))


def read_all(content: bytes, code: str) -> bytes:
    stream = io.BytesIO(content)
    signed = read_signed(stream, TRUSTED)
    check_payload(stream, signed)
    stream.seek(signed.payload_offset)
    reader = PayloadReader(stream, signed, code.encode())
    opened = io.BufferedReader(reader).read()
    reader.finish()
    return opened


def test_what_was_packed_comes_out(package: BuiltPackage) -> None:
    assert read_all(package.content, package.authorization_code)[:2] == b"\x1f\x8b"


def test_no_byte_can_be_changed(package: BuiltPackage) -> None:
    content = package.content
    for position in [*range(0, 900, 7), len(content) // 2, len(content) - 1]:
        changed = bytearray(content)
        changed[position] ^= 1
        with pytest.raises((BadInput, NotAllowed)):
            read_all(bytes(changed), package.authorization_code)


def test_a_package_cut_off_anywhere_is_refused(package: BuiltPackage) -> None:
    content = package.content
    for length in [*range(0, 1000, 13), len(content) - 1]:
        with pytest.raises((BadInput, NotAllowed)):
            read_all(content[:length], package.authorization_code)


def test_nothing_may_follow_the_end(package: BuiltPackage) -> None:
    with pytest.raises(BadInput, match="follows the end"):
        read_all(package.content + b"\0", package.authorization_code)


def test_a_key_that_is_not_trusted_is_named_as_such(package: BuiltPackage) -> None:
    other = Ed25519PrivateKey.from_private_bytes(bytes(32)).public_key()
    with pytest.raises(NotAllowed) as refusal:
        read_signed(io.BytesIO(package.content), [other])
    assert refusal.value.fault is faults.PACKAGE_SIGNATURE


def test_another_code_is_refused_and_not_shown(package: BuiltPackage) -> None:
    stream = io.BytesIO(package.content)
    signed = read_signed(stream, TRUSTED)
    with pytest.raises(CredentialRefused) as refusal:
        check_code(stream, signed, b"0123456789abcdef")
    assert refusal.value.fault is faults.PACKAGE_CODE
    assert "0123456789abcdef" not in refusal.value.message


def test_a_payload_changed_after_its_check_is_noticed(package: BuiltPackage) -> None:
    stream = io.BytesIO(package.content)
    signed = read_signed(stream, TRUSTED)
    check_payload(stream, signed)
    code = package.authorization_code.encode()
    salt = bytes.fromhex(signed.manifest.payload_salt)
    # Whoever knows the code can seal other files under it; the signature still fixes which.
    forged = b"".join(sealed_chunks([bytes(signed.manifest.payload_bytes - 16)], code, salt))
    stream = io.BytesIO(package.content[: signed.payload_offset] + forged)
    stream.seek(signed.payload_offset)
    reader = PayloadReader(stream, signed, code)
    with pytest.raises(BadInput, match="changed while it was read"):
        reader.finish()


@pytest.mark.parametrize("length", [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 200_000])
def test_chunks_of_any_length_are_marked_with_their_end(length: int) -> None:
    sealed = list(
        sealed_chunks([b"x" * 1000] * (length // 1000) + [b"y" * (length % 1000)], b"c", b"s")
    )
    assert sum(len(chunk) - 16 for chunk in sealed) == length
    assert all(len(chunk) == CHUNK_BYTES + 16 for chunk in sealed[:-1])


def test_a_newer_format_is_named(package: BuiltPackage) -> None:
    manifest = json.dumps({"format": 2, "new": True}).encode()
    with pytest.raises(BadInput, match="format 2"):
        read_signed(io.BytesIO(signed_head(manifest, KEY)), TRUSTED)


def test_a_huge_manifest_is_refused_before_it_is_read() -> None:
    with pytest.raises(BadInput, match="65536 are allowed"):
        read_signed(io.BytesIO(MAGIC + b"\xff\xff\xff\xff"), TRUSTED)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300))
def test_any_manifest_is_read_or_refused(encoded: bytes) -> None:
    try:
        parse_manifest(encoded)
    except ConclaveError as refusal:
        assert refusal.fault is faults.PACKAGE_DAMAGED


@pytest.mark.parametrize(
    "code", ["", "0123456789abcde", "0123456789abcdefg", "0123456789abcde-", "0123456789abcd\n0"]
)
def test_a_code_of_another_shape_is_refused(code: str) -> None:
    with pytest.raises(BadInput, match="16 characters"):
        check_authorization_code(code)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "a.txt",
        ".spkg",
        "../a.spkg",
        "a/b.spkg",
        "-a.spkg",
        "a" * 60 + ".spkg",
        "a\n.spkg",
        "ä.spkg",
    ],
)
def test_a_file_of_another_name_is_refused(name: str) -> None:
    with pytest.raises(BadInput, match=r"\.spkg"):
        check_file_name(name)


def test_versions_are_compared_as_numbers() -> None:
    ordered: list[Callable[[], str] | str] = ["1.0", "1.0.3", "1.0.4", "1.0.10", "1.1", "10.0"]
    orders = [version_order(str(version)) for version in ordered]
    assert orders == sorted(orders)
    assert version_order("1.0") == version_order("1.0.0")
