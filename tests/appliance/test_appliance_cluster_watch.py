"""The daemon's ear at the cluster process: every notice is applied, every report is made once."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from conclave import faults
from conclave.appliance import cluster_watch
from conclave.appliance.cluster_watch import ClusterWatch
from conclave.errors import InternalFault
from conclave.service.messages import MemberReport, Notice, Watch
from conclave.service.quiet import Nothing
from tests.support.appliance_bench import until
from tests.support.told_process import Answer, ToldProcesses, notice, told


class Ear:
    """What is applied and reported; `refuses` is raised by the next notice."""

    def __init__(self) -> None:
        self.numbers: list[int] = []
        self.refuses: Exception | None = None
        self.looks = 0
        self.report = MemberReport(restart_required=False, admin_port=50070, crypto_port=50052)

    async def apply(self, news: Notice) -> None:
        if self.refuses is not None:
            refusal, self.refuses = self.refuses, None
            raise refusal
        self.numbers.append(news.number)

    async def reported(self) -> MemberReport:
        self.looks += 1
        return self.report


def play(
    tmp_path: Path,
    answers: dict[str, Answer],
    scene: Callable[[Ear, ToldProcesses, ClusterWatch], Awaitable[None]],
) -> None:
    async def run() -> None:
        ear = Ear()
        async with told(tmp_path, answers) as processes:
            watch = ClusterWatch(processes, apply=ear.apply, report=ear.reported)
            watch.start()
            try:
                await scene(ear, processes, watch)
            finally:
                await watch.stop()

    asyncio.run(run())


async def count(params: Watch) -> Notice:
    """Tell three things, then wait as long as is asked for."""
    if params.seen >= 3:
        await asyncio.sleep(params.seconds)
    return notice(params.seen + 1)


async def take(_report: MemberReport) -> Nothing:
    return Nothing()


def test_each_notice_is_applied_and_the_next_one_waited_for(tmp_path: Path) -> None:
    async def scene(ear: Ear, processes: ToldProcesses, _watch: ClusterWatch) -> None:
        await until(lambda: ear.numbers == [1, 2, 3], "three notices are applied")
        await until(lambda: processes.methods().count("watch") == 4, "it waits for the fourth")

    play(tmp_path, {"watch": count}, scene)


@pytest.mark.parametrize(
    "refusal", [InternalFault(faults.STORAGE_FAILED, "Full."), RuntimeError("bug")]
)
def test_a_notice_that_could_not_be_applied_is_asked_for_again(
    tmp_path: Path,
    refusal: Exception,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cluster_watch, "PAUSE_SECONDS", 0.01)

    async def scene(ear: Ear, processes: ToldProcesses, _watch: ClusterWatch) -> None:
        ear.refuses = refusal
        await until(lambda: ear.numbers == [1, 2, 3], "all are applied in the end")
        seen = [asked.seen for _, asked in processes.asked if isinstance(asked, Watch)]
        assert seen[:3] == [0, 0, 1]

    play(tmp_path, {"watch": count}, scene)
    assert str(refusal) in caplog.text


def test_a_process_without_such_methods_is_left_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scene(ear: Ear, _processes: ToldProcesses, _watch: ClusterWatch) -> None:
        def running() -> set[str]:
            return {task.get_name() for task in asyncio.all_tasks()}

        await until(lambda: "cluster watch" not in running(), "nobody listens any more")
        assert "cluster report" in running()
        assert ear.numbers == []

    play(tmp_path, {}, scene)
    assert [each for each in caplog.records if each.levelname != "DEBUG"] == []


def test_s5_a_report_is_made_once_and_again_when_it_or_the_process_changes(
    tmp_path: Path,
) -> None:
    def made(processes: ToldProcesses) -> list[int]:
        return [
            report.crypto_port for _, report in processes.asked if isinstance(report, MemberReport)
        ]

    async def scene(ear: Ear, processes: ToldProcesses, watch: ClusterWatch) -> None:
        await until(lambda: made(processes) == [50052], "the first report")
        ear.report = MemberReport(restart_required=True, admin_port=50070, crypto_port=50055)
        watch.report_soon()
        await until(lambda: made(processes) == [50052, 50055], "the changed report")
        looks = ear.looks
        watch.report_soon()
        await until(lambda: ear.looks > looks, "it looks again")
        watch.report_soon()
        await until(lambda: ear.looks > looks + 1, "and the former look is over")
        assert made(processes) == [50052, 50055]
        processes.cluster_pid = os.getpid()
        watch.report_soon()
        await until(lambda: len(made(processes)) == 3, "the report to a respawned process")
        assert made(processes) == [50052, 50055, 50055]

    play(tmp_path, {"report": take}, scene)


def test_a_loss_of_the_process_is_survived(tmp_path: Path) -> None:
    async def scene(ear: Ear, processes: ToldProcesses, _watch: ClusterWatch) -> None:
        await until(lambda: ear.numbers == [1, 2, 3], "three notices are applied")
        await until(lambda: processes.methods().count("watch") == 4, "it waits")
        await processes.stop()
        await processes.start()
        await until(lambda: processes.methods().count("watch") == 5, "it asks the new one")

    play(tmp_path, {"watch": count}, scene)
