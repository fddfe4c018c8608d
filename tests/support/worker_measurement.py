"""What one request costs a worker in this process, without network and TLS.

A refusal costs next to nothing, so every answer is looked at: one that is no CKR_OK, or that is
missing, ends the measurement.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from typing import Any, Final, cast

import msgspec

from conclave.crypto.standard import Ckm
from conclave.errors import CKR_OK
from conclave.service.connection import Connection
from conclave.service.frames import FrameSplitter, frame
from conclave.service.wire import MAX_FRAME_BYTES, GcmParameter, Operation
from tests.service.conftest import Tenant
from tests.support.frame_fuzzer import Sink, all_answered
from tests.support.worker_bench import Reply

ROUNDS: Final = 12
REQUESTS: Final = 1000

Case = tuple[Operation, list[Any]]


class Refused(Exception):
    """What was to be measured did not happen."""


async def measured_cases(tenant: Tenant) -> dict[str, Case]:
    """Make keys; return the requests to measure by name."""
    _, private = await tenant.ec_key()
    aes = await tenant.aes_key()
    ring, digest = tenant.keyring, os.urandom(32)
    gcm = GcmParameter(os.urandom(12), b"", 128)
    return {
        "echo": (Operation.PING, []),
        "p256": (Operation.SIGN, [ring, private, int(Ckm.ECDSA), None, digest]),
        "gcm-1k": (Operation.ENCRYPT, [ring, aes, int(Ckm.AES_GCM), gcm, os.urandom(1024)]),
        "find": (Operation.FIND, [ring, [[3, b"ec"]], 10]),
    }


class Measurement:
    """One request, sent again and again in batches that arrive together."""

    def __init__(
        self, connection: Connection, name: str, case: Case, *, ticket: bytes | None, batch: int
    ) -> None:
        operation, args = case
        bodies = ([number, int(operation), ticket, args] for number in range(1, batch + 1))
        self._connection = connection
        self._name = name
        self._batch = batch
        self._data = b"".join(frame(msgspec.msgpack.encode(body)) for body in bodies)

    async def warm(self) -> None:
        """Send one batch, since the first one reads the store, and await its answers."""
        sink = cast(Sink, self._connection._transport)
        self._connection.data_received(self._data)
        await all_answered(self._connection)
        self._require(self._batch, sink)

    def send(self, requests: int = REQUESTS) -> float:
        """Send so many requests; return the seconds that each took."""
        sink = cast(Sink, self._connection._transport)
        batches = requests // self._batch
        started = time.perf_counter()
        for _ in range(batches):
            self._connection.data_received(self._data)
        spent = time.perf_counter() - started
        self._require(batches * self._batch, sink)
        return spent / (batches * self._batch)

    def best_us(self) -> float:
        """Return the microseconds of the best of several rounds."""
        return min(self.send() for _ in range(ROUNDS)) * 1e6

    def _require(self, answers: int, sink: Sink) -> None:
        sent, sink.sent = bytes(sink.sent), bytearray()
        values = Counter(
            msgspec.msgpack.decode(body, type=Reply).value
            for body in FrameSplitter(MAX_FRAME_BYTES).feed(sent)
        )
        if values != {CKR_OK: answers}:
            got = ", ".join(f"{count} times {value:#x}" for value, count in values.items())
            message = f"{self._name}: {answers} answers must be CKR_OK; they are: {got or 'none'}."
            raise Refused(message)
