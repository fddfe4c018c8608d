"""The command line: what it makes, and what it refuses in one line."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner

from conclave.cli import main
from conclave.settings import load_config


def test_init_makes_a_directory_with_the_settings_given(tmp_path: Path) -> None:
    state = tmp_path / "state"
    arguments = ["appliance", "init", "--state", str(state), "--host-name", "hsm-7"]
    arguments += ["--interface", "eth0=127.9.8.7", "--interface", "eth1=127.9.8.8"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    config = load_config(state / "conclave.toml")
    assert config.state_dir == state
    assert config.host_name == "hsm-7"
    assert config.interfaces == {"eth0": "127.9.8.7", "eth1": "127.9.8.8"}
    again = CliRunner().invoke(main, arguments)
    assert again.exit_code == 1
    assert "choose another directory" in again.output


def test_init_takes_a_file_and_names_what_is_wrong_in_it(tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text("rest_port = 9443\n")
    state = tmp_path / "state"
    result = CliRunner().invoke(
        main, ["appliance", "init", "--state", str(state), "--config", str(file)]
    )
    assert result.exit_code == 0, result.output
    config = load_config(state / "conclave.toml")
    assert (config.rest_port, config.state_dir) == (9443, state)
    file.write_text("rest_prot = 9443\n")
    result = CliRunner().invoke(
        main, ["appliance", "init", "--state", str(tmp_path / "other"), "--config", str(file)]
    )
    assert result.exit_code == 1
    assert "rest_prot" in result.output
    assert not (tmp_path / "other").exists()


def test_run_without_an_appliance_says_so(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["appliance", "run", "--state", str(tmp_path / "nowhere")])
    assert result.exit_code == 1
    assert "cannot be read" in result.output
