"""What is measured, and how fast it has to be in proportion to the peer."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Case:
    """One operation of p11bench at one number of threads.

    `floor` is the least ratio of operations per second to SoftHSM2 in process that we promise.
    """

    operation: str
    threads: int
    floor: float | None = None
    arguments: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Return how tables call the case."""
        return f"{self.operation} x{self.threads}"


CASES: tuple[Case, ...] = (
    Case("rsa2048-sign", 8, 1.8),
    Case("p256-sign", 8, 1.0),
    Case("p384-sign", 8, 2.5),
    Case("ed25519-sign", 8, 3.0),
    Case("aes-gcm-1k", 8, 0.9),
    Case("rsa2048-sign", 1, 1.2),
    Case("p256-sign", 1),
    Case("aes-gcm-1k", 1),
    Case("find", 1, 20.0, ("--objects", "250")),
    Case("create-aes", 1, 5.0),
    Case("keygen-p256", 1),
    Case("sha256", 1),
    Case("open-session", 1),
)
"""The signatures at 8 threads also promise a p99 of at most half the peer's."""
