"""The families `sysconf`, `status` and `network`: what takes several calls."""

from __future__ import annotations

import re
from typing import Final

import msgspec

from conclave import faults
from conclave.errors import BadInput
from conclave.lunash.families.calls import answered
from conclave.lunash.render.system import interfaces, network_show, status_date
from conclave.lunash.render.tables import fields
from conclave.operations.appliance import TimeView
from conclave.operations.commands import Answers, Command, Option, Output, ShellCall
from conclave.operations.monitoring import DeviceList, DeviceStats, DeviceView, NetworkView
from conclave.operations.ntp import NtpServers, NtpStatus
from conclave.operations.syslog import RemoteHosts
from conclave.operations.web_server import WebServerView


class Interface(msgspec.Struct, frozen=True, rename="camel"):
    """One network device with its traffic."""

    device: DeviceView
    stats: DeviceStats


class Interfaces(msgspec.Struct, frozen=True, rename="camel"):
    """All network devices."""

    interfaces: list[Interface]


class Configuration(msgspec.Struct, frozen=True, rename="camel"):
    """What 'sysconf config factoryReset' takes back, but for the cluster's."""

    ntp_enabled: bool
    ntp_servers: list[str]
    syslog_remote_hosts: list[str]
    webserver_enabled: bool
    webserver_net_device: str
    webserver_max_file_size: int


class Network(msgspec.Struct, frozen=True, rename="camel"):
    """The appliance on the network."""

    host_name: str
    devices: list[DeviceView]


async def _devices(shell: ShellCall) -> list[DeviceView]:
    listed = answered(await shell.call("network.devices"), DeviceList)
    return [
        answered(await shell.call("network.device", path={"deviceid": each.id}), DeviceView)
        for each in listed.devices
    ]


async def _status_interface(shell: ShellCall, _answers: Answers) -> Output:
    found = []
    for device in await _devices(shell):
        path = {"deviceid": device.id}
        stats = answered(await shell.call("network.device.stats", path=path), DeviceStats)
        found.append((device, stats))
    body = Interfaces([Interface(device, stats) for device, stats in found])
    return Output(lines=interfaces(found), body=body)


async def _network_show(shell: ShellCall, _answers: Answers) -> Output:
    network = answered(await shell.call("network.show"), NetworkView)
    devices = await _devices(shell)
    body = Network(host_name=network.host_name, devices=devices)
    return Output(lines=network_show(network, devices), body=body)


async def _set_time(shell: ShellCall, answers: Answers) -> Output:
    sent = {"time": answers["time"]}
    if "date" in answers:
        sent["date"] = _iso_date(answers["date"])
    await shell.call("time.set", sent)
    now = answered(await shell.call("time.show"), TimeView)
    return Output(lines=status_date(now), body=now)


def _iso_date(given: str) -> str:
    found = re.fullmatch(r"(\d{4})-?(\d{2})-?(\d{2})", given, re.ASCII)
    if found is None:
        message = f"<date> must be YYYYMMDD; it is {given[:32]!r}."
        raise BadInput(faults.COMMAND_LINE, message)
    return "-".join(found.groups())


async def _add_server(shell: ShellCall, answers: Answers) -> Output:
    server = answers["server"]
    await shell.call("ntp.server.add", {"server": server})
    return Output(
        lines=(
            f"NTP server 'server {server}' added.",
            f"WARNING !! Server '{server}' added without authentication.",
        )
    )


async def _delete_server(shell: ShellCall, answers: Answers) -> Output:
    await shell.call("ntp.server.delete", path={"serverid": answers["server"]})
    return Output(lines=(f"NTP server {answers['server']} deleted",))


async def _config_show(shell: ShellCall, _answers: Answers) -> Output:
    webserver = answered(await shell.call("web_server.show"), WebServerView)
    status = answered(await shell.call("ntp.status"), NtpStatus)
    servers = answered(await shell.call("ntp.servers"), NtpServers)
    hosts = answered(await shell.call("syslog.remote_hosts"), RemoteHosts)
    body = Configuration(
        ntp_enabled=status.enabled,
        ntp_servers=[each.id for each in servers.servers],
        syslog_remote_hosts=[f"{each.id}/{each.protocol}" for each in hosts.remote_hosts],
        webserver_enabled=webserver.enabled,
        webserver_net_device=webserver.net_device,
        webserver_max_file_size=webserver.max_file_size,
    )
    rows = (
        ("ntp: enabled", "yes" if body.ntp_enabled else "no"),
        ("ntp: servers", " ".join(body.ntp_servers) or "none"),
        ("syslog: remote hosts", " ".join(body.syslog_remote_hosts) or "none"),
        ("webserver: enabled", "yes" if body.webserver_enabled else "no"),
        ("webserver: network device", body.webserver_net_device),
        ("webserver: max file size", str(body.webserver_max_file_size)),
    )
    return Output(lines=fields(rows), body=body)


async def _ntpdate(shell: ShellCall, answers: Answers) -> Output:
    before = answered(await shell.call("time.show"), TimeView)
    sent = {"server": answers["server"]} if "server" in answers else {}
    await shell.call("ntp.synchronize", sent, path={"actionid": "synchronize"})
    after = answered(await shell.call("time.show"), TimeView)
    return Output(
        lines=(
            "Current time before running ntpdate:",
            *status_date(before),
            "",
            "Current time after running ntpdate:",
            *status_date(after),
        )
    )


def _server(*, required: bool) -> Option:
    return Option(
        name="server",
        summary="host name or address; with :port when it is not 123",
        value="server",
        required=required,
        positional=True,
    )


COMMANDS: Final = (
    Command(
        words="status interface",
        summary="Show the network devices with their traffic.",
        run=_status_interface,
        operations=("network.devices", "network.device", "network.device.stats"),
        json=True,
    ),
    Command(
        words="network show",
        summary="Show the appliance's name and addresses.",
        run=_network_show,
        operations=("network.show", "network.devices", "network.device"),
        json=True,
    ),
    Command(
        words="sysconf config show",
        summary="Show what 'sysconf config factoryReset' takes back; 'cluster config show' too.",
        run=_config_show,
        operations=("web_server.show", "ntp.status", "ntp.servers", "syslog.remote_hosts"),
        json=True,
    ),
    Command(
        words="sysconf time",
        summary="Set the appliance's clock; the host's is never touched.",
        chapter="2",
        options=(
            Option(
                name="time",
                summary="time of day in the appliance's zone",
                value="HH:MM",
                required=True,
                positional=True,
            ),
            Option(
                name="date",
                summary="date; absent, today",
                value="YYYYMMDD",
                positional=True,
            ),
        ),
        run=_set_time,
        operations=("time.set", "time.show"),
    ),
    Command(
        words="sysconf ntp addserver",
        summary="Add a time server at the end of the list.",
        options=(_server(required=True),),
        run=_add_server,
        operations=("ntp.server.add",),
    ),
    Command(
        words="sysconf ntp deleteserver",
        summary="Remove a time server.",
        options=(_server(required=True),),
        run=_delete_server,
        operations=("ntp.server.delete",),
    ),
    Command(
        words="sysconf ntp ntpdate",
        summary="Set the clock once: by the server named, else by the listed ones, else the host.",
        chapter="2",
        options=(_server(required=False),),
        run=_ntpdate,
        operations=("ntp.synchronize", "time.show"),
    ),
)
