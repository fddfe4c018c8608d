"""Tell what the demonstration does: each step with its guide chapter, each call with its result."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

Write = Callable[[str], None]


@dataclass(slots=True)
class Narrator:
    """Prints steps, numbered, with the time they took."""

    write: Write
    monotonic: Callable[[], float] = time.monotonic
    _steps: int = field(default=0, init=False)

    @contextmanager
    def step(self, chapter: str, title: str) -> Iterator[None]:
        """Announce a step and say how long it took."""
        self._steps += 1
        self.write(f"\n[{self._steps:2}] {title}  ({chapter})\n")
        started = self.monotonic()
        yield
        self.write(f"     done in {self.monotonic() - started:.2f} s\n")

    def detail(self, text: str) -> None:
        """Print one line of a step: a call, a command, a result."""
        self.write(f"     {text}\n")
