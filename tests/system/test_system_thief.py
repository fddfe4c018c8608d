"""A thief of a member's disk, with either password and with both (rules C1 and C10)."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from conclave.appliance.paths import StatePaths
from conclave.cluster.master_keys import MasterKeys, derive_master_keys, open_cluster_keys
from conclave.crypto.password_hash import hash_password
from conclave.crypto.seal import SealBroken, unseal
from conclave.crypto.standard import Cka, Cko
from conclave.errors import CredentialRefused, InternalFault
from conclave.hsm.hsm import Hsm
from conclave.hsm.keys import MasterKeys as HsmKeys
from conclave.hsm.storage import read_master_key
from conclave.ids import KeyringId, ObjectId
from conclave.keyring.attributes import Attributes, decode_attributes, ulong
from conclave.keyring.keys import WrapName, WrongPassword, unwrap_key
from conclave.service.object_seal import ObjectName, PrivateSeal, PublicSeal
from conclave.service.wire import Role
from conclave.store.repository import open_reader
from conclave.store.rows import ClusterStateRow, KeyringRow, ObjectRow
from tests.support.demo import Demo
from tests.support.hsm_bench import with_hsm

pytestmark = pytest.mark.system


@dataclass(frozen=True)
class Loot:
    """What lies in a copied state directory."""

    paths: StatePaths
    partition: str
    state: ClusterStateRow
    keyring: KeyringRow
    objects: list[ObjectRow]

    def smk(self, co_password: bytes) -> bytes:
        async def unlock(hsm: Hsm) -> bytes:
            return await hsm.unlock_smk(self.partition, co_password)

        return with_hsm(self.paths.hsm, unlock)

    def disk_keys(self) -> list[bytes]:
        """Return every key that needs no password."""
        raw = read_master_key(self.paths.hsm / "master.key")
        keys = HsmKeys.derive(raw)
        return [raw, keys.state, keys.credential, keys.domain, keys.local]

    def kek(self, password: bytes) -> bytes:
        return hash_password(password, self.keyring.krso.salt, allow_low_cost=True)

    def wrap_name(self) -> WrapName:
        row = self.keyring
        return WrapName(row.keyring_id, Role.KRSO, row.key_generation)

    def opened(self, keys: Sequence[bytes]) -> list[Attributes]:
        """Try keys on every private object, in each way that a worker uses a key."""
        found = [_try(key, row) for row in self.objects for key in keys]
        return [attributes for attributes in found if attributes is not None]


def _try(key: bytes, row: ObjectRow) -> Attributes | None:
    name = ObjectName(row.keyring_id, row.object_id, row.version)
    for seal in (PrivateSeal.of(key), PublicSeal.of(key), PublicSeal(key), PrivateSeal(key, key)):
        try:
            return decode_attributes(seal.unseal(name, row.blob))
        except SealBroken:
            continue
    return None


@pytest.fixture
def loot(demo: Demo, tmp_path: Path) -> Loot:
    """Copy a running member's state directory, the store by SQLite's own backup."""
    paths = next(StatePaths(path.parent) for path in demo.directory.rglob("conclave.toml"))
    copy = StatePaths(tmp_path / "copy")
    copy.make()
    shutil.copytree(paths.hsm, copy.hsm, dirs_exist_ok=True)
    with sqlite3.connect(paths.cluster_store) as live, sqlite3.connect(copy.cluster_store) as mine:
        live.backup(mine)
    live.close()
    mine.close()
    reader = open_reader(copy.cluster_store)
    try:
        state = reader.cluster_state()
        keyring = reader.keyring_by_label(demo.keyring(0)["label"])
        assert state is not None
        assert keyring is not None
        names = [name for name, _ in reader.object_revisions(KeyringId(keyring.keyring_id))]
        rows = reader.objects(keyring.keyring_id, [ObjectId(name) for name in names])
    finally:
        reader.close()
    private = [row for row in rows if row.private]
    assert private
    return Loot(copy, demo.document["partitionLabel"], state, keyring, private)


def all_keys(master: MasterKeys, smk: bytes, loot: Loot) -> list[bytes]:
    """Return all that the CO's password leads to."""
    keys = open_cluster_keys(loot.state.sealed_keys, master, loot.state.cluster_id)
    tickets = [row.key for row in keys.ticket_keys]
    return [*loot.disk_keys(), smk, master.seal, master.outer, master.public, *tickets]


def test_c1_a_copied_member_gives_no_key_with_the_co_password_alone(demo: Demo, loot: Loot) -> None:
    smk = loot.smk(demo.document["coPassword"].encode())
    master = derive_master_keys(smk)
    assert loot.opened(all_keys(master, smk, loot)) == []
    for name in ("coPassword", "poPassword", "hsmSoPassword", "adminPassword"):
        kek = loot.kek(demo.document[name].encode())
        with pytest.raises(WrongPassword):
            unwrap_key(master.outer, kek, loot.keyring.krso.sealed_outer, loot.wrap_name())


def test_c1_a_copied_member_gives_no_key_with_the_keyring_password_alone(
    demo: Demo, loot: Loot
) -> None:
    pin = demo.keyring(0)["pin"].encode()
    with pytest.raises(CredentialRefused):
        loot.smk(pin)
    kek = loot.kek(pin)
    context = b"conclave cluster keys" + loot.state.cluster_id.encode()
    for outer in (*loot.disk_keys(), kek):
        with pytest.raises(InternalFault):
            unwrap_key(outer, kek, loot.keyring.krso.sealed_outer, loot.wrap_name())
        with pytest.raises(SealBroken):
            unseal(outer, loot.state.sealed_keys, context)
    assert loot.opened([*loot.disk_keys(), kek]) == []


def test_c1_both_passwords_open_the_copied_keys(demo: Demo, loot: Loot) -> None:
    """Without this the two tests above would hold for a copy that nobody can open."""
    smk = loot.smk(demo.document["coPassword"].encode())
    master = derive_master_keys(smk)
    assert len(all_keys(master, smk, loot)) > len(loot.disk_keys())
    kek = loot.kek(demo.keyring(0)["pin"].encode())
    key = unwrap_key(master.outer, kek, loot.keyring.krso.sealed_outer, loot.wrap_name())
    opened = loot.opened([key])
    assert len(opened) == len(loot.objects)
    assert all(found[Cka.CLASS] == ulong(Cko.PRIVATE_KEY) for found in opened)
    assert all(found.get(Cka.VALUE) or found.get(Cka.PRIVATE_EXPONENT) for found in opened)
