"""The short form of the kill campaign."""

from __future__ import annotations

from pathlib import Path

import pytest

from campaigns import kill

pytestmark = pytest.mark.system


@pytest.mark.timeout(600)
def test_kill_9_of_any_process_loses_no_acknowledged_key_and_makes_no_wrong_signature(
    tmp_path: Path,
) -> None:
    outcome = kill.run(tmp_path / "demo", kills=20, seed=20261123, progress=print)
    assert sum(outcome.kills.values()) == 20
    assert outcome.acknowledged > 20
    assert outcome.signatures > 20
    assert (outcome.missing, outcome.changed, outcome.wrong) == (0, 0, 0)
