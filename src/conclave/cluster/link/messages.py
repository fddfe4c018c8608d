"""Methods between members: one row each.

A method that the other member runs on behalf of a third party is `forward`; everything else is
between the two cluster processes themselves.
"""

from __future__ import annotations

from dataclasses import dataclass

from conclave.cluster.configuration import Configuration, Peer
from conclave.cluster.epochs import Epoch
from conclave.cluster.survivors import Survey
from conclave.service.messages import SpendContext
from conclave.service.quiet import Nothing, Quiet


class Heartbeat(Quiet, frozen=True):
    """A member's sign of life to the primary, and whether it has a lease."""

    sent_boot_ms: int
    """The sender's own boot clock; it means nothing to others and comes back in no answer."""
    epoch_number: int
    epoch_promoter: str
    read_write: bool


class HeartbeatAnswer(Quiet, frozen=True):
    """What the primary grants, and what else changes without an epoch."""

    granted: bool
    epoch_number: int
    epoch_promoter: str
    cluster_time_ms: int
    users_version: int
    timeline: int = 0
    """Of the primary's log; 0 while that is not known."""
    written_lsn: int = 0
    """How far that log reached a moment ago; 0 while that is not known."""


class Pong(Quiet, frozen=True):
    """Result of `ping`: the member as it sees itself."""

    epoch_number: int
    epoch_promoter: str
    accepted_number: int
    accepted_promoter: str
    gave_up: bool
    """It has promised to do without its primary."""
    authorized: bool
    read_write: bool
    restart_required: bool
    version: str
    issuers: tuple[bytes, ...] | None = None
    """Key identifiers of the CAs whose certificates it shows to clients; None is not known."""


class SurveyRequest(Quiet, frozen=True):
    """Ask what a member knows of the one that is to be deleted."""

    target: str


class SurveyAnswer(Quiet, frozen=True):
    """Result of `survey`."""

    survey: Survey


class PrepareRequest(Quiet, frozen=True):
    """Ask for the promise to an epoch; see `sequences.AskPrepare`."""

    epoch: Epoch
    living: Epoch
    deleting: str | None
    renewing: bool


class PrepareAnswer(Quiet, frozen=True):
    """The promise, or what was accepted instead."""

    given: bool
    accepted: Epoch


class OpenRequest(Quiet, frozen=True):
    """Become primary of a configuration once everything up to `position` is replayed."""

    configuration: Configuration
    position: int | None


class ConfigurationMessage(Quiet, frozen=True):
    """The configuration that a member lives in."""

    configuration: Configuration


class Authorization(Quiet, frozen=True):
    """What authorizes a listed member that returns (rule C9)."""

    smk: bytes
    domain: bytes


class Probe(Quiet, frozen=True):
    """Try to reach an address and core port from here (rule B4)."""

    address: str
    port: int


class NewMember(Quiet, frozen=True):
    """List a new member: the servicing member has proven it, the primary lists it."""

    peer: Peer
    name: str
    admin_port: int
    crypto_port: int
    certificate_der: bytes


class PortsReport(Quiet, frozen=True):
    """The ports on which a member listens now (rule S7)."""

    admin_port: int
    crypto_port: int


class CertifyRequest(Quiet, frozen=True):
    """Certify the caller's own listed key anew."""

    key_spki_der: bytes


class CertifyAnswer(Quiet, frozen=True):
    """The certificate."""

    certificate_der: bytes


class Bump(Quiet, frozen=True):
    """Tell a member that cached rows are void; answered once no worker of it uses them."""

    epoch_number: int
    epoch_promoter: str
    keyrings: list[bytes]
    clients: bool
    everything: bool
    revision: int


class Forward(Quiet, frozen=True):
    """Run a method of `conclave.service.messages` where it can be run; `params` is its encoding."""

    method: str
    params: bytes
    role: str


class Forwarded(Quiet, frozen=True):
    """The encoded result of a forwarded method."""

    result: bytes


class LocalFailure(Quiet, frozen=True):
    """A wrong password that a member counted without the primary."""

    client_id: bytes
    attempt_id: bytes
    keyring_id: bytes
    role: int
    credential: bytes
    """Digest of the very credential it was tried on; see `local_failures`."""


class MergeFailures(Quiet, frozen=True):
    """Add these failures to the primary's counters, once for each batch id."""

    batch_id: bytes
    failures: list[LocalFailure]


class DenyLogin(Quiet, frozen=True):
    """Serve this login no more."""

    login_id: bytes


@dataclass(frozen=True, slots=True)
class LinkMethod:
    """A row of the method table."""

    name: str
    parameter: type[Quiet]
    result: type[Quiet]
    writes: bool = False
    """True when a call that was sent and not answered may have changed something, and when to do
    it twice is not the same as to do it once."""


LINK_METHODS: dict[str, LinkMethod] = {
    row.name: row
    for row in (
        LinkMethod("heartbeat", Heartbeat, HeartbeatAnswer),
        LinkMethod("ping", Nothing, Pong),
        LinkMethod("bump", Bump, Nothing),
        LinkMethod("forward", Forward, Forwarded, writes=True),
        LinkMethod("deny_login", DenyLogin, Nothing),
        LinkMethod("spend_context", SpendContext, Nothing),
        LinkMethod("merge_failures", MergeFailures, Nothing),
        LinkMethod("goodbye", Nothing, Nothing),
        LinkMethod("survey", SurveyRequest, SurveyAnswer),
        LinkMethod("prepare", PrepareRequest, PrepareAnswer),
        LinkMethod("open_epoch", OpenRequest, Nothing),
        LinkMethod("adopt", ConfigurationMessage, Nothing),
        LinkMethod("configuration", Nothing, ConfigurationMessage),
        LinkMethod("authorize_me", Nothing, Authorization),
        LinkMethod("probe", Probe, Nothing),
        LinkMethod("add_member", NewMember, ConfigurationMessage, writes=True),
        LinkMethod("remove_me", Nothing, Nothing),
        LinkMethod("report_ports", PortsReport, Nothing),
        LinkMethod("certify_me", CertifyRequest, CertifyAnswer),
    )
}
