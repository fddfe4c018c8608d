"""schemathesis over the served document: all checks, against a real appliance on loopback.

The appliance has an authorized cluster and answers on its TLS door; schemathesis runs as its own
program.  Ids that exist are mixed with made up ones, so that a part of the cases reaches deep.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from conclave.appliance.appliance import Appliance
from conclave.appliance.daemon import serve
from conclave.appliance.users import DEFAULT_PASSWORD
from conclave.demo.appliance_steps import certificate_file
from conclave.service.messages import CreateKeyrings, KeyringList
from conclave.settings import SshSettings
from tests.support.appliance_bench import local_member_id, make_authorized_cluster, make_config

REPOSITORY: Final = Path(__file__).parents[1]
KNOWN_ID_PROBABILITY: Final = 0.5
CHECKS: Final[dict[str, Any]] = {}
"""Where a check is not as its makers meant it for everybody, with the reason."""


@dataclass(frozen=True, slots=True)
class Order:
    """How much is to be tried: examples of each operation in the phase that makes them up."""

    seed: int
    examples: int
    seconds: float
    """After which it is ended, whatever it has found."""
    budget_seconds: int | None = None
    """How long calls are made up anew, once each operation had its examples."""
    phases: str = "examples,coverage,fuzzing,stateful"


@dataclass(frozen=True, slots=True, repr=False)
class Caller:
    """Who calls, and the options that choose the operations."""

    user_id: str
    password: str
    selection: tuple[str, ...] = ()


CALLERS: Final = (
    Caller("admin", "Administrator-1"),
    Caller("audit", "Auditor-Aud-1", ("--include-tag", "audit")),
)


@dataclass(frozen=True, slots=True)
class Counts:
    """What a run reported of itself."""

    operations: int
    tested: int
    cases: int
    failures: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What schemathesis said as one caller, and its exit status."""

    caller: str
    status: int
    counts: Counts
    said: str

    @property
    def clean(self) -> bool:
        """Tell whether all was tried and nothing found."""
        return self.status == 0 and self.counts.tested == self.counts.operations


@asynccontextmanager
async def served(directory: Path) -> AsyncIterator[tuple[Appliance, dict[str, list[str]]]]:
    """Serve an appliance with an authorized cluster; yield it and the ids that exist there."""
    # Wrong passwords of the SO are part of the trial; they would end the HSM, and it, at once.
    config = make_config(directory, so_lockout="backoff", ssh=SshSettings(enabled=False))
    async with serve(config) as appliance:
        for who in CALLERS:
            await appliance.users.set_enabled(who.user_id, enabled=True)
            await appliance.users.change_own_password(
                who.user_id, DEFAULT_PASSWORD, who.password, source="127.0.0.1"
            )
        cluster = await make_authorized_cluster(appliance)
        params = CreateKeyrings(
            labels=["one", "two"],
            password=b"Keyring-password-1",
            source="127.0.0.1",
            idempotency_key=os.urandom(16),
        )
        keyrings: KeyringList = await appliance.cluster.call("create_keyrings", params)
        yield (
            appliance,
            {
                "hsmid": [appliance.hsm.info().serial],
                "clusterid": [cluster.cluster_id],
                "memberid": [await local_member_id(appliance)],
                "keyringid": [*(each.keyring_id for each in keyrings.keyrings), "two"],
                "partitionid": [each.partition_id for each in appliance.hsm.partitions()],
                "policyid": ["6", "12", "15", "22", "25"],
                "roleid": ["so", "co", "cu", "po", "operator", "monitor"],
                "userid": ["operator", "monitor"],
                "serviceid": ["cluster", "ntp", "webserver", "ssh"],
                "actionid": ["start", "stop", "restart", "cancel", "upgrade", "synchronize"],
                "taskid": [str(number) for number in range(1, 20)],
                "deviceid": ["eth0"],
                "fileid": ["supportInfo.txt"],
            },
        )


def configuration(
    url: str, certificate: Path, known: dict[str, list[str]], caller: str
) -> dict[str, Any]:
    """Return what schemathesis is told, in the form of its configuration file."""
    return {
        "base-url": url,
        "tls-verify": str(certificate),
        "hooks": "campaigns.api_hooks",
        "continue-on-failure": True,
        "operations": [
            # Nobody but the caller sees the caller's files.
            {"include-path-regex": "/users/[^/]+/files", "parameters": {"path.userid": caller}},
        ],
        "dictionaries": {name: {"values": values} for name, values in known.items()},
        "parameters": {
            f"path.{name}": {"dictionary": name, "probability": KNOWN_ID_PROBABILITY}
            for name in known
        },
        "checks": CHECKS,
        "generation": {"database": "none"},
    }


def toml(value: object) -> str:
    """Return a value as TOML writes it in one line; the strings and numbers of JSON are TOML's."""
    if isinstance(value, dict):
        pairs = (f"{json.dumps(key)} = {toml(each)}" for key, each in value.items())
        return "{" + ", ".join(pairs) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    return json.dumps(value)


def read_report(file: Path) -> Counts:
    """Return the counts of a run's report."""
    told = json.loads(file.read_text())
    return Counts(
        operations=told["operations"]["selected"],
        tested=told["operations"]["tested"],
        cases=told["test_cases"]["generated"],
        failures=told["test_cases"]["unique_failures"],
    )


async def run(directory: Path, order: Order) -> list[Outcome]:
    """Serve an appliance below `directory` and let schemathesis at it, as each caller in turn."""
    async with served(directory / "appliance") as (appliance, known):
        return [await _as_caller(directory, order, appliance, known, who) for who in CALLERS]


async def _as_caller(
    directory: Path, order: Order, appliance: Appliance, known: dict[str, list[str]], who: Caller
) -> Outcome:
    (address,) = appliance.config.interfaces.values()
    url = f"https://{address}:{appliance.config.rest_port}"
    certificate = certificate_file(appliance.config.state_dir)
    told = configuration(url, certificate, known, who.user_id)
    file, report = (directory / f"{who.user_id}.{kind}" for kind in ("toml", "json"))
    file.write_text("".join(f"{key} = {toml(value)}\n" for key, value in told.items()))
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(file)),
        *("run", f"{url}/api/openapi.json", "--checks", "all", "--seed", str(order.seed)),
        *("--auth", f"{who.user_id}:{who.password}", *who.selection, "--no-color"),
        *("--max-examples", str(order.examples), "--phases", order.phases),
        *(() if order.budget_seconds is None else ("--max-time", str(order.budget_seconds))),
        *("--report", "json", "--report-json-path", str(report)),
    ]
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=directory,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(order.seconds):
            said, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode not in (0, 1):
        raise RuntimeError(f"schemathesis failed: {said.decode()[-4000:]}")
    return Outcome(who.user_id, process.returncode, read_report(report), said.decode())


def report(order: Order, outcomes: list[Outcome], commit: str) -> list[str]:
    """Return the campaign's report."""
    cases = sum(each.counts.cases for each in outcomes)
    lines = [
        "# Campaign: api",
        "",
        "schemathesis with all its checks over the whole served document, against an appliance",
        'with an authorized cluster, its TLS door and `so_lockout = "backoff"`. No operation is',
        "left out; destructive ones wait for a start, and what stops or resets a service may do",
        "so. Half of the ids exist. What is no finding stands in `campaigns/api_hooks.py`, with",
        "its reason.",
        "",
        f"- commit {commit}, seed {order.seed}, phases {order.phases}, {order.examples} examples",
        f"- cases: {cases:,}",
    ]
    for each in outcomes:
        counts = each.counts
        lines.append(
            f"- as {each.caller}: {counts.tested} of {counts.operations} operations,"
            f" {counts.cases:,} cases, {counts.failures} findings"
        )
    lines += [f"\n```\n{each.said[-8000:]}\n```" for each in outcomes if not each.clean]
    return [*lines, ""]
