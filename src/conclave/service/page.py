"""The shared page: what the cluster process tells every worker without a message.

Invariant: a change is committed first, then bumped here, then answered; a reader takes a
generation first, then reads the store, then tags its cache entry with that generation.  So an
entry whose tag equals the page's generation holds nothing older than any answered change
(rule C15).  Workers acknowledge nothing, hence a stopped worker blocks nobody.

The page is a memfd of 65 536 native unsigned 64-bit words (docs/design/architecture.md lists
them).  It has one writer, the cluster process, save for the appliance clock's offset, which the
daemon writes; readers map it read-only.  Aligned 8-byte words are read and written whole.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable
from typing import Final, Self
from uuid import UUID

from conclave import faults
from conclave.clock import boot_time_ms
from conclave.errors import InternalFault
from conclave.ids import ClusterTimeMs, KeyringId, LoginId, MemberId, RowRevision

WORDS: Final = 65536
PAGE_BYTES: Final = WORDS * 8
MAGIC: Final = 0x434F4E434C415645
LAYOUT_VERSION: Final = 1
NO_LEASE_END: Final = (1 << 64) - 1
DENIED_LOGINS: Final = 1024

_WORD_MASK: Final = (1 << 64) - 1
_MAGIC_WORD: Final = 0
_VERSION_WORD: Final = 1
GLOBAL_GENERATION: Final = 2
CLIENT_GENERATION: Final = 3
CLUSTER_TIME_OFFSET: Final = 4
LEASE_END: Final = 5
_EPOCH: Final = 6
AUTHORIZED: Final = 7
LOG_POSITION: Final = 8
DENIED_HEAD: Final = 9
_APPLIANCE_OFFSET: Final = 10
MEMBERS_VERSION: Final = 11
_USERS_VERSION: Final = 12
_VISIBLE: Final = 13
_PROMOTER: Final = 14
_DENIED_RING: Final = 16
_EPOCH_TRIES: Final = 3
_KEYRING_WORDS: Final = 4096
_KEYRING_COUNT: Final = WORDS - _KEYRING_WORDS


def keyring_word(keyring_id: KeyringId) -> int:
    """Return the index of the word that counts changes of a keyring; some keyrings share one."""
    return _KEYRING_WORDS + int.from_bytes(keyring_id[:4], "big") % _KEYRING_COUNT


def signed(word: int) -> int:
    """Return a word as a number in two's complement."""
    return word - (1 << 64) if word >> 63 else word


class SharedPage:
    """One mapping of the page; `words` and `head` are public for readers that compare many at once.

    `head` is words 2 to 15 as bytes: whatever a worker looks at for every batch.
    """

    def __init__(self, fd: int, *, writable: bool, boot_time_ms: Callable[[], int]) -> None:
        access = mmap.ACCESS_WRITE if writable else mmap.ACCESS_READ
        self.fd = fd
        self._map = mmap.mmap(fd, PAGE_BYTES, access=access)
        self.boot_time_ms = boot_time_ms
        self.words = memoryview(self._map).cast("Q")
        self.head = memoryview(self._map)[8 * GLOBAL_GENERATION : 8 * _DENIED_RING]

    @classmethod
    def create(cls, *, boot_time_ms: Callable[[], int] = boot_time_ms) -> Self:
        """Make the page of a member that is not authorized; its descriptor is inheritable."""
        fd = os.memfd_create("conclave-page", 0)
        os.ftruncate(fd, PAGE_BYTES)
        page = cls(fd, writable=True, boot_time_ms=boot_time_ms)
        page.words[LEASE_END] = NO_LEASE_END
        page.words[_VERSION_WORD] = LAYOUT_VERSION
        page.words[_MAGIC_WORD] = MAGIC
        return page

    @classmethod
    def attach(
        cls, fd: int, *, writable: bool, boot_time_ms: Callable[[], int] = boot_time_ms
    ) -> Self:
        """Map an inherited page; raise InternalFault when `fd` is something else."""
        if os.fstat(fd).st_size != PAGE_BYTES:
            raise InternalFault(faults.INTERNAL, f"Descriptor {fd} is not the shared page.")
        page = cls(fd, writable=writable, boot_time_ms=boot_time_ms)
        if page.words[_MAGIC_WORD] != MAGIC or page.words[_VERSION_WORD] != LAYOUT_VERSION:
            page.close()
            raise InternalFault(
                faults.INTERNAL, f"Descriptor {fd} holds a shared page of another layout."
            )
        return page

    def close(self) -> None:
        """Unmap the page and close the descriptor; a second call does nothing."""
        if not self._map.closed:
            self.words.release()
            self.head.release()
            self._map.close()
            os.close(self.fd)

    def _bump(self, word: int) -> None:
        self.words[word] = (self.words[word] + 1) & _WORD_MASK

    def global_generation(self) -> int:
        """Return the generation that covers every keyring, every key and the cluster itself."""
        return self.words[GLOBAL_GENERATION]

    def bump_global(self) -> None:
        """Make every cache of every worker void."""
        self._bump(GLOBAL_GENERATION)

    def client_generation(self) -> int:
        """Return the generation of the list of clients."""
        return self.words[CLIENT_GENERATION]

    def bump_clients(self) -> None:
        """Make workers read their clients' rows again."""
        self._bump(CLIENT_GENERATION)

    def keyring_generation(self, keyring_id: KeyringId) -> int:
        """Return the generation of one keyring."""
        return self.words[keyring_word(keyring_id)]

    def bump_keyring(self, keyring_id: KeyringId) -> None:
        """Make workers read one keyring again."""
        self._bump(keyring_word(keyring_id))

    def set_cluster_time_offset(self, offset_ms: int) -> None:
        """Set cluster time minus boot time, in milliseconds."""
        self.words[CLUSTER_TIME_OFFSET] = offset_ms & _WORD_MASK

    def cluster_time_ms(self) -> ClusterTimeMs:
        """Return cluster time, milliseconds since 1970."""
        return ClusterTimeMs(self.boot_time_ms() + signed(self.words[CLUSTER_TIME_OFFSET]))

    def set_appliance_offset(self, offset_ms: int) -> None:
        """Set appliance time minus host time, in milliseconds (rule T1); the daemon does it."""
        self.words[_APPLIANCE_OFFSET] = offset_ms & _WORD_MASK

    def appliance_offset_ms(self) -> int:
        """Return appliance time minus host time, in milliseconds."""
        return signed(self.words[_APPLIANCE_OFFSET])

    def authorized(self) -> bool:
        """Tell whether the member holds the SMK."""
        return self.words[AUTHORIZED] == 1

    def set_authorized(self, authorized: bool) -> None:
        """Say whether the member holds the SMK."""
        self.words[AUTHORIZED] = int(authorized)

    def lease_valid(self) -> bool:
        """Tell whether the member may write: boot time has not reached the end of the lease."""
        return self.boot_time_ms() < self.words[LEASE_END]

    def set_lease_end(self, boot_ms: int) -> None:
        """Set the end of the lease in boot time, ms; NO_LEASE_END for a cluster of one."""
        self.words[LEASE_END] = boot_ms

    def epoch(self) -> tuple[int, MemberId]:
        """Return the epoch's number and the member that opened it; (0, "") when there is none.

        Three words cannot be read as one: a reader who meets the writer at work looks again.
        """
        for _ in range(_EPOCH_TRIES):
            number = self.words[_EPOCH]
            promoter = self.words[_PROMOTER].to_bytes(8, "big")
            promoter += self.words[_PROMOTER + 1].to_bytes(8, "big")
            if number and number == self.words[_EPOCH]:
                return number, MemberId(str(UUID(bytes=promoter)) if any(promoter) else "")
        return 0, MemberId("")

    def set_epoch(self, number: int, promoter: MemberId) -> None:
        """Set the epoch; number 0, which tells readers nothing, stands there meanwhile."""
        halves = UUID(promoter).bytes if promoter else bytes(16)
        self.words[_EPOCH] = 0
        self.words[_PROMOTER] = int.from_bytes(halves[:8], "big")
        self.words[_PROMOTER + 1] = int.from_bytes(halves[8:], "big")
        self.words[_EPOCH] = number

    def members_version(self) -> int:
        """Return the version of the list of members, their addresses, groups, keys and states."""
        return self.words[MEMBERS_VERSION]

    def bump_members(self) -> None:
        """Say that something in the list of members has changed."""
        self._bump(MEMBERS_VERSION)

    def users_version(self) -> int:
        """Return the version of the list of the appliance's users."""
        return self.words[_USERS_VERSION]

    def bump_users(self) -> None:
        """Say that something in the list of users has changed."""
        self._bump(_USERS_VERSION)

    def visible(self) -> bool:
        """Tell whether the primary counts this member among those that hold every change."""
        return self.words[_VISIBLE] == 1

    def set_visible(self, visible: bool) -> None:
        """Say whether this member is visible at present; whether it may write is the lease's."""
        self.words[_VISIBLE] = int(visible)

    def lease_end_ms(self) -> int:
        """Return the end of the lease in boot time, ms; NO_LEASE_END for a cluster of one."""
        return self.words[LEASE_END]

    def log_position(self) -> RowRevision:
        """Return the newest row revision that this member holds."""
        return RowRevision(self.words[LOG_POSITION])

    def set_log_position(self, revision: RowRevision) -> None:
        """Set the newest row revision."""
        self.words[LOG_POSITION] = revision

    def deny_login(self, login_id: LoginId) -> None:
        """Append a login id to the bounded list of those that were logged out (rule C13)."""
        head = self.words[DENIED_HEAD]
        at = _DENIED_RING + 2 * (head % DENIED_LOGINS)
        self.words[at] = int.from_bytes(login_id[:8], "big")
        self.words[at + 1] = int.from_bytes(login_id[8:], "big")
        self.words[DENIED_HEAD] = head + 1

    def denied_head(self) -> int:
        """Return how many login ids were ever denied."""
        return self.words[DENIED_HEAD]

    def denied_since(self, head: int) -> tuple[int, list[LoginId]]:
        """Return the present head and the ids denied since `head`, at most the newest 1024."""
        newest = self.words[DENIED_HEAD]
        first = max(head, newest - DENIED_LOGINS, 0)
        return newest, [self._denied(number) for number in range(first, newest)]

    def _denied(self, number: int) -> LoginId:
        at = _DENIED_RING + 2 * (number % DENIED_LOGINS)
        high, low = self.words[at], self.words[at + 1]
        return LoginId(high.to_bytes(8, "big") + low.to_bytes(8, "big"))
