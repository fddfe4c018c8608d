"""`conclave package`, by the commands that docs/packages.md prints."""

from __future__ import annotations

import io
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

from conclave.packages.manifest import Requirements
from conclave.packages.shelf import Shelf

ROOT = Path(__file__).parents[2]
PRESENT = Requirements(appliance="7.8.5", firmware="7.8.4")


def run(directory: Path, command: str) -> subprocess.CompletedProcess[str]:
    words = shlex.split(command.partition("#")[0])
    words[0] = str(Path(sys.executable).with_name(words[0]))
    return subprocess.run(
        words, check=False, cwd=directory, capture_output=True, text=True, timeout=60
    )


def test_the_printed_commands_make_a_package_that_installs(tmp_path: Path) -> None:
    page = (ROOT / "docs/packages.md").read_text()
    commands = re.findall(r"^conclave .*$", page, re.MULTILINE)
    assert len(commands) == 4
    state = tmp_path / "appliance"
    for command in commands:
        done = run(tmp_path, command.replace("DIRECTORY", str(state)))
        assert done.returncode == 0, done.stderr
    file = tmp_path / "lnh_cluster-1.0.4-1.spkg"
    code = file.with_suffix(".auth").read_bytes().strip()
    shelf = Shelf(state / "packages", state / "release_keys", PRESENT)
    installed = shelf.install(io.BytesIO(file.read_bytes()), code, "2026-01-01T00:00:00Z")
    # The installed tree runs by itself, from its own directory.
    told = subprocess.run(
        [sys.executable, "-P", "-c", "import conclave.cluster.process as it; print(it.__file__)"],
        check=True,
        env=os.environ | {"PYTHONPATH": str(shelf.path(installed))},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert told.stdout.startswith(str(shelf.path(installed))), told.stderr


def test_a_refusal_is_one_line(tmp_path: Path) -> None:
    assert run(tmp_path, "conclave package keygen --private a --public b").returncode == 0
    done = run(tmp_path, "conclave package inspect b --trust b")
    assert (done.returncode, done.stderr) == (
        1,
        "Error: The file is no secure package (.spkg).\n",
    )
    done = run(tmp_path, "conclave package build --key b")
    assert done.stderr == "Error: b is no unencrypted private key in PEM.\n"
