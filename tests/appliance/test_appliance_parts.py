"""The appliance's smaller parts: store, documents, time, certificates, respawning."""

from __future__ import annotations

import asyncio
import datetime
import ssl
import stat
from pathlib import Path

import pytest
from cryptography import x509
from sqlalchemy import text

from conclave.appliance.documents import Documents
from conclave.appliance.network import bind_all
from conclave.appliance.paths import StatePaths
from conclave.appliance.respawn import (
    LONGEST_PAUSE_AFTER_SIGNAL_SECONDS,
    LONGEST_PAUSE_SECONDS,
    RespawnState,
    after_death,
)
from conclave.appliance.store import ApplianceStore
from conclave.appliance.time import ApplianceTime, StoredTime
from conclave.appliance.tls import ensure_webserver_certificate
from conclave.appliance.tls_contexts import AdminTls, rest_context
from conclave.errors import BadInput, InternalFault, NotAllowed
from tests.support.appliance_bench import random_loopback

NOON = datetime.datetime(2030, 6, 1, 12, 0, tzinfo=datetime.UTC)
MIGRATIONS = ("CREATE TABLE thing (name TEXT PRIMARY KEY)", "ALTER TABLE thing ADD size INTEGER")


def test_store_migrates_each_component_once_and_refuses_a_newer_one(tmp_path: Path) -> None:
    async def scene() -> None:
        for known in (MIGRATIONS[:1], MIGRATIONS, MIGRATIONS):
            store = await ApplianceStore.open(tmp_path / "appliance.db")
            await store.migrate("things", known)
            await store.close()
        store = await ApplianceStore.open(tmp_path / "appliance.db")
        with pytest.raises(InternalFault, match="version 2"):
            await store.migrate("things", MIGRATIONS[:1])
        await store.run(lambda connection: connection.execute(text("SELECT size FROM thing")))
        await store.close()

    asyncio.run(scene())
    assert stat.S_IMODE((tmp_path / "appliance.db").stat().st_mode) == 0o600


def test_store_rolls_back_whole_transactions(tmp_path: Path) -> None:
    async def scene() -> int:
        store = await ApplianceStore.open(tmp_path / "appliance.db")
        await store.migrate("things", MIGRATIONS)
        statement = text("INSERT INTO thing (name) VALUES ('first'), ('second'), ('first')")
        with pytest.raises(Exception, match="UNIQUE"):
            await store.run(lambda connection: connection.execute(statement) and None)
        count = await store.run(
            lambda connection: connection.execute(text("SELECT count(*) FROM thing")).scalar()
        )
        await store.close()
        return int(count or 0)

    assert asyncio.run(scene()) == 0


def test_t1_setting_the_time_changes_the_offset_only(tmp_path: Path) -> None:
    host_ms = int(NOON.timestamp() * 1000)

    async def scene() -> StoredTime:
        store = await ApplianceStore.open(tmp_path / "appliance.db")
        documents = await Documents.open(store)
        time = ApplianceTime(documents, StoredTime(), lambda: host_ms)
        told: list[int] = []
        time.on_change(told.append)
        await time.set(date="2030-06-02", time="14:30:00", zone="Etc/GMT-2")
        assert time.clock.now() == NOON + datetime.timedelta(days=1, minutes=30)
        assert time.local_now().strftime("%H:%M %Y-%m-%d") == "14:30 2030-06-02"
        assert told == [time.offset_ms] == [24 * 3600_000 + 1800_000]
        for bad in ({"date": "02.06.2030"}, {"time": "25:00:00"}, {"zone": "No/Where"}):
            with pytest.raises(BadInput, match="must be"):
                await time.set(**bad)
        with pytest.raises(BadInput, match="between"):
            await time.set(date="1970-01-01")
        stored = await documents.load("time", StoredTime)
        await store.close()
        return stored

    stored = asyncio.run(scene())
    assert stored == StoredTime(offset_ms=24 * 3600_000 + 1800_000, zone="Etc/GMT-2")


def test_webserver_certificate_is_private_back_dated_and_made_once(tmp_path: Path) -> None:
    address = random_loopback()
    certificate, key = ensure_webserver_certificate(tmp_path, "host.example", [address], NOON)
    assert {stat.S_IMODE(path.stat().st_mode) for path in (certificate, key)} == {0o600}
    content = certificate.read_bytes()
    parsed = x509.load_pem_x509_certificate(content)
    assert parsed.not_valid_before_utc == NOON - datetime.timedelta(hours=1)
    names = parsed.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert str(names.get_values_for_type(x509.IPAddress)[0]) == address
    ensure_webserver_certificate(tmp_path, "host.example", [address], NOON)
    assert certificate.read_bytes() == content
    assert isinstance(rest_context(certificate, key), ssl.SSLContext)


def test_webserver_certificate_is_accepted_by_a_client_that_trusts_it(tmp_path: Path) -> None:
    address = random_loopback()
    now = datetime.datetime.now(datetime.UTC)
    certificate, key = ensure_webserver_certificate(tmp_path, "host.example", [address], now)
    admin = AdminTls(certificate, key)

    async def scene() -> None:
        sockets = bind_all([address], 0, what="test")
        server = await asyncio.start_server(
            lambda _reader, writer: writer.close(), sock=sockets[0], ssl=admin.context
        )
        client = ssl.create_default_context(cafile=str(certificate))
        port = sockets[0].getsockname()[1]
        async with asyncio.timeout(60), server:
            reader, writer = await asyncio.open_connection(address, port, ssl=client)
            assert await reader.read() == b""
            writer.close()

    asyncio.run(scene())


def test_a_taken_port_is_named_and_nothing_stays_bound() -> None:
    address, other = random_loopback(), random_loopback()
    (taken,) = bind_all([address], 0, what="test")
    port = taken.getsockname()[1]
    with pytest.raises(NotAllowed, match=rf"{address} port {port}"):
        bind_all([other, address], port, what="test")
    for listener in bind_all([other], port, what="test"):
        listener.close()
    taken.close()


def test_a_state_directory_too_long_for_sockets_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="too long"):
        StatePaths(tmp_path / ("x" * 100)).make()


def test_respawn_is_immediate_at_first_then_slower_and_forgives() -> None:
    state, pauses = RespawnState(), []
    for _ in range(12):
        state, pause = after_death(state, 0.1, by_signal=False)
        pauses.append(pause)
    assert pauses[0] == 0.0
    assert pauses == sorted(pauses)
    assert pauses[-1] == LONGEST_PAUSE_SECONDS
    assert after_death(state, 60.0, by_signal=False) == (RespawnState(), 0.0)
    assert after_death(state, 0.1, by_signal=True)[1] == LONGEST_PAUSE_AFTER_SIGNAL_SECONDS
