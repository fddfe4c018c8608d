"""A cluster whose creation is killed at any step: it is there, or can be created again."""

from __future__ import annotations

import asyncio
import signal
import subprocess
from pathlib import Path

import pytest

from conclave.errors import ConclaveError
from conclave.service.messages import ClusterList
from conclave.service.page import SharedPage
from conclave.service.quiet import Nothing
from tests.support.cluster_bench import ClusterBench

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]
SOURCE = Path(__file__).parents[1] / "support/kill_at.c"
LEAST_STEPS = 8
"""The engine's file and the store's commit, the keys' commit, the member's file: each is synced."""
MOST_STEPS = 60


@pytest.fixture(scope="module")
def preloaded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build what kills the process at one of its durable calls."""
    library = tmp_path_factory.mktemp("kill") / "kill_at.so"
    flags = ["-shared", "-fPIC", "-O1", "-Wall", "-Werror"]
    command = ["cc", *flags, "-o", str(library), str(SOURCE), "-ldl"]
    subprocess.run(command, check=True, timeout=60)
    return library


async def clusters(bench: ClusterBench) -> list[str]:
    listed: ClusterList = await bench.daemon.call("list_clusters", Nothing())
    return [each.label for each in listed.clusters]


async def create_and_kill(
    bench: ClusterBench, step: int, preloaded: Path, monkeypatch: pytest.MonkeyPatch
) -> bool:
    """Create a cluster and authorize it; tell whether its process was killed at the step."""
    when = bench.directory / "creating"
    with monkeypatch.context() as environment:
        environment.setenv("LD_PRELOAD", str(preloaded))
        environment.setenv("CONCLAVE_KILL_AT", str(step))
        environment.setenv("CONCLAVE_KILL_WHEN", str(when))
        bench.start_cluster()
    await bench.ready()
    when.touch()
    process = bench.processes["cluster"]
    try:
        await bench.create()
        await bench.authorize()
    except ConclaveError:
        # Nobody else would end it: what fails otherwise leaves it running.
        assert await asyncio.to_thread(process.wait, 60) == -signal.SIGKILL
        return True
    return False


async def comes_back(bench: ClusterBench) -> bool:
    """Start again without any mishap; tell whether the cluster was there, and use it."""
    bench.kill("cluster")
    bench.start_cluster()
    await bench.ready()
    there = await clusters(bench) == ["lab"]
    if not there:
        assert await clusters(bench) == []
        await bench.create()
    await bench.authorize()
    (made,) = await bench.make_keyrings("ring")
    assert (await bench.show("ring")).keyring_id == made.keyring_id
    return there


def test_a_creation_that_is_killed_at_any_step_is_there_or_can_be_made_again(
    tmp_path: Path, preloaded: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(step: int) -> tuple[bool, bool]:
        directory = tmp_path / str(step)
        directory.mkdir()
        bench = ClusterBench(directory, SharedPage.create())
        try:
            bench.start_login()
            killed = await create_and_kill(bench, step, preloaded, monkeypatch)
            return killed, await comes_back(bench)
        finally:
            await bench.close()

    outcomes: list[bool] = []
    for step in range(1, MOST_STEPS):
        killed, there = asyncio.run(scenario(step))
        if not killed:
            break
        outcomes.append(there)
    assert not killed
    assert there
    assert len(outcomes) >= LEAST_STEPS
    # Once it is there no later step loses it.
    assert outcomes == sorted(outcomes)
    assert set(outcomes) == {False, True}
