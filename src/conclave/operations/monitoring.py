"""What monitoring reads of an appliance: processors, memory, disk, network."""

from __future__ import annotations

import asyncio

from conclave import faults
from conclave.appliance import host_state
from conclave.appliance.host_state import DeviceTraffic
from conclave.errors import NotFound
from conclave.lunash.render.system import (
    status_cpu,
    status_disk,
    status_memory,
    status_sensors,
)
from conclave.operations.appliance import ROOT
from conclave.operations.commands import Command
from conclave.operations.hsm import HSM, Reference, check_hsm
from conclave.operations.model import READERS, Call, NoArguments, Reply, Result, operation
from conclave.operations.reveals import Reveals

DEVICES = f"{ROOT}/network/devices"
DEVICE = f"{DEVICES}/{{deviceid}}"


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
    reveals=Reveals.NOTHING,
    statuses=(200,),
    result=CpuView,
    commands=(
        Command(
            words="status cpu",
            summary="Show how busy the processors are.",
            render=status_cpu,
        ),
    ),
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
    reveals=Reveals.NOTHING,
    statuses=(200,),
    result=MemoryView,
    commands=(
        Command(
            words="status mem",
            summary="Show how much memory is in use.",
            render=status_memory,
        ),
    ),
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
    reveals=Reveals.NOTHING,
    statuses=(200,),
    result=DiskView,
    only="REST: the state directory's row of what 'status disk' shows.",
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
    reveals=Reveals.NOTHING,
    statuses=(200,),
    result=DiskPartitions,
    paged=True,
    commands=(
        Command(
            words="status disk",
            summary="Show how much room the file systems have.",
            render=status_disk,
        ),
    ),
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
    reveals=Reveals.NOTHING,
    statuses=(200,),
    result=Sensors,
    paged=True,
    commands=(
        Command(
            words="status sensors",
            summary="List the hardware's sensors.",
            render=status_sensors,
        ),
    ),
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
    reveals=Reveals.NOTHING,
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
    reveals=Reveals.NOTHING,
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
    reveals=Reveals.NOTHING,
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
    reveals=Reveals.NOTHING,
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
    "hsm.storage",
    "GET",
    f"{HSM}/storageSpace",
    summary="Show how much of the HSM's storage is in use.",
    arguments=NoArguments,
    roles=READERS,
    reveals=Reveals.NOTHING,
    statuses=(200,),
    result=StorageSpace,
    checks=(check_hsm,),
    faults=(faults.INVALID_HSM,),
    only="REST: 'hsm show' has the storage.",
)
async def show_storage(call: Call, _arguments: NoArguments) -> Reply:
    """Show the HSM's storage."""
    info = call.appliance.hsm.info()
    free = info.storage_total - info.storage_used
    return Reply(body=StorageSpace(total=info.storage_total, used=info.storage_used, free=free))
