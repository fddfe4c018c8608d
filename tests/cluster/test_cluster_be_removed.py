"""A member that leaves knows whether it has, whatever became of the primary's answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator

import pytest

from conclave import faults
from conclave.cluster import cluster_operations
from conclave.cluster.cluster_operations import be_removed
from conclave.cluster.configuration import Standing
from conclave.cluster.link.hello import LinkRefused, Verdict, anonymous_hello
from conclave.errors import ConclaveError, NotAllowed, Unavailable

LOST = Unavailable(faults.MEMBERS_UNREACHABLE, "the connection was given up")


def refused(reason: str) -> LinkRefused:
    verdict = Verdict(False, faults.EPOCH_STALE.rest_id, "not in the cluster", reason=reason)
    hello = anonymous_hello("calls")
    return LinkRefused(verdict, hello, None, by_peer=True, peer_verdict=verdict)


def asked(*answers: ConclaveError | None) -> tuple[Callable[[], Awaitable[None]], Iterator[object]]:
    left = iter(answers)

    async def ask() -> None:
        answer = next(left)
        if answer is not None:
            raise answer

    return ask, left


@pytest.mark.parametrize("answers", [(None,), (LOST, None), (LOST, refused(Standing.LEFT.value))])
def test_a_leave_whose_answer_is_lost_is_asked_for_again(
    answers: tuple[ConclaveError | None, ...],
) -> None:
    ask, left = asked(*answers)
    asyncio.run(be_removed(ask))
    assert list(left) == []


@pytest.mark.parametrize(
    "error",
    [refused("deleted"), NotAllowed(faults.MEMBER_NOT_VISIBLE, "this one is not primary")],
)
def test_a_leave_that_is_refused_fails(error: ConclaveError) -> None:
    ask, _ = asked(LOST, error)
    with pytest.raises(type(error)):
        asyncio.run(be_removed(ask))


def test_a_primary_that_stays_away_ends_a_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_operations, "ASK_AGAIN_SECONDS", 0.0)
    ask, _ = asked(LOST, LOST)
    with pytest.raises(Unavailable):
        asyncio.run(be_removed(ask))
