"""Start, find and stop the appliance daemon of a demonstration."""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import select
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from conclave.demo import processes
from conclave.demo.errors import step_failed, too_slow
from conclave.demo.options import MEMBER_PREFIX

READY_SECONDS: Final = 60.0
STOP_SECONDS: Final = 40.0
POLL_SECONDS: Final = 0.02
LOG_NAME: Final = "appliance.log"
POSTGRES: Final = "postgres"
_PR_SET_PDEATHSIG: Final = 1
_MODULES: Final = {
    "conclave.service.login_process": "login",
    "conclave.cluster.process": "cluster",
    "conclave.service.worker": "worker",
}


@dataclass(frozen=True, slots=True)
class Daemon:
    """A running daemon that this process started."""

    process: subprocess.Popen[bytes]
    state_dir: Path


def start_daemon(state_dir: Path, *, outlives_us: bool) -> Daemon:
    """Start the appliance and wait until it serves; raise with the end of its log when it ends.

    A daemon that shall not outlive this process is killed by the kernel when this process dies.
    """
    log = log_file(state_dir)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "conclave.cli", "appliance", "run", "--state", str(state_dir)],
            stdin=subprocess.DEVNULL,
            stdout=descriptor,
            stderr=descriptor,
            # A terminal's Ctrl-C is for the demonstration, which then stops the daemon in order.
            start_new_session=True,
            preexec_fn=None if outlives_us else _die_with_parent,  # noqa: PLW1509 - one thread
        )
    finally:
        os.close(descriptor)
    daemon = Daemon(process, state_dir)
    try:
        _wait_until_ready(daemon)
    except BaseException:
        stop_daemon(daemon)
        raise
    return daemon


def _wait_until_ready(daemon: Daemon) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        if daemon.process.poll() is not None:
            message = (
                f"The appliance ended with status {daemon.process.returncode} while it started;"
                f" its last words: {last_words(daemon.state_dir)}"
            )
            raise step_failed(message)
        if ready_pid(daemon.state_dir) == daemon.process.pid:
            return
        time.sleep(POLL_SECONDS)
    raise too_slow(f"The appliance did not serve within {READY_SECONDS:.0f} seconds.")


def stop_daemon(daemon: Daemon) -> None:
    """Stop a daemon that this process started, and wait for its end."""
    if daemon.process.poll() is not None:
        return
    processes.wake_family(daemon.process.pid)
    daemon.process.terminate()
    try:
        daemon.process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        daemon.process.kill()
        daemon.process.wait()


def stop_running(state_dir: Path) -> bool:
    """Stop the daemon that runs on a state directory; tell whether there was one."""
    pid = running_pid(state_dir)
    if pid is None:
        return False
    processes.wake_family(pid)
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return False
    try:
        # The descriptor pins the process; the lock, seen again, proves that it is still the daemon.
        if running_pid(state_dir) != pid:
            return False
        signal.pidfd_send_signal(handle, signal.SIGTERM)
        if not _ended(handle, STOP_SECONDS):
            signal.pidfd_send_signal(handle, signal.SIGKILL)
            _ended(handle, STOP_SECONDS)
    except ProcessLookupError:
        pass
    finally:
        os.close(handle)
    return True


def _ended(handle: int, seconds: float) -> bool:
    poll = select.poll()
    poll.register(handle, select.POLLIN)
    return bool(poll.poll(seconds * 1000))


def running_pid(state_dir: Path) -> int | None:
    """Return the daemon that holds the state directory's lock, or None."""
    lock = state_dir / "run" / "daemon.lock"
    try:
        descriptor = os.open(lock, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return ready_pid(state_dir)
    else:
        return None
    finally:
        os.close(descriptor)


def ready_pid(state_dir: Path) -> int | None:
    """Return the process id in ready.json, or None as long as nothing serves."""
    facts = ready_facts(state_dir)
    return int(facts["pid"]) if facts else None


def ready_facts(state_dir: Path) -> dict[str, int | str]:
    """Return what the daemon says of itself once it serves, or nothing."""
    try:
        facts: dict[str, int | str] = json.loads((state_dir / "run" / "ready.json").read_bytes())
    except (OSError, ValueError):
        return {}
    return facts


def process_ids(daemon_pid: int) -> dict[str, int]:
    """Return the daemon and its children by name; workers are numbered as they were started."""
    found = {"daemon": daemon_pid}
    workers = 0
    children = Path(f"/proc/{daemon_pid}/task/{daemon_pid}/children").read_text().split()
    for child in sorted(map(int, children)):
        try:
            words = Path(f"/proc/{child}/cmdline").read_bytes().decode().split("\0")
        except (OSError, ProcessLookupError):
            continue
        name = next((_MODULES[word] for word in words if word in _MODULES), None)
        if name == "worker":
            found[f"worker-{workers}"] = child
            workers += 1
        elif name is not None:
            found[name] = child
    postgres = processes.named(daemon_pid, POSTGRES)
    return found if not postgres else {**found, POSTGRES: postgres[0]}


def log_file(state_dir: Path) -> Path:
    """Return where the daemon's output goes: appliance.log, appliance-2.log, ..."""
    number = state_dir.name.removeprefix(MEMBER_PREFIX)
    return state_dir.with_name(LOG_NAME if number == "1" else f"appliance-{number}.log")


def last_words(state_dir: Path) -> str:
    """Return the end of the daemon's output."""
    try:
        lines = log_file(state_dir).read_text(errors="replace").strip().splitlines()
    except OSError:
        return "none"
    return " / ".join(lines[-3:]) or "none"


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
