"""The command `lunacm`: interactive, from standard input, or with commands as arguments.

::

    lunacm                                    interactive, with history and completion
    lunacm -q role login -name co -- partition contents      a batch; `--` parts its commands
    lunacm -q <<EOF                           commands as lines, answers to prompts as well

Batches, JSON and statuses are those of the other tools (`conclave.client.tools`).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final, NoReturn

from conclave.client.lunacm import grammar, render
from conclave.client.lunacm.shell import Leave, Shell
from conclave.client.slots import Clusters
from conclave.client.tools.batch import (
    Batch,
    read_batch,
    run_batch,
    run_command,
    split_line,
)
from conclave.client.tools.faces import Outcome, complain, write
from conclave.client.tools.program import Program, batch_usage
from conclave.client.tools.prompts import history_path, prompts_of
from conclave.client.tools.statuses import Status, status_of
from conclave.errors import BadInput, ConclaveError

if TYPE_CHECKING:
    from prompt_toolkit import PromptSession

PROMPT: Final = "lunacm:>"


class LunacmFace:
    """Everything on standard output, with the result of each command in a line of its own."""

    def show(self, _command: str, outcome: Outcome) -> None:
        """Print the text, and that there was no error."""
        text = "\n".join((*([outcome.text] if outcome.text else []), *outcome.complaints))
        write(("\n" + text + "\n" if text else "") + "\n" + render.SUCCESS + "\n\n")

    def refuse(self, command: str, error: ConclaveError) -> None:
        """Print the return value and the sentence behind it, or that it was not understood."""
        told = render.failure(error) if command else render.misunderstood(error)
        write("\n" + told + "\n\n")

    def cancelled(self, _command: str, message: str) -> None:
        """Say so."""
        write("\n" + render.cancelled(message) + "\n\n")


def main() -> NoReturn:
    """Run LunaCM and end the process with its status."""
    Program("lunacm", help_text, run).main()


def help_text() -> str:
    """Return how commands are given, and which there are."""
    return batch_usage("lunacm") + "\n" + grammar.help_text(())


def run(arguments: Sequence[str]) -> int:
    """Run LunaCM with these arguments and return its exit status."""
    face = LunacmFace()
    try:
        batch = read_batch(arguments)
    except ConclaveError as error:
        face.refuse("", error)
        return status_of(error)
    shell = Shell(Clusters.from_environment, prompts_of(sys.stdin), os.environ)
    try:
        return _run(shell, batch, face, terminal=sys.stdin.isatty())
    except Leave:
        return Status.SUCCEEDED
    finally:
        for line in shell.close():
            complain(line)


def _run(shell: Shell, batch: Batch, face: LunacmFace, *, terminal: bool) -> Status:
    if batch.commands is None and not batch.quiet and not batch.json:
        greet(shell)
    if batch.commands is None and terminal:
        return run_interactive(shell, face)
    return run_batch(shell, replace(batch, quiet=True), face)


def greet(shell: Shell) -> None:
    """Print banner and slots; a cluster that cannot be reached is told, not fatal."""
    write(render.banner() + "\n\n")
    try:
        outcome = shell.overview()
    except ConclaveError as error:
        write(render.failure(error) + "\n\n")
        return
    write("\n".join((outcome.text, *outcome.complaints)) + "\n\n")


def run_interactive(shell: Shell, face: LunacmFace) -> Status:
    """Read commands from the terminal until `exit` or the end of input."""
    session = _prompt_session()
    while True:
        try:
            words = split_line(session.prompt(PROMPT))
            if words:
                run_command(shell, words, face)
        except BadInput as error:
            write(render.misunderstood(error) + "\n")
        except KeyboardInterrupt:
            continue
        except (EOFError, Leave):
            return Status.SUCCEEDED


def _prompt_session() -> PromptSession[str]:
    from prompt_toolkit import PromptSession

    from conclave.client.lunacm.editing import CarefulHistory, GrammarCompleter

    history = CarefulHistory(history_path(os.environ))
    return PromptSession(history=history, completer=GrammarCompleter())


if __name__ == "__main__":
    main()
