"""The HSM's clock, and what its mechanisms have done."""

from __future__ import annotations

from conclave import faults
from conclave.lunash.render.hsm import information_show, time_show
from conclave.operations.commands import Command
from conclave.operations.hsm import HSM, check_hsm
from conclave.operations.model import (
    DONE,
    OPERATORS,
    READERS,
    Call,
    NoArguments,
    Reply,
    Result,
    operation,
)
from conclave.operations.reveals import Reveals

TIME = f"{HSM}/time"


class HsmTimeView(Result, frozen=True):
    """The HSM's time and the appliance's, in the appliance's zone."""

    hsm_time: str
    appliance_time: str
    time_zone: str
    synchronized: bool
    warning: str


class HsmInformation(Result, frozen=True):
    """Counts: of cryptography since the cluster service started, else since the appliance did."""

    operation_requests: int
    """Logins and changes of the HSM, its partitions, roles and policies, and all cryptography."""
    operation_errors: int
    crypto_operation_requests: int
    crypto_operation_errors: int
    critical_events: int
    """Zeroizations by wrong passwords."""
    non_critical_events: int
    """Wrong passwords of the HSM's roles, and logins to locked ones."""


@operation(
    "hsm.time",
    "GET",
    TIME,
    summary="Show the HSM's clock beside the appliance's.",
    arguments=NoArguments,
    roles=READERS,
    reveals=Reveals.NOTHING,
    statuses=(200,),
    result=HsmTimeView,
    checks=(check_hsm,),
    faults=(faults.INVALID_HSM,),
    commands=(
        Command(
            words="hsm time get",
            summary="Show the HSM's clock beside the appliance's.",
            chapter="2",
            render=time_show,
        ),
    ),
)
async def show_time(call: Call, _arguments: NoArguments) -> Reply:
    """Show the HSM's time."""
    hsm_time, time = call.appliance.hsm_time, call.appliance.time
    return Reply(
        body=HsmTimeView(
            hsm_time=f"{hsm_time.local_now():%Y-%m-%d %H:%M:%S}",
            appliance_time=f"{time.local_now():%Y-%m-%d %H:%M:%S}",
            time_zone=time.zone,
            synchronized=hsm_time.synchronized,
            warning=hsm_time.warning(),
        )
    )


@operation(
    "hsm.time.synchronize",
    "POST",
    f"{TIME}/actions/synchronize",
    summary="Set the HSM's clock to the appliance's.",
    chapter="2",
    arguments=NoArguments,
    roles=OPERATORS,
    checks=(check_hsm,),
    faults=(faults.INVALID_HSM,),
    commands=(
        Command(
            words="hsm time sync",
            summary="Set the HSM's clock to the appliance's.",
            chapter="2",
            success="'hsm time sync' successful.",
        ),
    ),
)
async def synchronize_time(call: Call, _arguments: NoArguments) -> Reply:
    """Set the HSM's clock."""
    await call.appliance.hsm_time.synchronize()
    return DONE


@operation(
    "hsm.information",
    "GET",
    f"{HSM}/information",
    summary="Show how many operations and events the HSM had.",
    arguments=NoArguments,
    roles=READERS,
    reveals=Reveals.USE,
    statuses=(200,),
    result=HsmInformation,
    checks=(check_hsm,),
    faults=(faults.INVALID_HSM,),
    commands=(
        Command(
            words="hsm information show",
            summary="Show how many operations and events the HSM had.",
            render=information_show,
        ),
    ),
)
async def show_information(call: Call, _arguments: NoArguments) -> Reply:
    """Sum up the counts of the HSM and of all workers."""
    processes = call.appliance.cluster.processes
    readings = {} if processes is None else processes.readings()
    every = [each for worker in readings.values() for each in worker]
    failures = sum(each.failures for each in every)
    requests = sum(sum(each.classes) for each in every) + failures
    counts = call.appliance.hsm.counts
    return Reply(
        body=HsmInformation(
            operation_requests=counts.requests + requests,
            operation_errors=counts.errors + failures,
            crypto_operation_requests=requests,
            crypto_operation_errors=failures,
            critical_events=counts.critical_events,
            non_critical_events=counts.non_critical_events,
        )
    )
