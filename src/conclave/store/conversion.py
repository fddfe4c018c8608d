"""Copy a cluster store into another engine.

Invariant: the source is only read, inside one transaction; the target gets everything in one
transaction that is committed after the counts of all tables were compared, or nothing at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final, cast

from sqlalchemy import (
    BigInteger,
    Boolean,
    Connection,
    Engine,
    Integer,
    LargeBinary,
    Table,
    Text,
    delete,
    func,
    insert,
    select,
    text,
)
from sqlalchemy.exc import DBAPIError

from conclave import faults
from conclave.errors import Conflict, InternalFault
from conclave.store import schema
from conclave.store.migrations import migrate, stored_version

# Imported when a store is converted: see store/postgresql/control.py.
if TYPE_CHECKING:
    import psycopg

BATCH_ROWS: Final = 1000
_COPY_TYPES: Final[dict[type, str]] = {
    BigInteger: "int8",
    Boolean: "bool",
    Integer: "int4",
    LargeBinary: "bytea",
    Text: "text",
}

Progress = Callable[[float], None]
Cancelled = Callable[[], bool]
Batches = Iterator[Sequence[tuple[Any, ...]]]


def convert(source: Engine, target: Engine, progress: Progress, cancelled: Cancelled) -> None:
    """Make `target` a copy of `source`, replacing what it holds.

    `progress` is told the done part, 0 to 1; `cancelled` is asked after each batch.  Blocks for
    as long as it takes: to be called in a thread.  The source must have the newest schema and no
    other writer.  Raises Conflict with CONVERSION_CANCELLED, InternalFault with CONVERSION_FAILED;
    the target has what it had then.
    """
    import psycopg

    try:
        migrate(target)
        with source.connect() as reading, reading.begin(), target.begin() as writing:
            if stored_version(reading) != schema.SCHEMA_VERSION:
                message = "The store to be converted does not have the newest schema."
                raise InternalFault(faults.CONVERSION_FAILED, message)
            _copy_tables(reading, writing, progress, cancelled)
    except (DBAPIError, psycopg.Error) as cause:
        original = getattr(cause, "orig", cause)
        message = f"The store could not be converted: {' '.join(str(original).split())}"
        raise InternalFault(faults.CONVERSION_FAILED, message) from cause


def require_wanted(cancelled: Cancelled) -> None:
    """Raise Conflict with CONVERSION_CANCELLED once nobody wants the copy any more."""
    if cancelled():
        message = "The conversion of the store was cancelled; nothing was changed."
        raise Conflict(faults.CONVERSION_CANCELLED, message)


def _copy_tables(
    reading: Connection, writing: Connection, progress: Progress, cancelled: Cancelled
) -> None:
    tables = [table for table in schema.metadata.sorted_tables if table != schema.schema_version]
    _empty(writing, tables)
    counts = {table.name: _count(reading, table) for table in tables}
    total = max(1, sum(counts.values()))
    done = 0

    def note(rows: int) -> None:
        nonlocal done
        done += rows
        require_wanted(cancelled)
        progress(min(1.0, done / total))

    put = _copy_rows if writing.dialect.name == "postgresql" else _insert_rows
    for table in tables:
        put(writing, table, _batches(reading, table), note)
        found = _count(writing, table)
        if found != counts[table.name]:
            message = (
                f"Table {table.name} has {found} rows after the conversion"
                f" instead of {counts[table.name]}."
            )
            raise InternalFault(faults.CONVERSION_FAILED, message)
    if writing.dialect.name == "postgresql":
        writing.execute(text("ANALYZE"))
    progress(1.0)


def _empty(writing: Connection, tables: Sequence[Table]) -> None:
    if writing.dialect.name == "postgresql":
        # Truncated here, a table takes rows that count as visible to all from the start.
        writing.execute(text("TRUNCATE " + ", ".join(table.name for table in tables)))
    else:
        for table in reversed(tables):
            writing.execute(delete(table))


def _batches(reading: Connection, table: Table) -> Batches:
    result = reading.execution_options(yield_per=BATCH_ROWS).execute(select(table))
    for batch in result.partitions():
        yield [tuple(row) for row in batch]


def _insert_rows(
    writing: Connection, table: Table, batches: Batches, note: Callable[[int], None]
) -> None:
    names = [column.name for column in table.columns]
    for batch in batches:
        writing.execute(insert(table), [dict(zip(names, row, strict=True)) for row in batch])
        note(len(batch))


def _copy_rows(
    writing: Connection, table: Table, batches: Batches, note: Callable[[int], None]
) -> None:
    from psycopg import sql

    driver = cast("psycopg.Connection", writing.connection.driver_connection)
    columns = sql.SQL(", ").join(sql.Identifier(column.name) for column in table.columns)
    statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT BINARY, FREEZE)").format(
        sql.Identifier(table.name), columns
    )
    with driver.cursor() as cursor, cursor.copy(statement) as copy:
        copy.set_types([_COPY_TYPES[type(column.type)] for column in table.columns])
        for batch in batches:
            for row in batch:
                copy.write_row(row)
            note(len(batch))


def _count(connection: Connection, table: Table) -> int:
    return connection.execute(select(func.count()).select_from(table)).scalar_one()
