"""Which changes of a copy the present primary may lack (rule C18)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from conclave.cluster.configuration import KEPT_FORKS, Configuration, Peer, Standing
from conclave.cluster.epochs import Epoch
from conclave.cluster.extra_rows import (
    Client,
    Header,
    Held,
    Line,
    Present,
    User,
    deleted_here,
    export,
    load,
)
from conclave.cluster.histories import History, fork_above, parted, parting
from conclave.ids import ClientId, ClusterId, KeyringId, MemberId, ObjectId
from conclave.store.repository import ClusterWriter
from conclave.store.rows import ClientRow, ClusterStateRow, UserRow
from tests.support.store_bench import store_context

A, B = MemberId("a"), MemberId("b")


def after(*forks: tuple[int, int]) -> Configuration:
    """Return the configuration after deletions of primaries: epoch's number, and revision."""
    configuration = Configuration(Epoch(1, A), A, ())
    for number, revision in forks:
        configuration = configuration.succeeded(Epoch(number, A)).forked(revision)
    return configuration


@pytest.mark.parametrize(
    ("epoch", "above"),
    [
        (Epoch(2, A), 10),
        (Epoch(3, A), 40),
        (Epoch(5, A), None),
        (Epoch(5, B), 10),
        (Epoch(6, B), 10),
    ],
    ids=["both", "the later", "its own", "the same number elsewhere", "a higher one elsewhere"],
)
def test_a_copy_is_held_against_the_forks_that_its_history_lacks(
    epoch: Epoch, above: int | None
) -> None:
    """Where nobody knows from which epoch another side went on, all forks may be what parted it."""
    assert fork_above(after((2, 10), (3, 10), (5, 40)).history, (), epoch) == above


def test_what_parted_two_histories_is_a_fork_of_either_side() -> None:
    one, other = after((2, 10), (3, 70)), after((2, 10), (3, 80))
    theirs = History((Epoch(2, A), Epoch(3, B), Epoch(4, B)), other.forks)
    assert parting(one.history, theirs) == 70
    assert parting(theirs, one.history) == 70
    assert parting(one.history, one.history) is None
    (epoch, above), *_ = parted((), one.history, theirs)
    assert (epoch, above) == (Epoch(3, A), 70)
    assert fork_above(theirs, ((epoch, above),), epoch) == 70


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


CLIENT = ClientRow(ClientId(b"c" * 16), "host", "host", "", b"k" * 32, b"", False, 0)
USER = UserRow("someone", "monitor", "", "", b"verifier", True, 1)


def create(writer: ClusterWriter) -> None:
    state = ClusterStateRow(ClusterId("c" * 36), "lab", False, 3, A, A, (A,), 1, b"", b"")
    writer.put_cluster_state(state)
    writer.insert_client(CLIENT)


@pytest.mark.parametrize(
    "change",
    [
        lambda writer: writer.revoke_client(CLIENT.client_id),
        lambda writer: writer.put_users([USER], version=0),
    ],
    ids=["client", "users"],
)
def test_c18_what_was_changed_of_clients_or_users_alone_is_exported(
    tmp_path: Path, change: Callable[[ClusterWriter], object]
) -> None:
    async def scenario() -> None:
        async with store_context(tmp_path) as context:
            await context.write(create)
            fork = await context.read(lambda reader: reader.revision())
            assert await export(context.read, tmp_path / "export", A, fork) is None
            await context.write(change)
            path = await export(context.read, tmp_path / "export", A, fork)
            assert path is not None
            lines = load(path)
            clients = await context.read(lambda reader: reader.clients())
            users = await context.read(lambda reader: reader.users())
            assert [line.row for line in lines if isinstance(line, Client)] == clients
            told = [line.user_id for line in lines if isinstance(line, User)]
            assert told == [user.user_id for user in users]

    asyncio.run(scenario())
