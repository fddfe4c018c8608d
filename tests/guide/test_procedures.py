"""The procedures of the guide, run from the pages that print them, on three real appliances."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

from conclave.demo import appliance_steps
from conclave.demo.daemon import Daemon, start_daemon, stop_daemon
from conclave.demo.options import SSH_PORT, DemoOptions, free_loopback_addresses
from conclave.demo.release import Release, make_release
from conclave.settings import write_config
from conclave.store.postgresql import account as accounts
from tests.support.procedures import Step, pages, programs_only, read_steps, run_steps

pytestmark = [pytest.mark.system, pytest.mark.timeout(500), pytest.mark.spread]

APPLIANCES = (1, 2, 3)
SECRETS = {
    "ADMIN_PASSWORD": "Admin-of-three-1",
    "HSM_SO_PASSWORD": "Officer-of-HSM-2",
    "PO_PASSWORD": "Partition-owner-3",
    "FIRST_CO_PASSWORD": "First-crypto-officer-4",
    "CO_PASSWORD": "Crypto-officer-5",
    "KEYRING_PASSWORD": "Keyring-first-6",
    "DOMAIN": "Domain-of-three-7",
}


@dataclass
class Three:
    """Three appliances as they come from `conclave appliance init`, and the release to install."""

    directory: Path
    addresses: list[str]
    daemons: dict[int, Daemon]
    release: Release

    def variables(self, programs: Path) -> dict[str, str]:
        """Return the environment of an administrator: what the pages let one set, no more."""
        return {
            "PATH": str(programs),
            "HOME": str(self.directory),
            "PACKAGE": str(self.directory / self.release.name),
            "AUTHORIZATION_CODE": self.release.authorization_code,
            **{f"ADDRESS{n}": self.addresses[n - 1] for n in APPLIANCES},
            **{f"CERTIFICATE{n}": str(self.state(n) / "webserver/server.pem") for n in APPLIANCES},
            **{f"HOST_KEY{n}": str(self.state(n) / "ssh/host_key.pub") for n in APPLIANCES},
            "SSH_PORT": str(SSH_PORT),
            **SECRETS,
        }

    def state(self, number: int) -> Path:
        return self.directory / f"member-{number}"

    def happen(self, event: str) -> None:
        """Lose an appliance as a power failure would, or start it again."""
        what, _, number = event.partition(" ")
        daemon = self.daemons[int(number)]
        if what == "lose":
            daemon.process.kill()
            daemon.process.wait()
        else:
            assert what == "return"
            self.daemons[int(number)] = start_daemon(daemon.state_dir, outlives_us=False)


@contextmanager
def three_appliances(directory: Path) -> Iterator[Three]:
    """Make three appliances that trust one release, and run them."""
    options = DemoOptions(directory=directory, low_cost=True)
    release = make_release(directory / "release")
    (directory / release.name).write_bytes(release.content)
    three = Three(directory, free_loopback_addresses(len(APPLIANCES)), {}, release)
    try:
        for number, address in zip(APPLIANCES, three.addresses, strict=True):
            settings = appliance_steps.settings(options, number, address)
            # There are several on this machine: one crypto worker each.
            write_config(
                msgspec.structs.replace(settings, workers=1), options.settings_file(number)
            )
            state = str(three.state(number))
            conclave("init", "--state", state, "--config", str(options.settings_file(number)))
            conclave("trust", "--state", state, str(release.public_key))
            three.daemons[number] = start_daemon(three.state(number), outlives_us=False)
        yield three
    finally:
        for daemon in three.daemons.values():
            daemon.process.kill()  # an orderly stop of all takes long and is tested elsewhere
        for daemon in three.daemons.values():
            stop_daemon(daemon)
            accounts.remove(daemon.state_dir, accounts.find())


def conclave(*words: str) -> None:
    subprocess.run([sys.executable, "-m", "conclave.cli", "appliance", *words], check=True)


def steps_by(door: str) -> list[Step]:
    """Return the steps of all pages in order, chapter 2 once for each appliance."""
    steps = []
    for page in pages(door):
        if page.name.startswith("chapter-2-"):
            for number in APPLIANCES:
                steps += [Step(f"appliance {number}", f"N={number}"), *read_steps(page)]
        else:
            steps += read_steps(page)
    return steps


@pytest.mark.parametrize(
    ("door", "programs"),
    [
        ("rest", ("curl", "grep", "sleep")),
        ("lunash", ("ssh", "scp", "ssh-keygen", "chmod", "grep", "sleep")),
    ],
)
def test_every_procedure_as_its_page_prints_it(
    tmp_path: Path, door: str, programs: tuple[str, ...]
) -> None:
    allowed = programs_only(tmp_path / "bin", *programs)
    work = tmp_path / "work"
    work.mkdir()
    steps = steps_by(door)
    with three_appliances(tmp_path) as three:
        run_steps(steps, work, three.variables(allowed), three.happen)
