"""Conversion: everything arrives, in either direction, or nothing is changed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import Engine, func, insert, select, text

from conclave import faults
from conclave.errors import Conflict, InternalFault
from conclave.ids import ClientId, ClusterTimeMs, IdempotencyKey, MemberId
from conclave.store import schema
from conclave.store.assignments import assign
from conclave.store.conversion import BATCH_ROWS, convert
from conclave.store.engine import (
    open_postgresql_reader,
    open_postgresql_writer,
    open_writer_engine,
)
from conclave.store.enrolment_tokens import insert_token
from conclave.store.location import StoreLocation, open_reader
from conclave.store.location import open_writer_engine as open_located_writer
from conclave.store.migrations import migrate
from conclave.store.repository import ClusterReader, ClusterWriter
from conclave.store.rows import MemberRow, UserRow
from tests.store.test_store_contract import STATE, new_client, new_keyring, new_object, new_token
from tests.support.postgresql import House

OBJECTS = BATCH_ROWS + 7


@pytest.fixture
def source(tmp_path: Path) -> Engine:
    """Return a SQLite store with something in every table."""
    engine = open_writer_engine(tmp_path / "cluster.db")
    migrate(engine)
    keyring = new_keyring()
    single = replace(new_keyring("single", 1), krco=None)
    with engine.connect() as connection, connection.begin():
        writer = ClusterWriter(connection)
        writer.put_cluster_state(STATE)
        writer.put_member(
            MemberRow(MemberId("m1"), "a", "127.0.0.1", 50070, 50052, "default", b"k", b"")
        )
        writer.put_users(
            [UserRow("admin", "admin", "Ä", "", b"\x00v", enabled=True, revision=1)], version=0
        )
        writer.insert_keyrings([keyring, single])
        writer.next_slots(2)
        writer.next_revision()
        client = new_client()
        writer.insert_client(client)
        assign(writer, client.client_id, [keyring.keyring_id])
        insert_token(writer, new_token(client.client_id))
        rows = [new_object(keyring) for _ in range(OBJECTS)]
        for row in rows:
            writer.insert_object(row)
        writer.put_record(
            ClientId(client.client_id),
            IdempotencyKey(bytes(16)),
            keyring_id=keyring.keyring_id,
            request_mac=b"mac",
            result=b"",
            expires_ms=ClusterTimeMs(1 << 40),
        )
    return engine


def content(engine: Engine) -> dict[str, list[tuple[object, ...]]]:
    with engine.connect() as connection:
        return {
            table.name: sorted(tuple(row) for row in connection.execute(select(table)))
            for table in schema.metadata.sorted_tables
        }


def target_of(house: House) -> Engine:
    return open_postgresql_writer(house.member.places.run, database=house.new_database())


def test_every_row_arrives_and_comes_back(source: Engine, house: House, tmp_path: Path) -> None:
    target, parts = target_of(house), list[float]()
    convert(source, target, parts.append, lambda: False)
    expected = content(source)
    assert all(expected[name] for name in expected if name not in {"affinity_groups"})
    assert content(target) == expected
    assert parts == sorted(parts)
    assert (len(parts) > 3, parts[-1]) == (True, 1.0)
    # Again, as after a crash before the choice was written; and into a store of SQLite.
    convert(source, target, parts.append, lambda: False)
    assert content(target) == expected
    back = open_writer_engine(tmp_path / "back.db")
    convert(target, back, parts.append, lambda: False)
    assert content(back) == expected


def test_a_cancelled_conversion_changes_nothing(source: Engine, house: House) -> None:
    target, before = target_of(house), content(source)
    asked = iter([False, False, True, True])
    with pytest.raises(Conflict) as error:
        convert(source, target, lambda _part: None, lambda: next(asked))
    assert error.value.fault is faults.CONVERSION_CANCELLED
    with target.connect() as connection:
        count = select(func.count()).select_from(schema.members)
        assert connection.execute(count).scalar_one() == 0
    assert content(source) == before


class DiedError(Exception):
    """Stands for the death of whoever converts: nothing after it is carried out."""


@pytest.mark.parametrize("by", ["question", "progress"])
def test_wherever_a_conversion_is_interrupted_nothing_is_changed_and_it_can_be_repeated(
    source: Engine, house: House, by: str
) -> None:
    """A first join asks whether it is still wanted, and tells how far it is, after each batch."""
    target, before = target_of(house), content(source)
    migrate(target)
    empty, moments = content(target), 0
    interrupted = True
    while interrupted:
        left = moments

        def count(kind: str) -> None:
            nonlocal left
            left -= kind == by
            if left < 0:
                raise DiedError

        def progress(_part: float, count: Callable[[str], None] = count) -> None:
            count("progress")

        def cancelled(count: Callable[[str], None] = count) -> bool:
            count("question")
            return False

        try:
            convert(source, target, progress, cancelled)
            interrupted = False
        except DiedError:
            assert content(target) == empty, moments
        assert content(source) == before
        moments += 1
    assert moments > len(schema.metadata.sorted_tables)
    assert content(target) == before


def test_a_row_that_is_missing_is_noticed(source: Engine, house: House) -> None:
    target = target_of(house)
    migrate(target)
    swallow = (
        "CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql"
        " AS 'BEGIN RETURN NULL; END';"
        "CREATE TRIGGER swallow BEFORE INSERT ON clients EXECUTE FUNCTION swallow()"
    )
    with target.begin() as connection:
        connection.exec_driver_sql(swallow.replace("ON clients", "ON clients FOR EACH ROW"))
    with pytest.raises(InternalFault, match="clients has 0 rows") as error:
        convert(source, target, lambda _part: None, lambda: False)
    assert error.value.fault is faults.CONVERSION_FAILED
    with target.connect() as connection:
        count = select(func.count()).select_from(schema.keyrings)
        assert connection.execute(count).scalar_one() == 0


def test_a_target_that_dies_fails_the_conversion(source: Engine, house: House) -> None:
    target = target_of(house)
    seen = []

    def end_target(part: float) -> None:
        seen.append(part)
        if len(seen) == 2:
            house.end_sessions("conclave_writer")

    with pytest.raises(InternalFault) as error:
        convert(source, target, end_target, lambda: False)
    assert error.value.fault is faults.CONVERSION_FAILED


def test_the_choice_of_engine_is_one_file(tmp_path: Path, house: House) -> None:
    location = StoreLocation(tmp_path)
    assert location.choice().engine == "sqlite"
    engine = open_located_writer(location)
    migrate(engine)
    reader = open_reader(location)
    assert reader.cluster_state() is None
    reader.close()
    location.choose_postgresql(house.member.places.run)
    migrate(open_located_writer(location))
    reader = open_reader(location)
    assert reader._connection.dialect.name == "postgresql"
    assert reader.cluster_state() is None
    reader.close()
    location.choose_sqlite()
    assert open_located_writer(location).dialect.name == "sqlite"
    (tmp_path / "engine.json").write_text('{"engine": "oracle"}')
    with pytest.raises(InternalFault, match=r"engine\.json"):
        location.choice()


def test_a_converted_store_counts_objects_without_reading_them(
    source: Engine, house: House
) -> None:
    target = target_of(house)
    convert(source, target, lambda _part: None, lambda: False)
    count = "SELECT count(*) FROM objects WHERE keyring_id = keyring_id"
    with target.connect() as connection:
        connection.execute(text("SET enable_seqscan = off"))
        connection.execute(text("SET enable_bitmapscan = off"))
        plan = str(connection.execute(text(f"EXPLAIN (ANALYZE) {count}")).scalars().all())
    assert "Index Only Scan" in plan
    assert "Heap Fetches: 0" in plan


def test_a_reader_of_postgresql_cannot_write(house: House) -> None:
    database = house.new_database()
    run_dir = house.member.places.run
    migrate(open_postgresql_writer(run_dir, database=database))
    engine = open_postgresql_reader(run_dir, database=database)
    reader = ClusterReader(engine.connect())
    with pytest.raises(Exception, match="read-only"):
        reader._connection.execute(insert(schema.counters), {"name": "x", "value": 1})
    reader.close()
