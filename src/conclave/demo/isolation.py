"""Cut a member's core address off from the other members with the kernel's routing rules.

Invariant: what is cut is the core port between the one member and the others, in both directions;
everything else is routed as before.  The table of local addresses is never out of the list: it is
listed behind our rules before it leaves the front, and is back in front before it leaves there.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from conclave.demo.errors import not_possible, step_failed

CUT: Final = 7301
"""Preference of our rules; the kernel asks rules in ascending order."""
LOCAL_BEHIND: Final = 7302
LOCAL_IN_FRONT: Final = 0
LOCK: Final = Path("/run/conclave-demo-isolation.lock")
COMMAND_SECONDS: Final = 10.0


def isolate(address: str, others: Sequence[str], core_port: int) -> None:
    """Cut an address off from others; nothing more happens when it is cut off already.

    Raises Conflict when this is not root or the program `ip` is missing.
    """
    program = _program()
    with _alone():
        present = _rules(program)
        if not _at(present, LOCAL_BEHIND, table="local"):
            _ip(program, "add", "pref", str(LOCAL_BEHIND), "lookup", "local")
        for words in _cuts(address, others, core_port):
            if not any(_words(rule) == words for rule in present):
                _ip(program, "add", "pref", str(CUT), *words, "blackhole")
        if _at(present, LOCAL_IN_FRONT, table="local"):
            _ip(program, "delete", "pref", str(LOCAL_IN_FRONT), "lookup", "local")


def heal(addresses: Sequence[str]) -> bool:
    """Join these addresses with all others again; tell whether one of them was cut off."""
    program = shutil.which("ip")
    if os.geteuid() != 0 or program is None:
        return False
    with _alone():
        cuts = _at(_rules(program), CUT)
        ours = [rule for rule in cuts if {rule.get("src"), rule.get("dst")} & set(addresses)]
        for rule in ours:
            _ip(program, "delete", "pref", str(CUT), *_words(rule), "blackhole")
        if len(ours) == len(cuts):
            _restore_order(program)
    return bool(ours)


def _restore_order(program: str) -> None:
    present = _rules(program)
    if not _at(present, LOCAL_IN_FRONT, table="local"):
        _ip(program, "add", "pref", str(LOCAL_IN_FRONT), "lookup", "local")
    if _at(present, LOCAL_BEHIND, table="local"):
        _ip(program, "delete", "pref", str(LOCAL_BEHIND), "lookup", "local")


def _cuts(address: str, others: Sequence[str], port: int) -> list[tuple[str, ...]]:
    """Return both directions of the connections that either side opened."""
    ways = [(address, other) for other in others] + [(other, address) for other in others]
    return [
        ("from", source, "to", target, "ipproto", "tcp", side, str(port))
        for source, target in ways
        for side in ("sport", "dport")
    ]


def _words(rule: dict[str, Any]) -> tuple[str, ...]:
    """Return a rule as it was given."""
    side = "sport" if "sport" in rule else "dport"
    ends = ("from", str(rule.get("src")), "to", str(rule.get("dst")))
    return (*ends, "ipproto", "tcp", side, str(rule.get(side)))


def _at(rules: list[dict[str, Any]], preference: int, **fields: str) -> list[dict[str, Any]]:
    return [
        rule
        for rule in rules
        if rule.get("priority") == preference and fields.items() <= rule.items()
    ]


def _rules(program: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(_run(program, "-j", "rule", "show"))
    return found


def _program() -> str:
    found = shutil.which("ip")
    if os.geteuid() != 0 or found is None:
        message = (
            "A member is cut off by the kernel's routing rules: that needs root and the program"
            " `ip` (package iproute2). Run this command with sudo, or try `hang`, which needs"
            " neither."
        )
        raise not_possible(message)
    return found


def _ip(program: str, *words: str) -> None:
    _run(program, "-4", "rule", *words)


def _run(program: str, *words: str) -> str:
    outcome = subprocess.run(
        [program, *words], check=False, capture_output=True, text=True, timeout=COMMAND_SECONDS
    )
    if outcome.returncode != 0:
        raise step_failed(f"`ip {' '.join(words)}` failed: {outcome.stderr.strip()}")
    return outcome.stdout


@contextmanager
def _alone() -> Iterator[None]:
    """Let one demonstration at a time change the list of rules."""
    descriptor = os.open(LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
