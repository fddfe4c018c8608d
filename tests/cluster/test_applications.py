"""Applications that sign in a loop never notice what befalls their entry member.

Real appliances, the real module, and programs that people use: pkcs11-tool and OpenSSL's engine
with a process for each signature, a TLS server and p11bench with one for all.  The campaign of the
same name runs every outage and measures the stalls; here is a choice.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from bench.__main__ import build
from conclave.demo.processes import wake_family
from tests.native.waiting import wait_until
from tests.support.appliances import Appliance, Registered, Street, cluster_of, street
from tests.support.applications import ALL, LongBench, ToolPerSignature
from tests.support.outages import (
    OUTAGES,
    change_port,
    change_port_back,
    hang,
    promote_another,
)
from tests.support.processes import worker_seconds

pytestmark = [pytest.mark.system, pytest.mark.timeout(240)]

MEMBERS = 3
SIGNATURES = 4
LOAD_SECONDS = 2.0
"""Of the processors, before shares are looked at."""
WAIT_SECONDS = 60.0
STANDBY_SHARE = 0.05
"""A worker that nobody asks looks around now and then."""


@dataclass
class Scene:
    """A cluster with a client at its first member."""

    street: Street
    client: Registered
    program: Path
    directory: Path
    watched: int = field(default=0)

    @property
    def entry(self) -> Appliance:
        return self.street.members[0]

    def lead(self, *, primary: bool) -> None:
        """Let the entry member be primary, or not."""
        self.street.settle()
        if (self.street.primary() is self.entry) is not primary:
            promote_another(self.street, self.entry)

    def sees_nothing_of(self, outage: str) -> None:
        """Let an outage strike the entry member; fail when an application saw it."""
        self.watched += 1
        directory = self.directory / f"watch-{self.watched}"
        directory.mkdir()
        with LongBench(self.program, self.client) as bench:
            with ExitStack() as stack:
                running = [
                    stack.enter_context(kind(self.client, directory / kind.name)) for kind in ALL
                ]
                stages = (OUTAGES[outage].begin, OUTAGES[outage].end)
                for stage in (None, *stages):
                    if stage is not None:
                        stage(self.street, self.entry)
                    for each in running:
                        each.makes_more(SIGNATURES)
            seen, report = bench.end()
        assert report["ok"], report
        for application in (*(each.seen for each in running), seen):
            assert (application.failures, application.wrong) == ([], 0)
        assert seen.made > SIGNATURES


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """Make a cluster, a client and p11bench."""
    directory = tmp_path_factory.mktemp("applications")
    with street(directory) as built:
        first = cluster_of(built, MEMBERS)
        yield Scene(built, Registered(directory / "client", first), build(directory), directory)


@pytest.mark.parametrize(
    ("outage", "primary", "direct"),
    [
        ("killed", True, True),
        ("hung", False, False),
        ("stopped", True, True),
    ],
)
def test_applications_never_notice_an_outage_of_their_entry_member(
    scene: Scene, outage: str, primary: bool, direct: bool
) -> None:
    scene.lead(primary=primary)
    scene.client.point_at(scene.entry, direct=direct)
    scene.sees_nothing_of(outage)


def test_s7_a_client_started_anew_that_knows_the_former_port_alone_goes_on(scene: Scene) -> None:
    scene.client.point_at(scene.entry, direct=True)
    application = ToolPerSignature(scene.client, scene.directory / "anew")
    change_port(scene.street, scene.entry)
    scene.client.forget_members()
    application.sign(b"through the port that Chrystoki.conf names")
    change_port_back(scene.street, scene.entry)


# ---------------------------------------------------------------- balancing


def shares(scene: Scene) -> list[float]:
    """Return the members' shares of the work that is done from now on."""
    members = scene.street.members
    before = [worker_seconds(each.daemon.process.pid) for each in members]

    def done() -> list[float]:
        now = [worker_seconds(each.daemon.process.pid) for each in members]
        return [late - early for early, late in zip(before, now, strict=True)]

    assert wait_until(lambda: sum(done()) > LOAD_SECONDS, WAIT_SECONDS)
    work = done()
    return [each / sum(work) for each in work]


@pytest.mark.parametrize("direct", [True, False])
def test_section_8_rule_8_two_members_share_the_load_and_another_group_stands_by(
    scene: Scene, direct: bool
) -> None:
    scene.lead(primary=True)
    first, second, third = scene.street.members
    body = {"action": "config", "group": "standby"}
    first.done("PUT", first.member(third)["url"], body)
    scene.client.point_at(first, direct=direct)
    with LongBench(scene.program, scene.client, operation="rsa2048-sign", threads=16) as bench:
        assert wait_until(lambda: shares(scene)[1] > 0.35, WAIT_SECONDS)  # the load has spread
        one, two, standby = shares(scene)
        assert 0.35 <= one <= 0.65, (one, two, standby)
        assert 0.35 <= two <= 0.65, (one, two, standby)
        assert standby < STANDBY_SHARE
        for each in (first, second):
            hang(scene.street, each)
        try:
            assert wait_until(lambda: shares(scene)[2] > 1 - STANDBY_SHARE, WAIT_SECONDS)
        finally:
            for each in (second, first):
                wake_family(each.daemon.process.pid)
        scene.street.settle()
        seen, report = bench.end()
    assert report["ok"], report
    assert seen.failures == []
