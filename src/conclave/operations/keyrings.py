"""Keyrings: create 1 to 100 at a time, list, show, unlock, delete."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import Final, Literal

from msgspec import UNSET, UnsetType, field

from conclave import faults
from conclave.keyring.labels import expand_labels
from conclave.lunash.render import keyring as render
from conclave.operations.cluster_calls import ask
from conclave.operations.cluster_options import BY_CO, CO_PASSWORD, PARTITION_LABEL
from conclave.operations.commands import PATH, Command, Kind, Option, new_credential
from conclave.operations.customers import customer_of
from conclave.operations.fields import (
    Authentications,
    KeyringPassword,
    Label,
    Number,
    credential,
    whole_number,
)
from conclave.operations.model import (
    ADMINS,
    DONE,
    READERS,
    Arguments,
    Call,
    Doors,
    Duration,
    NoArguments,
    Reply,
    Result,
    operation,
)
from conclave.operations.refusals import CLUSTER_CALL, CREDENTIAL, PARTITION_FOR_CLUSTER
from conclave.operations.reveals import Reveals
from conclave.service.messages import (
    CreateKeyrings,
    KeyringList,
    KeyringSummary,
    ListKeyrings,
    NamedKeyring,
)
from conclave.service.quiet import Nothing

KEYRINGS = "/api/keyrings"
KEYRING = f"{KEYRINGS}/{{keyringid}}"
_KEYRING_ID: Final = Option(
    name="keyringid",
    short="k",
    summary="id of the keyring",
    value="UUID",
    target=f"{PATH}keyringid",
    required=True,
    unless=("label",),
)
_KEYRING_LABEL: Final = Option(
    name="label",
    short="l",
    summary="label of the keyring, in place of its id",
    value="keyringlabel",
    target=f"{PATH}keyringid",
    required=True,
    unless=("keyringid",),
)
_BY_CO = (*CLUSTER_CALL, *PARTITION_FOR_CLUSTER, *CREDENTIAL)


class NewKeyrings(Arguments, frozen=True):
    """Keyrings to create; the CO of the cluster's partition authenticates."""

    authentication: Authentications
    key_ring_label: Label
    key_ring_password: KeyringPassword
    """The initial password of the KRSO, who must change it before anything else."""
    total: Number | UnsetType = UNSET
    index: Number | UnsetType = UNSET
    """Number of the first one; absent like `total`, the label stays bare."""


class UnlockKeyring(Arguments, frozen=True):
    """Reset the failure counters of a keyring's roles."""

    action: Literal["unlock"]
    authentication: Authentications


class DeleteKeyring(Arguments, frozen=True):
    """The CO of the cluster's partition authenticates."""

    authentication: Authentications


class KeyringReference(Result, frozen=True):
    """A keyring in a list."""

    key_ring_label: str
    key_ring_uuid: str = field(name="keyRingUUID")


class Keyrings(Result, frozen=True):
    """Keyrings in the order of their slots."""

    data: list[KeyringReference]


class NewKeyringList(Keyrings, frozen=True):
    """The keyrings that were created."""

    key_ring_uuids: list[str] = field(name="keyRingUUIDs")


class KeyringRole(Result, frozen=True):
    """One role of a keyring: so is the KRSO, co the KRCO."""

    id: Literal["so", "co"]
    name: Literal["KRSO", "KRCO"]
    initialized: bool


class KeyringView(KeyringReference, frozen=True):
    """One keyring."""

    serial_number: str
    slot: int
    locked: bool
    failed_login_attempts: int
    object_count: int
    max_objects: int
    roles: list[KeyringRole]
    created: str


def _reference(keyring: KeyringSummary) -> KeyringReference:
    return KeyringReference(key_ring_label=keyring.label, key_ring_uuid=keyring.keyring_id)


def _view(call: Call, keyring: KeyringSummary) -> KeyringView:
    created = datetime.fromtimestamp(keyring.created_ms / 1000, UTC)
    return KeyringView(
        key_ring_label=keyring.label,
        key_ring_uuid=keyring.keyring_id,
        serial_number=keyring.serial,
        slot=keyring.slot,
        locked=keyring.locked,
        failed_login_attempts=keyring.failed_attempts,
        object_count=keyring.object_count,
        max_objects=call.appliance.config.limits.max_objects,
        roles=[
            KeyringRole(id="so", name="KRSO", initialized=keyring.krso_initialized),
            KeyringRole(id="co", name="KRCO", initialized=keyring.krco_initialized),
        ],
        created=f"{created:%Y-%m-%dT%H:%M:%SZ}",
    )


async def _check_co(call: Call, authentication: Authentications) -> None:
    password, label = credential(authentication, "CO")
    await call.appliance.hsm.verify_cluster_co(password, label, source=call.source)


def check_labels(call: Call, arguments: NewKeyrings) -> None:
    """The labels must be valid, with their index, and no more than one call may make."""
    _labels(call, arguments)


def _labels(call: Call, arguments: NewKeyrings) -> list[str]:
    return expand_labels(
        arguments.key_ring_label,
        whole_number(arguments.total),
        whole_number(arguments.index),
        call.appliance.config.limits,
    )


@operation(
    "keyring.create",
    "POST",
    KEYRINGS,
    summary="Create keyrings, all or none; a single one is answered 201, several 202.",
    chapter="5",
    doors=Doors.BOTH,
    cluster_methods=("create_keyrings",),
    arguments=NewKeyrings,
    roles=ADMINS,
    statuses=(202, 201),
    result=NewKeyringList,
    checks=(check_labels,),
    duration=Duration.TASK,
    faults=(
        *_BY_CO,
        faults.KEYRING_EXISTS,
        faults.KEYRING_LIMIT,
        faults.KEYRING_LABEL,
        faults.KEYRINGS_PER_CALL,
        faults.KEYRING_PASSWORD,
    ),
    commands=(
        Command(
            words="keyring create",
            summary="Create keyrings, 1 to 100 at a time, all or none.",
            chapter="5",
            options=(
                Option(
                    name="label",
                    short="l",
                    summary="label of the keyring; its number is added if one is given",
                    value="label",
                    target="keyRingLabel",
                    required=True,
                ),
                new_credential(
                    "password",
                    short="pas",
                    summary="initial password of the KRSO, who must change it",
                    prompt="Please enter an initial password for the keyring:",
                    target="keyRingPassword",
                ),
                PARTITION_LABEL,
                Option(
                    name="total",
                    short="t",
                    summary="how many; one if absent",
                    value="number",
                    kind=Kind.NUMBER,
                    target="total",
                ),
                Option(
                    name="index",
                    short="i",
                    summary="number of the first one",
                    value="number",
                    kind=Kind.NUMBER,
                    target="index",
                ),
                CO_PASSWORD,
            ),
            fixed=BY_CO,
            render=render.keyrings_created,
        ),
    ),
)
async def create_keyrings(call: Call, arguments: NewKeyrings) -> Reply:
    """Create keyrings."""
    labels = _labels(call, arguments)
    await _check_co(call, arguments.authentication)
    made = await ask(
        call,
        "create_keyrings",
        CreateKeyrings(
            labels=labels,
            password=arguments.key_ring_password.encode(),
            source=call.source,
            idempotency_key=os.urandom(16),
        ),
        KeyringList,
    )
    body = NewKeyringList(
        data=[_reference(keyring) for keyring in made.keyrings],
        key_ring_uuids=[keyring.keyring_id for keyring in made.keyrings],
    )
    if len(made.keyrings) == 1:
        url = f"{KEYRINGS}/{made.keyrings[0].keyring_id}"
        return Reply(body=body, status=201, location=url)
    return Reply(body=body, status=202)


@operation(
    "keyring.list",
    "GET",
    KEYRINGS,
    summary="List the keyrings with their ids.",
    chapter="5",
    doors=Doors.BOTH,
    cluster_methods=("list_keyrings",),
    arguments=NoArguments,
    roles=READERS,
    reveals=Reveals.SIFTED,
    statuses=(200,),
    result=Keyrings,
    faults=CLUSTER_CALL,
    paged=True,
    commands=(
        Command(
            words="keyring list",
            summary="List the keyrings with their ids.",
            chapter="5",
            render=render.keyring_list,
        ),
    ),
)
async def list_keyrings(call: Call, _arguments: NoArguments) -> Reply:
    """List the keyrings, or the wanted page of them."""
    wanted = ListKeyrings(
        offset=call.page.offset,
        limit=call.page.limit or 0,
        monitor_user=await customer_of(call),
    )
    found = await ask(call, "list_keyrings", wanted, KeyringList)
    body = Keyrings(data=[_reference(keyring) for keyring in found.keyrings])
    return Reply(body=body, total=found.total)


@operation(
    "keyring.show",
    "GET",
    KEYRING,
    summary="Show a keyring, named by its id or by its label.",
    chapter="5",
    doors=Doors.BOTH,
    cluster_methods=("show_keyring",),
    arguments=NoArguments,
    roles=READERS,
    reveals=Reveals.SIFTED,
    statuses=(200,),
    result=KeyringView,
    faults=(*CLUSTER_CALL, faults.KEYRING_NOT_FOUND),
    commands=(
        Command(
            words="keyring show",
            summary="Show a keyring, named by its id or by its label.",
            chapter="5",
            options=(_KEYRING_ID, _KEYRING_LABEL),
            render=render.keyring_show,
        ),
    ),
)
async def show_keyring(call: Call, _arguments: NoArguments) -> Reply:
    """Show a keyring."""
    named = NamedKeyring(name=call.path["keyringid"], monitor_user=await customer_of(call))
    return Reply(body=_view(call, await ask(call, "show_keyring", named, KeyringSummary)))


@operation(
    "keyring.unlock",
    "PATCH",
    KEYRING,
    summary="Unlock a keyring after too many wrong passwords.",
    chapter="5",
    doors=Doors.BOTH,
    cluster_methods=("unlock_keyring",),
    arguments=UnlockKeyring,
    roles=ADMINS,
    faults=(*_BY_CO, faults.KEYRING_NOT_FOUND),
    commands=(
        Command(
            words="keyring unlock",
            summary="Unlock a keyring after too many wrong passwords.",
            chapter="5",
            options=(_KEYRING_ID, _KEYRING_LABEL, CO_PASSWORD),
            fixed={"action": "unlock", **BY_CO},
        ),
    ),
)
async def unlock_keyring(call: Call, arguments: UnlockKeyring) -> Reply:
    """Unlock a keyring."""
    await _check_co(call, arguments.authentication)
    await ask(call, "unlock_keyring", NamedKeyring(name=call.path["keyringid"]), Nothing)
    return DONE


@operation(
    "keyring.delete",
    "DELETE",
    KEYRING,
    summary="Delete a keyring with all its objects, named by its id or by its label.",
    chapter="5",
    doors=Doors.BOTH,
    cluster_methods=("delete_keyring",),
    arguments=DeleteKeyring,
    roles=ADMINS,
    faults=(*_BY_CO, faults.KEYRING_NOT_FOUND),
    commands=(
        Command(
            words="keyring delete",
            summary="Delete a keyring with all its objects.",
            chapter="5",
            options=(_KEYRING_ID, _KEYRING_LABEL, CO_PASSWORD),
            fixed=BY_CO,
        ),
    ),
)
async def delete_keyring(call: Call, arguments: DeleteKeyring) -> Reply:
    """Delete a keyring."""
    await _check_co(call, arguments.authentication)
    await ask(call, "delete_keyring", NamedKeyring(name=call.path["keyringid"]), Nothing)
    return DONE
