"""Reboot the host or power it off: systemd does it, when the installation allows it."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final, Literal

from conclave import faults
from conclave.errors import NotAllowed, Unavailable

PROGRAM: Final = "systemctl"
ANSWER_SECONDS: Final = 20.0
Action = Literal["reboot", "poweroff"]


def require_host_power(allowed: bool) -> None:
    """Refuse when the setting `host_power` is false; `conclave appliance install` sets it."""
    if not allowed:
        message = (
            "This appliance may not reboot its host or power it off: it was not installed there by"
            " 'conclave appliance install' (setting host_power). Ask whoever runs the host."
        )
        raise NotAllowed(faults.HOST_POWER, message)


async def ask_systemd(action: Action) -> None:
    """Ask systemd, which ends this process among others; raise Unavailable when it refuses."""
    try:
        process = await asyncio.create_subprocess_exec(
            PROGRAM,
            "--no-ask-password",
            action,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
    except OSError as cause:
        message = f"{PROGRAM} cannot be run on this host: {cause.strerror}."
        raise Unavailable(faults.HOST_POWER, message) from cause
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            _out, said = await process.communicate()
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        message = f"systemd did not answer within {ANSWER_SECONDS:g} s; the host goes on."
        raise Unavailable(faults.HOST_POWER, message) from None
    if process.returncode != 0:
        words = " ".join(said.decode(errors="replace").split())[:200]
        message = f"systemd refuses to {action} the host: {words or process.returncode}."
        raise Unavailable(faults.HOST_POWER, message)
