"""A short run of the frame fuzzer; `tools/fuzz_frames.py --seconds 600` is the long one."""

from __future__ import annotations

import asyncio
from pathlib import Path

from conclave.service.forwarding import FORWARDED
from conclave.service.frames import frame
from conclave.service.wire import Operation
from tests.support.frame_fuzzer import FrameFuzzer, Report
from tests.support.frame_seeds import SEEDS, Door, door_of, encoded, seed_requests, stored_seeds
from tests.support.worker_bench import worker_bench

INPUTS = 3000


def test_mutated_requests_are_answered_or_end_their_connection(tmp_path: Path) -> None:
    async def fuzz() -> Report:
        async with asyncio.timeout(240), worker_bench(tmp_path) as bench:
            return await FrameFuzzer(bench, seed=20_261_123).run(seconds=60, inputs=INPUTS)

    report = asyncio.run(fuzz())
    assert report.findings == []
    # Mutants reach past the decoders: many are answered, and not only with refusals.
    assert report.values[0] > report.inputs // 10
    assert len(report.values) >= 5


def test_every_seed_is_carried_out_when_it_is_not_mutated(tmp_path: Path) -> None:
    async def seed_values() -> dict[str, int | None]:
        async with asyncio.timeout(240), worker_bench(tmp_path) as bench:
            return await FrameFuzzer(bench, seed=1).seed_values()

    values = asyncio.run(seed_values())
    assert values == dict.fromkeys(seed_requests(), 0)


def test_the_seeds_are_those_of_the_table_and_cover_every_operation() -> None:
    requests = seed_requests()
    for name, parts in requests.items():
        stored = (SEEDS / f"{name}.bin").read_bytes()
        assert stored == frame(encoded(parts)), name
    assert {parts[1] for parts in requests.values()} == set(Operation)


def test_what_members_hand_on_has_seeds_at_the_door_of_members() -> None:
    handed_on = [parts for parts in stored_seeds().values() if door_of(parts) is Door.MEMBER]
    assert {parts[3][2].value[1] for parts in handed_on} == set(FORWARDED)
