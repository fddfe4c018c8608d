"""A keyring with its owner: one member's real processes, and the files of a registered client."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from conclave.client import Client, KeyringSession, Role
from tests.native.driver import write_configuration
from tests.service.conftest import Tenant, make_tenant
from tests.support.authority import Authority
from tests.support.cluster_bench import PASSWORD
from tests.support.registering import Member, serve
from tests.support.scripted_worker import Start, Step, Worker
from tests.support.worker_bench import worker_bench

BENCH_SECONDS = 240.0
TOOL_SECONDS = 120.0
TOOLS = {
    "cmu": "conclave.client.cmu.main",
    "vtl": "conclave.client.vtl",
    "multitoken": "conclave.client.multitoken.main",
}
PAGE = Path(__file__).parents[2] / "docs/client.md"


def documented(title: str, number: int = 1) -> str:
    """Return a script of a section of docs/client.md, by default the first."""
    section = PAGE.read_text().split(f"\n## {title}\n")[1].split("\n## ")[0]
    return section.split("```sh\n")[number].split("```")[0]


@dataclass
class Owner:
    """Runs the tools as the keyring's owner does, with the password in the environment."""

    environment: dict[str, str]
    directory: Path

    @classmethod
    def of(cls, tenant: Tenant, directory: Path) -> Owner:
        """Write a tenant's files of a registered client, and return him."""
        (directory / "client.pem").write_bytes(tenant.identity.certificate_pem)
        (directory / "client.key").write_bytes(tenant.identity.key_pem)
        (directory / "authority.pem").write_text(tenant.identity.ca_pem)
        port = tenant.bench.listener.getsockname()[1]
        write_configuration(directory, port, name="lnh.test")
        pin = {"ChrystokiConfigurationPath": str(directory), "PIN": PASSWORD.decode()}
        return cls({**os.environ, **pin}, directory)

    def run(
        self, module: str, *words: str, lines: str = "", expect: int = 0
    ) -> subprocess.CompletedProcess[str]:
        """Run a tool; its status must be `expect`, and it must not print the password."""
        done = subprocess.run(
            [sys.executable, "-m", module, *words],
            check=False,
            input=lines,
            capture_output=True,
            text=True,
            timeout=TOOL_SECONDS,
            env=self.environment,
            cwd=self.directory,
        )
        assert done.returncode == expect, (words, done.stdout, done.stderr)
        assert "Traceback" not in done.stderr
        assert PASSWORD.decode() not in done.stdout + done.stderr
        return done

    def cmu(self, command: str, *words: str, expect: int = 0) -> str:
        """Run one command of cmu, and return what it says."""
        words = (command, "-passwordenv=PIN", *words)
        done = self.run("conclave.client.cmu.main", *words, expect=expect)
        return done.stdout if expect == 0 else done.stderr

    def shell(self, script: str) -> str:
        """Run a script of sh that calls the tools by their names; it must succeed."""
        programs = self.directory / "programs"
        programs.mkdir(exist_ok=True)
        for name, module in TOOLS.items():
            program = programs / name
            program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m {module} "$@"\n')
            program.chmod(0o755)
        environment = {**self.environment, "PATH": f"{programs}:{os.environ['PATH']}"}
        return subprocess.run(
            ["sh", "-eu", "-c", script],
            check=True,
            capture_output=True,
            text=True,
            timeout=TOOL_SECONDS,
            cwd=self.directory,
            env=environment,
            stdin=subprocess.DEVNULL,
        ).stdout

    def openssl(self, *words: str) -> str:
        """Run openssl; it must succeed."""
        return subprocess.run(
            ["openssl", *words],
            check=True,
            capture_output=True,
            text=True,
            timeout=TOOL_SECONDS,
            cwd=self.directory,
            env=self.environment,
        ).stdout

    def session(self, client: Client) -> KeyringSession:
        """Return a session of the library, logged in."""
        (token,) = client.tokens()
        session = client.open(token)
        session.login(Role.KRCO, PASSWORD)
        return session


@pytest.fixture(scope="module")
def owner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Owner]:
    """Share one member with one keyring among the tests of a module."""
    directory = tmp_path_factory.mktemp("owner")
    client = directory / "client"
    client.mkdir()
    stack = AsyncExitStack()

    async def begin() -> Tenant:
        async with asyncio.timeout(BENCH_SECONDS):
            bench: Any = await stack.enter_async_context(worker_bench(directory))
            return await make_tenant(bench)

    with asyncio.Runner() as runner:
        try:
            tenant = runner.run(begin())
            yield Owner.of(tenant, client)
        finally:
            runner.run(stack.aclose())


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    workers: list[Worker] = []

    def make(*script: Step, **changes: Any) -> Worker:
        workers.append(Worker(tmp_path, list(script), **changes))
        return workers[-1]

    yield make
    for worker in workers:
        worker.stop()


@pytest.fixture
def member(tmp_path: Path) -> Iterator[Member]:
    yield from serve(tmp_path, Member(authority := Authority(), authority))
