"""What a worker remembers of the page between two batches, and what it tells clients of it.

Invariant: what was seen is compared after the batch was read (rule C15); a word that changes
while it is being looked at is looked at again with the next batch.  Whether the member may write
is decided by the boot clock for every batch, never remembered (rule C16).
"""

from __future__ import annotations

from typing import Final

import msgspec

from conclave import faults
from conclave.errors import NotAllowed
from conclave.ids import ClusterTimeMs, MemberId
from conclave.service import page as page_words
from conclave.service.page import SharedPage, signed
from conclave.service.wire import MemberState

_encode = msgspec.msgpack.Encoder().encode
_NEVER_MS: Final = 1 << 64


class PageWatch:
    """The page as the batch under way found it; `read_only_limit_seconds` 0 means no limit."""

    __slots__ = (
        "_boot_time_ms", "_epoch", "_head", "_lease_end", "_limit_ms", "_members", "_offset_ms",
        "_page", "_private_until", "_snapshot", "authorized", "cut_off", "log_position", "now_ms",
        "number", "read_write", "state",
    )  # fmt: skip

    def __init__(self, page: SharedPage, *, read_only_limit_seconds: int = 0) -> None:
        self._page = page
        self._head = page.head
        self._boot_time_ms = page.boot_time_ms
        self._limit_ms = read_only_limit_seconds * 1000
        self._snapshot = b""
        self._lease_end = 0
        self._private_until = _NEVER_MS
        self._offset_ms = 0
        self._epoch = (0, MemberId(""))
        self._members = -1
        self.now_ms = ClusterTimeMs(0)
        """Cluster time."""
        self.authorized = False
        self.log_position = 0
        self.read_write = False
        self.cut_off = False
        """True when the member has been Read-Only for longer than the limit (rule C17)."""
        self.number = 0
        """Grows whenever `state` changes."""
        self.state = msgspec.Raw(b"\xc0")
        """The fifth element of an answer, encoded."""

    def look(self) -> bool:
        """Look at page and clock; return whether any word changed since the last look."""
        snapshot = self._head.tobytes()
        moved = snapshot != self._snapshot
        if moved:
            self._take(snapshot)
        boot_ms = self._boot_time_ms()
        self.now_ms = ClusterTimeMs(boot_ms + self._offset_ms)
        if (boot_ms < self._lease_end) is not self.read_write:
            self.read_write = not self.read_write
            self._tell()
        self.cut_off = boot_ms >= self._private_until
        return moved

    def require_private_use(self) -> None:
        """Refuse private keys when the member was cut off for longer than its limit (rule C17)."""
        if self.cut_off:
            message = (
                "This member was cut off from the others for longer than"
                " cluster.read_only_limit_seconds allows; it uses no private key until it is back."
            )
            raise NotAllowed(faults.READ_ONLY_LIMIT, message)

    def _take(self, snapshot: bytes) -> None:
        # The snapshot is only compared: each word is read as a whole, and read after it.
        self._snapshot = snapshot
        page, words = self._page, self._page.words
        self.authorized = page.authorized()
        self._offset_ms = signed(words[page_words.CLUSTER_TIME_OFFSET])
        self._lease_end = page.lease_end_ms()
        if self._limit_ms:
            self._private_until = self._lease_end + self._limit_ms
        told = (self._epoch, self.log_position, self._members)
        epoch = page.epoch()
        self._epoch = epoch if epoch[0] else self._epoch
        self.log_position = page.log_position()
        self._members = page.members_version()
        if told != (self._epoch, self.log_position, self._members):
            self._tell()

    def _tell(self) -> None:
        self.number += 1
        state = MemberState(*self._epoch, self.log_position, self._members, self.read_write)
        self.state = msgspec.Raw(_encode(state))
