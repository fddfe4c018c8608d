"""Who the members are: the store's list with the states that the cluster process knows.

Invariant: a list is used while the page's members version and global generation are those taken
before it was read (rule C15).  What the store says is enough to know a member by its key; how a
member does at present only the cluster process knows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import msgspec

from conclave.errors import Unavailable
from conclave.ids import MemberId
from conclave.service import page as page_words
from conclave.service.channel import ChannelClient
from conclave.service.messages import MembersState
from conclave.service.page import SharedPage
from conclave.service.page_watch import PageWatch
from conclave.service.quiet import Nothing
from conclave.service.requests import Later, Pins
from conclave.service.store_reader import LoadedMembers, StoreReader
from conclave.service.wire import Member, MemberList, Standing

STATES_SECONDS: Final = 1.0
"""How long the cluster process may take to say how the members do."""
_PIN: Final = "members"


@dataclass(frozen=True, slots=True)
class KnownMembers:
    """The members as one read found them."""

    version: int
    global_generation: int
    members: list[Member]


class MemberDirectory:
    """The list of members of one worker."""

    def __init__(
        self, page: SharedPage, reader: StoreReader, channel: ChannelClient, own_id: MemberId
    ) -> None:
        self.own_id = own_id
        self._words = page.words
        self._reader = reader
        self._channel = channel
        self._known: KnownMembers | None = None

    def fresh(self) -> KnownMembers | None:
        """Return the list if it is as new as the page."""
        known, words = self._known, self._words
        if (
            known is not None
            and known.version == words[page_words.MEMBERS_VERSION]
            and known.global_generation == words[page_words.GLOBAL_GENERATION]
        ):
            return known
        return None

    def current(self, pins: Pins) -> KnownMembers:
        """Return the list; raise Later to read it first."""
        known = self.fresh() or pins.get(_PIN)
        if known is None:
            raise Later(self._pin)
        return known

    def listed(self, watch: PageWatch, pins: Pins) -> MemberList:
        """Return what MEMBERS answers; raise Later to read it first."""
        known = self.current(pins)
        members = [
            msgspec.structs.replace(member, state=self._own_standing(watch))
            if member.member_id == self.own_id
            else member
            for member in known.members
        ]
        group = next((item.group for item in members if item.member_id == self.own_id), "")
        return MemberList(known.version, members, group)

    @staticmethod
    def _own_standing(watch: PageWatch) -> Standing:
        if not watch.authorized:
            return Standing.NOT_AUTHORIZED
        return Standing.READ_WRITE if watch.read_write else Standing.READ_ONLY

    async def load(self) -> KnownMembers:
        """Read the list now; raise Unavailable when the store cannot be read."""
        words = self._words
        version = words[page_words.MEMBERS_VERSION]
        generation = words[page_words.GLOBAL_GENERATION]
        try:
            answer: MembersState = await self._channel.call(
                "members_state",
                Nothing(),
                timeout_seconds=STATES_SECONDS,
                connect_seconds=STATES_SECONDS,
            )
        except Unavailable:
            return _guessed(await self._reader.members(), self.own_id)
        members = [
            Member(
                member.member_id,
                member.address,
                member.crypto_port,
                member.group,
                member.key_sha256,
                member.state,
            )
            for member in answer.members
        ]
        self._known = KnownMembers(version, generation, members)
        return self._known

    async def _pin(self, pins: Pins) -> None:
        pins[_PIN] = await self.load()


def _guessed(loaded: LoadedMembers, own_id: MemberId) -> KnownMembers:
    """Return the list without the cluster process: who was visible last is taken to be so still."""
    members = [
        Member(
            row.member_id,
            row.address,
            row.crypto_port,
            row.group,
            row.key_sha256,
            Standing.READ_WRITE
            if row.member_id in loaded.visible or row.member_id == own_id
            else Standing.NOT_VISIBLE,
        )
        for row in loaded.rows
    ]
    return KnownMembers(loaded.version, loaded.global_generation, members)
