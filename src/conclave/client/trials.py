"""What to do with an answer, or with none: the rules of docs/protocol.md for one request.

Pure: a `Trial` is told what happened and says where to go next.
"""

from __future__ import annotations

import enum
from collections.abc import Collection
from typing import Final

from conclave.client.clusters import ClusterEntry
from conclave.errors import Ckr
from conclave.service import wire

BUSY_SECONDS: Final = 2.0
"""How long a busy member is asked again while there are others."""
SILENT_SECONDS: Final = 5.0
"""How long a member may say nothing, at first, before another is asked the same."""
GENERATION_SECONDS: Final = 15.0
"""The same for operations that may take long."""
_LONG: Final = {wire.Operation.GENERATE_KEY_PAIR, wire.Operation.GENERATE_KEY}
_KEY_USES: Final = {
    wire.Operation.SIGN,
    wire.Operation.VERIFY,
    wire.Operation.ENCRYPT,
    wire.Operation.DECRYPT,
}


class Verdict(enum.Enum):
    """Where a request goes next."""

    ANSWERED = "the answer is the caller's"
    AGAIN = "the same member is asked again, after a pause"
    ELSEWHERE = "another member is asked"


class Trial:
    """One request on its way: which members passed it on, and whether one may have acted."""

    def __init__(self, operation: wire.Operation) -> None:
        self._operation = operation
        self._passed_on: set[ClusterEntry] = set()
        self._busy_since: float | None = None
        self._silences = 0
        self.may_have_acted = False

    def patience(self) -> float:
        """Return how many seconds a member may be silent; longer each time."""
        first = GENERATION_SECONDS if self._operation in _LONG else SILENT_SECONDS
        return float(first * 2**self._silences)

    def interrupted(self) -> None:
        """Take note that a request was sent and no answer came."""
        self.may_have_acted = True
        self._silences += 1

    def judge(
        self, value: int, member: ClusterEntry, members: Collection[ClusterEntry], now: float
    ) -> Verdict:
        """Say what an answer with this value means, given by `member` at this instant."""
        if value == wire.BEHIND:
            return Verdict.ELSEWHERE
        if value == wire.BUSY:
            return self._busy(len(members) > 1, now)
        if not self._passes_on(value):
            return Verdict.ANSWERED
        self._passed_on.add(member)
        if not self._passed_on.issuperset(members):
            return Verdict.ELSEWHERE
        if self.may_have_acted:
            # One that did not answer may have done it: what the others refuse proves nothing.
            self._passed_on.clear()
            return Verdict.ELSEWHERE
        return Verdict.ANSWERED

    def _busy(self, several: bool, now: float) -> Verdict:
        if self._busy_since is None:
            self._busy_since = now
        if several and now - self._busy_since > BUSY_SECONDS:
            self._busy_since = None
            return Verdict.ELSEWHERE
        return Verdict.AGAIN

    def _passes_on(self, value: int) -> bool:
        """Tell whether nothing was done and another member may do it."""
        if value == Ckr.DEVICE_ERROR:
            return self._operation in _KEY_USES
        return value in (Ckr.KEYRING_NOT_AUTHORIZED, Ckr.TOKEN_WRITE_PROTECTED)
