"""Tell how deep a msgpack value nests, without building it and without recursion."""

from __future__ import annotations

from typing import Final

MAX_DEPTH: Final = 6

_FIXED_SIZES: Final[dict[int, int]] = {
    0xC0: 0, 0xC2: 0, 0xC3: 0, 0xCA: 4, 0xCB: 8, 0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8,
    0xD0: 1, 0xD1: 2, 0xD2: 4, 0xD3: 8, 0xD4: 2, 0xD5: 3, 0xD6: 5, 0xD7: 9, 0xD8: 17,
}  # fmt: skip
_COUNTED: Final[dict[int, tuple[int, int]]] = {
    0xC4: (1, 0), 0xC5: (2, 0), 0xC6: (4, 0), 0xC7: (1, 1), 0xC8: (2, 1), 0xC9: (4, 1),
    0xD9: (1, 0), 0xDA: (2, 0), 0xDB: (4, 0),
}  # fmt: skip
_CONTAINERS: Final[dict[int, tuple[int, int]]] = {
    0xDC: (2, 1), 0xDD: (4, 1), 0xDE: (2, 2), 0xDF: (4, 2)
}  # fmt: skip


def nests_deeper(data: bytes, limit: int = MAX_DEPTH) -> bool:
    """Tell whether a msgpack value that a decoder has accepted nests deeper than `limit`."""
    left: list[int] = []
    at = 0
    while at < len(data):
        count, at = _next(data, at)
        if count:
            if len(left) >= limit:
                return True
            left.append(count)
            continue
        while left:
            left[-1] -= 1
            if left[-1]:
                break
            left.pop()
        if not left:
            return False
    return False


def _next(data: bytes, at: int) -> tuple[int, int]:
    """Return how many values the one at `at` contains, and where the following one begins."""
    head = data[at]
    at += 1
    if head <= 0x7F or head >= 0xE0:
        return 0, at
    if head <= 0x8F:
        return 2 * (head & 0x0F), at
    if head <= 0x9F:
        return head & 0x0F, at
    if head <= 0xBF:
        return 0, at + (head & 0x1F)
    if head in _FIXED_SIZES:
        return 0, at + _FIXED_SIZES[head]
    if head in _COUNTED:
        width, extra = _COUNTED[head]
        return 0, at + width + extra + int.from_bytes(data[at : at + width], "big")
    width, factor = _CONTAINERS.get(head, (0, 0))
    return factor * int.from_bytes(data[at : at + width], "big"), at + width
