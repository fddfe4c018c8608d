"""What a cluster is made of, and what one member durably knows and has promised.

Invariants, of which every safety argument of the cluster is made:

1. A member opens an epoch, that is, takes writes in it, only if the epoch's configuration names it
   as primary and it has accepted that very epoch.
2. Of each number a member accepts one epoch at most, and nothing lower afterwards.
3. The member that numbers an epoch names one primary for it, once.

So no epoch ever has two primaries (rule C19).  A primary that handed over, or has accepted an
epoch that is not its own, takes no writes.
"""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from conclave import faults
from conclave.cluster import histories
from conclave.cluster.epochs import Epoch
from conclave.cluster.histories import KEPT_EPOCHS, History
from conclave.errors import Conflict
from conclave.ids import ClusterId, MemberId

NOBODY = MemberId("")
KEPT_FORKS = 32


class Standing(enum.StrEnum):
    """What a member is to its cluster."""

    JOINING = "joining"
    """Listed, but its copy of the store was never complete."""
    MEMBER = "member"
    LEFT = "left"
    DELETED = "deleted"
    """Refused by the others until its cluster service is factory reset."""


@dataclass(frozen=True, slots=True)
class Peer:
    """A member as the others know it: where it is, and the key that proves it (rule C3)."""

    member_id: MemberId
    address: str
    core_port: int
    key_sha256: bytes


@dataclass(frozen=True, slots=True)
class Configuration:
    """Who is in the cluster and who is primary, in one epoch."""

    epoch: Epoch
    primary: MemberId
    peers: tuple[Peer, ...]
    former: tuple[tuple[MemberId, Standing], ...] = ()
    """Who was in it once, and whether it left or was deleted."""
    forks: tuple[tuple[int, int], ...] = ()
    """Of each deletion of a primary the epoch's number, and up to which revision of the store the
    new primary surely had what the deleted one had (rule C18)."""
    unannounced: tuple[MemberId, ...] = ()
    """New members that perhaps not all others know of: no write is acknowledged because of them."""
    former_epochs: tuple[Epoch, ...] = ()
    """The epochs that this one came after, oldest first."""

    @property
    def history(self) -> History:
        """Return the epochs up to this one, and their forks."""
        return History((*self.former_epochs, self.epoch), self.forks)

    def succeeded(self, epoch: Epoch, primary: MemberId | None = None) -> Configuration:
        """Return the same members in a next epoch, perhaps under another primary."""
        former = (*self.former_epochs, self.epoch)[-KEPT_EPOCHS:]
        primary = self.primary if primary is None else primary
        return replace(self, epoch=epoch, primary=primary, former_epochs=former)

    def peer(self, member_id: MemberId) -> Peer | None:
        """Return a member, None when it is not in the cluster."""
        return next((peer for peer in self.peers if peer.member_id == member_id), None)

    def ids(self) -> tuple[MemberId, ...]:
        """Return the ids of all members."""
        return tuple(peer.member_id for peer in self.peers)

    def former_standing(self, member_id: MemberId) -> Standing | None:
        """Tell whether a former member left or was deleted, None when it never was one."""
        return dict(self.former).get(member_id)

    def deleted(self) -> frozenset[MemberId]:
        """Return who was deleted, and has not joined again."""
        return frozenset(id_ for id_, standing in self.former if standing is Standing.DELETED)

    def membership_hash(self) -> bytes:
        """Return a hash of who is in the cluster, in whatever order the list is."""
        digest = hashlib.sha256(b"conclave membership")
        for peer in sorted(self.peers, key=lambda peer: peer.member_id):
            digest.update(f"{peer.member_id} {peer.address} {peer.core_port} ".encode())
            digest.update(peer.key_sha256)
        return digest.digest()

    def with_peer(self, epoch: Epoch, peer: Peer) -> Configuration:
        """Return the configuration with a new member, which is not announced yet."""
        former = tuple(entry for entry in self.former if entry[0] != peer.member_id)
        peers = (*(p for p in self.peers if p.member_id != peer.member_id), peer)
        new = () if self.peer(peer.member_id) else (peer.member_id,)
        unannounced = (*self.unannounced, *new)
        return replace(self.succeeded(epoch), peers=peers, former=former, unannounced=unannounced)

    def announced(self, epoch: Epoch) -> Configuration:
        """Return the configuration of which every member knows every other."""
        return replace(self.succeeded(epoch), unannounced=())

    def without(
        self, epoch: Epoch, member_id: MemberId, how: Standing, primary: MemberId
    ) -> Configuration:
        """Return the configuration without a member, under a primary that stays."""
        return replace(
            self.succeeded(epoch, primary),
            peers=tuple(peer for peer in self.peers if peer.member_id != member_id),
            former=(*(entry for entry in self.former if entry[0] != member_id), (member_id, how)),
            unannounced=tuple(each for each in self.unannounced if each != member_id),
        )

    def forked(self, revision: int) -> Configuration:
        """Return the configuration with the note that its epoch begins at that revision."""
        return replace(self, forks=(*self.forks, (self.epoch.number, revision))[-KEPT_FORKS:])


@dataclass(frozen=True, slots=True)
class MemberState:
    """What one member durably knows, beside its copy of the store."""

    cluster_id: ClusterId
    member_id: MemberId
    standing: Standing
    configuration: Configuration
    accepted: Epoch
    """The highest epoch that this member promised to accept nothing lower than."""
    visible: tuple[MemberId, ...] = ()
    """The last visible list that this member knows to be recorded, and its version."""
    list_version: int = 0
    handing_over: MemberId = NOBODY
    """Whom this primary has handed the accepted epoch to; it has closed for good."""
    gave_up: bool = False
    """It has promised to do without its primary, and takes nothing more from it."""
    parted: histories.Parted = ()
    """Of the epochs that it lived in and gave up for another history, up to where they are one."""
    certificate_authorities: tuple[bytes, ...] = field(default=(), repr=False)
    """Certificates of the cluster CA, DER, newest first."""
    certificate: bytes = field(default=b"", repr=False)
    """The member's own certificate, DER: what it shows before its store is open."""
    cross_certificates: tuple[bytes, ...] = field(default=(), repr=False)
    """What it shows with it, so that those who know an older CA only can follow, DER."""

    @property
    def epoch(self) -> Epoch:
        """Return the epoch that this member lives in."""
        return self.configuration.epoch

    @property
    def is_primary(self) -> bool:
        """Tell whether this member is the one that its configuration names."""
        return self.configuration.primary == self.member_id

    @property
    def may_write(self) -> bool:
        """Tell whether this member is a primary that has not promised its place to another.

        An epoch that it numbered itself, and asks the others for, is no such promise.
        """
        return (
            self.standing is Standing.MEMBER
            and self.is_primary
            and (self.accepted == self.epoch or self.accepted.promoter == self.member_id)
            and not self.handing_over
        )

    def others(self) -> tuple[Peer, ...]:
        """Return all members but this one."""
        return tuple(p for p in self.configuration.peers if p.member_id != self.member_id)


def fork_above(state: MemberState, epoch: Epoch) -> int | None:
    """Return up to which revision a copy of that epoch has what the present primary has.

    None when no primary was deleted since: then a copy has nothing that the primary lacks.
    """
    configuration = state.configuration
    if epoch.promoter == configuration.primary and epoch > configuration.epoch:
        # Its next epoch, which the copy has before its member was told of it.
        return None
    return histories.fork_above(configuration.history, state.parted, epoch)


def surely_held(state: MemberState, epoch: Epoch, revision: int) -> int:
    """Return up to which revision a copy, of that epoch, has what the present primary has."""
    fork = fork_above(state, epoch)
    return revision if fork is None else min(fork, revision)


def _parted(state: MemberState, configuration: Configuration) -> histories.Parted:
    return histories.parted(state.parted, state.configuration.history, configuration.history)


def accepts(state: MemberState, epoch: Epoch) -> bool:
    """Tell whether a member may promise itself to an epoch (invariant 2)."""
    return epoch == state.accepted or epoch.number > state.accepted.number


def accept(state: MemberState, epoch: Epoch, *, give_up: bool = False) -> MemberState:
    """Return the state after the promise, which may be one to do without the present primary.

    Raises Conflict (EPOCH_STALE) when it may not be given.
    """
    if not accepts(state, epoch):
        message = f"Epoch {epoch} is refused: epoch {state.accepted} was accepted already."
        raise Conflict(faults.EPOCH_STALE, message)
    return replace(state, accepted=epoch, gave_up=state.gave_up or give_up)


def promised_past(state: MemberState, accepted: Epoch, *, gave_up: bool) -> bool:
    """Tell whether a member promised itself past what this primary opened, and can follow no more.

    `sequences.renew` brings it back.  What this primary has promised itself does not count, since a
    renewal that was interrupted left just that.  Whoever promised itself to the very epoch that was
    opened is about to follow; one of the same number that somebody else was to open holds it back,
    and one that gave its primary up takes no later configuration of it without being asked.
    """
    return accepted != state.epoch and (gave_up or accepted.number >= state.epoch.number)


def never_listed(state: MemberState, primary: MemberId, epoch: Epoch) -> bool:
    """Tell whether a joiner that `primary` does not know, in its epoch, was not taken in for good.

    Only the primary that was to list it can say so, or one that came after that one: where it lists
    nobody, nobody else does.
    """
    joins = state.standing is Standing.JOINING
    return joins and (primary == state.configuration.primary or epoch > state.epoch)


def next_epoch(promoter: MemberId, states: Iterable[Epoch]) -> Epoch:
    """Return the epoch that `promoter` may propose above all of `states`."""
    return Epoch(max(epoch.number for epoch in states) + 1, promoter)


def adoptable(state: MemberState, configuration: Configuration) -> bool:
    """Tell whether a configuration that somebody opened is to be lived in from now on.

    It must be newer than ours, and not break a promise: another epoch of the number that we
    accepted, or a lower one, is not followed.
    """
    epoch = configuration.epoch
    if epoch <= state.epoch or state.standing in (Standing.LEFT, Standing.DELETED):
        return False
    if configuration.peer(state.member_id) is None:
        # No promise keeps in a cluster whom it has removed, its own attempts least of all.
        return True
    same_primary = configuration.primary == state.configuration.primary
    if state.gave_up and same_primary and epoch != state.accepted:
        # Given up, and perhaps replaced: it comes back by an epoch that all promised (`renew`).
        return False
    return accepts(state, epoch)


def adopt(state: MemberState, configuration: Configuration) -> MemberState:
    """Return the state in a newer configuration; unchanged when it is not adoptable.

    A member that is not in it any more has left or was deleted, as the configuration says.
    """
    if not adoptable(state, configuration):
        return state
    standing = state.standing
    if configuration.peer(state.member_id) is None:
        standing = configuration.former_standing(state.member_id) or Standing.DELETED
    return replace(
        state,
        configuration=configuration,
        accepted=max(state.accepted, configuration.epoch),
        standing=standing,
        handing_over=NOBODY,
        gave_up=False,
        parted=_parted(state, configuration),
    )


def ended(state: MemberState, how: Standing, epoch: Epoch) -> MemberState:
    """Return the state of one that is no member any more, and was told no more than that.

    Its configuration names nobody: who else is in the cluster is not known, and must not be told
    on.  Nor is it anybody's primary, whose word a joiner would take for that of the cluster.
    """
    configuration = Configuration(
        max(epoch, state.epoch),
        NOBODY,
        (),
        former=((state.member_id, how),),
        forks=state.configuration.forks,
    )
    return replace(
        state,
        configuration=configuration,
        accepted=max(state.accepted, configuration.epoch),
        standing=how,
        handing_over=NOBODY,
        gave_up=False,
    )


def opened(state: MemberState, configuration: Configuration) -> MemberState:
    """Return the state of a member that opens an epoch as its primary (invariant 1)."""
    if configuration.primary != state.member_id or configuration.epoch != state.accepted:
        message = (
            f"Epoch {configuration.epoch} cannot be opened here: {state.accepted} was accepted,"
            f" and its primary is {configuration.primary}."
        )
        raise Conflict(faults.EPOCH_STALE, message)
    return replace(
        state,
        configuration=configuration,
        standing=Standing.MEMBER,
        handing_over=NOBODY,
        gave_up=False,
        parted=_parted(state, configuration),
        visible=(state.member_id,),
        list_version=state.list_version + 1,
    )


def handed_over(state: MemberState, target: MemberId, epoch: Epoch) -> MemberState:
    """Return the state of a primary that closes for good in favour of `target`."""
    if not state.may_write or epoch.promoter != target:
        message = f"This member cannot hand over epoch {state.epoch}: it is not open here."
        raise Conflict(faults.EPOCH_STALE, message)
    return replace(accept(state, epoch), handing_over=target)
