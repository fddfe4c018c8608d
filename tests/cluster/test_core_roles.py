"""A late change of role does what the state says then, not what it was begun for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from conclave import faults
from conclave.cluster.link.streams import StreamPair
from conclave.cluster.link.tunnel import Tunnel
from conclave.cluster.replication import Replication
from conclave.cluster.replication_base import Places
from conclave.cluster.store_handle import StoreHandle
from conclave.errors import Conflict
from conclave.ids import MemberId
from conclave.store.location import StoreLocation
from conclave.store.postgresql import account as accounts
from conclave.store.postgresql.instance import Instance

A = MemberId("00000000-0000-4000-8000-00000000000a")


def never() -> Instance:
    """Stand where PostgreSQL is found: nothing here may go so far."""
    pytest.fail("PostgreSQL was touched")


async def nowhere() -> StreamPair:
    pytest.fail("somebody was asked for a copy")


def replication(directory: Path, may_lead: Callable[[], bool]) -> Replication:
    account = accounts.find()
    places = Places(
        StoreLocation(directory),
        directory / "store.db",
        accounts.Directories(directory / "data", directory / "run"),
    )
    return Replication(
        places,
        never,
        Tunnel(directory, nowhere),
        StoreHandle(lambda _touched: None),
        member_id=A,
        account=account,
        on_open=lambda _revision: None,
        may_lead=may_lead,
    )


def progress(_step: str, _fraction: float) -> None:
    return


def test_who_was_made_primary_meanwhile_is_neither_made_a_copy_nor_replaced(tmp_path: Path) -> None:
    async def run() -> None:
        here = replication(tmp_path, lambda: True)
        await here.follow()
        for change in (here.mend, here.copy_anew):
            with pytest.raises(Conflict) as caught:
                await change(progress)
            assert caught.value.fault is faults.EPOCH_STALE

    asyncio.run(run())


def test_who_gave_its_epoch_up_meanwhile_does_not_lead(tmp_path: Path) -> None:
    async def run() -> None:
        here = replication(tmp_path, lambda: False)
        with pytest.raises(Conflict) as caught:
            await here.lead(None, [])
        assert caught.value.fault is faults.EPOCH_STALE
        assert not here.leads

    asyncio.run(run())
