"""Clusters of several members: real cluster processes, real PostgreSQL, real links on loopback."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from conclave import faults
from conclave.errors import ConclaveError
from conclave.service.messages import (
    DeletedMember,
    DeleteMember,
    MemberReport,
    Notice,
    PromoteMember,
    SetGroup,
    Watch,
)
from conclave.service.quiet import Nothing
from conclave.store.location import StoreLocation
from tests.support.cluster_bench import ClusterBench
from tests.support.held_postgresql import held_postgresql
from tests.support.several import Several, several, until

pytestmark = [pytest.mark.system, pytest.mark.spread]


async def refusal(work: Awaitable[object]) -> ConclaveError:
    """Return the error that a call ends with."""
    with pytest.raises(ConclaveError) as caught:
        await work
    return caught.value


async def make(bench: ClusterBench, label: str) -> None:
    """Create a keyring, coming again while the cluster says that it is busy."""

    async def made() -> bool:
        return bool(await bench.make_keyrings(label, key=label.encode().ljust(16, b".")))

    await until(made)


async def has_all(bench: ClusterBench, labels: list[str]) -> None:
    for label in labels:
        assert (await bench.show(label)).label == label


async def notice(bench: ClusterBench) -> Notice:
    answer: Notice = await bench.daemon.call("watch", Watch(seen=0, seconds=1))
    return answer


async def primary_of(house: Several, at: ClusterBench) -> ClusterBench:
    view = await house.seen_by(at)
    primary = next(member.member_id for member in view.values() if member.primary)
    return next(bench for bench in house.members if bench.member_id == primary)


async def invisible(house: Several, at: ClusterBench, gone: ClusterBench) -> None:
    async def condition() -> bool:
        return not (await house.seen_by(at))[gone.member_id].visible

    await until(condition)


def with_three(scenario: Callable[[Several], Awaitable[None]]) -> Callable[[Path], None]:
    """Run a test in a cluster of three members, of which the last joined at the second."""

    async def run(directory: Path) -> None:
        async with several(directory) as house:
            first = await house.first()
            await make(first, "before")
            second = await house.join(first)
            await house.join(second)
            await house.all_read_write()
            await scenario(house)

    def test(tmp_path: Path) -> None:
        asyncio.run(run(tmp_path))

    test.__name__ = scenario.__name__
    return test


def with_none(scenario: Callable[[Several], Awaitable[None]]) -> Callable[[Path], None]:
    """Run a test in a house without members."""

    async def run(directory: Path) -> None:
        async with several(directory) as house:
            await scenario(house)

    def test(tmp_path: Path) -> None:
        asyncio.run(run(tmp_path))

    test.__name__ = scenario.__name__
    return test


@with_three
async def test_every_member_writes_and_reads_what_another_one_wrote(house: Several) -> None:
    labels = ["before"]
    for number, bench in enumerate(house.members):
        await make(bench, f"w{number}")
        labels.append(f"w{number}")
        for other in house.members:
            await has_all(other, labels)
    view = await house.seen_by(house.members[1])
    assert [view[bench.member_id].primary for bench in house.members] == [True, False, False]
    assert [view[bench.member_id].local for bench in house.members] == [False, True, False]


@with_three
async def test_a_promotion_loses_nothing_and_any_member_may_ask_for_it(house: Several) -> None:
    first, second, third = house.members
    for target in (second, third, first):
        request = PromoteMember(member_id=target.member_id)
        await second.daemon.call("promote", request, timeout_seconds=90)
        await make(third, f"after-{house.members.index(target)}")
        await house.all_read_write()
        assert await primary_of(house, first) is target
    for bench in house.members:
        await has_all(bench, ["before", "after-0", "after-1", "after-2"])


@with_three
async def test_c27_a_killed_and_a_hung_member_do_not_stop_the_others(house: Several) -> None:
    first, second, third = house.members
    third.kill("cluster")
    await make(first, "without-third")
    third.start_cluster()
    await house.all_read_write()
    await has_all(third, ["without-third"])
    hung = second.processes["cluster"]
    hung.send_signal(signal.SIGSTOP)
    await make(third, "while-hung")
    await invisible(house, first, second)
    hung.send_signal(signal.SIGCONT)
    await house.all_read_write()
    await has_all(second, ["while-hung"])


@with_three
async def test_without_the_primary_the_others_are_read_only(
    house: Several,
) -> None:
    first, second, third = house.members
    first.kill("cluster")

    async def read_only() -> bool:
        view = await house.seen_by(second)
        return not any(member.read_write for member in view.values())

    await until(read_only)
    error = await refusal(third.make_keyrings("refused"))
    assert error.fault is faults.MEMBER_READ_ONLY
    await has_all(third, ["before"])
    first.start_cluster()
    await house.all_read_write()
    await make(third, "again")


@with_three
async def test_b1_after_all_were_killed_one_authorization_serves_all(
    house: Several,
) -> None:
    for bench in house.members:
        bench.kill("cluster")
    for bench in reversed(house.members):
        bench.start_cluster()
        await bench.ready()
    assert not any(member.authorized for member in (await house.seen_by(house.members[0])).values())
    await house.members[2].authorize()
    await house.all_read_write()
    await make(house.members[1], "again")


@with_three
async def test_c19_a_deleted_primary_is_replaced_and_then_refused(
    house: Several,
) -> None:
    first, second, third = house.members
    request = DeleteMember(member_id=first.member_id)
    error = await refusal(second.daemon.call("delete_member", request, timeout_seconds=90))
    assert error.fault is faults.MEMBER_VISIBLE
    first.kill("cluster")
    await invisible(house, second, first)
    await invisible(house, third, first)
    deleted: DeletedMember = await second.daemon.call("delete_member", request, timeout_seconds=90)
    assert deleted.promoted_id in (second.member_id, third.member_id)
    assert deleted.not_reached == []
    await make(third, "after")
    for bench in (second, third):
        await has_all(bench, ["before", "after"])
    first.start_cluster()

    async def knows() -> bool:
        return (await notice(first)).removed == "deleted"

    await until(knows)
    error = await refusal(first.make_keyrings("refused"))
    assert error.fault in (faults.MEMBER_NOT_AUTHORIZED, faults.MEMBER_READ_ONLY)


@with_three
async def test_a_deletion_needs_all_remaining_members_or_force(house: Several) -> None:
    first, second, third = house.members
    for bench in (second, third):
        bench.kill("cluster")
        await invisible(house, first, bench)
    request = DeleteMember(member_id=third.member_id)
    error = await refusal(first.daemon.call("delete_member", request, timeout_seconds=90))
    assert error.fault is faults.MEMBERS_UNREACHABLE
    assert second.member_id in error.message
    forced = DeleteMember(member_id=third.member_id, force=True)
    deleted: DeletedMember = await first.daemon.call("delete_member", forced, timeout_seconds=90)
    assert deleted.not_reached == [second.member_id]
    assert set(await house.seen_by(first)) == {first.member_id, second.member_id}
    second.start_cluster()

    async def caught_up() -> bool:
        view = await house.seen_by(second)
        return len(view) == 2 and all(member.read_write for member in view.values())

    await until(caught_up)


@with_three
async def test_any_member_may_be_asked_to_delete_one_that_nobody_sees(house: Several) -> None:
    first, second, third = house.members
    third.kill("cluster")
    for bench in (first, second):
        await invisible(house, bench, third)
    request = DeleteMember(member_id=third.member_id)
    await second.daemon.call("delete_member", request, timeout_seconds=90)
    assert set(await house.seen_by(first)) == {first.member_id, second.member_id}


@with_three
async def test_b2_a_leaving_primary_hands_over_and_may_join_again(house: Several) -> None:
    first, second, third = house.members
    await first.daemon.call("leave", Nothing(), timeout_seconds=90)
    assert (await notice(first)).removed == "left"
    assert await primary_of(house, third) in (second, third)
    await make(second, "after")
    first.page.set_authorized(False)
    await house.join_with(first, third)
    await house.all_read_write()
    await has_all(first, ["before", "after"])


@with_none
async def test_b2_the_last_member_cannot_leave(house: Several) -> None:
    first = await house.first()
    error = await refusal(first.daemon.call("leave", Nothing()))
    assert error.fault is faults.LAST_MEMBER


@with_none
async def test_c23_a_join_needs_domain_admin_and_the_right_cluster(
    house: Several,
) -> None:
    first = await house.first()
    error = await refusal(house.join(first, domain=b"another domain"))
    assert error.fault is faults.CLONING_DOMAIN_MISMATCH
    error = await refusal(house.join(first, password=b"Wrong-password-1"))
    assert error.fault is faults.JOIN_REFUSED
    told: Notice = await first.daemon.call("watch", Watch(seen=0, seconds=0))
    known = [(each.user_id, each.fault_id) for each in told.refused_joins]
    assert known == [
        ("", faults.CLONING_DOMAIN_MISMATCH.rest_id),
        ("admin", faults.JOIN_REFUSED.rest_id),
    ]
    assert told.refused_joins[0].number < told.refused_joins[1].number
    other = "00000000-0000-4000-8000-000000000000"
    error = await refusal(house.join(first, cluster_id=other))
    assert error.fault in (faults.WRONG_CLUSTER, faults.CLUSTER_NOT_FOUND)
    own_id = first.member_id
    error = await refusal(house.join_with(first, first))
    assert error.fault is faults.CLUSTER_EXISTS
    first.member_id = own_id
    assert set(await house.seen_by(first)) == {first.member_id}
    await make(first, "still-writes")


@with_three
async def test_s7_groups_and_ports_are_known_on_every_member(house: Several) -> None:
    first, second, third = house.members
    await third.daemon.call("set_group", SetGroup(member_id=second.member_id, group="far"))
    report = MemberReport(restart_required=True, admin_port=50075, crypto_port=50055)
    await third.daemon.call("report", report)

    async def known() -> bool:
        view = await house.seen_by(first)
        seen = view[third.member_id]
        return seen.restart_required and (seen.admin_port, seen.crypto_port) == (50075, 50055)

    await until(known)
    view = await house.seen_by(second)
    assert view[second.member_id].group == "far"
    assert view[first.member_id].group == "local"


@with_three
async def test_two_promotions_at_once_leave_one_primary(house: Several) -> None:
    first, second, third = house.members
    requests = [
        bench.daemon.call("promote", PromoteMember(member_id=bench.member_id), timeout_seconds=90)
        for bench in (second, third)
    ]
    await asyncio.gather(*requests, return_exceptions=True)
    await house.all_read_write()
    primaries = {(await primary_of(house, bench)).member_id for bench in house.members}
    assert len(primaries) == 1
    await make(first, "after")


@with_none
async def test_a_conversion_ends_when_its_joiner_goes_away(house: Several) -> None:
    first = await house.first()
    await make(first, "before")
    async with held_postgresql() as held:
        first.kill("cluster")
        first.postgresql_directory = str(held.directory)
        first.start_cluster(with_smk=True)
        await first.ready()
        joiner = await house.alone()
        joining = asyncio.ensure_future(house.join_with(joiner, first))
        converting = await held.waiting()
        joiner.kill("cluster")
        await refusal(joining)
        held.let_go(converting)
        await make(first, "goes-on")
        assert set(await house.seen_by(first)) == {first.member_id}
        assert StoreLocation(first.directory).choice().engine == "sqlite"
        joiner.start_cluster()
        await joiner.ready()

        async def joined() -> bool:
            await house.join_with(joiner, first)
            return True

        await until(joined)  # the store may be between two roles at a moment
        await house.all_read_write()
        await has_all(joiner, ["before", "goes-on"])
        # Its programs end with the directory: so must whoever runs them.
        await first.close()
