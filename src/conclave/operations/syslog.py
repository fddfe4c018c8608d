"""The system log: what it has, turning it over, taking it away, sending it to other hosts."""

from __future__ import annotations

import asyncio
from typing import Annotated, Final

from msgspec import UNSET, Meta, UnsetType

from conclave import faults
from conclave.appliance.host_names import HOST_PATTERN
from conclave.appliance.log_files import MAX_ENTRIES, MAX_SEARCH
from conclave.appliance.remote_logs import DEFAULT_PORTS, Protocol, RemoteHost
from conclave.appliance.system_log import MESSAGES
from conclave.lunash.render.syslog import (
    exported_file,
    log_list,
    log_tail,
    remote_host_list,
)
from conclave.operations.appliance import ROOT
from conclave.operations.commands import PATH, Command, Kind, Option
from conclave.operations.fields import Port
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
from conclave.operations.support_info import WrittenFile
from conclave.operations.users import USERS

SYSLOG = f"{ROOT}/syslog"
LOG = f"{ROOT}/logs/{{logid}}"
REMOTE_HOSTS = f"{SYSLOG}/remoteHosts"
ARCHIVE_NAME: Final = "logs.tgz"
DEFAULT_ENTRIES: Final = 20
LogName = Annotated[str, Meta(pattern=r"^[a-z][a-z0-9-]{0,31}$")]
HostAddress = Annotated[
    str,
    Meta(max_length=254, pattern=f"^{HOST_PATTERN}$", description="a host name or an address"),
]


class SyslogView(Result, frozen=True):
    """Links to the parts of the system log."""

    logs: str
    remote_hosts: str


class LogView(Result, frozen=True):
    """One log: bytes of its current file, and how many older files there are."""

    id: str
    size: int
    older_files: int
    url: str


class Logs(Result, frozen=True):
    """All logs."""

    logs: list[LogView]


class Tail(Arguments, frozen=True):
    """The last `entries` lines, of those that hold the text `search`."""

    entries: Annotated[int, Meta(ge=1, le=MAX_ENTRIES)] = DEFAULT_ENTRIES
    search: Annotated[str, Meta(max_length=MAX_SEARCH)] = ""


class Lines(Result, frozen=True):
    """Lines of a log, the oldest first."""

    entries: list[str]


class Export(Arguments, frozen=True):
    """The log, and the name of the file; `messages.log` for `messages` when it is absent."""

    log: LogName = MESSAGES
    file_name: Annotated[str, Meta(min_length=1, max_length=64)] | UnsetType = UNSET


class RemoteHostView(Result, frozen=True):
    """One host that lines are sent to."""

    id: str
    host: str
    port: int
    protocol: str
    url: str
    last_error: str
    """Why lines do not get there; empty while they do, as far as is known."""


class RemoteHosts(Result, frozen=True):
    """All hosts that lines are sent to."""

    remote_hosts: list[RemoteHostView]


class AddRemoteHost(Arguments, frozen=True):
    """Host name or address, port (514, over TLS 6514 when absent) and protocol.

    A host over TLS must have a certificate of its name or address by an authority of the setting
    `logs.remote_ca_file`.
    """

    host: HostAddress
    port: Port | UnsetType = UNSET
    protocol: Protocol = "udp"


@operation(
    "syslog.show",
    "GET",
    SYSLOG,
    summary="Show where the logs and the remote hosts are.",
    arguments=NoArguments,
    roles=READERS,
    reveals=Reveals.NOTHING,
    statuses=(200,),
    result=SyslogView,
    only="REST: links to resources.",
)
async def show_syslog(_call: Call, _arguments: NoArguments) -> Reply:
    """Show the parts of the system log."""
    return Reply(body=SyslogView(logs=f"{SYSLOG}/logs", remote_hosts=REMOTE_HOSTS))


@operation(
    "syslog.logs",
    "GET",
    f"{SYSLOG}/logs",
    summary="List the logs.",
    chapter="7",
    arguments=NoArguments,
    roles=READERS,
    reveals=Reveals.HISTORY,
    statuses=(200,),
    result=Logs,
    paged=True,
    commands=(Command(words="syslog list", summary="List the logs.", render=log_list),),
)
async def list_logs(call: Call, _arguments: NoArguments) -> Reply:
    """List the logs."""
    found = await asyncio.to_thread(call.appliance.syslog.files.logs)
    logs = [
        LogView(
            id=each.name,
            size=each.size_bytes,
            older_files=each.older_files,
            url=LOG.format(logid=each.name),
        )
        for each in found
    ]
    return Reply(body=Logs(logs=logs))


@operation(
    "syslog.tail",
    "POST",
    LOG,
    summary="Read the last lines of a log.",
    chapter="7",
    arguments=Tail,
    roles=READERS,
    reveals=Reveals.HISTORY,
    statuses=(200,),
    result=Lines,
    faults=(faults.NO_SUCH_RESOURCE,),
    audited=False,
    commands=(
        Command(
            words="syslog tail",
            summary="Read the last lines of a log.",
            chapter="7",
            options=(
                Option(
                    name="logname",
                    short="l",
                    summary="a log of 'syslog list', such as messages or lunalogs",
                    value="name",
                    target=f"{PATH}logid",
                    required=True,
                ),
                Option(
                    name="entries",
                    short="e",
                    summary=f"how many lines; {DEFAULT_ENTRIES} when absent",
                    value="number",
                    kind=Kind.NUMBER,
                    target="entries",
                ),
                Option(
                    name="search",
                    short="s",
                    summary="only lines that hold this text",
                    value="text",
                    target="search",
                ),
            ),
            render=log_tail,
        ),
    ),
)
async def tail_log(call: Call, arguments: Tail) -> Reply:
    """Read the last lines of a log."""
    files, name = call.appliance.syslog.files, call.path["logid"]
    lines = await asyncio.to_thread(files.tail, name, arguments.entries, arguments.search)
    return Reply(body=Lines(entries=lines))


@operation(
    "syslog.rotate",
    "POST",
    f"{SYSLOG}/actions/rotate",
    summary="Begin all logs anew; what they have becomes their newest older file.",
    arguments=NoArguments,
    roles=OPERATORS,
    commands=(Command(words="syslog rotate", summary="Begin all logs anew."),),
)
async def rotate_logs(call: Call, _arguments: NoArguments) -> Reply:
    """Turn all logs over."""
    await call.appliance.syslog.rotate()
    return DONE


@operation(
    "syslog.cleanup",
    "POST",
    f"{SYSLOG}/actions/cleanup",
    summary="Remove the older files of all logs.",
    arguments=NoArguments,
    roles=OPERATORS,
    commands=(
        Command(
            words="syslog cleanup",
            summary="Remove the older files of all logs.",
            proceed=(
                "The older files of all logs will be removed; export them first if they are"
                " needed.\n\nType 'proceed' to remove them, or 'quit' to quit now."
            ),
            success="Deleting log files ...",
        ),
    ),
)
async def clean_up_logs(call: Call, _arguments: NoArguments) -> Reply:
    """Remove the older files."""
    await call.appliance.syslog.clean_up()
    return DONE


def _written(call: Call, name: str) -> Reply:
    url = f"{USERS}/{call.by.user.user_id}/files/{name}"
    return Reply(body=WrittenFile(url=url), location=url)


@operation(
    "syslog.export",
    "POST",
    f"{SYSLOG}/actions/export",
    summary="Write a log, with its older files, to one's own files.",
    chapter="7",
    arguments=Export,
    roles=OPERATORS,
    reveals=Reveals.HISTORY,
    statuses=(201,),
    result=WrittenFile,
    faults=(faults.NO_SUCH_RESOURCE,),
    commands=(
        Command(
            words="syslog export",
            summary="Write a log, with its older files, to your files; fetch it with scp.",
            chapter="7",
            options=(
                Option(
                    name="logname",
                    short="l",
                    summary="a log of 'syslog list'; messages when absent",
                    value="name",
                    target="log",
                ),
                Option(
                    name="filename",
                    short="fi",
                    summary="name of the file; <log>.log when absent",
                    value="filename",
                    target="fileName",
                ),
            ),
            render=exported_file,
        ),
    ),
)
async def export_log(call: Call, arguments: Export) -> Reply:
    """Write a log to the caller's files."""
    given = arguments.file_name
    name = f"{arguments.log}.log" if isinstance(given, UnsetType) else given
    chunks = await asyncio.to_thread(call.appliance.syslog.files.chunks, arguments.log)
    await asyncio.to_thread(call.appliance.files.store, call.by.user.user_id, name, chunks)
    return _written(call, name)


@operation(
    "syslog.tarlogs",
    "POST",
    f"{SYSLOG}/actions/tarlogs",
    summary=f"Write all logs, with their older files, to {ARCHIVE_NAME} among one's own files.",
    chapter="7",
    arguments=NoArguments,
    roles=OPERATORS,
    reveals=Reveals.HISTORY,
    statuses=(201,),
    result=WrittenFile,
    commands=(
        Command(
            words="syslog tarlogs",
            summary=f"Write all logs to {ARCHIVE_NAME} among your files; fetch it with scp.",
            chapter="7",
            render=exported_file,
        ),
    ),
)
async def archive_logs(call: Call, _arguments: NoArguments) -> Reply:
    """Write all logs to the caller's files."""
    user_id, appliance = call.by.user.user_id, call.appliance

    def write() -> None:
        with appliance.files.writing(user_id, ARCHIVE_NAME) as incoming:
            appliance.syslog.files.archive(incoming.stream)

    await asyncio.to_thread(write)
    return _written(call, ARCHIVE_NAME)


@operation(
    "syslog.remote_hosts",
    "GET",
    REMOTE_HOSTS,
    summary="List the hosts that lines of messages and lunalogs are sent to.",
    arguments=NoArguments,
    roles=READERS,
    reveals=Reveals.NOTHING,
    statuses=(200,),
    result=RemoteHosts,
    paged=True,
    commands=(
        Command(
            words="syslog remotehost list",
            summary="List the hosts that lines of messages and lunalogs are sent to.",
            render=remote_host_list,
        ),
    ),
)
async def list_remote_hosts(call: Call, _arguments: NoArguments) -> Reply:
    """List the remote hosts."""
    found = [
        RemoteHostView(
            id=each.host_id,
            host=each.address,
            port=each.port,
            protocol=each.protocol,
            url=f"{REMOTE_HOSTS}/{each.host_id}",
            last_error=call.appliance.syslog.last_error(each.host_id),
        )
        for each in call.appliance.syslog.remote_hosts
    ]
    return Reply(body=RemoteHosts(remote_hosts=found))


@operation(
    "syslog.remote_host.add",
    "POST",
    REMOTE_HOSTS,
    summary="Send lines of messages and lunalogs to another host, by RFC 5424.",
    arguments=AddRemoteHost,
    roles=OPERATORS,
    faults=(faults.SYSLOG_HOST_EXISTS,),
    commands=(
        Command(
            words="syslog remotehost add",
            summary="Send lines of messages and lunalogs to another host, by RFC 5424.",
            options=(
                Option(
                    name="host",
                    summary="host name or address",
                    value="host",
                    target="host",
                    required=True,
                    positional=True,
                ),
                Option(
                    name="port",
                    summary="port; 514, over TLS 6514 when absent",
                    value="port",
                    kind=Kind.NUMBER,
                    target="port",
                ),
                Option(
                    name="protocol",
                    summary="udp when absent",
                    value="protocol",
                    kind=Kind.CHOICE,
                    choices=("udp", "tcp", "tls"),
                    target="protocol",
                ),
            ),
        ),
    ),
)
async def add_remote_host(call: Call, arguments: AddRemoteHost) -> Reply:
    """Add a remote host."""
    protocol = arguments.protocol
    port = DEFAULT_PORTS[protocol] if isinstance(arguments.port, UnsetType) else arguments.port
    host = RemoteHost(arguments.host, port, protocol)
    await call.appliance.syslog.add_remote(host)
    return Reply(location=f"{REMOTE_HOSTS}/{host.host_id}")


@operation(
    "syslog.remote_host.delete",
    "DELETE",
    f"{REMOTE_HOSTS}/{{hostid}}",
    summary="Send no more lines to a host.",
    arguments=NoArguments,
    roles=OPERATORS,
    faults=(faults.SYSLOG_HOST_NOT_FOUND,),
    commands=(
        Command(
            words="syslog remotehost delete",
            summary="Send no more lines to a host.",
            options=(
                Option(
                    name="host",
                    summary="the host as it was added, or with :port",
                    value="host",
                    target=f"{PATH}hostid",
                    required=True,
                    positional=True,
                ),
            ),
        ),
    ),
)
async def delete_remote_host(call: Call, _arguments: NoArguments) -> Reply:
    """Remove a remote host."""
    await call.appliance.syslog.remove_remote(call.path["hostid"])
    return DONE
