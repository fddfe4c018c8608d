"""The log of a running appliance: order, durability, bounds, and what a full disk does."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import pytest

from conclave.audit import log as module
from conclave.audit.chain import verify
from conclave.audit.events import AuditEvent, EventKind, Outcome
from conclave.audit.files import Bounds
from conclave.audit.log import AuditLog
from conclave.audit.repeats import MAX_KEYS, QUIET_MS, Repeats
from conclave.clock import ApplianceClock
from conclave.errors import InternalFault, Unavailable

CLOCK = ApplianceClock(offset_ms=lambda: 0)
WIDE = Bounds(file_bytes=1 << 20, files=10)


def event(name: str) -> AuditEvent:
    return AuditEvent(kind=EventKind.OPERATION, outcome=Outcome.DONE, operation=name)


def play(directory: Path, scene: Callable[[AuditLog], Awaitable[None]]) -> None:
    async def run() -> None:
        async with asyncio.timeout(60):
            log = await AuditLog.open(directory, WIDE, CLOCK)
            try:
                await scene(log)
            finally:
                await log.close()

    asyncio.run(run())


def operations(directory: Path) -> list[str]:
    content = b"".join(path.read_bytes() for path in sorted(directory.glob("*.jsonl")))
    lines = content.splitlines(keepends=True)
    assert verify(lines).records == len(lines)
    return [msgspec.json.decode(line)["operation"] for line in lines]


def test_what_was_awaited_is_on_disk_and_in_order(tmp_path: Path) -> None:
    async def scene(log: AuditLog) -> None:
        log.note(event("first"))
        await log.write(event("second"))
        assert operations(tmp_path) == ["first", "second"]
        await asyncio.gather(*(log.write(event(str(number))) for number in range(1000)))
        assert operations(tmp_path)[2:] == [str(number) for number in range(1000)]

    play(tmp_path, scene)


def test_closing_writes_what_is_queued(tmp_path: Path) -> None:
    async def scene(log: AuditLog) -> None:
        for number in range(2000):
            log.note(event(str(number)))

    play(tmp_path, scene)
    assert operations(tmp_path) == [str(number) for number in range(2000)]


def test_the_queue_is_bounded_and_says_what_it_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_QUEUED", 10)

    async def scene(log: AuditLog) -> None:
        for number in range(25):
            log.note(event(str(number)))

    play(tmp_path, scene)
    content = b"".join(path.read_bytes() for path in tmp_path.glob("*.jsonl"))
    assert b"15 records were given faster" in content
    assert len(operations(tmp_path)) == 11


def test_a_record_that_is_waited_for_is_never_dropped_in_silence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_QUEUED", 10)

    async def scene(log: AuditLog) -> None:
        for number in range(10):
            log.note(event(str(number)))
        with pytest.raises(InternalFault, match="takes no more"):
            await log.write(event("awaited"))

    play(tmp_path, scene)


def test_a_log_that_cannot_be_written_forbids_changes_until_it_can(tmp_path: Path) -> None:
    async def scene(log: AuditLog) -> None:
        await log.write(event("before"))
        current = log._files._current
        kept = os.dup(current)
        reader, writer = os.pipe()
        os.close(reader)
        os.dup2(writer, current)
        with pytest.raises(InternalFault) as failure:
            await log.write(event("meanwhile"))
        assert failure.value.fault.http_status == 507
        with pytest.raises(Unavailable):
            log.require_writable()
        os.dup2(kept, current)
        await log.write(event("after"))
        log.require_writable()
        os.close(kept)
        os.close(writer)

    play(tmp_path, scene)
    assert operations(tmp_path) == ["before", "meanwhile", "after"]


def test_damage_becomes_a_record(tmp_path: Path) -> None:
    async def first(log: AuditLog) -> None:
        await log.write(event("one"))

    async def second(log: AuditLog) -> None:
        lines, _ = await log.page(0, 1)
        assert b"records 1 to 1 are missing" in lines[0]

    play(tmp_path, first)
    (path,) = tmp_path.glob("*.jsonl")
    path.write_bytes(b"")
    play(tmp_path, second)


def test_repeats_are_counted_and_bounded() -> None:
    now = [0]
    repeats = Repeats(lambda: now[0])
    assert repeats.due("a") == 0
    assert [repeats.due("a") for _ in range(5)] == [None] * 5
    assert repeats.due("b") == 0
    now[0] = QUIET_MS
    assert repeats.due("a") == 5
    for number in range(2 * MAX_KEYS):
        repeats.due(number)
    assert len(repeats._seen) == MAX_KEYS
