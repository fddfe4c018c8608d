"""A short run of the line fuzzer; `tools/fuzz_inputs.py command-lines` is the long one."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from conclave import faults
from conclave.errors import BadInput
from conclave.lunash.catalogue import COMMANDS
from conclave.operations.commands import Command
from tests.support.input_fuzzer import fuzz
from tests.support.line_fuzzer import LineTrial, seed_words

INPUTS = 2000
LINES = 200
"""So many of each command."""


def test_mutated_lines_are_understood_or_refused() -> None:
    tally = fuzz("command-lines", seed=20_261_126, seconds=120, inputs=INPUTS)
    assert tally.findings == []
    # Mutants reach past the grammar, and not all of them are refused.
    assert tally.ends["taken"] > INPUTS // 20
    assert tally.ends[faults.COMMAND_LINE.rest_id] > INPUTS // 20
    assert tally.ends[faults.BAD_REQUEST.rest_id] > INPUTS // 50


@pytest.mark.parametrize("command", COMMANDS, ids=lambda each: " ".join(each.path))
def test_each_command_has_lines_that_are_understood_before_they_are_mutated(
    command: Command,
) -> None:
    trial, draw = LineTrial(), random.Random(1)
    understood = Counter[str]()
    for _ in range(LINES):
        line = " ".join(seed_words(draw, command))
        try:
            trial.read(line)
        except BadInput as refusal:
            understood[refusal.message] += 1
        else:
            understood["taken"] += 1
    assert understood["taken"] > LINES // 100, understood
