"""A real appliance with LunaSH on a real port, spoken to by OpenSSH's own programs."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from conclave.appliance.appliance import Appliance, open_appliance
from conclave.appliance.network import bind_socket
from conclave.appliance.users import DEFAULT_PASSWORD
from conclave.lunash.catalogue import Offered
from conclave.lunash.server import LunaShDoor
from conclave.operations.task_table import TaskTable
from conclave.settings import SshSettings
from tests.support.appliance_bench import make_config
from tests.support.rest_house import ADMIN, MONITOR, OPERATOR, Loop
from tests.support.terminal import Terminal

PASSWORDS = dict((ADMIN, OPERATOR, MONITOR))
PATIENCE_SECONDS = 60.0
TRAILER = "Command Result : 0 (Success)"
FAILED_TRAILER = "Command Result : 65535 (Luna Shell execution)"


@dataclass(frozen=True)
class Answer:
    """What a program said and how it ended."""

    status: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


@dataclass(frozen=True)
class SshTarget:
    """A listener of LunaSH as OpenSSH's programs reach it; files for them go into a directory."""

    address: str
    port: int
    host_key: Path
    directory: Path

    def options(self, port: str = "-p") -> list[str]:
        """Return the options that pin the host key and leave out whatever the user has set."""
        known = self.directory / "known_hosts"
        known.write_text(f"[{self.address}]:{self.port} {self.host_key.read_text()}")
        return [
            port,
            str(self.port),
            "-F",
            "none",
            f"-oUserKnownHostsFile={known}",
            "-oStrictHostKeyChecking=yes",
            "-oIdentitiesOnly=yes",
            "-oNumberOfPasswordPrompts=1",
        ]

    def environment(self, password: str) -> dict[str, str]:
        """Return an environment in which OpenSSH takes the password from a helper."""
        helper = self.directory / "askpass"
        helper.write_text('#!/bin/sh\nprintf "%s\\n" "$HOUSE_PASSWORD"\n')
        helper.chmod(0o700)
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.directory),
            "TERM": "xterm",
            "SSH_ASKPASS": str(helper),
            "SSH_ASKPASS_REQUIRE": "force",
            "HOUSE_PASSWORD": password,
        }


def run_ssh(
    target: SshTarget, password: str, line: str, *, stdin: str = "", seconds: float = 120
) -> Answer:
    """Run a command as admin of an appliance with a daemon of its own."""
    ran = subprocess.run(
        ["ssh", *target.options(), f"admin@{target.address}", line],
        check=False,
        input=stdin,
        env=target.environment(password),
        capture_output=True,
        text=True,
        timeout=seconds,
    )
    return Answer(ran.returncode, ran.stdout, ran.stderr)


@dataclass
class SshHouse:
    """An appliance, its LunaSH and the loop they live in."""

    loop: Loop
    appliance: Appliance
    address: str
    port: int
    directory: Path

    def ssh(
        self,
        *command: str,
        user: str = "admin",
        password: str | None = None,
        stdin: str = "",
        options: Sequence[str] = (),
    ) -> Answer:
        """Run `ssh user@appliance command` with a password given by SSH_ASKPASS."""
        arguments = ["ssh", *self.options(), *options, f"{user}@{self.address}", *command]
        return self.program(arguments, user, password, stdin)

    def scp(self, *paths: str, user: str = "admin", options: Sequence[str] = ()) -> Answer:
        """Run `scp`; `{}` in a path stands for `user@appliance`."""
        places = [path.format(f"{user}@{self.address}") for path in paths]
        arguments = ["scp", *self.options("-P"), *options, *places]
        return self.program(arguments, user, None, "")

    def scp_down(self, name: str, directory: Path) -> Answer:
        """Fetch one of admin's files."""
        return self.scp(f"{{}}:{name}", str(directory / name))

    def sftp(self, batch: str, *, user: str = "admin") -> Answer:
        """Run `sftp` with a batch of commands on its standard input."""
        arguments = ["sftp", *self.options("-P"), "-b", "-", f"{user}@{self.address}"]
        # -b turns BatchMode on, which would not ask for a password.
        arguments[1:1] = ["-oBatchMode=no"]
        return self.program(arguments, user, None, batch)

    def program(
        self, arguments: Sequence[str], user: str, password: str | None, stdin: str
    ) -> Answer:
        """Run a program to its end."""
        return self.loop.run(self._program(arguments, user, password, stdin))

    def at_terminal(
        self,
        scene: Callable[[Terminal], None],
        *,
        user: str = "admin",
        password: str | None = None,
        command: Sequence[str] = (),
    ) -> None:
        """Play a scene in front of `ssh -t`."""
        arguments = ["ssh", "-t", *self.options(), f"{user}@{self.address}", *command]

        def play() -> None:
            with Terminal(arguments, self.environment(user, password)) as terminal:
                scene(terminal)

        self.loop.run(asyncio.to_thread(play))

    @property
    def target(self) -> SshTarget:
        """Return where LunaSH listens."""
        host_key = self.appliance.paths.ssh / "host_key.pub"
        return SshTarget(self.address, self.port, host_key, self.directory)

    def options(self, port: str = "-p") -> list[str]:
        """Return the options that pin the host key and leave out whatever the user has set."""
        return self.target.options(port)

    def environment(self, user: str, password: str | None) -> dict[str, str]:
        """Return an environment in which OpenSSH takes the password from a helper."""
        return self.target.environment(
            password if password is not None else PASSWORDS.get(user, "")
        )

    async def _program(
        self, arguments: Sequence[str], user: str, password: str | None, stdin: str
    ) -> Answer:
        process = await asyncio.create_subprocess_exec(
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=self.environment(user, password),
        )
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                out, err = await process.communicate(stdin.encode())
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        assert process.returncode is not None
        return Answer(process.returncode, out.decode(errors="replace"), err.decode())


@contextmanager
def open_ssh_house(
    directory: Path,
    *,
    offered: Offered | None = None,
    settled: bool = True,
    ssh: SshSettings | None = None,
    **settings: object,
) -> Iterator[SshHouse]:
    """Open an appliance and its LunaSH; `settled` users have passwords of their own."""
    assert shutil.which("ssh"), "tools/setup installs openssh-client"
    loop = Loop()
    directory.mkdir(parents=True, exist_ok=True)
    try:
        config = make_config(directory / "state", ssh=ssh or SshSettings(), **settings)
        opening = open_appliance(config)
        appliance = loop.run(opening.__aenter__())
        door = LunaShDoor(appliance, TaskTable(appliance.clock), offered=offered)
        (address,) = config.interfaces.values()
        listener = bind_socket(address, 0, what="LunaSH")
        listener.listen()
        port = listener.getsockname()[1]
        loop.run(door.start([listener]))
        house = SshHouse(loop, appliance, address, port, directory)
        if settled:
            loop.run(settle(appliance))
        try:
            yield house
        finally:
            loop.run(door.stop(deadline_seconds=5))
            loop.run(opening.__aexit__(None, None, None))
    finally:
        loop.close()


async def settle(appliance: Appliance) -> None:
    """Give the built-in users passwords of their own."""
    for user_id, password in PASSWORDS.items():
        await appliance.users.set_enabled(user_id, enabled=True)
        await appliance.users.change_own_password(
            user_id, DEFAULT_PASSWORD, password, source="192.0.2.1"
        )
