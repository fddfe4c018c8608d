"""The packages that are installed on an appliance, each in a directory of its own.

Invariant: `installed.json` names exactly one directory for each package, and that directory is
whole: it was unpacked beside its place, compared with the manifest, made durable and renamed before
the list named it.  A crash at any point leaves the former list and at worst a directory that nobody
names, which the next installation removes.
"""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from conclave import faults
from conclave.appliance.tls import write_private
from conclave.errors import BadInput, Conflict, InternalFault, NotFound, Unavailable
from conclave.packages.container import (
    CHUNK_BYTES,
    PayloadReader,
    SignedPackage,
    check_code,
    check_payload,
    fingerprint,
    read_signed,
)
from conclave.packages.files import unpack
from conclave.packages.manifest import Manifest, Requirements, version_order

if TYPE_CHECKING:
    from collections.abc import Iterator

_LIST: Final = "installed.json"
_NEW_SUFFIX: Final = ".new"
_KEY_MAX_BYTES: Final = 4096


class InstalledPackage(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One package as it is installed; `installed_at` is in appliance time, ISO 8601."""

    name: str
    version: str
    build: int
    architecture: str
    release: str
    signer: str
    installed_at: str

    @property
    def directory(self) -> str:
        """Return the directory below the shelf."""
        return f"{self.name}-{self.version}-{self.build}"


class _List(msgspec.Struct, frozen=True):
    packages: list[InstalledPackage] = []
    highest: dict[str, InstalledPackage] = {}
    """The newest of each name that was ever here: a removal opens no way back to an older one."""


@dataclass(frozen=True, slots=True)
class Checked:
    """A package file that passed every check but the comparison with what is installed."""

    package: SignedPackage

    @property
    def manifest(self) -> Manifest:
        """Return its manifest."""
        return self.package.manifest


class Shelf:
    """The installed packages below one directory; its calls read and write files."""

    def __init__(self, directory: Path, keys: Path, present: Requirements) -> None:
        self._directory = directory
        self._keys = keys
        self._present = present

    def installed(self) -> tuple[InstalledPackage, ...]:
        """Return what is installed, by name."""
        return tuple(sorted(self._listed().packages, key=lambda package: package.name))

    def _listed(self) -> _List:
        try:
            encoded = (self._directory / _LIST).read_bytes()
        except FileNotFoundError:
            return _List()
        try:
            return msgspec.json.decode(encoded, type=_List)
        except msgspec.DecodeError as cause:
            message = f"The list of installed packages makes no sense: {cause}."
            raise InternalFault(faults.PACKAGE_STORAGE, message) from cause

    def find(self, name: str) -> InstalledPackage | None:
        """Return the installed package of that name."""
        return next((package for package in self.installed() if package.name == name), None)

    def path(self, package: InstalledPackage) -> Path:
        """Return the directory that holds the package's files."""
        return self._directory / package.directory

    def verify(self, stream: BinaryIO, code: bytes) -> Checked:
        """Check signature, payload, code and requirements; change nothing."""
        package = read_signed(stream, self.trusted_keys())
        check_payload(stream, package)
        check_code(stream, package, code)
        self._check_requirements(package.manifest)
        return Checked(package)

    def install(self, stream: BinaryIO, code: bytes, now: str) -> InstalledPackage:
        """Verify and install; an older version leaves the list, its files stay until `sweep`."""
        checked = self.verify(stream, code)
        manifest = checked.manifest
        _check_newer(manifest, self.find(manifest.name), self._listed().highest.get(manifest.name))
        package = InstalledPackage(
            name=manifest.name,
            version=manifest.version,
            build=manifest.build,
            architecture=manifest.architecture,
            release=manifest.release,
            signer=checked.package.signer,
            installed_at=now,
        )
        with _storing():
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._remove_unfinished()
            self._unpack(stream, checked.package, code, package)
            self._save([*(old for old in self.installed() if old.name != package.name), package])
        return package

    def remove(self, name: str) -> InstalledPackage:
        """Take a package off the list, then remove its files."""
        package = self.find(name)
        if package is None:
            known = ", ".join(found.name for found in self.installed()) or "none"
            message = f"No package {name[:40]!r} is installed; there are: {known}."
            raise NotFound(faults.PACKAGE_NOT_FOUND, message)
        with _storing():
            self._save([found for found in self.installed() if found.name != name])
            shutil.rmtree(self.path(package))
        return package

    def sweep(self) -> None:
        """Remove what no list names; nothing may run from it any more."""
        named = {package.directory for package in self.installed()}
        with _storing():
            for path in self._directories():
                if path.name not in named:
                    shutil.rmtree(path)

    def trusted_keys(self) -> Sequence[Ed25519PublicKey]:
        """Return the release keys that this appliance trusts."""
        return [read_release_key(path) for path in sorted(self._keys.glob("*.pem"))]

    def _check_requirements(self, manifest: Manifest) -> None:
        for what in ("appliance", "firmware"):
            wanted, present = getattr(manifest.requires, what), getattr(self._present, what)
            if version_order(present) < version_order(wanted):
                message = (
                    f"{manifest.identity} requires {what} {wanted} or newer; this appliance has"
                    f" {present}."
                )
                raise Conflict(faults.PACKAGE_REQUIREMENT, message)

    def _unpack(
        self, stream: BinaryIO, package: SignedPackage, code: bytes, installed: InstalledPackage
    ) -> None:
        fresh = self._directory / f"{installed.directory}{_NEW_SUFFIX}"
        fresh.mkdir(mode=0o700)
        try:
            stream.seek(package.payload_offset)
            payload = PayloadReader(stream, package, code)
            unpack(io.BufferedReader(payload, CHUNK_BYTES), package.manifest, fresh)
            payload.finish()
        except BaseException:
            shutil.rmtree(fresh, ignore_errors=True)
            raise
        final = self._directory / installed.directory
        if final.exists():
            # Removed from the list before, and of another content perhaps.
            shutil.rmtree(final)
        fresh.rename(final)
        _sync_directory(self._directory)

    def _remove_unfinished(self) -> None:
        for path in self._directories():
            if path.name.endswith(_NEW_SUFFIX):
                shutil.rmtree(path)

    def _directories(self) -> list[Path]:
        try:
            return [path for path in self._directory.iterdir() if path.is_dir()]
        except FileNotFoundError:
            return []

    def _save(self, packages: list[InstalledPackage]) -> None:
        highest = dict(self._listed().highest)
        for package in packages:
            known = highest.get(package.name)
            if known is None or _order(known) < _order(package):
                highest[package.name] = package
        write_private(self._directory / _LIST, msgspec.json.encode(_List(packages, highest)))
        _sync_directory(self._directory)


def read_release_key(path: Path) -> Ed25519PublicKey:
    """Read an Ed25519 public key in PEM; raise BadInput that names the file."""
    with path.open("rb") as stream:
        encoded = stream.read(_KEY_MAX_BYTES)
    try:
        key = load_pem_public_key(encoded)
    except ValueError as cause:
        raise BadInput(faults.BAD_REQUEST, f"{path} is no public key in PEM: {cause}.") from None
    if not isinstance(key, Ed25519PublicKey):
        message = f"{path} must hold an Ed25519 public key; it holds {type(key).__name__}."
        raise BadInput(faults.BAD_REQUEST, message)
    return key


def trust_release_key(directory: Path, path: Path) -> str:
    """Keep a public release key among those that are trusted; return its fingerprint."""
    key = read_release_key(path)
    name = fingerprint(key)
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    encoded = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    write_private(directory / f"{name}.pem", encoded)
    return name


def _check_newer(
    manifest: Manifest, installed: InstalledPackage | None, highest: InstalledPackage | None
) -> None:
    offered = (version_order(manifest.version), manifest.build)
    if installed is not None and offered == _order(installed):
        message = f"{manifest.identity} is installed already."
        raise Conflict(faults.PACKAGE_INSTALLED, message)
    for known, state in ((installed, "is installed"), (highest, "was installed before")):
        if known is not None and offered < _order(known):
            message = f"{manifest.identity} is older than {known.directory}, which {state}."
            raise Conflict(faults.PACKAGE_OLDER, message)


def _order(package: InstalledPackage) -> tuple[tuple[int, ...], int]:
    return version_order(package.version), package.build


@contextmanager
def _storing() -> Iterator[None]:
    try:
        yield
    except OSError as cause:
        message = f"The package cannot be stored: {cause.strerror or cause}."
        raise Unavailable(faults.PACKAGE_STORAGE, message) from cause


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
