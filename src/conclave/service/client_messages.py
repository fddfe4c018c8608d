"""Messages about clients: registration, enrolment tokens, and which keyrings are theirs."""

from __future__ import annotations

from conclave.service.quiet import Quiet


class RegisterClient(Quiet, frozen=True):
    """Certify a client's key."""

    request_pem: str
    label: str
    monitor_user: str


class ClientSummary(Quiet, frozen=True):
    """A client as lists show it."""

    client_id: str
    common_name: str
    label: str
    monitor_user: str
    revoked: bool
    created_ms: int


class ClientList(Quiet, frozen=True):
    """Registered clients."""

    clients: list[ClientSummary]


class ClientMember(Quiet, frozen=True):
    """Where a client finds a member."""

    member_id: str
    address: str
    crypto_port: int
    group: str


class RegisteredClient(Quiet, frozen=True):
    """Result of RegisterClient, with where a client finds the members.

    Members of a release that did not tell whether anything was changed are taken to have done so.
    """

    client: ClientSummary
    certificate_pem: str
    ca_certificate_pem: str
    server_common_name: str
    crypto_port: int
    members: list[ClientMember]
    changed: bool = True
    """Whether the client was listed, or certified again, just now."""


class NamedClient(Quiet, frozen=True):
    """Name a client by UUID."""

    client_id: str


class CreateEnrolmentToken(Quiet, frozen=True):
    """Let one client register with a secret; an empty text binds it to nothing."""

    token_id: bytes
    secret_sha256: bytes
    common_name: str
    label: str
    monitor_user: str
    created_by: str
    life_ms: int


class EnrolmentTokenSummary(Quiet, frozen=True):
    """An enrolment token as lists show it; `client_id` is empty until somebody has used it."""

    token_id: str
    common_name: str
    label: str
    monitor_user: str
    created_by: str
    created_ms: int
    expires_ms: int
    state: str
    """open, used, revoked or expired"""
    client_id: str
    used_ms: int


class EnrolmentTokenList(Quiet, frozen=True):
    """Enrolment tokens, oldest first."""

    tokens: list[EnrolmentTokenSummary]


class NamedEnrolmentToken(Quiet, frozen=True):
    """Name an enrolment token by UUID."""

    token_id: str


class CheckEnrolment(Quiet, frozen=True):
    """Ask whether a secret could register a client; nothing is changed."""

    token_id: bytes
    secret: bytes


class EnrolClient(Quiet, frozen=True):
    """Certify a client's key by an enrolment token, which is spent by it."""

    token_id: bytes
    secret: bytes
    request_pem: str
    label: str


class RenewClient(Quiet, frozen=True):
    """Certify a listed key again, by a request that it has signed."""

    request_pem: str


class NamedUser(Quiet, frozen=True):
    """Name a user of the appliance."""

    user_id: str


class Customer(Quiet, frozen=True):
    """Whether a client or an enrolment token names a user, or ever did."""

    named: bool


class AssignKeyrings(Quiet, frozen=True):
    """Assign keyrings, named by UUID or label, to a client."""

    client_id: str
    keyrings: list[str]


class TakeKeyring(Quiet, frozen=True):
    """Take a keyring, named by UUID or label, away from a client."""

    client_id: str
    keyring: str


class AssignedKeyring(Quiet, frozen=True):
    """A keyring of a client."""

    keyring_id: str
    label: str


class AssignedKeyringList(Quiet, frozen=True):
    """The keyrings of a client in the order of their slots."""

    keyrings: list[AssignedKeyring]


class AssignmentMode(Quiet, frozen=True):
    """Whether clients use the keyrings that are assigned to them only."""

    assigned: bool
