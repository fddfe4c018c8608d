"""A full disk: a follower is left behind, a primary refuses writes, and both return."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from campaigns.cluster_house import ISOLATED

pytestmark = [pytest.mark.system, pytest.mark.timeout(400)]
ROOT = Path(__file__).parents[2]
OWN_MOUNTS = ["unshare", "--mount"]
AS_A_USER = ["unshare", "--user", "--map-current-user", "--keep-caps", "--mount"]


def test_a_full_disk_loses_no_acknowledged_write_and_all_returns_by_itself(tmp_path: Path) -> None:
    unshare = OWN_MOUNTS if os.getuid() == 0 else AS_A_USER
    done = subprocess.run(
        [*unshare, sys.executable, "-m", "tests.support.disk_full", str(tmp_path)],
        check=False,
        cwd=ROOT,
        env=os.environ | {ISOLATED: "1"},
        capture_output=True,
        text=True,
        timeout=360,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "acknowledged writes are everywhere" in done.stdout
