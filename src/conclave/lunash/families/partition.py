"""The partition family: what takes several calls."""

from __future__ import annotations

from typing import Final

import msgspec

from conclave.lunash.families.calls import answered, partitions
from conclave.lunash.render.partition import partition_list, partition_show
from conclave.operations.commands import Answers, Command, Option, Output, ShellCall
from conclave.operations.hsm import Roles
from conclave.operations.partitions import PartitionView
from conclave.operations.places import partition_id


class PartitionDetails(msgspec.Struct, frozen=True):
    """All partitions with all that is known of each."""

    partitions: list[PartitionView]


async def _list(shell: ShellCall, _answers: Answers) -> Output:
    found = await partitions(shell)
    return Output(lines=partition_list(found), body=PartitionDetails(found))


async def _show(shell: ShellCall, answers: Answers) -> Output:
    path = {"partitionid": await partition_id(shell, answers["partition"])}
    partition = answered(await shell.call("partition.show", path=path), PartitionView)
    roles = answered(await shell.call("role.list", path=path), Roles).roles
    owner = next((role for role in roles if role.id == "co"), None)
    return Output(lines=partition_show(partition, owner), body=partition)


PARTITION: Final = Option(
    name="partition",
    short="pa",
    summary="label, name or serial number of the partition",
    value="label",
    required=True,
)
COMMANDS: Final = (
    Command(
        words="partition list",
        summary="List the partitions with their storage.",
        run=_list,
        operations=("partition.list", "partition.show"),
        json=True,
    ),
    Command(
        words="partition show",
        summary="Show a partition and the state of its Crypto Officer.",
        chapter="2",
        options=(PARTITION,),
        run=_show,
        operations=("partition.show", "role.list"),
        json=True,
    ),
)
