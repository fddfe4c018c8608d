"""Kill -9 at random moments under load: 0 acknowledged objects missing, 0 wrong signatures."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from campaigns.installation import (
    CLUSTER_PROCESS,
    LOGIN_PROCESS,
    WORKER,
    Installation,
    wait_until,
)

DAEMON_SHARE = 0.06
"""How often the daemon is the victim: its death costs a restart and an authorization."""


@dataclass
class Outcome:
    """What a campaign counted."""

    seed: int
    kills: Counter[str] = field(default_factory=Counter)
    acknowledged: int = 0
    signatures: int = 0
    wrong: int = 0
    missing: int = 0
    changed: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    longest_recovery_seconds: float = 0.0

    @property
    def clean(self) -> bool:
        """Return whether every promise held."""
        return not (self.wrong or self.missing or self.changed) and self.acknowledged > 0


class Load:
    """A load process and its receipts."""

    def __init__(self, installation: Installation, tag: str) -> None:
        keyring = installation.document["keyrings"][0]
        self._command = [
            *(sys.executable, "-m", "campaigns.load"),
            *(installation.document["client"]["module"], keyring["label"]),
        ]
        self._environment = {**installation.environment, "TOKEN_PIN": keyring["pin"]}
        self.created: dict[str, str] = {}
        self.signed = 0
        self.wrong = 0
        self.faults: Counter[str] = Counter()
        self._process = subprocess.Popen(
            [*self._command, tag],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=self._environment,
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            words = line.split()
            match words[0]:
                case "created":
                    self.created[words[1]] = words[2]
                case "signed":
                    self.signed += 1
                case "WRONG":
                    self.wrong += 1
                case "error":
                    self.faults[" ".join(words[1:3])] += 1

    def alive(self) -> bool:
        """Return whether the application still runs: it must survive everything."""
        return self._process.poll() is None

    def progress(self) -> Callable[[], bool]:
        """Return a condition: from now on one more key and one more signature, or its death."""
        signed, created = self.signed, len(self.created)

        def made() -> bool:
            going_on = self.signed > signed and len(self.created) > created
            return going_on or not self.alive()

        return made

    def finish(self) -> None:
        """Let it end by itself."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(120)
        self._reader.join(30)
        self._process.stdout.close()

    def verify(self) -> list[str]:
        """Check every receipt with a fresh process and return its complaints."""
        text = "".join(f"{label} {proof}\n" for label, proof in self.created.items())
        report = subprocess.run(
            [*self._command, "verify"],
            input=text,
            check=True,
            capture_output=True,
            text=True,
            env=self._environment,
            timeout=600,
        ).stdout
        assert f"verified {len(self.created)} of" in report
        return [line for line in report.splitlines() if not line.startswith("verified")]


def strike(installation: Installation, chance: random.Random) -> str:
    """Kill one process, see to it that it comes back, and return its kind."""
    if chance.random() < DAEMON_SHARE:
        os.kill(installation.daemon_pid, signal.SIGKILL)
        installation.restart_daemon()
        return "appliance daemon"
    kind = chance.choice([WORKER, WORKER, CLUSTER_PROCESS, CLUSTER_PROCESS, LOGIN_PROCESS])
    wait_until(f"a {kind} to kill", lambda: bool(installation.processes(kind)))
    os.kill(chance.choice(installation.processes(kind)), signal.SIGKILL)
    return {WORKER: "worker", CLUSTER_PROCESS: "cluster process"}.get(kind, "login process")


def run(directory: Path, *, kills: int, seed: int, progress: Callable[[str], None]) -> Outcome:
    """Kill `kills` processes, one after another, each after the last has been survived."""
    chance = random.Random(seed)
    outcome = Outcome(seed)
    installation = Installation(directory)
    load = Load(installation, f"kill-{seed}")
    try:
        wait_until("the load to begin", lambda: load.signed > 0 and bool(load.created))
        for number in range(1, kills + 1):
            wait_until("a random moment", _moment(chance))
            outcome.kills[strike(installation, chance)] += 1
            took = wait_until(f"work to go on after kill {number}", load.progress())
            if not load.alive():
                raise RuntimeError(f"the application died after kill {number}")
            outcome.longest_recovery_seconds = max(outcome.longest_recovery_seconds, took)
            if number % 10 == 0 or number == kills:
                progress(f"{number} kills, {len(load.created)} keys, {load.signed} signatures")
        load.finish()
        _count(outcome, load)
    finally:
        if load.alive():
            load.finish()
        installation.stop()
    return outcome


def _moment(chance: random.Random) -> Callable[[], bool]:
    remaining = chance.randrange(1, 30)

    def passed() -> bool:
        nonlocal remaining
        remaining -= 1
        return remaining <= 0

    return passed


def _count(outcome: Outcome, load: Load) -> None:
    complaints = load.verify()
    outcome.acknowledged = len(load.created)
    outcome.signatures = load.signed
    outcome.wrong = load.wrong
    outcome.missing = sum(line.startswith("missing") for line in complaints)
    outcome.changed = sum(line.startswith("changed") for line in complaints)
    outcome.faults = load.faults
