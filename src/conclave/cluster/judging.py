"""Whom a member speaks with on the link: a function of what it durably knows.

Invariant: a peer is accepted by the public key that is listed for its id, never by the CA's
signature alone (rule C3); PostgreSQL's stream is given to listed members of the very same epoch by
a primary that may write, to nobody else.
"""

from __future__ import annotations

import hmac

from conclave import __version__, faults
from conclave.cluster.configuration import MemberState, Standing
from conclave.cluster.link.hello import PROTOCOL_VERSION, Channel, Hello, ListedMember, Verdict
from conclave.errors import Fault
from conclave.ids import MemberId

REASON_LEFT = Standing.LEFT.value
REASON_DELETED = Standing.DELETED.value
REASON_EPOCH = "epoch"
REASON_UNKNOWN = "unknown"


def hello_of(state: MemberState, channel: Channel) -> Hello:
    """Return what this member says first."""
    return Hello(
        protocol_version=PROTOCOL_VERSION,
        cluster_id=state.cluster_id,
        member_id=state.member_id,
        epoch=state.epoch,
        membership_hash=state.configuration.membership_hash(),
        software_version=__version__,
        channel=channel,
    )


def judge(state: MemberState, hello: Hello, key_sha256: bytes | None) -> Verdict:
    """Judge a caller."""
    if hello.protocol_version != PROTOCOL_VERSION:
        message = (
            f"The member speaks version {hello.protocol_version} of the link's protocol, this one"
            f" {PROTOCOL_VERSION}: install the same release."
        )
        return _refuse(state, faults.VERSION_MISMATCH, message, "version")
    if hello.cluster_id != state.cluster_id:
        message = f"This is a member of cluster {state.cluster_id}, not of {hello.cluster_id!r}."
        return _refuse(state, faults.CLUSTER_NOT_FOUND, message, "cluster")
    if hello.channel == "join":
        return Verdict.accept()
    verdict = judge_peer(state, hello, key_sha256)
    if not verdict.accepted or hello.channel != "postgresql":
        return verdict
    if not state.may_write or hello.epoch != state.epoch:
        message = (
            f"The store is copied from the open primary in its own epoch only: here it is"
            f" {state.epoch}, the caller lives in {hello.epoch}."
        )
        return _refuse(state, faults.EPOCH_STALE, message, REASON_EPOCH)
    return verdict


def judge_peer(state: MemberState, hello: Hello, key_sha256: bytes | None) -> Verdict:
    """Judge a member that was called, or that calls for anything but a join."""
    member_id = MemberId(hello.member_id)
    peer = state.configuration.peer(member_id)
    if peer is not None and key_sha256 and hmac.compare_digest(peer.key_sha256, key_sha256):
        return Verdict.accept()
    former = state.configuration.former_standing(member_id)
    # A deletion is told to whoever lives in a later epoch, too: it was deleted all the same, and
    # has gone on elsewhere (`lineage`).  One that left may have joined again meanwhile.
    if former is Standing.DELETED or (former is not None and hello.epoch <= state.epoch):
        cure = (
            "it must be factory reset before it can join again"
            if former is Standing.DELETED
            else "it left, and may join again"
        )
        message = f"Member {member_id} is not in the cluster any more: {cure}."
        return _refuse(state, faults.MEMBER_REMOVED, message, former.value)
    message = f"Member {hello.member_id[:36]!r} with this key is not in the list of members."
    return _refuse(state, faults.MEMBER_NOT_FOUND, message, REASON_UNKNOWN)


def _refuse(state: MemberState, fault: Fault, message: str, reason: str) -> Verdict:
    members = tuple(
        ListedMember(peer.member_id, peer.address, peer.key_sha256)
        for peer in state.configuration.peers
    )
    return Verdict.refuse(
        fault,
        message,
        reason=reason,
        epoch=state.epoch,
        primary=state.configuration.primary,
        members=members,
        history=state.configuration.history,
    )
