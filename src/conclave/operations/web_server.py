"""The webserver's settings, and whom it lets wait after wrong passwords."""

from __future__ import annotations

from typing import Annotated, TypeVar

from msgspec import UNSET, Meta, UnsetType

from conclave import faults
from conclave.appliance.webserver_settings import ALL_DEVICES, LEAST_FILE_BYTES, MOST_FILE_BYTES
from conclave.errors import BadInput
from conclave.lunash.render.system import webserver_blocklist, webserver_show
from conclave.operations.appliance import ROOT
from conclave.operations.commands import Command, Kind, Option
from conclave.operations.fields import Port
from conclave.operations.model import (
    ADMINS,
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

WEB_SERVER = f"{ROOT}/webServer"
Value = TypeVar("Value")
CIPHERS = "TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_GCM_SHA256"
"""What TLS 1.3 has; nothing older is spoken."""
_OF_OLD = "REST: an older name of web_server.blocklist."


class WebServerView(Result, frozen=True):
    """The webserver; `maxFileSize` in bytes, `netDevice` one of the interfaces or all."""

    enabled: bool
    cipher_list: str
    net_device: str
    port: int
    max_file_size: int
    blocklist: str


class ChangeWebServer(Arguments, frozen=True):
    """What is absent stays; `enabled` false ends REST until LunaSH enables it again."""

    enabled: bool | UnsetType = UNSET
    cipher_list: Annotated[str, Meta(min_length=1, max_length=1024)] | UnsetType = UNSET
    net_device: Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_]{0,15}$")] | UnsetType = UNSET
    port: Port | UnsetType = UNSET
    max_file_size: Annotated[int, Meta(ge=LEAST_FILE_BYTES, le=MOST_FILE_BYTES)] | UnsetType = UNSET


class BlockedSource(Result, frozen=True):
    """An address that has to wait."""

    id: str
    wait_seconds: int


class Blocklist(Result, frozen=True):
    """Addresses that have to wait after too many wrong passwords."""

    blocklist: list[BlockedSource]


class Blacklist(Result, frozen=True):
    """The same, under the name that older callers use."""

    blacklist: list[BlockedSource]


def given(value: Value | UnsetType) -> Value | None:
    """Return what was sent, None for what was left out."""
    return None if isinstance(value, UnsetType) else value


def check_web_server_change(call: Call, arguments: ChangeWebServer) -> None:
    """Ciphers and port are those of the configuration file; the device must exist."""
    devices = (ALL_DEVICES, *sorted(call.appliance.config.interfaces))
    if arguments.net_device is not UNSET and arguments.net_device not in devices:
        message = f"netDevice must be one of {', '.join(devices)}; it is {arguments.net_device!r}."
        raise BadInput(faults.BAD_REQUEST, message)
    fixed = (
        ("cipherList", arguments.cipher_list, CIPHERS, "TLS 1.3 alone is spoken"),
        (
            "port",
            arguments.port,
            call.appliance.config.rest_port,
            "rest_port in conclave.toml sets it, from the next start on",
        ),
    )
    for field, given, present, why in fixed:
        if given not in (UNSET, present):
            message = f"{field} is {present!r} and cannot be changed here: {why}."
            raise BadInput(faults.SERVICE_FIXED, message)


@operation(
    "web_server.show",
    "GET",
    WEB_SERVER,
    summary="Show the webserver's settings.",
    arguments=NoArguments,
    roles=READERS,
    reveals=Reveals.NOTHING,
    statuses=(200,),
    result=WebServerView,
    commands=(
        Command(
            words="webserver show",
            summary="Show the webserver's settings.",
            chapter="2",
            render=webserver_show,
        ),
    ),
)
async def show_web_server(call: Call, _arguments: NoArguments) -> Reply:
    """Show the webserver's settings."""
    return Reply(
        body=WebServerView(
            cipher_list=CIPHERS,
            enabled=call.appliance.webserver.enabled,
            net_device=call.appliance.webserver.net_device,
            port=call.appliance.config.rest_port,
            max_file_size=call.appliance.webserver.max_file_bytes,
            blocklist=f"{WEB_SERVER}/blocklist",
        )
    )


@operation(
    "web_server.change",
    "PATCH",
    WEB_SERVER,
    summary="Change whether and where REST listens, and how large an uploaded file may be.",
    arguments=ChangeWebServer,
    roles=OPERATORS,
    checks=(check_web_server_change,),
    faults=(faults.SERVICE_FIXED,),
    commands=(
        Command(
            words="webserver enable",
            summary="Let REST listen, now and after each start.",
            chapter="2",
            fixed={"enabled": True},
        ),
        Command(
            words="webserver disable",
            summary="Let REST listen no more, now and after each start.",
            fixed={"enabled": False},
        ),
        Command(
            words="webserver bind",
            summary="Let REST listen on one network device, or on all.",
            chapter="2",
            options=(
                Option(
                    name="netdevice",
                    short="n",
                    summary="a device of 'network show', or all",
                    value="device",
                    target="netDevice",
                    required=True,
                ),
            ),
        ),
        Command(
            words="webserver set",
            summary="Change how large an uploaded file may be, by whatever door.",
            options=(
                Option(
                    name="maxfilesize",
                    short="m",
                    summary="bytes of one file",
                    value="bytes",
                    kind=Kind.NUMBER,
                    target="maxFileSize",
                    required=True,
                ),
            ),
        ),
    ),
)
async def change_web_server(call: Call, arguments: ChangeWebServer) -> Reply:
    """Change the webserver's settings."""
    await call.appliance.webserver.change(
        max_file_bytes=given(arguments.max_file_size),
        enabled=given(arguments.enabled),
        net_device=given(arguments.net_device),
    )
    return Reply()


def _blocked(call: Call) -> list[BlockedSource]:
    waits = call.appliance.users.waiting_sources()
    return [
        BlockedSource(id=source, wait_seconds=seconds) for source, seconds in sorted(waits.items())
    ]


@operation(
    "web_server.blocklist",
    "GET",
    f"{WEB_SERVER}/blocklist",
    summary="List the addresses that have to wait after too many wrong passwords.",
    arguments=NoArguments,
    roles=ADMINS,
    statuses=(200,),
    result=Blocklist,
    paged=True,
    commands=(
        Command(
            words="webserver blocklist list",
            summary="List the addresses that have to wait after too many wrong passwords.",
            render=webserver_blocklist,
        ),
    ),
)
async def list_blocked(call: Call, _arguments: NoArguments) -> Reply:
    """List the addresses that have to wait."""
    return Reply(body=Blocklist(blocklist=_blocked(call)))


@operation(
    "web_server.blacklist",
    "GET",
    f"{WEB_SERVER}/blacklist",
    summary="List the addresses that have to wait, under the name that older callers use.",
    arguments=NoArguments,
    roles=ADMINS,
    statuses=(200,),
    result=Blacklist,
    paged=True,
    only=_OF_OLD,
)
async def list_blocked_of_old(call: Call, _arguments: NoArguments) -> Reply:
    """List the addresses that have to wait, as older callers ask."""
    return Reply(body=Blacklist(blacklist=_blocked(call)))
