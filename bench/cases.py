"""What is measured, and how fast it has to be in proportion to the peer."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Case:
    """One operation of p11bench at one number of threads.

    `floor` is the least ratio of operations per second to SoftHSM2 in process that we promise,
    `goal` the one that we work for.
    """

    operation: str
    threads: int
    floor: float | None = None
    goal: float | None = None
    arguments: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Return how tables call the case."""
        return f"{self.operation} x{self.threads}"


_THOUSAND = ("--objects", "1000")

CASES: tuple[Case, ...] = (
    Case("rsa2048-sign", 8, 1.8, 2.5),
    Case("p256-sign", 8, 1.0, 1.4),
    Case("p384-sign", 8, 2.5, 3.3),
    Case("ed25519-sign", 8, 3.0, 4.0),
    Case("aes-gcm-1k", 8, 0.9, 1.2),
    Case("create-aes", 8, 5.0, 12.0),
    Case("find", 8, 200.0, 500.0, _THOUSAND),
    Case("rsa2048-sign", 1, 1.2, 1.6),
    Case("p256-sign", 1, 0.4, 0.7),
    Case("aes-gcm-1k", 1),
    Case("find", 1, 50.0, 120.0, _THOUSAND),
    Case("create-aes", 1, 5.0, 10.0),
    Case("keygen-p256", 1, 8.0, 20.0),
    Case("keygen-rsa2048", 1, 3.0, 5.0),
    Case("sha256", 1, 0.8, 1.0),
    Case("open-session", 1, 0.5, 1.0),
)
"""The signatures at 8 threads also promise a p99 of at most half the peer's."""
