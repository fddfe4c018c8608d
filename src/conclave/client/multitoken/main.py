"""The command `multitoken`: threads that each have a connection and a login, and one operation.

::

    multitoken -mode=ecdsasign -key=256 -threads=4 -timed=10 -passwordenv=PIN

Passwords, JSON and statuses are those of the other tools (`conclave.client.tools`); status 1 says
that an operation failed.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Final, NoReturn

from conclave.client.keyring_login import password_of, token_of
from conclave.client.multitoken.crowd import Crowd, Plan
from conclave.client.multitoken.modes import MODES, load_of
from conclave.client.multitoken.tally import (
    Scene,
    display,
    live_line,
    redrawn,
    summary,
    summary_data,
)
from conclave.client.refusals import misused
from conclave.client.slots import Clusters
from conclave.client.tools.batch import Batch, run_batch
from conclave.client.tools.faces import Outcome, PlainFace, complain, write
from conclave.client.tools.grammar import (
    HELP_WORDS,
    JSON,
    Command,
    Invocation,
    Option,
    credential,
    option_lines,
    read_options,
    text_option,
)
from conclave.client.tools.program import Program
from conclave.client.tools.prompts import prompts_of
from conclave.client.tools.statuses import Status
from conclave.service import wire

MAX_THREADS: Final = 256
MAX_PACKET_BYTES: Final = 1 << 16
MAX_SECONDS: Final = 86_400.0
LONGEST_INTERVAL_SECONDS: Final = 3600.0
SHORTEST_SECONDS: Final = 0.1
COMMAND: Final = Command(
    ("multitoken",),
    ("multitoken",),
    "load keyrings, as their KRCO, and show what they give",
    (
        text_option("mode", "mode", f"one of {', '.join(MODES)}", required=True),
        text_option("key", "size", "of the keys; the mode's first by default"),
        text_option("packet", "bytes", f"of data, 1 to {MAX_PACKET_BYTES}; 1024 by default"),
        text_option("threads", "number", f"1 to {MAX_THREADS}; 1 by default"),
        text_option("timed", "seconds", "how long; 10 by default"),
        text_option("interval", "seconds", "between two looks; 1 by default"),
        Option("slot", "slots", "numbers", "the slots, parted by commas, which share the threads"),
        *credential("password", "password", "the KRCO's password (one for all slots)"),
        Option("quiet", "q", None, "show the sum at the end only"),
    ),
)


class Bench:
    """One run of multitoken."""

    def parse(self, words: Sequence[str]) -> Invocation:
        """Return what the words ask for; raise BadInput."""
        return Invocation(COMMAND, read_options(COMMAND, words))

    def carry_out(self, invocation: Invocation) -> Outcome:
        """Load the keyrings; raise an error of the tree, or Cancelled, before the load begins."""
        values = invocation.values
        quiet = "quiet" in values or JSON.name in values
        return drive(plan_of(values), live=not quiet)


def plan_of(values: Mapping[str, str]) -> Plan:
    """Return what the options ask for, its password tried once; raise as `Bench.carry_out`."""
    packet = int(_number(values, "packet", 1024, 1, MAX_PACKET_BYTES))
    threads = int(_number(values, "threads", 1, 1, MAX_THREADS))
    seconds = _number(values, "timed", 10, SHORTEST_SECONDS, MAX_SECONDS)
    interval = _number(values, "interval", 1, SHORTEST_SECONDS, LONGEST_INTERVAL_SECONDS)
    load = load_of(values["mode"].lower(), values.get("key"), packet)
    clusters = Clusters.from_environment()
    try:
        slots = values["slot"].split(",") if "slot" in values else [None]
        tokens = tuple(token_of(clusters, slot) for slot in slots)
        password = password_of(values, tokens[0], prompts_of(sys.stdin), os.environ)
        for token in tokens:
            # Once here, since a wrong password from every thread would lock the role out.
            session = clusters.open(token)
            session.login(wire.Role.KRCO, password)
            session.logout()
    finally:
        clusters.close()
    return Plan(load, tokens, password, threads, seconds, interval)


def _number(
    values: Mapping[str, str], name: str, default: float, lowest: float, highest: float
) -> float:
    """Return a number of the command line: a whole one if its bounds are."""
    if name not in values:
        return default
    try:
        number = float(values[name]) if isinstance(lowest, float) else int(values[name])
    except ValueError:
        number = -1
    if not lowest <= number <= highest:
        raise misused(f"Option -{name} must be a number from {lowest} to {highest:.0f}.")
    return number


def drive(plan: Plan, *, live: bool) -> Outcome:
    """Carry out a load, show it as it runs, and return what came of it."""
    crowd = Crowd(plan)
    begun = time.monotonic()
    try:
        crowd.start()
        begun = time.monotonic()
        elapsed = _watch(crowd, plan, begun, live=live)
    except KeyboardInterrupt:
        elapsed = time.monotonic() - begun
        complain("Stopped.")
    crowd.end()
    totals = crowd.tally.totals()
    text = summary(plan.load.mode, plan.threads, elapsed, totals)
    status = Status.FAILED if totals.failures or not totals.operations else Status.SUCCEEDED
    data = summary_data(plan.load.mode, plan.threads, elapsed, totals)
    advice = tuple(f"{name}: {crowd.advice[name]}" for name, _count in totals.failures)
    return Outcome(text, data, status, advice)


def _watch(crowd: Crowd, plan: Plan, begun: float, *, live: bool) -> float:
    """Show the load until its time is over or nobody works any more; return the seconds."""
    terminal = sys.stdout.isatty()
    shown_at, first = begun, True
    while (rest := begun + plan.seconds - time.monotonic()) > 0 and crowd.working:
        crowd.wait(min(plan.interval, rest))
        now, totals, recent = time.monotonic(), crowd.tally.totals(), crowd.tally.recent()
        if live and terminal:
            scene = Scene(plan.title, now - begun, plan.seconds, now - shown_at, recent, totals)
            write(redrawn(display(scene), shutil.get_terminal_size().columns, first=first))
        elif live:
            write(live_line(now - begun, recent, now - shown_at, totals.failed) + "\n")
        shown_at, first = now, False
    return time.monotonic() - begun


def help_text() -> str:
    """Return the options."""
    lines = [f"        {mode:<30}{row.summary}" for mode, row in MODES.items()]
    usage = "usage: multitoken -mode=<mode> [-option=value ...] [-json]\n"
    return "\n".join([usage, *option_lines(COMMAND), "    modes and their key sizes:", *lines])


def run(arguments: Sequence[str]) -> int:
    """Run multitoken with these arguments and return its exit status."""
    if not arguments or arguments[0] == "help" or arguments[-1] in HELP_WORDS:
        write(help_text() + "\n")
        return Status.SUCCEEDED
    batch = Batch(quiet=False, json=False, commands=[list(arguments)], typed=True)
    return run_batch(Bench(), batch, PlainFace())


def main() -> NoReturn:
    """Run multitoken and end the process with its status."""
    Program("multitoken", help_text, run).main()


if __name__ == "__main__":
    main()
