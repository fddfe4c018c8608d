"""Secure packages: list, verify, install, remove."""

from __future__ import annotations

from typing import Annotated, BinaryIO

from msgspec import Meta

from conclave import faults
from conclave.appliance.packages import listed_name
from conclave.errors import BadInput
from conclave.operations.commands import Command, Option
from conclave.operations.fields import SECRET
from conclave.operations.login_state import require_so
from conclave.operations.model import (
    ADMINS,
    DONE,
    READERS,
    Arguments,
    Call,
    Duration,
    NoArguments,
    Reply,
    Result,
    operation,
)
from conclave.operations.reveals import Reveals
from conclave.packages.manifest import Manifest, check_file_name
from conclave.packages.shelf import InstalledPackage

PACKAGES = "/api/lunasa/packages"
VERIFY_ONLY = "VerifyOnly"
_REFUSALS = (
    faults.PACKAGE_DAMAGED,
    faults.PACKAGE_SIGNATURE,
    faults.PACKAGE_CODE,
    faults.PACKAGE_INSTALLED,
    faults.PACKAGE_OLDER,
    faults.PACKAGE_REQUIREMENT,
    faults.PACKAGE_NOT_FOUND,
    faults.PACKAGE_STORAGE,
)
AuthorizationCode = Annotated[
    str,
    Meta(
        min_length=16,
        max_length=16,
        pattern=r"^[A-Za-z0-9/]*$",
        description="16 characters of A-Z, a-z, 0-9 and /",
        extra=SECRET,
    ),
]


class PackageView(Result, frozen=True):
    """One installed package; `id` is its name in lists, `release` Conclave's own version."""

    id: str
    name: str
    version: str
    build: int
    architecture: str
    release: str
    signed_by: str
    installed_at: str


class PackageList(Result, frozen=True):
    """All installed packages."""

    packages: list[PackageView]


class PackageCheck(Result, frozen=True):
    """A package file that may be installed, or now is."""

    name: str
    version: str
    build: int
    release: str
    installed: bool


class UsePackage(Arguments, frozen=True):
    """A package among the caller's files, and the code that opens it.

    Either of `useDes3` and `useEvp` is accepted as older callers send them; with `useEvp` the HSM
    SO need not be logged in.
    """

    auth_code: AuthorizationCode
    file_name: Annotated[str, Meta(min_length=1, max_length=64)]
    use_des3: bool = False
    use_evp: bool = False


def check_so_or_evp(call: Call, arguments: UsePackage) -> None:
    """The HSM SO must be logged in unless useEvp is true; useDes3 and useEvp exclude each other."""
    if arguments.use_des3 and arguments.use_evp:
        message = "useDes3 and useEvp exclude each other; both are true."
        raise BadInput(faults.BAD_REQUEST, message)
    if not arguments.use_evp and VERIFY_ONLY not in call.flags:
        require_so(call.session, call.appliance.hsm)


def _view(package: InstalledPackage) -> PackageView:
    return PackageView(
        id=listed_name(package),
        name=package.name,
        version=package.version,
        build=package.build,
        architecture=package.architecture,
        release=package.release,
        signed_by=package.signer,
        installed_at=package.installed_at,
    )


def _check_view(package: Manifest | InstalledPackage, *, installed: bool) -> PackageCheck:
    return PackageCheck(
        name=package.name,
        version=package.version,
        build=package.build,
        release=package.release,
        installed=installed,
    )


@operation(
    "package.list",
    "GET",
    PACKAGES,
    summary="List the installed packages.",
    chapter="7",
    arguments=NoArguments,
    roles=READERS,
    reveals=Reveals.NOTHING,
    statuses=(200,),
    result=PackageList,
    paged=True,
)
async def list_packages(call: Call, _arguments: NoArguments) -> Reply:
    """List the installed packages."""
    installed = await call.appliance.packages.installed()
    return Reply(body=PackageList(packages=[_view(package) for package in installed]))


@operation(
    "package.use",
    "POST",
    "/api/lunasa/packageFiles",
    summary="Verify a package among the caller's files, or verify and install it.",
    chapter="2, 7",
    arguments=UsePackage,
    roles=ADMINS,
    statuses=(202,),
    result=PackageCheck,
    checks=(check_so_or_evp,),
    flags=(VERIFY_ONLY,),
    duration=Duration.TASK,
    faults=(*_REFUSALS, faults.FILE_NOT_FOUND, faults.SO_NOT_LOGGED_IN),
)
async def use_package(call: Call, arguments: UsePackage) -> Reply:
    """Verify a package, or verify and install it."""
    user_id, name = call.by.user.user_id, check_file_name(arguments.file_name)
    packages = call.appliance.packages

    def opened() -> BinaryIO:
        return call.appliance.files.open(user_id, name)

    if VERIFY_ONLY in call.flags:
        checked = await packages.verify(opened, arguments.auth_code)
        return Reply(body=_check_view(checked, installed=False))
    installed = await packages.install(opened, arguments.auth_code)
    return Reply(body=_check_view(installed, installed=True))


@operation(
    "package.remove",
    "DELETE",
    f"{PACKAGES}/{{packagename}}",
    summary="Remove a package; its service must be stopped. V0 partitions are open again then.",
    arguments=NoArguments,
    roles=ADMINS,
    faults=(faults.PACKAGE_NOT_FOUND, faults.PACKAGE_IN_USE, faults.PACKAGE_STORAGE),
    commands=(
        Command(
            words="package remove",
            summary="Remove a package; V0 partitions that it closed are open again then.",
            options=(
                Option(
                    name="package",
                    summary="name of the package, such as lnh_cluster",
                    value="name",
                    target="path:packagename",
                    required=True,
                    positional=True,
                ),
            ),
            proceed="Type 'proceed' to remove the package, or 'quit' to quit now.",
        ),
    ),
)
async def remove_package(call: Call, _arguments: NoArguments) -> Reply:
    """Remove a package."""
    cluster = call.appliance.cluster
    await call.appliance.packages.remove(
        call.path["packagename"], running=lambda: cluster.status().state != "stopped"
    )
    return DONE
