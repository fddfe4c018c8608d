"""What a secure package says of itself, and the rules every word of it must pass.

The manifest is the only part that is read before its signature is checked, so it is small, bounded
and typed; nothing in it is acted upon until the signature holds.
"""

from __future__ import annotations

import re
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from conclave import faults
from conclave.errors import BadInput

FORMAT: Final = 1
PACKAGE_SUFFIX: Final = ".spkg"
CLUSTER_PACKAGE: Final = "lnh_cluster"
MANIFEST_MAX_BYTES: Final = 65_536
UNPACKED_MAX_BYTES: Final = 512 * 2**20
FILES_MAX: Final = 20_000
AUTHORIZATION_CODE_CHARACTERS: Final = 16

_AUTHORIZATION_CODE: Final = re.compile(r"[A-Za-z0-9/]{16}")
_FILE_NAME: Final = re.compile(r"[A-Za-z0-9_. -]{1,64}")

PackageName = Annotated[str, Meta(min_length=1, max_length=32, pattern=r"^[a-z][a-z0-9_]*$")]
Version = Annotated[str, Meta(max_length=32, pattern=r"^[0-9]{1,6}(\.[0-9]{1,6}){1,3}$")]
Architecture = Annotated[str, Meta(max_length=16, pattern=r"^[a-z0-9_]+$")]
Sha256 = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$")]


class Requirements(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """Least versions of what is on the appliance already."""

    appliance: Version
    firmware: Version


class Manifest(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, rename="camel"
):
    """The signed head of a package; `payload_*` fix the sealed files that follow it."""

    format: Annotated[int, Meta(ge=1, le=65_535)]
    name: PackageName
    version: Version
    build: Annotated[int, Meta(ge=1, le=999_999)]
    architecture: Architecture
    release: Annotated[str, Meta(min_length=1, max_length=64)]
    """Conclave's own version inside."""
    requires: Requirements
    file_count: Annotated[int, Meta(ge=1, le=FILES_MAX)]
    unpacked_bytes: Annotated[int, Meta(ge=1, le=UNPACKED_MAX_BYTES)]
    payload_bytes: Annotated[int, Meta(ge=1, le=UNPACKED_MAX_BYTES)]
    payload_sha256: Sha256
    payload_salt: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$")]

    @property
    def identity(self) -> str:
        """Return name, version and build, such as `lnh_cluster-1.0.4-17`."""
        return f"{self.name}-{self.version}-{self.build}"

    @property
    def file_name(self) -> str:
        """Return the name that a package file of this content bears."""
        return f"{self.identity}{PACKAGE_SUFFIX}"


def parse_manifest(encoded: bytes) -> Manifest:
    """Return the manifest; raise BadInput that names field and rule, or the newer format."""
    try:
        head = msgspec.json.decode(encoded, type=_Head)
        if head.format != FORMAT:
            message = (
                f"The package has format {head.format}; this release reads format {FORMAT}:"
                " update the appliance software first."
            )
            raise BadInput(faults.PACKAGE_DAMAGED, message)
        return msgspec.json.decode(encoded, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError) as cause:
        message = f"The package's manifest makes no sense: {cause}."
        raise BadInput(faults.PACKAGE_DAMAGED, message) from None


def check_authorization_code(code: str) -> bytes:
    """Return the code's bytes; raise BadInput, which does not show it."""
    if not _AUTHORIZATION_CODE.fullmatch(code):
        message = (
            f"authCode must be {AUTHORIZATION_CODE_CHARACTERS} characters of A-Z, a-z, 0-9 and /;"
            f" the one given has {len(code)} characters or others among them."
        )
        raise BadInput(faults.BAD_REQUEST, message)
    return code.encode()


def check_file_name(name: str) -> str:
    """Return the name of a package file; raise BadInput when it breaks the rule."""
    if not _FILE_NAME.fullmatch(name) or not name.endswith(PACKAGE_SUFFIX) or name[0] in ". -":
        message = (
            "The name of a package file must be 1 to 64 characters of A-Z, a-z, 0-9, _, ., space"
            f" and -, begin with none of the last three, and end in {PACKAGE_SUFFIX};"
            f" it is {name[:80]!r}."
        )
        raise BadInput(faults.BAD_REQUEST, message)
    return name


def version_order(version: str) -> tuple[int, ...]:
    """Return what versions are compared by: their numbers, trailing zeros aside."""
    numbers = [int(part) for part in version.split(".")]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


class _Head(msgspec.Struct, frozen=True):
    format: int
