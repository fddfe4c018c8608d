"""schemathesis over the whole served document, with all its checks; the campaign `api` goes on."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from campaigns.api import CALLERS, Order, run

ORDER = Order(seed=1, examples=1, seconds=240, phases="fuzzing")


@pytest.mark.system
def test_every_operation_answers_as_its_document_says(tmp_path: Path) -> None:
    outcomes = asyncio.run(run(tmp_path, ORDER))
    assert [each.caller for each in outcomes] == [each.user_id for each in CALLERS]
    for outcome in outcomes:
        assert outcome.clean, outcome.said
        assert outcome.counts.cases >= outcome.counts.operations
