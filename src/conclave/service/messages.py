"""What is said on the internal channels; `methods` has who may say it to whom.

Secrets travel here (passwords, the SMK), over Unix sockets below a 0700 directory, between
processes that have proven a secret of their own.  None of these structs has a repr that shows
its bytes fields.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from conclave.service.quiet import Quiet

# ------------------------------------------------------------------ login process


class HashPassword(Quiet, frozen=True):
    """Derive a 32-byte key-encryption key; `source` bounds the attempts in flight (C8)."""

    password: bytes
    salt: bytes
    source: str


class DerivedKey(Quiet, frozen=True):
    """Result of HashPassword."""

    key: bytes


# ------------------------------------------------------------------ cluster process, for the daemon


class ServiceStatus(Quiet, frozen=True):
    """What the cluster process knows of itself."""

    ready: bool
    authorized: bool
    cluster_id: str


class CreateCluster(Quiet, frozen=True):
    """Make a cluster of one."""

    label: str
    cluster_id: str
    member_id: str
    member_name: str
    address: str
    admin_port: int
    crypto_port: int
    dual_identity: bool
    engine: Literal["sqlite", "postgresql"] = "sqlite"


class ClusterSummary(Quiet, frozen=True):
    """A cluster as lists show it; an empty list means that none exists here."""

    cluster_id: str
    label: str
    dual_identity: bool
    ca_certificate_pem: str


class ClusterList(Quiet, frozen=True):
    """Zero or one cluster."""

    clusters: list[ClusterSummary]


class MemberSummary(Quiet, frozen=True):
    """A member as lists show it."""

    member_id: str
    name: str
    address: str
    admin_port: int
    crypto_port: int
    group: str
    primary: bool
    authorized: bool
    visible: bool
    read_write: bool
    local: bool
    restart_required: bool = False
    version: str = ""
    last_contact_ms: int = 0
    """When this member last heard of it, cluster time; 0 never, or the local one."""
    behind_bytes: int = -1
    """Of what was written, how much it has not replayed, as the primary knows; -1 elsewhere."""


class MemberList(Quiet, frozen=True):
    """Members of the cluster."""

    members: list[MemberSummary]


class Authorize(Quiet, frozen=True):
    """Give the SMK; the first time this makes CA, ticket keys and the member's certificate.

    `member_key_spki_der` is the public key for which a member certificate is wanted.
    """

    smk: bytes
    member_key_spki_der: bytes
    domain: bytes = b""
    """The partition's cloning domain, which this member proves to whoever wants to join."""


class AuthorizeResult(Quiet, frozen=True):
    """The certificates that the listeners present."""

    member_certificate_pem: str
    ca_certificate_pem: str


class JoinPrepare(Quiet, frozen=True):
    """Prove the domain to a member of another cluster and fetch what the joiner needs from it."""

    cluster_id: str
    remote_address: str
    remote_admin_password: bytes
    remote_fingerprint: str
    """SHA-256 of the remote CA's certificate, colon-separated hex; demanded with a default domain,
    else it may be empty."""
    domain: bytes
    default_domain: bool
    member_id: str
    member_name: str
    address: str
    admin_port: int
    crypto_port: int


class JoinPrepared(Quiet, frozen=True):
    """What the daemon keeps, durably, before it calls `join_commit`."""

    smk: bytes
    cluster_id: str
    label: str
    dual_identity: bool
    member_id: str
    member_certificate_pem: str
    ca_certificate_pem: str


class JoinProgress(Quiet, frozen=True):
    """How far a join has come: a sentence for people, and the part that is done, 0 to 1."""

    step: str
    fraction: float


class PromoteMember(Quiet, frozen=True):
    """Make a read-write member the primary."""

    member_id: str


class SetGroup(Quiet, frozen=True):
    """Move a member to an affinity group, which is made when it is new."""

    member_id: str
    group: str


class GroupSummary(Quiet, frozen=True):
    """An affinity group and the ids of its members."""

    name: str
    member_ids: list[str]


class GroupList(Quiet, frozen=True):
    """Affinity groups in the order of their names."""

    groups: list[GroupSummary]


class DeleteMember(Quiet, frozen=True):
    """Delete a member that nobody sees; `force` goes on without members that are not reached."""

    member_id: str
    force: bool = False


class DeletedMember(Quiet, frozen=True):
    """Result of DeleteMember: who became primary by it, and which members do not know yet."""

    promoted_id: str
    not_reached: list[str]
    last_contact_ms: int


class MemberReport(Quiet, frozen=True):
    """What only the daemon knows of its member."""

    restart_required: bool
    admin_port: int
    crypto_port: int
    issuers: tuple[bytes, ...] | None = None
    """Key identifiers of the CAs whose certificates its workers show; None is not known."""


class Watch(Quiet, frozen=True):
    """Wait for a notice with another number than `seen`; at most `seconds`."""

    seen: int
    seconds: float


class RefusedJoin(Quiet, frozen=True):
    """A join that guessed wrong at this member; `number` grows, over restarts of the process too.

    `user_id` is empty where the refusal came before a name was told.
    """

    number: int
    source: str
    user_id: str
    fault_id: str


class Notice(Quiet, frozen=True):
    """What the cluster process has to tell its daemon: the newest state, not the way to it.

    `smk` is empty while the member is not authorized; `removed` is empty, `left` or `deleted`.
    """

    number: int
    smk: bytes
    domain: bytes
    cluster_id: str
    member_id: str
    dual_identity: bool
    member_certificate_pem: str
    ca_certificate_pem: str
    users_version: int
    removed: str
    refused_joins: list[RefusedJoin] = msgspec.field(default_factory=list)
    """The last ones, oldest first."""


class CreateKeyrings(Quiet, frozen=True):
    """Create keyrings with these labels, or none of them."""

    labels: list[str]
    password: bytes
    source: str
    idempotency_key: bytes


class KeyringSummary(Quiet, frozen=True):
    """A keyring as lists and shows report it; times are appliance time, ms since 1970."""

    keyring_id: str
    label: str
    serial: str
    slot: int
    locked: bool
    failed_attempts: int
    krso_initialized: bool
    krco_initialized: bool
    object_count: int
    created_ms: int


class KeyringList(Quiet, frozen=True):
    """Keyrings in the order of their slots, and how many there are in all."""

    keyrings: list[KeyringSummary]
    total: int


class ListKeyrings(Quiet, frozen=True):
    """Ask for a page of keyrings; `limit` 0 means all."""

    offset: int = 0
    limit: int = 0
    monitor_user: str = ""
    """Only those that are assigned to clients of this user."""


class NamedKeyring(Quiet, frozen=True):
    """Name a keyring by UUID or by label."""

    name: str
    monitor_user: str = ""
    """There is no such keyring unless it is assigned to a client of this user."""


class UserRecord(Quiet, frozen=True):
    """A user of the appliances as the cluster has it; `verifier` is opaque to the cluster."""

    user_id: str
    role: str
    full_name: str
    email: str
    verifier: bytes
    enabled: bool
    revision: int


class UserRecords(Quiet, frozen=True):
    """The whole list of users; to put one, `version` is that of the list it was made from.

    0 is the version before there is a list.
    """

    users: list[UserRecord]
    version: int = 0


class UsersVersion(Quiet, frozen=True):
    """Result of putting a list of users: its version."""

    version: int


# ------------------------------------------------------------------ cluster process, for workers


class TicketKey(Quiet, frozen=True):
    """One ticket key with its version."""

    version: int
    key: bytes


class FetchKeys(Quiet, frozen=True):
    """Ask for a worker's keys; `anew` reads the store first, for a ticket of an unknown version."""

    anew: bool = False


class WorkerKeys(Quiet, frozen=True):
    """What a worker gets once the member is authorized; newest ticket key first."""

    authorized: bool
    ticket_keys: list[TicketKey]
    public_key: bytes
    cluster_id: str
    member_id: str


class MemberState(Quiet, frozen=True):
    """A member as clients are told of it; `state` is a `wire.Standing`."""

    member_id: str
    address: str
    crypto_port: int
    group: str
    key_sha256: bytes
    state: int


class MembersState(Quiet, frozen=True):
    """All members, and the page's version of that list, taken before they were read."""

    members: list[MemberState]
    version: int


class ClientLogin(Quiet, frozen=True):
    """C_Login, forwarded."""

    client_id: bytes
    source: str
    keyring_id: bytes
    role: int
    password: bytes
    attempt_id: bytes


class ContextLogin(Quiet, frozen=True):
    """C_Login for one use of a key, forwarded; `login_id` is that of the login under way."""

    login: ClientLogin
    login_id: bytes
    object_id: bytes
    operation: int


class ContextResult(Quiet, frozen=True):
    """A context ticket for the caller."""

    context: bytes


class SpendContext(Quiet, frozen=True):
    """Take a context ticket's id, once; again only for the same use."""

    member_id: str
    """The member that issued it."""
    context_id: bytes
    use_digest: bytes
    """Of the whole use."""


class TicketResult(Quiet, frozen=True):
    """A ticket for the caller."""

    ticket: bytes


class ClientLogout(Quiet, frozen=True):
    """C_Logout, forwarded: deny the ticket's login id."""

    client_id: bytes
    ticket: bytes


class ChangePassword(Quiet, frozen=True):
    """C_SetPIN, forwarded; `ticket` is the caller's, if it has one."""

    client_id: bytes
    source: str
    ticket: bytes | None
    keyring_id: bytes
    role: int
    old_password: bytes
    new_password: bytes
    idempotency_key: bytes
    deadline_ms: int


class InitializeKrco(Quiet, frozen=True):
    """C_InitPIN, forwarded."""

    client_id: bytes
    source: str
    ticket: bytes
    keyring_id: bytes
    new_password: bytes
    idempotency_key: bytes
    deadline_ms: int


class InitializeToken(Quiet, frozen=True):
    """C_InitToken, forwarded."""

    client_id: bytes
    source: str
    keyring_id: bytes
    password: bytes
    label: str
    idempotency_key: bytes
    deadline_ms: int


class ObjectWrite(Quiet, frozen=True):
    """One object to insert (expected_revision 0) or to replace."""

    object_id: bytes
    private: bool
    version: int
    blob: bytes
    mac: bytes
    expected_revision: int = 0


class ObjectDelete(Quiet, frozen=True):
    """One object to delete."""

    object_id: bytes
    expected_revision: int


class WriteObjects(Quiet, frozen=True):
    """Change token objects of one keyring, all or nothing (C20, C21).

    `request_mac` authenticates the client's request under the idempotency key; `result` is what a
    repetition is answered with.
    """

    client_id: bytes
    ticket: bytes
    keyring_id: bytes
    writes: list[ObjectWrite]
    deletes: list[ObjectDelete]
    idempotency_key: bytes
    request_mac: bytes
    deadline_ms: int
    result: bytes


class WriteResult(Quiet, frozen=True):
    """`repeated` is true when the record of an earlier commit was found; then `result` is its."""

    repeated: bool
    result: bytes
    revision: int


class LookupWrite(Quiet, frozen=True):
    """Ask for the record of an idempotency key before doing expensive work."""

    client_id: bytes
    idempotency_key: bytes
    request_mac: bytes
