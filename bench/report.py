"""Turn runs into medians, ratios and complaints: functions without input or output.

Sanity rules: a score without a verified result is no score; neighbouring cells of one operation
that differ a hundredfold are an artefact of the measurement, not a result; a signature faster
than the arithmetic it needs was not made.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench.cases import Case

ABSURD_OPERATIONS_PER_SECOND: Mapping[str, float] = {
    "rsa2048-sign": 100_000,
    "p384-sign": 100_000,
    "p256-sign": 2_000_000,
    "ed25519-sign": 2_000_000,
    "aes-gcm-1k": 20_000_000,
}
"""Above these, nobody computed anything: no machine that runs this does a tenth of it."""


@dataclass(frozen=True, slots=True)
class Run:
    """One run of p11bench, as its JSON line reports it; latencies in microseconds."""

    operations_per_second: float
    p99_us: float
    max_us: float
    checked: int
    ok: bool

    @classmethod
    def from_json(cls, document: Mapping[str, object]) -> Run:
        """Take what is needed from p11bench's line."""

        def number(name: str) -> float:
            value = document.get(name, 0)
            return float(value) if isinstance(value, int | float) else 0.0

        return cls(
            operations_per_second=number("ops_per_s"),
            p99_us=number("p99_us"),
            max_us=number("max_us"),
            checked=int(number("checked_by_openssl") + number("checked_by_module")),
            ok=document.get("ok") is True,
        )


@dataclass(frozen=True, slots=True)
class Row:
    """The outcome of one case."""

    case: Case
    ours: float
    peers: float
    ratio: float
    p99_ratio: float
    ours_p99_us: float
    holds: bool | None
    """None when the case promises nothing."""


def summarise(case: Case, ours: Sequence[Run], peers: Sequence[Run]) -> Row:
    """Return medians of alternated runs; the ratio is the median of the ratios pair by pair."""
    ratio = statistics.median(
        mine.operations_per_second / other.operations_per_second
        for mine, other in zip(ours, peers, strict=True)
    )
    p99_ratio = statistics.median(
        mine.p99_us / other.p99_us for mine, other in zip(ours, peers, strict=True)
    )
    holds: bool | None = None
    if case.floor is not None:
        holds = ratio >= case.floor
        if case.threads > 1 and case.operation.endswith("-sign"):
            holds = holds and p99_ratio <= 0.5
    return Row(
        case=case,
        ours=statistics.median(run.operations_per_second for run in ours),
        peers=statistics.median(run.operations_per_second for run in peers),
        ratio=ratio,
        p99_ratio=p99_ratio,
        ours_p99_us=statistics.median(run.p99_us for run in ours),
        holds=holds,
    )


def complaints(case: Case, runs: Sequence[Run]) -> list[str]:
    """Return what is wrong with the runs themselves; an empty list means they may be believed."""
    found = []
    limit = ABSURD_OPERATIONS_PER_SECOND.get(case.operation)
    for run in runs:
        if not run.ok or run.checked == 0:
            found.append(f"{case.name}: a run without a verified result")
        if run.operations_per_second <= 0:
            found.append(f"{case.name}: a run without operations")
        if limit is not None and run.operations_per_second > limit:
            found.append(f"{case.name}: {run.operations_per_second:.0f}/s cannot be true")
    return found


def neighbours(rows: Sequence[Row]) -> list[str]:
    """Return pairs of cells of one operation that differ a hundredfold."""
    found = []
    for index, one in enumerate(rows):
        for other in rows[index + 1 :]:
            if one.case.operation != other.case.operation:
                continue
            low, high = sorted((one.ours, other.ours))
            if low * 100 < high:
                found.append(f"{one.case.name} and {other.case.name} differ a hundredfold")
    return found


def table(rows: Sequence[Row]) -> str:
    """Return the report as Markdown."""
    lines = [
        "| case | Conclave ops/s | SoftHSM2 ops/s | ratio | floor | goal "
        "| p99 ratio | p99 us | holds |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---|",
    ]
    for row in rows:
        floor = "" if row.case.floor is None else f"{row.case.floor:g}"
        goal = "" if row.case.goal is None else f"{row.case.goal:g}"
        holds = {None: "", True: "yes", False: "NO"}[row.holds]
        lines.append(
            f"| {row.case.name} | {row.ours:,.0f} | {row.peers:,.0f} | {row.ratio:.2f} | {floor} "
            f"| {goal} | {row.p99_ratio:.2f} | {row.ours_p99_us:,.0f} | {holds} |"
        )
    return "\n".join(lines)
