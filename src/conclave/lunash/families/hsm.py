"""The hsm family: what takes several calls."""

from __future__ import annotations

from typing import Final

from conclave.lunash.families.calls import answered, partitions
from conclave.lunash.render.hsm import hsm_policies, hsm_show
from conclave.lunash.render.policies import policy_set
from conclave.operations.commands import Answers, Command, Kind, Option, Output, ShellCall
from conclave.operations.hsm import HsmView, Policies, find_policy


async def _show(shell: ShellCall, _answers: Answers) -> Output:
    hsm = answered(await shell.call("hsm.show"), HsmView)
    config = shell.appliance.config
    lines = hsm_show(
        hsm,
        await partitions(shell),
        appliance_version=config.emulated.appliance,
        logged_in=shell.state.so_is_logged_in(shell.appliance.hsm),
        zeroizes=config.so_lockout == "zeroize",
        clock_warning=shell.appliance.hsm_time.warning(),
    )
    return Output(lines=lines, body=hsm)


async def _policies(shell: ShellCall, _answers: Answers) -> Output:
    hsm = answered(await shell.call("hsm.show"), HsmView)
    found = answered(await shell.call("hsm.policies"), Policies)
    return Output(lines=hsm_policies(hsm, found.policies), body=found)


def _policy_proceed(shell: ShellCall, answers: Answers) -> str:
    policy = find_policy(shell.appliance.hsm.policies(), str(answers["policy"]))
    if not policy.destructive:
        return ""
    return (
        f"CAUTION:  Changing policy {policy.name} erases the HSM.\n\n"
        "Type 'proceed' to change the policy, or 'quit' to quit now."
    )


async def _change_policy(shell: ShellCall, answers: Answers) -> Output:
    number = str(answers["policy"])
    await shell.call("hsm.policy.set", {"value": answers["value"]}, path={"policyid": number})
    found = answered(await shell.call("hsm.policies"), Policies)
    policy = next(each for each in found.policies if each.id == number)
    return Output(lines=policy_set("hsm changePolicy", policy))


COMMANDS: Final = (
    Command(
        words="hsm show",
        summary="Show the HSM: state, storage, partitions, how many SO logins are left.",
        chapter="2",
        run=_show,
        operations=("hsm.show", "partition.list", "partition.show"),
        json=True,
    ),
    Command(
        words="hsm showPolicies",
        summary="Show the HSM's policies.",
        chapter="2",
        run=_policies,
        operations=("hsm.show", "hsm.policies"),
        json=True,
    ),
    Command(
        words="hsm changePolicy",
        summary="Set a policy of the HSM; the HSM SO must be logged in.",
        chapter="2",
        options=(
            Option(
                name="policy",
                short="p",
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
        ),
        proceed=_policy_proceed,
        run=_change_policy,
        operations=("hsm.policy.set", "hsm.policies"),
    ),
)
