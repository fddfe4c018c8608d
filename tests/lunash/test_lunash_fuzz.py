"""A short run of the line fuzzer; `tools/fuzz_lines.py --seconds 600` is the long one."""

from __future__ import annotations

from tests.support.line_fuzzer import LineFuzzer

INPUTS = 4000


def test_mutated_lines_are_understood_or_refused() -> None:
    report = LineFuzzer(seed=20_261_126).run(seconds=120, inputs=INPUTS)
    assert report.findings == []
    # Mutants reach past the grammar, and not all of them are refused.
    assert report.ends["understood"] > INPUTS // 20
    assert report.ends["arguments refused"] > INPUTS // 50
    assert report.ends["refused"] > INPUTS // 20
