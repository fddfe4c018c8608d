"""Sessions of LunaSH: tasks and their interruption, idle ends, hostile lines, rights."""

from __future__ import annotations

import ast
import asyncio
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conclave import faults, lunash
from conclave.appliance.user_rules import CustomRole, UserRole
from conclave.errors import Conflict
from conclave.lunash.catalogue import COMMANDS
from conclave.lunash.grammar import MAX_LINE_BYTES
from conclave.operations.commands import Command
from conclave.operations.model import (
    ADMINS,
    DONE,
    AnyOperation,
    Call,
    Doors,
    Duration,
    NoArguments,
    Reply,
    operation,
)
from conclave.operations.task_table import TaskState
from tests.support.shell_desk import Desk, Screen, open_desk
from tests.support.ssh_house import FAILED_TRAILER, TRAILER

COMMAND = Command(words="try it", summary="Try it.")
COMMANDS_OF_HSM = [command for command in COMMANDS if command.path[0] == "hsm"]


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    with open_desk(tmp_path_factory.mktemp("desk")) as opened:
        yield opened


def trial(work: Callable[[Call], Any]) -> AnyOperation:
    """Return an operation that does a test's work as a task."""

    @operation(
        "try.it",
        "",
        "",
        summary="Try it.",
        arguments=NoArguments,
        roles=ADMINS,
        doors=Doors.LUNASH,
        duration=Duration.TASK,
        audited=True,
        commands=(COMMAND,),
        only="LunaSH: a test.",
    )
    async def handler(call: Call, _arguments: NoArguments) -> Reply:
        await work(call)
        return DONE

    return handler


# ---------------------------------------------------------------- tasks


def test_ctrl_c_leaves_a_task_running_and_says_so(desk: Desk) -> None:
    screen = Screen()

    async def scene() -> None:
        may_end = asyncio.Event()

        async def work(call: Call) -> None:
            call.progress("half way")
            await may_end.wait()

        terminal = desk.terminal(screen, idle_seconds=60)
        session = asyncio.create_task(desk.open(terminal, [COMMAND], [trial(work)]).run_all())
        await screen.wait_for("lunash:>")
        terminal.typed("try it\r")
        await screen.wait_for("half way")
        terminal.typed("\x03")
        await screen.wait_for("goes on in the background")
        await screen.wait_for(FAILED_TRAILER)
        await screen.wait_for("lunash:>")
        (task,) = [task for task in desk.tasks.all(visible_to="admin") if not task.ended]
        assert f"GET /tasks/{task.number} over REST shows how." in screen.text
        may_end.set()
        await task.done.wait()
        assert task.state is TaskState.FINISHED
        terminal.typed("exit\r")
        assert await session == 0
        terminal.close()

    desk.loop.run(scene())


@pytest.mark.parametrize("ends_well", [True, False])
def test_a_task_shows_its_progress_and_its_end(desk: Desk, ends_well: bool) -> None:
    async def work(call: Call) -> None:
        call.progress("first step")
        call.progress("second step")
        if not ends_well:
            raise Conflict(faults.CLUSTER_EXISTS, "There is one already.")

    status, said = desk.session("try it\n", commands=[COMMAND], operations=[trial(work)])
    assert status == (0 if ends_well else 1)
    lines = said.splitlines()
    assert lines[:2] == ["   first step", "   second step"]
    if ends_well:
        assert lines[-4:] == ["Success", "", TRAILER, ""]
    else:
        fault = faults.CLUSTER_EXISTS
        shape = f"Error:  'try it' failed. ({fault.luna_code:X} : {fault.luna_name})"
        assert shape in lines
        assert "Error:  There is one already." in lines


def test_what_fails_inside_is_logged_and_not_explained(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    async def work(_call: Call) -> None:
        raise RuntimeError("an inner detail")

    status, said = desk.session("try it\n", commands=[COMMAND], operations=[trial(work)])
    assert (status, FAILED_TRAILER in said) == (1, True)
    assert "an inner detail" not in said
    assert "an inner detail" in caplog.text


# ---------------------------------------------------------------- idle


def test_an_idle_session_ends_and_says_so(desk: Desk) -> None:
    status, said = desk.session("hsm show\n", ended=False, idle_seconds=0.05)
    assert (status, TRAILER in said) == (1, True)
    assert said.endswith("The session was idle for too long.\n")


def test_an_idle_terminal_ends_and_says_so_at_a_question_too(desk: Desk) -> None:
    for typed in ("", "hsm login\r"):
        screen = Screen()

        async def scene(typed: str = typed, screen: Screen = screen) -> int:
            terminal = desk.terminal(screen, idle_seconds=0.5)
            session = asyncio.create_task(desk.open(terminal, COMMANDS_OF_HSM).run_all())
            await screen.wait_for("lunash:>")
            terminal.typed(typed)
            return await session

        assert desk.loop.run(scene()) == 1
        assert "The session was idle for too long." in screen.text


# ---------------------------------------------------------------- lines


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("hsm shwo", "Did you mean 'hsm show'?"),
        ('hsm show "', "A double quote is not closed."),
        ("hsm \x1b[31mshow", "The line holds a control character, U+001B, at 5."),
        ("hsm show\x00", "The line holds a control character, U+0000, at 9."),
        ("hsm show ; id", "a word too many"),
        ("$(id)", "Unknown command"),
        ("`id`", "Unknown command"),
        ("!sh", "Unknown command"),
        ("hsm show -json -json", "was given twice"),
        ("hsm show -label " + "x" * (MAX_LINE_BYTES - 16), "no such option"),
        ("hsm", "Subcommands of 'hsm':"),
    ],
)
def test_a_bad_line_is_refused_and_the_next_one_is_served(desk: Desk, line: str, told: str) -> None:
    status, said = desk.session(f"{line}\npartition list\n")
    assert status == 1
    first, _, second = said.partition(FAILED_TRAILER)
    assert told in first
    assert TRAILER in second
    assert "uid=" not in said


def test_a_line_that_is_too_long_ends_plain_input(desk: Desk) -> None:
    status, said = desk.session("x" * (2 * MAX_LINE_BYTES) + "\npartition list\n")
    assert status == 1
    assert "A line may have 65536 bytes at most; this one is longer." in said
    # What follows may be the rest of that line.
    assert TRAILER not in said


def test_a_line_at_a_terminal_has_its_own_limit(desk: Desk) -> None:
    screen = Screen()

    async def scene() -> None:
        terminal = desk.terminal(screen, idle_seconds=60)
        session = asyncio.create_task(desk.open(terminal, COMMANDS_OF_HSM).run_all())
        await screen.wait_for("lunash:>")
        terminal.typed("x" * 5000 + "\r")
        await screen.wait_for("A line may have 4096 characters at a terminal")
        await screen.wait_for("lunash:>")
        terminal.typed("exit\r")
        assert await session == 0

    desk.loop.run(scene())


# ---------------------------------------------------------------- no way to the host


class Watch:
    """Notes each start of a program while it is on."""

    def __init__(self) -> None:
        self.on = False
        self.started: list[str] = []

    def __call__(self, event: str, _arguments: object) -> None:
        if self.on and event in STARTS_A_PROGRAM:
            self.started.append(event)


STARTS_A_PROGRAM = {"subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork"}
WATCH = Watch()
sys.addaudithook(WATCH)

HOSTILE = st.lists(
    st.sampled_from(
        ["hsm", "show", "partition", "list", "help", "?", ";", "|", "&&", "$(id)", "`id`", "sh",
         "-c", "id", ">", "/tmp/x", "../", "%s", "{0}", "${IFS}", "\t", "exit ;", "'", '"', "\\"]
    ),
    min_size=1,
    max_size=8,
).map(" ".join)  # fmt: skip


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(HOSTILE)
def test_no_line_starts_a_program_of_the_host(desk: Desk, line: str) -> None:
    WATCH.on = True
    try:
        _, said = desk.session(f"{line}\n")
    finally:
        WATCH.on = False
    assert not WATCH.started
    assert "uid=" not in said


def test_lunash_imports_nothing_that_starts_programs() -> None:
    root = Path(lunash.__file__).parent
    for path in root.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [each.name for each in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not {"subprocess", "pty", "multiprocessing"} & set(names), path
            called = node.attr if isinstance(node, ast.Attribute) else ""
            assert called not in {"system", "popen", "create_subprocess_exec", "execv"}, path


# ---------------------------------------------------------------- rights

RULES = "GET:/api/keyrings\nGET:/api/lunasa/hsms/{hsmid}/partitions\n"


def test_a_custom_role_may_what_its_rules_say_and_nothing_else(desk: Desk) -> None:
    appliance = desk.appliance

    async def prepare() -> None:
        await appliance.roles.create("ringwatch", full_name="", resources=RULES)
        await appliance.users.create(
            "wanda", "Wanda-Watch-1", role=CustomRole("ringwatch"), source="192.0.2.1"
        )
        await appliance.users.change_own_password(
            "wanda", "Wanda-Watch-1", "Wanda-Watch-2", source="192.0.2.1"
        )

    desk.loop.run(prepare())
    login = desk.login("wanda")
    status, said = desk.session("keyring list\n", login=login)
    # The right is there; the cluster service is not.
    assert (status, "The cluster service is stopped" in said) == (1, True)
    for line in (
        "keyring delete -label x -copassword y",
        "hsm show",
        "cluster status",
        "user list",
    ):
        status, said = desk.session(f"{line}\n", login=login)
        assert (status, "no rule that lets the role 'ringwatch'" in said) == (1, True), said


def test_a_user_without_a_role_has_help_and_the_own_files_only(desk: Desk) -> None:
    async def prepare() -> None:
        users = desk.appliance.users
        await users.create("nobody1", "First-Pass-1", role=UserRole.NONE, source="192.0.2.1")
        await users.change_own_password(
            "nobody1", "First-Pass-1", "Other-Pass-2", source="192.0.2.1"
        )

    desk.loop.run(prepare())
    login = desk.login("nobody1")
    assert desk.session("help\nmy file list\n", login=login)[0] == 0
    status, said = desk.session("cluster status\n", login=login)
    assert (status, "no rule that lets the role" in said) == (1, True)


def test_a_session_ends_with_its_user(desk: Desk) -> None:
    async def prepare() -> None:
        users = desk.appliance.users
        await users.create("gone1", "First-Pass-1", role=UserRole.NONE, source="192.0.2.1")

    desk.loop.run(prepare())
    login = desk.login("gone1")
    desk.loop.run(desk.appliance.users.delete("gone1"))
    status, said = desk.session("help\nhelp\n", login=login)
    assert (status, said.count(TRAILER)) == (0, 1)
