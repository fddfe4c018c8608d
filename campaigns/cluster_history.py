"""What a cluster campaign remembers, and what it concludes from it: pure, without a clock.

Invariant: only what is certain counts.  An object is expected to be there, or not to be there, from
the answer of its last write on; while a write's outcome is unknown, or the object was touched
during the look, nothing is concluded.
"""

from __future__ import annotations

import enum
import itertools
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from conclave.errors import Ckr

Epoch = tuple[int, str]
Name = tuple[bytes, bytes]
"""Keyring id, object id."""


class Expected(enum.Enum):
    """What a look must find of an object."""

    PRESENT = "present"
    ABSENT = "absent"
    OPEN = "open"
    """A write is under way, or ended without an answer."""


class KeyExpected(enum.Enum):
    """What a visible member must do when it is asked to sign with a key."""

    SIGNS = "signs"
    GONE = "gone"


GONE: Final = (Ckr.OBJECT_HANDLE_INVALID, Ckr.KEY_HANDLE_INVALID)
"""Answers that say that there is no such key."""


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of one object; `revision` counts with PRESENT only."""

    expected: Expected
    revision: int = 0
    write: int = 0
    """How many writes of this object had begun."""


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """One acknowledged write: by which member, with which revision, when (seconds)."""

    member_id: str
    epoch: Epoch
    revision: int
    at: float


@dataclass
class History:
    """What was done, and every promise that was broken, as sentences."""

    objects: dict[Name, Known] = field(default_factory=dict)
    acknowledged: list[Acknowledged] = field(default_factory=list)
    primaries: dict[Epoch, set[str]] = field(default_factory=dict)
    led: list[tuple[float, Epoch, str, str]] = field(default_factory=list)
    """When somebody was first seen as primary of an epoch, in seconds, and where that was said."""
    counts: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    fault_times: list[tuple[float, float, str]] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)

    def begin(self, name: Name) -> None:
        """Take note that a write of an object begins."""
        known = self.objects.get(name, Known(Expected.ABSENT))
        self.objects[name] = Known(Expected.OPEN, known.revision, known.write + 1)

    def settle(self, name: Name, expected: Expected, revision: int = 0) -> None:
        """Take note of how the last write of an object ended."""
        self.objects[name] = Known(expected, revision, self.objects[name].write)

    def acknowledge(self, answer: Acknowledged) -> None:
        """Take note of an acknowledgement."""
        self.acknowledged.append(answer)

    def see_primary(self, epoch: Epoch, primary: str, where: str, at: float) -> None:
        """Take note of who is primary in an epoch according to somebody, at a time in seconds."""
        self.counts["observations of a primary"] += 1
        known = self.primaries.setdefault(epoch, set())
        if primary not in known:
            known.add(primary)
            self.led.append((at, epoch, primary, where))

    def expectations(self, keyring: bytes) -> dict[Name, Known]:
        """Return what is known now of a keyring's objects."""
        return {name: known for name, known in self.objects.items() if name[0] == keyring}

    def complain(self, kind: str, sentence: str) -> None:
        """Record a broken promise."""
        self.counts[kind] += 1
        self.broken.append(f"{kind}: {sentence}")


@dataclass(frozen=True, slots=True)
class Findings:
    """What a look at one keyring found wrong."""

    missing: list[Name]
    undead: list[Name]
    changed: list[Name]
    checked: int


def compare(
    before: Mapping[Name, Known], after: Mapping[Name, Known], seen: Mapping[Name, int]
) -> Findings:
    """Compare what a member holds with what was certain before and still after the look.

    `seen` maps each object of the keyring to its revision.
    """
    missing, undead, changed, checked = [], [], [], 0
    for name, known in before.items():
        if after.get(name) != known or known.expected is Expected.OPEN:
            continue
        checked += 1
        if known.expected is Expected.PRESENT and name not in seen:
            missing.append(name)
        elif known.expected is Expected.ABSENT and name in seen:
            undead.append(name)
        elif known.expected is Expected.PRESENT and seen[name] != known.revision:
            changed.append(name)
    return Findings(missing, undead, changed, checked)


def judge(value: int, expected: KeyExpected) -> str:
    """Return which promise a member's answer to a signature has broken, "" when none.

    Only a signature, and the answer that there is no such key, say anything of the key.
    """
    if expected is KeyExpected.SIGNS and value in GONE:
        return "read-your-writes"
    if expected is KeyExpected.GONE and value == Ckr.OK:
        return "deleted key signs"
    return ""


def unknown_objects(after: Mapping[Name, Known], seen: Iterable[Name]) -> list[Name]:
    """Return objects that nobody wrote."""
    return [name for name in seen if name not in after]


def twice_numbered(acknowledged: Iterable[Acknowledged]) -> list[int]:
    """Return the revisions that more than one write got: two members have written at once."""
    numbers = Counter(answer.revision for answer in acknowledged)
    return sorted(number for number, times in numbers.items() if times > 1)


def doubly_led(primaries: Mapping[Epoch, set[str]]) -> list[Epoch]:
    """Return the epochs in which more than one member was taken for the primary."""
    return sorted(epoch for epoch, members in primaries.items() if len(members) > 1)


def longest_stalls(
    moments: Iterable[float], faults: Iterable[tuple[float, float, str]]
) -> dict[str, float]:
    """Return the longest time without an acknowledgement for each kind of fault, seconds.

    A gap counts for every fault that began in it or before it and had not ended when it began; a
    gap beside every fault counts as "none".
    """
    stalls: dict[str, float] = {}
    times = sorted(moments)
    spans = sorted(faults)
    for begin, end in itertools.pairwise(times):
        kinds = {kind for since, until, kind in spans if since < end and until > begin}
        for kind in kinds or {"none"}:
            stalls[kind] = max(stalls.get(kind, 0.0), end - begin)
    return stalls


def verdict(history: History) -> list[str]:
    """Return every broken promise of a run."""
    broken = list(history.broken)
    broken += [
        f"epoch: {number}, opened by {promoter}, had several primaries:"
        f" {', '.join(sorted(history.primaries[number, promoter]))}"
        for number, promoter in doubly_led(history.primaries)
    ]
    numbers = twice_numbered(history.acknowledged)
    broken += [f"revision: {number} was acknowledged for several writes" for number in numbers]
    return broken


def moment() -> str:
    """Return the time as logs write it."""
    return time.strftime("%H:%M:%S", time.gmtime()) + f"{time.time() % 1:.3f}"[1:]
