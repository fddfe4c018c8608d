"""When PostgreSQL is taken for hung: by what it did meanwhile, not by the time alone (rule C27)."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conclave import faults
from conclave.cluster.pulse import IDLE_LOOKS, LONGEST_LOOKS, STOPPED_LOOKS, Silence, end_hung
from conclave.errors import InternalFault
from conclave.store.postgresql.server import states_of
from tests.native.waiting import wait_until

STATES = st.lists(st.sampled_from("RSDTt"), max_size=4)


def after(looks: list[list[str]]) -> Silence:
    """Return the silence after these looks."""
    silence = Silence()
    for states in looks:
        silence = silence.longer(states)
    return silence


@pytest.mark.parametrize(
    ("states", "looks"),
    [
        (["T", "T"], STOPPED_LOOKS),
        (["T", "t"], STOPPED_LOOKS),
        (["S", "T"], IDLE_LOOKS),
        ([], IDLE_LOOKS),
        (["S", "R"], LONGEST_LOOKS),
        (["T", "R"], LONGEST_LOOKS),
        (["S", "D"], LONGEST_LOOKS),
        (["D", "D"], LONGEST_LOOKS),
    ],
)
def test_c27_a_server_may_be_silent_the_longer_the_more_it_could_do(
    states: list[str], looks: int
) -> None:
    assert not after([states] * (looks - 1)).too_long
    assert after([states] * looks).too_long


@given(st.lists(STATES, max_size=LONGEST_LOOKS - 1))
def test_a_look_at_a_server_that_waits_for_processor_or_disk_is_not_held_against_it(
    looks: list[list[str]],
) -> None:
    idle = [states for states in looks if not {"R", "D"} & set(states)]
    assert after(looks).too_long == after(idle).too_long


@pytest.fixture
def parent() -> Iterator[subprocess.Popen[bytes]]:
    """Run a process with a child that has not been waited for, and one that sleeps."""
    script = "true & sleep 300 & echo ready; read -r _"
    with subprocess.Popen(
        ["sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield process
        os.killpg(process.pid, signal.SIGKILL)


def test_the_states_are_those_of_the_server_and_of_its_living_children(
    parent: subprocess.Popen[bytes],
) -> None:
    assert wait_until(lambda: states_of(parent.pid) == ["S", "S"])
    os.killpg(parent.pid, signal.SIGSTOP)
    assert wait_until(lambda: states_of(parent.pid) == ["T", "T"])
    assert states_of(1 << 22) == []


async def ends() -> None:
    """Be a server that can be killed."""


async def stays() -> None:
    """Be a server that waits for a disk that does not answer, and cannot be killed."""
    raise InternalFault(faults.POSTGRESQL_FAILED, "It cannot be ended.")


async def breaks() -> None:
    """Be a server that is not ours to kill."""
    raise PermissionError


def test_c27_that_a_server_hangs_is_told_even_if_it_cannot_be_killed() -> None:
    told: list[str] = []

    async def end_each() -> None:
        for kill in (ends, stays):
            await end_hung(kill, lambda: told.append("killed"))
        with pytest.raises(PermissionError):
            await end_hung(breaks, lambda: told.append("killed"))

    asyncio.run(end_each())
    assert told == ["killed"] * 3
