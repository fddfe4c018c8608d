"""Fuzz what reads bytes of others: both sides of the wire, and the readers of administration."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
NATIVE = REPOSITORY / "native"
MODULE_DECODERS = ("frames", "calls", "wire", "config")
"""What the PKCS#11 module is given: a worker's frames, an application's calls of every function,
the values in frames, Chrystoki.conf."""
INPUT_READERS = ("media-types", "uploads", "packages", "command-lines")
"""What administrators send: headers, files in multipart, secure packages."""

_EXECUTED = re.compile(r"stat::number_of_executed_units:\s+(\d+)")
_SERVER_INPUTS = re.compile(r": (\d+) inputs in ")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one fuzzer did: inputs tried, and its words if it found something."""

    name: str
    inputs: int
    finding: str

    @property
    def clean(self) -> bool:
        """Return whether the fuzzer worked and found nothing."""
        return self.inputs > 0 and not self.finding


class Fuzzer:
    """One fuzzer as a process that ends by itself."""

    def __init__(self, name: str, command: list[str], inputs: re.Pattern[str], cwd: Path) -> None:
        self.name = name
        self._inputs = inputs
        self._process = subprocess.Popen(
            command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def outcome(self, seconds: float) -> Outcome:
        """Wait for the end, a minute longer than it was told to run, and judge it."""
        try:
            said, _ = self._process.communicate(timeout=seconds + 60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            said, _ = self._process.communicate()
            said += "\nit did not end in time"
        counted = self._inputs.search(said)
        failed = self._process.returncode != 0
        return Outcome(self.name, int(counted[1]) if counted else 0, said[-4000:] if failed else "")


def build() -> None:
    """Build the module's fuzzers; they need clang and its run-time library."""
    subprocess.run(["make", "-s", "-C", str(NATIVE), "fuzz"], check=True)


def server_fuzzer(seconds: int, seed: int, directory: Path) -> Fuzzer:
    """Start the fuzzer of the worker's decoders beside a real member."""
    program = str(REPOSITORY / "tools" / "fuzz_frames.py")
    command = [sys.executable, program, "--seconds", str(seconds), "--seed", str(seed)]
    return Fuzzer("worker", command, _SERVER_INPUTS, directory)


def input_fuzzer(reader: str, seconds: int, seed: int, directory: Path) -> Fuzzer:
    """Start the fuzzer of a reader of what administrators send."""
    program = str(REPOSITORY / "tools" / "fuzz_inputs.py")
    command = [sys.executable, program, reader, "--seconds", str(seconds), "--seed", str(seed)]
    return Fuzzer(reader, command, _SERVER_INPUTS, directory)


def module_fuzzer(decoder: str, seconds: int, seed: int, directory: Path) -> Fuzzer:
    """Start a fuzzer of the module, with a corpus of its own that grows from the seeds."""
    corpus = directory / decoder
    corpus.mkdir()
    command = [
        str(NATIVE / "build" / "fuzz" / f"fuzz_{decoder}"),
        *(str(corpus), str(NATIVE / "pkcs11" / "fuzz" / "seeds" / decoder)),
        *(f"-max_total_time={seconds}", f"-seed={seed}", "-print_final_stats=1", "-verbosity=0"),
    ]
    return Fuzzer(f"module, {decoder}", command, _EXECUTED, directory)


def run(*, seconds: int, seed: int, progress: Callable[[str], None]) -> list[Outcome]:
    """Run the worker's fuzzer beside the module's frames and calls, then the others."""
    build()
    directory = Path(tempfile.mkdtemp(prefix="conclave-fuzz-"))
    try:
        progress(f"the worker's and the module's frames and calls, {seconds} s ...")
        pair = [
            server_fuzzer(seconds, seed, directory),
            *(module_fuzzer(name, seconds, seed, directory) for name in MODULE_DECODERS[:2]),
        ]
        outcomes = [fuzzer.outcome(seconds) for fuzzer in pair]
        shorter = max(1, seconds // 10)
        progress(f"the module's values and its configuration file, {shorter} s ...")
        others = [module_fuzzer(name, shorter, seed, directory) for name in MODULE_DECODERS[2:]]
        outcomes += [fuzzer.outcome(shorter) for fuzzer in others]
        progress(f"what administrators send, {seconds} s ...")
        readers = [input_fuzzer(name, seconds, seed, directory) for name in INPUT_READERS]
        return [*outcomes, *(fuzzer.outcome(seconds) for fuzzer in readers)]
    finally:
        shutil.rmtree(directory, ignore_errors=True)
