"""Which fault strikes which member when: all of it follows from the seed.

Invariant: a plan is made of rounds, and every kind comes first once in each round; so after n
rounds each kind has struck at least n times.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

TWO_AT_ONCE: Final = 0.2


@dataclass(frozen=True, slots=True)
class Blow:
    """One fault at one member; `member` counts members in the order in which they joined."""

    kind: str
    member: int
    seed: str

    def chance(self) -> random.Random:
        """Return what the fault decides with: the same for the same blow of the same plan."""
        return random.Random(self.seed)


@dataclass(frozen=True, slots=True)
class Strike:
    """Blows that come at once, after a calm of 0 to 1 of the longest."""

    number: int
    calm: float
    blows: tuple[Blow, ...]


def strikes(
    seed: int, kinds: Sequence[str], *, passing: Sequence[str], members: int
) -> Iterator[Strike]:
    """Yield strikes without end; those of `passing` kinds sometimes come two at once."""
    chance = chance_of(seed, "plan")
    number = 0
    while True:
        for kind in chance.sample(kinds, len(kinds)):
            number += 1
            chosen = [kind]
            if kind in passing and chance.random() < TWO_AT_ONCE:
                chosen.append(chance.choice(passing))
            places = chance.sample(range(members), len(chosen))
            blows = tuple(
                Blow(one, place, f"{seed} {number} {place}")
                for one, place in zip(chosen, places, strict=True)
            )
            yield Strike(number, chance.random(), blows)


def chance_of(seed: int, who: str) -> random.Random:
    """Return the decisions of one client: they do not depend on when the others make theirs."""
    return random.Random(f"{seed} {who}")
