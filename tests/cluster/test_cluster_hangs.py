"""Members and PostgreSQL that hang or die at a bad moment: the others go on (rule C27)."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from conclave import faults
from conclave.cluster import extra_rows
from conclave.cluster.member_state import FILE_NAME
from conclave.ids import KeyringId
from conclave.service.messages import DeletedMember, DeleteMember, NamedKeyring
from conclave.service.quiet import Nothing
from conclave.store.postgresql import account as accounts
from conclave.store.postgresql.server import processes_in
from tests.cluster.test_cluster_members import (
    has_all,
    invisible,
    make,
    notice,
    refusal,
    with_none,
    with_three,
)
from tests.support.cluster_bench import ClusterBench, id_of
from tests.support.several import Several, until

pytestmark = [pytest.mark.system, pytest.mark.spread]


@with_three
async def test_c27_two_members_that_die_together_stop_nobody(house: Several) -> None:
    first, second, third = house.members
    second.kill("cluster")
    third.kill("cluster")
    await make(first, "alone")
    second.start_cluster()
    third.start_cluster()
    await house.all_read_write()
    await has_all(third, ["before", "alone"])


def stop_postgresql(bench: ClusterBench) -> None:
    """Let the PostgreSQL of a member hang: every process of it, and no connection is closed."""
    for pid in postgresql_of(bench):
        os.kill(pid, signal.SIGSTOP)


def postgresql_of(bench: ClusterBench) -> list[int]:
    """Return all processes of a member's PostgreSQL."""
    pids = processes_in(accounts.directories(bench.directory, accounts.find()).data)
    assert pids
    return list(pids)


def command_line(pid: int) -> str:
    """Return what a process is called."""
    return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")


@with_three
async def test_c27_a_hung_postgresql_of_the_primary_is_started_anew(house: Several) -> None:
    first, second, third = house.members
    stop_postgresql(first)
    await make(second, "afterwards")
    await house.all_read_write()
    await has_all(third, ["before", "afterwards"])


@with_three
async def test_c27_a_hung_postgresql_of_another_member_comes_back(house: Several) -> None:
    first, _, third = house.members
    stop_postgresql(third)
    await make(first, "meanwhile")
    await house.all_read_write()
    await has_all(third, ["before", "meanwhile"])


@with_three
async def test_a_copy_that_receives_but_replays_nothing_is_mended(house: Several) -> None:
    first, _, third = house.members
    (startup,) = [pid for pid in postgresql_of(third) if "startup" in command_line(pid)]
    os.kill(startup, signal.SIGSTOP)
    await make(first, "meanwhile")
    await house.all_read_write()
    await has_all(third, ["before", "meanwhile"])


@with_three
async def test_a_member_that_joins_while_another_one_leaves_is_listed(house: Several) -> None:
    first, second, third = house.members
    newcomer = await house.alone()
    stop_postgresql(second)
    leaving = asyncio.create_task(third.daemon.call("leave", Nothing(), timeout_seconds=90))
    await house.join_with(newcomer, first)
    await leaving
    house.members.remove(third)
    try:
        await house.all_read_write()
    finally:
        house.members.append(third)


def is_connected(caller: str, called: str) -> bool:
    """Tell whether there is a TCP connection from one IPv4 address to another."""
    wanted = [socket.inet_aton(address)[::-1].hex().upper() for address in (caller, called)]
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        local, remote, state = line.split()[1:4]
        ends = [end.partition(":")[0] for end in (local, remote)]
        if state == "01" and ends == wanted:
            return True
    return False


@with_three
async def test_c3_every_member_ends_the_connections_of_a_deleted_one(house: Several) -> None:
    first, second, third = house.members
    assert is_connected(third.address, second.address)
    third.processes["cluster"].send_signal(signal.SIGSTOP)
    await invisible(house, first, third)
    await invisible(house, second, third)
    request = DeleteMember(member_id=third.member_id)
    deleted: DeletedMember = await first.daemon.call("delete_member", request, timeout_seconds=90)
    assert deleted.not_reached == []

    async def cut() -> bool:
        return not is_connected(third.address, second.address)

    await until(cut)
    third.processes["cluster"].send_signal(signal.SIGCONT)

    async def knows() -> bool:
        return (await notice(third)).removed == "deleted"

    await until(knows)


@with_three
async def test_c18_a_deleted_primary_exports_what_only_it_has(house: Several) -> None:
    first, second, third = house.members
    await make(first, "discarded")
    discarded = id_of(await second.show("discarded"))
    for bench in (second, third):
        bench.kill("cluster")
    await make(first, "extra")
    await make(first, "fleeting")
    for label in ("discarded", "fleeting"):
        await first.daemon.call("delete_keyring", NamedKeyring(name=label))
    registered = await first.register("late")
    first.kill("cluster")
    for bench in (second, third):
        bench.start_cluster()
        await bench.ready()
    await second.authorize()
    await invisible(house, second, first)
    await invisible(house, third, first)
    request = DeleteMember(member_id=first.member_id)
    await second.daemon.call("delete_member", request, timeout_seconds=90)
    await make(third, "instead")
    first.start_cluster()

    async def knows() -> bool:
        return (await notice(first)).removed == "deleted"

    await until(knows)
    (path,) = (first.directory / extra_rows.DIRECTORY).iterdir()
    assert path.stat().st_mode & 0o777 == 0o600
    header, *rows = extra_rows.load(path)
    assert isinstance(header, extra_rows.Header)
    assert header.member_id == first.member_id
    labels = [each.row.label for each in rows if isinstance(each, extra_rows.Keyring)]
    assert labels == ["extra"]
    clients = [each.row.common_name for each in rows if isinstance(each, extra_rows.Client)]
    assert registered.client.common_name in clients
    assert [each.user_id for each in rows if isinstance(each, extra_rows.User)] == ["admin"]
    assert b"verifier" not in path.read_bytes()
    held = [
        extra_rows.Held(KeyringId(id_of(shown)), None, 1)
        for shown in [await second.show(label) for label in ("before", "discarded")]
    ]
    gone = extra_rows.deleted_here([header, *rows], held)
    assert [row.keyring_id for row in gone] == [discarded]


@with_none
async def test_a_joiner_that_dies_while_it_commits_is_listed_or_free(house: Several) -> None:
    first = await house.first()
    joiner = await house.prepare_join(first)
    commit = asyncio.create_task(joiner.daemon.call("join_commit", Nothing(), timeout_seconds=90))

    async def has_begun() -> bool:
        return (joiner.directory / FILE_NAME).exists()

    await until(has_begun)
    joiner.kill("cluster")
    assert (await refusal(commit)).fault is faults.OUTCOME_UNKNOWN
    joiner.start_cluster()

    async def settled() -> bool:
        listed = len(await house.seen_by(first)) == 2
        return listed or (await notice(joiner)).removed == "left"

    await until(settled)
    if len(await house.seen_by(first)) == 1:
        await house.join_with(joiner, first)
    await house.all_read_write()


@with_three
async def test_c18_a_copy_that_forked_is_exported_before_it_is_mended(house: Several) -> None:
    third = house.members[2]
    await forked(house, lambda: third.kill("cluster"), third.start_cluster)


@with_three
async def test_c18_a_copy_that_forked_while_it_ran_is_mended_too(house: Several) -> None:
    """PostgreSQL asks again and again for a log that there is no more: it never says so."""
    cluster = house.members[2].processes["cluster"]
    await forked(
        house,
        lambda: cluster.send_signal(signal.SIGSTOP),
        lambda: cluster.send_signal(signal.SIGCONT),
    )


def data_of(bench: ClusterBench) -> Path:
    """Return the data of a member's PostgreSQL."""
    return accounts.directories(bench.directory, accounts.find()).data


@with_three
async def test_c18_a_copy_that_forked_and_cannot_be_read_is_kept_whole(house: Several) -> None:
    third = house.members[2]

    def halt() -> None:
        third.kill("cluster")
        (data_of(third) / "global/pg_control").unlink()

    await replaced(house, halt, third.start_cluster)
    (kept,) = (third.directory / extra_rows.DIRECTORY).iterdir()
    assert kept.name.startswith("postgresql-")
    assert (kept / "PG_VERSION").exists()
    assert not (kept / "global/pg_control").exists()


@with_three
async def test_c18_a_copy_that_was_rewound_in_part_is_neither_started_nor_promoted(
    house: Several,
) -> None:
    """It has no lesser log than the others, and would start as if nothing had been."""
    first, second, third = house.members
    third.kill("cluster")
    mark = accounts.rewinding_mark(data_of(third))
    mark.touch()
    first.kill("cluster")
    third.start_cluster()
    await third.ready()
    request = DeleteMember(member_id=first.member_id, force=False)
    answers: list[DeletedMember] = []

    async def deleted() -> bool:
        answers.append(await second.daemon.call("delete_member", request, timeout_seconds=90))
        return True

    await until(deleted)
    assert answers[-1].promoted_id == second.member_id
    await make(second, "instead")

    async def replaces() -> bool:
        await has_all(third, ["before", "instead"])
        return not mark.exists()

    await until(replaces, 60)


async def holds(bench: ClusterBench, labels: list[str]) -> bool:
    """Tell that a member has keyrings of these labels."""
    await has_all(bench, labels)
    return True


async def replaced(house: Several, halt: Callable[[], None], resume: Callable[[], None]) -> None:
    """Let the third member have more than the one that is made primary while it is halted."""
    first, second, third = house.members
    second.kill("cluster")
    await make(first, "extra")
    first.kill("cluster")
    halt()
    second.start_cluster()
    await second.ready()
    await second.authorize()
    request = DeleteMember(member_id=first.member_id, force=True)

    async def deleted() -> bool:
        await second.daemon.call("delete_member", request, timeout_seconds=90)
        return True

    await until(deleted)
    await make(second, "instead")
    resume()

    async def mended() -> bool:
        view = (await house.seen_by(second))[third.member_id]
        return view.visible and (await third.show("instead")).label == "instead"

    await until(mended, 150)  # a mend that fails is tried again after up to a minute
    # A mend that ends just then opens the store anew.
    await until(lambda: holds(third, ["before", "instead"]))


async def forked(house: Several, halt: Callable[[], None], resume: Callable[[], None]) -> None:
    """Let the third member have more than the new primary, and export it before it is mended."""
    third = house.members[2]
    await replaced(house, halt, resume)
    (path,) = (third.directory / extra_rows.DIRECTORY).iterdir()
    _, *rows = extra_rows.load(path)
    assert [each.row.label for each in rows if isinstance(each, extra_rows.Keyring)] == ["extra"]
