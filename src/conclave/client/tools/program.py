"""A tool as a program: `--help`, `--version`, and one guard around all the rest.

Invariant: whatever becomes of input and output, a tool ends with a status and without a traceback.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, NoReturn

from conclave import __version__
from conclave.client.tools.faces import complain, write
from conclave.client.tools.grammar import HELP_WORDS
from conclave.client.tools.statuses import Status

VERSION_WORDS: Final = frozenset({"-v", "-version", "--version"})
_STREAMS: Final = (("stdin", os.O_RDONLY), ("stdout", os.O_RDONLY), ("stderr", os.O_WRONLY))
"""What a stream that the caller closed is opened for: results cannot be written, complaints may."""


_USAGE: Final = """\
usage: {name} [-q] [-json] <command> [-option=value ...] [-- <command> ...]
       {name} [-q] [-json] -c "<command> ..." [-c "<command> ..."]
       {name} [-q] [-json] -f <file of commands>
       {name} [-q] [-json]      commands as lines of standard input
       {name} help <command>    its options
"""


def batch_usage(name: str) -> str:
    """Return how commands are given to a tool that has several."""
    return _USAGE.format(name=name)


@dataclass(frozen=True, slots=True)
class Program:
    """One of the tools."""

    name: str
    help_text: Callable[[], str]
    """How it is called, and what its commands or options are."""
    run: Callable[[Sequence[str]], int]
    """Run it with these arguments and return its exit status."""

    def main(self) -> NoReturn:
        """Run it with the arguments of this process and end the process with its status."""
        sys.exit(guarded(lambda: self._answer(sys.argv[1:])))

    def _answer(self, arguments: Sequence[str]) -> int:
        if arguments and arguments[0] in HELP_WORDS:
            write(f"{self.name} (Conclave) v{__version__}\n\n{self.help_text()}\n")
            return Status.SUCCEEDED
        if arguments and arguments[0] in VERSION_WORDS:
            write(f"{self.name} {__version__}\n")
            return Status.SUCCEEDED
        return self.run(arguments)


def guarded(run: Callable[[], int]) -> int:
    """Return the status of a run; lost output, lost input and Ctrl-C are one as well."""
    try:
        _complete_streams()
        return run()
    except KeyboardInterrupt:
        return Status.CANCELLED
    except BrokenPipeError:
        # Nobody reads any more, which needs no complaint.
        return Status.FAILED
    except OSError as cause:
        where = f" {cause.filename}" if cause.filename else ""
        complain(f"Error: Reading or writing{where} failed: {cause.strerror}.")
        return Status.FAILED
    finally:
        _discard_unwritten()


def _complete_streams() -> None:
    """Open what the caller closed, lest a connection gets the number of a standard stream."""
    for descriptor, (name, flags) in enumerate(_STREAMS):
        stream = getattr(sys, name)
        if stream is None:
            opened = os.open(os.devnull, flags)
            if opened != descriptor:
                os.dup2(opened, descriptor)
                os.close(opened)
            mode = "r" if name == "stdin" else "w"
            setattr(sys, name, open(descriptor, mode, closefd=False))  # noqa: SIM115
        elif name == "stdout":
            # A label or a file's name may have letters that the terminal's encoding lacks.
            stream.reconfigure(errors="backslashreplace")


def _discard_unwritten() -> None:
    """Flush, or else discard: Python would try again at the end, and complain."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)
