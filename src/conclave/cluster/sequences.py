"""Promotion, deletion, join and leave: the steps in their order, without doing any of them.

Each sequence is a generator: it yields an action, is sent its result (or thrown its error), and
returns the member's new state.  `conclave.cluster.coordinator` carries the actions out; tests stop
every sequence after every action and look at what the members are left with.

Invariants: what a member promises or gives away is saved before anybody is told of it; nothing is
taken from the old primary before the new one has promised itself; a sequence that ends early leaves
a cluster that either goes on as before or is finished by repeating the sequence.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from conclave import faults
from conclave.cluster.configuration import (
    Configuration,
    MemberState,
    Peer,
    Standing,
    accept,
    adopt,
    handed_over,
    next_epoch,
    opened,
)
from conclave.cluster.epochs import Epoch
from conclave.cluster.survivors import Survey, choose_survivor, require_deletable
from conclave.errors import Conflict, NotAllowed, Unavailable
from conclave.ids import MemberId

# ---------------------------------------------------------------- what another member is asked


@dataclass(frozen=True, slots=True)
class AskSurvey:
    """What do you know of this member, and how far is your copy?  Answered by a Survey."""

    target: MemberId


@dataclass(frozen=True, slots=True)
class AskPrepare:
    """Promise yourself to an epoch; answered by Promise.

    `deleting` is the primary that it does without: whoever promises stops following it.
    """

    epoch: Epoch
    deleting: MemberId | None = None


@dataclass(frozen=True, slots=True)
class Promise:
    """The answer to AskPrepare, and what was accepted before when it was refused."""

    given: bool
    accepted: Epoch


@dataclass(frozen=True, slots=True)
class AskOpen:
    """Become primary of this configuration, once everything up to `position` is replayed."""

    configuration: Configuration
    position: int | None


@dataclass(frozen=True, slots=True)
class AskAdopt:
    """Live in this configuration, which its primary has opened."""

    configuration: Configuration


Question = AskSurvey | AskPrepare | AskOpen | AskAdopt

# ---------------------------------------------------------------- actions


@dataclass(frozen=True, slots=True)
class Save:
    """Make the member's state durable; everything after it may rely on it."""

    state: MemberState


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask a member, perhaps this one; its answer, or Unavailable when it does not come."""

    member_id: MemberId
    question: Question


@dataclass(frozen=True, slots=True)
class PauseWrites:
    """Let writes wait; those under way end first."""


@dataclass(frozen=True, slots=True)
class ResumeWrites:
    """Let writes go on."""


@dataclass(frozen=True, slots=True)
class CloseStore:
    """Stop the store; the result is its last position, None when that is not known."""


@dataclass(frozen=True, slots=True)
class Follow:
    """Run the store as a copy of the configuration's primary."""


@dataclass(frozen=True, slots=True)
class StopFollowing:
    """Take nothing more from the primary that is given up."""


@dataclass(frozen=True, slots=True)
class Lead:
    """Run the store as the primary, once everything up to `position` is replayed."""

    position: int | None


@dataclass(frozen=True, slots=True)
class Record:
    """Commit the configuration in the store; the first change of its epoch."""

    configuration: Configuration


@dataclass(frozen=True, slots=True)
class Cut:
    """End the connections of a member that is no member any more."""

    member_id: MemberId


Action = (
    Save
    | Ask
    | PauseWrites
    | ResumeWrites
    | CloseStore
    | Follow
    | StopFollowing
    | Lead
    | Record
    | Cut
)
Steps = Generator[Action, Any, MemberState]

# ---------------------------------------------------------------- promotion


def require_open(state: MemberState) -> None:
    """Refuse what only an open primary may do."""
    if not state.may_write:
        message = f"Member {state.member_id} is not the open primary of epoch {state.epoch}."
        raise Conflict(faults.EPOCH_STALE, message)


def promote(state: MemberState, target: MemberId) -> Steps:
    """Hand the cluster from this primary to a read-write member."""
    require_open(state)
    if target == state.member_id:
        return state
    if target not in state.visible:
        message = f"Member {target} is not Read-Write: only such a member can be promoted."
        raise NotAllowed(faults.MEMBER_NOT_READ_WRITE, message)
    epoch = yield from _promised(state, target)
    yield PauseWrites()
    closed = handed_over(state, target, epoch)
    try:
        yield Save(closed)
    except BaseException:
        # Nothing was given away: whatever stopped us, this member still is the primary.
        yield ResumeWrites()
        raise
    position = yield CloseStore()
    return (yield from finish_promotion(closed, position))


def _promised(state: MemberState, target: MemberId) -> Generator[Action, Any, Epoch]:
    """Return an epoch that the target has promised itself to; it asks twice at most."""
    epoch = next_epoch(target, [state.accepted])
    promise: Promise = yield Ask(target, AskPrepare(epoch))
    if not promise.given:
        epoch = next_epoch(target, [state.accepted, promise.accepted])
        promise = yield Ask(target, AskPrepare(epoch))
    if not promise.given:
        message = f"Member {target} is being promoted or deleted by somebody else; try again."
        raise Conflict(faults.EPOCH_STALE, message)
    return epoch


def finish_promotion(state: MemberState, position: int | None) -> Steps:
    """Let the one whom this primary has handed over to open; may be repeated until it answers."""
    target = state.handing_over
    configuration = replace(state.configuration, epoch=state.accepted, primary=target)
    try:
        yield Ask(target, AskOpen(configuration, position))
    except (Conflict, NotAllowed):
        return (yield from _take_back(state))
    state = adopt(replace(state, accepted=configuration.epoch), configuration)
    yield Save(state)
    yield Follow()
    return state


def _take_back(state: MemberState) -> Steps:
    """Open again after the other refused, with its promise that it never will open."""
    target = state.handing_over
    epoch = next_epoch(state.member_id, [state.accepted])
    promise: Promise = yield Ask(target, AskPrepare(epoch))
    if not promise.given:
        message = f"Member {target} neither opens epoch {state.accepted} nor gives it back."
        raise Unavailable(faults.PRIMARY_UNREACHABLE, message)
    state = replace(state, accepted=epoch, handing_over=MemberId(""))
    configuration = replace(state.configuration, epoch=epoch)
    return (yield from open_epoch(state, configuration, None))


def prepare(state: MemberState, question: AskPrepare) -> Generator[Action, Any, Promise]:
    """Answer AskPrepare: promise, durably, or say what stands in the way."""
    if question.deleting == state.member_id:
        return Promise(given=False, accepted=state.accepted)
    try:
        state = accept(state, question.epoch)
    except Conflict:
        return Promise(given=False, accepted=state.accepted)
    yield Save(state)
    if question.deleting is not None:
        yield StopFollowing()
    return Promise(given=True, accepted=state.accepted)


def open_epoch(state: MemberState, configuration: Configuration, position: int | None) -> Steps:
    """Answer AskOpen: become primary of an epoch that was promised; repeating it does no harm."""
    if not (state.may_write and state.configuration == configuration):
        state = opened(state, configuration)
        yield Save(state)
    yield Lead(position)
    yield Record(state.configuration)
    yield ResumeWrites()
    return state


# ---------------------------------------------------------------- changes by the primary


def change(state: MemberState, configuration: Configuration) -> Steps:
    """Put a configuration of this primary's own next epoch into force."""
    require_open(state)
    state = accept(state, configuration.epoch)
    state = replace(state, configuration=configuration)
    yield Save(state)
    yield Record(configuration)
    return state


def add_member(state: MemberState, peer: Peer) -> Steps:
    """List a new member; it is not visible before its copy is complete."""
    epoch = next_epoch(state.member_id, [state.accepted])
    return (yield from change(state, state.configuration.with_peer(epoch, peer)))


def remove_member(state: MemberState, target: MemberId, how: Standing) -> Steps:
    """Take a member that is not primary off the list."""
    if state.configuration.peer(target) is None:
        return state
    if target == state.member_id:
        message = "The primary hands over before it leaves."
        raise Conflict(faults.EPOCH_STALE, message)
    epoch = next_epoch(state.member_id, [state.accepted])
    configuration = state.configuration.without(epoch, target, how, state.member_id)
    state = yield from change(state, configuration)
    yield Cut(target)
    yield from _tell(state)
    return state


def _tell(state: MemberState) -> Generator[Action, Any, None]:
    """Tell everybody of the configuration; who is not there learns it when it returns."""
    for peer in state.others():
        try:
            yield Ask(peer.member_id, AskAdopt(state.configuration))
        except (Unavailable, Conflict, NotAllowed):
            continue


def renew(state: MemberState) -> Steps:
    """Open a new epoch over the same members, because some promised themselves to another one.

    A deletion that was begun and given up leaves members that do not follow any more: only an epoch
    above their promise brings them back, and only if every member promises itself to it, since one
    that does not may have opened what was promised.
    """
    require_open(state)
    found = yield from survey(state, MemberId(""))
    if found.unreached:
        message = f"Members {', '.join(found.unreached)} are not reached; epoch not renewed."
        raise Unavailable(faults.MEMBERS_UNREACHABLE, message)
    epoch = next_epoch(state.member_id, [survey.accepted for survey in found.surveys.values()])
    for peer in state.others():
        promise: Promise = yield Ask(peer.member_id, AskPrepare(epoch))
        if not promise.given:
            message = f"Member {peer.member_id} did not accept epoch {epoch}."
            raise Unavailable(faults.MEMBERS_UNREACHABLE, message)
    state = yield from change(state, replace(state.configuration, epoch=epoch))
    yield from _tell(state)
    return state


# ---------------------------------------------------------------- deletion


@dataclass(frozen=True, slots=True)
class Surveyed:
    """What the remaining members say, and who does not answer."""

    surveys: Mapping[MemberId, Survey]
    unreached: Sequence[MemberId]


def survey(state: MemberState, target: MemberId) -> Generator[Action, Any, Surveyed]:
    """Ask every remaining member, this one too, about the one that is to be deleted."""
    surveys: dict[MemberId, Survey] = {}
    unreached: list[MemberId] = []
    for member_id in state.configuration.ids():
        if member_id == target:
            continue
        try:
            surveys[member_id] = yield Ask(member_id, AskSurvey(target))
        except (Unavailable, NotAllowed):
            unreached.append(member_id)
    return Surveyed(surveys, unreached)


def delete_other(state: MemberState, target: MemberId, *, force: bool) -> Steps:
    """Delete a member that is not primary; runs on the primary."""
    require_open(state)
    found = yield from survey(state, target)
    require_deletable(target, found.surveys, found.unreached, force=force)
    return (yield from remove_member(state, target, Standing.DELETED))


def delete_primary(state: MemberState, *, force: bool) -> Steps:
    """Delete the primary that nobody sees, and let the best of the others take its place."""
    target = state.configuration.primary
    found = yield from survey(state, target)
    require_deletable(target, found.surveys, found.unreached, force=force)
    accepted = [survey.accepted for survey in found.surveys.values()]
    epoch = next_epoch(state.member_id, accepted)
    state = accept(state, epoch)
    yield Save(state)
    yield StopFollowing()
    yield from _all_promise(state, target, found, force=force)
    # Asked again: what they have can only have grown until they stopped following.
    latest = yield from survey(state, target)
    chosen = choose_survivor(latest.surveys, force=force)
    configuration = state.configuration.without(epoch, target, Standing.DELETED, chosen)
    if chosen == state.member_id:
        state = yield from open_epoch(state, configuration, None)
    else:
        yield Ask(chosen, AskOpen(configuration, None))
        state = adopt(state, configuration)
        yield Save(state)
        yield Follow()
    yield Cut(target)
    yield from _tell(state)
    return state


def _all_promise(
    state: MemberState, target: MemberId, found: Surveyed, *, force: bool
) -> Generator[Action, Any, None]:
    for member_id in found.surveys:
        if member_id == state.member_id:
            continue
        try:
            promise: Promise = yield Ask(member_id, AskPrepare(state.accepted, deleting=target))
        except Unavailable:
            promise = Promise(given=False, accepted=state.accepted)
        if not promise.given and not force:
            message = (
                f"Member {member_id} did not accept epoch {state.accepted}; nothing was promoted:"
                " try again when all members are there."
            )
            raise NotAllowed(faults.MEMBERS_UNREACHABLE, message)


def follow(state: MemberState, configuration: Configuration) -> Steps:
    """Answer AskAdopt, or live in what a heartbeat told of; unchanged when it is not newer."""
    newer = adopt(state, configuration)
    if newer == state:
        return state
    yield Save(newer)
    if newer.standing in (Standing.MEMBER, Standing.JOINING):
        yield Follow()
    else:
        yield CloseStore()
    return newer
