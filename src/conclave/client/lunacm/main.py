"""The command `lunacm`: interactive, from standard input, or with commands as arguments.

::

    lunacm                                    interactive, with history and completion
    lunacm -q role login -name co -- partition contents      a batch; `--` parts its commands
    lunacm -q <<EOF                           commands as lines, answers to prompts as well

Ends with 0 when every command succeeded, 1 when one failed (a batch stops there), 2 when the client
is not configured.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from conclave import __version__
from conclave.client.lunacm import grammar, render
from conclave.client.lunacm.prompts import LinePrompts, TerminalPrompts, history_path, read_line
from conclave.client.lunacm.shell import Leave, Shell
from conclave.client.session import Client
from conclave.errors import BadInput, ConclaveError

if TYPE_CHECKING:
    from prompt_toolkit import PromptSession

PROMPT: Final = "lunacm:>"
SUCCEEDED: Final = 0
FAILED: Final = 1
NOT_CONFIGURED: Final = 2


def main() -> None:
    """Run LunaCM and end the process with its status."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run LunaCM with these arguments and return its exit status."""
    quiet = bool(arguments) and arguments[0] == "-q"
    words = arguments[1:] if quiet else arguments
    if words[:1] in (["-h"], ["--help"]):
        write((__doc__ or "").split("::")[0] + "\n" + grammar.help_text(()) + "\n")
        return SUCCEEDED
    if words[:1] in (["-v"], ["--version"]):
        write(f"lunacm {__version__}\n")
        return SUCCEEDED
    terminal = sys.stdin.isatty()
    try:
        client = Client.from_environment()
    except ConclaveError as error:
        write(render.failure(error) + "\n")
        return NOT_CONFIGURED
    shell = Shell(client, TerminalPrompts() if terminal else LinePrompts(), write, os.environ)
    try:
        if words:
            return run_batch(shell, grammar.split_batch(words))
        if not quiet:
            greet(shell)
        if terminal:
            return run_interactive(shell)
        return run_batch(shell, standard_input())
    except (KeyboardInterrupt, BrokenPipeError):
        return FAILED
    finally:
        shell.close()


def write(text: str) -> None:
    """Print text at once, so that it stands in order with what the terminal shows."""
    sys.stdout.write(text)
    sys.stdout.flush()


def greet(shell: Shell) -> None:
    """Print banner and slots; a cluster that cannot be reached is told, not fatal."""
    write(render.banner() + "\n\n")
    try:
        write(shell.overview() + "\n\n")
    except ConclaveError as error:
        write(render.failure(error) + "\n\n")


def run_batch(shell: Shell, commands: Iterator[list[str]] | Sequence[list[str]]) -> int:
    """Run commands up to the first that fails."""
    try:
        for words in commands:
            if not shell.run(words):
                return FAILED
    except Leave:
        return SUCCEEDED
    except BadInput as error:
        write(render.misunderstood(error) + "\n")
        return FAILED
    return SUCCEEDED


def standard_input() -> Iterator[list[str]]:
    """Return the commands that the lines of standard input hold; # begins a comment."""
    while (line := read_line(0)) is not None:
        words = grammar.split_line(line)
        if words and not words[0].startswith("#"):
            yield words


def run_interactive(shell: Shell) -> int:
    """Read commands from the terminal until `exit` or the end of input."""
    session = _prompt_session()
    while True:
        try:
            words = grammar.split_line(session.prompt(PROMPT))
            if words:
                shell.run(words)
        except BadInput as error:
            write(render.misunderstood(error) + "\n")
        except KeyboardInterrupt:
            continue
        except (EOFError, Leave):
            return SUCCEEDED


def _prompt_session() -> PromptSession[str]:
    from prompt_toolkit import PromptSession

    from conclave.client.lunacm.editing import CarefulHistory, GrammarCompleter

    history = CarefulHistory(history_path(os.environ))
    return PromptSession(history=history, completer=GrammarCompleter())


if __name__ == "__main__":
    main()
