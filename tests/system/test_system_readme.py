"""The README says the truth: its commands are run as printed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from conclave.store.postgresql import account as accounts
from tests.support.processes import alive

ROOT = Path(__file__).parents[2]
BLOCKS = re.findall(r"^```sh\n(.*?)^```", (ROOT / "README.md").read_text(), re.DOTALL | re.M)
COMMANDS = [line for block in BLOCKS for line in block.splitlines()]

pytestmark = pytest.mark.system


def environment() -> dict[str, str]:
    """Return an environment in which the installed programs are found."""
    return {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}


def run(command: str, directory: Path) -> str:
    outcome = subprocess.run(
        ["sh", "-ec", command],
        cwd=directory,
        check=False,
        capture_output=True,
        text=True,
        env=environment(),
        stdin=subprocess.DEVNULL,
        timeout=110,
    )
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    return outcome.stdout


def test_every_command_of_the_readme_is_known_to_this_test() -> None:
    assert COMMANDS == [
        "make demo",
        "make test",
        "conclave demo lab --keyrings 3 --json lab.json --detach",
        "conclave client module-path",
        "conclave demo --stop lab",
        "conclave demo trio --members 3 --detach",
        "conclave demo fault kill 2 --dir trio",
        "conclave demo fault resume 2 --dir trio",
        "conclave demo fault hang 1 --seconds 3 --dir trio",
        "conclave demo --stop trio",
    ]


def test_make_demo_ends_with_signatures_that_openssl_verifies(tmp_path: Path) -> None:
    printed = run(f"make demo DEMO_DIR={tmp_path / 'demo'}", ROOT)
    assert printed.count("Verified OK") == 2
    assert "and leave it running:" in printed


def test_make_test_runs_the_checks() -> None:
    planned = run("make -n test", ROOT)
    assert "tools/setup" in planned
    assert " check" in planned


def test_a_lab_for_scripts_comes_up_and_goes_away(tmp_path: Path) -> None:
    up, path, down = COMMANDS[2:5]
    try:
        run(up, tmp_path)
        lab = json.loads((tmp_path / "lab.json").read_text())
        assert len(lab["keyrings"]) == 3
        module = run(path, tmp_path).strip()
        assert module == lab["client"]["module"]
        settings = lab["client"]["environment"]["ChrystokiConfigurationPath"]
        listing = run(
            f"ChrystokiConfigurationPath={settings} "
            f"pkcs11-tool --module {module} --list-token-slots",
            tmp_path,
        )
        assert listing.count("token label") == 3
    finally:
        run(down, tmp_path)
    assert not any(alive(pid) for pid in lab["members"][0]["pids"].values())


def test_three_members_come_up_fail_come_back_and_go_away(tmp_path: Path) -> None:
    up, *faults, down = COMMANDS[5:]
    state_dirs = [tmp_path / "trio" / f"member-{number}" for number in (1, 2, 3)]
    printed = run(f"{up} --low-cost", tmp_path)
    try:
        assert printed.count("Verified OK") == 2
        for fault in faults:
            assert "Watch:" in run(fault, tmp_path)
        trio = json.loads((tmp_path / "trio" / "demo.json").read_text())
        assert [member["stateDir"] for member in trio["members"]] == list(map(str, state_dirs))
    finally:
        run(down, tmp_path)
        for state_dir in state_dirs:
            accounts.remove(state_dir, accounts.find())
    assert not any(alive(pid) for member in trio["members"] for pid in member["pids"].values())


def test_make_help_lists_the_targets() -> None:
    printed = run("make help", ROOT)
    for target in ("demo", "test", "bench", "campaign"):
        assert f"make {target}" in printed
