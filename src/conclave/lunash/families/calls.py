"""What the families share: typed answers, and lists with all that a layout shows."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import TypeVar

import msgspec

from conclave import faults
from conclave.errors import InternalFault
from conclave.operations.commands import ShellCall
from conclave.operations.model import Reply
from conclave.operations.partitions import Partitions, PartitionView

Body = TypeVar("Body", bound=msgspec.Struct)


def answered(reply: Reply, wanted: type[Body]) -> Body:
    """Return an operation's answer; raise InternalFault when it is another than declared."""
    if not isinstance(reply.body, wanted):
        message = f"An operation answered {type(reply.body).__name__}, not {wanted.__name__}."
        raise InternalFault(faults.INTERNAL, message)
    return reply.body


@contextlib.asynccontextmanager
async def partition_login(
    shell: ShellCall, path: Mapping[str, str], role: str, password: str
) -> AsyncIterator[None]:
    """Hold a login of a partition's role; calls `partition.login` and `partition.logout`."""
    await shell.call("partition.login", {"role": role, "password": password}, path=path)
    try:
        yield
    finally:
        await shell.call("partition.logout", {"role": role}, path=path)


async def partitions(shell: ShellCall) -> list[PartitionView]:
    """Return all partitions; calls `partition.list` and `partition.show`."""
    found = answered(await shell.call("partition.list"), Partitions)
    return [
        answered(await shell.call("partition.show", path={"partitionid": each.id}), PartitionView)
        for each in found.partitions
    ]
