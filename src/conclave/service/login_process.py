"""The login process: the only place where keyring and user passwords are hashed (rule C8).

Invariant: memory and processor time of all attempts together are bounded: at most `hashes_at_once`
run, one per source, at low priority; what cannot be queued or has waited too long is
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
from conclave.crypto.password_hash import Argon2Cost, check_cost, hash_password
from conclave.errors import BadInput, Unavailable
from conclave.service.bootstrap import (
    LoginBootstrap,
    configure_logging,
    harden_process,
    read_bootstrap,
    watch_parent,
)
from conclave.service.channel import ChannelServer
from conclave.service.messages import DerivedKey, HashPassword, Quiet

MEMORY_BOUND_KIB: Final = 192 * 1024
NICENESS: Final = 15
REFUSED_STATUS: Final = 78
"""Exit status of a start that was refused for a reason in the log (EX_CONFIG)."""

logger = logging.getLogger("conclave.service.login_process")


@dataclass(slots=True)
class _Waiting:
    request: HashPassword
    give_up_at: float
    answer: asyncio.Future[bytes]


@dataclass(slots=True)
class AttemptQueue:
    """Attempts in the order of their arrival, but one at a time of each source.

    A source may fill a quarter of the queue, so that one cannot keep all others out.
    """

    max_queued: int
    waiting: OrderedDict[str, deque[_Waiting]] = field(default_factory=OrderedDict)
    running: set[str] = field(default_factory=set)
    length: int = 0

    def put(self, item: _Waiting) -> bool:
        """Append an attempt; False when the queue or the source's share of it is full."""
        mine = self.waiting.get(item.request.source, ())
        if self.length >= self.max_queued or len(mine) >= max(1, self.max_queued // 4):
            return False
        self.waiting.setdefault(item.request.source, deque()).append(item)
        self.length += 1
        return True

    def take(self) -> _Waiting | None:
        """Take the first attempt whose source has none running; None when there is none."""
        for source, items in self.waiting.items():
            if source not in self.running:
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
        cost: Argon2Cost,
        *,
        max_queued: int,
        deadline_seconds: float,
        derive: Callable[[bytes, bytes, Argon2Cost], bytes] = hash_password,
    ) -> None:
        self._cost = cost
        self._deadline_seconds = deadline_seconds
        self._derive = derive
        self._queue = AttemptQueue(max_queued)
        self._free = hashes_at_once(cost)
        self._executor = ThreadPoolExecutor(self._free, thread_name_prefix="argon2")

    async def hash_password(self, request: HashPassword, _role: str) -> Quiet:
        """Derive a key; raise Unavailable (BUSY) when it cannot be done in time."""
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + self._deadline_seconds
        item = _Waiting(request, give_up_at, loop.create_future())
        if not self._queue.put(item):
            raise Unavailable(faults.BUSY, "Too many passwords wait to be checked; try again.")
        self._start()
        return DerivedKey(key=await item.answer)

    def close(self) -> None:
        """Wait for the hashes that run."""
        self._executor.shutdown(cancel_futures=True)

    def _start(self) -> None:
        while self._free and (item := self._queue.take()):
            self._free -= 1
            task = asyncio.get_running_loop().create_task(self._run(item))
            task.add_done_callback(functools.partial(self._finish, item))

    def _finish(self, item: _Waiting, task: asyncio.Task[bytes]) -> None:
        self._free += 1
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
            self._executor, self._derive, request.password, request.salt, self._cost
        )


def hashes_at_once(cost: Argon2Cost) -> int:
    """Return how many hashes may run at once within the memory bound, one at least."""
    by_memory = MEMORY_BOUND_KIB // cost.memory_kib
    return max(1, min(os.cpu_count() or 1, by_memory))


def lower_priority() -> None:
    """Let the crypto workers go first, yet not starve logins while they are busy."""
    os.nice(NICENESS)
    os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


async def serve(bootstrap: LoginBootstrap) -> None:
    """Answer until the process is ended by its parent."""
    hasher = PasswordHasher(
        bootstrap.cost,
        max_queued=bootstrap.max_queued,
        deadline_seconds=bootstrap.deadline_seconds,
    )
    handlers = {"hash_password": hasher.hash_password}
    server = ChannelServer(bootstrap.socket_path, bootstrap.secrets, handlers)
    await server.start()
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
