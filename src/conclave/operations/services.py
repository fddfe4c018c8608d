"""Services of the appliance: list, show, start, stop, restart, enable, disable, factory reset."""

from __future__ import annotations

import logging
from typing import Final

from msgspec import UNSET, UnsetType

from conclave import faults
from conclave.appliance.services import NTP, RESET, ServiceInfo
from conclave.errors import BadInput, NotFound
from conclave.lunash.render import service as render
from conclave.operations.commands import PATH, Command, Kind, Option
from conclave.operations.hsm import Reference
from conclave.operations.model import (
    DONE,
    OPERATORS,
    READERS,
    Arguments,
    Call,
    Duration,
    NoArguments,
    Reply,
    Result,
    operation,
)
from conclave.operations.refusals import PARTITION_FOR_CLUSTER
from conclave.operations.reveals import Reveals
from conclave.operations.service_resets import ALL, RESETTABLE, act_on_service

SERVICES = "/api/lunasa/services"
SERVICE = f"{SERVICES}/{{serviceid}}"
CLUSTER = "cluster"
_NAMED: Final = Option(
    name="service",
    summary="the service, as 'service list' names it",
    value="service",
    target=f"{PATH}serviceid",
    required=True,
    positional=True,
)
_FORCED: Final = Option(
    name="force",
    short="f",
    summary="for cluster: start although the clock is outside the certificate's validity",
    kind=Kind.FLAG,
    target="force",
)
_ANSWERS_WITHIN_SECONDS = 1.0
"""A start that is refused is refused within this time; one that goes on is answered as a task."""

_log = logging.getLogger(__name__)


class Services(Result, frozen=True):
    """All services."""

    services: list[Reference]


class ServiceView(Result, frozen=True):
    """One service: `status` is stopped until it is ready, `state` says when it is starting."""

    id: str
    name: str
    status: str
    state: str
    on_boot: bool
    actions: str


class Action(Result, frozen=True):
    """One action with its path."""

    id: str
    url: str


class Actions(Result, frozen=True):
    """What may be asked for."""

    actions: list[Action]


class SetOnBoot(Arguments, frozen=True):
    """Whether the service starts with the appliance."""

    on_boot: bool


class Act(Arguments, frozen=True):
    """`force` starts the cluster service although the clock is outside its certificate."""

    force: bool | UnsetType = UNSET


class NoContent(Result, frozen=True):
    """An empty object."""


def check_service(call: Call, _arguments: object) -> None:
    """The service must exist."""
    call.appliance.service(call.path["serviceid"])


def check_action(call: Call, arguments: Act) -> None:
    """The service must have the action; force is for the start of the cluster service only."""
    if (call.path["serviceid"], call.path["actionid"]) == (ALL, RESET):
        return
    service = call.appliance.service(call.path["serviceid"])
    action = call.path["actionid"]
    if action not in service.actions:
        known = ", ".join(service.actions) or "none"
        message = f"Service {service.service_id} has no action {action[:16]!r}; it has {known}."
        raise NotFound(faults.SERVICE_ACTION, message)
    forced = not isinstance(arguments.force, UnsetType)
    if forced and (service.service_id, action) not in {(CLUSTER, "start"), (CLUSTER, "restart")}:
        message = "force is allowed for the start of the cluster service only."
        raise BadInput(faults.BAD_REQUEST, message)


@operation(
    "service.list",
    "GET",
    SERVICES,
    summary="List the services.",
    arguments=NoArguments,
    roles=READERS,
    reveals=Reveals.NOTHING,
    statuses=(200,),
    result=Services,
    paged=True,
)
async def list_services(call: Call, _arguments: NoArguments) -> Reply:
    """List the services."""
    found = [
        Reference(id=service.service_id, url=f"{SERVICES}/{service.service_id}")
        for service in call.appliance.services()
    ]
    return Reply(body=Services(services=found))


@operation(
    "service.show",
    "GET",
    SERVICE,
    summary="Show a service: status, state, whether it starts with the appliance.",
    chapter="2",
    arguments=NoArguments,
    roles=READERS,
    reveals=Reveals.NOTHING,
    statuses=(200,),
    result=ServiceView,
    checks=(check_service,),
    faults=(faults.SERVICE_NOT_FOUND,),
    commands=(
        Command(
            words="service status",
            summary="Say whether a service is running.",
            options=(_NAMED,),
            render=render.service_status,
        ),
        Command(
            words="cluster status",
            summary="Show whether the cluster service runs, and starts with the appliance.",
            chapter="2",
            constants={"serviceid": CLUSTER},
            render=render.cluster_status,
        ),
    ),
)
async def show_service(call: Call, _arguments: NoArguments) -> Reply:
    """Show a service."""
    service: ServiceInfo = call.appliance.service(call.path["serviceid"])
    return Reply(
        body=ServiceView(
            id=service.service_id,
            name=service.name,
            status=service.status,
            state=service.state,
            on_boot=service.on_boot,
            actions=f"{SERVICES}/{service.service_id}/actions",
        )
    )


@operation(
    "service.actions",
    "GET",
    f"{SERVICE}/actions",
    summary="List the actions of a service.",
    only="REST: LunaSH has a command for each action, which its help lists.",
    arguments=NoArguments,
    roles=READERS,
    reveals=Reveals.NOTHING,
    statuses=(200,),
    result=Actions,
    checks=(check_service,),
    faults=(faults.SERVICE_NOT_FOUND,),
)
async def list_actions(call: Call, _arguments: NoArguments) -> Reply:
    """List the actions of a service."""
    service = call.appliance.service(call.path["serviceid"])
    url = f"{SERVICES}/{service.service_id}/actions"
    actions = [Action(id=action, url=f"{url}/{action}") for action in service.actions]
    return Reply(body=Actions(actions=actions))


@operation(
    "service.configure",
    "PATCH",
    SERVICE,
    summary="Say whether a service starts with the appliance; starts and stops nothing.",
    chapter="2",
    arguments=SetOnBoot,
    roles=OPERATORS,
    statuses=(200,),
    result=NoContent,
    checks=(check_service,),
    faults=(faults.SERVICE_NOT_FOUND, faults.SERVICE_FIXED),
)
async def configure_service(call: Call, arguments: SetOnBoot) -> Reply:
    """Set onBoot of the cluster service or of ntp; of the others it says whether they run."""
    service = call.appliance.service(call.path["serviceid"])
    if service.service_id == CLUSTER:
        await call.appliance.cluster.set_on_boot(arguments.on_boot)
    elif service.service_id == NTP:
        await call.appliance.ntp.set_enabled(arguments.on_boot)
    elif arguments.on_boot != service.on_boot:
        message = f"onBoot of service {service.service_id} is always {service.on_boot}."
        raise BadInput(faults.SERVICE_FIXED, message)
    return Reply(body=NoContent())


def _destroys(call: Call, _arguments: Act) -> bool:
    return call.path["actionid"] == "factoryreset"


RESET_WARNING = (
    "The service's configuration will be reset to its factory defaults. A cluster's keyrings,"
    " certificates and clients on this appliance are lost with it.\n\n"
    "Type 'proceed' to reset the service, or 'quit' to quit now."
)


def warn_of_hsm_clock(call: Call) -> None:
    """Say and log that a cluster is to be served by an unsynchronised HSM (rule T3)."""
    warning = call.appliance.hsm_time.warning()
    if warning:
        _log.warning("%s", warning)
        call.progress(warning)
        call.warn(warning)


@operation(
    "service.act",
    "POST",
    f"{SERVICE}/actions/{{actionid}}",
    summary="Start, stop, restart, enable, disable or factory-reset a service; the last waits.",
    chapter="2",
    arguments=Act,
    roles=OPERATORS,
    checks=(check_action,),
    duration=Duration.TASK,
    settle_seconds=_ANSWERS_WITHIN_SECONDS,
    waits_when=_destroys,
    faults=(
        *PARTITION_FOR_CLUSTER,
        faults.SERVICE_NOT_FOUND,
        faults.SERVICE_ACTION,
        faults.SERVICE_FAILED,
        faults.JOIN_IN_PROGRESS,
        faults.CERTIFICATE_VALIDITY,
        faults.CLUSTER_CONFIG_MISSING,
    ),
    commands=(
        Command(
            words="sysconf config factoryReset",
            summary="Set a service back to what it was when the appliance was new.",
            chapter="3",
            options=(
                Option(
                    name="service",
                    short="s",
                    summary="the service; all: every one of them",
                    value="service",
                    kind=Kind.CHOICE,
                    choices=RESETTABLE,
                    target=f"{PATH}serviceid",
                    required=True,
                ),
            ),
            constants={"actionid": "factoryreset"},
            proceed=RESET_WARNING,
        ),
        Command(
            words="service start",
            summary="Start a service.",
            chapter="2",
            options=(_NAMED, _FORCED),
            constants={"actionid": "start"},
            success="'service start' successful.",
        ),
        Command(
            words="service stop",
            summary="Stop a service; a cluster's member must be authorized after it.",
            chapter="6",
            options=(_NAMED,),
            constants={"actionid": "stop"},
            success="'service stop' successful.",
        ),
        Command(
            words="service restart",
            summary="Stop and start a service; a cluster's member must be authorized after it.",
            chapter="6",
            options=(_NAMED, _FORCED),
            constants={"actionid": "restart"},
            success="'service restart' successful.",
        ),
        Command(
            words="cluster disable",
            summary="Let the cluster service not start with the appliance; it is not stopped.",
            chapter="7",
            constants={"serviceid": CLUSTER, "actionid": "disable"},
        ),
    ),
)
async def act(call: Call, arguments: Act) -> Reply:
    """Carry out an action of a service."""
    if call.path["serviceid"] != CLUSTER:
        await act_on_service(call.appliance, call.path["serviceid"], call.path["actionid"])
        return DONE
    cluster = call.appliance.cluster
    force = arguments.force is True
    match call.path["actionid"]:
        case "start":
            warn_of_hsm_clock(call)
            call.progress("The cluster service is starting.")
            await cluster.start(force=force)
        case "stop":
            call.progress("The cluster service is stopping.")
            await cluster.stop()
        case "restart":
            warn_of_hsm_clock(call)
            call.progress("The cluster service is stopping and starting.")
            await cluster.restart(force=force)
        case "enable":
            await cluster.set_on_boot(True)
        case "disable":
            await cluster.set_on_boot(False)
        case "factoryreset":
            await cluster.factory_reset()
        case other:
            message = f"Action {other} of {call.path['serviceid']} is not served over REST."
            raise NotFound(faults.SERVICE_ACTION, message)
    return DONE
