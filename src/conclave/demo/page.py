"""The last page of the demonstration: what to try next, as commands that work as they stand."""

from __future__ import annotations

import shlex
from pathlib import Path

from conclave.demo.document import DemoDocument, KeyringRow


def next_steps(document: DemoDocument, directory: Path, *, detached: bool) -> str:
    """Return the page."""
    keyring = document.keyrings[0]
    member = document.members[0]
    exports = "\n".join(
        f"    export {name}={shlex.quote(value)}"
        for name, value in document.client.environment.items()
    )
    rest = f"https://{member.address}:{member.rest_port}"
    stop = (
        f"    conclave demo --stop {shlex.quote(str(directory))}"
        if detached
        else "    Ctrl-C in this terminal"
    )
    return f"""
Ready. A cluster of one member serves {len(document.keyrings)} keyring(s) at {member.address}.
Every password is in {directory / "demo.json"} (mode 0600).

Tell programs where the cluster is:
{exports}
    export M={shlex.quote(document.client.module)}
    export PIN={shlex.quote(keyring.pin)}

Try:
{_commands(document, keyring)}

Look at it over REST, as the administrator:
    curl --cacert {shlex.quote(document.ca_file)} -u admin:{document.admin_password} \\
        -H 'Accept: application/vnd.safenetinc.lunasa+json;version=' {rest}/api/keyrings

Stop it:
{stop}
"""


def _commands(document: DemoDocument, keyring: KeyringRow) -> str:
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
    if len(document.keyrings) > 1:
        lines.append(f"# the next keyring: --token-label {document.keyrings[1].label}")
    return "\n".join(f"    {line}" for line in lines)
