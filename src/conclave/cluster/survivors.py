"""Who may be promoted when a primary is deleted, and whether it may be deleted at all.

Invariant: whoever is promoted has every write that was acknowledged under the newest visible list
that any remaining member knows, and was in that list; or the administrator was told that this
cannot be shown, and forced it (rules C18 and C19).

Why copies are ranked by the epoch that stands in the copy itself, and then by how far their log
goes.  A primary records its epoch in the store before it takes writes in it, and never writes in
two logs.  So all copies in which one epoch is recorded are of one history, in which the longer log
has all that the shorter has.  A member may live in a later epoch than its copy is of: it follows a
new primary, and its copy is still one of the former, with more of a history that was given up.
Neither its epoch nor its position says so, and its timeline is told by a copy that receives only.

The order of two epochs says nothing when one of them is of a history that forked: their numbers may
be equal, or be the greater ones.  So without force the best copy has to be of the epoch that the
members live in, or of one that the deleted primary opened after it: such copies are of that
primary's history.  An epoch that was promised, or opened, and never reached a copy that is here,
makes none newer: whether writes were acknowledged in it, nobody here can show.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from conclave import faults
from conclave.cluster.epochs import Epoch
from conclave.errors import Conflict, NotAllowed
from conclave.ids import MemberId

NO_EPOCH: Final = Epoch(0, MemberId(""))
"""Of a copy that is none."""


@dataclass(frozen=True, slots=True)
class Survey:
    """What a remaining member says when a deletion is considered."""

    member_id: MemberId
    accepted: Epoch
    epoch: Epoch
    visible: tuple[MemberId, ...]
    list_version: int
    received_lsn: int
    sees_target: bool
    last_contact_ms: int
    """When it last heard of the member that is to be deleted, cluster time; 0 never."""
    revision: int = 0
    """Up to which change its copy of the store surely reaches."""
    gave_up: bool = False
    """It has promised to do without its primary."""
    store_epoch: Epoch = NO_EPOCH
    """The epoch that its copy of the store is of; NO_EPOCH without a copy, or one that is read."""
    unread: bool = False
    """It has a copy, but cannot read it at present."""


def require_deletable(
    target: MemberId,
    surveys: Mapping[MemberId, Survey],
    unreached: Sequence[MemberId],
    *,
    force: bool,
) -> None:
    """Refuse while anybody sees the member, or, without `force`, while anybody is not reached."""
    seers = [survey.member_id for survey in surveys.values() if survey.sees_target]
    if seers:
        message = (
            f"Member {target} is visible to {', '.join(seers)}: let it leave, or stop it first."
        )
        raise Conflict(faults.MEMBER_VISIBLE, message)
    if unreached and not force:
        message = (
            f"Members {', '.join(unreached)} are not reached and would not learn of the deletion:"
            " bring them back, or force it."
        )
        raise NotAllowed(faults.MEMBERS_UNREACHABLE, message)


def choose_survivor(
    target: MemberId, surveys: Mapping[MemberId, Survey], *, force: bool
) -> MemberId:
    """Return who becomes primary: of the newest visible list the one that received most.

    Raises NotAllowed (MEMBERS_UNREACHABLE) when nobody of that list is there, or when it cannot be
    shown which list that is, and nothing is forced; or when nobody has a copy at all.
    """
    candidates = [each for each in surveys.values() if each.unread or each.store_epoch > NO_EPOCH]
    if not candidates:
        message = "None of the remaining members has a whole copy of the store: bring another back."
        raise NotAllowed(faults.MEMBERS_UNREACHABLE, message)
    living = max(survey.epoch for survey in surveys.values())

    def of_epoch(survey: Survey) -> Epoch:
        """Return the epoch by which a copy counts: one that nobody lives in is another history."""
        epoch = survey.store_epoch
        return epoch if epoch <= living or epoch.promoter == target else NO_EPOCH

    newest = max(candidates, key=lambda survey: (of_epoch(survey), survey.list_version))
    holders = [survey for survey in candidates if survey.member_id in newest.visible]
    if not force:
        _require_shown(candidates, living, of_epoch(newest))
        if not holders:
            message = (
                f"None of the members {', '.join(newest.visible)}, which have all acknowledged"
                " writes, is there: bring one back, or force the deletion and lose what only they"
                " have."
            )
            raise NotAllowed(faults.MEMBERS_UNREACHABLE, message)
    best = max(
        holders or candidates,
        key=lambda survey: (of_epoch(survey), survey.received_lsn, survey.member_id),
    )
    return best.member_id


def _require_shown(candidates: Sequence[Survey], living: Epoch, newest: Epoch) -> None:
    """Refuse when another copy than those that were read may be the newest."""
    unread = [survey.member_id for survey in candidates if survey.unread]
    if unread:
        message = (
            f"The copy of members {', '.join(unread)} cannot be read at present: try again, or"
            " force the deletion and lose what only they have."
        )
        raise NotAllowed(faults.MEMBERS_UNREACHABLE, message)
    if newest < living:
        message = (
            f"The remaining members live in epoch {living}, but no copy here has reached it (the"
            f" newest is of epoch {newest}): whether writes were acknowledged in it by the lost"
            " primary alone is not known here. Bring that one back, or force the deletion and lose"
            " what it alone may have written."
        )
        raise NotAllowed(faults.MEMBERS_UNREACHABLE, message)
