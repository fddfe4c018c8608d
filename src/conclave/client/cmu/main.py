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
from typing import NoReturn

from conclave.client.cmu import grammar
from conclave.client.cmu.commands import Desk
from conclave.client.keyring_login import Logins
from conclave.client.slots import Clusters
from conclave.client.tools.batch import read_batch, run_batch
from conclave.client.tools.faces import PlainFace, complain, complaint
from conclave.client.tools.program import Program, batch_usage
from conclave.client.tools.prompts import prompts_of
from conclave.client.tools.statuses import status_of
from conclave.errors import ConclaveError


def run(arguments: Sequence[str]) -> int:
    """Run cmu with these arguments and return its exit status."""
    if not arguments and sys.stdin.isatty():
        arguments = ("help",)
    try:
        batch = read_batch(arguments)
    except ConclaveError as error:
        complain(complaint(error))
        return status_of(error)
    prompts = prompts_of(sys.stdin)
    logins = Logins(Clusters.from_environment, prompts, os.environ)
    try:
        return run_batch(Desk(logins, prompts, lambda: datetime.now(UTC)), batch, PlainFace())
    finally:
        for line in logins.close():
            complain(line)


def help_text() -> str:
    """Return how commands are given, and which there are."""
    return batch_usage("cmu") + "\n" + grammar.help_text(())


def main() -> NoReturn:
    """Run cmu and end the process with its status."""
    Program("cmu", help_text, run).main()


if __name__ == "__main__":
    main()
