#!/usr/bin/env python
"""Measure what one request costs a worker, without network and TLS: microseconds per request.

    .venv/bin/python tools/measure_worker.py [--profile NAME]

Batches of 1 and of 16 frames that arrive together; the best of several rounds.  An answer that is
not CKR_OK ends it.
"""

from __future__ import annotations

import argparse
import cProfile
import os
import pstats
import sys
import tempfile
from pathlib import Path

import uvloop

sys.path.insert(0, str(Path(__file__).parent.parent))

from conclave.service import connection as connection_module
from tests.service.conftest import make_tenant
from tests.support.frame_fuzzer import local_connection, local_worker
from tests.support.worker_bench import worker_bench
from tests.support.worker_measurement import Measurement, measured_cases


def _profile(measurement: Measurement) -> None:
    with cProfile.Profile() as profile:
        measurement.send()
    pstats.Stats(profile).sort_stats("tottime").print_stats(20)


async def _measure(profiled: str | None) -> None:
    # A turn is bounded by time in service; here it must hold whole batches.
    connection_module.TURN_SECONDS = 10.0  # type: ignore[misc]
    with tempfile.TemporaryDirectory() as directory:
        async with worker_bench(Path(directory)) as bench:
            tenant = await make_tenant(bench)
            cases = await measured_cases(tenant)
            worker = local_worker(bench)
            await worker.core.refresh_keys()
            certificate = tenant.identity.certificate_pem
            connection = await local_connection(worker, certificate, process_id=os.urandom(16))
            ticket = tenant.client.ticket
            for name, case in cases.items():
                for batch in (1, 16):
                    measurement = Measurement(connection, name, case, ticket=ticket, batch=batch)
                    await measurement.warm()
                    spent = measurement.best_us()
                    sys.stdout.write(f"{name:8} batch {batch:2}  {spent:7.2f} us\n")
                if name == profiled:
                    _profile(measurement)
            await worker.core.close()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--profile", choices=["echo", "p256", "gcm-1k", "find"])
    uvloop.run(_measure(parser.parse_args().profile))


if __name__ == "__main__":
    main()
