"""Kill a writer at any moment: every row that it acknowledged is there."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest

from conclave.ids import KeyringId
from conclave.store.engine import open_writer_engine
from conclave.store.migrations import migrate
from conclave.store.repository import ClusterWriter, open_reader
from tests.store.test_store_contract import new_keyring

ROUNDS = 8
WRITER = """
import os, sys
from pathlib import Path
from conclave.ids import KeyringId, ObjectId
from conclave.store.engine import open_writer_engine
from conclave.store.repository import ClusterWriter
from conclave.store.rows import ObjectRow
engine = open_writer_engine(Path(sys.argv[1]))
keyring = KeyringId(bytes.fromhex(sys.argv[2]))
connection = engine.connect()
while True:
    name = ObjectId(os.urandom(16))
    with connection.begin():
        writer = ClusterWriter(connection)
        revision = writer.next_revision()
        writer.insert_object(ObjectRow(keyring, name, True, 1, 1, revision, bytes(2000), b""))
    os.write(1, name.hex().encode() + b"\\n")
"""


@pytest.mark.system
def test_rows_acknowledged_before_kill_9_are_there(tmp_path: Path) -> None:
    path = tmp_path / "cluster.db"
    engine = open_writer_engine(path)
    migrate(engine)
    keyring = new_keyring()
    with engine.begin() as connection:
        ClusterWriter(connection).insert_keyrings([keyring])
    engine.dispose()
    acknowledged: set[bytes] = set()
    for _ in range(ROUNDS):
        acknowledged |= _write_and_kill(path, keyring.keyring_id, random.randint(1, 40))
    reader = open_reader(path)
    found = {bytes(name) for name, _ in reader.object_revisions(keyring.keyring_id)}
    revision = reader.revision()
    reader.close()
    assert len(acknowledged) >= ROUNDS
    assert acknowledged <= found
    # At most the one row that was under way at each kill is there without an acknowledgement.
    assert len(found) <= len(acknowledged) + ROUNDS
    assert revision == len(found)


def _write_and_kill(path: Path, keyring: KeyringId, rows: int) -> set[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), keyring.hex()], stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(rows)]
    process.kill()
    lines += process.stdout.read().splitlines(keepends=True)
    process.stdout.close()
    process.wait()
    return {bytes.fromhex(line.decode()) for line in lines if line.endswith(b"\n")}
