"""The package family."""

from __future__ import annotations

from typing import Final

import conclave
from conclave import faults, versions
from conclave.errors import Conflict
from conclave.lunash.families.calls import answered
from conclave.lunash.render.package import package_list
from conclave.operations.commands import Answers, Command, Kind, Option, Output, ShellCall
from conclave.operations.packages import VERIFY_ONLY, PackageList
from conclave.operations.user_files import FileList
from conclave.packages.manifest import PACKAGE_SUFFIX

_CHECKED: Final = (
    "Command succeeded:  decrypt package",
    "Command succeeded:  verify package certificate",
    "Command succeeded:  verify package signature",
)
_ONE_WAY: Final = (
    "Type 'proceed' to install the package, which replaces an older one, or 'quit' to quit now."
)


async def _list(shell: ShellCall, _answers: Answers) -> Output:
    found = answered(await shell.call("package.list"), PackageList)
    emulated = shell.appliance.config.emulated
    system = [
        f"appliance-{emulated.appliance}-{versions.BUILD}",
        f"conclave-{conclave.__version__}",
        f"firmware-{emulated.firmware}",
    ]
    return Output(lines=package_list(system, found), body=found)


async def _list_files(shell: ShellCall, _answers: Answers) -> Output:
    path = {"userid": shell.caller.user.user_id}
    found = answered(await shell.call("file.list", path=path), FileList)
    files = [each for each in found.files if each.id.endswith(PACKAGE_SUFFIX)]
    lines = [each.id for each in files] or ["There are no package files."]
    return Output(lines=lines, body=FileList(files=files))


def _sent(answers: Answers) -> dict[str, object]:
    return {
        "fileName": answers["file"],
        "authCode": answers["authcode"],
        "useDes3": "des3" in answers,
        "useEvp": "useevp" in answers,
    }


async def _verify(shell: ShellCall, answers: Answers) -> Output:
    await shell.call("package.use", _sent(answers), flags=frozenset({VERIFY_ONLY}))
    return Output(lines=_CHECKED)


async def _update(shell: ShellCall, answers: Answers) -> Output:
    sent = _sent(answers)
    await shell.call("package.use", sent, flags=frozenset({VERIFY_ONLY}), progress=False)
    for line in (*_CHECKED, "Preparing packages for installation..."):
        shell.say(line)
    try:
        reply = await shell.call("package.use", sent)
    except Conflict as refusal:
        if refusal.fault is faults.PACKAGE_INSTALLED:
            shell.say(f"Command failed: RPM update for original filename ({answers['file']})")
        raise
    return Output(
        lines=("SOFTWARE UPDATE COMPLETED!", "", "Update Completed"),
        body=reply.body,
    )


_FILE: Final = Option(
    name="file",
    summary="name of the package file among your files",
    value="filename",
    required=True,
    positional=True,
)
_CODE: Final = Option(
    name="authcode",
    short="a",
    summary="authorization code of the package: 16 characters",
    kind=Kind.SECRET,
    value="code",
    required=True,
    prompt="Enter the authorization code of the package:",
)
_METHODS: Final = (
    Option(name="des3", short="d", summary="accepted for older scripts", kind=Kind.FLAG),
    Option(
        name="useevp",
        short="u",
        summary="do not ask for a login of the HSM SO",
        kind=Kind.FLAG,
    ),
)
COMMANDS: Final = (
    Command(
        words="package list",
        summary="List what is installed.",
        chapter="7",
        run=_list,
        operations=("package.list",),
        json=True,
    ),
    Command(
        words="package listfile",
        summary="List the package files among your files.",
        chapter="2, 7",
        run=_list_files,
        operations=("file.list",),
        json=True,
    ),
    Command(
        words="package verify",
        summary="Check a package file: signature, contents, authorization code, requirements.",
        chapter="2, 7",
        options=(_FILE, _CODE, *_METHODS),
        run=_verify,
        operations=("package.use",),
    ),
    Command(
        words="package update",
        summary="Install a package file.",
        chapter="2, 7",
        options=(_FILE, _CODE, *_METHODS),
        proceed=_ONE_WAY,
        run=_update,
        operations=("package.use",),
    ),
)
