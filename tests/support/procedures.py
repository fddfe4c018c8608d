"""Procedures that a page of the documentation prints, run by `sh` as an administrator would.

A block of `sh` is a step.  A block of `text` right behind it is what the step must show: each of
its lines in this order, where `...` stands for anything.  A line `<!-- event: NAME -->` is
something that happens to the appliances; the test does it.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

PAGES: Final = Path(__file__).parents[2] / "docs" / "guide"
CHAPTERS: Final = (2, 3, 5, 7)
_FENCE: Final = re.compile(r"^ *```(\w*)$")
_EVENT: Final = re.compile(r"^<!-- event: (.+) -->$")
_MARK: Final = "\x1e"
"""Record separator: no command prints it."""


@dataclass(frozen=True)
class Step:
    """A block of commands, or an event, with the place where the page has it."""

    place: str
    commands: str = ""
    expected: tuple[str, ...] = ()
    event: str = ""


def pages(door: str) -> list[Path]:
    """Return the pages of a door in their order: the preparations, then the chapters."""
    names = ("prepare", *(f"chapter-{chapter}" for chapter in CHAPTERS))
    return [PAGES / f"{name}-{door}.md" for name in names]


def read_steps(page: Path) -> list[Step]:
    """Return the steps of a page in their order."""
    steps: list[Step] = []
    block: list[str] | None = None
    language = before = ""
    for number, line in enumerate(page.read_text().splitlines(), start=1):
        place = f"{page.name}:{number}"
        if fence := _FENCE.match(line):
            if block is None:
                language, block = fence[1], []
                continue
            if language == "sh":
                steps.append(Step(place, "\n".join(block)))
            elif language == "text":
                assert before == "sh", f"{place}: no step stands right before this outcome"
                outcome = tuple(each.strip() for each in block if each)
                steps.append(replace(steps.pop(), expected=outcome))
            before, block = language, None
        elif block is not None:
            block.append(line)
        elif line:
            before = ""
            if event := _EVENT.match(line):
                steps.append(Step(place, event=event[1]))
    assert block is None, f"{page.name}: the last block does not end"
    return steps


def programs_only(directory: Path, *names: str) -> Path:
    """Make a directory for PATH that has these programs and nothing else."""
    directory.mkdir()
    for name in names:
        found = shutil.which(name)
        assert found, f"{name} is not installed"
        (directory / name).symlink_to(found)
    return directory


def run_steps(
    steps: Sequence[Step],
    directory: Path,
    variables: Mapping[str, str],
    on_event: Callable[[str], None],
) -> None:
    """Run all steps in one shell and fail at the first that fails or does not show its outcome."""
    last = f'printf "{_MARK}exit\\n"; exit $s'
    parts = ["set -eu", f'trap \'s=$?; [ $s = 0 ] || printf "%s\\n" "${{answer-}}"; {last}\' EXIT']
    for number, step in enumerate(steps):
        parts.append(f"printf '{_MARK}%s\\n' {number}")
        parts.append("read -r _ <&3" if step.event else step.commands)
    script = directory / "procedure.sh"
    script.write_text("\n".join([*parts, f"printf '{_MARK}end\\n'", ""]))
    go_on, told = os.pipe()
    try:
        with _start(script, variables, go_on) as process:
            try:
                _follow(process, steps, on_event, told)
            finally:
                _end_all(process.pid)
    finally:
        os.close(go_on)
        os.close(told)


def _start(script: Path, variables: Mapping[str, str], go_on: int) -> subprocess.Popen[str]:
    """Start the shell; it reads a line of `go_on` after each event."""
    return subprocess.Popen(
        ["/bin/sh", "-c", f'exec 3</dev/fd/{go_on}; exec /bin/sh "$0"', script],
        cwd=script.parent,
        env=dict(variables),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        pass_fds=(go_on,),
        start_new_session=True,
        text=True,
    )


def _end_all(group: int) -> None:
    """End the shell and the servers that its steps left running behind it."""
    with suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


def _follow(
    process: subprocess.Popen[str],
    steps: Sequence[Step],
    on_event: Callable[[str], None],
    told: int,
) -> None:
    """Look at what each step shows, and do what happens between them."""
    assert process.stdout is not None
    shown: list[str] = []
    at: Step | None = None
    for line in process.stdout:
        if not line.startswith(_MARK):
            shown.append(line.rstrip("\n"))
            continue
        word = line[1:].strip()
        if word == "exit":
            break  # a server may still hold the other end
        if at is not None:
            check_outcome(at, shown)
        shown = []
        at = None if word == "end" else steps[int(word)]
        if at is not None and at.event:
            on_event(at.event)
            os.write(told, b"\n")
    status, where = process.wait(), at.place if at else "the end"
    words = "\n".join(shown)
    assert (status, at) == (0, None), f"{where}: the shell ended with {status}:\n{words}"


def shell_complaints(steps: Sequence[Step]) -> str:
    """Return what shellcheck has against the commands of all steps, as one script."""
    script = "\n".join(["#!/bin/sh", "set -eu", *(step.commands for step in steps), ""])
    words = ["shellcheck", "--severity=warning", "-"]
    return subprocess.run(words, input=script, capture_output=True, text=True, check=False).stdout


def check_outcome(step: Step, shown: Sequence[str]) -> None:
    """Fail unless what a step showed has each expected line in its order."""
    rest = iter(shown)
    for wanted in step.expected:
        pattern = re.compile(".*".join(map(re.escape, wanted.split("..."))))
        assert any(pattern.search(line) for line in rest), (
            f"{step.place}: `{wanted}` is missing in:\n" + "\n".join(shown)
        )
