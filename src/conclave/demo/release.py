"""The release that a demonstration installs: this source, signed by a key of its own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from conclave import versions
from conclave.demo.rest import RestClient
from conclave.packages.builder import (
    build_package,
    make_release_key,
    read_signing_key,
    release_tree,
)
from conclave.packages.manifest import Requirements
from conclave.packages.shelf import trust_release_key

PACKAGE_FILES: Final = "/api/lunasa/packageFiles"


@dataclass(frozen=True, slots=True, repr=False)
class Release:
    """A secure package with its authorization code, and the key that vouches for it."""

    name: str
    content: bytes
    authorization_code: str
    public_key: Path


def make_release(directory: Path) -> Release:
    """Make a release key and a package of the source that runs now."""
    directory.mkdir(mode=0o700)
    private, public = directory / "release.key", directory / "release.pem"
    make_release_key(private, public)
    built = build_package(
        release_tree(),
        version=versions.MINIMUM.package,
        build=versions.BUILD,
        requires=Requirements(
            appliance=versions.MINIMUM.appliance, firmware=versions.MINIMUM.firmware
        ),
        key=read_signing_key(private),
    )
    return Release(built.manifest.file_name, built.content, built.authorization_code, public)


def trust(release: Release, keys: Path) -> None:
    """Let an appliance install what the release key has signed, as an administrator would."""
    trust_release_key(keys, release.public_key)


def install(rest: RestClient, user: str, release: Release) -> None:
    """Upload the package and install it; the HSM SO must be logged in to the session."""
    rest.upload(f"/users/{user}/files", release.name, release.content)
    body = {"fileName": release.name, "authCode": release.authorization_code}
    rest.call("POST", f"{PACKAGE_FILES}?VerifyOnly=true", body)
    rest.call("POST", f"{PACKAGE_FILES}?VerifyOnly=false", body)
