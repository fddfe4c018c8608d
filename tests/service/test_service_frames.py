"""Frames: however a stream is cut, the same frames come out, and a bad length ends it at once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conclave.service.frames import FrameSplitter, FrameTooLong, frame

LIMIT = 300


@given(st.lists(st.binary(min_size=1, max_size=LIMIT), max_size=20), st.data())
def test_any_cut_of_a_stream_gives_the_same_frames(
    bodies: list[bytes], data: st.DataObject
) -> None:
    stream = b"".join(map(frame, bodies))
    splitter = FrameSplitter(LIMIT)
    found: list[bytes] = []
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        found += splitter.feed(stream[:size])
        stream = stream[size:]
        assert splitter.pending() < LIMIT + 4
    assert found == bodies
    assert splitter.pending() == 0


@pytest.mark.parametrize("length", [0, LIMIT + 1, 1 << 20, (1 << 32) - 1])
@pytest.mark.parametrize("before", [b"", frame(b"good")])
def test_a_length_beyond_the_limit_is_refused_before_its_frame_is_kept(
    length: int, before: bytes
) -> None:
    splitter = FrameSplitter(LIMIT)
    with pytest.raises(FrameTooLong):
        splitter.feed(before + length.to_bytes(4, "big"))
    assert splitter.pending() == 0


def test_a_frame_byte_by_byte_is_collected_without_quadratic_work() -> None:
    splitter = FrameSplitter(1 << 20)
    body = bytes(200_000)
    stream = frame(body)
    for position in range(len(stream) - 1):
        assert splitter.feed(stream[position : position + 1]) == []
    assert splitter.feed(stream[-1:]) == [body]
