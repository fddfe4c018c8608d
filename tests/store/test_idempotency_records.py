"""Each write that is recorded lets some records go whose time is over, ten times a second."""

from __future__ import annotations

from pathlib import Path

from conclave.cluster import idempotency
from conclave.cluster.idempotency import FORGET_EVERY_MS, KEPT_MS, Request
from conclave.ids import ClientId, ClusterTimeMs, IdempotencyKey, KeyringId
from conclave.store.engine import open_writer_engine
from conclave.store.migrations import migrate
from conclave.store.repository import ClusterWriter, Seen

CLIENT = ClientId(b"c" * 16)


def request(number: int) -> Request:
    return Request(CLIENT, IdempotencyKey(bytes([number]) * 32), b"m" * 32)


def test_rule_c21_records_go_when_their_time_is_over_and_no_sooner(tmp_path: Path) -> None:
    engine = open_writer_engine(tmp_path / "cluster.db")
    migrate(engine)
    seen: Seen = {}
    with engine.connect() as connection:

        def record(number: int, now_ms: int) -> set[int]:
            """Record a write in a transaction of its own; return whose records are left."""
            with connection.begin():
                writer = ClusterWriter(connection, seen)
                keyring_id, now = KeyringId(b""), ClusterTimeMs(now_ms)
                idempotency.record(writer, request(number), keyring_id, b"result", now)
                asked = ((each, idempotency.find(writer, request(each))) for each in range(9))
                return {each for each, found in asked if found is not None}

        start = 10 * KEPT_MS
        over = start + KEPT_MS + FORGET_EVERY_MS
        assert record(1, start) == {1}
        assert record(2, start + FORGET_EVERY_MS - 1) == {1, 2}
        assert record(3, start + KEPT_MS) == {1, 2, 3}
        assert record(4, over - 1) == {1, 2, 3, 4}
        assert record(5, over) == {3, 4, 5}
    engine.dispose()
