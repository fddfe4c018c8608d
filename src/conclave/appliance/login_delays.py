"""Slow down guessing at user passwords and keys, by user name and by source (a /64 of IPv6 is one).

Invariant: an attempt inside a delay is refused before its password is looked at, costs nothing and
is not counted; a name that belongs to nobody is treated as one that does.  Memory is bounded: the
entry that was touched longest ago goes first, and a key has MAX_KEY_CHARACTERS at most, whatever
name a client sends.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from conclave import faults
from conclave.clock import boot_time_ms
from conclave.errors import Unavailable
from conclave.source_networks import network_of

MAX_ENTRIES: Final = 4096
MAX_KEY_CHARACTERS: Final = 128
FORGET_AFTER_MS: Final = 15 * 60_000


@dataclass(frozen=True, slots=True)
class DelayRule:
    """How many failures are free, and how the delay after them grows; milliseconds."""

    free_failures: int
    first_ms: int
    longest_ms: int

    def delay_ms(self, failures: int) -> int:
        """Return how long nobody may try again after so many failures."""
        beyond = failures - self.free_failures
        if beyond <= 0:
            return 0
        return min(self.first_ms << min(beyond - 1, 20), self.longest_ms)


USER_RULE: Final = DelayRule(free_failures=4, first_ms=1000, longest_ms=30_000)
SOURCE_RULE: Final = DelayRule(free_failures=20, first_ms=1000, longest_ms=30_000)


@dataclass(frozen=True, slots=True)
class _Failures:
    count: int
    last_ms: int
    not_before_ms: int


class _Ledger:
    """Failures by one kind of key."""

    def __init__(self, rule: DelayRule, now_ms: Callable[[], int]) -> None:
        self._rule = rule
        self._now_ms = now_ms
        self._entries: OrderedDict[str, _Failures] = OrderedDict()

    def wait_ms(self, key: str) -> int:
        entry = self._entries.get(_bounded(key))
        return 0 if entry is None else max(0, entry.not_before_ms - self._now_ms())

    def waiting(self) -> dict[str, int]:
        """Return for how many seconds which keys must wait."""
        waits = {key: self.wait_ms(key) for key in self._entries}
        return {key: -(-wait // 1000) for key, wait in waits.items() if wait > 0}

    def add(self, key: str) -> None:
        key, now = _bounded(key), self._now_ms()
        entry = self._entries.pop(key, None)
        fresh = entry is None or now - entry.last_ms > FORGET_AFTER_MS
        count = 1 if entry is None or fresh else entry.count + 1
        self._entries[key] = _Failures(count, now, now + self._rule.delay_ms(count))
        while len(self._entries) > MAX_ENTRIES:
            self._entries.popitem(last=False)

    def forget(self, key: str) -> None:
        self._entries.pop(_bounded(key), None)


class LoginDelays:
    """Remember wrong passwords and say when the next attempt may come.

    A name's failures hold for every source, but for those that proved its password before: such a
    source has an account of its own, or strangers' guesses in the name would keep its user out; it
    is one address, since neighbours of its network are strangers, too.
    """

    def __init__(
        self,
        *,
        now_ms: Callable[[], int] = boot_time_ms,
        user_rule: DelayRule = USER_RULE,
        source_rule: DelayRule = SOURCE_RULE,
    ) -> None:
        self._users = _Ledger(user_rule, now_ms)
        self._known = _Ledger(user_rule, now_ms)
        self._proven: OrderedDict[str, None] = OrderedDict()
        self._sources = _Ledger(source_rule, now_ms)

    def check(self, user_id: str, source: str) -> None:
        """Raise Unavailable (LOGIN_DELAYED) when the name or the source must wait."""
        ledger, key = self._account(user_id, source)
        _check(
            "wrong passwords", max(ledger.wait_ms(key), self._sources.wait_ms(network_of(source)))
        )

    def source_waits(self, source: str) -> bool:
        """Tell whether a source must wait, whoever it names."""
        return self._sources.wait_ms(network_of(source)) > 0

    def waiting_sources(self) -> dict[str, int]:
        """Return for how many seconds which sources must wait."""
        return self._sources.waiting()

    def failed(self, user_id: str, source: str) -> None:
        """Count a wrong password."""
        ledger, key = self._account(user_id, source)
        ledger.add(key)
        self._sources.add(network_of(source))

    def proven(self, user_id: str, source: str) -> None:
        """Forget what held a user up, and know the source from now on.

        A source's failures stay, or one's own account would clear them.
        """
        ledger, key = self._account(user_id, source)
        ledger.forget(key)
        pair = _pair(user_id, source)
        self._proven.pop(pair, None)
        self._proven[pair] = None
        while len(self._proven) > MAX_ENTRIES:
            self._proven.popitem(last=False)

    def forget(self, user_id: str) -> None:
        """Forget a name's failures, since its password is another now."""
        self._users.forget(user_id)

    def _account(self, user_id: str, source: str) -> tuple[_Ledger, str]:
        """Return where failures of a user from a source are counted."""
        pair = _pair(user_id, source)
        return (self._known, pair) if pair in self._proven else (self._users, user_id)


class KeyDelays:
    """Remember refused SSH keys and answers to challenges, and say when the next may be looked at.

    Apart from those of passwords, and a name's failures only hold for the source they came from:
    nobody is kept out by the keys that strangers offer in the name.  A failure is a connection that
    ended without a proof, however many keys an agent offered on it.
    """

    def __init__(
        self,
        *,
        now_ms: Callable[[], int] = boot_time_ms,
        user_rule: DelayRule = USER_RULE,
        source_rule: DelayRule = SOURCE_RULE,
    ) -> None:
        self._users = _Ledger(user_rule, now_ms)
        self._sources = _Ledger(source_rule, now_ms)

    def waits(self, user_id: str, source: str) -> bool:
        """Tell whether a source must wait before a key of that user is looked at."""
        return self._wait_ms(user_id, source) > 0

    def check(self, user_id: str, source: str) -> None:
        """Raise Unavailable (LOGIN_DELAYED) when a key of that user must wait."""
        _check("refused keys", self._wait_ms(user_id, source))

    def _wait_ms(self, user_id: str, source: str) -> int:
        return max(
            self._users.wait_ms(_pair(user_id, network_of(source))),
            self._sources.wait_ms(network_of(source)),
        )

    def failed(self, user_id: str, source: str) -> None:
        """Count a connection, or an answer, without a proof; `user_id` "" is nobody's name."""
        self._users.add(_pair(user_id, network_of(source)))
        self._sources.add(network_of(source))

    def waiting_sources(self) -> dict[str, int]:
        """Return for how many seconds which sources must wait."""
        return self._sources.waiting()

    def succeeded(self, user_id: str, source: str) -> None:
        """Forget the failures of a user from a source."""
        self._users.forget(_pair(user_id, network_of(source)))


def _pair(user_id: str, source: str) -> str:
    return f"{user_id} {source}"


def _check(what: str, wait_ms: int) -> None:
    if wait_ms:
        message = f"There were too many {what}; the next attempt may come in"
        raise Unavailable(faults.LOGIN_DELAYED, f"{message} {-(-wait_ms // 1000)} s.")


def _bounded(key: str) -> str:
    if len(key) <= MAX_KEY_CHARACTERS:
        return key
    return hashlib.sha256(key.encode(errors="surrogatepass")).hexdigest()
