"""Cut a stream of bytes into frames: 4 bytes of big-endian length, then that many bytes.

Invariant: a length is compared with the limit before one byte of its frame is kept, so a peer
makes us hold at most the limit and what one read of the socket brings.
"""

from __future__ import annotations

from typing import Final

HEADER_BYTES: Final = 4


class FrameTooLong(Exception):
    """A frame's length is zero or above the limit; the stream cannot be trusted any further."""

    def __init__(self, length: int, limit: int) -> None:
        super().__init__(f"A frame of {length} bytes came where 1 to {limit} are allowed.")


class FrameSplitter:
    """Collect reads, hand out complete frames; the work is linear in the bytes received."""

    __slots__ = ("_limit", "_needed", "_rest")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._rest = bytearray()
        self._needed = HEADER_BYTES

    def pending(self) -> int:
        """Return how many bytes of an incomplete frame are held."""
        return len(self._rest)

    def feed(self, data: bytes) -> list[bytes]:
        """Return the frames that `data` completes; raise FrameTooLong, after which it is unfit."""
        rest = self._rest
        if rest:
            rest += data
            if len(rest) < self._needed:
                return []
            data = bytes(rest)
            rest.clear()
        frames: list[bytes] = []
        start = 0
        size = len(data)
        while size - start >= HEADER_BYTES:
            length = int.from_bytes(data[start : start + HEADER_BYTES], "big")
            if not 0 < length <= self._limit:
                raise FrameTooLong(length, self._limit)
            end = start + HEADER_BYTES + length
            if end > size:
                self._needed = HEADER_BYTES + length
                break
            frames.append(data[start + HEADER_BYTES : end])
            start = end
        else:
            self._needed = HEADER_BYTES
        if start < size:
            rest += data[start:]
        return frames


def frame(body: bytes) -> bytes:
    """Return `body` with its length before it."""
    return len(body).to_bytes(HEADER_BYTES, "big") + body
