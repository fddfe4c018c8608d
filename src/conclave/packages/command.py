"""`conclave package`: make release keys and packages, and look into one."""

from __future__ import annotations

from pathlib import Path

import click

from conclave import versions
from conclave.appliance.tls import write_private
from conclave.packages.builder import (
    build_package,
    make_release_key,
    read_signing_key,
    release_tree,
)
from conclave.packages.container import check_payload, read_signed
from conclave.packages.manifest import Requirements
from conclave.packages.shelf import read_release_key

_FILE = click.Path(dir_okay=False, path_type=Path)
_DIRECTORY = click.Path(exists=True, file_okay=False, path_type=Path)
_EXISTING = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.group()
def package() -> None:
    """Make and inspect secure packages (.spkg)."""


@package.command("keygen")
@click.option("--private", type=_FILE, required=True, help="Where the private key goes, mode 0600.")
@click.option("--public", type=_FILE, required=True, help="Where the public key goes.")
def keygen(private: Path, public: Path) -> None:
    """Make a key pair that signs releases."""
    make_release_key(private, public)
    click.echo(
        f"Made {private} and {public}. Keep the first off every appliance; an appliance trusts the"
        " second after: conclave appliance trust --state DIRECTORY " + str(public)
    )


@package.command("build")
@click.option("--key", type=_EXISTING, required=True, help="The private release key.")
@click.option(
    "--output", type=click.Path(exists=True, file_okay=False, path_type=Path), default="."
)
@click.option("--version", default=versions.MINIMUM.package, show_default=True)
@click.option("--build", "build_number", type=click.IntRange(1, 999_999), default=versions.BUILD)
def build(key: Path, output: Path, version: str, build_number: int) -> None:
    """Make the cluster's package of the release that is installed here."""
    built = build_package(
        release_tree(),
        version=version,
        build=build_number,
        requires=Requirements(
            appliance=versions.MINIMUM.appliance, firmware=versions.MINIMUM.firmware
        ),
        key=read_signing_key(key),
    )
    target = output / built.manifest.file_name
    code_file = target.with_suffix(".auth")
    target.write_bytes(built.content)
    write_private(code_file, built.authorization_code.encode() + b"\n")
    click.echo(f"Made {target}; its authorization code is in {code_file}.")


@package.command("inspect")
@click.argument("file", type=_EXISTING)
@click.option("--trust", type=_EXISTING, multiple=True, required=True, help="A public release key.")
def inspect(file: Path, trust: tuple[Path, ...]) -> None:
    """Check a package's signature and payload, and print what it says of itself."""
    with file.open("rb") as stream:
        signed = read_signed(stream, [read_release_key(path) for path in trust])
        check_payload(stream, signed)
    manifest = signed.manifest
    requires = f"appliance {manifest.requires.appliance}, firmware {manifest.requires.firmware}"
    for label, value in (
        ("Package", manifest.identity),
        ("Release", f"conclave {manifest.release}"),
        ("Architecture", manifest.architecture),
        ("Requires", requires),
        ("Files", f"{manifest.file_count}, {manifest.unpacked_bytes} bytes"),
        ("Signed by", signed.signer),
    ):
        click.echo(f"{label + ':':14}{value}")
