"""What faults are made of: signals to whole families, and routing rules that leave no trace."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from conclave.demo import processes
from conclave.demo.isolation import heal, isolate
from conclave.demo.options import member_addresses
from conclave.errors import Conflict
from tests.support.processes import alive

NETWORK = """
import socket, subprocess
from conclave.demo.isolation import heal, isolate

def rules():
    return subprocess.check_output(["ip", "rule", "show"])

def passes(source, target, port):
    try:
        socket.create_connection((target, port), 5, source_address=(source, 0)).close()
    except OSError:
        return False
    return True

one, two, three = "127.0.0.1", "127.0.0.2", "127.0.0.3"
listening = [socket.create_server((a, p)) for a in (one, two, three) for p in (50051, 50052)]
before = rules()
old = socket.create_connection((two, 50051), 5, source_address=(one, 0))
accepted = listening[2].accept()[0]
for _ in range(2):
    isolate(two, [one, three], 50051)
assert len(rules().splitlines()) == len(before.splitlines()) + 8
assert not passes(one, two, 50051) and not passes(two, three, 50051)
assert passes(one, three, 50051) and passes(one, two, 50052) and passes(two, three, 50052)
accepted.settimeout(0.3)
old.send(b"x")
try:
    raise SystemExit(f"got {accepted.recv(1)}")
except TimeoutError:
    pass
isolate(three, [one, two], 50051)
assert heal([three]) and not passes(one, two, 50051)
assert heal([one, two, three]) and not heal([one, two, three])
assert rules() == before
assert passes(one, two, 50051)
accepted.settimeout(20)
assert accepted.recv(1) == b"x"
"""


def test_a_member_is_cut_off_at_its_core_port_alone_and_nothing_is_left_behind() -> None:
    if os.geteuid() != 0:
        assert not heal(["127.0.0.1"])
        with pytest.raises(Conflict, match="that needs root and the program `ip`"):
            isolate("127.0.0.1", ["127.0.0.2"], 50051)
        return
    scene = ["sh", "-ec", 'ip link set lo up; exec "$0" -c "$1"', sys.executable, NETWORK]
    subprocess.run(["unshare", "--net", *scene], check=True, timeout=60)


@pytest.fixture
def shell() -> Iterator[int]:
    """Run a process with a child and a grandchild."""
    script = "sh -c 'sleep 300 & echo ready; wait' & wait"
    with subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield process.pid
        processes.kill_family(process.pid)


def test_a_family_is_held_woken_and_killed_as_a_whole(shell: int) -> None:
    family = processes.family(shell)
    assert (len(family), family[0]) == (3, shell)
    assert processes.stop_family(shell) == family
    assert all(map(processes.is_stopped, family))
    assert processes.stop_family(shell) == []
    assert sorted(processes.wake_family(shell)) == sorted(family)
    assert processes.wake_family(shell) == []
    assert processes.named(shell, "sleep") == family[2:]
    assert processes.kill_family(shell) == family
    assert not any(alive(pid) for pid in family)


def test_several_members_get_addresses_one_after_another_and_share_none() -> None:
    for count in (2, 3, 4):
        with member_addresses(count) as mine, member_addresses(count) as theirs:
            assert not set(mine) & set(theirs)
        for addresses in (mine, theirs):
            numbers = [address.rpartition(".") for address in addresses]
            assert len({net for net, _, _ in numbers}) == 1
            first = int(numbers[0][2])
            assert [int(number) for _, _, number in numbers] == list(range(first, first + count))
