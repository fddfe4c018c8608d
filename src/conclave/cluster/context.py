"""What all handlers of the cluster process share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, TypeVar
from uuid import UUID

from conclave import faults
from conclave.clock import ApplianceClock
from conclave.cluster.ca import CertificateAuthority, der
from conclave.cluster.context_book import ContextBook
from conclave.cluster.master_keys import ClusterKeys, MasterKeys
from conclave.cluster.store_handle import StoreHandle
from conclave.crypto.password_hash import Argon2Cost
from conclave.errors import ConclaveError, InternalFault, NotAllowed, NotFound
from conclave.ids import ClientId, ClusterId, ClusterTimeMs, KeyringId, MemberId, RowRevision
from conclave.service.page import SharedPage
from conclave.settings import Limits
from conclave.store.assignments import usable_by
from conclave.store.repository import ClusterReader, ClusterWriter, Touched
from conclave.store.rows import ClusterStateRow, KeyringRow

DAEMON_CLIENT: Final = ClientId(bytes(16))
"""Stands for the appliance's own doors where a client is recorded."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True, repr=False)
class Authorized:
    """What the member holds from its authorization to its stop."""

    cluster_id: ClusterId
    member_id: MemberId
    dual_identity: bool
    master: MasterKeys
    keys: ClusterKeys
    authority: CertificateAuthority
    smk: bytes
    domain: bytes

    @property
    def authorities(self) -> tuple[bytes, ...]:
        """Return the certificates of the CA's versions, DER, newest first."""
        return (der(self.authority.certificate), *self.keys.former_authorities)


@dataclass(frozen=True, slots=True)
class Settings:
    """What the daemon configured for this process."""

    limits: Limits
    cost: Argon2Cost
    """Of passwords that are set from now on."""
    server_common_name: str
    other_names: tuple[str, ...]
    admin_port: int
    crypto_port: int
    package_version: str
    """Of the package that brought this release."""


@dataclass(slots=True)
class Context:
    """The store, the page, the clock, the settings, and the keys once they are there."""

    settings: Settings
    page: SharedPage
    clock: ApplianceClock
    store: StoreHandle
    authorized: Authorized | None = field(default=None, repr=False)
    contexts: ContextBook = field(default_factory=ContextBook, repr=False)

    @property
    def limits(self) -> Limits:
        """Return the limits of keyrings."""
        return self.settings.limits

    def cluster_time_ms(self) -> ClusterTimeMs:
        """Return cluster time."""
        return self.page.cluster_time_ms()

    def require_authorized(self) -> Authorized:
        """Return the member's keys; raise NotAllowed while it is not authorized."""
        if self.authorized is None:
            message = "The member is not authorized: authorize it with the partition's CO password."
            raise NotAllowed(faults.MEMBER_NOT_AUTHORIZED, message)
        return self.authorized

    async def write(self, work: Callable[[ClusterWriter], T], *, objects_only: bool = False) -> T:
        """Run `work` in a transaction; see `StoreHandle.write`."""
        return await self.store.write(work, objects_only=objects_only)

    async def read(self, work: Callable[[ClusterReader], T]) -> T:
        """Ask the store; see `StoreHandle.read`."""
        return await self.store.read(work)


def publish_to(page: SharedPage) -> Callable[[Touched], None]:
    """Return what bumps the page for committed changes (rule C15)."""

    def publish(touched: Touched) -> None:
        if touched.revision:
            page.set_log_position(RowRevision(touched.revision))
        for keyring_id in touched.keyrings:
            page.bump_keyring(keyring_id)
        if touched.clients:
            page.bump_clients()
        if touched.everything:
            page.bump_global()

    return publish


def require_cluster(reader: ClusterReader) -> ClusterStateRow:
    """Return the cluster's state; raise NotFound before it was created."""
    state = reader.cluster_state()
    if state is None:
        message = "This appliance has no cluster: create one first."
        raise NotFound(faults.CLUSTER_NOT_FOUND, message)
    return state


def require_keyring(reader: ClusterReader, keyring_id: KeyringId) -> KeyringRow:
    """Return a keyring; raise NotFound."""
    row = reader.keyring(keyring_id)
    if row is None:
        raise no_keyring(str(UUID(bytes=bytes(keyring_id))))
    return row


def require_user_of(reader: ClusterReader, client_id: ClientId, keyring_id: KeyringId) -> None:
    """Refuse a client that is unknown or revoked, or may not use the keyring (rule C20).

    A keyring that is not assigned to the client is answered as one that is not there.
    """
    require_client(reader, client_id)
    usable = usable_by(reader, client_id)
    if usable is not None and keyring_id not in usable:
        raise no_keyring(str(UUID(bytes=bytes(keyring_id))))


def require_client(reader: ClusterReader, client_id: ClientId) -> None:
    """Refuse a client that is unknown or revoked (rule C20)."""
    row = reader.client(client_id)
    if row is None or row.revoked:
        message = f"Client {UUID(bytes=bytes(client_id))} is not registered or was revoked."
        raise NotAllowed(faults.CLIENT_NOT_FOUND, message)


def named_keyring(reader: ClusterReader, name: str) -> KeyringRow:
    """Return the keyring of that UUID or label; raise NotFound.

    A UUID with its dashes is longer than any label, so no name means two keyrings.
    """
    row = None
    if len(name) == 36:
        identity = parse_uuid(name)
        row = reader.keyring(KeyringId(identity.bytes)) if identity else None
    else:
        row = reader.keyring_by_label(name)
    if row is None:
        raise no_keyring(name)
    return row


def no_keyring(name: str) -> NotFound:
    """Return the error for a keyring that does not exist."""
    return NotFound(faults.KEYRING_NOT_FOUND, f"There is no keyring {name!r}.")


def parse_uuid(text: str) -> UUID | None:
    """Return a UUID, None when the text is none."""
    try:
        return UUID(text)
    except ValueError:
        return None


def exact_id(value: bytes, what: str) -> bytes:
    """Return an id of 16 bytes; raise InternalFault, since workers check what clients send."""
    if len(value) != 16:
        raise InternalFault(faults.INTERNAL, f"A {what} has 16 bytes; this one has {len(value)}.")
    return value


def is_transient(error: ConclaveError) -> bool:
    """Tell whether the same request may succeed later."""
    return error.fault.retry_is_safe
