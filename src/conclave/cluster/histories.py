"""Where the stores of two members part: a function of the epochs and forks that each knows.

A history is the chain of epochs that a store went through, and the forks in it: the deletions of a
primary, which may have gone on without being asked.  Epochs are unique, numbers are not: both sides
of a fork number on from where it began, so a greater number tells of no later history.

Invariants:

1. Two histories share a beginning.  The newest epoch that both have is in it, and what parted them
   is a fork of one of them, or of both, after that epoch.
2. So they are one at least up to the lowest revision of those forks; where it is not known which
   epoch they share, of all forks.  Too low a revision exports too much, which does no harm.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from conclave.cluster.epochs import Epoch

KEPT_EPOCHS: Final = 64

Parted = tuple[tuple[Epoch, int], ...]
"""Epochs of a history that was given up, and up to which revision it surely is the present one."""


@dataclass(frozen=True, slots=True)
class History:
    """The last epochs of a store, oldest first, and the forks, each by its epoch's number."""

    epochs: tuple[Epoch, ...] = ()
    forks: tuple[tuple[int, int], ...] = ()


def _shared(mine: History, theirs: History) -> int:
    """Return the number of the newest epoch that both have, 0 when none is known."""
    return max((epoch.number for epoch in mine.epochs if epoch in theirs.epochs), default=0)


def parting(mine: History, theirs: History) -> int | None:
    """Return up to which revision two stores surely are one.

    None when nothing forked after the newest epoch that both have: one only goes on where the other
    ends.
    """
    shared = _shared(mine, theirs)
    forks = (*mine.forks, *theirs.forks)
    return min((revision for number, revision in forks if number > shared), default=None)


def parted(before: Parted, mine: History, theirs: History) -> Parted:
    """Return what is to be remembered of histories given up when theirs is lived in from now on."""
    revision = parting(mine, theirs)
    if revision is None:
        return before
    shared = _shared(mine, theirs)
    gone = {epoch: revision for epoch in mine.epochs if epoch.number > shared}
    kept = {epoch: min(above, revision) for epoch, above in before}
    return tuple((gone | kept).items())[-KEPT_EPOCHS:]


def fork_above(history: History, given_up: Parted, epoch: Epoch) -> int | None:
    """Return up to which revision a copy of that epoch has what the present primary has.

    None when no primary was deleted since: then a copy has nothing that the primary lacks.
    """
    if epoch in history.epochs:
        return parting(History((epoch,)), history)
    known = dict(given_up)
    if epoch in known:
        return known[epoch]
    return min((*(revision for _, revision in history.forks), *known.values()), default=None)
