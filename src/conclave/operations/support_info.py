"""The file that support asks for: what runs, in which version and state, and no secret."""

from __future__ import annotations

import asyncio

from conclave import __version__, faults
from conclave.appliance import host_state
from conclave.appliance.packages import listed_name
from conclave.operations.commands import Command
from conclave.operations.hsm import HSM, check_hsm
from conclave.operations.model import OPERATORS, Call, NoArguments, Reply, Result, operation
from conclave.operations.users import USERS
from conclave.versions import BUILD

FILE_NAME = "supportInfo.txt"
_RULE = "-" * 72


class WrittenFile(Result, frozen=True):
    """Where the file is."""

    url: str


async def _text(call: Call) -> str:
    appliance, info = call.appliance, call.appliance.hsm.info()
    installed = [listed_name(package) for package in await appliance.packages.installed()]
    if not any(name.startswith("cluster_service-") for name in installed):
        installed.append(f"cluster_service-{__version__}-{BUILD} (comes with Conclave)")
    disk = await asyncio.to_thread(host_state.read_disk, appliance.paths.root)
    memory, cpu = host_state.read_memory(), host_state.read_cpu()
    summary = await appliance.audit.summary()
    emulated = appliance.config.emulated
    sections = {
        "Appliance": [
            f"Host name: {appliance.config.host_name}",
            f"Conclave: {__version__}",
            f"Appliance version: {emulated.appliance}",
            f"Firmware version: {emulated.firmware}",
            f"Time: {appliance.time.local_now():%Y-%m-%d %H:%M:%S} {appliance.time.zone}",
            f"Offset to the host's clock: {appliance.time.offset_ms} ms",
        ],
        "Packages": installed,
        "Services": [
            f"{service.service_id}: {service.state}, on boot {service.on_boot}"
            for service in appliance.services()
        ],
        "HSM": [
            f"Serial number: {info.serial}",
            f"Label: {info.label}",
            f"Initialized: {info.initialized}, zeroized: {info.zeroized}",
            f"Storage: {info.storage_used} of {info.storage_total} bytes",
            f"Partitions: {len(appliance.hsm.partitions())}",
        ],
        "Host": [
            f"Processors: {cpu.cores}, load {cpu.load_1:.2f} {cpu.load_5:.2f} {cpu.load_15:.2f}",
            f"Memory: {memory.available} of {memory.total} bytes available",
            f"Disk: {disk.free} of {disk.total} bytes free",
        ],
        "Audit log": [f"Records: {summary.head.sequence}", f"Bytes: {summary.total_bytes}"],
    }
    lines: list[str] = []
    for title, rows in sections.items():
        lines += [_RULE, title, _RULE, *rows, ""]
    return "\n".join(lines)


@operation(
    "hsm.support_info",
    "POST",
    f"{HSM}/supportInfo",
    summary="Write supportInfo.txt, with versions and states and no secret, to one's own files.",
    chapter="7",
    arguments=NoArguments,
    roles=OPERATORS,
    statuses=(201,),
    result=WrittenFile,
    checks=(check_hsm,),
    faults=(faults.INVALID_HSM,),
    commands=(
        Command(
            words="hsm supportInfo",
            summary="Write supportInfo.txt, with versions and states and no secret, to your files.",
            chapter="7",
            success=(
                "'hsm supportInfo' successful.\n\n"
                f"Use 'scp' from a client machine to get file named:\n{FILE_NAME}"
            ),
        ),
    ),
)
async def write_support_info(call: Call, _arguments: NoArguments) -> Reply:
    """Write the file."""
    user_id, text = call.by.user.user_id, await _text(call)
    files = call.appliance.files
    await asyncio.to_thread(files.store, user_id, FILE_NAME, [text.encode()])
    url = f"{USERS}/{user_id}/files/{FILE_NAME}"
    return Reply(body=WrittenFile(url=url), location=url)
