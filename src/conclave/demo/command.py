"""The command `conclave demo`: a complete installation in one directory, from nothing.

Invariant: whatever ends the command, an error, Ctrl-C or a signal, no process stays behind, unless
--detach was given and every step succeeded.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Final, Literal

import click

from conclave.demo import installation, isolation
from conclave.demo.daemon import Daemon, running_pid, start_daemon, stop_daemon, stop_running
from conclave.demo.document import (
    DEFAULT_DIRECTORY,
    FILE_NAME,
    DemoDocument,
    read_document,
    write_document,
)
from conclave.demo.errors import directory_missing, directory_taken
from conclave.demo.narrator import Narrator
from conclave.demo.options import KEY_OBJECTS, MAX_MEMBERS, DemoOptions
from conclave.demo.page import Ending, next_steps, write_curl_file, write_known_hosts
from conclave.errors import ConclaveError

INTERRUPTED_STATUS: Final = 130
STAY_POLL_SECONDS: Final = 0.5


@click.command("demo", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument(
    "directory", type=click.Path(file_okay=False, path_type=Path), default=DEFAULT_DIRECTORY
)
@click.option(
    "--members",
    type=click.IntRange(1, MAX_MEMBERS),
    help="Appliances of the cluster; without it one, or all of a stopped installation.",
)
@click.option("--keyrings", type=click.IntRange(1, 3500), default=1, show_default=True)
@click.option(
    "--identity",
    type=click.Choice(["single", "dual"]),
    default="single",
    show_default=True,
    help="One password for both roles of a keyring, or one each.",
)
@click.option(
    "--engine",
    type=click.Choice(["sqlite", "postgresql"]),
    default="sqlite",
    show_default=True,
    help="Where the cluster's store is until a second member joins; then it is PostgreSQL.",
)
@click.option(
    "--min-password", type=click.IntRange(7, 64), help="Least characters of a keyring password."
)
@click.option(
    "--max-objects",
    type=click.IntRange(0, 1_000_000),
    help=f"Objects of a keyring, at least {KEY_OBJECTS}; 0: no limit.",
)
@click.option(
    "--low-cost", is_flag=True, help="Hash passwords cheaply: faster, for tests only, not safe."
)
@click.option(
    "--json",
    "json_file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write everything a script needs to this file.",
)
@click.option("--detach", is_flag=True, help="Leave it running.")
@click.option(
    "--stop",
    "stop_directory",
    type=click.Path(file_okay=False, path_type=Path),
    help="Stop the installation in this directory.",
)
def demo(
    *,
    directory: Path,
    keyrings: int,
    identity: Literal["single", "dual"],
    engine: Literal["sqlite", "postgresql"],
    min_password: int | None,
    max_objects: int | None,
    low_cost: bool,
    json_file: Path | None,
    detach: bool,
    members: int | None,
    stop_directory: Path | None,
) -> None:
    """Set up a complete installation in DIRECTORY and sign with a key in it.

    A stopped installation is started again, with what it holds. `conclave demo fault --help`
    tells how to kill, hang and cut off its members.
    """
    if stop_directory is not None:
        _stop(stop_directory.absolute())
        return
    if json_file is not None and not json_file.absolute().parent.is_dir():
        message = f"there is no directory {json_file.absolute().parent}"
        raise click.BadParameter(message, param_hint="--json")
    if max_objects is not None and 0 < max_objects < KEY_OBJECTS:
        message = f"{max_objects} is too few for the demonstration's {KEY_OBJECTS} keys"
        raise click.BadParameter(message, param_hint="--max-objects")
    options = DemoOptions(
        directory=directory.absolute(),
        keyrings=keyrings,
        identity=identity,
        engine=engine,
        min_password=min_password,
        max_objects=max_objects,
        low_cost=low_cost,
        json_file=None if json_file is None else json_file.absolute(),
        detach=detach,
        members=members,
    )
    with _signals_as_interrupts():
        try:
            _run(options, Narrator(_write))
        except KeyboardInterrupt:
            _write("\nInterrupted; everything is stopped.\n")
            raise SystemExit(INTERRUPTED_STATUS) from None


demo_command = demo


def _run(options: DemoOptions, narrator: Narrator) -> None:
    known = _known(options)
    if known is not None:
        options = replace(options, members=len(known.members))
    daemons: list[Daemon] = []
    left_running = False
    try:
        try:
            document = _bring_up(options, narrator, known, daemons)
        except (ConclaveError, OSError) as failure:
            _explain(options, known)
            raise click.ClickException(str(failure)) from failure
        _hand_over(options, document)
        left_running = options.detach
        if _ending(options) is Ending.AT_TERMINAL:
            _stay(daemons)
    finally:
        if not left_running:
            end_all([daemon.state_dir for daemon in daemons], _addresses(options))
            for daemon in daemons:
                stop_daemon(daemon)


def _bring_up(
    options: DemoOptions,
    narrator: Narrator,
    known: DemoDocument | None,
    daemons: list[Daemon],
) -> DemoDocument:
    def start(state_dir: Path) -> Daemon:
        daemon = start_daemon(state_dir, outlives_us=options.detach)
        daemons.append(daemon)
        return daemon

    if known is None:
        return installation.build(options, narrator, start)
    return installation.resume(options, narrator, known, start)


def _known(options: DemoOptions) -> DemoDocument | None:
    """Return the stopped installation in a directory, or None for a new directory."""
    directory = options.directory
    if not directory.exists() or not any(directory.iterdir()):
        return None
    if not (directory / FILE_NAME).exists():
        message = (
            f"{directory} holds something that is no complete demonstration;"
            " choose another directory, or remove it first."
        )
        raise directory_taken(message)
    document = read_document(directory)
    if options.members not in (None, len(document.members)):
        message = (
            f"{directory} holds a demonstration of {len(document.members)} member(s); leave"
            f" --members {options.members} away to start it, or choose another directory."
        )
        raise directory_taken(message)
    if any(running_pid(Path(member.state_dir)) is not None for member in document.members):
        message = (
            f"The demonstration in {directory} is running already;"
            f" `conclave demo --stop {directory}` stops it."
        )
        raise directory_taken(message)
    _write(f"{directory} holds a demonstration; it is started again with what it holds.\n")
    return document


def _hand_over(options: DemoOptions, document: DemoDocument) -> None:
    write_document(document, options.directory / FILE_NAME)
    if options.json_file is not None:
        write_document(document, options.json_file)
    write_curl_file(document, options.directory)
    write_known_hosts(document, options.directory)
    if len(document.members) > 1:
        _write(f"\nThe members:\n{installation.members_table(document)}\n")
    _write(next_steps(document, options.directory, _ending(options)))


def _ending(options: DemoOptions) -> Ending:
    """Tell how the installation is left: without a terminal nobody could press Ctrl-C."""
    if options.detach:
        return Ending.DETACHED
    return Ending.AT_TERMINAL if sys.stdin.isatty() else Ending.STOPPED


def _stay(daemons: Sequence[Daemon]) -> None:
    """Wait for Ctrl-C; of several members some may be killed and started again meanwhile."""
    try:
        if len(daemons) == 1:
            status = daemons[0].process.wait()
            message = f"The appliance ended by itself with status {status}."
            raise click.ClickException(message)
        while any(running_pid(daemon.state_dir) is not None for daemon in daemons):
            time.sleep(STAY_POLL_SECONDS)
    except KeyboardInterrupt:
        _write("\nStopping.\n")
        return
    raise click.ClickException("All appliances ended.")


def _stop(directory: Path) -> None:
    try:
        document = read_document(directory)
    except ConclaveError as failure:
        raise directory_missing(failure.message) from failure
    places = [Path(member.state_dir) for member in document.members]
    stopped = end_all(places, [member.address for member in document.members])
    _write(f"{directory} is stopped.\n" if stopped else f"{directory} was not running.\n")


def end_all(state_dirs: Sequence[Path], addresses: Sequence[str]) -> bool:
    """End what runs on any of the state directories, and every fault; tell whether there was any.

    All are asked to end before the first is waited for: a member alone would wait for another.
    """
    if len(addresses) > 1:
        isolation.heal(addresses)
    if not state_dirs:
        return False
    with ThreadPoolExecutor(len(state_dirs)) as pool:
        return any(list(pool.map(stop_running, state_dirs)))


def _addresses(options: DemoOptions) -> list[str]:
    try:
        return [member.address for member in read_document(options.directory).members]
    except ConclaveError:
        return []


def _explain(options: DemoOptions, known: DemoDocument | None) -> None:
    _write(
        f"\nA step failed; nothing is left running. Logs are in {options.state_dir(1) / 'log'} and"
        f" {options.directory / 'appliance.log'}.\n"
    )
    if known is None:
        _write(f"To begin anew: rm -r {options.directory} and run the same command again.\n")


@contextmanager
def _signals_as_interrupts() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end the command as Ctrl-C does, so that it cleans up."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, interrupt) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _write(text: str) -> None:
    click.echo(text, nl=False)
