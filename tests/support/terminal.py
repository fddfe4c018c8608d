"""A program at a pseudo-terminal, as a person uses it."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import subprocess
import time
from collections.abc import Mapping, Sequence
from types import TracebackType

PATIENCE_SECONDS = 90.0


class Terminal:
    """Runs a program whose input, output and errors are one terminal."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self._master, slave = pty.openpty()
        try:
            self._process = subprocess.Popen(
                command, stdin=slave, stdout=slave, stderr=slave, env=environment
            )
        finally:
            os.close(slave)
        self.seen = ""
        self._mark = 0

    def __enter__(self) -> Terminal:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._master)

    def send(self, text: str) -> None:
        """Type."""
        os.write(self._master, text.encode())

    def wait_for(self, text: str) -> None:
        """Read until `text` appears behind what was waited for last."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while text not in self.seen[self._mark :]:
            assert time.monotonic() < deadline, self.seen
            assert self._read(), self.seen
        self._mark = self.seen.index(text, self._mark) + len(text)

    def status(self) -> int:
        """Wait for the end of the program and return its status."""
        while self._read():
            pass
        return self._process.wait(PATIENCE_SECONDS)

    def _read(self) -> bool:
        """Take what there is; tell whether more may come."""
        ready, _, _ = select.select([self._master], [], [], 1.0)
        if not ready:
            return self._process.poll() is None
        with contextlib.suppress(OSError):  # EIO: the program has closed its side
            part = os.read(self._master, 65536)
            self.seen += part.decode(errors="replace")
            return bool(part)
        return False
