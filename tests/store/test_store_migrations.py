"""Migrations of the cluster store: forward, step by step, never back."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from sqlalchemy import insert, inspect
from sqlalchemy.exc import OperationalError

from conclave import faults
from conclave.errors import InternalFault
from conclave.store import migrations, schema
from conclave.store.engine import open_writer_engine
from conclave.store.migrations import STEPS, migrate, stored_version
from conclave.store.repository import open_reader
from tests.store.conftest import Store


def test_the_migrated_tables_are_those_of_the_schema(store: Store) -> None:
    engine = store.engine
    with engine.connect() as connection:
        inspector = inspect(connection)
        assert set(inspector.get_table_names()) == set(schema.metadata.tables)
        for table in schema.metadata.tables.values():
            found = {
                column["name"]: (str(column["type"]), column["nullable"])
                for column in inspector.get_columns(table.name)
            }
            keys = inspector.get_pk_constraint(table.name)["constrained_columns"]
            expected = {
                column.name: (
                    column.type.compile(dialect=engine.dialect),
                    found[column.name][1] if column.primary_key else column.nullable,
                )
                for column in table.columns
            }
            assert found == expected, table.name
            assert keys == [column.name for column in table.primary_key], table.name


def test_a_second_migration_changes_nothing(store: Store) -> None:
    engine = store.engine
    migrate(engine)
    with engine.connect() as connection:
        assert stored_version(connection) == schema.SCHEMA_VERSION == max(STEPS)


def test_a_newer_store_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "cluster.db"
    engine = open_writer_engine(path)
    migrate(engine)
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE schema_version SET version = 99")
    connection.close()
    with pytest.raises(InternalFault, match="99") as error:
        migrate(engine)
    assert error.value.fault is faults.STORE_TOO_NEW
    with engine.connect() as reader:
        assert stored_version(reader) == 99


def test_an_interrupted_step_leaves_the_version_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = open_writer_engine(tmp_path / "cluster.db")
    broken = (*STEPS[1], "CREATE TABLE nonsense (")
    monkeypatch.setattr(migrations, "STEPS", STEPS | {1: broken})
    with pytest.raises(OperationalError):
        migrate(engine)
    with engine.connect() as connection:
        assert stored_version(connection) == 0
        assert inspect(connection).get_table_names() == []
    monkeypatch.undo()
    migrate(engine)


@pytest.mark.parametrize(("users", "version"), [(0, 0), (2, 1)])
def test_a_list_of_users_that_is_there_already_gets_the_first_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, users: int, version: int
) -> None:
    engine = open_writer_engine(tmp_path / "cluster.db")
    monkeypatch.setattr(migrations, "SCHEMA_VERSION", 1)
    migrate(engine)
    with engine.begin() as connection:
        assert stored_version(connection) == 1
        for number in range(users):
            values = {"user_id": f"u{number}", "verifier": b"v", "enabled": True, "revision": 0}
            texts = dict.fromkeys(("role", "full_name", "email"), "")
            connection.execute(insert(schema.users).values(values | texts))
    monkeypatch.undo()
    migrate(engine)
    reader = open_reader(tmp_path / "cluster.db")
    assert (reader.users_version(), len(reader.users())) == (version, users)
    reader.close()


def test_the_store_is_durable_and_private(tmp_path: Path) -> None:
    path = tmp_path / "cluster.db"
    engine = open_writer_engine(path)
    migrate(engine)
    assert path.stat().st_mode & 0o777 == 0o600
    with engine.connect() as connection:

        def pragma(name: str) -> object:
            return connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()

        assert pragma("journal_mode") == "wal"
        assert pragma("synchronous") == 2
        assert pragma("foreign_keys") == 1
        assert pragma("secure_delete") == 1
