"""The login process: the only place where keyring and user passwords are hashed (rule C8).

Invariant: memory and processor time of all attempts together are bounded: those that run take
MEMORY_BOUND_KIB at most by the costs their salts say (one alone may take more), one per core and
one per source, at low priority; what cannot be queued or has waited too long is
answered BUSY, which is safe to repeat and counts for nobody.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import sys
from collections import OrderedDict, deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

import uvloop

from conclave import faults
from conclave.crypto.password_hash import Argon2Cost, argon2id, check_cost, salt_cost
from conclave.errors import BadInput, Unavailable
from conclave.service.bootstrap import (
    LoginBootstrap,
    configure_logging,
    give_memory_back,
    harden_process,
    read_bootstrap,
    watch_parent,
)
from conclave.service.channel import ChannelServer
from conclave.service.messages import DerivedKey, HashPassword
from conclave.service.quiet import Quiet

MEMORY_BOUND_KIB: Final = 192 * 1024
NICENESS: Final = 15
REFUSED_STATUS: Final = 78
"""Exit status of a start that was refused for a reason in the log (EX_CONFIG)."""

logger = logging.getLogger("conclave.service.login_process")


@dataclass(slots=True)
class _Waiting:
    request: HashPassword
    cost: Argon2Cost
    give_up_at: float
    answer: asyncio.Future[bytes]


@dataclass(slots=True)
class AttemptQueue:
    """Attempts in the order of their arrival, but one at a time of each source.

    A source may fill a quarter of the queue, so that one cannot keep all others out; in a full one
    the source with the most attempts gives up its newest for a source with fewer, so that a few
    cannot either.
    """

    max_queued: int
    waiting: OrderedDict[str, deque[_Waiting]] = field(default_factory=OrderedDict)
    running: set[str] = field(default_factory=set)
    length: int = 0

    def put(self, item: _Waiting) -> bool:
        """Append an attempt; False when the queue or the source's share of it is full."""
        mine = len(self.waiting.get(item.request.source, ()))
        if mine >= max(1, self.max_queued // 4):
            return False
        if self.length >= self.max_queued and not self._make_room(mine):
            return False
        self.waiting.setdefault(item.request.source, deque()).append(item)
        self.length += 1
        return True

    def _make_room(self, mine: int) -> bool:
        longest = max(self.waiting.values(), key=len)
        if len(longest) <= mine + 1:
            return False
        displaced = longest.pop()
        self.length -= 1
        if not displaced.answer.done():
            displaced.answer.set_exception(queue_is_full())
        return True

    def take(self, free_kib: int) -> _Waiting | None:
        """Take the first attempt whose source has none running; None when there is none.

        One that needs more memory than is free is waited for: cheaper ones do not overtake it,
        else it might never run.
        """
        for source, items in self.waiting.items():
            if source not in self.running:
                if accounted_kib(items[0].cost) > free_kib:
                    return None
                item = items.popleft()
                self.length -= 1
                del self.waiting[source]
                if items:
                    # To the end, so that sources take turns.
                    self.waiting[source] = items
                self.running.add(source)
                return item
        return None

    def done(self, item: _Waiting) -> None:
        """Let the source's next attempt go."""
        self.running.discard(item.request.source)


class PasswordHasher:
    """Serve `hash_password` within the bounds of the queue."""

    def __init__(
        self,
        *,
        max_queued: int,
        deadline_seconds: float,
        low_cost_for_tests: bool = False,
        derive: Callable[[bytes, bytes, Argon2Cost], bytes] = argon2id,
    ) -> None:
        self._low_cost_for_tests = low_cost_for_tests
        self._deadline_seconds = deadline_seconds
        self._derive = derive
        self._queue = AttemptQueue(max_queued)
        self._free_threads = os.cpu_count() or 1
        self._free_kib = MEMORY_BOUND_KIB
        self._executor = ThreadPoolExecutor(self._free_threads, thread_name_prefix="argon2")

    async def hash_password(self, request: HashPassword, _role: str) -> Quiet:
        """Derive a key; raise Unavailable (BUSY) when it cannot be done in time.

        Raises InternalFault for a salt whose cost is refused.
        """
        cost = salt_cost(request.salt, allow_low_cost=self._low_cost_for_tests)
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + self._deadline_seconds
        item = _Waiting(request, cost, give_up_at, loop.create_future())
        if not self._queue.put(item):
            raise queue_is_full()
        self._start()
        return DerivedKey(key=await item.answer)

    def close(self) -> None:
        """Wait for the hashes that run."""
        self._executor.shutdown(cancel_futures=True)

    def _start(self) -> None:
        while self._free_threads and (item := self._queue.take(self._free_kib)):
            self._free_threads -= 1
            self._free_kib -= accounted_kib(item.cost)
            task = asyncio.get_running_loop().create_task(self._run(item))
            task.add_done_callback(functools.partial(self._finish, item))

    def _finish(self, item: _Waiting, task: asyncio.Task[bytes]) -> None:
        self._free_threads += 1
        self._free_kib += accounted_kib(item.cost)
        self._queue.done(item)
        if item.answer.done():
            task.cancelled() or task.exception()  # the caller is gone; nothing may warn about it
        elif task.cancelled():
            item.answer.cancel()
        elif error := task.exception():
            item.answer.set_exception(error)
        else:
            item.answer.set_result(task.result())
        self._start()

    async def _run(self, item: _Waiting) -> bytes:
        loop = asyncio.get_running_loop()
        if loop.time() > item.give_up_at:
            message = "The password waited too long to be checked; try again."
            raise Unavailable(faults.BUSY, message)
        request = item.request
        return await loop.run_in_executor(
            self._executor, self._derive, request.password, request.salt, item.cost
        )


def queue_is_full() -> Unavailable:
    """Return the error for an attempt that finds no room in the queue, or lost it."""
    return Unavailable(faults.BUSY, "Too many passwords wait to be checked; try again.")


def accounted_kib(cost: Argon2Cost) -> int:
    """Return what a hash takes of the memory bound: all of it when it needs more, to run alone."""
    return min(cost.memory_kib, MEMORY_BOUND_KIB)


def lower_priority() -> None:
    """Let the crypto workers go first, yet not starve logins while they are busy."""
    os.nice(NICENESS)
    os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


async def serve(bootstrap: LoginBootstrap) -> None:
    """Answer until the process is ended by its parent."""
    hasher = PasswordHasher(
        max_queued=bootstrap.max_queued,
        deadline_seconds=bootstrap.deadline_seconds,
        low_cost_for_tests=bootstrap.low_cost_for_tests,
    )
    handlers = {"hash_password": hasher.hash_password}
    server = ChannelServer(bootstrap.socket_path, bootstrap.secrets, handlers)
    await server.start()
    give_memory_back()
    logger.info("The login process is ready.")
    await asyncio.get_running_loop().create_future()


def main() -> None:
    """Run the login process: bootstrap frame on standard input, then until its end of file."""
    harden_process()
    bootstrap = read_bootstrap(sys.stdin.buffer, LoginBootstrap)
    configure_logging(bootstrap.log_path, level=bootstrap.log_level)
    watch_parent(sys.stdin.buffer)
    try:
        check_cost(bootstrap.cost, allow_low_cost=bootstrap.low_cost_for_tests)
    except BadInput as error:
        logger.error("The login process cannot start: %s", error.message)
        sys.exit(REFUSED_STATUS)
    lower_priority()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(bootstrap))


if __name__ == "__main__":
    main()
