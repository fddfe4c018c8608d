"""What monitoring reads of an appliance: processors, memory, disk, network, time service."""

from __future__ import annotations

import asyncio
from typing import Literal

from conclave import faults
from conclave.appliance import host_state
from conclave.appliance.host_state import DeviceTraffic
from conclave.errors import NotFound
from conclave.operations.appliance import ROOT
from conclave.operations.hsm import HSM, Reference, check_hsm
from conclave.operations.model import READERS, Call, NoArguments, Reply, Result, operation

DEVICES = f"{ROOT}/network/devices"
DEVICE = f"{DEVICES}/{{deviceid}}"
NTP = f"{ROOT}/ntp"


class CpuView(Result, frozen=True):
    """Processors: load averages over 1, 5 and 15 minutes."""

    cores: int
    load_average: list[float]
    uptime_seconds: int


class MemoryView(Result, frozen=True):
    """Memory in bytes; `used` is what could not be had at once."""

    total: int
    used: int
    available: int


class DiskView(Result, frozen=True):
    """Disk space in bytes."""

    total: int
    used: int
    free: int
    partitions: str


class DiskPartition(Result, frozen=True):
    """One file system, in bytes."""

    id: str
    total: int
    used: int
    free: int


class DiskPartitions(Result, frozen=True):
    """The file systems that the appliance uses."""

    partitions: list[DiskPartition]


class Sensors(Result, frozen=True):
    """Sensors of the hardware: this appliance is software and has none."""

    sensors: list[Reference]


class NetworkView(Result, frozen=True):
    """The appliance on the network."""

    host_name: str
    devices: str


class DeviceList(Result, frozen=True):
    """Network devices."""

    devices: list[Reference]


class DeviceView(Result, frozen=True):
    """One network device."""

    id: str
    ip_address: str
    stats: str


class DeviceStats(Result, frozen=True):
    """What went through a device; zeros for a device that the host has under another name."""

    received_bytes: int = 0
    received_packets: int = 0
    received_errors: int = 0
    sent_bytes: int = 0
    sent_packets: int = 0
    sent_errors: int = 0


class NtpView(Result, frozen=True):
    """The time service: the appliance follows its host's clock, which the host's own keeps."""

    status: str
    servers: str


class NtpStatus(Result, frozen=True):
    """How the appliance's clock stands to its host's, in milliseconds."""

    synchronized_to: Literal["host", "manual"]
    offset_milliseconds: int


class NtpServers(Result, frozen=True):
    """Time servers; the host has them, and the appliance asks none itself."""

    servers: list[Reference]


class StorageSpace(Result, frozen=True):
    """The HSM's storage in bytes."""

    total: int
    used: int
    free: int


def check_device(call: Call, _arguments: object) -> None:
    """The network device must exist."""
    devices = call.appliance.config.interfaces
    if call.path["deviceid"] not in devices:
        known = ", ".join(sorted(devices))
        message = f"There is no network device {call.path['deviceid'][:32]!r}; there are {known}."
        raise NotFound(faults.NO_SUCH_RESOURCE, message)


@operation(
    "cpu.show",
    "GET",
    f"{ROOT}/cpu",
    summary="Show how busy the processors are.",
    arguments=NoArguments,
    roles=READERS,
    statuses=(200,),
    result=CpuView,
)
async def show_cpu(_call: Call, _arguments: NoArguments) -> Reply:
    """Show the processors."""
    cpu = host_state.read_cpu()
    loads = [round(each, 2) for each in (cpu.load_1, cpu.load_5, cpu.load_15)]
    return Reply(
        body=CpuView(cores=cpu.cores, load_average=loads, uptime_seconds=cpu.uptime_seconds)
    )


@operation(
    "memory.show",
    "GET",
    f"{ROOT}/memory",
    summary="Show how much memory is in use.",
    arguments=NoArguments,
    roles=READERS,
    statuses=(200,),
    result=MemoryView,
)
async def show_memory(_call: Call, _arguments: NoArguments) -> Reply:
    """Show the memory."""
    found = host_state.read_memory()
    used = found.total - found.available
    return Reply(body=MemoryView(total=found.total, used=used, available=found.available))


@operation(
    "disk.show",
    "GET",
    f"{ROOT}/disk",
    summary="Show how much room is where the appliance keeps its state.",
    arguments=NoArguments,
    roles=READERS,
    statuses=(200,),
    result=DiskView,
)
async def show_disk(call: Call, _arguments: NoArguments) -> Reply:
    """Show the disk."""
    disk = await asyncio.to_thread(host_state.read_disk, call.appliance.paths.root)
    url = f"{ROOT}/disk/partitions"
    return Reply(body=DiskView(total=disk.total, used=disk.used, free=disk.free, partitions=url))


@operation(
    "disk.partitions",
    "GET",
    f"{ROOT}/disk/partitions",
    summary="List the file systems that the appliance uses.",
    arguments=NoArguments,
    roles=READERS,
    statuses=(200,),
    result=DiskPartitions,
    paged=True,
)
async def list_disk_partitions(call: Call, _arguments: NoArguments) -> Reply:
    """List the file systems."""
    disk = await asyncio.to_thread(host_state.read_disk, call.appliance.paths.root)
    state = DiskPartition(id="state", total=disk.total, used=disk.used, free=disk.free)
    return Reply(body=DiskPartitions(partitions=[state]))


@operation(
    "sensor.list",
    "GET",
    f"{ROOT}/sensors",
    summary="List the hardware's sensors: an appliance of software has none.",
    arguments=NoArguments,
    roles=READERS,
    statuses=(200,),
    result=Sensors,
    paged=True,
)
async def list_sensors(_call: Call, _arguments: NoArguments) -> Reply:
    """List no sensors."""
    return Reply(body=Sensors(sensors=[]))


@operation(
    "network.show",
    "GET",
    f"{ROOT}/network",
    summary="Show the appliance's name and where its network devices are.",
    arguments=NoArguments,
    roles=READERS,
    statuses=(200,),
    result=NetworkView,
)
async def show_network(call: Call, _arguments: NoArguments) -> Reply:
    """Show the network."""
    return Reply(body=NetworkView(host_name=call.appliance.config.host_name, devices=DEVICES))


@operation(
    "network.devices",
    "GET",
    DEVICES,
    summary="List the network devices.",
    arguments=NoArguments,
    roles=READERS,
    statuses=(200,),
    result=DeviceList,
    paged=True,
)
async def list_devices(call: Call, _arguments: NoArguments) -> Reply:
    """List the network devices."""
    names = sorted(call.appliance.config.interfaces)
    found = [Reference(id=name, url=f"{DEVICES}/{name}") for name in names]
    return Reply(body=DeviceList(devices=found))


@operation(
    "network.device",
    "GET",
    DEVICE,
    summary="Show a network device.",
    arguments=NoArguments,
    roles=READERS,
    statuses=(200,),
    result=DeviceView,
    checks=(check_device,),
    faults=(faults.NO_SUCH_RESOURCE,),
)
async def show_device(call: Call, _arguments: NoArguments) -> Reply:
    """Show a network device."""
    name = call.path["deviceid"]
    address = call.appliance.config.interfaces[name]
    return Reply(body=DeviceView(id=name, ip_address=address, stats=f"{DEVICES}/{name}/stats"))


@operation(
    "network.device.stats",
    "GET",
    f"{DEVICE}/stats",
    summary="Show what went through a network device.",
    arguments=NoArguments,
    roles=READERS,
    statuses=(200,),
    result=DeviceStats,
    checks=(check_device,),
    faults=(faults.NO_SUCH_RESOURCE,),
)
async def show_device_stats(call: Call, _arguments: NoArguments) -> Reply:
    """Show a network device's traffic."""
    traffic = host_state.read_traffic().get(call.path["deviceid"])
    return Reply(body=DeviceStats() if traffic is None else _stats(traffic))


def _stats(traffic: DeviceTraffic) -> DeviceStats:
    return DeviceStats(
        received_bytes=traffic.received_bytes,
        received_packets=traffic.received_packets,
        received_errors=traffic.received_errors,
        sent_bytes=traffic.sent_bytes,
        sent_packets=traffic.sent_packets,
        sent_errors=traffic.sent_errors,
    )


@operation(
    "ntp.show",
    "GET",
    NTP,
    summary="Show where the time service's state is.",
    arguments=NoArguments,
    roles=READERS,
    statuses=(200,),
    result=NtpView,
)
async def show_ntp(_call: Call, _arguments: NoArguments) -> Reply:
    """Show the time service."""
    return Reply(body=NtpView(status=f"{NTP}/status", servers=f"{NTP}/servers"))


@operation(
    "ntp.status",
    "GET",
    f"{NTP}/status",
    summary="Show whether the appliance follows its host's clock, and how far it is from it.",
    arguments=NoArguments,
    roles=READERS,
    statuses=(200,),
    result=NtpStatus,
)
async def show_ntp_status(call: Call, _arguments: NoArguments) -> Reply:
    """Show how the clocks stand."""
    offset = call.appliance.time.offset_ms
    following: Literal["host", "manual"] = "manual" if offset else "host"
    return Reply(body=NtpStatus(synchronized_to=following, offset_milliseconds=offset))


@operation(
    "ntp.servers",
    "GET",
    f"{NTP}/servers",
    summary="List the time servers: the host has them, the appliance asks none itself.",
    arguments=NoArguments,
    roles=READERS,
    statuses=(200,),
    result=NtpServers,
    paged=True,
)
async def list_ntp_servers(_call: Call, _arguments: NoArguments) -> Reply:
    """List no time servers."""
    return Reply(body=NtpServers(servers=[]))


@operation(
    "hsm.storage",
    "GET",
    f"{HSM}/storageSpace",
    summary="Show how much of the HSM's storage is in use.",
    arguments=NoArguments,
    roles=READERS,
    statuses=(200,),
    result=StorageSpace,
    checks=(check_hsm,),
    faults=(faults.INVALID_HSM,),
)
async def show_storage(call: Call, _arguments: NoArguments) -> Reply:
    """Show the HSM's storage."""
    info = call.appliance.hsm.info()
    free = info.storage_total - info.storage_used
    return Reply(body=StorageSpace(total=info.storage_total, used=info.storage_used, free=free))
