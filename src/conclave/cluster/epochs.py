"""Epochs: who was made primary by whom, in an order that everybody computes alike (rule C19)."""

from __future__ import annotations

from dataclasses import dataclass

from conclave.ids import MemberId


@dataclass(frozen=True, slots=True, order=True)
class Epoch:
    """An epoch's number and the member that opened it; ordered as a pair, unique by construction.

    Two members may choose the same number, never the same pair, since each puts its own id.
    """

    number: int
    promoter: MemberId

    def __str__(self) -> str:
        return f"{self.number} of {self.promoter}"
