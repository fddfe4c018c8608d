"""The command `cmu`: one command, a batch of commands parted by `--`, or lines of standard input.

::

    cmu generatekeypair -keyType=ECDSA -curveType=3 -label=server -slot=3
    cmu list -passwordenv=PIN -- getattribute -handle=61
    cmu <<EOF                                 commands as lines, answers to prompts as well

Ends with 0 when every command succeeded, 1 when one failed (a batch stops there), 2 when the client
is not configured.  Results go to standard output, complaints to standard error.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from conclave import __version__
from conclave.client.cmu import grammar
from conclave.client.cmu.commands import Desk
from conclave.client.keyring_login import Logins
from conclave.client.lunacm.grammar import split_batch
from conclave.client.lunacm.main import FAILED, NOT_CONFIGURED, SUCCEEDED, standard_input
from conclave.client.lunacm.prompts import Cancelled, LinePrompts, TerminalPrompts
from conclave.client.lunacm.render import complaint
from conclave.client.session import Client
from conclave.errors import ConclaveError


def main() -> None:
    """Run cmu and end the process with its status."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run cmu with these arguments and return its exit status."""
    if arguments[:1] in (["-v"], ["--version"]):
        sys.stdout.write(f"cmu {__version__}\n")
        return SUCCEEDED
    terminal = sys.stdin.isatty()
    if arguments[:1] in (["-h"], ["--help"]) or (not arguments and terminal):
        sys.stdout.write((__doc__ or "").split("::")[0] + "\n" + grammar.help_text(()) + "\n")
        return SUCCEEDED
    try:
        client = Client.from_environment()
    except ConclaveError as error:
        sys.stderr.write(complaint(error) + "\n")
        return NOT_CONFIGURED
    prompts = TerminalPrompts() if terminal else LinePrompts()
    logins = Logins(client, prompts, os.environ)
    desk = Desk(logins, prompts, lambda: datetime.now(UTC))
    try:
        return run_batch(desk, split_batch(arguments) if arguments else standard_input())
    except (KeyboardInterrupt, BrokenPipeError):
        return FAILED
    finally:
        sys.stderr.writelines(f"{line}\n" for line in logins.close())


def run_batch(desk: Desk, commands: Iterable[Sequence[str]]) -> int:
    """Run commands up to the first that fails."""
    try:
        for words in commands:
            text = desk.run(grammar.parse(words))
            if text:
                sys.stdout.write(text + "\n")
                sys.stdout.flush()
    except Cancelled:
        sys.stderr.write("Cancelled.\n")
        return FAILED
    except ConclaveError as error:
        sys.stderr.write(complaint(error) + "\n")
        return FAILED
    return SUCCEEDED


if __name__ == "__main__":
    main()
