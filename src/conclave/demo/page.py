"""The last page of the demonstration: what to try next, as commands that work as they stand."""

from __future__ import annotations

import enum
import os
import shlex
import shutil
import sys
from pathlib import Path
from typing import Final

from conclave.appliance.paths import StatePaths
from conclave.demo.document import FILE_NAME, DemoDocument, KeyringRow, MemberRow

KNOWN_HOSTS_FILE: Final = "known_hosts"
CURL_FILE: Final = "curl.conf"
"""For `curl --config`: the administrator's password stays off the command line."""


class Ending(enum.Enum):
    """How the installation is left."""

    DETACHED = enum.auto()
    AT_TERMINAL = enum.auto()
    STOPPED = enum.auto()


def next_steps(document: DemoDocument, directory: Path, ending: Ending) -> str:
    """Return the page."""
    place = shlex.quote(str(directory))
    member = document.members[0]
    count = ("one member", "two members", "three members", "four members")
    addresses = ", ".join(each.address for each in document.members)
    serves = (
        f"cluster of {count[len(document.members) - 1]} serves"
        f" {len(document.keyrings)} keyring(s) at {addresses}."
    )
    first_words = f"Ready. A {serves}"
    last_words = f"Stop it:\n    conclave demo --stop {place}"
    if ending is Ending.STOPPED:
        first_words = (
            f"It works: a {serves}\n"
            "There is no terminal to wait at, so it is stopped now. Start it again and leave it"
            f" running:\n    {conclave_command()} demo {place} --detach"
        )
    elif ending is Ending.AT_TERMINAL:
        last_words = "Use another terminal; Ctrl-C in this one stops everything."
    return f"""
{first_words}
Every password is in {directory / FILE_NAME} (mode 0600).

Tell programs where the cluster is:
{_exports(document)}

Try:
{_commands(document.keyrings)}

Look at it over REST, as the administrator:
    curl --config {shlex.quote(str(directory / CURL_FILE))} \\
        https://{member.address}:{member.rest_port}/api/keyrings
{_shell(document, directory)}{_faults(document, directory)}
{last_words}
"""


def _shell(document: DemoDocument, directory: Path) -> str:
    """Return how to log in to LunaSH; nothing where it is not served."""
    member = document.members[0]
    if member.ssh_port is None:
        return ""
    known = shlex.quote(f"UserKnownHostsFile={directory / KNOWN_HOSTS_FILE}")
    return f"""
Log in to LunaSH as admin; the password is "adminPassword" in {directory / FILE_NAME}:
    ssh -p {member.ssh_port} -o {known} admin@{member.address}
"""


def write_known_hosts(document: DemoDocument, directory: Path) -> None:
    """Write the host keys of all members, so that nobody has to trust one at first sight."""
    lines = [
        f"[{member.address}]:{member.ssh_port} {public_key_file(member.state_dir).read_text()}"
        for member in document.members
        if member.ssh_port is not None
    ]
    (directory / KNOWN_HOSTS_FILE).write_text("".join(lines))


def public_key_file(state_dir: str) -> Path:
    """Return the file with an appliance's SSH host key."""
    return StatePaths(Path(state_dir)).ssh / "host_key.pub"


def write_curl_file(document: DemoDocument, directory: Path) -> None:
    """Write what curl needs to call REST as the administrator, mode 0600."""
    lines = (
        f'user = "admin:{document.admin_password}"',
        f'cacert = "{document.ca_file}"',
        'header = "Accept: application/vnd.safenetinc.lunasa+json;version="',
        'header = "Content-Type: application/vnd.safenetinc.lunasa+json;version="',
        "silent",
        "show-error",
    )
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
    descriptor = os.open(directory / CURL_FILE, flags, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write("\n".join(lines) + "\n")


def conclave_command() -> str:
    """Return how to call `conclave` from where this one was called."""
    ours = Path(sys.executable).with_name("conclave")
    return "conclave" if shutil.which("conclave") or not ours.exists() else shlex.quote(str(ours))


def _exports(document: DemoDocument) -> str:
    lines = [
        f"export {name}={shlex.quote(value)}" for name, value in document.client.environment.items()
    ]
    lines.append(f"export M={shlex.quote(document.client.module)}")
    lines.append(f"export PIN={shlex.quote(document.keyrings[0].pin)}")
    ours = Path(sys.executable).parent
    if shutil.which("lunacm") is None and (ours / "lunacm").exists():
        lines.append(f'export PATH={shlex.quote(str(ours))}:"$PATH"')
    return "\n".join(f"    {line}" for line in lines)


def members_command(document: DemoDocument, directory: Path, at: MemberRow) -> str:
    """Return the command that lists the members as one of them sees them."""
    curl = shlex.quote(str(directory / CURL_FILE))
    url = f"https://{at.address}:{at.rest_port}/api/clusters/{document.cluster_id}/members"
    return f"curl --config {curl} {url}"


def _faults(document: DemoDocument, directory: Path) -> str:
    """Return what can be done to members; nothing when there is only one."""
    if len(document.members) == 1:
        return ""
    fault, place = f"{conclave_command()} demo fault", shlex.quote(str(directory))
    return f"""
Let a member fail while an application signs, and bring it back:
    {members_command(document, directory, document.members[0])}
    {fault} kill 2 --dir {place}
    {fault} resume 2 --dir {place}
    {fault} hang 1 --seconds 5 --dir {place}
"""


def _commands(keyrings: list[KeyringRow]) -> str:
    keyring = keyrings[0]
    login = f'pkcs11-tool --module "$M" --token-label {keyring.label} --login --pin env:PIN'
    lines = [
        'pkcs11-tool --module "$M" --list-token-slots',
        f"{login} --list-objects",
        f"{login} --keypairgen --key-type EC:secp384r1 --label mine --id 10",
        f"echo hello | {login} --sign --mechanism ECDSA-SHA256 --id 02"
        " --signature-format openssl --output-file hello.sig",
        f"lunacm -q slot set -slot {keyring.slot}"
        " -- role login -name co -passwordenv PIN -- partition contents",
        "lunacm",
    ]
    if len(keyrings) > 1:
        lines.append(f"# the next keyring: --token-label {keyrings[1].label}")
    return "\n".join(f"    {line}" for line in lines)
