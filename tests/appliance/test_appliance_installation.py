"""`conclave appliance install` into a clean root directory, and a reboot of what it installed."""

from __future__ import annotations

import asyncio
import json
import shlex
import shutil
import signal
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from conclave.appliance.installation import STATE, UNIT, is_the_host, unit_text
from conclave.cli import main
from conclave.errors import NotAllowed
from conclave.settings import load_config
from conclave.store.postgresql.account import SYSTEM_DIRECTORY
from tests.support.appliance_bench import is_alive, random_loopback, until

pytestmark = pytest.mark.system


def install(root: Path, *options: str) -> Result:
    return CliRunner().invoke(main, ["appliance", "install", "--root", str(root), *options])


def below(root: Path, path: object) -> Path:
    return root / str(path).lstrip("/")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def start_command(root: Path) -> list[str]:
    """Return what the installed unit starts, with its state below the root directory."""
    unit = below(root, UNIT).read_text()
    (line,) = [line for line in unit.splitlines() if line.startswith("ExecStart=")]
    return [
        str(below(root, STATE)) if word == str(STATE) else word
        for word in shlex.split(line.removeprefix("ExecStart="))
    ]


def test_the_data_of_roots_members_are_not_below_the_state_that_is_closed() -> None:
    assert not SYSTEM_DIRECTORY.is_relative_to(STATE)


@contextmanager
def booted(root: Path) -> Iterator[dict[str, Any]]:
    """Run what the unit starts, until it is stopped as systemd would."""
    ready = below(root, STATE) / "run/ready.json"
    with subprocess.Popen(start_command(root)) as daemon:
        try:
            asyncio.run(until(ready.exists, "the appliance serves"))
            yield json.loads(ready.read_text())
        finally:
            daemon.send_signal(signal.SIGTERM)
            assert daemon.wait(timeout=60) == 0
    assert not ready.exists()


@pytest.fixture
def root() -> Iterator[Path]:
    """Make a root directory of a short path: sockets below it must fit into sun_path."""
    with tempfile.TemporaryDirectory(prefix="root") as directory:
        yield Path(directory) / "r"


def test_d8_a_clean_root_gets_everything_and_boots_twice(root: Path, tmp_path: Path) -> None:
    settings = tmp_path / "conclave.toml"
    settings.write_text("[ssh]\nport = 2222\n")
    address = random_loopback()
    options = ("--config", str(settings), "--interface", f"eth0={address}")
    result = install(root, *options)
    assert result.exit_code == 0, result.output
    state = below(root, STATE)
    assert [mode(each) for each in (state, below(root, "/var/log/conclave"))] == [0o700, 0o700]
    assert mode(state / "conclave.toml") == 0o600
    assert (state / "log").resolve() == below(root, "/var/log/conclave")
    assert "u conclave - " in below(root, "/etc/sysusers.d/conclave.conf").read_text()
    wanted = below(root, "/etc/systemd/system/multi-user.target.wants/conclave.service")
    assert wanted.readlink() == Path(UNIT)
    config = load_config(state / "conclave.toml")
    assert (config.state_dir, config.host_power) == (Path(STATE), True)
    with booted(root) as first:
        assert (first["addresses"], first["sshPort"]) == ([address], 2222)
        assert is_alive(first["pid"])
    assert not is_alive(first["pid"])
    assert (below(root, "/var/log/conclave") / "daemon.log").exists()
    # Installing again keeps what is there.
    again = install(root, *options)
    assert (again.exit_code, "as it was" in again.output) == (0, True), again.output
    with booted(root) as second:
        assert second["hsmSerial"] == first["hsmSerial"]


def test_d8_defaults_are_those_of_a_host(root: Path) -> None:
    result = install(root, "--interface", "eth0=127.9.8.7", "--host-name", "hsm-8")
    assert result.exit_code == 0, result.output
    config = load_config(below(root, STATE) / "conclave.toml")
    assert (config.ssh.port, config.rest_port, config.host_name) == (22, 8443, "hsm-8")
    assert config.packages.cluster_service == "package"


def test_d8_systemd_finds_nothing_wrong_with_the_unit(tmp_path: Path) -> None:
    verifier = shutil.which("systemd-analyze")
    assert verifier, "tools/setup installs systemd's programs"
    unit = tmp_path / "conclave.service"
    unit.write_text(unit_text(Path("/bin/true")))
    told = subprocess.run(
        [verifier, "verify", "--man=no", str(unit)], capture_output=True, text=True, check=False
    )
    assert (told.returncode, str(unit) in told.stderr) == (0, False), told.stderr
    unit.write_text(unit_text(Path("/bin/true")).replace("KillMode=mixed", "KillMode=sometimes"))
    told = subprocess.run(
        [verifier, "verify", "--man=no", str(unit)], capture_output=True, text=True, check=False
    )
    assert "KillMode" in told.stderr or "kill mode" in told.stderr.lower(), told.stderr


def test_d8_a_program_of_any_name_can_be_started(tmp_path: Path) -> None:
    verifier = shutil.which("systemd-analyze")
    assert verifier, "tools/setup installs systemd's programs"
    program = tmp_path / "an odd one" / "100%h" / "conclave"
    program.parent.mkdir(parents=True)
    shutil.copy("/bin/true", program)
    unit = tmp_path / "conclave.service"
    unit.write_text(unit_text(program))
    told = subprocess.run(
        [verifier, "verify", "--man=no", str(unit)], capture_output=True, text=True, check=False
    )
    assert (told.returncode, str(program.parent) in told.stderr) == (0, False), told.stderr
    with pytest.raises(NotAllowed, match="quotes"):
        unit_text(tmp_path / 'an "odd" one' / "conclave")


def test_d8_an_attempt_that_broke_off_is_completed_by_the_next(root: Path, tmp_path: Path) -> None:
    root.mkdir()
    # A file where a directory must be: refused to root as well.
    (root / "etc").write_text("in the way")
    options = ("--interface", "eth0=127.9.8.7")
    refused = install(root, *options)
    assert (refused.exit_code, "could not be written" in refused.output) == (1, True)
    assert str(root / "etc") in refused.output
    (root / "etc").unlink()
    (root / "var/lib").mkdir(parents=True)
    below(root, STATE).write_text("in the way")
    refused = install(root, *options)
    assert (refused.exit_code, str(below(root, STATE)) in refused.output) == (1, True)
    assert not below(root, UNIT).exists()
    below(root, STATE).unlink()
    made = install(root, *options)
    assert made.exit_code == 0, made.output
    state = CliRunner().invoke(main, ["appliance", "init", "--state", str(below(root, UNIT) / "x")])
    assert (state.exit_code, "could not be written" in state.output) == (1, True), state.output


@pytest.mark.parametrize("spelled", ["/", "//", "/tmp/..", "/."])
def test_d8_the_hosts_root_is_known_by_any_spelling(spelled: str, tmp_path: Path) -> None:
    assert is_the_host(Path(spelled))
    assert not is_the_host(tmp_path)


def test_g2_settings_for_tests_are_refused(tmp_path: Path) -> None:
    settings = tmp_path / "conclave.toml"
    settings.write_text("low_cost_for_tests = true\n")
    result = install(tmp_path / "r", "--config", str(settings))
    assert (result.exit_code, "low_cost_for_tests" in result.output) == (1, True)
    assert not (tmp_path / "r").exists()
