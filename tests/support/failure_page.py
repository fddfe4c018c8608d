"""Make docs/failures.md: `python -m tests.support.failure_page > docs/failures.md`.

The rows come from the table in native/pkcs11/src/call.c, which decides what an application sees,
and from the operations in docs/protocol.md; what a fault looks like from outside is said here.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Final

REPOSITORY: Final = Path(__file__).parents[2]
TABLE: Final = REPOSITORY / "native" / "pkcs11" / "src" / "call.c"
PROTOCOL: Final = REPOSITORY / "docs" / "protocol.md"

CAUSES: Final = {
    "STOPPED": "C_Finalize by another thread; a forked child before its C_Initialize",
    "MEMORY": "the host has no memory left",
    "CREDENTIALS": "certificate, key or CA file missing or unreadable",
    "UNREACHABLE": "every member's host or process is gone: refused, no route, deaf",
    "IDENTITY": "somebody else's certificate, or one of a CA too many deletions ago",
    "REFUSED": "the client is unknown, revoked, or registered too many deletions ago",
    "PROTOCOL": "what came twice is not the protocol",
    "BROKEN": "worker or member killed, connection reset, until the deadline",
    "TIMEOUT": "member stopped, link half open, answers that trickle, overload, until the deadline",
    "STALE": "the members that can be reached live in an epoch that is over",
    "BEHIND": "no member has the changes that this process has seen, for 15 s",
    "NO_OTHER": "no other member is left to ask",
}

_HEAD: Final = """# Failures of members, links and workers

What an application sees when a call could not be answered, made from the table in
`native/pkcs11/src/call.c`. Until its deadline of 30 s (or `ReceiveTimeout`, if that is longer) a
call is repeated by the module itself, on a new connection and at another member; what changes
something carries a key by which it is done once. So each row is about what is still so at the end.
Refusals by a worker are answers: [errors.md](errors.md) has those. None of these needs C_Finalize:
the next call connects again.

While no member was ever reached nothing was sent, so nothing was done. After the values of the
last column it is unknown whether a change was done.

| fault | what may have happened | CKR, no member ever reached | CKR, reached before |
|---|---|---|---|
"""
_RETRY: Final = """
## What may be called again

After such a value an application may make the same call again, if its operation is of the first
row. Otherwise it looks first (C_FindObjects, C_GetAttributeValue), or accepts that an object may be
there twice: a new call has a new key. A login may be made again; it may count as another attempt.

| the module repeats it | operations of the protocol |
|---|---|
"""


def faults() -> list[tuple[str, str, str]]:
    """Return the rows of the code's table: fault, value when never reached, value when reached."""
    text = TABLE.read_text(encoding="utf-8")
    row = r"\[CV_FAULT_(\w+)\] = \{(?:\s*\"[^\"]*\")+,\s*(CKR_\w+),\s*(CKR_\w+)\s*\}"
    return [found for found in re.findall(row, text) if found[0] != "NONE"]


def retries() -> dict[str, list[str]]:
    """Return the operations of the protocol by the word in their last column."""
    rows = re.findall(
        r"^\| \d+ \| (\w+) \|.*\| ([^|]+) \|$", PROTOCOL.read_text(encoding="utf-8"), re.MULTILINE
    )
    words: dict[str, list[str]] = {}
    for operation, word in rows:
        words.setdefault(word, []).append(operation)
    return words


def failure_page() -> str:
    """Return the page."""
    lines = [
        f"| {name} | {CAUSES[name]} | {never} | {reached} |" for name, never, reached in faults()
    ]
    again = [f"| {word} | {', '.join(names)} |" for word, names in retries().items()]
    return _HEAD + "\n".join(lines) + "\n" + _RETRY + "\n".join(again) + "\n"


if __name__ == "__main__":
    sys.stdout.write(failure_page())
