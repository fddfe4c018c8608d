"""The guide's chapter 3 by ssh and nothing else, on two appliances with daemons of their own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from conclave.appliance.paths import StatePaths
from conclave.demo.appliance_steps import PARTITION
from conclave.demo.options import SSH_PORT
from tests.native.waiting import wait_until
from tests.support.appliances import Appliance, Street, create_cluster, street
from tests.support.ssh_house import TRAILER, Answer, SshTarget, run_ssh

pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]
DOMAIN = "Domain-of-the-cluster-1"
WAIT_SECONDS = 90.0


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Street]:
    with street(tmp_path_factory.mktemp("shells")) as opened:
        first = opened.build(DOMAIN)
        create_cluster(first)
        opened.build(DOMAIN)
        yield opened


def ssh(at: Appliance, line: str, *, stdin: str = "") -> Answer:
    """Run a command as admin of an appliance."""
    host_key = StatePaths(at.daemon.state_dir).ssh / "host_key.pub"
    target = SshTarget(at.address, SSH_PORT, host_key, at.options.directory)
    return run_ssh(target, at.admin_password, line, stdin=stdin)


def well(at: Appliance, line: str, *, stdin: str = "") -> Answer:
    answer = ssh(at, line, stdin=stdin)
    assert answer.status == 0, answer
    assert TRAILER in answer.out + answer.err
    return answer


def shown(at: Appliance, line: str) -> Any:
    return json.loads(well(at, f"{line} -json").out)


def member_id(at: Appliance) -> str:
    found: str = shown(at, "cluster member show")["memberUUID"]
    return found


def join(joiner: Appliance, at: Appliance) -> Answer:
    (cluster,) = shown(at, "cluster list")["data"]
    line = (
        f"cluster join -clusterid {cluster['clusterUUID']} -clusteripaddress {at.address}"
        f" -partition {PARTITION}"
    )
    # The guide's order: remote password, CO, and whether to proceed.
    answers = f"{at.admin_password}\n{joiner.passwords.co}\nproceed\n"
    answer = well(joiner, line, stdin=answers)
    assert at.admin_password not in answer.out
    joiner.takes_over_admin(at)
    return answer


def marks(at: Appliance) -> dict[str, str]:
    """Return what stands before each member in the list, by the member's id."""
    rows = well(at, "cluster member list").lines
    return {
        member["memberUUID"]: row.partition(member["memberUUID"])[0].strip()
        for member in shown(at, "cluster member list")["data"]
        for row in rows
        if member["memberUUID"] in row
    }


def test_members_join_are_promoted_leave_and_are_deleted(built: Street) -> None:
    first, second = built.appliances
    joined = join(second, first)
    # How far it was is shown before the end.
    progress = [line for line in joined.lines if line.startswith("   ")]
    assert progress
    assert "Success" in joined.lines
    one, two = member_id(first), member_id(second)
    built.members[:] = [first, second]
    built.settle()
    assert marks(first) == {one: "*P", two: ""}
    assert marks(second) == {one: "P", two: "*"}

    well(first, f"cluster member config -memberid {two} -group standby")
    groups = {
        each["group"]: each["members"] for each in shown(second, "cluster group list")["data"]
    }
    assert (groups["local"], groups["standby"]) == ([one], [two])
    well(second, f"cluster member config -memberid {two} -primary")
    assert marks(second)[two] == "*P"

    co = first.passwords.co
    well(first, f"cluster leave -memberid {one} -partition {PARTITION} -copassword {co}")
    assert "There is no cluster on this appliance." in well(first, "cluster list").lines
    assert list(marks(second)) == [two]

    join(first, second)
    built.settle()
    one = member_id(first)
    first.kill()
    assert wait_until(lambda: "x" in marks(second)[one], WAIT_SECONDS)
    show = well(second, f"cluster member show -memberid {one}").lines
    assert any(line.split() == ["Visible:", "False"] for line in show)
    delete = f"cluster member delete -memberid {one}"
    assert "Success" in well(second, delete, stdin=second.passwords.co + "\n").lines
    assert list(marks(second)) == [two]

    first.start()
    # A member that was deleted is told so, and is served again after the factory reset.
    assert wait_until(lambda: "factory-reset" in ssh(first, "cluster list").out, WAIT_SECONDS)
    well(first, "sysconf config factoryreset -service cluster", stdin="proceed\n")
    well(first, f"cluster config -service core -ipaddress {first.address}")
    assert "   The cluster service is starting." in well(first, "service start cluster").lines
    assert "There is no cluster on this appliance." in well(first, "cluster list").lines
