"""Which keyrings are a client's: mode, assignment, and what is assigned."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Final, Literal

from msgspec import Meta, field

from conclave import faults
from conclave.lunash.render import assignments as render
from conclave.operations.clients import CLIENT, CLIENT_ID_OPTION, find_client
from conclave.operations.cluster_calls import ask, the_cluster
from conclave.operations.clusters import CLUSTER
from conclave.operations.commands import PATH, Command, Kind, Option
from conclave.operations.model import (
    ADMINS,
    DONE,
    READERS,
    Arguments,
    Call,
    Doors,
    NoArguments,
    Reply,
    Result,
    operation,
)
from conclave.operations.refusals import CLUSTER_CALL
from conclave.operations.reveals import Reveals
from conclave.service.client_messages import (
    AssignedKeyringList,
    AssignKeyrings,
    AssignmentMode,
    NamedClient,
    TakeKeyring,
)
from conclave.service.quiet import Nothing

MODE: Final = f"{CLUSTER}/assignment"
ASSIGNED: Final = f"{CLIENT}/keyrings"
KeyringName = Annotated[str, Meta(min_length=1, max_length=36)]
"""A keyring's UUID or label."""
_KEYRING: Final = Option(
    name="keyring",
    short="k",
    summary="label or id of the keyring",
    value="keyring",
    target="keyrings[0]",
    required=True,
)


class Mode(Arguments, frozen=True):
    """open: every client uses every keyring; assigned: those that are assigned to it only."""

    mode: Literal["open", "assigned"]


class ModeView(Result, frozen=True):
    """Whether clients use all keyrings."""

    mode: Literal["open", "assigned"]


class Assign(Arguments, frozen=True):
    """Keyrings by their ids or labels; all are assigned or none."""

    keyrings: Annotated[list[KeyringName], Meta(min_length=1, max_length=500)]


class AssignedView(Result, frozen=True):
    """A keyring that is assigned to a client."""

    key_ring_label: str
    key_ring_uuid: str = field(name="keyRingUUID")


class AssignedViews(Result, frozen=True):
    """The keyrings of a client in the order of their slots."""

    data: list[AssignedView]


@operation(
    "assignment.show",
    "GET",
    MODE,
    summary="Show whether clients use all keyrings, or those that are assigned to them.",
    doors=Doors.BOTH,
    cluster_methods=("assignment_mode",),
    arguments=NoArguments,
    roles=READERS,
    reveals=Reveals.NOTHING,
    statuses=(200,),
    result=ModeView,
    faults=CLUSTER_CALL,
    commands=(
        Command(
            words="cluster client assignment show",
            summary="Show whether clients use all keyrings, or those that are assigned to them.",
            render=render.mode,
        ),
    ),
)
async def show_mode(call: Call, _arguments: NoArguments) -> Reply:
    """Show the mode."""
    await the_cluster(call)
    found = await ask(call, "assignment_mode", Nothing(), AssignmentMode)
    return Reply(body=ModeView(mode="assigned" if found.assigned else "open"))


@operation(
    "assignment.set",
    "PUT",
    MODE,
    summary="Have clients use all keyrings, or those that are assigned to them only.",
    doors=Doors.BOTH,
    cluster_methods=("set_assignment_mode",),
    arguments=Mode,
    roles=ADMINS,
    faults=CLUSTER_CALL,
    commands=(
        Command(
            words="cluster client assignment set",
            summary="Have clients use all keyrings, or those that are assigned to them only.",
            options=(
                Option(
                    name="mode",
                    short="m",
                    summary="open: all keyrings; assigned: those that are assigned to a client",
                    value="mode",
                    kind=Kind.CHOICE,
                    choices=("open", "assigned"),
                    target="mode",
                    required=True,
                ),
            ),
        ),
    ),
)
async def set_mode(call: Call, arguments: Mode) -> Reply:
    """Set the mode, for every visible member at once."""
    await the_cluster(call)
    mode = AssignmentMode(assigned=arguments.mode == "assigned")
    await ask(call, "set_assignment_mode", mode, Nothing)
    return DONE


@operation(
    "client.keyrings",
    "GET",
    ASSIGNED,
    summary="List the keyrings that are assigned to a client.",
    doors=Doors.BOTH,
    cluster_methods=("list_clients", "assigned_keyrings"),
    arguments=NoArguments,
    roles=READERS,
    reveals=Reveals.SIFTED,
    statuses=(200,),
    result=AssignedViews,
    faults=(*CLUSTER_CALL, faults.CLIENT_NOT_FOUND),
    paged=True,
    commands=(
        Command(
            words="cluster client keyring list",
            summary="List the keyrings that are assigned to a client.",
            options=(CLIENT_ID_OPTION,),
            render=render.keyrings,
        ),
    ),
)
async def list_assigned(call: Call, _arguments: NoArguments) -> Reply:
    """List a client's keyrings."""
    client = await find_client(call)
    named = NamedClient(client_id=client.client_id)
    found = await ask(call, "assigned_keyrings", named, AssignedKeyringList)
    return Reply(
        body=AssignedViews(
            data=[
                AssignedView(key_ring_label=each.label, key_ring_uuid=each.keyring_id)
                for each in found.keyrings
            ]
        )
    )


@operation(
    "client.keyrings.assign",
    "POST",
    ASSIGNED,
    summary="Assign keyrings to a client, besides those that are assigned to it.",
    doors=Doors.BOTH,
    cluster_methods=("assign_keyrings",),
    arguments=Assign,
    roles=ADMINS,
    faults=(*CLUSTER_CALL, faults.CLIENT_NOT_FOUND, faults.KEYRING_NOT_FOUND),
    commands=(
        Command(
            words="cluster client keyring assign",
            summary="Assign a keyring to a client.",
            options=(CLIENT_ID_OPTION, _KEYRING),
        ),
    ),
)
async def assign_keyrings(call: Call, arguments: Assign) -> Reply:
    """Assign keyrings."""
    await the_cluster(call)
    wanted = AssignKeyrings(client_id=call.path["clientid"], keyrings=arguments.keyrings)
    await ask(call, "assign_keyrings", wanted, Nothing)
    return DONE


@operation(
    "client.keyrings.take",
    "DELETE",
    f"{ASSIGNED}/{{keyringid}}",
    summary="Take a keyring, named by its id or label, away from a client.",
    doors=Doors.BOTH,
    cluster_methods=("take_keyring",),
    arguments=NoArguments,
    roles=ADMINS,
    faults=(*CLUSTER_CALL, faults.CLIENT_NOT_FOUND, faults.KEYRING_NOT_FOUND),
    commands=(
        Command(
            words="cluster client keyring remove",
            summary="Take a keyring away from a client.",
            options=(CLIENT_ID_OPTION, replace(_KEYRING, target=f"{PATH}keyringid")),
        ),
    ),
)
async def take_keyring(call: Call, _arguments: NoArguments) -> Reply:
    """Take a keyring away."""
    await the_cluster(call)
    wanted = TakeKeyring(client_id=call.path["clientid"], keyring=call.path["keyringid"])
    await ask(call, "take_keyring", wanted, Nothing)
    return DONE
