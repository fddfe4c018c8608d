"""What lies on disk, and what a thief of it can do."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from conclave.crypto.password_hash import LOW_COST_FOR_TESTS, Argon2Cost, salt_cost
from conclave.crypto.seal import SealBroken, unseal
from conclave.errors import CredentialRefused, InternalFault, Unavailable
from conclave.hsm.hsm import Hsm
from conclave.hsm.keys import MasterKeys
from conclave.hsm.model import HsmState
from conclave.hsm.storage import make_master_key, read_master_key
from tests.support.hsm_bench import (
    CO,
    CO_FIRST,
    DOMAIN,
    PO,
    SO,
    low_cost_hasher,
    make_cluster_partition,
    opened,
    with_hsm,
)


async def _complete(hsm: Hsm) -> bytes:
    await make_cluster_partition(hsm)
    return await hsm.unlock_smk("par", CO)


def _all_bytes(directory: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(directory.rglob("*")) if path.is_file())


def test_nothing_readable_lies_on_disk(tmp_path: Path) -> None:
    smk = with_hsm(tmp_path, _complete)
    content = _all_bytes(tmp_path)
    for secret in (SO, PO, CO, CO_FIRST, DOMAIN, smk, b"hsm_label"):
        assert secret not in content, secret
    for path in tmp_path.iterdir():
        assert path.stat().st_mode & 0o077 == 0, path


def test_master_key_is_made_once_and_refused_when_others_may_read_it(tmp_path: Path) -> None:
    path = tmp_path / "master.key"
    make_master_key(path)
    key = read_master_key(path)
    make_master_key(path)
    assert read_master_key(path) == key
    assert [entry.name for entry in tmp_path.iterdir()] == ["master.key"]
    path.chmod(0o640)
    with pytest.raises(InternalFault, match="0600"):
        read_master_key(path)


def test_a_state_without_its_master_key_is_never_replaced(tmp_path: Path) -> None:
    with_hsm(tmp_path, _complete)
    (tmp_path / "master.key").unlink()
    with pytest.raises(InternalFault, match="cannot be read"):
        with_hsm(tmp_path, _complete)
    make_master_key(tmp_path / "master.key")
    with pytest.raises(InternalFault, match="does not open"):
        with_hsm(tmp_path, _complete)


def _fields(value: object) -> Iterator[bytes]:
    """Yield every byte string inside a state."""
    if isinstance(value, bytes):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _fields(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _fields(item)
    elif isinstance(value, msgspec.Struct):
        for name in value.__struct_fields__:
            yield from _fields(getattr(value, name))


def _stored_state(directory: Path) -> tuple[MasterKeys, HsmState]:
    keys = MasterKeys.derive(read_master_key(directory / "master.key"))
    with sqlite3.connect(directory / "hsm.db") as database:
        (sealed,) = database.execute("SELECT sealed FROM hsm_state").fetchone()
    database.close()
    plain = unseal(keys.state, sealed, b"conclave hsm state")
    return keys, msgspec.msgpack.decode(plain, type=HsmState)


def test_a_copied_directory_gives_no_smk_without_the_co_password(tmp_path: Path) -> None:
    """The partition key is nested: master key outside, CO password inside."""
    smk = with_hsm(tmp_path / "original", _complete)
    copy = tmp_path / "copy"
    shutil.copytree(tmp_path / "original", copy)
    keys, state = _stored_state(copy)
    (partition,) = state.partitions
    raw = read_master_key(copy / "master.key")
    candidates = [raw, keys.state, keys.credential, keys.domain, keys.local]
    # Every key in hand opens whatever it opens; what comes out is a candidate again.
    aads = [b"conclave hsm state", f"conclave smk {partition.partition_id}".encode()]
    aads += [
        f"conclave credential {partition.partition_id} {role}".encode() for role in partition.roles
    ]
    aads += [b"conclave credential hsm so", f"conclave domain {partition.partition_id}".encode()]
    blobs = list(_fields(state))
    opened_now = True
    seen = set(candidates)
    while opened_now:
        opened_now = False
        for key in [key for key in seen if len(key) == 32]:
            for blob in list(blobs):
                for aad in aads:
                    plain = _try(key, blob, aad)
                    if plain is not None and plain not in seen:
                        seen.add(plain)
                        blobs.append(plain)
                        opened_now = True
    assert DOMAIN in seen  # the search does open what the master key alone protects
    assert smk not in seen
    assert not any(smk in plain for plain in seen)

    async def with_wrong_passwords(hsm: Hsm) -> None:
        for password in (SO, PO, CO_FIRST, DOMAIN, raw):
            with pytest.raises(CredentialRefused):
                await hsm.unlock_smk("par", password)
        assert await hsm.unlock_smk("par", CO) == smk

    with_hsm(copy, with_wrong_passwords)


def _try(key: bytes, blob: bytes, aad: bytes) -> bytes | None:
    try:
        return unseal(key, blob, aad)
    except SealBroken:
        return None


def test_a_full_disk_gives_no_free_guesses(tmp_path: Path) -> None:
    async def scene() -> None:
        async with opened(tmp_path) as hsm:
            await make_cluster_partition(hsm)
            # SQLite refuses every write from here on, as a full disk makes it.
            core = hsm._core
            await core._on_thread(lambda: core._file._database.execute("PRAGMA query_only = ON"))
            for _ in range(2):
                with pytest.raises(Unavailable):
                    await hsm.verify_so(b"wrong-password")
            assert hsm.info().so_attempts_left == 1
            with pytest.raises(Unavailable):
                await hsm.create_partition("another")
            assert len(hsm.partitions()) == 1

    asyncio.run(scene())


def test_another_configured_cost_voids_no_password_and_is_of_what_is_set_next(
    tmp_path: Path,
) -> None:
    other = Argon2Cost(memory_kib=128, iterations=2, lanes=1)
    smk = with_hsm(tmp_path, _complete)

    async def after(hsm: Hsm) -> dict[str, Argon2Cost]:
        await hsm.verify_so(SO)
        assert await hsm.unlock_smk("par", CO) == smk
        (partition,) = hsm.partitions()
        await hsm.change_role_password(partition.partition_id, "co", CO, b"another-password")
        assert await hsm.unlock_smk("par", b"another-password") == smk
        state = hsm._state
        assert state.so is not None
        roles = state.partitions[0].roles
        stored = {"hsm": state.so} | {role.value: credential for role, credential in roles.items()}
        return {name: salt_cost(each.salt, allow_low_cost=True) for name, each in stored.items()}

    costs = with_hsm(tmp_path, after, cost=other)
    assert costs == {"hsm": LOW_COST_FOR_TESTS, "so": LOW_COST_FOR_TESTS, "co": other}
    with_hsm(tmp_path, lambda hsm: hsm.unlock_smk("par", b"another-password"))


def test_attempts_at_one_credential_run_one_after_the_other(tmp_path: Path) -> None:
    running = 0
    most = 0

    async def counting_hasher(password: bytes, salt: bytes, source: str) -> bytes:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        return await low_cost_hasher(password, salt, source)

    async def scene() -> None:
        hsm = await Hsm.open(tmp_path, counting_hasher, cost=LOW_COST_FOR_TESTS)
        try:
            await hsm.initialize("hsm", SO, DOMAIN)
            tries = [hsm.verify_so(b"wrong-password") for _ in range(8)]
            answers = await asyncio.gather(*tries, return_exceptions=True)
            assert all(isinstance(answer, Exception) for answer in answers)
            assert hsm.info().zeroized
        finally:
            await hsm.close()

    asyncio.run(scene())
    assert most == 1
