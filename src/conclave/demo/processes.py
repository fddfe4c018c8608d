"""The processes of one member: find them all, and stop, wake or kill them together.

Invariant: a signal reaches only processes that were found below the member's daemon, each held by a
descriptor from before it was looked at again, so that a number given to another process meanwhile
is never hit.
"""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

END_SECONDS: Final = 10.0
POLL_SECONDS: Final = 0.01


def family(root: int) -> list[int]:
    """Return a process and all its descendants, parents first; nothing when it is gone."""
    found = [root] if _parent(root) is not None else []
    for pid in found:
        found += [child for child in _children(pid) if child not in found]
    return found


def named(root: int, name: str) -> list[int]:
    """Return the descendants of a process that run a program of this name."""
    return [pid for pid in family(root)[1:] if _name(pid) == name]


def is_stopped(pid: int) -> bool:
    """Tell whether a process is held by SIGSTOP."""
    return _state(pid) == "T"


def stop_family(root: int) -> list[int]:
    """Hold a process and all below it; the parents first, so that none replaces a held child.

    Returns those that did not stand still before, once all do, or after ten seconds.
    """
    held: list[int] = []
    deadline = time.monotonic() + END_SECONDS
    while time.monotonic() < deadline:
        moving = [pid for pid in family(root) if _state(pid) not in {"T", "Z", ""}]
        if not moving:
            break
        held += [pid for pid in send(moving, signal.SIGSTOP) if pid not in held]
        time.sleep(POLL_SECONDS)
    return held


def wake_family(root: int) -> list[int]:
    """Let everything go on that is held; the children first, so that no parent misses them."""
    return send([pid for pid in reversed(family(root)) if is_stopped(pid)], signal.SIGCONT)


def kill_family(root: int) -> list[int]:
    """Kill a process and all below it, the parents first; return when all are gone."""
    pids = family(root)
    with _held(pids) as handles:
        for handle in handles.values():
            _send(handle, signal.SIGKILL)
        _wait(handles)
    return list(handles)


def send(pids: list[int], number: signal.Signals) -> list[int]:
    """Send a signal to each process that is still there; return those that got it."""
    with _held(pids) as handles:
        return [pid for pid, handle in handles.items() if _send(handle, number)]


@contextmanager
def _held(pids: list[int]) -> Iterator[dict[int, int]]:
    """Yield descriptors of those processes that are still what they were when they were found."""
    handles: dict[int, int] = {}
    try:
        for pid in pids:
            before = _parent(pid)
            try:
                handle = os.pidfd_open(pid)
            except ProcessLookupError:
                continue
            handles[pid] = handle
            if before is None or _parent(pid) != before:
                os.close(handles.pop(pid))
        yield handles
    finally:
        for handle in handles.values():
            os.close(handle)


def _send(handle: int, number: signal.Signals) -> bool:
    try:
        signal.pidfd_send_signal(handle, number)
    except ProcessLookupError:
        return False
    return True


def _wait(handles: dict[int, int]) -> None:
    deadline = time.monotonic() + END_SECONDS
    for handle in handles.values():
        poll = select.poll()
        poll.register(handle, select.POLLIN)
        poll.poll(max(0.0, deadline - time.monotonic()) * 1000)


def _children(pid: int) -> list[int]:
    found: list[int] = []
    try:
        # A child is listed with the thread that started it.
        for task in Path(f"/proc/{pid}/task").iterdir():
            found += map(int, (task / "children").read_text().split())
    except OSError:
        pass
    return sorted(found)


def _stat(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _state(pid: int) -> str:
    return (_stat(pid) or [""])[0]


def _parent(pid: int) -> int | None:
    fields = _stat(pid)
    return int(fields[1]) if fields else None


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""
