"""Install an appliance on a host: account, directories, systemd unit, first state (rule D8).

Everything is written below one root directory, which is `/` for the host itself; only there the
account is made and systemd is told.  Installing again renews the unit and leaves the state alone.
"""

from __future__ import annotations

import fcntl
import os
import pwd
import shutil
import socket
import struct
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

import msgspec

from conclave import faults
from conclave.appliance.initialize import files_that_can_be_written, initialize_appliance
from conclave.appliance.paths import StatePaths
from conclave.errors import BadInput, NotAllowed, Unavailable
from conclave.settings import CONFIG_FILE_NAME, ApplianceConfig, check_config, write_config

ACCOUNT: Final = "conclave"
STATE: Final = PurePosixPath("/var/lib/conclave")
LOGS: Final = PurePosixPath("/var/log/conclave")
UNIT: Final = PurePosixPath("/etc/systemd/system/conclave.service")
WANTS: Final = PurePosixPath("/etc/systemd/system/multi-user.target.wants/conclave.service")
SYSUSERS: Final = PurePosixPath("/etc/sysusers.d/conclave.conf")
POLKIT: Final = PurePosixPath("/etc/polkit-1/rules.d/50-conclave.rules")
SSH_PORT: Final = 22
PROGRAM_SECONDS: Final = 60.0
_SIOCGIFADDR: Final = 0x8915
_HOMES: Final = ("/root/", "/home/")

_SYSUSERS_TEXT: Final = f'u {ACCOUNT} - "Conclave appliance" {STATE}\n'
_POLKIT_TEXT: Final = f"""\
// The appliance's commands `sysconf appliance reboot` and `poweroff`.
polkit.addRule(function (action, subject) {{
    var allowed = ["org.freedesktop.login1.reboot", "org.freedesktop.login1.power-off"];
    if (subject.user == "{ACCOUNT}" && allowed.indexOf(action.id) >= 0) {{
        return polkit.Result.YES;
    }}
}});
"""


@dataclass(frozen=True, slots=True)
class Installed:
    """What an installation came to."""

    unit: Path
    state: Path
    serial: str
    """Serial number of the HSM; empty when the appliance was there already."""


def unit_text(program: Path) -> str:
    """Return the systemd unit that runs the appliance with a program `conclave`."""
    return f"""\
[Unit]
Description=Conclave appliance: REST, LunaSH, HSM and cluster service
Documentation=https://www.freedesktop.org/software/systemd/man/systemd.service.html
Wants=network-online.target
After=network-online.target

[Service]
Type=exec
User={ACCOUNT}
Group={ACCOUNT}
ExecStart={_word(program)} appliance run --state {STATE}
Restart=on-failure
RestartSec=2
TimeoutStopSec=40
KillMode=mixed
StateDirectory={STATE.name}
StateDirectoryMode=0700
RuntimeDirectory={STATE.name}
RuntimeDirectoryMode=0755
LogsDirectory={LOGS.name}
LogsDirectoryMode=0700
UMask=0077
LimitCORE=0
LimitNOFILE=65536
# Port {SSH_PORT} for LunaSH, and nothing else that an account of its own has not.
AmbientCapabilities=CAP_NET_BIND_SERVICE
CapabilityBoundingSet=CAP_NET_BIND_SERVICE
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=read-only
PrivateTmp=yes
PrivateDevices=yes
ProtectClock=yes
ProtectHostname=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
SystemCallArchitectures=native

[Install]
WantedBy=multi-user.target
"""


def _word(path: Path) -> str:
    """Return a path as one word of a unit's command line; raise NotAllowed when it can be none."""
    text = str(path)
    if not text.isprintable() or any(each in text for each in "\"'\\"):
        message = f"systemd starts no program whose path has quotes or backslashes: {text!r}."
        raise NotAllowed(faults.SERVICE_FAILED, message)
    return f'"{text.replace("%", "%%")}"'


def host_interfaces() -> dict[str, str]:
    """Return the host's network devices with their IPv4 addresses, loopback left out."""
    found = {}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
        for _number, name in socket.if_nameindex():
            request = struct.pack("256s", name.encode()[:15])
            try:
                answer = fcntl.ioctl(asker.fileno(), _SIOCGIFADDR, request)
            except OSError:
                # It has no address.
                continue
            address = socket.inet_ntoa(answer[20:24])
            if not address.startswith("127."):
                found[name] = address
    return found


def installed_config(config: ApplianceConfig) -> ApplianceConfig:
    """Return settings as a host has them; refuse those that are for tests or incomplete."""
    if config.low_cost_for_tests:
        message = "low_cost_for_tests must be false on an installed host (rule G2); it is true."
        raise BadInput(faults.PASSWORD_COST, message)
    changed = msgspec.structs.replace(config, state_dir=Path(STATE), host_power=True)
    check_config(changed)
    return changed


def install(config: ApplianceConfig, root: Path, program: Path | None = None) -> Installed:
    """Install below `root`; raise BadInput, NotAllowed or Unavailable.

    `program` is the `conclave` to run; absent, the one beside this Python.
    """
    chosen = program or Path(sys.executable).with_name("conclave")
    settings = installed_config(config)
    on_host = is_the_host(root)
    if on_host:
        _require_host(chosen)
    with files_that_can_be_written():
        serial = _write_all(settings, root, unit_text(chosen), on_host=on_host)
    return Installed(_below(root, UNIT), _below(root, STATE), serial)


def is_the_host(root: Path) -> bool:
    """Tell whether a directory is `/`, however it is spelled."""
    return root.resolve() == Path("/")


def _write_all(settings: ApplianceConfig, root: Path, unit: str, *, on_host: bool) -> str:
    """Write files in an order in which each attempt may be the one that completes them."""
    _write(_below(root, SYSUSERS), _SYSUSERS_TEXT)
    if on_host:
        _run("systemd-sysusers", str(SYSUSERS))
    serial = _make_state(settings, root)
    if on_host:
        _give_away(_below(root, STATE), _below(root, LOGS))
    _write(_below(root, POLKIT), _POLKIT_TEXT)
    _write(_below(root, UNIT), unit)
    wants = _below(root, WANTS)
    wants.parent.mkdir(parents=True, exist_ok=True)
    wants.unlink(missing_ok=True)
    wants.symlink_to(UNIT)
    if on_host:
        _run("systemctl", "daemon-reload")
    return serial


def _below(root: Path, path: PurePosixPath) -> Path:
    return root / path.relative_to("/")


def _require_host(program: Path) -> None:
    if os.geteuid() != 0:
        raise NotAllowed(faults.SERVICE_FAILED, "Installing on this host needs root.")
    if not Path("/run/systemd/system").is_dir():
        message = "This host does not run systemd; install with --root into a directory instead."
        raise NotAllowed(faults.SERVICE_FAILED, message)
    if not program.is_file() or str(program).startswith(_HOMES):
        message = (
            f"The account {ACCOUNT} could not run {program}: install Conclave outside of home"
            " directories first, such as in /opt/conclave."
        )
        raise NotAllowed(faults.SERVICE_FAILED, message)


def _make_state(settings: ApplianceConfig, root: Path) -> str:
    """Make directories and the appliance's first state; return the HSM's serial number."""
    state, logs = _below(root, STATE), _below(root, LOGS)
    for directory in (state, logs):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        directory.chmod(0o700)
    link = StatePaths(state).logs
    if not link.is_symlink():
        link.symlink_to(os.path.relpath(logs, state))
    if (state / CONFIG_FILE_NAME).exists():
        return ""
    serial = initialize_appliance(msgspec.structs.replace(settings, state_dir=state.absolute()))
    write_config(settings, state / CONFIG_FILE_NAME)
    return serial


def _give_away(*directories: Path) -> None:
    try:
        account = pwd.getpwnam(ACCOUNT)
    except KeyError:
        message = f"This host has no account {ACCOUNT}: systemd-sysusers {SYSUSERS} makes it."
        raise Unavailable(faults.SERVICE_FAILED, message) from None
    for directory in directories:
        for path in (directory, *directory.rglob("*")):
            os.chown(path, account.pw_uid, account.pw_gid, follow_symlinks=False)


def _write(path: Path, text: str) -> None:
    """Write a file of mode 0644, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".new")
    temporary.write_text(text, encoding="utf-8")
    temporary.chmod(0o644)
    temporary.replace(path)


def _run(*command: str) -> None:
    if shutil.which(command[0]) is None:
        raise Unavailable(faults.SERVICE_FAILED, f"This host has no program {command[0]}.")
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=PROGRAM_SECONDS)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as cause:
        message = f"{' '.join(command)} failed: {_said(cause)}."
        raise Unavailable(faults.SERVICE_FAILED, message) from cause


def _said(cause: subprocess.CalledProcessError | subprocess.TimeoutExpired) -> str:
    said = cause.stderr or b""
    return " ".join(said.decode(errors="replace").split()) or "it did not end well"
