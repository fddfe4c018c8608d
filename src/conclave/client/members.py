"""The members of one cluster as a client has learnt them, and how far it has seen them get.

Invariant: what a client has seen never goes away again: a member of an earlier epoch, or one that
lacks a change the client was told of in the present epoch, is none to ask (rules C17, C19).
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Final

from conclave.client.clusters import MAX_PORT, ClusterEntry
from conclave.service import wire

MAX_HINT_BYTES: Final = 16_384
_HINT: Final = re.compile(r"member \S{1,63} (\S{1,255}) ([1-9][0-9]{0,4}) ([0-3]) .+")


def _member(entry: ClusterEntry, host: str, port: int) -> ClusterEntry:
    """Return how to reach a member; the entry member alone has the socket on this host."""
    itself = (host, port) == (entry.host, entry.port)
    return entry if itself else replace(entry, host=host, port=port, socket="")


def hinted_members(entry: ClusterEntry) -> list[ClusterEntry]:
    """Return the members that the registration or the PKCS#11 module left beside the certificate.

    Hints only (docs/client.md): a file that is absent or garbage names nobody, and whoever answers
    there has to prove to be a member.
    """
    path = Path(f"{entry.certificate_file}.members")
    try:
        with path.open("rb") as file:
            text = file.read(MAX_HINT_BYTES).decode(errors="replace")
    except OSError:
        return []
    found = [match for line in text.split("\n") if (match := _HINT.fullmatch(line))]
    found.sort(key=lambda match: match[3])
    return [_member(entry, match[1], int(match[2])) for match in found if int(match[2]) <= MAX_PORT]


class KnownMembers:
    """Where to connect, the configured entry member first; any thread may call."""

    def __init__(self, entry: ClusterEntry, hinted: Iterable[ClusterEntry] = ()) -> None:
        self._lock = threading.Lock()
        self._entry = entry
        self._entries = list(dict.fromkeys([entry, *hinted]))
        self._at = 0
        self._epoch = (0, "")
        self.asked: int | None = None
        """The members version for which the list was asked; None while it has to be asked for."""
        self.position: int | None = None
        """The highest log position that was told in the present epoch."""

    @property
    def current(self) -> ClusterEntry:
        """Return the member to connect to."""
        with self._lock:
            return self._entries[self._at]

    @property
    def entries(self) -> tuple[ClusterEntry, ...]:
        """Return all that are known."""
        with self._lock:
            return tuple(self._entries)

    @property
    def several(self) -> bool:
        """Tell whether there is another one to try."""
        return len(self._entries) > 1

    def leave(self, member: ClusterEntry) -> None:
        """Go on to the next member, unless somebody else has left this one already."""
        with self._lock:
            if self._entries[self._at] == member:
                self._at = (self._at + 1) % len(self._entries)

    def learn(self, listed: wire.MemberList) -> None:
        """Take over a list: those that serve best first, the configured entry always among them."""
        members = sorted(listed.members, key=lambda member: member.state)
        entries = [_member(self._entry, member.address, member.crypto_port) for member in members]
        if self._entry not in entries:
            entries.insert(0, self._entry)
        with self._lock:
            current = self._entries[self._at]
            self._entries = entries
            self._at = entries.index(current) if current in entries else 0

    def saw(self, state: wire.MemberState) -> bool:
        """Take note of what a member is at; return False for one of an earlier epoch."""
        epoch = (state.epoch_number, state.promoting_member)
        with self._lock:
            if epoch < self._epoch:
                return False
            if epoch > self._epoch or self.position is None:
                self._epoch = epoch
                self.position = state.log_position
            self.position = max(self.position, state.log_position)
            return True
