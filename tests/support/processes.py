"""What the kernel says of processes."""

from __future__ import annotations

import os
from pathlib import Path

from conclave.appliance.cluster_processes import WORKER_MODULE
from conclave.demo import processes


def alive(pid: int) -> bool:
    """Tell whether a process runs; one that only waits to be reaped does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in {"Z", "X"}


def worker_seconds(root: int) -> float:
    """Return the processor time that the crypto workers below a daemon have taken."""
    ticks = 0
    for pid in processes.family(root):
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
            words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if WORKER_MODULE.encode() in command:
            ticks += int(words[11]) + int(words[12])
    return ticks / os.sysconf("SC_CLK_TCK")
