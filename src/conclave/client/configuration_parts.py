"""What a parsed client configuration consists of, whichever of its two grammars it has."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry and where it stands, in bytes from the start of the file."""

    section: str
    name: str
    value: str
    start: int
    value_start: int
    value_end: int
    end: int


@dataclass(frozen=True, slots=True)
class Section:
    """One section: where its body begins and where it ends, which is where its brace stands."""

    name: str
    body_start: int
    body_end: int


def text_of(raw: bytes) -> str:
    """Return a file's bytes as text that keeps every one of them."""
    return raw.decode("utf-8", "surrogateescape")
