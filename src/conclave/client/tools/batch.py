"""Batches, alike for every tool: commands as words, as `-c` lines, from a file, or from a pipe.

::

    TOOL [-q] [-json] COMMAND ... -- COMMAND ...
    TOOL [-q] [-json] -c "COMMAND ..." -c "COMMAND ..."
    TOOL [-q] [-json] -f FILE
    TOOL [-q] [-json] <<EOF             commands as lines, answers to prompts as well

A batch ends at the first command that fails.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from conclave.client.refusals import misused
from conclave.client.tools.faces import Face, JsonFace, Outcome, complain
from conclave.client.tools.grammar import HELP_WORDS, JSON, Invocation
from conclave.client.tools.prompts import Cancelled, read_line
from conclave.client.tools.statuses import Status, status_of
from conclave.errors import ConclaveError
from conclave.shell_words import split_words

SEPARATOR: Final = "--"
"""Stands between two commands of one batch, which share the process and so the login."""
MAX_FILE_BYTES: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Batch:
    """What a command line asks for; `commands` is None when it names none."""

    quiet: bool
    json: bool
    commands: Iterable[list[str]] | None
    typed: bool = False
    """The commands stand on the command line, where other users of the host see them."""

    def __repr__(self) -> str:
        return f"Batch(quiet={self.quiet}, json={self.json})"


class Tool(Protocol):
    """A language, and what carries it out."""

    def parse(self, words: Sequence[str]) -> Invocation:
        """Return what the words ask for; raise BadInput."""

    def carry_out(self, invocation: Invocation) -> Outcome:
        """Do it; raise an error of the tree, or Cancelled."""


def read_batch(arguments: Sequence[str]) -> Batch:
    """Return what a tool's arguments ask for; raise BadInput."""
    quiet = json = False
    lines: list[list[str]] = []
    words = list(reversed(arguments))
    while words and words[-1].startswith("-"):
        word = words.pop()
        if word in {"-q", "-quiet", "--quiet"}:
            quiet = True
        elif word in {"-json", "--json"}:
            json = True
        elif word in {"-c", "-f"} and not words:
            needed = "a command in quotes" if word == "-c" else "a file of commands"
            raise misused(f"Option {word} needs {needed}.")
        elif word == "-c":
            lines.append(split_line(words.pop()))
        elif word == "-f":
            lines += _file_lines(words.pop())
        else:
            raise misused("No command begins with a dash; before it stand -q, -json, -c and -f.")
    if words and lines:
        raise misused("Commands stand behind -c or -f, or as words, not both.")
    if words:
        return Batch(quiet, json, split_batch(words[::-1]), typed=True)
    given = [line for line in lines if line]
    return Batch(quiet, json, given or None, typed="-c" in arguments)


def split_line(line: str) -> list[str]:
    """Return a line's words; double quotes hold blanks together. Raises BadInput."""
    return [word.text for word in split_words(line)]


def split_batch(words: Sequence[str]) -> list[list[str]]:
    """Return the commands of one batch, which SEPARATOR parts."""
    commands: list[list[str]] = [[]]
    for word in words:
        if word == SEPARATOR:
            commands.append([])
        else:
            commands[-1].append(word)
    return [command for command in commands if command]


def standard_input() -> Iterator[list[str]]:
    """Return the commands that the lines of standard input hold; # begins a comment."""
    while (line := read_line(0)) is not None:
        words = split_line(line)
        if words and not words[0].startswith("#"):
            yield words


def _file_lines(name: str) -> list[list[str]]:
    try:
        with Path(name).open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as cause:
        raise misused(f"File {name!r} cannot be read: {cause.strerror}.") from cause
    if len(content) > MAX_FILE_BYTES:
        raise misused(f"File {name!r} is longer than {MAX_FILE_BYTES} bytes.")
    lines = map(split_line, content.decode("utf-8", "surrogateescape").splitlines())
    return [words for words in lines if words and not words[0].startswith("#")]


def run_batch(tool: Tool, batch: Batch, face: Face) -> Status:
    """Run commands up to the first that fails, and return what the tool ends with."""
    if batch.json:
        face = JsonFace()
    try:
        for words in standard_input() if batch.commands is None else batch.commands:
            status = run_command(tool, words, face, typed=batch.typed)
            if status is not Status.SUCCEEDED:
                return status
    except ConclaveError as error:
        face.refuse("", error)
        return status_of(error)
    return Status.SUCCEEDED


def run_command(tool: Tool, words: Sequence[str], face: Face, *, typed: bool = False) -> Status:
    """Run one command, show what came of it, and return its status."""
    if words[-1] in HELP_WORDS:
        words = ["help", *itertools.takewhile(lambda word: not word.startswith("-"), words)]
    try:
        invocation = tool.parse(words)
    except ConclaveError as error:
        face.refuse("", error)
        return status_of(error)
    name = invocation.command.name
    if JSON.name in invocation.values:
        face = JsonFace()
    if typed:
        warn_of_secrets(invocation)
    try:
        outcome = tool.carry_out(invocation)
    except Cancelled as given_up:
        face.cancelled(name, given_up.message)
        return Status.CANCELLED
    except ConclaveError as error:
        face.refuse(name, error)
        return status_of(error)
    face.show(name, outcome)
    return outcome.status


def warn_of_secrets(invocation: Invocation) -> None:
    """Warn of each password that stands on the command line of this process."""
    for option in invocation.secrets:
        complain(
            f"Warning: other users of this host can read -{option.name} in the list of processes;"
            f" -{option.name}fd, -{option.name}env or the prompt shows nothing."
        )
