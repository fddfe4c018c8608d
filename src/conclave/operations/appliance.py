"""The appliance as a whole: its links, and its time."""

from __future__ import annotations

import asyncio
import zoneinfo
from typing import Annotated

from msgspec import UNSET, Meta, UnsetType

from conclave import __version__, faults
from conclave.errors import BadInput
from conclave.lunash.render.system import (
    status_date,
    status_system,
    status_time,
    status_zone,
    time_zones,
)
from conclave.operations.commands import Command, Option
from conclave.operations.model import (
    DONE,
    OPERATORS,
    READERS,
    Arguments,
    Call,
    NoArguments,
    Reply,
    Result,
    operation,
)
from conclave.operations.reveals import Reveals
from conclave.versions import BUILD

ROOT = "/api/lunasa"


class ApplianceView(Result, frozen=True):
    """Links to the parts of the appliance, and a few of its values."""

    audit: str
    cluster: str
    cpu: str
    disk: str
    hsms: str
    memory: str
    network: str
    ntp: str
    packages: str
    sensors: str
    services: str
    syslog: str
    time: str
    users: str
    web_server: str
    version: str
    """As the product family has it; Conclave's own is beside it (rule D6)."""
    conclave_version: str
    host_name: str
    system_status: str = "ISO (In Service Okay)"
    system_status_codes: str = ""
    force_so_login: bool = False


class ClusterLinks(Result, frozen=True):
    """Links to what belongs to the cluster."""

    config: str = "/api/cluster/config"
    clusters: str = "/api/clusters"
    keyrings: str = "/api/keyrings"
    certificate_authority: str = "/api/cluster/ca"
    service: str = "/api/lunasa/services/cluster"


class TimeView(Result, frozen=True):
    """Appliance time in its zone."""

    date: str
    time: str
    time_zone: str


class TimeZone(Result, frozen=True):
    """A name that the time zone may have."""

    id: str


class TimeZones(Result, frozen=True):
    """All time zones."""

    zones: list[TimeZone]


class SetTime(Arguments, frozen=True):
    """Date, time and zone; what is absent stays."""

    date: Annotated[str, Meta(pattern=r"^\d{4}-\d{2}-\d{2}$")] | UnsetType = UNSET
    time: Annotated[str, Meta(pattern=r"^\d{2}:\d{2}(:\d{2})?$")] | UnsetType = UNSET
    time_zone: Annotated[str, Meta(min_length=1, max_length=64)] | UnsetType = UNSET


@operation(
    "appliance.show",
    "GET",
    ROOT,
    summary="Show the appliance: links to its parts, version, health.",
    arguments=NoArguments,
    roles=READERS,
    reveals=Reveals.NOTHING,
    statuses=(200,),
    result=ApplianceView,
    commands=(
        Command(
            words="status sysstat show",
            summary="Show the appliance's version and health.",
            render=status_system,
        ),
    ),
)
async def show_appliance(call: Call, _arguments: NoArguments) -> Reply:
    """Show the appliance."""
    return Reply(
        body=ApplianceView(
            audit=f"{ROOT}/audit",
            cluster=f"{ROOT}/cluster",
            cpu=f"{ROOT}/cpu",
            disk=f"{ROOT}/disk",
            hsms=f"{ROOT}/hsms",
            memory=f"{ROOT}/memory",
            network=f"{ROOT}/network",
            ntp=f"{ROOT}/ntp",
            packages=f"{ROOT}/packages",
            sensors=f"{ROOT}/sensors",
            services=f"{ROOT}/services",
            syslog=f"{ROOT}/syslog",
            time=f"{ROOT}/time",
            users="/users",
            web_server=f"{ROOT}/webServer",
            version=f"{call.appliance.config.emulated.appliance}-{BUILD}",
            conclave_version=__version__,
            host_name=call.appliance.config.host_name,
        )
    )


@operation(
    "appliance.cluster",
    "GET",
    f"{ROOT}/cluster",
    summary="Show where the cluster's resources are.",
    arguments=NoArguments,
    roles=READERS,
    reveals=Reveals.NOTHING,
    statuses=(200,),
    result=ClusterLinks,
    only="REST: links to resources.",
)
async def show_cluster_links(_call: Call, _arguments: NoArguments) -> Reply:
    """Show where the cluster's resources are."""
    return Reply(body=ClusterLinks())


@operation(
    "time.show",
    "GET",
    f"{ROOT}/time",
    summary="Show the appliance's time and zone.",
    arguments=NoArguments,
    roles=READERS,
    reveals=Reveals.NOTHING,
    statuses=(200,),
    result=TimeView,
    commands=(
        Command(
            words="status date",
            summary="Show date, time and zone.",
            chapter="2",
            render=status_date,
        ),
        Command(
            words="status time",
            summary="Show the time.",
            render=status_time,
        ),
        Command(
            words="status zone",
            summary="Show the time zone.",
            render=status_zone,
        ),
        Command(
            words="sysconf timezone show",
            summary="Show the time zone.",
            render=status_zone,
        ),
    ),
)
async def show_time(call: Call, _arguments: NoArguments) -> Reply:
    """Show the appliance's time and zone."""
    now = call.appliance.time.local_now()
    zone = call.appliance.time.zone
    return Reply(body=TimeView(date=f"{now:%Y-%m-%d}", time=f"{now:%H:%M:%S}", time_zone=zone))


@operation(
    "time.zones",
    "GET",
    f"{ROOT}/time/zones",
    summary="List the names that the time zone may have.",
    arguments=NoArguments,
    roles=READERS,
    reveals=Reveals.NOTHING,
    statuses=(200,),
    result=TimeZones,
    paged=True,
    commands=(
        Command(
            words="sysconf timezone list",
            summary="List the names that the time zone may have.",
            render=time_zones,
        ),
    ),
)
async def list_time_zones(_call: Call, _arguments: NoArguments) -> Reply:
    """List the time zones."""
    names = await asyncio.to_thread(zoneinfo.available_timezones)
    return Reply(body=TimeZones(zones=[TimeZone(id=name) for name in sorted(names)]))


async def _set(call: Call, arguments: SetTime) -> Reply:
    given = (arguments.date, arguments.time, arguments.time_zone)
    date, time, zone = (None if isinstance(value, UnsetType) else value for value in given)
    if date is None and time is None and zone is None:
        message = "Give date, time, timeZone, or several of them."
        raise BadInput(faults.BAD_REQUEST, message)
    if time is not None and time.count(":") == 1:
        time = f"{time}:00"
    await call.appliance.time.set(date=date, time=time, zone=zone)
    return DONE


@operation(
    "time.set",
    "PUT",
    f"{ROOT}/time",
    summary="Set the appliance's time; the host's clock is never touched.",
    chapter="2",
    arguments=SetTime,
    roles=OPERATORS,
)
async def set_time(call: Call, arguments: SetTime) -> Reply:
    """Set the appliance's time."""
    return await _set(call, arguments)


@operation(
    "time.change",
    "PATCH",
    f"{ROOT}/time",
    summary="Set date, time or zone alone.",
    arguments=SetTime,
    roles=OPERATORS,
    commands=(
        Command(
            words="sysconf timezone set",
            summary="Set the time zone; the time of the clock stays.",
            options=(
                Option(
                    name="zone",
                    summary="a name of 'sysconf timezone list', such as Europe/Paris or EST",
                    value="zone",
                    target="timeZone",
                    required=True,
                    positional=True,
                ),
            ),
        ),
    ),
)
async def change_time(call: Call, arguments: SetTime) -> Reply:
    """Set the appliance's time, in the form that older callers use."""
    return await _set(call, arguments)
