"""Put the client's files where the product has them, onto this host or into a directory (rule D8).

Invariant: what is installed is replaced whole; registrations, keys and Chrystoki.conf are nobody's
but their owner's and are not touched.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from conclave.client.module_path import MODULE_NAME, SCRIPT_NAME, module_path, registration_script

CLIENT_DIRECTORY: Final = Path("/usr/safenet/lunaclient")
POWERSHELL_NAME: Final = "LNHClientRegistration.ps1"
PRODUCT_MODULE_NAME: Final = "libCryptoki2_64.so"
"""Where applications of the product look for its module: a link to ours."""
P11_KIT_FILE: Final = Path("/usr/share/p11-kit/modules/conclave.module")
UNIT: Final = Path("/usr/lib/systemd/system/conclave-client-renew.service")
TIMER: Final = UNIT.with_suffix(".timer")
_UNIT_TEXT: Final = f"""\
[Unit]
Description=Renew the certificates with which this host uses Conclave clusters
Wants=network-online.target
After=network-online.target

[Service]
Type=oneshot
ExecStart={CLIENT_DIRECTORY}/bin/{SCRIPT_NAME} --renew all
"""
_TIMER_TEXT: Final = """\
[Unit]
Description=Look daily whether a certificate for Conclave ends

[Timer]
OnCalendar=daily
RandomizedDelaySec=1h
Persistent=true

[Install]
WantedBy=timers.target
"""


@dataclass(frozen=True, slots=True)
class InstalledClient:
    """Where the client's files are now."""

    script: Path
    module: Path


def install_client(root: Path) -> InstalledClient:
    """Install script and module below `root`, with the default paths, and what goes with them.

    The files need no Python, so the directory may be packed and unpacked on another host.  Raises
    NotFound when the module was not built, OSError when a file cannot be written.
    """
    client = _below(root, CLIENT_DIRECTORY)
    binaries, libraries = client / "bin", client / "lib"
    module = _copy(module_path(), libraries / MODULE_NAME, 0o755)
    script = _copy(registration_script(), binaries / SCRIPT_NAME, 0o755)
    powershell = registration_script().with_name(POWERSHELL_NAME)
    _copy(powershell, binaries / POWERSHELL_NAME, 0o644)
    _link(libraries / PRODUCT_MODULE_NAME, MODULE_NAME)
    _write(_below(root, P11_KIT_FILE), f"module: {CLIENT_DIRECTORY / 'lib' / MODULE_NAME}\n")
    _write(_below(root, UNIT), _UNIT_TEXT)
    _write(_below(root, TIMER), _TIMER_TEXT)
    return InstalledClient(script, module)


def _below(root: Path, path: Path) -> Path:
    return root / path.relative_to("/")


def _copy(source: Path, target: Path, mode: int) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    shutil.copyfile(source, temporary)
    temporary.chmod(mode)
    temporary.replace(target)
    return target


def _write(target: Path, text: str) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    temporary.write_text(text)
    temporary.chmod(0o644)
    temporary.replace(target)


def _link(path: Path, destination: str) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.symlink_to(destination)
    temporary.replace(path)
