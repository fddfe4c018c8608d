"""Enrolment tokens: a client registers once with what an administrator made, without a password."""

from __future__ import annotations

import base64
import secrets
from dataclasses import replace
from typing import Annotated, Final
from uuid import UUID, uuid4

from msgspec import UNSET, Meta, UnsetType, field, structs

from conclave import faults
from conclave.cluster.enrolment import SECRET_BYTES, secret_sha256
from conclave.lunash.render import enrolment as render
from conclave.operations.clients import (
    CLIENTS,
    NewClientView,
    Request,
    certified,
    require_monitor,
    shown_time,
)
from conclave.operations.cluster_calls import ask, the_cluster
from conclave.operations.clusters import CLUSTER, CLUSTERS, fingerprint
from conclave.operations.commands import PATH, Command, Kind, Option
from conclave.operations.customers import customer_of
from conclave.operations.fields import SECRET, UserId
from conclave.operations.model import (
    ADMINS,
    DONE,
    NOBODY,
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
    CheckEnrolment,
    CreateEnrolmentToken,
    EnrolClient,
    EnrolmentTokenList,
    EnrolmentTokenSummary,
    NamedEnrolmentToken,
    RegisteredClient,
    RenewClient,
)
from conclave.service.messages import MemberList
from conclave.service.quiet import Nothing, Quiet

TOKENS: Final = f"{CLUSTER}/enrolmentTokens"
TOKEN: Final = f"{TOKENS}/{{tokenid}}"
PREFIX: Final = "enrol-"
"""Begins every token, so that one that got into a log or a repository is found."""
ID_BYTES: Final = 16
_TOKEN_RULE: Final = rf"^{PREFIX}[A-Za-z0-9_-]{{64}}$"
CommonName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:\-]{0,63}$")]
Minutes = Annotated[int, Meta(ge=1, le=43_200)]


class NewToken(Arguments, frozen=True):
    """What the client will be; what is absent is left to it, but a monitor user is not."""

    common_name: CommonName | UnsetType = UNSET
    label: Annotated[str, Meta(max_length=64)] = ""
    monitor_user: UserId | UnsetType = UNSET
    minutes: Minutes = 1440
    """How long the token may be used."""


class TokenView(Result, frozen=True):
    """An enrolment token, without what it is proven by."""

    token_id: str = field(name="tokenID")
    state: str
    common_name: str
    client_label: str
    monitor_user: str
    created_by: str
    created: str
    expires: str
    client_id: str = field(name="clientID")
    used: str
    url: str


class Tokens(Result, frozen=True):
    """The enrolment tokens."""

    data: list[TokenView]


class NewTokenView(TokenView, frozen=True):
    """A new token: `token` is shown this once; the fingerprint is the cluster CA's."""

    token: str
    fingerprint: str


class Enrol(Arguments, frozen=True):
    """A token, and a PKCS#10 request in PEM whose private key never leaves the client."""

    token: Annotated[str, Meta(pattern=_TOKEN_RULE, extra=SECRET)]
    csr: Request
    label: Annotated[str, Meta(max_length=64)] = ""
    """Where the token sets none."""


class Renewal(Arguments, frozen=True):
    """A PKCS#10 request in PEM, of the registered name and key."""

    csr: Request


def check_token_user(call: Call, arguments: NewToken) -> None:
    """The monitor user, if one is named, must exist and have the role monitor."""
    require_monitor(call, arguments.monitor_user)


@operation(
    "enrolment.create",
    "POST",
    TOKENS,
    summary="Make an enrolment token, with which one client registers once.",
    doors=Doors.BOTH,
    cluster_methods=("create_enrolment_token",),
    arguments=NewToken,
    roles=ADMINS,
    statuses=(201,),
    result=NewTokenView,
    checks=(check_token_user,),
    faults=(*CLUSTER_CALL, faults.ENROLMENT_LIMIT, faults.USER_NOT_FOUND),
    commands=(
        Command(
            words="cluster client token create",
            summary="Make an enrolment token, with which one client registers once.",
            options=(
                Option(
                    name="commonname",
                    short="n",
                    summary="the only common name that may register with it",
                    value="common_name",
                    target="commonName",
                ),
                Option(
                    name="label",
                    short="l",
                    summary="label of the client",
                    value="label",
                    target="label",
                ),
                Option(
                    name="user",
                    short="u",
                    summary="a user of the role monitor who goes with the client",
                    value="user",
                    target="monitorUser",
                ),
                Option(
                    name="minutes",
                    short="m",
                    summary="how long it may be used: 1 to 43200, a day by default",
                    value="minutes",
                    kind=Kind.NUMBER,
                    target="minutes",
                ),
            ),
            render=render.token_new,
        ),
    ),
)
async def create_token(call: Call, arguments: NewToken) -> Reply:
    """Make a token; nobody can be told its secret again."""
    cluster = await the_cluster(call)
    token_id, secret = uuid4().bytes, secrets.token_bytes(SECRET_BYTES)
    named, monitor = arguments.common_name, arguments.monitor_user
    made = await ask(
        call,
        "create_enrolment_token",
        CreateEnrolmentToken(
            token_id=token_id,
            secret_sha256=secret_sha256(secret),
            common_name="" if isinstance(named, UnsetType) else named,
            label=arguments.label,
            monitor_user="" if isinstance(monitor, UnsetType) else monitor,
            created_by=call.by.user.user_id,
            life_ms=arguments.minutes * 60_000,
        ),
        EnrolmentTokenSummary,
    )
    view = _view(cluster.cluster_id, made)
    body = NewTokenView(
        **structs.asdict(view),
        token=PREFIX + base64.urlsafe_b64encode(token_id + secret).decode(),
        fingerprint=fingerprint(cluster.ca_certificate_pem),
    )
    return Reply(body=body, location=view.url)


@operation(
    "enrolment.list",
    "GET",
    TOKENS,
    summary="List the enrolment tokens: what they are for, and what became of them.",
    doors=Doors.BOTH,
    cluster_methods=("list_enrolment_tokens",),
    arguments=NoArguments,
    roles=READERS,
    reveals=Reveals.SIFTED,
    statuses=(200,),
    result=Tokens,
    faults=CLUSTER_CALL,
    paged=True,
    commands=(
        Command(
            words="cluster client token list",
            summary="List the enrolment tokens: what they are for, and what became of them.",
            render=render.token_list,
        ),
    ),
)
async def list_tokens(call: Call, _arguments: NoArguments) -> Reply:
    """List the enrolment tokens."""
    cluster, customer = await the_cluster(call), await customer_of(call)
    found = await ask(call, "list_enrolment_tokens", Nothing(), EnrolmentTokenList)
    seen = [each for each in found.tokens if customer in ("", each.monitor_user)]
    return Reply(body=Tokens(data=[_view(cluster.cluster_id, each) for each in seen]))


@operation(
    "enrolment.revoke",
    "DELETE",
    TOKEN,
    summary="Revoke an enrolment token that nobody has used.",
    doors=Doors.BOTH,
    cluster_methods=("revoke_enrolment_token",),
    arguments=NoArguments,
    roles=ADMINS,
    faults=(*CLUSTER_CALL, faults.ENROLMENT_NOT_FOUND, faults.ENROLMENT_USED),
    commands=(
        Command(
            words="cluster client token revoke",
            summary="Revoke an enrolment token that nobody has used.",
            options=(
                Option(
                    name="tokenid",
                    short="t",
                    summary="id of the token",
                    value="UUID",
                    target=f"{PATH}tokenid",
                    required=True,
                ),
            ),
        ),
    ),
)
async def revoke_token(call: Call, _arguments: NoArguments) -> Reply:
    """Revoke a token."""
    await the_cluster(call)
    await ask(
        call, "revoke_enrolment_token", NamedEnrolmentToken(token_id=call.path["tokenid"]), Nothing
    )
    return DONE


@operation(
    "client.enrol",
    "POST",
    f"{CLIENTS}/actions/enrol",
    summary="Certify a client's key by an enrolment token, which is spent by it.",
    doors=Doors.BOTH,
    cluster_methods=("check_enrolment", "list_members", "enrol_client"),
    only="REST: a client's registration calls it, with a request that its own key signed.",
    arguments=Enrol,
    roles=NOBODY,
    statuses=(201,),
    result=NewClientView,
    faults=(
        *CLUSTER_CALL,
        faults.CLIENT_CERTIFICATE_REQUEST,
        faults.CLIENT_EXISTS,
        faults.ENROLMENT_REFUSED,
    ),
)
async def enrol_client(call: Call, arguments: Enrol) -> Reply:
    """Register a client at any authorized member; the primary spends the token."""
    both = base64.urlsafe_b64decode(arguments.token.removeprefix(PREFIX))
    token_id, secret = both[:ID_BYTES], both[ID_BYTES:]
    check = CheckEnrolment(token_id=token_id, secret=secret)
    wanted = EnrolClient(
        token_id=token_id, secret=secret, request_pem=arguments.csr, label=arguments.label
    )
    reply = await _certify(call, ("check_enrolment", check), ("enrol_client", wanted))
    return replace(reply, about=f"by enrolment token {UUID(bytes=token_id)}")


@operation(
    "client.renew",
    "POST",
    f"{CLIENTS}/actions/renew",
    summary="Renew a client's certificate by a request that its registered key has signed.",
    doors=Doors.BOTH,
    cluster_methods=("check_renewal", "list_members", "renew_client"),
    only="REST: a client's registration script calls it, from the client's host.",
    arguments=Renewal,
    roles=NOBODY,
    statuses=(200,),
    result=NewClientView,
    faults=(
        *CLUSTER_CALL,
        faults.CLIENT_CERTIFICATE_REQUEST,
        faults.CLIENT_EXISTS,
        faults.CLIENT_NOT_FOUND,
    ),
)
async def renew_client(call: Call, arguments: Renewal) -> Reply:
    """Renew a certificate that ends within a year, or is of an older CA; else show it."""
    wanted = RenewClient(request_pem=arguments.csr)
    return await _certify(call, ("check_renewal", wanted), ("renew_client", wanted))


async def _certify(call: Call, check: tuple[str, Quiet], change: tuple[str, Quiet]) -> Reply:
    """Have the primary certify a client who has no login, once this member has looked at it.

    Strangers get no farther than this member's own copy of the store.
    """
    cluster = await the_cluster(call)
    await ask(call, *check, Nothing)
    present = await ask(call, "list_members", Nothing(), MemberList)
    return certified(cluster.cluster_id, await ask(call, *change, RegisteredClient), present)


def _view(cluster_id: str, token: EnrolmentTokenSummary) -> TokenView:
    return TokenView(
        token_id=token.token_id,
        state=token.state,
        common_name=token.common_name,
        client_label=token.label,
        monitor_user=token.monitor_user,
        created_by=token.created_by,
        created=shown_time(token.created_ms),
        expires=shown_time(token.expires_ms),
        client_id=token.client_id,
        used=shown_time(token.used_ms) if token.used_ms else "",
        url=f"{CLUSTERS}/{cluster_id}/enrolmentTokens/{token.token_id}",
    )
