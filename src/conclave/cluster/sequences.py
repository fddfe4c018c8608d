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
    NOBODY,
    Configuration,
    MemberState,
    Peer,
    Standing,
    accept,
    adopt,
    ended,
    handed_over,
    next_epoch,
    opened,
    promised_past,
    surely_held,
)
from conclave.cluster.epochs import Epoch
from conclave.cluster.survivors import Survey, choose_survivor, require_deletable
from conclave.errors import ConclaveError, Conflict, NotAllowed, Unavailable
from conclave.ids import MemberId

# ---------------------------------------------------------------- what another member is asked


@dataclass(frozen=True, slots=True)
class AskSurvey:
    """What do you know of this member, and how far is your copy?  Answered by a Survey."""

    target: MemberId


@dataclass(frozen=True, slots=True)
class AskPrepare:
    """Promise yourself to an epoch; answered by Promise.

    `living` is the epoch that the asker lives in: whoever lives in a later one gives no promise to
    somebody who was left behind.  `deleting` is the primary that it does without: whoever promises
    stops following it.  Who has done so promises nothing to that primary, which may have been
    replaced unseen, unless it is `renewing`, for which all members are asked.
    """

    epoch: Epoch
    living: Epoch
    deleting: MemberId | None = None
    renewing: bool = False


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
    """Let writes wait; those under way end first.

    The result is whom every one of them waited for, in the list that is recorded.
    """


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
class CatchUp:
    """Wait until everything up to `position` is replayed; NotAllowed when it will never be."""

    position: int


@dataclass(frozen=True, slots=True)
class Lead:
    """Run the store as the primary, once everything up to `position` is replayed."""

    position: int | None


@dataclass(frozen=True, slots=True)
class Record:
    """Commit the configuration in the store; the first change of its epoch."""

    configuration: Configuration


@dataclass(frozen=True, slots=True)
class PutRow:
    """Commit the row of a member that is about to be listed."""

    member_id: MemberId


@dataclass(frozen=True, slots=True)
class DropRow:
    """Take the row back of one that was not listed after all; never fails."""

    member_id: MemberId


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
    | CatchUp
    | Lead
    | Record
    | PutRow
    | DropRow
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
        raise _not_read_write(target)
    epoch = yield from _promised(state, target)
    visible: Sequence[MemberId] = yield PauseWrites()
    if target not in visible:
        # Dropped meanwhile: it may lack what was acknowledged without it.
        yield ResumeWrites()
        raise _not_read_write(target)
    closed = handed_over(state, target, epoch)
    try:
        yield Save(closed)
    except ConclaveError:
        # Nothing was given away: whatever stopped us, this member still is the primary.
        yield ResumeWrites()
        raise
    position = yield CloseStore()
    return (yield from finish_promotion(closed, position))


def _not_read_write(target: MemberId) -> NotAllowed:
    message = f"Member {target} is not Read-Write: only such a member can be promoted."
    return NotAllowed(faults.MEMBER_NOT_READ_WRITE, message)


def _promised(state: MemberState, target: MemberId) -> Generator[Action, Any, Epoch]:
    """Return an epoch that the target has promised itself to; it asks twice at most."""
    epoch = next_epoch(target, [state.accepted])
    promise: Promise = yield Ask(target, AskPrepare(epoch, state.epoch))
    if not promise.given:
        epoch = next_epoch(target, [state.accepted, promise.accepted])
        promise = yield Ask(target, AskPrepare(epoch, state.epoch))
    if not promise.given:
        message = f"Member {target} is being promoted or deleted by somebody else; try again."
        raise Conflict(faults.EPOCH_STALE, message)
    return epoch


def finish_promotion(state: MemberState, position: int | None) -> Steps:
    """Let the one whom this primary has handed over to open; may be repeated until it answers."""
    target = state.handing_over
    if not target:
        return state  # it was taken back, or opened, meanwhile
    if state.accepted.promoter != target:
        # A deletion was begun since (`delete_closed`): nothing is given to this one any more.
        return (yield from _take_back(state))
    configuration = state.configuration.succeeded(state.accepted, target)
    try:
        yield Ask(target, AskOpen(configuration, position))
    except (Conflict, NotAllowed):
        return (yield from _take_back(state))
    state = adopt(replace(state, accepted=configuration.epoch), configuration)
    yield Save(state)
    yield Follow()
    return state


def _take_back(state: MemberState) -> Steps:
    """Open again after the other refused: with everybody's promise, it may be open elsewhere."""
    epoch = _renewed(state, (yield from _all_there(state)))
    yield from _all_renew(state, epoch)
    state = replace(state, accepted=epoch, handing_over=NOBODY)
    configuration = state.configuration.succeeded(epoch)
    return (yield from open_epoch(state, configuration, None))


def prepare(state: MemberState, question: AskPrepare) -> Generator[Action, Any, Promise]:
    """Answer AskPrepare: promise, durably, or say what stands in the way."""
    left_behind = question.living < state.epoch
    unfit = state.gave_up and question.deleting is None and not question.renewing
    if question.deleting == state.member_id or left_behind or unfit:
        return Promise(given=False, accepted=state.accepted)
    if state.handing_over and question.living > state.epoch:
        # Somebody lives later: what was handed over was opened, and is not to be opened again.
        state = replace(state, handing_over=NOBODY)
    try:
        state = accept(state, question.epoch, give_up=question.deleting is not None)
    except Conflict:
        return Promise(given=False, accepted=state.accepted)
    yield Save(state)
    if question.deleting is not None:
        yield StopFollowing()
    return Promise(given=True, accepted=state.accepted)


def open_epoch(state: MemberState, configuration: Configuration, position: int | None) -> Steps:
    """Answer AskOpen: become primary of an epoch that was promised; repeating it does no harm."""
    if not (state.may_write and state.configuration == configuration):
        ready = opened(state, configuration)
        if position is not None:
            # Before the promise is used: a restart in between would lead without what is missing.
            yield CatchUp(position)
        state = ready
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
    """List a new member; it is not visible before its copy is complete, and all know of it."""
    require_open(state)
    epoch = next_epoch(state.member_id, [state.accepted])
    try:
        # Before it is listed: a primary that dies in between would list it without a row.
        yield PutRow(peer.member_id)
        state = yield from change(state, state.configuration.with_peer(epoch, peer))
    except ConclaveError:
        yield DropRow(peer.member_id)
        raise
    yield from _tell(state)
    try:
        return (yield from announce(state))
    except ConclaveError:
        return state  # some were not told: it is announced once they were


def announce(state: MemberState) -> Steps:
    """Let the new members become visible, since every other member knows of them now.

    One that did not could take this primary's place without asking them, who may be the only ones
    with what was acknowledged meanwhile.
    """
    require_open(state)
    configuration = state.configuration
    for peer in state.others():
        if peer.member_id in configuration.unannounced:
            continue
        answer: Survey = yield Ask(peer.member_id, AskSurvey(NOBODY))
        if answer.epoch != state.epoch:
            message = (
                f"Member {peer.member_id} lives in epoch {answer.epoch} and may not know"
                f" {', '.join(configuration.unannounced)} yet: they become visible later."
            )
            raise Unavailable(faults.MEMBERS_UNREACHABLE, message)
    epoch = next_epoch(state.member_id, [state.accepted])
    state = yield from change(state, configuration.announced(epoch))
    yield from _tell(state)
    return state


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
        except ConclaveError:
            continue


def renew(state: MemberState) -> Steps:
    """Open a new epoch over the same members, because some promised themselves to another one.

    A deletion that was begun and given up leaves members that do not follow any more: only an epoch
    above their promise brings them back, and only if every member promises itself to it, since one
    that does not may have opened what was promised.  Nothing is done when they say that they can
    follow: what this primary was told before may be what they have done since.
    """
    require_open(state)
    found = yield from _all_there(state)
    if not any(
        promised_past(state, answer.accepted, gave_up=answer.gave_up)
        for answer in found.surveys.values()
        if answer.member_id != state.member_id
    ):
        return state
    epoch = _renewed(state, found)
    # Kept before anybody is asked: what was promised once must never number another change.
    state = accept(state, epoch)
    yield Save(state)
    yield from _all_renew(state, epoch)
    state = yield from change(state, state.configuration.succeeded(epoch))
    yield from _tell(state)
    return state


def _all_there(state: MemberState) -> Generator[Action, Any, Surveyed]:
    """Return what all say, when all are there and none is ahead of us."""
    found = yield from survey(state, NOBODY)
    if found.unreached:
        message = f"Members {', '.join(found.unreached)} are not reached; epoch not renewed."
        raise Unavailable(faults.MEMBERS_UNREACHABLE, message)
    _require_newest(state, found)
    return found


def _renewed(state: MemberState, found: Surveyed) -> Epoch:
    """Return an epoch above all that was promised."""
    accepted = [survey.accepted for survey in found.surveys.values()]
    return next_epoch(state.member_id, [state.accepted, *accepted])


def _all_renew(state: MemberState, epoch: Epoch) -> Generator[Action, Any, None]:
    for peer in state.others():
        question = AskPrepare(epoch, state.epoch, renewing=True)
        promise: Promise = yield Ask(peer.member_id, question)
        if not promise.given:
            message = f"Member {peer.member_id} did not accept epoch {epoch}."
            raise Unavailable(faults.MEMBERS_UNREACHABLE, message)


def _require_newest(state: MemberState, found: Surveyed) -> None:
    """Refuse to go on from an old configuration when somebody lives in a newer one."""
    for answer in found.surveys.values():
        if answer.epoch > state.epoch:
            message = (
                f"Member {answer.member_id} lives in epoch {answer.epoch}, this member in"
                f" {state.epoch}: it follows that one first; then try again."
            )
            raise Conflict(faults.EPOCH_STALE, message)


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
            if member_id == state.member_id:
                raise
            unreached.append(member_id)
    return Surveyed(surveys, unreached)


def delete_other(state: MemberState, target: MemberId, *, force: bool) -> Steps:
    """Delete a member that is not primary; runs on the primary."""
    require_open(state)
    found = yield from survey(state, target)
    require_deletable(target, found.surveys, found.unreached, force=force)
    return (yield from remove_member(state, target, Standing.DELETED))


def delete_closed(state: MemberState, target: MemberId, *, force: bool) -> Steps:
    """Delete a member as a primary that has handed over, and be the open primary again.

    Without it the loss of the one that was to be promoted, or of one whose promise is needed to
    take the promotion back, would stop the cluster for good.  Who is left either lives in what was
    handed over, which is seen, or promises never to open it.
    """
    found = yield from survey(state, target)
    _require_newest(state, found)
    require_deletable(target, found.surveys, found.unreached, force=force)
    epoch = _renewed(state, found)
    state = accept(state, epoch)
    yield Save(state)
    yield from _all_promise(state, target, found, force=force)
    configuration = state.configuration.without(epoch, target, Standing.DELETED, state.member_id)
    # What it may have written since is above all that this one has.
    configuration = configuration.forked(found.surveys[state.member_id].revision)
    state = yield from open_epoch(state, configuration, None)
    yield Cut(target)
    yield from _tell(state)
    return state


def delete_primary(state: MemberState, *, force: bool) -> Steps:
    """Delete the primary that nobody sees, and let the best of the others take its place."""
    target = state.configuration.primary
    if target == state.member_id:
        raise Conflict(faults.EPOCH_STALE, "The primary hands over before it is deleted.")
    found = yield from survey(state, target)
    _require_newest(state, found)
    require_deletable(target, found.surveys, found.unreached, force=force)
    accepted = [survey.accepted for survey in found.surveys.values()]
    epoch = next_epoch(state.member_id, accepted)
    state = accept(state, epoch, give_up=True)
    yield Save(state)
    yield StopFollowing()
    yield from _all_promise(state, target, found, force=force)
    # Asked again: what they have can only have grown until they stopped following.
    latest = yield from survey(state, target)
    # Whoever went away meanwhile may be the only one that knows the newest list.
    require_deletable(target, latest.surveys, latest.unreached, force=force)
    chosen = choose_survivor(target, latest.surveys, force=force)
    configuration = state.configuration.without(epoch, target, Standing.DELETED, chosen)
    best = latest.surveys[chosen]
    # It may not have heard yet of a fork that is known here.
    configuration = configuration.forked(surely_held(state, best.store_epoch, best.revision))
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
            promise: Promise = yield Ask(
                member_id, AskPrepare(state.accepted, state.epoch, deleting=target)
            )
        except Unavailable:
            if force:
                continue
            promise = Promise(given=False, accepted=state.accepted)
        if not promise.given:
            # Force goes on without whoever is not reached, never against one that says no: it lives
            # in a later epoch, or has promised itself to somebody else.
            message = (
                f"Member {member_id} did not accept epoch {state.accepted}; nothing was promoted:"
                " try again when all members are there."
            )
            raise NotAllowed(faults.MEMBERS_UNREACHABLE, message)


def end_membership(state: MemberState, how: Standing, epoch: Epoch) -> Steps:
    """Be a former member, as a listed one has told; nothing is written from then on.

    The epoch may be one of another lineage, lower than this one (`conclave.cluster.lineage`): it is
    none to live in, so this member keeps its own.
    """
    if state.standing in (Standing.LEFT, Standing.DELETED):
        return state
    state = ended(state, how, epoch)
    yield Save(state)
    yield CloseStore()
    return state


def follow(state: MemberState, configuration: Configuration) -> Steps:
    """Answer AskAdopt, or live in what a heartbeat told of; unchanged when it is not newer."""
    newer = adopt(state, configuration)
    if newer == state:
        return state
    if newer.standing not in (Standing.MEMBER, Standing.JOINING):
        return (yield from end_membership(state, newer.standing, newer.epoch))
    yield Save(newer)
    same_primary = newer.configuration.primary == state.configuration.primary
    if newer.standing is Standing.MEMBER or not same_primary:
        # Else the copy that a joiner makes goes on.
        yield Follow()
    return newer
