"""Calls between members as bytes: `[id, method, params]` and `[id, error, result]`."""

from __future__ import annotations

import functools
from typing import Any, Final

import msgspec

from conclave.cluster.link.messages import LINK_METHODS
from conclave.service.channel_errors import WireError

MAX_FRAME_BYTES: Final = 8 << 20
MAX_IN_FLIGHT: Final = 1024
MAX_WRITES_IN_FLIGHT: Final = 960
"""Of calls that write; the rest is for signs of life, which must not wait behind a crowd."""
MAX_UNSENT_BYTES: Final = 16 << 20


class Call(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A method and its encoded parameter."""

    call_id: int
    method: str
    params: msgspec.Raw


class Answer(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """An error, or an encoded result."""

    call_id: int
    error: WireError | None
    result: msgspec.Raw


encoder: Final = msgspec.msgpack.Encoder()
call_decoder: Final = msgspec.msgpack.Decoder(Call)
answer_decoder: Final = msgspec.msgpack.Decoder(Answer)
NIL: Final = msgspec.Raw(encoder.encode(None))


@functools.cache
def parameter_decoder(method: str) -> msgspec.msgpack.Decoder[Any]:
    """Return the decoder of a method's parameter."""
    return msgspec.msgpack.Decoder(LINK_METHODS[method].parameter)


@functools.cache
def result_decoder(method: str) -> msgspec.msgpack.Decoder[Any]:
    """Return the decoder of a method's result."""
    return msgspec.msgpack.Decoder(LINK_METHODS[method].result)
