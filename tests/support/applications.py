"""Applications that sign in a loop through the module, and what they saw.

Each signature is checked outside of Conclave.  An application goes on after a failure, as a server
does, and tells all of them at its end.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import subprocess
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from conclave.client.module_path import module_path
from tests.native.waiting import wait_until
from tests.support.appliances import KEY_LABEL, Registered, check

CALL_SECONDS: Final = 60.0
PROGRESS_SECONDS: Final = 60.0
START_SECONDS: Final = 30.0
BENCH_SECONDS: Final = 3600
"""At most: it is told to end."""
PAUSE_SECONDS: Final = 0.05
TRACE_LINES: Final = 8
_CONFIGURATION: Final = """\
openssl_conf = init
[init]
engines = engines
[engines]
pkcs11 = pkcs11
[pkcs11]
engine_id = pkcs11
MODULE_PATH = {module}
init = 0
[req]
distinguished_name = name
[name]
"""


class SigningFailed(Exception):
    """An application got no signature, and said why."""


@dataclass
class Seen:
    """What one application saw."""

    made: int = 0
    failures: list[str] = field(default_factory=list)
    wrong: int = 0
    longest_stall_seconds: float = 0.0
    """The longest time from one signature to the next."""


class Application(ABC):
    """Signs in a thread until it is told to end."""

    name: str

    def __init__(self, client: Registered, directory: Path) -> None:
        directory.mkdir()
        self.directory = directory
        self.client = client
        self.seen = Seen()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    @abstractmethod
    def sign(self, data: bytes) -> None:
        """Make one signature and check it; raises SigningFailed or InvalidSignature."""

    def environment(self) -> dict[str, str]:
        """Return the environment of a program that is to find the cluster."""
        pin, trace = self.client.keyring.pin, str(self.trace)
        words = {"TOKEN_PIN": pin, "CONCLAVE_PKCS11_TRACE": trace}
        return {**os.environ, **self.client.environment, **words}

    @property
    def trace(self) -> Path:
        """Return the file to which the module appends what it meets."""
        return self.directory / "trace"

    def run(self, *command: str, environment: Mapping[str, str] | None = None) -> None:
        """Run a program to its end; raises SigningFailed with its own words."""
        try:
            outcome = subprocess.run(
                command,
                check=False,
                capture_output=True,
                text=True,
                env={**self.environment(), **(environment or {})},
                timeout=CALL_SECONDS,
            )
        except subprocess.TimeoutExpired as cause:
            message = f"{command[0]} did not end in {CALL_SECONDS:.0f} s"
            raise SigningFailed(message) from cause
        if outcome.returncode != 0:
            met = self.trace.read_text().splitlines()[-TRACE_LINES:] if self.trace.exists() else []
            told = (outcome.stderr + outcome.stdout).splitlines()
            raise SigningFailed(" / ".join(told + met))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._ended.set()
        self._thread.join(CALL_SECONDS)

    def _run(self) -> None:
        last = time.monotonic()
        while not self._ended.is_set():
            try:
                self.sign(f"{self.name} {self.seen.made}".encode())
            except SigningFailed as failure:
                self.seen.failures.append(str(failure))
                self._ended.wait(PAUSE_SECONDS)
                continue
            except InvalidSignature:
                self.seen.wrong += 1
                continue
            now = time.monotonic()
            self.seen.longest_stall_seconds = max(self.seen.longest_stall_seconds, now - last)
            last = now
            self.seen.made += 1

    def makes_more(self, times: int) -> None:
        """Wait until it made so many signatures more."""
        goal = self.seen.made + times
        assert wait_until(lambda: self.seen.made >= goal, PROGRESS_SECONDS), self.seen


class ToolPerSignature(Application):
    """pkcs11-tool, a process for each signature."""

    name = "pkcs11-tool"

    def sign(self, data: bytes) -> None:
        """Let a new process connect, log in and sign."""
        message, signature = self.directory / "message", self.directory / "signature"
        message.write_bytes(data)
        self.run(
            *("pkcs11-tool", "--module", str(module_path())),
            *("--token-label", self.client.keyring.label, "--login", "--pin", "env:TOKEN_PIN"),
            *("--sign", "--mechanism", "ECDSA-SHA256", "--label", KEY_LABEL),
            *("--input-file", str(message), "--output-file", str(signature)),
        )
        check(self.client.public, signature.read_bytes(), data)


class EngineApplication(Application):
    """What both applications of OpenSSL's engine have in common."""

    def engine(self) -> dict[str, str]:
        """Return the environment in which OpenSSL has the engine with the module."""
        configuration = self.directory / "openssl.cnf"
        configuration.write_text(_CONFIGURATION.format(module=module_path()))
        return {"OPENSSL_CONF": str(configuration)}

    @property
    def uri(self) -> str:
        """Return how the engine names the key."""
        keyring = self.client.keyring
        name = f"token={keyring.label};object={KEY_LABEL};type=private"
        return f"pkcs11:{name};pin-value={keyring.pin}"


class EnginePerSignature(EngineApplication):
    """`openssl dgst -engine pkcs11`, a process for each signature."""

    name = "openssl-engine"

    def sign(self, data: bytes) -> None:
        """Let a new process load the engine, log in and sign."""
        message, signature = self.directory / "message", self.directory / "signature"
        message.write_bytes(data)
        self.run(
            *("openssl", "dgst", "-sha256", "-engine", "pkcs11", "-keyform", "engine"),
            *("-sign", self.uri, "-out", str(signature), str(message)),
            environment=self.engine(),
        )
        self.client.public.verify(signature.read_bytes(), data, ec.ECDSA(hashes.SHA256()))


class TlsServer(EngineApplication):
    """`openssl s_server` with the key in the keyring: one process, a signature a handshake."""

    name = "openssl-s_server"

    def __enter__(self) -> Self:
        certificate, log = self.directory / "certificate.pem", self.directory / "log"
        key = ("-engine", "pkcs11", "-keyform", "engine", "-key", self.uri)
        self.run(
            *("openssl", "req", "-new", "-x509", *key, "-subj", "/CN=signer", "-days", "2"),
            *("-out", str(certificate)),
            environment=self.engine(),
        )
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._context.check_hostname = False
        self._context.load_verify_locations(certificate)
        serve = ["openssl", "s_server", *key, "-cert", str(certificate), "-www"]
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [*serve, "-accept", "127.0.0.1:0"],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**self.environment(), **self.engine()},
            )
        try:
            assert wait_until(lambda: bool(_accepting(log)), START_SECONDS), log.read_text()
        except BaseException:
            self._process.kill()
            raise
        self._address = _accepting(log)
        return super().__enter__()

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        self._process.kill()
        self._process.wait()

    def sign(self, data: bytes) -> None:
        """Make a new connection, whose handshake checks what the server signs."""
        host, _, port = self._address.rpartition(":")
        try:
            with (
                socket.create_connection((host, int(port)), CALL_SECONDS) as connection,
                self._context.wrap_socket(connection) as stream,
            ):
                stream.sendall(data)
        except ssl.SSLCertVerificationError as refused:
            raise InvalidSignature from refused
        except OSError as failure:
            raise SigningFailed(str(failure)) from failure


def _accepting(log: Path) -> str:
    """Return the address that a server has written that it accepts connections at."""
    lines = log.read_text(errors="replace").splitlines()
    return next((line.partition(" ")[2] for line in lines if line.startswith("ACCEPT ")), "")


PER_SIGNATURE: Final = (ToolPerSignature, EnginePerSignature)
ALL: Final = (*PER_SIGNATURE, TlsServer)


class LongBench:
    """`p11bench --keep-going`: one process for all signatures."""

    name = "p11bench"

    def __init__(
        self,
        program: Path,
        client: Registered,
        *,
        operation: str = "p256-sign",
        threads: int = 1,
    ) -> None:
        words = ["--token-label", client.keyring.label, "--pin-env", "TOKEN_PIN", "--keep-going"]
        words += ["--op", operation, "--threads", str(threads), "--seconds", str(BENCH_SECONDS)]
        pin = {"TOKEN_PIN": client.keyring.pin}
        self._process = subprocess.Popen(
            [str(program), "--module", str(module_path()), *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **client.environment, **pin},
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._process.kill()
        self._process.communicate()

    def end(self) -> tuple[Seen, dict[str, Any]]:
        """Let it end and report."""
        self._process.send_signal(signal.SIGINT)
        told, complaints = self._process.communicate(timeout=CALL_SECONDS)
        assert told, complaints
        report: dict[str, Any] = json.loads(told)
        failures = [report["last_error"]] * report["errors"]
        seen = Seen(
            made=report["ops"],
            failures=failures,
            wrong=report["wrong_results"],
            longest_stall_seconds=report["max_us"] / 1e6,
        )
        return seen, report
