"""The time service: servers, state, and setting the clock by one of them."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import UNSET, Meta, UnsetType

from conclave import faults
from conclave.appliance.ntp import SERVER_PATTERN
from conclave.errors import BadInput, NotFound
from conclave.lunash.render.ntp import ntp_list, ntp_status
from conclave.operations.appliance import ROOT
from conclave.operations.commands import Command
from conclave.operations.hsm import Reference
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

NTP = f"{ROOT}/ntp"
SERVERS = f"{NTP}/servers"
Server = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=255,
        pattern=SERVER_PATTERN,
        description="a host name or an address, with :port when it is not 123",
    ),
]


class NtpView(Result, frozen=True):
    """The time service, and where its parts are."""

    enabled: bool
    status: str
    servers: str


class NtpStatus(Result, frozen=True):
    """How the appliance's clock stands to its host's, in milliseconds, and by whose word."""

    synchronized_to: Literal["host", "manual", "server"]
    offset_milliseconds: int
    enabled: bool
    server: str = ""
    """The server that the clock was set by, with its stratum and delay."""
    stratum: int = 0
    delay_milliseconds: int = 0
    last_answer: str = ""
    """When, in appliance time (UTC)."""
    error: str = ""
    """Why the last round of the running service took no answer."""


class NtpServers(Result, frozen=True):
    """Time servers, in the order in which they are asked."""

    servers: list[Reference]


class ConfigureNtp(Arguments, frozen=True):
    """Whether the time service runs, now and after each start."""

    enabled: bool


class AddServer(Arguments, frozen=True):
    """A host name or an address, with `:port` when it is not 123."""

    server: Server


class Synchronize(Arguments, frozen=True):
    """The time server to ask; absent, those that are listed, or the host's clock without any.

    `nts` and `keyId` are known by name only: this appliance authenticates no time server.
    """

    server: Server | UnsetType = UNSET
    nts: bool | UnsetType = UNSET
    key_id: Annotated[int, Meta(ge=1, le=65535)] | UnsetType = UNSET
    protocol_version: Annotated[int, Meta(ge=3, le=4)] | UnsetType = UNSET


def check_synchronize(call: Call, arguments: Synchronize) -> None:
    """The action must be synchronize, without authentication of the server."""
    if call.path["actionid"] != "synchronize":
        message = f"Service ntp has no action {call.path['actionid'][:16]!r}; it has synchronize."
        raise NotFound(faults.SERVICE_ACTION, message)
    if arguments.nts is True or not isinstance(arguments.key_id, UnsetType):
        message = "nts and keyId are not supported: time servers are asked without authentication."
        raise BadInput(faults.FUNCTION_NOT_SUPPORTED, message)


@operation(
    "ntp.show",
    "GET",
    NTP,
    summary="Show whether the time service runs, and where its state is.",
    arguments=NoArguments,
    roles=READERS,
    reveals=Reveals.NOTHING,
    statuses=(200,),
    result=NtpView,
    only="REST: links to resources; 'sysconf ntp status' shows the rest.",
)
async def show_ntp(call: Call, _arguments: NoArguments) -> Reply:
    """Show the time service."""
    enabled = call.appliance.ntp.enabled
    return Reply(body=NtpView(enabled=enabled, status=f"{NTP}/status", servers=SERVERS))


@operation(
    "ntp.configure",
    "PATCH",
    NTP,
    summary="Start or stop the time service, now and for each start of the appliance.",
    arguments=ConfigureNtp,
    roles=OPERATORS,
    commands=(
        Command(
            words="sysconf ntp enable",
            summary="Start the time service, now and for each start of the appliance.",
            fixed={"enabled": True},
            success="NTP is enabled and running.",
        ),
        Command(
            words="sysconf ntp disable",
            summary="Stop the time service; the clock keeps its offset.",
            fixed={"enabled": False},
            success="NTP is disabled and stopped.",
        ),
    ),
)
async def configure_ntp(call: Call, arguments: ConfigureNtp) -> Reply:
    """Start or stop the time service."""
    await call.appliance.ntp.set_enabled(arguments.enabled)
    return DONE


@operation(
    "ntp.status",
    "GET",
    f"{NTP}/status",
    summary="Show what the appliance's clock follows, and how far it is from its host's.",
    arguments=NoArguments,
    roles=READERS,
    reveals=Reveals.NOTHING,
    statuses=(200,),
    result=NtpStatus,
    commands=(
        Command(
            words="sysconf ntp status",
            summary="Show whether the time service runs and what the clock follows.",
            render=ntp_status,
        ),
    ),
)
async def show_ntp_status(call: Call, _arguments: NoArguments) -> Reply:
    """Show how the clocks stand."""
    service, offset = call.appliance.ntp, call.appliance.time.offset_ms
    follows = service.follows
    if follows is None:
        return Reply(
            body=NtpStatus(
                synchronized_to="manual" if offset else "host",
                offset_milliseconds=offset,
                enabled=service.enabled,
                error=service.last_error if service.enabled else "",
            )
        )
    return Reply(
        body=NtpStatus(
            synchronized_to="server",
            offset_milliseconds=offset,
            enabled=service.enabled,
            server=follows.server,
            stratum=follows.stratum,
            delay_milliseconds=follows.delay_ms,
            last_answer=f"{follows.at:%Y-%m-%dT%H:%M:%SZ}",
            error=service.last_error if service.enabled else "",
        )
    )


@operation(
    "ntp.servers",
    "GET",
    SERVERS,
    summary="List the time servers in the order in which they are asked.",
    arguments=NoArguments,
    roles=READERS,
    reveals=Reveals.NOTHING,
    statuses=(200,),
    result=NtpServers,
    paged=True,
    commands=(
        Command(
            words="sysconf ntp list",
            summary="List the time servers.",
            render=ntp_list,
        ),
    ),
)
async def list_ntp_servers(call: Call, _arguments: NoArguments) -> Reply:
    """List the time servers."""
    found = [Reference(id=each, url=f"{SERVERS}/{each}") for each in call.appliance.ntp.servers]
    return Reply(body=NtpServers(servers=found))


@operation(
    "ntp.server.add",
    "POST",
    SERVERS,
    summary="Add a time server at the end of the list.",
    arguments=AddServer,
    roles=OPERATORS,
    faults=(faults.NTP_SERVER_EXISTS,),
)
async def add_ntp_server(call: Call, arguments: AddServer) -> Reply:
    """Add a time server."""
    await call.appliance.ntp.add(arguments.server)
    return Reply(location=f"{SERVERS}/{arguments.server}")


@operation(
    "ntp.server.delete",
    "DELETE",
    f"{SERVERS}/{{serverid}}",
    summary="Remove a time server.",
    arguments=NoArguments,
    roles=OPERATORS,
    faults=(faults.NTP_SERVER_NOT_FOUND,),
)
async def delete_ntp_server(call: Call, _arguments: NoArguments) -> Reply:
    """Remove a time server."""
    await call.appliance.ntp.remove(call.path["serverid"])
    return DONE


@operation(
    "ntp.synchronize",
    "POST",
    f"{NTP}/actions/{{actionid}}",
    summary="Set the appliance's time by a time server, or by its host's clock without any.",
    chapter="2",
    arguments=Synchronize,
    roles=OPERATORS,
    checks=(check_synchronize,),
    faults=(
        faults.SERVICE_ACTION,
        faults.FUNCTION_NOT_SUPPORTED,
        faults.NTP_RUNNING,
        faults.NTP_FAILED,
    ),
)
async def synchronize(call: Call, arguments: Synchronize) -> Reply:
    """Set the clock once."""
    server = None if isinstance(arguments.server, UnsetType) else arguments.server
    version = arguments.protocol_version
    await call.appliance.ntp.synchronize(
        server, version=4 if isinstance(version, UnsetType) else version
    )
    return DONE
