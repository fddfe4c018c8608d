"""Which changes of a copy the present primary may lack (rule C18)."""

from __future__ import annotations

import pytest

from conclave.cluster.configuration import KEPT_FORKS, Configuration, Peer, Standing, fork_above
from conclave.cluster.epochs import Epoch
from conclave.cluster.extra_rows import Header, Held, Line, Present, deleted_here
from conclave.ids import KeyringId, MemberId, ObjectId

A = MemberId("a")


def after(*forks: tuple[int, int]) -> Configuration:
    """Return the configuration after deletions of primaries: epoch's number, and revision."""
    configuration = Configuration(Epoch(1, A), A, ())
    for number, revision in forks:
        configuration = Configuration(Epoch(number, A), A, (), forks=configuration.forks).forked(
            revision
        )
    return configuration


@pytest.mark.parametrize(
    ("epoch", "above"),
    [(2, 10), (3, 40), (4, 40), (5, None), (6, None)],
    ids=["both", "the later", "between", "its own", "newer"],
)
def test_a_copy_is_held_against_the_first_fork_after_its_epoch(
    epoch: int, above: int | None
) -> None:
    assert fork_above(after((3, 10), (5, 40)), epoch) == above


def test_forks_are_kept_over_removals_and_in_a_bounded_number() -> None:
    configuration = after(*((number, number) for number in range(2, KEPT_FORKS + 12)))
    assert len(configuration.forks) == KEPT_FORKS
    changed = configuration.with_peer(Epoch(99, A), Peer(A, "127.0.0.1", 1, b""))
    assert changed.without(Epoch(100, A), A, Standing.LEFT, A).forks == configuration.forks


def test_what_others_have_of_before_the_fork_and_is_not_present_was_deleted_here() -> None:
    kept, gone = KeyringId(b"k" * 16), KeyringId(b"g" * 16)
    one, two = ObjectId(b"1" * 16), ObjectId(b"2" * 16)
    lines: list[Line] = [Header("c", "m", 3, "m", 40), Present(kept, [one])]
    deleted = [Held(gone, None, 7), Held(kept, two, 40)]
    held = [
        Held(kept, None, 5),
        Held(kept, one, 6),
        *deleted,
        Held(kept, two, 41),  # made anew by the others, or never here
        Held(gone, None, 41),
    ]
    assert deleted_here(lines, held) == deleted
    assert deleted_here([], [Held(gone, None, 1)]) == []
