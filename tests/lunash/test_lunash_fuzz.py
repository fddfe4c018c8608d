"""A short run of the line fuzzer; `tools/fuzz_inputs.py command-lines` is the long one."""

from __future__ import annotations

from conclave import faults
from tests.support.input_fuzzer import fuzz

INPUTS = 2000


def test_mutated_lines_are_understood_or_refused() -> None:
    tally = fuzz("command-lines", seed=20_261_126, seconds=120, inputs=INPUTS)
    assert tally.findings == []
    # Mutants reach past the grammar, and not all of them are refused.
    assert tally.ends["taken"] > INPUTS // 20
    assert tally.ends[faults.COMMAND_LINE.rest_id] > INPUTS // 20
    assert tally.ends[faults.BAD_REQUEST.rest_id] > INPUTS // 50
