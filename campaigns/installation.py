"""An installation that a campaign may break: its processes, and how to bring it back."""

from __future__ import annotations

import json
import os
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

DAEMON = "conclave.cli appliance run"
CLUSTER_PROCESS = "conclave.cluster.process"
LOGIN_PROCESS = "conclave.service.login_process"
WORKER = "conclave.service.worker"
MEDIA_TYPE = "application/vnd.safenetinc.lunasa+json;version="


def wait_until(what: str, condition: Callable[[], bool], seconds: float = 60) -> float:
    """Wait for a condition and return how long it took; TimeoutError names `what`."""
    begin = time.monotonic()
    while not condition():
        if time.monotonic() - begin > seconds:
            raise TimeoutError(f"waited {seconds:g} s for {what}")
        time.sleep(0.01)
    return time.monotonic() - begin


def command_line(pid: int) -> str:
    """Return a process's command line with blanks, or nothing if it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def children(pid: int) -> list[int]:
    """Return the direct children of a process."""
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except OSError:
        return []
    return [int(word) for word in text.split()]


class Installation:
    """A detached demo of its own."""

    def __init__(self, directory: Path, *options: str) -> None:
        self.directory = directory
        document = directory.with_suffix(".json")
        subprocess.run(
            [
                *(sys.executable, "-m", "conclave.cli", "demo", str(directory)),
                *("--detach", "--json", str(document), "--max-objects", "0", *options),
            ],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        self.document: dict[str, Any] = json.loads(document.read_text())
        self.daemon_pid = int(self.document["members"][0]["pids"]["daemon"])
        self._daemon: subprocess.Popen[bytes] | None = None

    @property
    def environment(self) -> dict[str, str]:
        """Return the environment of a client."""
        return {**os.environ, **self.document["client"]["environment"]}

    def processes(self, kind: str) -> list[int]:
        """Return the pids of the daemon's children that run `kind`."""
        return [pid for pid in children(self.daemon_pid) if kind in command_line(pid)]

    def rest(self) -> httpx.Client:
        """Return a client of the REST API, logged in as admin for every call."""
        member = self.document["members"][0]
        return httpx.Client(
            base_url=f"https://{member['address']}:{member['restPort']}",
            auth=("admin", self.document["adminPassword"]),
            verify=ssl.create_default_context(cafile=self.document["caFile"]),
            headers={"Content-Type": MEDIA_TYPE, "Accept": MEDIA_TYPE},
            timeout=30,
        )

    def restart_daemon(self) -> None:
        """Start the daemon again after its death, start the service, authorize the member."""
        state = self.document["members"][0].get("stateDir", str(self.directory))
        self._daemon = subprocess.Popen(
            [sys.executable, "-m", "conclave.cli", "appliance", "run", "--state", state],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.daemon_pid = self._daemon.pid
        with self.rest() as rest:
            wait_until("REST to answer", lambda: self._answers(rest))
            if not self._running(rest):
                rest.post("/api/lunasa/services/cluster/actions/start").raise_for_status()
            wait_until("the cluster service to run", lambda: self._running(rest))
            self.authorize(rest)

    def authorize(self, rest: httpx.Client) -> None:
        """Authorize the member with the CO's password."""
        cluster, member = self.document["clusterId"], self.document["members"][0]["memberId"]
        rest.put(
            f"/api/clusters/{cluster}/members/{member}",
            json={
                "action": "authorize",
                "authentication": [
                    {
                        "type": "CO",
                        "password": self.document["coPassword"],
                        "partitionLabel": self.document["partitionLabel"],
                    }
                ],
            },
        ).raise_for_status()

    @staticmethod
    def _answers(rest: httpx.Client) -> bool:
        try:
            return rest.get("/api/lunasa/services/cluster").is_success
        except httpx.TransportError:
            return False

    @staticmethod
    def _running(rest: httpx.Client) -> bool:
        return bool(rest.get("/api/lunasa/services/cluster").json()["status"] == "running")

    def stop(self) -> None:
        """End every process of the installation."""
        if self._daemon is not None:
            self._daemon.terminate()
            self._daemon.wait(30)
        else:
            os.kill(self.daemon_pid, signal.SIGTERM)
            wait_until("the daemon to end", lambda: not command_line(self.daemon_pid))
