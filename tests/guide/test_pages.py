"""What makes a page of procedures fail: a command that does, an outcome that is not shown."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.native.waiting import wait_until
from tests.support.procedures import (
    PAGES,
    Step,
    pages,
    programs_only,
    read_steps,
    run_steps,
    shell_complaints,
)
from tests.support.processes import alive

GOOD = """# A page

```sh
: "${NAME:=nobody}"
hello() { printf 'hello %s\\n' "$1"; }
hello "$NAME"
```

```text
hello ...body
```

Some words.

```sh
printf 'one\\ntwo\\n'
```

```text
one
two
```

<!-- event: change 3 -->

```sh
[ -e changed ]
```
"""


def run(tmp_path: Path, page: str) -> list[str]:
    """Run a page and return what happened in it."""
    path = tmp_path / "page.md"
    path.write_text(page)
    happened: list[str] = []

    def happen(event: str) -> None:
        happened.append(event)
        (tmp_path / "changed").touch()

    run_steps(read_steps(path), tmp_path, {"PATH": os.environ["PATH"]}, happen)
    return happened


def test_a_page_runs_in_order_in_one_shell_with_its_events(tmp_path: Path) -> None:
    assert run(tmp_path, GOOD) == ["change 3"]


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ("hello ...body", "hello somebody", r"page.md:7: `hello somebody` is missing"),
        ("one\ntwo\n```\n\n<", "two\none\n```\n\n<", r"page.md:17: `one` is missing"),
        ("[ -e changed ]", "[ -e other ]", r"page.md:28: the shell ended with 1"),
        ("[ -e changed ]", "exit 0", r"page.md:28: the shell ended with 0"),
        ("[ -e changed ]", 'echo "$UNSET"', r"page.md:28: the shell ended with 2"),
        ("Some words.\n\n```sh", "Some words.\n\n```text\nx\n```\n\n```sh", "no step stands"),
        ("[ -e changed ]\n```", "[ -e changed ]", "the last block does not end"),
    ],
)
def test_a_page_fails(tmp_path: Path, before: str, after: str, told: str) -> None:
    assert GOOD.count(before) == 1
    with pytest.raises(AssertionError, match=told):
        run(tmp_path, GOOD.replace(before, after))


def test_a_step_has_no_other_programs_than_those_named(tmp_path: Path) -> None:
    programs = programs_only(tmp_path / "bin", "sleep")
    steps = [Step("here:1", "sleep 0"), Step("here:2", "ls")]
    with pytest.raises(AssertionError, match="here:2: the shell ended with 127"):
        run_steps(steps, tmp_path, {"PATH": str(programs)}, print)


def test_a_page_that_fails_leaves_no_server_behind(tmp_path: Path) -> None:
    """It holds the standard output, too: nothing may wait for it to be closed."""
    steps = [Step("here:1", "sleep 300 & printf '%s' $! > server"), Step("here:2", "false")]
    with pytest.raises(AssertionError, match="here:2: the shell ended with 1"):
        run_steps(steps, tmp_path, {"PATH": os.environ["PATH"]}, print)
    server = int((tmp_path / "server").read_text())
    assert wait_until(lambda: not alive(server), 10)


@pytest.mark.parametrize("door", ["rest", "lunash"])
def test_every_chapter_has_a_page_by_each_door(door: str) -> None:
    index = (PAGES / "README.md").read_text()
    for page in pages(door):
        assert any(step.commands for step in read_steps(page)), page.name
        assert f"({page.name})" in index


@pytest.mark.parametrize("door", ["rest", "lunash"])
def test_the_pages_are_sound_shell(door: str) -> None:
    steps = [step for page in pages(door) for step in read_steps(page)]
    assert shell_complaints(steps) == ""
