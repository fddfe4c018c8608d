"""Clients of the cluster: register with a certificate request, list, show, revoke."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Final

from msgspec import UNSET, Meta, UnsetType, field, structs

from conclave import faults
from conclave.appliance.user_rules import UserRole
from conclave.errors import BadInput, NotFound
from conclave.lunash.render import cluster as render
from conclave.operations.cluster_calls import ask, the_cluster
from conclave.operations.clusters import CLUSTER, CLUSTERS
from conclave.operations.commands import PATH, Command, Option
from conclave.operations.customers import customer_of
from conclave.operations.fields import UserId
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
    ClientList,
    ClientSummary,
    NamedClient,
    RegisterClient,
    RegisteredClient,
)
from conclave.service.messages import MemberList
from conclave.service.quiet import Nothing

CLIENTS = f"{CLUSTER}/clients"
CLIENT = f"{CLIENTS}/{{clientid}}"
CLIENT_ID_OPTION: Final = Option(
    name="clientid",
    short="c",
    summary="id of the client",
    value="UUID",
    target=f"{PATH}clientid",
    required=True,
)
Request = Annotated[str, Meta(min_length=64, max_length=8192)]


class NewClient(Arguments, frozen=True):
    """A client's PKCS#10 request in PEM; its private key never leaves the client."""

    csr: Request
    label: Annotated[str, Meta(max_length=64)] = ""
    monitor_user: UserId | UnsetType = UNSET
    """A user of the role monitor who goes with this client."""


class ClientView(Result, frozen=True):
    """One registered client."""

    client_id: str = field(name="clientID")
    client_label: str
    common_name: str
    monitor_user: str
    revoked: bool
    created: str
    url: str


class Clients(Result, frozen=True):
    """All registered clients."""

    data: list[ClientView]


class ClientMemberView(Result, frozen=True):
    """Where a client finds a member."""

    member_uuid: str = field(name="memberUUID")
    ip_address: str
    crypto_port: int
    group: str


class NewClientView(ClientView, frozen=True):
    """What a client needs to connect; the member that answers stands first in the list."""

    certificate: str
    ca_certificate: str
    server_common_name: str
    crypto_port: int
    members: list[ClientMemberView]


def shown_time(milliseconds: int) -> str:
    """Return an instant in UTC, to the second."""
    return f"{datetime.fromtimestamp(milliseconds / 1000, UTC):%Y-%m-%dT%H:%M:%SZ}"


def _view(cluster_id: str, client: ClientSummary) -> ClientView:
    return ClientView(
        client_id=client.client_id,
        client_label=client.label,
        common_name=client.common_name,
        monitor_user=client.monitor_user,
        revoked=client.revoked,
        created=shown_time(client.created_ms),
        url=f"{CLUSTERS}/{cluster_id}/clients/{client.client_id}",
    )


def check_monitor_user(call: Call, arguments: NewClient) -> None:
    """The monitor user, if one is named, must exist and have the role monitor."""
    require_monitor(call, arguments.monitor_user)


def require_monitor(call: Call, named: str | UnsetType) -> None:
    """Refuse who is no monitor; raise NotFound or BadInput."""
    if isinstance(named, UnsetType):
        return
    if call.appliance.users.get(named).role is not UserRole.MONITOR:
        message = f"monitorUser must be a user of the role monitor; {named} is none."
        raise BadInput(faults.BAD_REQUEST, message)


@operation(
    "client.register",
    "POST",
    CLIENTS,
    summary="Certify a client's key, so that it may use the cluster's crypto service.",
    chapter="4",
    doors=Doors.BOTH,
    cluster_methods=("list_members", "register_client"),
    only="REST: a client's registration calls it, with a request that its own key signed.",
    arguments=NewClient,
    roles=ADMINS,
    statuses=(201,),
    result=NewClientView,
    checks=(check_monitor_user,),
    faults=(
        *CLUSTER_CALL,
        faults.CLIENT_CERTIFICATE_REQUEST,
        faults.CLIENT_EXISTS,
        faults.USER_NOT_FOUND,
    ),
)
async def register_client(call: Call, arguments: NewClient) -> Reply:
    """Register a client; an unauthorized member refuses (rule L1)."""
    cluster = await the_cluster(call)
    monitor = arguments.monitor_user
    present = await ask(call, "list_members", Nothing(), MemberList)
    made = await ask(
        call,
        "register_client",
        RegisterClient(
            request_pem=arguments.csr,
            label=arguments.label,
            monitor_user="" if isinstance(monitor, UnsetType) else monitor,
        ),
        RegisteredClient,
    )
    return certified(cluster.cluster_id, made, present)


def certified(cluster_id: str, made: RegisteredClient, present: MemberList) -> Reply:
    """Answer a registration."""
    local = {member.member_id for member in present.members if member.local}
    view = _view(cluster_id, made.client)
    body = NewClientView(
        **structs.asdict(view),
        certificate=made.certificate_pem,
        ca_certificate=made.ca_certificate_pem,
        server_common_name=made.server_common_name,
        crypto_port=made.crypto_port,
        members=[
            ClientMemberView(
                member_uuid=member.member_id,
                ip_address=member.address,
                crypto_port=member.crypto_port,
                group=member.group,
            )
            # The primary has answered; the client has found this member.
            for member in sorted(made.members, key=lambda each: each.member_id not in local)
        ],
    )
    return Reply(body=body, location=view.url, unchanged=not made.changed)


@operation(
    "client.list",
    "GET",
    CLIENTS,
    summary="List the registered clients.",
    chapter="4",
    doors=Doors.BOTH,
    cluster_methods=("list_clients",),
    arguments=NoArguments,
    roles=READERS,
    reveals=Reveals.SIFTED,
    statuses=(200,),
    result=Clients,
    faults=CLUSTER_CALL,
    paged=True,
    commands=(
        Command(
            words="cluster client list",
            summary="List the registered clients.",
            render=render.client_list,
        ),
    ),
)
async def list_clients(call: Call, _arguments: NoArguments) -> Reply:
    """List the registered clients."""
    cluster = await the_cluster(call)
    seen = await _clients_seen(call)
    return Reply(body=Clients(data=[_view(cluster.cluster_id, each) for each in seen]))


async def _clients_seen(call: Call) -> list[ClientSummary]:
    """Return the clients that the caller may see."""
    customer = await customer_of(call)
    found = await ask(call, "list_clients", Nothing(), ClientList)
    return [each for each in found.clients if customer in ("", each.monitor_user)]


async def find_client(call: Call) -> ClientView:
    """Return the client that the path names, if the caller may see it; raise NotFound."""
    cluster = await the_cluster(call)
    for client in await _clients_seen(call):
        if client.client_id == call.path["clientid"].lower():
            return _view(cluster.cluster_id, client)
    message = f"The cluster has no client {call.path['clientid'][:64]!r}."
    raise NotFound(faults.CLIENT_NOT_FOUND, message)


@operation(
    "client.show",
    "GET",
    CLIENT,
    summary="Show a registered client.",
    chapter="4",
    doors=Doors.BOTH,
    cluster_methods=("list_clients",),
    arguments=NoArguments,
    roles=READERS,
    reveals=Reveals.SIFTED,
    statuses=(200,),
    result=ClientView,
    faults=(*CLUSTER_CALL, faults.CLIENT_NOT_FOUND),
    commands=(
        Command(
            words="cluster client show",
            summary="Show a registered client.",
            options=(CLIENT_ID_OPTION,),
            render=render.client_show,
        ),
    ),
)
async def show_client(call: Call, _arguments: NoArguments) -> Reply:
    """Show a registered client."""
    return Reply(body=await find_client(call))


@operation(
    "client.revoke",
    "DELETE",
    CLIENT,
    summary="Revoke a client: its certificate and its tickets are worth nothing from now on.",
    chapter="4",
    doors=Doors.BOTH,
    cluster_methods=("list_clients", "revoke_client"),
    arguments=NoArguments,
    roles=ADMINS,
    reveals=Reveals.SIFTED,
    faults=(*CLUSTER_CALL, faults.CLIENT_NOT_FOUND),
    commands=(
        Command(
            words="cluster client revoke",
            summary="Revoke a client: its certificate and tickets are worth nothing from now on.",
            options=(CLIENT_ID_OPTION,),
            proceed=(
                "The client's applications will be refused at once; it can be registered anew.\n\n"
                "Type 'proceed' to revoke the client, or 'quit' to quit now."
            ),
        ),
    ),
)
async def revoke_client(call: Call, _arguments: NoArguments) -> Reply:
    """Revoke a client."""
    client = await find_client(call)
    await ask(call, "revoke_client", NamedClient(client_id=client.client_id), Nothing)
    return DONE
