"""Two mishaps in every change of a cluster, on the model that the tests of the core use."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.support.core_changes import CHANGES
from tests.support.core_prefixes import (
    AWAY,
    CUT,
    KILL,
    REFUSE,
    Tally,
    every_prefix,
    twice_in_recovery,
    twice_under_way,
)


@dataclass(frozen=True)
class Outcome:
    """What was interrupted, and the histories that ended badly."""

    rows: tuple[tuple[str, int, int, int], ...]
    """Name of the change, runs with one mishap, with a second under way, in the recovery."""
    faults: tuple[str, ...]


def run(sizes: tuple[int, ...], say: Callable[[str], None]) -> Outcome:
    """Interrupt every change of clusters of these sizes once and twice; faults are kept."""
    rows: list[tuple[str, int, int, int]] = []
    faults: list[str] = []
    for change in CHANGES:
        once, under_way, recovering = Tally(), Tally(), Tally()
        for size in sorted(set(sizes) & set(change.sizes)) or change.sizes[:1]:
            try:
                every_prefix(change, size, once)
                twice_under_way(change, size, (KILL, AWAY, REFUSE), under_way)
                twice_in_recovery(change, size, (KILL, CUT), recovering)
            except AssertionError as error:
                faults.append(str(error))
        rows.append((change.name, once.runs, under_way.runs, recovering.runs))
        say(f"{rows[-1]}")
    return Outcome(tuple(rows), tuple(faults))


def report(outcome: Outcome, sizes: tuple[int, ...], commit: str) -> list[str]:
    """Return the report's lines."""
    total = sum(one + two + three for _, one, two, three in outcome.rows)
    return [
        "# Campaign: core",
        "",
        "Each change of a cluster on the model of `tests/support/core_simulation.py`, interrupted",
        "at every step: a member killed, a link cut, a member away for a moment, an action",
        "refused, an answer late; then a second mishap at every later step, or of the",
        "recovery. All is mended, and nothing may be lost, and the cluster must come to rest.",
        "",
        f"- commit {commit}, clusters of {', '.join(map(str, sizes))}, of 3 where none is possible",
        f"- histories: {total:,}, ended badly: {len(outcome.faults)}",
        "",
        "| change | one mishap | a second under way | a second in the recovery |",
        "|---|---|---|---|",
        *(f"| {name} | {one:,} | {two:,} | {three:,} |" for name, one, two, three in outcome.rows),
        *(f"\n```\n{fault}\n```" for fault in outcome.faults),
        "",
    ]
