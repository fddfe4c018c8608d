"""The command `multitoken`: threads that each have a connection and a login, and one operation.

Ends with 0, with 1 when an operation failed, with 2 when the client is not configured or the
command line is not understood.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import click

from conclave import __version__
from conclave.client.keyring_login import password_of, token_of
from conclave.client.lunacm.main import FAILED, NOT_CONFIGURED, SUCCEEDED
from conclave.client.lunacm.prompts import Cancelled, LinePrompts, TerminalPrompts
from conclave.client.lunacm.render import complaint
from conclave.client.multitoken.modes import MODES, Load, Operation, begin, load_of
from conclave.client.multitoken.tally import Tally, live_line, summary
from conclave.client.refusals import ckr_name
from conclave.client.session import Client
from conclave.errors import ConclaveError
from conclave.service import wire

MAX_THREADS: Final = 256
MAX_PACKET_BYTES: Final = 1 << 16
PAUSE_AFTER_FAILURE_SECONDS: Final = 0.2
START_SECONDS: Final = 300.0
"""How long logins and keys may take before the load begins without those that lack them."""
LAST_ANSWER_SECONDS: Final = 60.0
"""How long threads may still wait for an answer when the time is over."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A load, and how long and wide it is."""

    load: Load
    token: wire.Token
    password: bytes
    threads: int
    seconds: float
    interval: float

    def __repr__(self) -> str:
        return f"Plan({self.load!r})"


class Crowd:
    """The threads of a load."""

    def __init__(self, plan: Plan) -> None:
        self.tally = Tally()
        self._plan = plan
        self._ready = threading.Semaphore(0)
        self._go = threading.Event()
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._work, daemon=True) for _ in range(plan.threads)
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
        deadline = time.monotonic() + LAST_ANSWER_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _work(self) -> None:
        counted = False
        try:
            with Client.from_environment() as client:
                session = client.open(self._plan.token)
                session.login(wire.Role.KRCO, self._plan.password)
                operation = begin(client, session, self._plan.load)
                self._ready.release()
                counted = True
                self._go.wait(START_SECONDS)
                while not self._stop.is_set():
                    self._once(operation)
                session.logout()
        except ConclaveError as error:
            self.tally.failed(ckr_name(error.fault.ckr))
        finally:
            if not counted:
                self._ready.release()

    def _once(self, operation: Operation) -> None:
        begun = time.perf_counter()
        try:
            operation()
        except ConclaveError as error:
            self.tally.failed(ckr_name(error.fault.ckr))
            self._stop.wait(PAUSE_AFTER_FAILURE_SECONDS)
        else:
            self.tally.done(time.perf_counter() - begun)


def drive(plan: Plan, *, live: bool) -> int:
    """Carry out a load, show it as it runs, and return the exit status."""
    crowd = Crowd(plan)
    crowd.start()
    begun = shown_at = time.monotonic()
    before = 0
    end = "\r" if sys.stdout.isatty() else "\n"
    try:
        while (rest := begun + plan.seconds - time.monotonic()) > 0 and crowd.working:
            crowd.wait(min(plan.interval, rest))
            now, totals = time.monotonic(), crowd.tally.totals()
            if live:
                line = live_line(now - begun, totals, before, now - shown_at)
                sys.stdout.write(line + end)
                sys.stdout.flush()
            before, shown_at = totals.operations, now
    except KeyboardInterrupt:
        sys.stderr.write("Stopped.\n")
    elapsed = time.monotonic() - begun
    crowd.end()
    totals = crowd.tally.totals()
    head = "\n" if live and end == "\r" else ""
    sys.stdout.write(head + summary(plan.load.mode, plan.threads, elapsed, totals) + "\n")
    return FAILED if totals.failures or not totals.operations else SUCCEEDED


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="multitoken")
@click.option("--mode", type=click.Choice(list(MODES), case_sensitive=False), required=True)
@click.option("--key", "key_bits", type=int, help="Key size in bits.")
@click.option(
    "--packet", type=click.IntRange(1, MAX_PACKET_BYTES), default=1024, help="Bytes of data."
)
@click.option("--threads", type=click.IntRange(1, MAX_THREADS), default=1, help="Threads.")
@click.option("--timed", type=click.FloatRange(0.1, 86_400), default=10.0, help="Seconds.")
@click.option("--interval", type=click.FloatRange(0.1, 3600), default=1.0, help="Of the display.")
@click.option("--slot", help="The slot; needed when there are several.")
@click.option("--password-fd", metavar="N", help="Read the password as a line from there.")
@click.option("--password-env", metavar="NAME", help="Take the password from the environment.")
@click.option("--quiet", "-q", is_flag=True, help="Show the sum at the end only.")
def command(
    *,
    mode: str,
    key_bits: int | None,
    packet: int,
    threads: int,
    timed: float,
    interval: float,
    slot: str | None,
    password_fd: str | None,
    password_env: str | None,
    quiet: bool,
) -> None:
    """Load one keyring, as its KRCO, and show what it gives."""
    given = {"passwordfd": password_fd, "passwordenv": password_env}
    values = {name: value for name, value in given.items() if value is not None}
    prompts = TerminalPrompts() if sys.stdin.isatty() else LinePrompts()
    try:
        client = Client.from_environment()
    except ConclaveError as error:
        click.echo(complaint(error), err=True)
        sys.exit(NOT_CONFIGURED)
    try:
        load = load_of(mode, key_bits, packet)
        with client:
            token = token_of(client, slot)
            password = password_of(values, token, prompts, os.environ)
            # Once here, since a wrong password from every thread would lock the role out.
            session = client.open(token)
            session.login(wire.Role.KRCO, password)
            session.logout()
        plan = Plan(load, token, password, threads, timed, interval)
    except ConclaveError as error:
        click.echo(complaint(error), err=True)
        sys.exit(FAILED)
    except Cancelled:
        click.echo("Cancelled.", err=True)
        sys.exit(FAILED)
    sys.exit(drive(plan, live=not quiet))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run multitoken and end the process with its status."""
    command.main(args=arguments, prog_name="multitoken")


if __name__ == "__main__":
    main()
