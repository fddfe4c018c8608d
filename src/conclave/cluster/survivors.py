"""Who may be promoted when a primary is deleted, and whether it may be deleted at all.

Invariant: whoever is promoted has every write that was acknowledged under the newest visible list
that any remaining member knows, and was in that list; or the administrator was told that this
cannot be shown, and forced it (rules C18 and C19).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from conclave import faults
from conclave.cluster.epochs import Epoch
from conclave.errors import Conflict, NotAllowed
from conclave.ids import MemberId


@dataclass(frozen=True, slots=True)
class Survey:
    """What a remaining member says when a deletion is considered."""

    member_id: MemberId
    accepted: Epoch
    epoch: Epoch
    visible: tuple[MemberId, ...]
    list_version: int
    timeline: int
    received_lsn: int
    sees_target: bool
    last_contact_ms: int
    """When it last heard of the member that is to be deleted, cluster time; 0 never."""
    revision: int = 0
    """Up to which change its copy of the store surely reaches."""
    gave_up: bool = False
    """It has promised to do without its primary."""


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


def choose_survivor(surveys: Mapping[MemberId, Survey], *, force: bool) -> MemberId:
    """Return who becomes primary: of the newest visible list the one that received most.

    Raises NotAllowed (MEMBERS_UNREACHABLE) when nobody of that list is there and nothing is forced.
    """
    newest = max(surveys.values(), key=lambda survey: (survey.epoch, survey.list_version))
    holders = [survey for survey in surveys.values() if survey.member_id in newest.visible]
    if not holders and not force:
        message = (
            f"None of the members {', '.join(newest.visible)}, which have all acknowledged writes,"
            " is there: bring one back, or force the deletion and lose what only they have."
        )
        raise NotAllowed(faults.MEMBERS_UNREACHABLE, message)
    candidates = holders or list(surveys.values())
    best = max(candidates, key=lambda s: (s.timeline, s.received_lsn, s.member_id))
    return best.member_id
