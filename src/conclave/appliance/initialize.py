"""Make the state directory of a new appliance."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from conclave import faults
from conclave.appliance.paths import StatePaths
from conclave.appliance.tls import ensure_webserver_certificate
from conclave.clock import ApplianceClock
from conclave.errors import Conflict, InternalFault, Unavailable
from conclave.hsm.hsm import Hsm
from conclave.settings import ApplianceConfig, check_config, write_config


def initialize_appliance(config: ApplianceConfig) -> str:
    """Make directories, HSM, webserver certificate and settings; return the HSM's serial.

    The settings come last: where they are, the appliance is complete. Raises Conflict when they
    are there already, Unavailable when a file cannot be made; a directory left half way is
    completed by the next attempt.
    """
    check_config(config)
    paths = StatePaths(config.state_dir)
    if paths.config.exists():
        message = f"There is an appliance in {paths.root} already; choose another directory."
        raise Conflict(faults.SERVICE_FAILED, message)
    with files_that_can_be_written():
        paths.make()
        serial = asyncio.run(_make_hsm(paths))
        now = ApplianceClock(offset_ms=lambda: 0).now()
        addresses = config.interfaces.values()
        ensure_webserver_certificate(paths.webserver, config.host_name, addresses, now)
        write_config(config, paths.config)
    return serial


@contextmanager
def files_that_can_be_written() -> Iterator[None]:
    """Raise Unavailable, which names the file, where the host refuses to make or change one."""
    try:
        yield
    except OSError as cause:
        message = f"{cause.filename or 'A file'} could not be written: {cause.strerror}."
        raise Unavailable(faults.SERVICE_FAILED, message) from cause


async def _make_hsm(paths: StatePaths) -> str:
    hsm = await Hsm.open(paths.hsm, _no_hasher)
    try:
        return hsm.info().serial
    finally:
        await hsm.close()


async def _no_hasher(_password: bytes, _salt: bytes, _source: str) -> bytes:
    raise InternalFault(faults.INTERNAL, "No password is checked while an appliance is made.")
