"""Two sides of a partition that deleted each other: which one gives way when they meet.

A lineage is the epochs that follow each other from member to member.  Administrators who force
deletions on both sides of a partition make two lineages of one, with numbers that may be equal.

Invariants:

1. Only a member that this one lists, and that has proven its key, is believed: whoever was deleted
   here may know old keys, and must not be able to close anybody.
2. Giving way only closes: no rule here lets a member write, or accept another's writes.
3. Where each side lists a member that lives on the other one, both hear of each other, and the
   total order of epochs lets the lower one give way (rule C19), so one side goes on.
4. Where only one side still lists members of the other, only that one can hear of it.  It gives way
   to a higher epoch (rule C19), and to a lower one only of a side that lists at least as many
   members: those that it lists have deleted it and never come back, so nothing else joins the two.
5. So no side is closed by fewer members, unless their epoch is higher.

Where neither lists anybody of the other, or fewer members with a lower epoch have deleted the rest,
they are two clusters of one id, as they were told to be, until an administrator resets one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from conclave.cluster.configuration import MemberState
from conclave.cluster.epochs import Epoch
from conclave.ids import MemberId


@dataclass(frozen=True, slots=True)
class Refusal:
    """What a listed member says that has deleted this one: its epoch, and whom it lists."""

    epoch: Epoch
    members: frozenset[MemberId]


def gives_way(state: MemberState, refusals: Mapping[MemberId, Refusal]) -> Epoch | None:
    """Return the epoch in which this member was deleted for good, None while it is to go on.

    `refusals` are the last words of the members that have deleted it.  A member that both lineages
    list, and that has not refused this one, may live in this lineage: it brings the other side the
    higher epoch, so it is waited for.
    """
    listed = {peer.member_id for peer in state.others()}
    heard = {id_: refusal for id_, refusal in refusals.items() if id_ in listed}
    if not heard:
        return None
    newest = max(refusal.epoch for refusal in heard.values())
    if newest > state.epoch:
        return newest
    theirs = frozenset[MemberId]().union(*(each.members for each in heard.values()))
    ours = (listed | {state.member_id}) - heard.keys()
    all_gone = listed & theirs <= heard.keys()
    return newest if all_gone and len(theirs) >= len(ours) else None
