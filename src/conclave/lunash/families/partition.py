"""The partition family: what takes several calls."""

from __future__ import annotations

from typing import Final

import msgspec

from conclave.hsm.policy_templates import written_template
from conclave.lunash.families.calls import answered, partition_login, partitions
from conclave.lunash.families.own_files import write_own
from conclave.lunash.render.partition import (
    partition_contents,
    partition_list,
    partition_policies,
    partition_show,
)
from conclave.operations.commands import Answers, Command, Option, Output, ShellCall, credential
from conclave.operations.hsm import Policies
from conclave.operations.hsm_roles import Roles
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


async def _show_policies(shell: ShellCall, answers: Answers) -> Output:
    path = {"partitionid": await partition_id(shell, answers["partition"])}
    partition = answered(await shell.call("partition.show", path=path), PartitionView)
    found = answered(await shell.call("partition.policies", path=path), Policies)
    if "exporttemplate" in answers:
        rows = [(int(each.id), each.name, each.value) for each in found.policies]
        text = written_template(rows, shell.appliance.config.emulated.firmware)
        where = await write_own(shell, answers["exporttemplate"], text.encode())
        return Output(lines=["Partition policies successfully written.", "", *where], body=found)
    return Output(lines=partition_policies(partition, found.policies), body=found)


async def _contents(shell: ShellCall, answers: Answers) -> Output:
    path = {"partitionid": await partition_id(shell, answers["partition"])}
    async with partition_login(shell, path, "co", answers["password"]):
        partition = answered(await shell.call("partition.show", path=path), PartitionView)
    return Output(lines=partition_contents(partition), body=partition)


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
    Command(
        words="partition showPolicies",
        summary="Show the policies of a partition, or write them into a template file.",
        chapter="2",
        options=(
            PARTITION,
            Option(
                name="exporttemplate",
                short="e",
                summary="name of the file to write, for 'partition init -applytemplate'",
                value="filename",
            ),
        ),
        run=_show_policies,
        operations=("partition.show", "partition.policies"),
        json=True,
    ),
    Command(
        words="partition contents",
        summary="Show how much a partition holds, proving its Crypto Officer's password.",
        options=(
            PARTITION,
            credential(
                "password",
                short="pas",
                summary="password of the Crypto Officer",
                prompt="Please enter the password for the partition:",
                target="password",
            ),
        ),
        run=_contents,
        operations=("partition.login", "partition.logout", "partition.show"),
        json=True,
    ),
)
