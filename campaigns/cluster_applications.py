"""The applications of a cluster campaign: processes that sign through the PKCS#11 module."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from campaigns.cluster_history import History, moment
from campaigns.cluster_house import CRYPTO_PORT
from tests.native.driver import write_configuration
from tests.support.worker_bench import Identity

MODULE: Final = Path(__file__).resolve().parents[1] / "src/conclave/_native/libconclave_pkcs11.so"
READY_SECONDS: Final = 60.0
END_SECONDS: Final = 150.0


def write_client(directory: Path, identity: Identity, entry: str, *, direct: bool = True) -> None:
    """Write the files of a client whose entry member has this address."""
    directory.mkdir()
    (directory / "client.pem").write_bytes(identity.certificate_pem)
    (directory / "client.key").write_bytes(identity.key_pem)
    (directory / "authority.pem").write_text(identity.ca_pem)
    write_configuration(directory, CRYPTO_PORT, name="lnh.test", direct=direct, host=entry)


@dataclass
class Application:
    """One process; `way` is `one` (for all signatures) or `each` (a process per signature)."""

    name: str
    directory: Path
    history: History
    way: str = "one"
    signed: list[tuple[float, float]] = field(default_factory=list)
    """When each signature that proved right was begun and made."""

    async def start(self, token_label: str, pin: str) -> None:
        """Start it and wait until it signs."""
        command = (sys.executable, "-m", "campaigns.cluster_signer", str(MODULE), token_label)
        environment = {
            "ChrystokiConfigurationPath": str(self.directory),
            "TOKEN_PIN": pin,
            "CONCLAVE_PKCS11_TRACE": str(self.directory / "trace.log"),
        }
        self._process = await asyncio.create_subprocess_exec(
            *command,
            self.name.replace(" ", "-"),
            self.way,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | environment,
        )
        self._ready = asyncio.Event()
        self._reader = asyncio.create_task(self._read())
        async with asyncio.timeout(READY_SECONDS):
            await self._ready.wait()

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            self.take(line.decode().split(maxsplit=2))

    def take(self, words: list[str]) -> None:
        """Take one receipt."""
        match words:
            case ["ready"]:
                self._ready.set()
            case ["signed", begun, ended]:
                self.signed.append((float(begun), float(ended)))
                self.history.counts[f"signatures of {self.name}"] += 1
            case ["WRONG"]:
                self.history.complain("wrong signature", f"{self.name}, {moment()}")
            case ["error", *rest]:
                said = " ".join(rest).strip()
                self.history.complain("failed signature", f"{self.name}: {said}, {moment()}")

    async def stop(self) -> None:
        """Let it end by itself; it must have lived until now."""
        assert self._process.stdin is not None
        if self._process.returncode is not None:
            self.history.complain("application", f"{self.name} has died, {moment()}")
        self._process.stdin.close()
        try:
            async with asyncio.timeout(END_SECONDS):
                await self._reader
                await self._process.wait()
        except TimeoutError:
            self.history.complain("application", f"{self.name} does not end, {moment()}")
            self._process.kill()

    def longest_seconds(self) -> float:
        """Return how long the slowest signature took."""
        return max((ended - begun for begun, ended in self.signed), default=0.0)
