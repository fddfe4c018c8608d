"""What the simulation of a cluster consists of: members, their stores, tasks under way."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any

from conclave import faults
from conclave.cluster import sequences as seq
from conclave.cluster.configuration import (
    MemberState,
    Peer,
)
from conclave.cluster.epochs import Epoch
from conclave.cluster.lineage import Refusal
from conclave.errors import ConclaveError, Unavailable
from conclave.ids import MemberId


@dataclass(frozen=True)
class Stored:
    """What the replicated store says of the cluster."""

    epoch: Epoch
    primary: MemberId
    visible: tuple[MemberId, ...]
    rows: frozenset[MemberId]
    rotated: frozenset[MemberId] = frozenset()
    """For whose deletion the ticket key was changed."""
    history: frozenset[Epoch] = frozenset()
    """The epochs that were recorded in it since the cluster was made."""


@dataclass
class Node:
    """A member: its durable state, its log, and whether it runs."""

    state: MemberState
    stored: Stored
    log: list[int] = field(default_factory=list)
    up: bool = True
    leads: bool = False
    follows: bool = True
    paused: bool = False
    """Writes wait."""
    deleted_by: dict[MemberId, Refusal] = field(default_factory=dict)
    role_taken: bool = True
    unfinished: bool = False
    """Its configuration is not recorded in the store yet."""
    waited_for: tuple[MemberId, ...] = ()
    recorded: tuple[MemberId, ...] = ()
    """Of those waited for, who stands in the store, as this primary knows."""
    completes_join: bool = True
    crashed_open: bool = False
    """It died while its store was open: where its log ends is not known."""


@dataclass(frozen=True)
class WaitFor:
    """Wait for these members' copies in every commit from now on."""

    members: tuple[MemberId, ...]


@dataclass(frozen=True)
class CommitList:
    """Commit the visible list in the store."""


@dataclass(frozen=True)
class SaveList:
    """Keep the visible list that was committed."""

    members: tuple[MemberId, ...]


@dataclass(frozen=True)
class AskAdd:
    """Ask the primary to list a joiner."""

    primary: MemberId
    peer: Peer


@dataclass(frozen=True)
class AskRemove:
    """Ask the primary to take the asker off the list."""

    primary: MemberId


@dataclass(frozen=True)
class CopyAnew:
    """Copy the primary's store."""


@dataclass(frozen=True)
class Forget:
    """Forget the cluster."""


@dataclass(frozen=True)
class Learn:
    """Hear of a newer configuration from a member."""

    member_id: MemberId


@dataclass(frozen=True)
class Complete:
    """Be a member, whose copy is complete."""


ShellAction = (
    Learn | Complete | WaitFor | CommitList | SaveList | AskAdd | AskRemove | CopyAnew | Forget
)
Action = seq.Action | ShellAction
NEVER_FAIL = (seq.ResumeWrites, seq.StopFollowing, seq.Cut, seq.DropRow)
"""What the shell does at once, without anything that could refuse it."""
Steps = Generator[Action, Any, Any]


@dataclass
class Task:
    """A sequence under way, and whoever waits for its result."""

    node: MemberId
    steps: Steps
    seen: MemberState
    asker: Task | None = None
    changes: bool = False
    forced: bool = False
    result: Any = None
    error: ConclaveError | None = None
    waiting: bool = False
    late: bool = False
    """A message that is still under way."""
    failure: ConclaveError | None = None
    """How it ended, when it failed."""
    done: bool = False


@dataclass(frozen=True)
class Acknowledged:
    """A write that somebody was told of, and who had it then."""

    number: int
    epoch: Epoch
    holders: frozenset[MemberId]
    former: frozenset[MemberId]
    """Who was deleted by then: it may go on alone, without anybody to follow it."""
    history: frozenset[Epoch] = frozenset()
    """The epochs of the store that it was written in."""


def relaying(state: MemberState, peer: Peer) -> Steps:
    """Ask the primary to list a joiner that came to another member."""
    yield AskAdd(state.configuration.primary, peer)


def promises(state: MemberState) -> tuple[object, ...]:
    """Return what a sequence must find unchanged."""
    return (
        state.accepted,
        state.configuration,
        state.standing,
        state.handing_over,
        state.gave_up,
    )


def unreachable() -> Unavailable:
    """Return what is raised for a member that does not answer."""
    return Unavailable(faults.PRIMARY_UNREACHABLE, "The member is not reached.")
