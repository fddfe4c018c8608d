"""Keyrings through the real channel: creating, listing, deleting, limits."""

from __future__ import annotations

import asyncio
import os
import re
from pathlib import Path

import pytest

from conclave import faults
from conclave.errors import BadInput, Conflict, Fault, LimitReached, NotFound
from conclave.service.messages import KeyringList, ListKeyrings, NamedKeyring
from conclave.service.wire import Role
from conclave.settings import Limits
from tests.support.cluster_bench import (
    FIRST,
    PASSWORD,
    ClusterBench,
    cluster_bench,
    gathered,
    id_of,
    new_object,
)

pytestmark = pytest.mark.system


async def labels(bench: ClusterBench, offset: int = 0, limit: int = 0) -> tuple[list[str], int]:
    params = ListKeyrings(offset=offset, limit=limit)
    page: KeyringList = await bench.daemon.call("list_keyrings", params)
    return [item.label for item in page.keyrings], page.total


def test_a_bulk_create_makes_all_keyrings(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with cluster_bench(tmp_path) as bench:
            names = [f"ring{number}" for number in range(100)]
            made = await bench.make_keyrings(*names)
            assert [item.label for item in made] == names
            assert [item.slot for item in made] == list(range(100))
            assert all(re.fullmatch(r"[1-9][0-9]{12}", item.serial) for item in made)
            assert len({item.serial for item in made}) == 100
            assert await labels(bench, offset=98) == (["ring98", "ring99"], 100)
            assert await labels(bench, offset=1, limit=2) == (["ring1", "ring2"], 100)

    asyncio.run(scenario())


def test_rule_k2_one_name_taken_and_nothing_is_made(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with cluster_bench(tmp_path) as bench:
            await bench.make_keyrings("ring2")
            with pytest.raises(Conflict, match="ring2") as refused:
                await bench.make_keyrings("ring1", "ring2", "ring3")
            assert refused.value.fault is faults.KEYRING_EXISTS
            assert await labels(bench) == (["ring2"], 1)

    asyncio.run(scenario())


BAD_CREATES: list[tuple[list[str], bytes, Fault]] = [
    ([], FIRST, faults.KEYRINGS_PER_CALL),
    ([f"r{number}" for number in range(101)], FIRST, faults.KEYRINGS_PER_CALL),
    (["x" * 33], FIRST, faults.KEYRING_LABEL),
    (["ü" * 17], FIRST, faults.KEYRING_LABEL),
    ([""], FIRST, faults.KEYRING_LABEL),
    (["a\nb"], FIRST, faults.KEYRING_LABEL),
    (["a", "a"], FIRST, faults.KEYRING_LABEL),
    (["a"], b"short12", faults.KEYRING_PASSWORD),
    (["a"], b"", faults.KEYRING_PASSWORD),
    (["a"], b"x" * 256, faults.KEYRING_PASSWORD),
]


def test_bad_creates_are_refused(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with cluster_bench(tmp_path) as bench:
            for names, password, fault in BAD_CREATES:
                with pytest.raises(BadInput) as refused:
                    await bench.make_keyrings(*names, password=password)
                assert refused.value.fault is fault
            assert await labels(bench) == ([], 0)

    asyncio.run(scenario())


def test_two_callers_creating_the_same_label_at_once_make_one(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with cluster_bench(tmp_path) as bench:
            answers = await gathered(*(bench.make_keyrings("same") for _ in range(8)))
            errors = [answer for answer in answers if isinstance(answer, BaseException)]
            assert len(errors) == 7
            assert {type(error) for error in errors} == {Conflict}
            assert await labels(bench) == (["same"], 1)

    asyncio.run(scenario())


def test_rule_k4_the_number_of_keyrings_is_limited_by_a_setting(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with cluster_bench(tmp_path, limits=Limits(max_keyrings=3)) as bench:
            await bench.make_keyrings("a", "b")
            with pytest.raises(LimitReached) as refused:
                await bench.make_keyrings("c", "d")
            assert refused.value.fault is faults.KEYRING_LIMIT
            await bench.make_keyrings("c")

    asyncio.run(scenario())


def test_a_repeated_create_is_answered_from_its_record(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with cluster_bench(tmp_path) as bench:
            key = os.urandom(16)
            first = await bench.make_keyrings("a", "b", key=key)
            before = bench.page.global_generation()
            assert await bench.make_keyrings("a", "b", key=key) == first
            assert bench.page.global_generation() > before
            with pytest.raises(Conflict) as refused:
                await bench.make_keyrings("c", key=key)
            assert refused.value.fault is faults.IDEMPOTENCY_MISMATCH
            assert await labels(bench) == (["a", "b"], 2)

    asyncio.run(scenario())


def test_a_keyring_is_shown_and_deleted_by_label_or_id(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with cluster_bench(tmp_path) as bench:
            one, two = await bench.make_keyrings("one", "two")
            assert await bench.show("one") == one
            assert await bench.show(two.keyring_id) == two
            before = bench.page.keyring_generation(id_of(two))
            await bench.daemon.call("delete_keyring", NamedKeyring(name="one"))
            await bench.daemon.call("delete_keyring", NamedKeyring(name=two.keyring_id))
            assert bench.page.keyring_generation(id_of(two)) > before
            with pytest.raises(NotFound) as refused:
                await bench.daemon.call("delete_keyring", NamedKeyring(name="one"))
            assert refused.value.fault is faults.KEYRING_NOT_FOUND

    asyncio.run(scenario())


def test_slot_numbers_are_never_used_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with cluster_bench(tmp_path) as bench:
            await bench.make_keyrings("a", "b")
            await bench.daemon.call("delete_keyring", NamedKeyring(name="b"))
            (again,) = await bench.make_keyrings("b")
            assert again.slot == 2

    asyncio.run(scenario())


def test_a_deleted_keyring_takes_its_objects_and_tickets_along(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with cluster_bench(tmp_path) as bench:
            keyring, ticket = await bench.ready_keyring()
            await bench.write(keyring, ticket, writes=[new_object()])
            await bench.daemon.call("delete_keyring", NamedKeyring(name="ring"))
            for call in (
                bench.write(keyring, ticket, writes=[new_object()]),
                bench.login(keyring, PASSWORD, Role.KRCO),
            ):
                with pytest.raises(NotFound) as refused:
                    await call
                assert refused.value.fault is faults.KEYRING_NOT_FOUND

    asyncio.run(scenario())
