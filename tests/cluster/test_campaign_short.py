"""The cluster campaign for a short time, with the faults that need no network of its own."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SECONDS = 12
SEED = 7

pytestmark = pytest.mark.system


def test_random_faults_under_load_break_no_promise() -> None:
    command = [sys.executable, "-m", "campaigns", "cluster", "--no-write"]
    kinds = ("kill", "kill PostgreSQL", "kill worker", "hang", "hang worker", "promote", "skew")
    only = [word for kind in kinds for word in ("--only", kind)]
    run = subprocess.run(
        [*command, "--seconds", str(SECONDS), "--seed", str(SEED), *only],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr
    assert "- broken promises: 0\n" in run.stdout
    assert "missing: 0, deleted but present: 0, deleted but signing: 0," in run.stdout
    assert "wrong signatures: 0, failed signatures of applications: 0\n" in run.stdout
    signed = re.search(r"direct (\d+), .*at chosen members (\d+)", run.stdout)
    assert signed is not None
    assert all(int(number) > 0 for number in signed.groups())
