"""Layouts of `status`, `sysconf`, `network` and `webserver`.

They are ours, after the commands of Linux that the product shows there.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import TYPE_CHECKING

from conclave.lunash.render.tables import fields, table, yes_no

if TYPE_CHECKING:
    from conclave.operations.appliance import ApplianceView, TimeView, TimeZones
    from conclave.operations.monitoring import (
        CpuView,
        DeviceStats,
        DeviceView,
        DiskPartitions,
        MemoryView,
        NetworkView,
        Sensors,
    )
    from conclave.operations.web_server import Blocklist, WebServerView


def status_date(time: TimeView) -> Sequence[str]:
    """Return date, time and zone, as `date` prints them."""
    day = datetime.date.fromisoformat(time.date)
    return [f"{day:%a %b %e} {time.time} {time.time_zone} {day:%Y}"]


def status_time(time: TimeView) -> Sequence[str]:
    """Return the time of day."""
    return [time.time]


def status_zone(time: TimeView) -> Sequence[str]:
    """Return the time zone."""
    return [time.time_zone]


def time_zones(zones: TimeZones) -> Sequence[str]:
    """Return the names that a time zone may have."""
    return [each.id for each in zones.zones]


def status_cpu(cpu: CpuView) -> Sequence[str]:
    """Return the processors and how busy they are."""
    days, rest = divmod(cpu.uptime_seconds, 86_400)
    hours, minutes = rest // 3600, rest % 3600 // 60
    return fields(
        (
            ("Processors", str(cpu.cores)),
            ("Load (1, 5, 15 minutes)", " ".join(f"{each:.2f}" for each in cpu.load_average)),
            ("Uptime", f"{days} days, {hours:02}:{minutes:02}"),
        )
    )


def status_memory(memory: MemoryView) -> Sequence[str]:
    """Return the memory in KiB, as `free` prints it."""
    row = ("Mem", *(str(each >> 10) for each in (memory.total, memory.used, memory.available)))
    return table(("KiB", "total", "used", "available"), [row])


def status_disk(disks: DiskPartitions) -> Sequence[str]:
    """Return the file systems in KiB, as `df` prints them."""
    rows = [
        (
            each.id,
            str(each.total >> 10),
            str(each.used >> 10),
            str(each.free >> 10),
            f"{round(100 * each.used / max(each.total, 1))}%",
        )
        for each in disks.partitions
    ]
    return table(("File system", "1K-blocks", "Used", "Available", "Use%"), rows)


def status_sensors(sensors: Sensors) -> Sequence[str]:
    """Return the sensors."""
    return [each.id for each in sensors.sensors] or ["This appliance is software: no sensors."]


def status_system(appliance: ApplianceView) -> Sequence[str]:
    """Return how the appliance fares."""
    return fields(
        (
            ("Host Name", appliance.host_name),
            ("Software Version", appliance.version),
            ("Conclave Version", appliance.conclave_version),
            ("System Status", appliance.system_status),
            ("System Status Codes", appliance.system_status_codes or "none"),
        )
    )


def interfaces(devices: Sequence[tuple[DeviceView, DeviceStats]]) -> Sequence[str]:
    """Return the network devices with their traffic, as `ifconfig` prints them."""
    lines: list[str] = []
    for device, stats in devices:
        lines += [
            f"{device.id:<10}inet addr:{device.ip_address}",
            f"{'':10}RX packets:{stats.received_packets} errors:{stats.received_errors}"
            f" bytes:{stats.received_bytes}",
            f"{'':10}TX packets:{stats.sent_packets} errors:{stats.sent_errors}"
            f" bytes:{stats.sent_bytes}",
            "",
        ]
    return lines[:-1]


def network_show(network: NetworkView, devices: Sequence[DeviceView]) -> Sequence[str]:
    """Return the appliance's name and addresses."""
    rows = [("Hostname", network.host_name)]
    return [
        *fields(rows),
        "",
        *table(("Device", "IP address"), [(each.id, each.ip_address) for each in devices]),
    ]


def webserver_show(webserver: WebServerView) -> Sequence[str]:
    """Return the webserver's settings."""
    return fields(
        (
            ("Enabled", yes_no(webserver.enabled)),
            ("Network Device", webserver.net_device),
            ("Port", str(webserver.port)),
            ("Ciphers", webserver.cipher_list),
            ("Max File Size (bytes)", str(webserver.max_file_size)),
        )
    )


def webserver_blocklist(blocked: Blocklist) -> Sequence[str]:
    """Return the addresses that have to wait."""
    rows = [(each.id, str(each.wait_seconds)) for each in blocked.blocklist]
    return table(("Address", "Seconds"), rows) if rows else ["No address has to wait."]
