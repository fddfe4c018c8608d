"""Others' suites against a cluster of three members whose entry member fails every few seconds.

Another member is primary: while the primary is away nobody takes changes, by the guide, and suites
that make keys would tell of that and of nothing else.
"""

from __future__ import annotations

import random
import shutil
import ssl
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from signal import SIGKILL
from typing import Final

import httpx

from campaigns import upstream
from campaigns.installation import MEDIA_TYPE
from conclave.demo import processes
from conclave.demo.daemon import process_ids
from tests.support.conformance import SUITES, prepare
from tests.support.demo import Demo, start_demo, stop_demo
from tests.support.token import Token

MEMBERS: Final = 3
HANG_SECONDS: Final = 2.0
SHOWN: Final = 2000


@dataclass(frozen=True)
class Order:
    """How long, and how often the entry member fails; 0 seconds between faults: never."""

    seed: int
    seconds: float
    pause_seconds: float


@dataclass
class Outcome:
    """What the suites and the faults came to."""

    order: Order
    passed: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    longest_seconds: dict[str, float] = field(default_factory=dict)
    faults: Counter[str] = field(default_factory=Counter)
    complaints: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        """Return whether every suite ran and none failed."""
        return not self.failed and self.passed.keys() == {*SUITES, upstream.NAME}


def _kill_part(root: int, name: str) -> None:
    pids = process_ids(root)
    if name in pids:
        processes.send([pids[name]], SIGKILL)


def _kill_worker(root: int, dice: random.Random, _over: threading.Event) -> None:
    _kill_part(root, dice.choice(("worker-0", "worker-1")))


def _kill_cluster(root: int, _dice: random.Random, _over: threading.Event) -> None:
    _kill_part(root, "cluster")


def _hang(root: int, _dice: random.Random, over: threading.Event) -> None:
    processes.stop_family(root)
    try:
        over.wait(HANG_SECONDS)
    finally:
        processes.wake_family(root)


FAULTS: Final[Mapping[str, Callable[[int, random.Random, threading.Event], None]]] = {
    "kill of a worker": _kill_worker,
    "kill of the cluster process": _kill_cluster,
    "hang of the member for 2 s": _hang,
}


def _strike(demo: Demo, outcome: Outcome, over: threading.Event) -> None:
    """Let the entry member fail again and again, until `over`."""
    dice = random.Random(outcome.order.seed)
    root = int(demo.member["pids"]["daemon"])
    while not over.wait(outcome.order.pause_seconds * dice.uniform(0.5, 1.5)):
        name = dice.choice(list(FAULTS))
        FAULTS[name](root, dice, over)
        outcome.faults[name] += 1


@contextmanager
def _faults(demo: Demo, outcome: Outcome) -> Iterator[None]:
    over = threading.Event()
    thread = threading.Thread(target=_strike, args=(demo, outcome, over))
    if outcome.order.pause_seconds > 0:
        thread.start()
    try:
        yield
    finally:
        over.set()
        if outcome.order.pause_seconds > 0:
            thread.join()


def _judge(
    name: str, suite: Callable[[], None], outcome: Outcome, say: Callable[[str], None]
) -> None:
    begun = time.monotonic()
    try:
        suite()
    except (AssertionError, subprocess.SubprocessError) as error:
        outcome.failed[name] += 1
        outcome.complaints.append(f"{name}: {str(error)[-SHOWN:]}")
        say(outcome.complaints[-1])
    else:
        outcome.passed[name] += 1
    took = time.monotonic() - begun
    outcome.longest_seconds[name] = max(took, outcome.longest_seconds.get(name, 0.0))
    say(f"{name}: {took:.1f} s, {sum(outcome.faults.values())} faults so far")


def token_of(demo: Demo, index: int) -> Token:
    """Return one of the demonstration's keyrings."""
    keyring = demo.keyring(index)
    return Token(demo.module, keyring["label"], "", keyring["pin"], demo.environment)


def _promote_another(demo: Demo) -> None:
    """Make the second member primary."""
    first, second = demo.document["members"][:2]
    with httpx.Client(
        base_url=f"https://{first['address']}:{first['restPort']}/api",
        auth=("admin", demo.document["adminPassword"]),
        verify=ssl.create_default_context(cafile=demo.document["caFile"]),
        headers={"Content-Type": MEDIA_TYPE, "Accept": MEDIA_TYPE},
        timeout=60,
    ) as rest:
        member = f"/clusters/{demo.document['clusterId']}/members/{second['memberId']}"
        rest.put(member, json={"action": "config", "primary": True}).raise_for_status()


def run(order: Order, say: Callable[[str], None]) -> Outcome:
    """Go through all suites, and again until the time is over."""
    directory = Path(tempfile.mkdtemp(prefix="conclave-conformance-"))
    outcome = Outcome(order)
    place = upstream.fetch(directory)
    demo = start_demo(directory / "demo", "--members", str(MEMBERS), "--keyrings", "2")
    try:
        _promote_another(demo)
        token = token_of(demo, 0)
        prepare(token)
        suites = {name: partial(suite, token) for name, suite in SUITES.items()}
        # It clears its keyring, and the other suites look for keys in theirs.
        suites[upstream.NAME] = partial(upstream.suite(place), token_of(demo, 1))
        end = time.monotonic() + order.seconds
        with _faults(demo, outcome):
            while time.monotonic() < end or not outcome.passed:
                for name, suite in suites.items():
                    _judge(name, suite, outcome, say)
    finally:
        stop_demo(demo)
    shutil.rmtree(directory, ignore_errors=True)
    return outcome


def report(outcome: Outcome, commit: str) -> list[str]:
    """Return the lines of the report."""
    order = outcome.order
    rows = [
        f"| {name} | {outcome.passed[name]} | {outcome.failed[name]} "
        f"| {outcome.longest_seconds.get(name, 0.0):.1f} |"
        for name in (*SUITES, upstream.NAME)
    ]
    return [
        "# Campaign: conformance",
        "",
        f"Suites of others against keyrings of a cluster of {MEMBERS} members, over and over,",
        "while the client's entry member fails, which is not the primary. They are in",
        "`tests/support/conformance.py`; the OASIS cases BL-M-1-32, EXT-M-1-32, AUTH-M-1-32 and",
        "CERT-M-1-32 are written from the profiles' text. python-pkcs11's tests come from its",
        "published source, with RSA keys of 2048 bits for 1024, and have a keyring of their own;",
        "they pass when exactly those fail that ask for what keyrings refuse:",
        "",
        *(f"- `{name}`: {reason}" for name, reason in upstream.EXPECTED.items()),
        "",
        "`--test-threads` sleeps 30 s by itself when it finds a thread still at work at its end.",
        "",
        f"- commit {commit}, seed {order.seed}, {order.seconds:.0f} s, a fault every "
        f"{order.pause_seconds:.0f} s on average",
        f"- faults: {sum(outcome.faults.values())} {dict(sorted(outcome.faults.items()))}",
        "",
        "| suite | passed | failed | longest, s |",
        "|---|---:|---:|---:|",
        *rows,
        "",
        *(f"```\n{complaint}\n```" for complaint in outcome.complaints),
        "",
    ]
