"""The partition family: what makes a partition ready, and its roles' passwords.

LunaSH keeps no login of a partition's roles: each command proves the one that it needs.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from conclave import faults
from conclave.errors import BadInput, NotAllowed
from conclave.hsm.policies import PARTITION_VERSION
from conclave.hsm.policy_templates import MAX_TEMPLATE_BYTES, read_template
from conclave.lunash.families.calls import answered, partition_login
from conclave.lunash.families.own_files import read_own
from conclave.lunash.families.partition import PARTITION
from conclave.lunash.render.policies import policy_set
from conclave.operations.commands import (
    Answers,
    Command,
    Kind,
    Option,
    Output,
    ShellCall,
    credential,
    new_credential,
)
from conclave.operations.hsm import Policies, PolicyView
from conclave.operations.partitions import policy_warning
from conclave.operations.places import find_partition, partition_id

_PSO_LOGIN: Final = ("partition.login", "partition.logout")


async def _path(shell: ShellCall, answers: Answers) -> dict[str, str]:
    return {"partitionid": await partition_id(shell, answers["partition"])}


# ---- initialise


async def _init(shell: ShellCall, answers: Answers) -> Output:
    path = await _path(shell, answers)
    changes: dict[int, int] = {}
    if "applytemplate" in answers:
        content = await read_own(shell, answers["applytemplate"], most_bytes=MAX_TEMPLATE_BYTES)
        listed = answered(await shell.call("partition.policies", path=path), Policies)
        changes = _changes(read_template(content), listed)
    password = answers["password"]
    sent: dict[str, object] = {"password": password}
    if "domain" in answers:
        sent["domain"] = answers["domain"]
    else:
        sent["defaultDomain"] = True
    if "label" in answers:
        sent["label"] = answers["label"]
    await shell.call("partition.initialize", sent, path=path)
    if changes:
        async with partition_login(shell, path, "so", password):
            for number, value in changes.items():
                place = {**path, "policyid": str(number)}
                await shell.call("partition.policy.set", {"value": value}, path=place)
    return Output(lines=("'partition init' successful.",))


def _changes(wanted: dict[int, int], listed: Policies) -> dict[int, int]:
    """Return what a template changes, in the order in which it is to be set; raise BadInput."""
    policies = {int(each.id): each for each in listed.policies}
    for number, value in wanted.items():
        known = policies.get(number)
        if known is None:
            numbers = ", ".join(str(each) for each in policies)
            message = f"The template sets policy {number}; this partition has {numbers}."
            raise BadInput(faults.INVALID_POLICY, message)
        if not known.minimum <= value <= known.maximum:
            message = (
                f"The template sets policy {number} ({known.name}) to {value}; on this partition"
                f" it must lie between {known.minimum} and {known.maximum}."
            )
            raise BadInput(faults.BAD_REQUEST, message)
    # The version first: it decides what the others are.
    order = sorted(wanted, key=lambda number: (number != PARTITION_VERSION, number))
    return {number: wanted[number] for number in order if wanted[number] != policies[number].value}


async def _init_co(shell: ShellCall, answers: Answers) -> Output:
    path = await _path(shell, answers)
    async with partition_login(shell, path, "so", answers["psopin"]):
        sent = {"password": answers["copin"]}
        await shell.call("role.initialize", sent, path={**path, "roleid": "co"})
    return Output(lines=("'partition init co' successful.",))


# ---- policies


def _policy_proceed(shell: ShellCall, answers: Answers) -> str:
    partition = find_partition(shell, answers["partition"])
    warning = policy_warning(shell.appliance, partition.partition_id, str(answers["policy"]))
    if not warning:
        return ""
    return f"CAUTION:  {warning}\n\nType 'proceed' to change the policy, or 'quit' to quit now."


async def _change_policy(shell: ShellCall, answers: Answers) -> Output:
    path = await _path(shell, answers)
    place = {**path, "policyid": str(answers["policy"])}
    async with partition_login(shell, path, "so", answers["psopin"]):
        await shell.call("partition.policy.set", {"value": answers["value"]}, path=place)
        listed = answered(await shell.call("partition.policies", path=path), Policies)
    return Output(lines=policy_set("partition changePolicy", _named(listed, answers["policy"])))


def _named(listed: Policies, number: int) -> PolicyView:
    return next(each for each in listed.policies if each.id == str(number))


# ---- passwords


async def _change_password(shell: ShellCall, answers: Answers) -> Output:
    path = {**await _path(shell, answers), "roleid": answers.get("role", "co")}
    sent = {"oldPassword": answers["oldpw"], "newPassword": answers["newpw"]}
    await shell.call("role.password", sent, path=path)
    return Output(lines=("'partition changePw' successful.",))


def _reset_proceed(_shell: ShellCall, answers: Answers) -> str:
    if "unlock" in answers:
        return ""
    return (
        "CAUTION:  A new password of the Crypto Officer destroys the partition's SMK, and with it"
        " all that was sealed under it. Give -unlock to unlock the role only.\n\n"
        "Type 'proceed' to reset the password, or 'quit' to quit now."
    )


async def _reset_password(shell: ShellCall, answers: Answers) -> Output:
    path = await _path(shell, answers)
    sent = {} if "unlock" in answers else {"password": answers["newpw"]}
    async with partition_login(shell, path, "so", answers["psopin"]):
        place = {**path, "roleid": answers.get("role", "co")}
        await shell.call("role.reset", sent, path=place)
    return Output(lines=("'partition resetPw' successful.",))


async def _activate(shell: ShellCall, answers: Answers) -> Output:
    name = find_partition(shell, answers["partition"]).name
    message = (
        f"Partition {name} is authenticated by passwords: there is no PED credential to activate."
        " The cluster's partition is opened by 'cluster member authorize'."
    )
    raise NotAllowed(faults.FUNCTION_NOT_SUPPORTED, message)


_PSO_PIN: Final = credential(
    "psopin",
    short="ps",
    summary="password of the Partition SO",
    prompt="Please enter the Partition SO's password:",
    target="psopin",
)
_ROLE: Final = Option(
    name="role",
    short="r",
    summary="the role: so, co or cu; co if absent",
    kind=Kind.CHOICE,
    value="role",
    choices=("so", "co", "cu"),
)
_NEW_PASSWORD: Final = new_credential(
    "newpw",
    short="n",
    summary="new password of the role",
    prompt="Please enter a new password for the role:",
    target="newPassword",
)
COMMANDS: Final = (
    Command(
        words="partition init",
        summary="Initialise a partition and its Partition SO, with policies from a template.",
        chapter="2",
        options=(
            PARTITION,
            Option(
                name="applytemplate",
                short="a",
                summary="name of one of your files with a policy template",
                value="filename",
            ),
            Option(name="label", short="l", summary="label; the name if absent", value="label"),
            new_credential(
                "password",
                short="pas",
                summary="new password of the Partition SO",
                prompt="Enter password for Partition SO:",
                confirm="Re-enter password for Partition SO:",
                target="password",
            ),
            Option(
                name="domain",
                short="do",
                summary="cloning domain",
                kind=Kind.CREDENTIAL,
                value="domain",
                required=True,
                prompt="Enter the domain name:",
                confirm="Re-enter the domain name:",
                unless=("defaultdomain",),
            ),
            Option(
                name="defaultdomain",
                short="de",
                summary="use the default cloning domain, which everybody knows",
                kind=Kind.FLAG,
            ),
        ),
        proceed=lambda _shell, _answers: "",
        run=_init,
        operations=(
            "partition.policies",
            "partition.initialize",
            *_PSO_LOGIN,
            "partition.policy.set",
        ),
    ),
    Command(
        words="partition init co",
        summary="Initialise a partition's Crypto Officer, whose first password must be changed.",
        chapter="2",
        options=(
            PARTITION,
            _PSO_PIN,
            new_credential(
                "copin",
                short="c",
                summary="first password of the Crypto Officer",
                prompt="Please enter a password for the Crypto Officer:",
                target="copin",
            ),
        ),
        proceed="Type 'proceed' to initialize the Crypto Officer, or 'quit' to quit now.",
        run=_init_co,
        operations=(*_PSO_LOGIN, "role.initialize"),
    ),
    Command(
        words="partition changePolicy",
        summary="Set a policy of a partition; one in use by a cluster is asked about.",
        chapter="2",
        options=(
            PARTITION,
            Option(
                name="policy",
                short="po",
                summary="number of the policy",
                kind=Kind.NUMBER,
                value="number",
                required=True,
            ),
            Option(
                name="value",
                short="v",
                summary="new value",
                kind=Kind.NUMBER,
                value="number",
                required=True,
            ),
            _PSO_PIN,
        ),
        proceed=_policy_proceed,
        run=_change_policy,
        operations=(*_PSO_LOGIN, "partition.policy.set", "partition.policies"),
    ),
    Command(
        words="partition changePw",
        summary="Change a role's password, the Crypto Officer's if no role is named.",
        chapter="2",
        options=(
            PARTITION,
            _ROLE,
            credential(
                "oldpw",
                short="o",
                summary="current password of the role",
                prompt="Please enter the role's current password:",
                target="oldPassword",
            ),
            _NEW_PASSWORD,
        ),
        run=_change_password,
        operations=("role.password",),
    ),
    Command(
        words="partition resetPw",
        summary="Unlock a role, or give it a new first password.",
        options=(
            PARTITION,
            _ROLE,
            _PSO_PIN,
            replace(_NEW_PASSWORD, unless=("unlock",)),
            Option(name="unlock", short="u", summary="leave the password as it is", kind=Kind.FLAG),
        ),
        proceed=_reset_proceed,
        run=_reset_password,
        operations=(*_PSO_LOGIN, "role.reset"),
    ),
    Command(
        words="partition activate",
        summary="Refused: activation keeps the credential of a PED, which this HSM has not.",
        options=(PARTITION,),
        run=_activate,
        only="LunaSH: it only says what to do instead",
    ),
)
