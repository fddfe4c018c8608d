"""Installing: whole or not at all, newer only, plain files only."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from conclave import faults
from conclave.errors import BadInput, ConclaveError, CredentialRefused, NotFound
from conclave.packages.builder import build_package, make_release_key, read_signing_key
from conclave.packages.container import read_signed, sealed_chunks, signed_head
from conclave.packages.manifest import Requirements
from conclave.packages.shelf import Shelf
from tests.packages.test_packages_container import KEY, REQUIRES, TRUSTED, built

NOW = "2026-01-01T00:00:00Z"
PRESENT = Requirements(appliance="7.8.5", firmware="7.8.4")


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    keys = tmp_path / "keys"
    keys.mkdir()
    (keys / "release.pem").write_bytes(
        TRUSTED[0].public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    return Shelf(tmp_path / "packages", keys, PRESENT)


def install(shelf: Shelf, tree: Path, version: str, build: int) -> str:
    package = build_package(tree, version=version, build=build, requires=REQUIRES, key=KEY)
    code = package.authorization_code.encode()
    return shelf.install(io.BytesIO(package.content), code, NOW).directory


def test_a_package_is_installed_listed_and_removed(shelf: Shelf, tmp_path: Path) -> None:
    package = built(tmp_path / "tree")
    code = package.authorization_code.encode()
    assert shelf.verify(io.BytesIO(package.content), code).manifest == package.manifest
    assert shelf.installed() == ()
    installed = shelf.install(io.BytesIO(package.content), code, NOW)
    assert shelf.installed() == (installed,)
    assert (shelf.path(installed) / "conclave" / "one.py").read_text() == "ONE = 1\n"
    assert (shelf.path(installed) / "conclave/deep/two.bin").stat().st_mode & 0o777 == 0o600
    shelf.remove("lnh_cluster")
    assert shelf.installed() == ()
    assert not shelf.path(installed).exists()
    with pytest.raises(NotFound, match="there are: none"):
        shelf.remove("lnh_cluster")


def test_only_newer_ones_replace_and_the_old_files_stay_until_the_sweep(
    shelf: Shelf, tmp_path: Path
) -> None:
    built(tmp_path / "tree")
    first = install(shelf, tmp_path / "tree", "1.0.4", 17)
    for version, build, fault in [
        ("1.0.4", 17, faults.PACKAGE_INSTALLED),
        ("1.0.4", 16, faults.PACKAGE_OLDER),
        ("1.0.3", 99, faults.PACKAGE_OLDER),
    ]:
        with pytest.raises(ConclaveError) as refusal:
            install(shelf, tmp_path / "tree", version, build)
        assert refusal.value.fault is fault
    second = install(shelf, tmp_path / "tree", "1.0.10", 1)
    assert [package.directory for package in shelf.installed()] == [second]
    assert (tmp_path / "packages" / first).is_dir()
    shelf.sweep()
    assert not (tmp_path / "packages" / first).exists()


def test_a_removal_opens_no_way_back_to_an_older_version(shelf: Shelf, tmp_path: Path) -> None:
    built(tmp_path / "tree")
    newest = install(shelf, tmp_path / "tree", "1.0.10", 1)
    shelf.remove("lnh_cluster")
    with pytest.raises(ConclaveError, match="which was installed before") as refusal:
        install(shelf, tmp_path / "tree", "1.0.9", 9)
    assert refusal.value.fault is faults.PACKAGE_OLDER
    assert install(shelf, tmp_path / "tree", "1.0.10", 1) == newest


def test_a_failed_installation_leaves_nothing(shelf: Shelf, tmp_path: Path) -> None:
    package = built(tmp_path / "tree")
    with pytest.raises(CredentialRefused):
        shelf.install(io.BytesIO(package.content), b"0123456789abcdef", NOW)
    assert shelf.installed() == ()
    assert not (tmp_path / "packages").exists()


def test_what_a_crash_left_is_removed_by_the_next_installation(
    shelf: Shelf, tmp_path: Path
) -> None:
    built(tmp_path / "tree")
    left = tmp_path / "packages" / "lnh_cluster-1.0.4-17.new"
    left.mkdir(parents=True)
    (left / "half").write_text("x")
    directory = install(shelf, tmp_path / "tree", "1.0.4", 17)
    assert {path.name for path in (tmp_path / "packages").iterdir()} == {
        directory,
        "installed.json",
    }


def test_an_older_appliance_is_named(shelf: Shelf, tmp_path: Path) -> None:
    built(tmp_path / "tree")
    package = build_package(
        tmp_path / "tree",
        version="1.0.4",
        build=1,
        requires=Requirements(appliance="7.9", firmware="7.8.4"),
        key=KEY,
    )
    with pytest.raises(ConclaveError, match=r"requires appliance 7\.9 or newer.*has 7\.8\.5"):
        shelf.verify(io.BytesIO(package.content), package.authorization_code.encode())


def entry(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type = kind
    made.linkname = link
    return made


@pytest.mark.parametrize(
    "bad",
    [
        entry("/etc/passwd"),
        entry("../out"),
        entry("a/../../out"),
        entry("a\nb"),
        entry(".hidden"),
        entry("link", tarfile.SYMTYPE, "/etc"),
        entry("hard", tarfile.LNKTYPE, "conclave/one.py"),
        entry("device", tarfile.CHRTYPE),
        entry("fifo", tarfile.FIFOTYPE),
        entry("directory", tarfile.DIRTYPE),
        entry("/".join("abcdefghijklmnopq")),
    ],
    ids=lambda bad: repr(bad.name),
)
def test_nothing_but_plain_files_below_the_directory_is_unpacked(
    bad: tarfile.TarInfo, shelf: Shelf, tmp_path: Path
) -> None:
    content, code = signed_archive(tmp_path, [bad])
    with pytest.raises(BadInput) as refusal:
        shelf.install(io.BytesIO(content), code, NOW)
    assert refusal.value.fault is faults.PACKAGE_DAMAGED
    assert list((tmp_path / "packages").iterdir()) == []
    assert not (tmp_path / "out").exists()


def test_more_files_than_counted_are_refused(shelf: Shelf, tmp_path: Path) -> None:
    content, code = signed_archive(tmp_path, [entry("one"), entry("two")])
    with pytest.raises(BadInput, match="more than the 1 files"):
        shelf.install(io.BytesIO(content), code, NOW)


def signed_archive(tmp_path: Path, entries: list[tarfile.TarInfo]) -> tuple[bytes, bytes]:
    """A package signed by the trusted key around any archive, whose manifest counts one file."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as writing:
        for each in entries:
            writing.addfile(each)
    package = built(tmp_path / "tree")
    signed = read_signed(io.BytesIO(package.content), TRUSTED)
    code, salt = package.authorization_code.encode(), bytes.fromhex(signed.manifest.payload_salt)
    payload = b"".join(sealed_chunks([gzip.compress(archive.getvalue())], code, salt))
    manifest = msgspec.structs.replace(
        signed.manifest,
        file_count=1,
        payload_bytes=len(payload),
        payload_sha256=hashlib.sha256(payload).hexdigest(),
    )
    return signed_head(msgspec.json.encode(manifest), KEY) + payload, code


def test_keys_are_made_once_and_read_back(tmp_path: Path) -> None:
    private, public = tmp_path / "release.key", tmp_path / "release.pem"
    make_release_key(private, public)
    assert private.stat().st_mode & 0o777 == 0o600
    with pytest.raises(BadInput, match="not replaced"):
        make_release_key(private, tmp_path / "other.pem")
    assert (
        read_signing_key(private)
        .public_key()
        .public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        == public.read_bytes()
    )
    public.write_text("nonsense")
    with pytest.raises(BadInput, match="no unencrypted private key"):
        read_signing_key(public)


def test_the_list_is_of_the_owner_only(shelf: Shelf, tmp_path: Path) -> None:
    built(tmp_path / "tree")
    install(shelf, tmp_path / "tree", "1.0.4", 17)
    listed = tmp_path / "packages" / "installed.json"
    assert listed.stat().st_mode & 0o777 == 0o600
