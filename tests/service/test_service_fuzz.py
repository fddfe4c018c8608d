"""A short run of the frame fuzzer; `tools/fuzz_frames.py --seconds 600` is the long one."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec

from conclave.service.frames import frame
from conclave.service.wire import Operation
from tests.support.frame_fuzzer import SEEDS, FrameFuzzer, Report, seed_requests
from tests.support.worker_bench import worker_bench

INPUTS = 3000


def test_mutated_requests_are_answered_or_end_their_connection(tmp_path: Path) -> None:
    async def fuzz() -> Report:
        async with asyncio.timeout(240), worker_bench(tmp_path) as bench:
            return await FrameFuzzer(bench, seed=20_261_123).run(seconds=60, inputs=INPUTS)

    report = asyncio.run(fuzz())
    assert report.findings == []
    # Mutants reach past the decoders: many are answered, and not only with refusals.
    assert report.values[0] > INPUTS // 50
    assert len(report.values) >= 5


def test_the_seeds_are_those_of_the_table_and_cover_every_operation() -> None:
    requests = seed_requests()
    for name, parts in requests.items():
        stored = (SEEDS / f"{name}.bin").read_bytes()
        assert stored == frame(msgspec.msgpack.encode(parts)), name
    assert {parts[1] for parts in requests.values()} == set(Operation)
