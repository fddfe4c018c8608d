"""What `tools/measure_worker.py` measures is carried out, or the measurement fails."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from conclave.service.connection import Connection
from tests.service.conftest import Tenant, make_tenant
from tests.support.frame_fuzzer import local_connection, local_worker
from tests.support.worker_bench import worker_bench
from tests.support.worker_measurement import Measurement, Refused, measured_cases

BATCH = 4


def run(
    tmp_path: Path, scenario: Callable[[Tenant, Connection], Awaitable[None]], *, seconds: int = 120
) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(seconds), worker_bench(tmp_path) as bench:
            tenant = await make_tenant(bench)
            worker = local_worker(bench)
            await worker.core.refresh_keys()
            certificate = tenant.identity.certificate_pem
            await scenario(
                tenant, await local_connection(worker, certificate, process_id=os.urandom(16))
            )
            await worker.core.close()

    asyncio.run(bounded())


def test_each_measured_request_is_carried_out(tmp_path: Path) -> None:
    async def scenario(tenant: Tenant, connection: Connection) -> None:
        ticket = tenant.client.ticket
        for name, case in (await measured_cases(tenant)).items():
            measurement = Measurement(connection, name, case, ticket=ticket, batch=BATCH)
            await measurement.warm()
            assert measurement.send(2 * BATCH) > 0

    run(tmp_path, scenario)


def test_a_measurement_of_refusals_fails_and_names_them(tmp_path: Path) -> None:
    async def scenario(tenant: Tenant, connection: Connection) -> None:
        case = (await measured_cases(tenant))["p256"]
        measurement = Measurement(connection, "p256", case, ticket=None, batch=BATCH)
        with pytest.raises(Refused, match=r"p256: 4 answers must be CKR_OK; .* 4 times 0x101"):
            await measurement.warm()
        with pytest.raises(Refused, match=r"p256: 8 answers must be CKR_OK; .* 8 times 0x101"):
            measurement.send(2 * BATCH)

    run(tmp_path, scenario)


def test_a_measurement_whose_connection_ended_fails(tmp_path: Path) -> None:
    async def scenario(tenant: Tenant, connection: Connection) -> None:
        case = (await measured_cases(tenant))["echo"]
        measurement = Measurement(connection, "echo", case, ticket=None, batch=BATCH)
        connection.close()
        with pytest.raises(Refused, match="they are: none"):
            measurement.send(BATCH)

    run(tmp_path, scenario)
