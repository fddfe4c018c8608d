"""What a cluster campaign found, and its report: pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from campaigns.cluster_history import History


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a campaign found; stalls are seconds by the kind of fault that was on."""

    seed: int
    seconds: float
    members: int
    history: History
    broken: list[str]
    write_stalls: dict[str, float]
    sign_stalls: dict[str, dict[str, float]]
    """By who signed."""
    slowest_signatures: dict[str, float]
    """By application: how long its slowest signature took, seconds."""
    slowest_heal: float

    @property
    def clean(self) -> bool:
        """Tell whether every promise was kept, and there was something to keep."""
        return not self.broken and self.history.counts["creates"] > 0


def _listed(numbers: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {number:.1f}" for name, number in sorted(numbers.items()))


def _counted(numbers: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {number}" for name, number in sorted(numbers.items()))


def report(outcome: Outcome, commit: str) -> list[str]:
    """Return the lines of the report."""
    history, counts = outcome.history, outcome.history.counts
    faults = sum(history.faults.values())
    looks = sum(number for name, number in counts.items() if name.startswith("looks "))
    signed = {
        name.removeprefix("signatures of "): number
        for name, number in counts.items()
        if name.startswith("signatures of ")
    }
    signatures = sum(signed.values()) + counts["signatures by workers"]
    return [
        "# Campaign: cluster",
        "",
        f"Random faults in a cluster of {outcome.members} members, each with its own PostgreSQL"
        " and worker, under",
        "creates, deletes, password changes, logins and signatures at random members, and under",
        "applications that sign through the PKCS#11 module. After each acknowledgement and after",
        "each fault the visible members are compared with what was acknowledged.",
        "",
        f"- commit {commit}, seed {outcome.seed}, {outcome.seconds:.0f} s,"
        f" {60 * faults / max(outcome.seconds, 1):.1f} faults a minute",
        f"- faults: {faults}: {_counted(history.faults)}",
        f"- acknowledged: {counts['creates']} creates, {counts['deletes']} deletes,"
        f" {counts['password changes']} password changes, {counts['logins']} logins;"
        f" {counts['repeated']} answered from the record of an earlier attempt;"
        f" through workers {counts['keys created']} keys made, {counts['keys deleted']} deleted",
        f"- checked: {looks} looks at a member's store, {counts['objects compared']} objects;"
        f" {counts['refusals to sign with a deleted key']} attempts to sign with a deleted key;"
        f" {counts['observations of a primary']} observations of a primary in"
        f" {len(history.primaries)} epochs",
        f"- signatures verified: {signatures}: {_counted(signed)}, at chosen members"
        f" {counts['signatures by workers']}",
        f"- wrong signatures: {counts['wrong signature']}, failed signatures of applications:"
        f" {counts['failed signature']}",
        f"- missing: {counts['missing']}, deleted but present: {counts['undead']},"
        f" deleted but signing: {counts['deleted key signs']},"
        f" read-your-writes: {counts['read-your-writes']},"
        f" changed: {counts['changed']}, wrong passwords: {counts['password']},"
        f" written twice: {counts['idempotency']};"
        f" deletions forced after refusals: {counts['deletions forced']}",
        f"- longest time without an acknowledged write, s: {_listed(outcome.write_stalls)}",
        *(
            f"- longest time without a signature, {name}, s: {_listed(stalls)}"
            for name, stalls in sorted(outcome.sign_stalls.items())
        ),
        f"- slowest signature of an application, s: {_listed(outcome.slowest_signatures)}",
        f"- slowest return of a whole cluster after a fault: {outcome.slowest_heal:.1f} s",
        f"- broken promises: {len(outcome.broken)}",
        *(f"  - {sentence}" for sentence in outcome.broken[:20]),
        "",
    ]
