"""Runs native/pkcs11/tests/net/drive_calls.c: one command in, one line of JSON out."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from tests.native.certificates import SERVER_NAME

NATIVE = Path(__file__).resolve().parents[2] / "native"


def build(sanitize: str = "", target: str = "drivers") -> Path:
    """Build the drivers, or what `target` names, with these sanitizers; return where they are."""
    command = ["nice", "make", "-s", "-C", str(NATIVE), f"SANITIZE={sanitize}", target]
    # Tests run side by side: one of them builds, the others wait and find it built.
    with (NATIVE / "Makefile").open("rb") as makefile:
        fcntl.flock(makefile, fcntl.LOCK_EX)
        subprocess.run(command, check=True, timeout=280)
    return directory_of(sanitize) / "net"


def directory_of(sanitize: str) -> Path:
    """Return where what is built with these sanitizers lies."""
    return NATIVE / "build" / (sanitize.replace(",", "-") or "plain")


def write_configuration(
    directory: Path,
    port: int,
    *,
    name: str | None = SERVER_NAME,
    receive_timeout_ms: int = 20000,
    files: dict[str, Path] | None = None,
    direct: bool | None = None,
    host: str = "127.0.0.1",
) -> None:
    """Write the Chrystoki.conf of one cluster on this host whose files lie in `directory`."""
    paths = {
        "ClientCert": directory / "client.pem",
        "ClientKey": directory / "client.key",
        "CAFile": directory / "authority.pem",
    } | (files or {})
    lines = [f"    LNHServer{key}00 = {path};" for key, path in paths.items()]
    if name is not None:
        lines.append(f"    LNHServerCN00 = {name};")
    if direct is not None:
        lines.append(f"    LNHDirect = {int(direct)};")
    text = "\n".join(
        [
            "LunaSA Client = {",
            f"    ReceiveTimeout = {receive_timeout_ms};",
            f"    LNHServer00 = {host}:{port};",
            *lines,
            "}",
        ]
    )
    (directory / "Chrystoki.conf").write_text(text + "\n")


@dataclass
class Driver:
    """One process with the module's network side in it."""

    program: Path
    configuration: Path
    call_time_ms: int = 30000
    environment: dict[str, str] = field(default_factory=dict)

    def __enter__(self) -> Self:
        environment = os.environ | {
            "ChrystokiConfigurationPath": str(self.configuration),
            "CV_CALL_TIME_MS": str(self.call_time_ms),
            "CONCLAVE_PKCS11_TRACE": str(self.configuration / "trace.log"),
            "TSAN_OPTIONS": "halt_on_error=1",
        }
        self.process = subprocess.Popen(
            [self.program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment | self.environment,
            start_new_session=True,
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is not None:
            self.kill()
        try:
            _, complaints = self.process.communicate(timeout=90)
        except subprocess.TimeoutExpired:
            self.kill()
            self.process.communicate()
            raise
        assert kind is not None or (self.process.returncode == 0 and complaints == ""), complaints

    def kill(self) -> None:
        """Kill the process and its children, which hold its pipes open."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)

    def begin(self, command: str) -> None:
        """Send a command; `end` fetches what it says."""
        assert self.process.stdin is not None
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()

    def end(self) -> dict[str, Any]:
        """Return the answer of the command that was begun."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            _, complaints = self.process.communicate(timeout=90)
            raise AssertionError(f"the driver ended with {self.process.returncode}: {complaints}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def do(self, command: str) -> dict[str, Any]:
        """Send a command and return what it says."""
        self.begin(command)
        return self.end()

    def call(self, operation: int, *args: object) -> dict[str, Any]:
        """Make one call and return value, decoded result and milliseconds."""
        answer = self.do(f"call {operation} {msgspec.msgpack.encode(list(args)).hex()}")
        answer["result"] = msgspec.msgpack.decode(bytes.fromhex(answer["result"]))
        return answer
