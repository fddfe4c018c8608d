"""The threads of a load, each with a connection, a login and a key of its own."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import Final

from conclave.client.multitoken.modes import Load, Operation, begin
from conclave.client.multitoken.tally import Tally
from conclave.client.refusals import ckr_name
from conclave.client.slots import Clusters
from conclave.client.tools.statuses import next_step
from conclave.errors import ConclaveError
from conclave.service import wire

PAUSE_AFTER_FAILURE_SECONDS: Final = 0.2
START_SECONDS: Final = 300.0
"""How long logins and keys may take before the load begins without those that lack them."""
LAST_ANSWER_SECONDS: Final = 60.0
"""How long threads may still wait for an answer when the time is over."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A load, and how long and wide it is; thread number n works on token n, modulo their count."""

    load: Load
    tokens: tuple[wire.Token, ...]
    password: bytes
    threads: int
    seconds: float
    interval: float

    def __repr__(self) -> str:
        return f"Plan({self.load!r})"

    @property
    def title(self) -> str:
        """Return what the display is headed with."""
        slots = ",".join(str(token.slot) for token in self.tokens)
        return f"{self.load.title}   {self.threads} threads   slot {slots}"


class Crowd:
    """The threads of a load."""

    def __init__(self, plan: Plan) -> None:
        self.tally = Tally()
        self.advice: dict[str, str] = {}
        """What to do next, by the name of a failure."""
        self._plan = plan
        self._ready = threading.Semaphore(0)
        self._go = threading.Event()
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._work, args=(token,), daemon=True)
            for number in range(plan.threads)
            for token in (plan.tokens[number % len(plan.tokens)],)
        ]

    def start(self) -> None:
        """Return when each thread has its login and key, or has failed to get them."""
        for thread in self._threads:
            thread.start()
        deadline = time.monotonic() + START_SECONDS
        for _ in self._threads:
            self._ready.acquire(timeout=max(0.0, deadline - time.monotonic()))
        self._go.set()

    def wait(self, seconds: float) -> None:
        """Wait so long, or until no thread works any more."""
        deadline = time.monotonic() + seconds
        while (rest := deadline - time.monotonic()) > 0 and self.working:
            self._stop.wait(min(rest, 0.2))

    @property
    def working(self) -> bool:
        """Tell whether a thread still works."""
        return any(thread.is_alive() for thread in self._threads)

    def end(self) -> None:
        """Let every thread finish its operation and log out."""
        self._stop.set()
        self._go.set()
        deadline = time.monotonic() + LAST_ANSWER_SECONDS
        for thread in self._threads:
            if thread.is_alive():
                thread.join(max(0.0, deadline - time.monotonic()))

    def _work(self, token: wire.Token) -> None:
        counted = False
        try:
            clusters = Clusters.from_environment()
            with clusters.client(token.slot) as client:
                session = client.open(token)
                session.login(wire.Role.KRCO, self._plan.password)
                operation = begin(client, session, self._plan.load)
                self._ready.release()
                counted = True
                self._go.wait(START_SECONDS)
                while not self._stop.is_set():
                    self._once(operation)
                session.logout()
        except ConclaveError as error:
            self._failed(error)
        finally:
            if not counted:
                self._ready.release()

    def _once(self, operation: Operation) -> None:
        begun = time.perf_counter()
        try:
            operation()
        except ConclaveError as error:
            self._failed(error)
            self._stop.wait(PAUSE_AFTER_FAILURE_SECONDS)
        else:
            self.tally.done(time.perf_counter() - begun)

    def _failed(self, error: ConclaveError) -> None:
        name = ckr_name(error.fault.ckr)
        self.tally.failed(name)
        self.advice.setdefault(name, next_step(error) or error.message)
