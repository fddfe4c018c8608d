"""Methods between members: one row each.

A method that the other member runs on behalf of a third party is `forward`; everything else is
between the two cluster processes themselves.
"""

from __future__ import annotations

from dataclasses import dataclass

from conclave.service.messages import Nothing, Quiet


class Heartbeat(Quiet, frozen=True):
    """A member's sign of life to the primary, and what it knows of itself."""

    member_id: str
    sent_boot_ms: int
    """The sender's own boot clock; it means nothing to others and comes back in no answer."""
    epoch_number: int
    epoch_promoter: str
    authorized: bool
    read_write: bool
    restart_required: bool
    version: str
    received_lsn: int
    replayed_lsn: int
    timeline: int


class PeerReport(Quiet, frozen=True):
    """A member as the primary sees it; `visible` names the members that it sees itself."""

    member_id: str
    authorized: bool
    read_write: bool
    restart_required: bool
    version: str
    visible: list[str]


class HeartbeatAnswer(Quiet, frozen=True):
    """What the primary grants, and the state of the cluster as it stands."""

    granted: bool
    epoch_number: int
    epoch_promoter: str
    accepted_number: int
    primary: str
    cluster_time_ms: int
    visible: list[str]
    list_version: int
    log_position: int
    members_version: int
    users_version: int
    peers: list[PeerReport]


class Pong(Quiet, frozen=True):
    """Result of `ping`."""


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
    )
}
