"""Members that are cut off from each other by the network, and go on as they are set to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from conclave import faults
from conclave.cluster import extra_rows
from conclave.cluster.epochs import Epoch
from conclave.cluster.member_state import FILE_NAME, MemberStateFile
from conclave.demo.isolation import heal, isolate
from conclave.service.messages import DeleteMember, PromoteMember
from tests.cluster.test_cluster_members import (
    has_all,
    invisible,
    make,
    notice,
    refusal,
    with_three,
)
from tests.support.cluster_bench import ClusterBench
from tests.support.several import Several, until

pytestmark = pytest.mark.system


@contextmanager
def cut_off(bench: ClusterBench, others: list[ClusterBench]) -> Iterator[None]:
    """Cut a member off from others at the link."""
    isolate(bench.address, [other.address for other in others], bench.core_port)
    try:
        yield
    finally:
        heal([bench.address])


async def sees_nobody(house: Several, at: ClusterBench) -> None:
    async def alone() -> bool:
        seen = (await house.seen_by(at)).values()
        return not any(member.visible for member in seen if member.member_id != at.member_id)

    await until(alone)


@with_three
async def test_a_strict_primary_that_sees_nobody_stops_writing_until_it_sees_somebody(
    house: Several,
) -> None:
    first, second, third = house.members
    first.kill("cluster")
    first.strict_primary = True
    first.start_cluster(with_smk=True)
    await house.all_read_write()
    with cut_off(first, [second]):
        await make(first, "with-one")  # one other is enough
    with cut_off(first, [second, third]):
        await sees_nobody(house, first)

        async def closed() -> bool:
            return not (await house.seen_by(first))[first.member_id].read_write

        await until(closed)
        error = await refusal(first.make_keyrings("refused"))
        assert error.fault is faults.MEMBER_READ_ONLY
        await has_all(first, ["before", "with-one"])
    await house.all_read_write()
    await make(first, "again")
    await has_all(third, ["before", "with-one", "again"])


@with_three
async def test_a_primary_that_sees_nobody_goes_on_writing_by_default(house: Several) -> None:
    first, second, third = house.members
    with cut_off(first, [second, third]):
        await sees_nobody(house, first)
        await make(first, "alone")
        error = await refusal(second.make_keyrings("refused"))
        assert error.fault is faults.MEMBER_READ_ONLY
    await house.all_read_write()
    await has_all(second, ["before", "alone"])


def lives_in(bench: ClusterBench) -> Epoch:
    state = MemberStateFile(bench.directory / FILE_NAME).load()
    assert state is not None
    return state.epoch


@with_three
async def test_c19_of_two_sides_that_deleted_each_other_the_one_that_cannot_be_followed_gives_way(
    house: Several,
) -> None:
    """Its epoch is the higher one of the same number, and it is told all the same."""
    cut, *others = sorted(house.members, key=lambda bench: bench.member_id, reverse=True)
    promotion = PromoteMember(member_id=cut.member_id)
    await others[0].daemon.call("promote", promotion, timeout_seconds=20)
    await house.all_read_write()
    with cut_off(cut, others):
        await invisible(house, cut, others[0])
        for bench in others:
            await invisible(house, bench, cut)
        theirs = DeleteMember(member_id=others[0].member_id, force=True)
        ours = DeleteMember(member_id=cut.member_id, force=True)
        await cut.daemon.call("delete_member", theirs, timeout_seconds=30)
        await others[0].daemon.call("delete_member", ours, timeout_seconds=30)
        await make(cut, "extra")
        await make(others[1], "instead")
        first, second = lives_in(cut), lives_in(others[0])
        assert first.number == second.number
        assert first > second

    async def knows() -> bool:
        return (await notice(cut)).removed == "deleted"

    await until(knows)
    error = await refusal(cut.make_keyrings("refused"))
    assert error.fault in (faults.MEMBER_NOT_AUTHORIZED, faults.MEMBER_READ_ONLY)
    await make(others[0], "after")
    await has_all(others[1], ["before", "instead", "after"])
    (path,) = (cut.directory / extra_rows.DIRECTORY).iterdir()
    rows = extra_rows.load(path)
    assert "extra" in [each.row.label for each in rows if isinstance(each, extra_rows.Keyring)]
