"""Start and stop a real Conclave, as `conclave demo` sets it up."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Demo:
    """A running installation, as `conclave demo --json` describes it."""

    directory: Path
    document: dict[str, Any]

    @property
    def module(self) -> str:
        """Return the path of the PKCS#11 module."""
        return str(self.document["client"]["module"])

    @property
    def environment(self) -> dict[str, str]:
        """Return this process's environment with what the client needs."""
        return {**os.environ, **self.document["client"]["environment"]}

    @property
    def member(self) -> dict[str, Any]:
        """Return the only member."""
        member: dict[str, Any] = self.document["members"][0]
        return member

    def keyring(self, index: int) -> dict[str, Any]:
        """Return a keyring: id, label, slot, soPin, pin."""
        keyring: dict[str, Any] = self.document["keyrings"][index]
        return keyring


def run_demo(*arguments: str, timeout: float = 200) -> subprocess.CompletedProcess[str]:
    """Run `conclave demo` and return what it printed."""
    return subprocess.run(
        [sys.executable, "-m", "conclave.cli", "demo", *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def start_demo(directory: Path, *options: str) -> Demo:
    """Start a detached installation or fail with what it said."""
    document = directory.parent / f"{directory.name}-{uuid.uuid4().hex}.json"
    outcome = run_demo(str(directory), "--detach", "--low-cost", "--json", str(document), *options)
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    return Demo(directory, json.loads(document.read_text()))


def stop_demo(demo: Demo) -> None:
    """Stop an installation or fail with what it said."""
    outcome = run_demo("--stop", str(demo.directory))
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
