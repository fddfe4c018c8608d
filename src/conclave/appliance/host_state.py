"""How the machine under the appliance fares: processors, memory, disk, network.

Read from the kernel's own pages at each call; numbers are as the kernel counts them.
"""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_PROC: Final = Path("/proc")


@dataclass(frozen=True, slots=True)
class CpuState:
    """Processors and how busy they are; load averages over 1, 5 and 15 minutes."""

    cores: int
    load_1: float
    load_5: float
    load_15: float
    uptime_seconds: int


@dataclass(frozen=True, slots=True)
class MemoryState:
    """Memory in bytes."""

    total: int
    available: int


@dataclass(frozen=True, slots=True)
class DiskState:
    """A file system in bytes."""

    path: str
    total: int
    used: int
    free: int


@dataclass(frozen=True, slots=True)
class DeviceTraffic:
    """What went through a network device since it was made."""

    received_bytes: int
    received_packets: int
    received_errors: int
    sent_bytes: int
    sent_packets: int
    sent_errors: int


def read_cpu() -> CpuState:
    """Return the state of the processors."""
    one, five, fifteen = os.getloadavg()
    uptime = int(time.clock_gettime(time.CLOCK_BOOTTIME))
    return CpuState(os.cpu_count() or 1, one, five, fifteen, uptime)


def parse_memory(text: str) -> MemoryState:
    """Read the text of /proc/meminfo."""
    rows = (line.partition(":") for line in text.splitlines())
    kibibytes = {name: int(value.split()[0]) for name, _, value in rows if value.split()}
    total, available = (kibibytes.get(name, 0) for name in ("MemTotal", "MemAvailable"))
    return MemoryState(total << 10, available << 10)


def read_memory() -> MemoryState:
    """Return the state of the memory."""
    return parse_memory((_PROC / "meminfo").read_text())


def read_disk(directory: Path) -> DiskState:
    """Return the state of the file system that a directory is on."""
    usage = shutil.disk_usage(directory)
    return DiskState(str(directory), usage.total, usage.used, usage.free)


def parse_traffic(text: str) -> dict[str, DeviceTraffic]:
    """Read the text of /proc/net/dev, by device."""
    found = {}
    for line in text.splitlines():
        name, colon, counters = line.partition(":")
        values = counters.split()
        if colon and len(values) >= 11:
            received, sent = values[0:3], values[8:11]
            found[name.strip()] = DeviceTraffic(*(int(each) for each in (*received, *sent)))
    return found


def read_traffic() -> dict[str, DeviceTraffic]:
    """Return the traffic of the host's network devices."""
    return parse_traffic((_PROC / "net/dev").read_text())
