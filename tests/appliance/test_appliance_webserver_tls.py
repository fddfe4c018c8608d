"""The webserver's certificate is renewed in time, by the appliance clock."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import ssl
from pathlib import Path

import pytest
from cryptography import x509

from conclave.appliance.appliance import Appliance
from conclave.appliance.daemon import serve
from conclave.appliance.tls import BACK_DATED, RENEWED_BEFORE, ensure_webserver_certificate
from conclave.appliance.webserver_tls import WebserverTls
from conclave.clock import ApplianceClock, host_time_ms
from conclave.service.quiet import Nothing
from tests.support.appliance_bench import (
    DEADLINE_SECONDS,
    make_authorized_cluster,
    make_config,
    silent_doors,
    until,
    with_appliance,
)

NOON = datetime.datetime(2030, 6, 1, 12, 0, tzinfo=datetime.UTC)
MINUTE = datetime.timedelta(minutes=1)


def parsed(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def ensured(directory: Path, now: datetime.datetime) -> x509.Certificate:
    certificate, _key = ensure_webserver_certificate(directory, "host.example", ["127.0.0.1"], now)
    return parsed(certificate)


def test_it_is_renewed_only_near_its_end_with_the_same_key(tmp_path: Path) -> None:
    first = ensured(tmp_path, NOON)
    due = first.not_valid_after_utc - RENEWED_BEFORE
    assert ensured(tmp_path, due - MINUTE) == first
    second = ensured(tmp_path, due)
    assert second.not_valid_before_utc == due - BACK_DATED
    assert second.not_valid_after_utc > first.not_valid_after_utc
    assert second.public_key() == first.public_key()
    assert (tmp_path / "server.pem").stat().st_mode & 0o777 == 0o600
    assert ensured(tmp_path, due + MINUTE) == second


def test_one_that_ended_and_one_that_begins_later_are_renewed(tmp_path: Path) -> None:
    first = ensured(tmp_path, NOON)
    # An hour of slack for a clock that is set back a little.
    assert ensured(tmp_path, NOON - BACK_DATED) == first
    earlier = ensured(tmp_path, NOON - BACK_DATED - MINUTE)
    assert earlier.not_valid_before_utc < NOON - BACK_DATED - MINUTE
    ended = earlier.not_valid_after_utc + 400 * RENEWED_BEFORE
    assert ensured(tmp_path, ended).not_valid_after_utc > ended


async def presented(address: str, port: int) -> bytes:
    """Return the certificate that a listener shows."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    _reader, writer = await asyncio.open_connection(address, port, ssl=context)
    certificate = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    return bytes(certificate)


@pytest.mark.parametrize("by", ["time", "hour"])
def test_both_listeners_present_the_new_one_while_they_run(tmp_path: Path, by: str) -> None:
    days = 0

    def host_ms() -> int:
        return host_time_ms() + days * 86_400_000

    async def scene() -> None:
        nonlocal days
        clock = ApplianceClock(offset_ms=lambda: 0, host_ms=host_ms)
        check_seconds = 0.01 if by == "hour" else 3600.0
        addresses = ["127.0.0.1"]
        tls = WebserverTls(tmp_path, "host", addresses, clock, check_seconds=check_seconds)
        tls.start()
        former = (tmp_path / "server.pem").read_text()
        async with contextlib.AsyncExitStack() as closing:
            ports = []
            for context in (tls.rest, tls.admin.context):
                listener = await asyncio.start_server(
                    lambda _reader, writer: writer.close(), "127.0.0.1", 0, ssl=context
                )
                await closing.enter_async_context(listener)
                ports.append(listener.sockets[0].getsockname()[1])
            days = 3650 - RENEWED_BEFORE.days
            if by == "time":
                tls.wake()
            await until(lambda: (tmp_path / "server.pem").read_text() != former, "it is renewed")
            new = ssl.PEM_cert_to_DER_cert((tmp_path / "server.pem").read_text())
            async with asyncio.timeout(DEADLINE_SECONDS):
                for port in ports:
                    while await presented("127.0.0.1", port) != new:  # noqa: ASYNC110
                        await asyncio.sleep(0.02)
        await tls.stop()

    asyncio.run(scene())


@pytest.mark.system
def test_rule_t1_the_appliance_clock_decides_in_a_daemon_that_runs_and_at_its_next_start(
    tmp_path: Path,
) -> None:
    path = tmp_path / "webserver" / "server.pem"
    config = make_config(tmp_path)

    async def running() -> None:
        async with serve(config, silent_doors) as appliance:
            assert path.read_text() == former
            await make_authorized_cluster(appliance)
            member = appliance.cluster.status()
            year = parsed(path).not_valid_after_utc.year
            await appliance.time.set(date=f"{year + 1}-06-01")
            await until(lambda: path.read_text() != former, "the certificate is renewed")
            assert parsed(path).not_valid_before_utc <= appliance.clock.now()
            assert parsed(path).not_valid_after_utc.year == year + 11
            # What a member presents is no business of the webserver's certificate.
            assert appliance.cluster.status().pids == member.pids
            await appliance.cluster.call("status", Nothing())

    async def restarted(appliance: Appliance) -> None:
        certificate = parsed(path)
        assert certificate.not_valid_before_utc <= appliance.clock.now()
        assert appliance.clock.now() < certificate.not_valid_after_utc

    path.parent.mkdir(parents=True)
    ensured(path.parent, datetime.datetime.now(datetime.UTC))
    former = path.read_text()
    asyncio.run(running())
    path.write_text(former)
    with_appliance(config, restarted)
