"""The configuration of the cluster service: addresses, devices, ports, identity mode."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from msgspec import UNSET, Meta, UnsetType, field

from conclave import faults
from conclave.appliance.cluster_service import ListenerConfig
from conclave.errors import BadInput
from conclave.lunash.render import cluster as render
from conclave.operations.commands import Command, Kind, Option
from conclave.operations.fields import Address, Port
from conclave.operations.model import (
    ADMINS,
    DONE,
    READERS,
    Arguments,
    Call,
    Doors,
    NoArguments,
    Reply,
    Result,
    operation,
)
from conclave.operations.reveals import Reveals

CONFIG = "/api/cluster/config"
Interface = Annotated[str, Meta(min_length=1, max_length=16, pattern=r"^[a-z][a-z0-9.:_-]*$")]


class SetCore(Arguments, frozen=True, tag_field="service", tag="core"):
    """The core address: one of the appliance's, fixed until factory reset."""

    address: Address | UnsetType = field(name="IpAddress", default=UNSET)
    same_address: Address | UnsetType = field(name="ipAddress", default=UNSET)


class SetListener(Arguments, frozen=True):
    """Device and port of a listener; what is absent stays."""

    interface: Interface | UnsetType = UNSET
    port: Port | UnsetType = UNSET


class SetAdmin(SetListener, frozen=True, tag_field="service", tag="admin"):
    """Where the admin service listens: port 50070 or 50075 to 50079."""


class SetCrypto(SetListener, frozen=True, tag_field="service", tag="crypto"):
    """Where the crypto service listens: port 50052 or 50055 to 50059."""


class SetIdentity(Arguments, frozen=True, tag_field="service", tag="identity"):
    """One password for both roles of a keyring, or one each; fixed once a cluster exists."""

    mode: Literal["single", "dual"]


_OPTIONS: Final = (
    Option(
        name="service",
        short="s",
        summary="what is configured",
        value="service",
        kind=Kind.CHOICE,
        choices=("core", "admin", "crypto", "identity"),
        target="service",
        required=True,
    ),
    Option(
        name="ipaddress",
        short="ip",
        summary="for core: one of the appliance's addresses, fixed until factory reset",
        value="appliance_IP",
        target="IpAddress",
    ),
    Option(
        name="interface",
        short="i",
        summary="for admin and crypto: the network device to listen at",
        value="netdevice",
        target="interface",
    ),
    Option(
        name="port",
        short="p",
        summary="for admin 50070 or 50075-50079, for crypto 50052 or 50055-50059",
        value="port",
        kind=Kind.NUMBER,
        target="port",
    ),
    Option(
        name="mode",
        short="m",
        summary="for identity: one password for a keyring's two roles, or one each",
        value="mode",
        kind=Kind.CHOICE,
        choices=("single", "dual"),
        target="mode",
    ),
)
Configure = SetCore | SetAdmin | SetCrypto | SetIdentity


class ServiceSetting(Result, frozen=True, omit_defaults=True):
    """The configuration of one part of the cluster service."""

    service: str
    ip_address: str | None = field(name="IpAddress", default=None)
    interface: str | None = None
    port: int | None = None
    mode: str | None = None


class Configuration(Result, frozen=True):
    """The configuration of the cluster service."""

    data: list[ServiceSetting]


def _listener(service: str, listener: ListenerConfig) -> ServiceSetting:
    return ServiceSetting(
        service=service, interface=listener.interface or "all", port=listener.port
    )


@operation(
    "cluster.config.show",
    "GET",
    CONFIG,
    summary="Show addresses, devices, ports and identity mode of the cluster service.",
    chapter="2",
    doors=Doors.BOTH,
    arguments=NoArguments,
    roles=READERS,
    reveals=Reveals.NOTHING,
    statuses=(200,),
    result=Configuration,
    paged=True,
    commands=(
        Command(
            words="cluster config show",
            summary="Show addresses, devices, ports and identity mode of the cluster service.",
            chapter="2",
            render=render.config_show,
        ),
    ),
)
async def show_config(call: Call, _arguments: NoArguments) -> Reply:
    """Show the configuration of the cluster service."""
    config = call.appliance.cluster.config()
    data = [
        ServiceSetting(service="core", ip_address=config.core_address or ""),
        _listener("admin", config.admin),
        _listener("crypto", config.crypto),
        ServiceSetting(service="identity", mode=config.identity),
    ]
    return Reply(body=Configuration(data=data))


def check_config(_call: Call, arguments: Configure) -> None:
    """The core address is given once; a listener is given a device or a port."""
    if isinstance(arguments, SetCore):
        given = {arguments.address, arguments.same_address} - {UNSET}
        if len(given) != 1:
            message = "IpAddress must be given, once, for the service core."
            raise BadInput(faults.BAD_REQUEST, message)
    elif isinstance(arguments, SetListener) and arguments.interface is arguments.port is UNSET:
        message = "interface or port must be given."
        raise BadInput(faults.BAD_REQUEST, message)


@operation(
    "cluster.config.set",
    "PUT",
    CONFIG,
    summary="Set the core address, device and port of a listener, or the identity mode.",
    chapter="2",
    doors=Doors.BOTH,
    arguments=Configure,
    roles=ADMINS,
    checks=(check_config,),
    faults=(faults.CLUSTER_CONFIG, faults.CLUSTER_CONFIG_FIXED),
    commands=(
        Command(
            words="cluster config",
            summary="Set the core address, device and port of a listener, or the identity mode.",
            chapter="2",
            options=_OPTIONS,
        ),
    ),
)
async def set_config(call: Call, arguments: Configure) -> Reply:
    """Change the configuration of the cluster service."""
    cluster = call.appliance.cluster
    match arguments:
        case SetCore():
            given = arguments.address
            address = arguments.same_address if isinstance(given, UnsetType) else given
            await cluster.set_core_address(str(address))
        case SetIdentity():
            await cluster.set_identity(arguments.mode)
        case SetAdmin() | SetCrypto():
            device, port = arguments.interface, arguments.port
            await cluster.set_listener(
                "admin" if isinstance(arguments, SetAdmin) else "crypto",
                interface=None if isinstance(device, UnsetType) else device,
                port=None if isinstance(port, UnsetType) else port,
            )
    return DONE
