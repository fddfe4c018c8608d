"""The command `cmu`: one command, a batch of commands parted by `--`, or lines of standard input.

::

    cmu generatekeypair -keyType=ECDSA -curveType=3 -label=server -slot=3
    cmu list -passwordenv=PIN -- getattribute -handle=61
    cmu <<EOF                                 commands as lines, answers to prompts as well

Batches, JSON and statuses are those of the other tools (`conclave.client.tools`).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime

from conclave import __version__
from conclave.client.cmu import grammar
from conclave.client.cmu.commands import Desk
from conclave.client.keyring_login import Logins
from conclave.client.slots import Clusters
from conclave.client.tools.batch import read_batch, run_batch, silence_broken_pipe
from conclave.client.tools.faces import PlainFace, complaint
from conclave.client.tools.prompts import LinePrompts, TerminalPrompts
from conclave.client.tools.statuses import Status, status_of
from conclave.errors import ConclaveError


def main() -> None:
    """Run cmu and end the process with its status."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run cmu with these arguments and return its exit status."""
    if arguments[:1] in (["-v"], ["--version"]):
        sys.stdout.write(f"cmu {__version__}\n")
        return Status.SUCCEEDED
    terminal = sys.stdin.isatty()
    if arguments[:1] in (["-h"], ["--help"]) or (not arguments and terminal):
        sys.stdout.write((__doc__ or "").split("::")[0] + "\n" + grammar.help_text(()) + "\n")
        return Status.SUCCEEDED
    try:
        batch = read_batch(arguments)
        clusters = Clusters.from_environment()
    except ConclaveError as error:
        sys.stderr.write(complaint(error) + "\n")
        return status_of(error)
    prompts = TerminalPrompts() if terminal else LinePrompts()
    logins = Logins(clusters, prompts, os.environ)
    desk = Desk(logins, prompts, lambda: datetime.now(UTC))
    try:
        return run_batch(desk, batch, PlainFace())
    except KeyboardInterrupt:
        return Status.CANCELLED
    except BrokenPipeError:
        return silence_broken_pipe()
    finally:
        sys.stderr.writelines(f"{line}\n" for line in logins.close())


if __name__ == "__main__":
    main()
